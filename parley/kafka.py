"""The client's way over Kafka: one participant's transport, a reader of public topics, and the door to admission.

The module of the participant's package that imports the driver (an operator's `parley.dead_letter_topic` does too). It uses the plain driver with one thread for each
consumer: the driver's own asyncio classes hand every call to a thread pool and write batches without partitions or headers.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self, TypeVar

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
from parley.transport import Arrivals, Delivery, InboxRecord, Standing, Undelivered

__all__ = ["KafkaAccess", "KafkaTransport", "TopicReader", "TopicRecord", "submit_admission"]

INGEST: Final = "ingest"
DIRECTORY: Final = "directory"
ADMISSIONS: Final = "admissions"
ADMISSIONS_REFUSED: Final = "refusals"
FIREHOSE: Final = "firehose"

MAXIMUM_RECORD_BYTES: Final = 2 * 1024 * 1024
PATIENCE_S: Final = 20.0
"""How long a question to the cluster may take."""
_LEAVING_S: Final = 5.0
_HANDED_OVER: Final = 500
"""Records handed to the event loop at once."""
_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - the driver's local codes start with an underscore
_GONE: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_LATE: Final = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT})  # noqa: SLF001
_FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_PAUSE_S: Final = 0.05
_DELIVERY_HEADER: Final = "delivery"
_CONTENT_TYPE: Final[list[tuple[str, str | bytes | None]]] = [("content-type", b"avro/binary")]

T = TypeVar("T")
Config = dict[str, str | int | float | bool | object]


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where the cluster is, and who we are to it. A user owns every group whose name starts with ``<username>/``."""

    bootstrap: str
    username: str
    password: str = field(repr=False)
    security: Literal["SASL_PLAINTEXT", "SASL_SSL"] = "SASL_PLAINTEXT"
    mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-256"
    ca_file: str | None = None

    def _client(self) -> Config:
        config: Config = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "topic.metadata.refresh.interval.ms": 10_000,
            "log_level": 0,  # what goes wrong is raised
        }
        if self.ca_file is not None:
            config["ssl.ca.location"] = self.ca_file
        return config

    def producer(self, linger_ms: int) -> Config:
        """Settings of an idempotent producer."""
        return self._client() | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "message.max.bytes": MAXIMUM_RECORD_BYTES,
            # The receipt is the acknowledgement that counts; only failures are reported.
            "delivery.report.only.error": True,
            "message.timeout.ms": 30_000,
        }

    def consumer(self, group: str) -> Config:
        """Settings of a consumer of partitions it names itself."""
        return self._client() | {
            "group.id": f"{self.username}/{group}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            # A position that retention has passed by is an error to hear of, not a silent jump.
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 10,
            # How long the end of a quiet topic takes to be known; new records are fetched at once.
            "fetch.wait.max.ms": 200,
            "queued.max.messages.kbytes": 32_768,
        }


class _Failures:
    """What the driver reports about the connection, for the message of whatever fails because of it."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        self._last: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        self._last = error

    def judge(self, error: KafkaError, doing: str) -> None:
        """Raise what will not pass by itself; the driver goes on after the rest, as when a broker restarts."""
        self.note(error)
        if error.fatal() or error.code() in _FORBIDDEN:
            raise self.error(doing, error)

    @property
    def refused(self) -> bool:
        """Whether the cluster refused user or password; final only while connecting, for a broker that starts refuses too."""
        return self._last is not None and self._last.code() in {
            KafkaError._AUTHENTICATION,  # noqa: SLF001
            KafkaError.SASL_AUTHENTICATION_FAILED,
        }

    def error(self, doing: str, cause: KafkaError | None = None) -> TransportError:
        """What to tell the application."""
        where = f"{self._access.bootstrap} while {doing}"
        if self.refused:
            return TransportError(
                f"user {self._access.username} was refused by {where}; check user name and password"
            )
        told = cause or self._last
        detail = "no answer" if told is None else told.str()
        if cause is not None and cause.code() in _FORBIDDEN:
            return TransportError(
                f"user {self._access.username} may not do this ({detail}) at {where}; ask the operator"
            )
        return TransportError(
            f"{detail} from {where}; check that the backbone is up and the address is right"
        )


def _ask(
    question: Callable[[], T], client: Producer | Consumer, doing: str, failures: _Failures, patience_s: float
) -> T:
    """The cluster's answer, asked for again while it cannot tell yet; a refusal is told at once."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return question()
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            client.poll(0)  # serves what the driver has to report
            if failures.refused or error.code() in _FORBIDDEN or time.monotonic() > until:
                raise failures.error(doing, error) from exception
            time.sleep(_PAUSE_S)


def _partitions(client: Producer | Consumer, topic: str, failures: _Failures, patience_s: float) -> set[int]:
    """The partitions of a topic."""

    def question() -> set[int]:
        found = client.list_topics(topic, timeout=1).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return set(found.partitions)

    return _ask(question, client, f"looking up {topic}", failures, patience_s)


