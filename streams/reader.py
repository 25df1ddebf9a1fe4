"""Reading what is in the log, to a known end or as it grows; joins no group, commits nothing, decodes nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams.errors import ReadError, SessionLostError, StreamError
from streams.outcome import is_passing, kafka_error, stream_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from confluent_kafka import Message

    from streams.connection import KafkaConnection
    from streams.handler import Record

_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's local codes start with an underscore
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_BATCH: Final = 5_000
_FIRST_WINDOW: Final = 16
_END_WAIT_MS: Final = 10
_PATIENCE_SECONDS: Final = 30.0
_REQUEST_SECONDS: Final = 3.0
_RETRY_SECONDS: Final = 0.1
_FOLLOW_WAIT_MS: Final = 100


class Reader:
    """Bounded reads of committed records, one partition at a time."""

    def __init__(self, connection: KafkaConnection, *, patience_s: float = _PATIENCE_SECONDS) -> None:
        """``patience_s`` bounds each wait for a broker, or for an open transaction before the end of a read."""
        self._connection = connection
        self._patience = patience_s
        self._admin = AdminClient(connection.client())

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; ProvisioningError where there is no such topic."""
        return _partition_count(self._admin, topic, self._patience)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset kept and the next to be written, open transactions included."""
        low = self._offset(topic, partition, _EARLIEST)
        return low, self._offset(topic, partition, _LATEST)

    def read_partition(
        self, topic: str, partition: int, start: int = 0, end: int | None = None
    ) -> Iterator[Record]:
        """The committed records from offset ``start`` to ``end`` (not included), by default what is there now.

        Waits for transactions still open before the end, so what was written by a process that lost its place just
        now is either read or known to be rolled back. ReadError if one stays open longer than the patience.
        """
        low, high = self.bounds(topic, partition)
        position, high = max(start, low), high if end is None else min(high, end)
        if position >= high:
            return
        consumer = Consumer(self._connection.reading_consumer(end_wait_ms=_END_WAIT_MS))
        try:
            consumer.assign([TopicPartition(topic, partition, position)])
            waiting_since = time.monotonic()
            while position < high:
                for message in _available(consumer, _BATCH, 0.1):
                    offset = message.offset() or 0
                    error = message.error()
                    if error is None:
                        if offset >= high:
                            return
                        waiting_since = time.monotonic()
                        yield cast("Record", message)
                        position = offset + 1
                    elif error.code() == _EOF:
                        # The end of what is committed; it also tells the offset behind trailing commit markers.
                        position = max(position, offset)
                    elif not is_passing(error):
                        raise _read_error(error, f"reading {topic}/{partition}")
                if time.monotonic() - waiting_since > self._patience:
                    raise ReadError(
                        f"{topic}/{partition} could not be read past offset {position} of {high} for"
                        f" {self._patience:.0f} s; see whether a transaction hangs or the broker is away"
                    )
        finally:
            consumer.close()

    def last_record(self, topic: str, partition: int) -> Record | None:
        """The last committed record, stepping back over commit markers and rolled-back records."""
        low, high = self.bounds(topic, partition)
        window = _FIRST_WINDOW
        end = high
        while end > low:
            start = max(low, end - window)
            last: Record | None = None
            for record in self.read_partition(topic, partition, start, end):
                last = record
            if last is not None:
                return last
            end, window = start, window * 4
        return None

    def first(self, topic: str, partition: int, reached: Callable[[Record], bool]) -> int:
        """The offset from which on every committed record has ``reached`` something, found by bisection.

        ``reached`` must be false up to some record and true from there on; the end of the partition if it never is.
        """
        low, high = self.bounds(topic, partition)
        while low < high:
            middle = (low + high) // 2
            probe = next(self.read_partition(topic, partition, middle, high), None)
            if probe is None or reached(probe):
                high = middle
            else:
                low = (probe.offset() or 0) + 1
        return high

    def _offset(self, topic: str, partition: int, spec: OffsetSpec) -> int:
        # Uncommitted: the stable end may lie before records that a transaction has committed a moment ago, while its
        # markers are still on their way to this partition.
        request = {TopicPartition(topic, partition): spec}
        deadline = time.monotonic() + self._patience
        while True:
            futures = self._admin.list_offsets(
                request,
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                # A request caught by a dying broker is asked again, not waited for.
                request_timeout=min(self._patience, _REQUEST_SECONDS),
            )
            try:
                return int(next(iter(futures.values())).result().offset)
            except KafkaException as exception:
                error = kafka_error(exception)
                if not is_passing(error) or time.monotonic() > deadline:
                    raise _read_error(error, f"looking up offsets of {topic}/{partition}") from exception
                time.sleep(_RETRY_SECONDS)
                # Asking for the topic also tells this client who leads it now.
                self.partitions(topic)


class Follower:
    """A polled follower of some partitions from given offsets; restart it from ``positions``.

    It reads in the driver's background and does nothing else there: what is polled is all that happens.
    """

    def __init__(self, connection: KafkaConnection, topic: str, positions: Mapping[int, int]) -> None:
        """``positions`` is the next offset to read by partition; 0 also means the first that is kept.

        ProvisioningError where the topic is missing or may not be read.
        """
        self._topic = topic
        self._positions = dict(positions)
        self._at_end: set[int] = set()
        self._consumer = Consumer(connection.reading_consumer(end_wait_ms=_FOLLOW_WAIT_MS))
        # The driver waits in silence for a topic that is missing or that we may not read.
        _partition_count(self._consumer, topic, _PATIENCE_SECONDS)
        self._consumer.assign([_from(topic, index, offset) for index, offset in positions.items()])

    @property
    def positions(self) -> Mapping[int, int]:
        """The next offset to read, by partition."""
        return self._positions

    @property
    def at_end(self) -> bool:
        """Whether the last poll left nothing committed unread in any partition."""
        return len(self._at_end) == len(self._positions)

    def add(self, partition: int, offset: int = 0) -> None:
        """Follow one more partition."""
        self._positions[partition] = offset
        self._consumer.incremental_assign([_from(self._topic, partition, offset)])

    def poll(self, limit: int = 1_000, timeout_s: float = 0.0) -> list[Record]:
        """Up to ``limit`` further records, each partition's in order; waits only while there is none."""
        records: list[Record] = []
        for message in _available(self._consumer, limit, timeout_s):
            partition, offset = message.partition() or 0, message.offset() or 0
            error = message.error()
            if error is None:
                self._positions[partition] = offset + 1
                self._at_end.discard(partition)
                records.append(cast("Record", message))
            elif error.code() == _EOF:
                self._positions[partition] = max(self._positions[partition], offset)
                self._at_end.add(partition)
            elif not is_passing(error):
                raise _read_error(error, f"following {self._topic}/{partition}")
        return records

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _partition_count(client: AdminClient | Consumer, topic: str, seconds: float) -> int:
    doing = f"looking up {topic}"
    try:
        metadata = client.list_topics(topic, timeout=seconds).topics[topic]
    except KafkaException as exception:
        raise _read_error(kafka_error(exception), doing) from exception
    if metadata.error is not None:
        raise _read_error(metadata.error, doing)
    return len(metadata.partitions)


def _read_error(error: KafkaError, doing: str) -> StreamError:
    """The error for a read: there is no session to lose, only a broker that is away."""
    meaning = stream_error(error, doing)
    return (
        ReadError(f"{meaning}; see whether the broker is away")
        if type(meaning) is SessionLostError
        else meaning
    )


def _available(consumer: Consumer, limit: int, timeout_s: float) -> list[Message]:
    # ``consume`` alone would wait out its timeout unless there are as many as asked for.
    first = consumer.poll(timeout_s)
    return [] if first is None else [first, *consumer.consume(limit - 1, timeout=0)]


def _from(topic: str, partition: int, offset: int) -> TopicPartition:
    # Offset 0 may be gone; the beginning never is.
    return TopicPartition(topic, partition, offset or OFFSET_BEGINNING)
