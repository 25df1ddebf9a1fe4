"""The real router over topics kept in lists: it commits, aborts, dies and comes back when a test says so.

Stands in for the processor and the broker alone, and does with the handler what `streams.processor` does: one commit is
everything emitted, the changes of the state, and the offsets, all or nothing; a restart restores the state from what the
changelog holds, then asks the handler where to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from structlog.testing import capture_logs
from structlog.typing import EventDict

from parley.custody import Signatory
from parley.directory import Directory
from parley.schemas import (
    DeliveryBatch,
    FirehoseEvent,
    PipelineState,
    Receipt,
    Rejection,
    TransactionState,
    decode,
    decode_any,
)
from router.core import Limits
from router.handler import PIPELINE_KEY, Delivery, Router, State
from router.sealed_addresses import SealedAddresses
from streams.catalogue import DELIVERIES, FIREHOSE, REJECTED
from streams.handler import Headers, Partition, Record
from tests.synthetic_ledger import Ledger, signing_key

__all__ = ["ROUTER_KEY", "Logged", "MemoryRouter", "Topics", "facts", "members"]

ROUTER_KEY = signing_key("router")
CHANGELOG = "router-state"
INGEST = "ingest"


def members(*names: str) -> Directory:
    """A directory of the registrar, the operator with the router's key, and these banks with an address of their name."""
    ledger = Ledger(banks=0)
    ledger.admit("operator", "OPERATOR", (ROUTER_KEY,))
    for name in names:
        ledger.admit(name)
    return ledger.directory


class Logged(NamedTuple):
    """A record as it stands in a topic."""

    at_topic: str
    at_partition: int
    at_offset: int
    with_key: bytes | None
    with_value: bytes | None
    at: int

    def topic(self) -> str | None:
        return self.at_topic

    def partition(self) -> int | None:
        return self.at_partition

    def offset(self) -> int | None:
        return self.at_offset

    def key(self) -> bytes | None:
        return self.with_key

    def value(self) -> bytes | None:
        return self.with_value

    def timestamp(self) -> tuple[int, int]:
        return 2, self.at

    def headers(self) -> Headers | None:
        return None


class Topics:
    """Partitions of topics as lists; what the router asks of the log (`streams.handler.History`) it answers."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, int], list[Logged]] = {}
        self._ends: dict[tuple[str, int], int] = {}

    def records(self, topic: str, partition: int) -> list[Logged]:
        return self._records.setdefault((topic, partition), [])

    def end(self, topic: str, partition: int) -> int:
        """The next offset."""
        return self._ends.get((topic, partition), 0)

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, at: int = 0) -> int:
        offset = self.end(topic, partition)
        self.records(topic, partition).append(Logged(topic, partition, offset, key, value, at))
        self._ends[topic, partition] = offset + 1
        return offset

    def mark(self, topic: str, partition: int) -> None:
        """A commit or abort marker, which takes an offset."""
        self._ends[topic, partition] = self.end(topic, partition) + 1

    def drop(self, topic: str, partition: int, *, keep: int = 0) -> None:
        """Lose all but the first records, as a restored backup has; offsets start over from there."""
        kept = self.records(topic, partition)[:keep]
        self._records[topic, partition] = kept
        self._ends[topic, partition] = kept[-1].at_offset + 1 if kept else 0

    def expire(self, topic: str, partition: int, count: int) -> None:
        """Delete the first records, as retention does; offsets go on."""
        del self.records(topic, partition)[:count]

    def last_record(self, topic: str, partition: int) -> Record | None:
        records = self.records(topic, partition)
        return records[-1] if records else None

    def read_partition(self, topic: str, partition: int, start: int = 0) -> Iterator[Record]:
        return (record for record in list(self.records(topic, partition)) if record.at_offset >= start)

    def first(self, topic: str, partition: int, reached: Callable[[Record], bool]) -> int:
        for record in self.records(topic, partition):
            if reached(record):
                return record.at_offset
        return self.end(topic, partition)


class Fact(NamedTuple):
    """What a receipt says, without the tree of the commit that it was issued in."""

    message_id: bytes
    event_digest: bytes
    event: bytes | None
    block_by: int


def facts(value: NamedTuple) -> NamedTuple:
    """A delivered record, receipts without their tree: how a router batches is nobody's business."""
    if isinstance(value, Receipt):
        return Fact(value.message_id, value.event_digest, value.event, value.block_by)
    return value