class KafkaTransport:
    """One participant's records over Kafka: writes ``ingest``, reads its inbox and the directory."""

    def __init__(self, access: KafkaAccess, *, linger_ms: int = 2, patience_s: float = PATIENCE_S) -> None:
        """``linger_ms`` is how long a record may wait for others to share its request; ``patience_s`` bounds connecting."""
        self._access = access
        self._patience = patience_s
        self._linger_ms = linger_ms
        self._failures = _Failures(access)
        self._pipelines = 0
        self._inbox = TopicPartition("", 0)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        # Asked by the event loop, begun by the thread; each is written by one of the two.
        self._asked: Standing | None = None
        self._begun: Standing | None = None
        # Handed from the thread to the event loop, one at a time: a slow reader slows the fetching, not the memory.
        self._room = threading.Semaphore(2)
        self._arrived: asyncio.Queue[Arrivals | TransportError] = asyncio.Queue()
        self._undelivered: list[Undelivered] = []

    @property
    def pipelines(self) -> int:
        """How many pipelines ``ingest`` has."""
        return self._pipelines

    async def open(self, address: str) -> Standing:
        """Connect and begin reading; see `parley.transport.Transport.open`."""
        loop = asyncio.get_running_loop()
        self._inbox = TopicPartition(f"inbox.{address}", 0)
        report = {"error_cb": self._failures.note}
        self._producer = Producer(self._access.producer(self._linger_ms) | report)
        self._consumer = Consumer(self._access.consumer(f"inbox.{address}") | report)
        standing = await asyncio.to_thread(self._look_up)
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
        return standing

    def _look_up(self) -> Standing:
        # Each client asks for what it will use: one that does not know a topic's leader waits a second for it.
        for topic in (self._inbox.topic, DIRECTORY):
            _partitions(self._consumer, topic, self._failures, self._patience)
        self._pipelines = len(_partitions(self._producer, INGEST, self._failures, self._patience))
        return _ask(
            self._saved, self._consumer, "looking up the inbox's position", self._failures, self._patience
        )

    def _saved(self) -> Standing:
        (saved,) = self._consumer.committed([self._inbox], timeout=1)
        if saved.error is not None:
            raise KafkaException(saved.error)
        return Standing(max(saved.offset, 0), saved.metadata or "")

    async def close(self) -> None:
        """Write and save what is under way, then leave."""
        if self._thread is None:
            return
        self._stopping.set()
        self._room.release()
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        self._producer.flush(_LEAVING_S)
        with suppress(TransportError):  # unsaved, the last records come again: no more than was promised
            _ask(self._save_and_wait, self._consumer, "saving the position", self._failures, _LEAVING_S)
        self._consumer.close()

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
            arrived = self._arrived.get_nowait()
        except asyncio.QueueEmpty:
            try:
                async with asyncio.timeout(patience):
                    arrived = await self._arrived.get()
            except TimeoutError:
                return Arrivals()
        self._room.release()
        if isinstance(arrived, TransportError):
            raise arrived
        return arrived

    def acknowledge(self, standing: Standing) -> None:
        """Save the position within a tenth of a second, with the note as its metadata."""
        self._asked = standing

    # The thread ------------------------------------------------------------------------------------------------------------

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over what comes until told to stop."""
        try:
            while not self._stopping.is_set():
                first = self._consumer.poll(0.05)
                self._producer.poll(0)
                self._save()
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
            loop.call_soon_threadsafe(self._arrived.put_nowait, arrived)

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

    def _save(self) -> None:
        standing = self._asked
        if standing is not None and standing is not self._begun:
            self._consumer.commit(offsets=[self._position(standing)], asynchronous=True)
            self._begun = standing

    def _save_and_wait(self) -> None:
        if self._asked is not None:
            self._consumer.commit(offsets=[self._position(self._asked)], asynchronous=False)

    def _position(self, standing: Standing) -> TopicPartition:
        return TopicPartition(self._inbox.topic, 0, standing.position, metadata=standing.note)


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
        self._failures = _Failures(access)
        self._consumer = Consumer(access.consumer("reader") | {"error_cb": self._failures.note})
        self._known: set[int] = set()
        self._at_end: set[int] = set()
        self._positions = dict(positions or {})
        self._looked_at = 0.0
        self._look()

    def _look(self) -> None:
        """Follow the partitions that are new."""
        self._looked_at = time.monotonic()
        found = _partitions(self._consumer, self._topic, self._failures, PATIENCE_S)
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
    failures = _Failures(access)
    failed: list[KafkaError] = []

    def report(error: KafkaError | None, _record: KafkaRecord) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer(access.producer(linger_ms=0) | {"error_cb": failures.note})
    producer.produce(ADMISSIONS, request, participant.encode(), 0, on_delivery=report, headers=_CONTENT_TYPE)
    if producer.flush(PATIENCE_S) or failed:
        raise failures.error("writing to admissions", failed[0] if failed else None)
