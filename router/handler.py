"""The router as an application of the exactly-once processor: carries records to the core's decisions and emits what follows.

Keeps no state of its own beyond the directory it reads; what belongs to a pipeline lives in the partition's store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import chain, islice

import structlog

from parley import lifecycle
from parley.custody import Signatory
from parley.directory import Directory
from parley.keys import verify_batch
from parley.receipts import PendingReceipt, issue_receipts
from parley.schemas import (
    DeliveryBatch,
    FirehoseEvent,
    PipelineState,
    TransactionId,
    TransactionState,
    decode,
    decode_any,
    encode,
)
from router import metrics
from router.core import (
    NEW_PIPELINE,
    Accepted,
    Duplicate,
    Limits,
    Refused,
    Submission,
    decide,
    follow,
    read_submission,
    replay,
    time_out,
    unproven,
)
from router.counting import count, count_change, keep_paid, standing_of
from router.errors import RecoveryError
from router.sealed_addresses import SealedAddresses
from streams.catalogue import DELIVERIES, FIREHOSE, REJECTED
from streams.handler import History, Partition, Record

__all__ = ["Router"]

log = structlog.get_logger()

COMMITTED = "router.batch.committed"

State = PipelineState | TransactionState
PIPELINE_KEY = b"pipeline"
BATCH_BYTES = 512 * 1024
"""A batch of deliveries is at most this large, or one item."""
BATCH_ITEMS = 1_000
WRITE_BEHIND = 20_000
"""Events of a pipeline after which a changed transaction is written to router-state at the latest: most end and are
forgotten before, and a restart replays no more of the firehose than this.
"""
WRITE_EVERY = 3_600_000
"""After so long (ms) at the latest, so that a quiet pipeline needs no more of the firehose than is surely kept."""


Delivery = tuple[str, bytes | PendingReceipt]
"""An address, and what goes there at the commit's end, in the order of the firehose: a record, or a receipt to be signed.
Plain, since each record makes two.
"""


RouterPartition = Partition[State, Delivery]


class Router:
    """Judges ingest records; one for all pipelines that a process owns."""

    def __init__(
        self,
        directory: Directory,
        key: Signatory,
        limits: Limits,
        refresh_directory: Callable[[int], object],
        executor: Executor | None = None,
        threads: int = 1,
        sealed: SealedAddresses | None = None,
    ) -> None:
        self._directory = directory
        self._key = key
        self._limits = limits
        self._has_rates = limits.quotas.are_rates
        self._refresh_directory = refresh_directory
        self._executor = executor
        self._threads = threads
        self._sealed = SealedAddresses() if sealed is None else sealed

    def encode(self, key: bytes, value: State) -> bytes:  # noqa: ARG002
        return encode(value)

    def decode(self, key: bytes, data: bytes) -> State:  # noqa: ARG002
        value = decode_any(data)
        if not isinstance(value, PipelineState | TransactionState):
            raise RecoveryError(
                f"router-state holds a {type(value).__name__}; it was written by something else: restore the topic"
            )
        return value

    def timer(self, value: State) -> int | None:
        if isinstance(value, TransactionState):
            return lifecycle.wakes_at(value, self._limits.remembered)
        if value.replay_from == value.sequence:
            return None
        return (value.time // WRITE_EVERY + 1) * WRITE_EVERY

    def restored(self, partition: RouterPartition, value: State) -> None:
        """Count what is open."""
        count_change(partition.tally, None, value)

    def assigned(self, partition: RouterPartition, committed: int | None, history: History) -> int | None:
        """Bring the state up to the firehose's end, which is the truth, and go on after the last record it came from."""
        position = _position(partition)
        tail = history.last_record(FIREHOSE, partition.index)
        length = _length(partition.index, position, tail, history)
        # The state was committed together with the offset, so it knows better unless the firehose has gone on without it.
        knows = PIPELINE_KEY in partition.store and length == position.sequence
        if rebuilt := length < position.sequence:
            # The state is of a longer firehose that is no more, and so is the committed offset.
            _forget(partition)
            committed, position = None, NEW_PIPELINE
        if tail is not None:
            # Whoever had the pipeline before may have read on: along a pipeline, the directory never gets older.
            self._refresh_directory(_event(tail)[0].directory_version)
            lacking = _lacking(partition.index, position.replay_from, tail, history)
            position = self._replay(partition, position, lacking, write_behind=not rebuilt)
        following = position.ingest_offset + 1
        if not knows:
            following = max(committed or 0, following)
        self._place(partition, position._replace(ingest_offset=following - 1))
        partition.tally.commit()
        _observe(partition)
        return following

    def _replay(
        self,
        partition: RouterPartition,
        position: PipelineState,
        lacking: Iterator[tuple[FirehoseEvent, bytes]],
        *,
        write_behind: bool,
    ) -> PipelineState:
        """Take from the firehose every change that router-state lacks, and give where the pipeline then stands."""
        store = partition.store
        sequence = position.replay_from
        for event, data in lacking:
            if event.sequence != sequence or (
                sequence == position.sequence and event.chain != position.chain
            ):
                raise RecoveryError(
                    f"pipeline {partition.index}: the firehose breaks before event {event.sequence}; restore it before going on"
                )
            state = store.get(event.transaction_id)
            assert not isinstance(state, PipelineState)
            after = replay(state, event, data)
            if after is not None and after is not state:
                store.put(event.transaction_id, after, event.sequence if write_behind else None)
                count_change(partition.tally, state, after)
            if sequence >= position.sequence:
                position = follow(position, event, data)
            sequence += 1
        return position

    def _place(self, partition: RouterPartition, position: PipelineState, *, write: bool = False) -> None:
        """Note where the pipeline stands, and let changes that are old enough, or all, be written to router-state."""
        store = partition.store
        oldest = store.oldest_mark()
        store.put(
            PIPELINE_KEY, position._replace(replay_from=position.sequence if oldest is None else oldest)
        )
        store.write_before = position.sequence if write else position.sequence - WRITE_BEHIND

    def process(self, partition: RouterPartition, records: Sequence[Record]) -> None:
        """Judge records in order, ending what time has ended before each."""
        self._refresh_directory(0)
        directory, limits = self._directory, self._limits
        # A tick has no value: it carries only the time.
        submissions = [
            None if (data := record.value()) is None else read_submission(data, directory, limits)
            for record in records
        ]
        proven = self._verify(
            [submission for submission in submissions if isinstance(submission, Submission)]
        )
        store, write = partition.store, False
        position = _position(partition)
        for record, submission in zip(records, submissions, strict=True):
            offset, at = record.offset(), max(record.timestamp()[1], position.time)
            assert offset is not None
            if due := store.pop_due(at + 1):
                position = position._replace(time=at)
                for key in due:
                    if key == PIPELINE_KEY:
                        write = True
                    else:
                        position = self._wake(partition, position, key)
            position = PipelineState(position.sequence, position.chain, offset, at, position.replay_from)
            if isinstance(submission, Submission):
                position = self._judge(partition, position, submission, offset, next(proven))
            elif submission is not None:
                self._refuse(partition, position, submission, offset)
        self._place(partition, position, write=write)

    def before_commit(self, partitions: Sequence[RouterPartition]) -> None:
        """Sign the commit's receipts with one signature, and send every address what it is due, in order."""
        pending = [
            content
            for partition in partitions
            for _, content in partition.deferred
            if not isinstance(content, bytes)
        ]
        receipts = iter(issue_receipts(pending, self._key) if pending else ())
        for partition in partitions:
            due: defaultdict[str, list[bytes]] = defaultdict(list)
            for address, content in partition.deferred:
                due[address].append(content if isinstance(content, bytes) else encode(next(receipts)))
            for address, items in due.items():
                if ":" in address:
                    address, items = self._sealed.delivery(address, items)  # noqa: PLW2901
                key = address.encode()
                for batch in _batches(items):
                    partition.emit(DELIVERIES, key, encode(DeliveryBatch(batch)))

    def after_commit(self, partitions: Sequence[RouterPartition]) -> None:
        """Count and log what was committed."""
        for partition in partitions:
            _observe(partition)
        topics = Counter(emitted[0] for partition in partitions for emitted in partition.emitted)
        if topics[FIREHOSE] or topics[REJECTED]:
            metrics.EVENTS.inc(topics[FIREHOSE])
            metrics.REJECTIONS.inc(topics[REJECTED])
            log.info(
                COMMITTED, events=topics[FIREHOSE], rejections=topics[REJECTED], deliveries=topics[DELIVERIES]
            )

    def _verify(self, submissions: Sequence[Submission]) -> Iterator[bool]:
        """Whether all signatures of each submission verify, in order."""
        claims = [claim for submission in submissions for claim in submission.claims]
        verdicts = iter(verify_batch(claims, self._executor, self._threads))
        if len(claims) == len(submissions):
            return verdicts
        return (all(list(islice(verdicts, len(submission.claims)))) for submission in submissions)

    def _judge(
        self,
        partition: RouterPartition,
        position: PipelineState,
        submission: Submission,
        offset: int,
        proven: bool,
    ) -> PipelineState:
        if not proven:
            self._refuse(partition, position, unproven(submission), offset)
            return position
        transaction_id = submission.message.transaction_id
        state = partition.store.get(transaction_id)
        assert not isinstance(state, PipelineState)
        speaker = submission.speaker
        standing = None
        if self._has_rates or state is None:
            standing = standing_of(partition.tally, speaker)
        decision = decide(
            partition.index,
            position,
            state,
            submission,
            offset,
            self._directory,
            self._limits,
            self._sealed,
            standing,
        )
        if isinstance(decision, Refused):
            self._refuse(partition, position, decision, offset)
            return position
        if isinstance(decision, Duplicate):
            assert state is not None
            original = decision.original
            block_by = state.terms.deadline + self._limits.block_grace
            pending = PendingReceipt(original.message_id, original.digest, None, block_by)
            partition.deferred.append((decision.receipt_to, pending))
            return position
        if decision.standing is not None:
            keep_paid(partition.tally, speaker, decision.standing)
        if state is None:
            count(partition.tally, decision.transaction, 1)
        self._accept(partition, transaction_id, decision)
        assert decision.receipt_to is not None
        block_by = decision.transaction.terms.deadline + self._limits.block_grace
        receipt = PendingReceipt(submission.message_id, decision.digest, decision.event, block_by)
        partition.deferred.append((decision.receipt_to, receipt))
        return decision.pipeline

    def _accept(self, partition: RouterPartition, transaction_id: TransactionId, accepted: Accepted) -> None:
        partition.store.put(transaction_id, accepted.transaction, accepted.pipeline.sequence - 1)
        if accepted.transaction.outcome is not None:
            count(partition.tally, accepted.transaction, -1)
        partition.emit(FIREHOSE, transaction_id, accepted.event)
        for address in accepted.recipients:
            partition.deferred.append((address, accepted.event))

    def _refuse(
        self, partition: RouterPartition, position: PipelineState, refused: Refused, offset: int
    ) -> None:
        rejection = encode(refused.rejection(partition.index, offset, position.time, self._directory.version))
        partition.emit(REJECTED, refused.message_id, rejection, partition=0)
        if refused.address is not None:
            partition.deferred.append((refused.address, rejection))

    def _wake(self, partition: RouterPartition, position: PipelineState, key: bytes) -> PipelineState:
        """Time out a transaction whose deadline has passed, or forget one whose opening cannot be replayed any more."""
        state = partition.store.get(key)
        assert isinstance(state, TransactionState)
        if state.outcome is not None:
            partition.store.delete(key)
            return position
        transaction_id = TransactionId(key)
        ended = time_out(partition.index, position, transaction_id, state, self._directory.version)
        self._accept(partition, transaction_id, ended)
        return ended.pipeline