class MemoryRouter:
    """One router process that owns all pipelines, and what it has committed so far."""

    def __init__(
        self,
        directory: Directory,
        limits: Limits | None = None,
        *,
        pipelines: int = 1,
        key: Signatory = ROUTER_KEY,
        sealed: SealedAddresses | None = None,
    ) -> None:
        self.directory = directory
        self.topics = Topics()
        self.asked_for: list[int] = []
        """Directory versions that the router wanted read."""
        self.logs: list[EventDict] = []
        """What the router logged of its commits."""
        self.committed: dict[int, int | None] = dict.fromkeys(range(pipelines))
        self._limits = limits or Limits()
        self._key = key
        self.sealed = sealed
        self._partitions: list[Partition[State, Delivery]] = []
        self._positions: list[int] = []
        self.restart()

    # Input ---------------------------------------------------------------------------------------------------------

    def append(self, value: bytes | None, at: int, pipeline: int = 0) -> int:
        """Write to ingest at a time of the broker's (ms); ``None`` is a tick. Gives the offset."""
        return self.topics.append(INGEST, pipeline, None, value, at)

    # The processor's part ------------------------------------------------------------------------------------------

    def step(self, most: int | Mapping[int, int] | None = None) -> bool:
        """Process and commit up to ``most`` further records of each pipeline (all without it); whether there were any."""
        batch = self._process(most)
        if batch:
            self._commit({index: (records[-1].at_offset + 1) for index, records in batch.items()})
        return bool(batch)

    def abort(self, most: int | Mapping[int, int] | None = None) -> None:
        """Process the same, have it rolled back, and leave markers behind."""
        for index in self._process(most):
            partition = self._partitions[index]
            for topic in {write[0] for write in partition.emitted}:
                self.topics.mark(topic, index)
            partition.rollback()

    def die(self, most: int | Mapping[int, int] | None = None) -> None:
        """Process the same, and end before the commit."""
        self._process(most)
        self.restart()

    def restart(self) -> None:
        """Forget everything in memory and come back from the log."""
        self._handler = Router(
            self.directory, self._key, self._limits, self.asked_for.append, sealed=self.sealed
        )
        self._partitions, self._positions = [], []
        for index, committed in self.committed.items():
            partition: Partition[State, Delivery] = Partition(index, self._handler)
            for record in self.topics.records(CHANGELOG, index):
                partition.store.load(record.with_key or b"", record.with_value)
            partition.store.loaded(partial(self._handler.restored, partition))
            position = self._handler.assigned(partition, committed, self.topics)
            self._partitions.append(partition)
            self._positions.append(position or 0)
        self._commit(dict(enumerate(self._positions)))

    def _process(self, most: int | Mapping[int, int] | None) -> dict[int, list[Logged]]:
        batch: dict[int, list[Logged]] = {}
        for index, position in enumerate(self._positions):
            limit = most.get(index, 0) if isinstance(most, Mapping) else most
            records = [each for each in self.topics.records(INGEST, index) if each.at_offset >= position]
            if taken := records[:limit]:
                batch[index] = taken
                self._handler.process(self._partitions[index], taken)
        self._handler.before_commit([self._partitions[index] for index in batch])
        return batch

    def _commit(self, offsets: dict[int, int]) -> None:
        touched = [self._partitions[index] for index in offsets]
        for partition in touched:
            writes = [write[:4] for write in partition.emitted]
            writes += [(CHANGELOG, partition.index, key, data) for key, data in partition.store.changes()]
            for topic, index, key, value in writes:
                self.topics.append(topic, index, key, value)
            for topic, index in {(topic, index) for topic, index, _, _ in writes}:
                self.topics.mark(topic, index)
        for index, offset in offsets.items():
            self.committed[index] = self._positions[index] = offset
        for partition in touched:
            partition.store.commit()
        with capture_logs() as logs:
            self._handler.after_commit(touched)
        self.logs.extend(logs)
        for partition in touched:
            partition.commit()

    # Output --------------------------------------------------------------------------------------------------------

    def firehose(self, pipeline: int = 0) -> list[bytes]:
        return _values(self.topics.records(FIREHOSE, pipeline))

    def events(self, pipeline: int = 0) -> list[FirehoseEvent]:
        return [decode(event, FirehoseEvent) for event in self.firehose(pipeline)]

    def rejections(self) -> list[Rejection]:
        """In the order of each pipeline."""
        all_of_them = [decode(value, Rejection) for value in _values(self.topics.records(REJECTED, 0))]
        return sorted(all_of_them, key=lambda rejection: rejection.pipeline)

    def deliveries(self, pipeline: int = 0) -> list[tuple[str, NamedTuple]]:
        """Address and record, by address and each address's in order."""
        delivered = [
            ((record.with_key or b"").decode(), decode_any(item))
            for record in self.topics.records(DELIVERIES, pipeline)
            for item in decode(record.with_value or b"", DeliveryBatch).items
        ]
        return sorted(delivered, key=lambda delivery: delivery[0])

    def delivered_to(self, address: str, pipeline: int = 0) -> list[NamedTuple]:
        return [value for to, value in self.deliveries(pipeline) if to == address]

    def position(self, pipeline: int = 0) -> PipelineState:
        """Where the pipeline stands; from where a restart would replay depends on how it was batched, and is left out."""
        position = self._partitions[pipeline].store.get(PIPELINE_KEY)
        assert isinstance(position, PipelineState)
        return position._replace(replay_from=0)

    def next_due(self, pipeline: int = 0) -> int:
        """When the processor would send a tick, in ms."""
        return self._partitions[pipeline].store.next_due()

    def transactions(self, pipeline: int = 0) -> dict[bytes, TransactionState]:
        """What is remembered."""
        entries = self._partitions[pipeline].store.items()
        return {key: value for key, value in entries if isinstance(value, TransactionState)}

    def changelog(self, pipeline: int = 0) -> Sequence[Logged]:
        return self.topics.records(CHANGELOG, pipeline)


def _values(records: Sequence[Logged]) -> list[bytes]:
    return [record.with_value or b"" for record in records]
