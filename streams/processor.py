"""The exactly-once processor: runs a handler over the partitions of one topic; knows nothing of what records mean.

One batch is one Kafka transaction: everything the handler emitted, the last value of every state entry it touched
(to the changelog partition of the same index) and the offsets read, all or nothing. Memory follows the log: state
changes count only once the transaction has committed, and an abort takes them back.

What can go wrong, and what happens then:

- **retriable**: the driver call is made again (``streams.transaction``);
- **aborted**: state goes back to the last commit and the same batch runs again from memory;
- **session lost** (a commit timed out, the broker forgot us): both clients are dropped, new ones made with the same
  names, and everything is read back from the committed offsets and the changelog, as after a restart;
- **fenced**: another process has our name; this one stops. After a suspended machine one may be fenced by nobody; the
  group tells the two apart, since whoever takes our name takes our place in the group too (``streams.membership``);
- **poison** (the handler raises for one record): that record goes to ``dead-letter`` and the partition goes on.

**Time** on a partition is that of its records, so a timer fires when a later record has come, and no clock is
compared with another. When a timer is due by our clock and nothing later has come, the processor appends a *tick*, a
record without a value, to the input partition itself. Its place in the log proves that everything appended before the
deadline has been processed, whatever the clocks' skew or the replicas' delay, and a replay of the log fires the same
timers at the same places. A fast clock of ours costs a few needless ticks; a slow one delays the timer by as much.

Rebalancing is eager, with static membership. Callbacks run only inside ``consume``, where no transaction is open, and
the group waits for them; so a revoked partition is simply dropped: all that it was is in the log.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from streams import metrics
from streams.crashpoint import crash_point
from streams.dead_letter import bury, failure
from streams.errors import (
    AbortedError,
    FencedError,
    HandlerError,
    PoisonError,
    ReadError,
    SessionLostError,
    StreamError,
    is_poison,
)
from streams.handler import Partition
from streams.membership import ASSIGNED, READY, REVOKED, SESSION_LOST, Membership
from streams.outcome import is_passing, kafka_error, stream_error
from streams.reader import Reader
from streams.ticks import Tick, Ticker
from streams.transaction import TransactionalProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from confluent_kafka import Consumer, KafkaError, Message

    from streams.connection import KafkaConnection
    from streams.handler import Handler, Record, Write

V = TypeVar("V")
D = TypeVar("D")

__all__ = ["READY", "SESSION_LOST", "Processor", "ProcessorConfig", "Session"]

log = structlog.get_logger()

ABORTED: Final = "stream.transaction.aborted"
DEAD_LETTERED: Final = "stream.record.dead_lettered"

_WAIT_SECONDS: Final = 0.025
"""For a first record; between waits, due ticks are sent."""
_MAX_ATTEMPTS: Final = 5
_PAUSE_SECONDS: Final = 0.2
_LAG_INTERVAL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProcessorConfig:
    """What a processor reads and under which names.

    ``service`` and ``instance`` make the transactional id and the group instance id: stable over restarts and used by
    one process at a time. A batch is what arrives within ``gather_ms`` of its
    first record, at most ``batch_records``; while it commits, the next one gathers at the broker. After ``linger_ms`` the
    driver begins to send what was written, while the offsets are on their way.
    """

    service: str
    instance: str
    topic: str
    changelog: str | None
    dead_letter: str = "dead-letter"
    batch_records: int = 1_000
    gather_ms: int = 3
    linger_ms: int = 5
    session_timeout_ms: int = 6_000
    transaction_timeout_ms: int = 6_000


class Processor(Generic[V, D]):
    """Runs a handler until told to stop, starting over from the log whenever the log alone can tell what happened."""

    def __init__(self, config: ProcessorConfig, connection: KafkaConnection, handler: Handler[V, D]) -> None:
        self._config = config
        self._connection = connection
        self._handler = handler
        self._ready = False

    def run(self, stopping: Callable[[], bool]) -> None:
        """Process until ``stopping()``.

        Raises FencedError, HandlerError or ProvisioningError; SessionLostError or ReadError only if the very first
        session could not be opened.
        """
        while not stopping():
            session: Session[V, D] | None = None
            try:
                session = Session(self._config, self._connection, self._handler, self._on_joined)
                while not stopping():
                    session.step()
            except (SessionLostError, ReadError) as error:
                if not self._ready:
                    raise
                metrics.SESSIONS_LOST.labels(self._config.topic).inc()
                log.warning(SESSION_LOST, topic=self._config.topic, reason=str(error))
                time.sleep(_PAUSE_SECONDS)
            finally:
                if session is not None:
                    session.close()

    def _on_joined(self) -> None:
        if not self._ready:
            self._ready = True
            log.info(READY, topic=self._config.topic, instance=self._config.instance)


class _Assigned(Generic[V, D]):
    """A partition of ours: its state, and the next offset to process."""

    __slots__ = ("partition", "position")

    def __init__(self, partition: Partition[V, D], position: int) -> None:
        self.partition = partition
        self.position = position


class Session(Generic[V, D]):
    """One life of the processor's clients, from opening transactions to losing or closing them."""

    def __init__(
        self,
        config: ProcessorConfig,
        connection: KafkaConnection,
        handler: Handler[V, D],
        on_joined: Callable[[], None],
    ) -> None:
        """Open transactions and subscribe; ``on_joined`` is told when our partitions are restored, be they none."""
        self._config = config
        self._connection = connection
        self._handler = handler
        self._on_joined = on_joined
        self._assigned: dict[int, _Assigned[V, D]] = {}
        self._recovered: set[int] = set()
        self._reader = Reader(connection)
        self._ticker = Ticker(connection.producer(linger_ms=0), config.topic)
        self._lag_at = 0.0
        name = f"{config.service}-{config.instance}"
        # First the producer: it aborts what our last life left open, which the committed offsets wait for.
        self._producer = TransactionalProducer(
            connection.transactional_producer(
                connection.owned(name), linger_ms=config.linger_ms, timeout_ms=config.transaction_timeout_ms
            )
        )
        self._membership = Membership(
            connection, config.topic, name, session_timeout_ms=config.session_timeout_ms
        )
        self._consumer = self._membership.join(self._on_assign, self._on_revoke)

    # The loop ----------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Consume one batch, process it, commit it; send the ticks that are due."""
        try:
            self._step()
        except FencedError as error:
            self._membership.explain(error)

    def _step(self) -> None:
        config = self._config
        messages = self._consume(1, _WAIT_SECONDS)
        if messages:
            messages += self._consume(config.batch_records - 1, config.gather_ms / 1_000)
        crash_point("stream.consumed")
        if self._recovered:
            self._commit_recovered()
        if messages:
            batch = self._by_partition(messages)
            if batch:
                self._transact(batch)
        self._send_ticks()
        self._observe_lag()

    def close(self) -> None:
        """Drop both clients. A static member does not leave its group: its next life gets its partitions back."""
        self._consumer.close()
        self._producer.close()
        # Callbacks tie the session to its clients in a cycle, which would keep these alive until it is collected.
        del self._ticker, self._reader

    def _consume(self, limit: int, seconds: float) -> list[Message]:
        try:
            return self._consumer.consume(limit, seconds)
        except KafkaException as exception:
            raise stream_error(kafka_error(exception), f"consuming {self._config.topic}") from exception

    def _by_partition(self, messages: list[Message]) -> dict[int, list[Record]]:
        batch: dict[int, list[Record]] = {}
        for message in messages:
            error = message.error()
            if error is not None:
                self._on_error(error)
                continue
            index = cast("int", message.partition())
            records = batch.get(index)
            if records is None:
                if index not in self._assigned:
                    continue  # fetched before the partition was revoked
                records = batch[index] = []
            records.append(cast("Record", message))
        for index, records in batch.items():
            if _offset(records[0]) < self._assigned[index].position:
                raise SessionLostError(f"{self._config.topic}/{index} was read from before what is committed")
        return batch

    def _on_error(self, error: KafkaError) -> None:
        if not is_passing(error):
            raise stream_error(error, f"consuming {self._config.topic}")

    # One transaction ---------------------------------------------------------------------------------------------------

    def _transact(self, batch: dict[int, list[Record]]) -> None:
        """Process a batch and commit it, again and again while the transaction is rolled back."""
        touched = [self._assigned[index].partition for index in batch]
        for _ in range(_MAX_ATTEMPTS):
            for partition in touched:
                self._process(partition, batch[partition.index])
            self._before_commit(touched)
            try:
                self._commit(touched, self._next_offsets(batch))
            except AbortedError as error:
                for partition in touched:
                    partition.rollback()
                metrics.ABORTS.labels(self._config.topic).inc()
                log.warning(ABORTED, topic=self._config.topic, reason=str(error))
                time.sleep(_PAUSE_SECONDS)
            else:
                metrics.RECORDS.labels(self._config.topic).inc(sum(map(len, batch.values())))
                return
        raise SessionLostError(
            f"a batch of {self._config.topic} was rolled back {_MAX_ATTEMPTS} times in a row"
        )

    def _commit_recovered(self) -> None:
        """Commit what handlers corrected on assignment, before the first record."""
        recovered = [self._assigned[index] for index in self._recovered]
        self._recovered = set()
        topic = self._config.topic
        offsets = [TopicPartition(topic, each.partition.index, each.position) for each in recovered]
        try:
            self._commit([each.partition for each in recovered], offsets)
        except AbortedError as error:
            # Rolling back would undo the corrections too; assignment makes them again.
            raise SessionLostError(f"corrections on assignment were not committed: {error}") from error

    def _commit(self, touched: list[Partition[V, D]], offsets: list[TopicPartition]) -> None:
        """Commit what stands in the partitions; only then does it count in memory."""
        started = time.monotonic()
        self._producer.commit(self._writes(touched), offsets, self._consumer.consumer_group_metadata())
        for offset in offsets:
            self._assigned[offset.partition].position = offset.offset
        self._handler.after_commit(touched)
        for partition in touched:
            partition.commit()
        metrics.COMMITS.labels(self._config.topic).inc()
        metrics.COMMIT_SECONDS.labels(self._config.topic).observe(time.monotonic() - started)

    def _next_offsets(self, batch: dict[int, list[Record]]) -> list[TopicPartition]:
        topic = self._config.topic
        return [TopicPartition(topic, index, _offset(records[-1]) + 1) for index, records in batch.items()]

    def _writes(self, touched: list[Partition[V, D]]) -> Iterable[Write]:
        changelog = self._config.changelog
        emitted = [partition.emitted for partition in touched]
        if changelog is not None:
            emitted += [
                [(changelog, partition.index, key, data, None) for key, data in partition.store.changes()]
                for partition in touched
            ]
        return chain.from_iterable(emitted)

    def _before_commit(self, touched: list[Partition[V, D]]) -> None:
        try:
            self._handler.before_commit(touched)
        except StreamError:
            raise
        except Exception as error:
            raise HandlerError(f"before_commit failed: {error!r}; this is a defect of the handler") from error

    # Poison ------------------------------------------------------------------------------------------------------------

    def _process(self, partition: Partition[V, D], records: Sequence[Record]) -> None:
        try:
            self._handler.process(partition, records)
        except Exception as error:
            if not is_poison(error):
                raise
            partition.rollback()
            self._process_singly(partition, records)

    def _process_singly(self, partition: Partition[V, D], records: Sequence[Record]) -> None:
        """Process record by record, and send those that fail to the dead-letter topic."""
        process = self._handler.process
        for record in records:
            # Timers first and by themselves: a timer's failure must not be blamed on whichever record woke it.
            try:
                process(partition, [Tick(record)])
            except Exception as error:
                raise HandlerError(
                    f"a timer failed before {self._config.topic}/{partition.index} offset {_offset(record)}:"
                    f" {error!r}; this is a defect of the handler"
                ) from error
            if record.value() is None:
                continue
            savepoint = partition.savepoint()
            try:
                process(partition, [record])
            except Exception as error:
                if not is_poison(error):
                    raise
                partition.rollback_to(savepoint)
                self._bury(partition, record, error)
            else:
                partition.release()

    def _bury(self, partition: Partition[V, D], record: Record, error: Exception) -> None:
        config, story = self._config, failure(error)
        letter = bury(config.dead_letter, f"{config.service}-{config.instance}", record, story)
        partition.emitted.append(letter)
        if isinstance(error, PoisonError):
            partition.emitted.extend(error.told)
        log.error(
            DEAD_LETTERED,
            topic=config.topic,
            partition=partition.index,
            offset=_offset(record),
            reason=story.reason,
        )

    # Time --------------------------------------------------------------------------------------------------------------

    def _send_ticks(self) -> None:
        """Have a tick in each partition with a timer due by our clock."""
        now = time.time_ns() // 1_000_000
        for index, assigned in self._assigned.items():
            if assigned.partition.store.is_due(now):
                self._ticker.tick(index, assigned.position)

    def _observe_lag(self) -> None:
        if time.monotonic() < self._lag_at:
            return
        self._lag_at = time.monotonic() + _LAG_INTERVAL_SECONDS
        topic = self._config.topic
        for index, assigned in self._assigned.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, index), cached=True)
            metrics.LAG.labels(topic, str(index)).set(max(high - assigned.position, 0))

    # Assignment --------------------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for stable in self._membership.committed(partitions):
            self._assign(stable.partition, stable.offset if stable.offset >= 0 else None)
        consumer.assign(
            [
                TopicPartition(p.topic, p.partition, self._assigned[p.partition].position or OFFSET_BEGINNING)
                for p in partitions
            ]
        )
        self._on_joined()

    def _assign(self, index: int, committed: int | None) -> None:
        started = time.monotonic()
        partition: Partition[V, D] = Partition(index, self._handler)
        changelog, store = self._config.changelog, partition.store
        if changelog is not None:
            for record in self._reader.read_partition(changelog, index):
                store.load(cast("bytes", record.key()), record.value())
            store.loaded(partial(self._handler.restored, partition))
        position = self._handler.assigned(partition, committed, self._reader)
        self._assigned[index] = _Assigned(partition, position or 0)
        if partition.emitted or position != committed or store.is_changed():
            self._recovered.add(index)
        seconds = time.monotonic() - started
        metrics.RESTORE_SECONDS.labels(self._config.topic).observe(seconds)
        log.info(
            ASSIGNED,
            topic=self._config.topic,
            partition=index,
            committed=committed,
            position=position,
            entries=len(store),
            seconds=round(seconds, 3),
        )

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for revoked in partitions:
            self._assigned.pop(revoked.partition, None)
            self._recovered.discard(revoked.partition)
            with contextlib.suppress(KeyError):
                metrics.LAG.remove(revoked.topic, str(revoked.partition))
            log.info(REVOKED, topic=self._config.topic, partition=revoked.partition)
        consumer.unassign()


def _offset(record: Record) -> int:
    return cast("int", record.offset())