def _observe(partition: RouterPartition) -> None:
    metrics.OPEN.observe(partition.index, partition.tally, partition.store.next_due())


def _batches(items: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    """The items in batches that fit a record: a new one begins where another item would make it too large or too long."""
    batch: list[bytes] = []
    size = 0
    for item in items:
        if batch and (size + len(item) > BATCH_BYTES or len(batch) == BATCH_ITEMS):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(item)
        size += len(item)
    yield tuple(batch)


def _position(partition: RouterPartition) -> PipelineState:
    position = partition.store.get(PIPELINE_KEY)
    assert position is None or isinstance(position, PipelineState)
    return position or NEW_PIPELINE


def _length(pipeline: int, position: PipelineState, tail: Record | None, history: History) -> int:
    """How many events the firehose has had, as far as it tells."""
    if tail is not None:
        return _event(tail)[0].sequence + 1
    if position.sequence == 0 or history.first(FIREHOSE, pipeline, lambda _: True) == 0:
        return 0
    # Its offsets have been used and nothing is left: what it held was kept as long as it is kept.
    if position.replay_from < position.sequence:
        raise RecoveryError(
            f"pipeline {pipeline}: the firehose no longer holds events {position.replay_from} to {position.sequence - 1},"
            " which router-state lacks; restore them before going on"
        )
    return position.sequence


def _lacking(
    pipeline: int, sequence: int, tail: Record, history: History
) -> Iterator[tuple[FirehoseEvent, bytes]]:
    """The events from ``sequence`` to the tail, found without a search where nothing was rolled back in between.

    Then an event and the marker of its commit take two offsets at most.
    """
    offset = tail.offset()
    assert offset is not None
    behind = _event(tail)[0].sequence - sequence
    if behind < 0:
        return
    start = max(offset - 2 * behind, 0)
    records = history.read_partition(FIREHOSE, pipeline, start)
    first = next(records, tail)
    if start > 0 and _event(first)[0].sequence > sequence:
        start = history.first(FIREHOSE, pipeline, lambda record: _event(record)[0].sequence >= sequence)
        records = history.read_partition(FIREHOSE, pipeline, start)
        first = next(records, tail)
    for record in chain((first,), records):
        event, data = _event(record)
        if event.sequence >= sequence:
            yield event, data


def _event(record: Record) -> tuple[FirehoseEvent, bytes]:
    data = record.value()
    assert data is not None
    return decode(data, FirehoseEvent), data


def _forget(partition: RouterPartition) -> None:
    for key in list(partition.store.keys()):
        partition.store.delete(key)
    partition.tally.clear()
