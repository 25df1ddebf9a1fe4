"""The client's way over Kafka: one participant's transport, a reader of public topics, and the door to admission.

Only this module, those named ``kafka_…`` and an operator's `parley.dead_letter_topic` import the driver. They use the plain driver
with one thread for each consumer: the driver's own asyncio classes hand every call to a thread pool and write batches without
partitions or headers.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import Message as KafkaRecord

from parley.errors import CursorError, TransportError
from parley.kafka_access import PATIENCE_S, Failures, KafkaAccess, ask, partitions_of
from parley.kafka_group import Membership
from parley.transport import Arrivals, Delivery, InboxRecord, Standing, Undelivered

__all__ = ["KafkaAccess", "KafkaTransport", "TopicReader", "TopicRecord", "submit_admission"]

INGEST: Final = "ingest"
DIRECTORY: Final = "directory"
ADMISSIONS: Final = "admissions"
ADMISSIONS_REFUSED: Final = "refusals"
FIREHOSE: Final = "firehose"

_LEAVING_S: Final = 5.0
_HANDED_OVER: Final = 500
"""Records handed to the event loop at once."""
_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - the driver's local codes start with an underscore
_GONE: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_LATE: Final = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT})  # noqa: SLF001
_DELIVERY_HEADER: Final = "delivery"
_CONTENT_TYPE: Final[list[tuple[str, str | bytes | None]]] = [("content-type", b"avro/binary")]


class KafkaTransport:
    """One participant's records over Kafka: writes ``ingest``, reads its inbox and the directory."""

    def __init__(self, access: KafkaAccess, *, linger_ms: int = 2, patience_s: float = PATIENCE_S) -> None:
        """``linger_ms`` is how long a record may wait for others to share its request; ``patience_s`` bounds connecting."""
        self._access = access
        self._patience = patience_s
        self._linger_ms = linger_ms
        self._failures = Failures(access)
        self._pipelines = 0
        self._inbox = TopicPartition("", 0)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._membership: Membership | None = None
        # Handed from the thread to the event loop, one at a time: a slow reader slows the fetching, not the memory.
        self._room = threading.Semaphore(2)
        self._arrived: asyncio.Queue[tuple[Arrivals | TransportError, bool]] = asyncio.Queue()
        """What came, and whether it took room."""
        self._undelivered: list[Undelivered] = []

    @property
    def pipelines(self) -> int:
        """How many pipelines ``ingest`` has."""
        return self._pipelines

    async def open(self, address: str, consumer: str | None) -> Mapping[int, Standing]:
        """Connect and begin reading; see `parley.transport.Transport.open`."""
        loop = asyncio.get_running_loop()
        self._inbox = TopicPartition(f"inbox.{address}", 0)
        report = {"error_cb": self._failures.note}
        self._producer = Producer(self._access.producer(self._linger_ms) | report)
        self._consumer = Consumer(self._access.consumer("reader") | report)

        def post(arrived: Arrivals | TransportError) -> None:
            loop.call_soon_threadsafe(self._arrived.put_nowait, (arrived, False))

        if consumer is not None:
            self._membership = Membership(
                self._access, f"inbox.{address}/{consumer}", self._failures, post, self._patience
            )
        standings = await asyncio.to_thread(self._look_up)
        self._consumer.assign(
            [
                TopicPartition(self._inbox.topic, 0, OFFSET_BEGINNING),
                TopicPartition(DIRECTORY, 0, OFFSET_BEGINNING),
            ]
        )
        self._thread = threading.Thread(
            target=self._read, args=(loop,), name=f"parley {address}", daemon=True
        )
        self._thread.start()
        if self._membership is None:
            post(Arrivals(gained=standings))
        else:
            self._membership.begin()
        return standings

    def _look_up(self) -> dict[int, Standing]:
        # Each client asks for what it will use: one that does not know a topic's leader waits a second for it.
        for topic in (self._inbox.topic, DIRECTORY):
            partitions_of(self._consumer, topic, self._failures, self._patience)
        self._pipelines = len(partitions_of(self._producer, INGEST, self._failures, self._patience))
        if self._membership is not None:
            return self._membership.standings()
        end = ask(
            lambda: self._consumer.get_watermark_offsets(self._inbox, timeout=1),
            self._consumer,
            "looking up the inbox's end",
            self._failures,
            self._patience,
        )
        return {pipeline: Standing(end[1], "") for pipeline in range(self._pipelines)}

    async def close(self) -> None:
        """Write and save what is under way, then leave."""
        membership, self._membership = self._membership, None
        if membership is not None:
            await asyncio.to_thread(membership.end)
        if self._thread is None:
            return
        self._stopping.set()
        self._room.release()
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        await asyncio.to_thread(self._producer.flush, _LEAVING_S)
        await asyncio.to_thread(self._consumer.close)

    async def produce(self, pipeline: int, key: bytes, value: bytes) -> None:
        """Hand a record for ``ingest`` over; see `parley.transport.Transport.produce`."""
        while True:
            try:
                self._producer.produce(
                    INGEST, value, key, pipeline, on_delivery=self._not_written, headers=_CONTENT_TYPE
                )
            except BufferError:
                await asyncio.sleep(0.005)
            except KafkaException as exception:
                raise self._failures.error(
                    f"writing to pipeline {pipeline}", exception.args[0]
                ) from exception
            else:
                return

    def _not_written(self, error: KafkaError | None, record: KafkaRecord) -> None:
        # What only came late may have been written: the client sends it again until it is answered.
        if error is not None and error.code() not in _LATE:
            failed = self._failures.error("writing to ingest", error)
            self._undelivered.append(Undelivered(record.key() or b"", failed))

    async def arrivals(self, patience: float) -> Arrivals:
        """What has come; see `parley.transport.Transport.arrivals`."""
        try:
            arrived, took_room = self._arrived.get_nowait()
        except asyncio.QueueEmpty:
            try:
                async with asyncio.timeout(patience):
                    arrived, took_room = await self._arrived.get()
            except TimeoutError:
                return Arrivals()
        if took_room:
            self._room.release()
        if isinstance(arrived, TransportError):
            raise arrived
        return arrived

    def acknowledge(self, standings: Mapping[int, Standing]) -> None:
        """Save the positions within a tenth of a second, with the notes as their metadata."""
        if self._membership is not None:
            self._membership.save(standings)

    def release(self) -> None:
        """Let the shares go that must; see `parley.transport.Transport.release`."""
        if self._membership is not None:
            self._membership.release()

    # The thread ------------------------------------------------------------------------------------------------------------

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over what comes until told to stop."""
        try:
            while not self._stopping.is_set():
                first = self._consumer.poll(0.05)
                self._producer.poll(0)
                if first is not None or self._undelivered:
                    batch = [] if first is None else [first, *self._consumer.consume(_HANDED_OVER, 0)]
                    self._hand_over(loop, self._sort(batch))
        except TransportError as error:
            self._hand_over(loop, error)
        except KafkaException as exception:
            self._hand_over(loop, self._failures.error("reading", exception.args[0]))

    def _hand_over(self, loop: asyncio.AbstractEventLoop, arrived: Arrivals | TransportError) -> None:
        self._room.acquire()
        if not self._stopping.is_set():
            loop.call_soon_threadsafe(self._arrived.put_nowait, (arrived, True))

    def _sort(self, batch: list[KafkaRecord]) -> Arrivals:
        inbox: list[InboxRecord] = []
        directory: list[bytes] = []
        ends: set[str | None] = set()
        for record in batch:
            topic = record.topic()
            error = record.error()
            if error is not None:
                if error.code() == _EOF:
                    ends.add(topic)
                else:
                    self._failures.judge(error, f"reading {topic}")
            elif topic == DIRECTORY:
                directory.append(record.value() or b"")
            else:
                inbox.append(_inbox_record(record))
        undelivered, self._undelivered = self._undelivered, []
        return Arrivals(inbox, directory, undelivered, self._inbox.topic in ends, DIRECTORY in ends)


def _inbox_record(record: KafkaRecord) -> InboxRecord:
    delivery = None
    for header in record.headers() or ():
        value = header[1]
        if header[0] == _DELIVERY_HEADER and isinstance(value, bytes):
            partition, _, offset = value.partition(b":")
            if partition.isdigit() and offset.isdigit():
                delivery = Delivery(int(partition), int(offset))
    return InboxRecord(record.offset() or 0, delivery, record.value() or b"")


class TopicRecord(NamedTuple):
    """One record of a public topic."""

    partition: int
    offset: int
    value: bytes


class TopicReader:
    """Reads a public topic, all partitions and those added later, from given offsets; use it as a context manager."""

    def __init__(self, access: KafkaAccess, topic: str, positions: Mapping[int, int] | None = None) -> None:
        """``positions`` is the next offset to read by partition; other partitions are read from their beginning.

        Raises:
            TransportError: the topic cannot be read.

        """
        self._topic = topic
        self._failures = Failures(access)
        self._consumer = Consumer(access.consumer("reader") | {"error_cb": self._failures.note})
        self._known: set[int] = set()
        self._at_end: set[int] = set()
        self._positions = dict(positions or {})
        self._looked_at = 0.0
        self._look()

    def _look(self) -> None:
        """Follow the partitions that are new."""
        self._looked_at = time.monotonic()
        found = partitions_of(self._consumer, self._topic, self._failures, PATIENCE_S)
        new = found - self._known
        if new:
            self._consumer.incremental_assign(
                [
                    TopicPartition(self._topic, index, self._positions.get(index) or OFFSET_BEGINNING)
                    for index in new
                ]
            )
            self._known |= new

    @property
    def partitions(self) -> int:
        """How many partitions are read."""
        return len(self._known)

    @property
    def at_end(self) -> bool:
        """Whether everything committed has been read, in every partition."""
        return len(self._at_end) == len(self._known)

    def poll(self, timeout: float, limit: int = 5_000) -> list[TopicRecord]:
        """Up to ``limit`` records, each partition's in order; waits up to ``timeout`` seconds for the first.

        Raises:
            CursorError: a position is no longer kept, or not there yet.
            TransportError: the topic cannot be read.

        """
        if time.monotonic() - self._looked_at > 10:
            self._look()
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        records: list[TopicRecord] = []
        for record in (first, *self._consumer.consume(limit - 1, 0)):
            partition, offset, error = record.partition() or 0, record.offset() or 0, record.error()
            if error is None:
                self._at_end.discard(partition)
                records.append(TopicRecord(partition, offset, record.value() or b""))
            elif error.code() == _EOF:
                self._at_end.add(partition)
            elif error.code() in {_GONE, KafkaError.OFFSET_OUT_OF_RANGE}:
                raise CursorError(
                    f"{self._topic} no longer keeps, or does not have yet, what the cursor of pipeline {partition} asks for; "
                    "go on from the blocks, or move the cursor away to follow from the first record kept"
                )
            else:
                self._failures.judge(error, f"reading {self._topic}")
        return records

    def read_to_end(self, timeout: float = 30.0) -> Iterator[TopicRecord]:
        """Everything committed up to now; TransportError if the end is not reached within ``timeout`` s of silence."""
        heard = time.monotonic()
        while not self.at_end:
            records = self.poll(0.2)
            if records:
                heard = time.monotonic()
            elif time.monotonic() - heard > timeout:
                raise self._failures.error(f"reading {self._topic} to its end")
            yield from records

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def submit_admission(access: KafkaAccess, participant: str, request: bytes) -> None:
    """Write an AdmissionRequest (encoded) to ``admissions``; returns once it is on every replica.

    Raises:
        TransportError: it could not be written.

    """
    failures = Failures(access)
    failed: list[KafkaError] = []

    def report(error: KafkaError | None, _record: KafkaRecord) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer(access.producer(linger_ms=0) | {"error_cb": failures.note})
    producer.produce(ADMISSIONS, request, participant.encode(), 0, on_delivery=report, headers=_CONTENT_TYPE)
    if producer.flush(PATIENCE_S) or failed:
        raise failures.error("writing to admissions", failed[0] if failed else None)
