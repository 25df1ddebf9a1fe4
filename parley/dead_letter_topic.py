"""The topic `dead-letter` over Kafka, for an operator: reads letters, and puts them back in one Kafka transaction.

What may be put back is `parley.redrive`'s to say; what a letter is, `parley.dead_letters`'s. Besides `parley.kafka` and its parts
the only module of this package that imports the driver.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaRecord

from parley.dead_letters import Header, Mark, StoredRecord, write_mark
from parley.errors import RedriveError, TransportError
from parley.kafka_access import PATIENCE_S, KafkaAccess

__all__ = ["DEAD_LETTER", "DeadLetterTopic", "PutBack", "Redriver"]

DEAD_LETTER: Final = "dead-letter"
MAXIMUM_RECORD_BYTES: Final = 8 * 1024 * 1024
TRANSACTION_TIMEOUT_MS: Final = 6_000
"""How long a redrive that was killed half-way may hold back the readers of the topics that it wrote to."""
_LOOK_S: Final = 1.0
_PAUSE_S: Final = 0.05
_OVER: Final = frozenset(
    {
        KafkaError._PARTITION_EOF,  # noqa: SLF001 - the driver's local codes start with an underscore
        # Asked for is a position that is not kept any more, or not there yet.
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)
_FENCED: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError._FATAL,  # noqa: SLF001 - to a producer, that is what being fenced amounts to
    }
)
_FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001
    }
)


_SILENT: Final = logging.getLogger("parley.dead-letter.driver")
"""For what the driver would write on standard error before it is raised."""
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class PutBack(NamedTuple):
    """A record to be written where it was."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: Sequence[Header]


class _Failures:
    """What the driver tells in the background, for the message of whatever fails because of it."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        self.refusal: KafkaError | None = None
        self._last: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        self._last = error
        if error.code() in _FORBIDDEN:
            self.refusal = error

    def told(self, doing: str, cause: KafkaError | None = None) -> TransportError:
        """What to tell the operator."""
        cause = self.refusal or cause or self._last
        where = f"{self._access.bootstrap} while {doing}"
        if cause is not None and cause.code() in _FORBIDDEN:
            return TransportError(
                f"user {self._access.username} was refused by {where} ({cause.str()}); dead letters need the Kafka user of the"
                " operator: name it as username, with its password_file, in the profile"
            )
        detail = "no answer" if cause is None else cause.str()
        return TransportError(
            f"{detail} from {where}; check that the backbone is up and the address is right"
        )


class DeadLetterTopic:
    """Reads the topic; use it as a context manager."""

    def __init__(self, access: KafkaAccess) -> None:
        self._failures = _Failures(access)
        self._consumer = Consumer(access.consumer(DEAD_LETTER) | {"error_cb": self._failures.note})
        self._seen = False

    def read(self) -> Iterator[StoredRecord]:
        """Everything that is kept, from the first to what is the last now.

        Raises:
            TransportError: the topic cannot be read.

        """
        return self._read(OFFSET_BEGINNING)

    def record(self, number: int) -> StoredRecord:
        """The record at an offset.

        Raises:
            RedriveError: it is not kept any more, or is not there yet.
            TransportError: the topic cannot be read.

        """
        for record in self._read(number):
            if record.number == number:
                return record
            break
        raise RedriveError(f"dead letter {number} is not kept any more, or not there yet")

    def _look_up(self) -> None:
        """Of a topic that we may not see, the driver would tell nothing while reading."""
        until = time.monotonic() + PATIENCE_S
        while not self._seen:
            try:
                cause = self._consumer.list_topics(DEAD_LETTER, timeout=_LOOK_S).topics[DEAD_LETTER].error
            except KafkaException as exception:
                cause = exception.args[0]
                self._consumer.poll(0)  # serves what the driver has to tell
            self._seen = cause is None
            if cause is not None:
                refused = cause.code() in _FORBIDDEN or self._failures.refusal is not None
                if refused or time.monotonic() > until:
                    raise self._failures.told(f"looking up {DEAD_LETTER}", cause)
                time.sleep(_PAUSE_S)

    def _read(self, start: int) -> Iterator[StoredRecord]:
        self._look_up()
        self._consumer.assign([TopicPartition(DEAD_LETTER, 0, start)])
        until = time.monotonic() + PATIENCE_S
        while True:
            for record in self._consumer.consume(500, 0.2):
                error = record.error()
                if error is None:
                    yield _stored(record)
                elif error.code() in _OVER:
                    return
                elif error.fatal() or error.code() in _FORBIDDEN:
                    raise self._failures.told(f"reading {DEAD_LETTER}", error)
                until = time.monotonic() + PATIENCE_S
            if self._failures.refusal is not None or time.monotonic() > until:
                raise self._failures.told(f"reading {DEAD_LETTER}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._consumer.close()


class Redriver:
    """Writes records back and marks their letters, all or nothing. Of several with one Kafka user only the last can."""

    def __init__(self, access: KafkaAccess) -> None:
        """Connect, and fence every other redriver of this user: read the letters after this.

        Raises:
            TransportError: the cluster cannot be reached, or the user may not do this.

        """
        self._failures = _Failures(access)
        self._producer = Producer(
            access.producer(linger_ms=0)
            | {
                "transactional.id": f"{access.username}/redrive",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "message.max.bytes": MAXIMUM_RECORD_BYTES,
                # Where each record stands is stated on the record.
                "delivery.report.only.error": False,
                "error_cb": self._failures.note,
                "logger": _SILENT,
            }
        )
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._producer.init_transactions(_LOOK_S)
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                self._poll()
                if self._failures.refusal or not error.retriable() or time.monotonic() > until:
                    raise self._failures.told("opening a transaction", error) from exception
            else:
                return

    def put_back(self, records: Sequence[PutBack], marks: Sequence[Mark]) -> list[int]:
        """Write the records and the marks in one transaction, and give the new offset of each record.

        Raises:
            RedriveError: nothing was put back.
            TransportError: whether they were put back is not known.

        """
        producer, placed, failed = self._producer, [-1] * len(records), []

        def report(place: int | None, error: KafkaError | None, record: KafkaRecord) -> None:
            if error is not None:
                failed.append(error)
            elif place is not None:
                placed[place] = record.offset() or 0

        try:
            producer.begin_transaction()
            for place, (topic, partition, key, value, headers) in enumerate(records):
                producer.produce(
                    topic, value, key, partition, headers=list(headers), on_delivery=partial(report, place)
                )
            for mark in marks:
                key = str(mark.letter).encode()
                on_delivery = partial(report, None)
                producer.produce(
                    DEAD_LETTER, None, key, 0, headers=list(write_mark(mark)), on_delivery=on_delivery
                )
            left = producer.flush(PATIENCE_S)
        except (KafkaException, BufferError, SystemError) as exception:
            raise self._abandoned(_cause(exception)) from exception
        if left or failed:
            raise self._abandoned(failed[0] if failed else None)
        self._commit()
        return placed

    def _commit(self) -> None:
        def attempt() -> KafkaError | None:
            try:
                self._producer.commit_transaction(PATIENCE_S)
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                return error
            return None

        error = _retried(attempt)
        if error is None:
            return
        if error.txn_requires_abort() or error.code() in _FENCED:
            raise self._abandoned(error)
        raise TransportError(
            f"{error.str()}: whether the letters were put back is not known; `parley operator dead-letter list` tells"
        )

    def _abandoned(self, cause: KafkaError | None) -> RedriveError:
        """Abort, and say that nothing was put back."""
        if cause is not None and cause.code() in _FENCED:
            return RedriveError(
                "nothing was put back: another redrive of this Kafka user began after this one; see what it did with"
                " `parley operator dead-letter list --all`"
            )
        try:
            self._producer.abort_transaction(PATIENCE_S)
        except KafkaException:
            self._producer.purge()  # the broker aborts it after the timeout
        return RedriveError(f"nothing was put back: {self._failures.told('writing', cause)}")

    def _poll(self) -> None:
        try:
            self._producer.poll(0)
        except KafkaException as exception:
            self._failures.note(exception.args[0])


def _cause(exception: BaseException) -> KafkaError | None:
    """The driver's error in what it raised; a fatal one comes wrapped where a delivery is reported at the same moment."""
    inner = exception.__cause__ if isinstance(exception, SystemError) else exception
    return inner.args[0] if isinstance(inner, KafkaException) else None


def _retried(attempt: Callable[[], KafkaError | None]) -> KafkaError | None:
    """The driver's commit may be called again after a retriable error, and then goes on where it was."""
    until = time.monotonic() + PATIENCE_S
    while True:
        error = attempt()
        if error is None or not error.retriable() or time.monotonic() > until:
            return error


def _stored(record: KafkaRecord) -> StoredRecord:
    headers = tuple(
        (each[0], value if isinstance(value := each[1], bytes) else None) for each in record.headers() or ()
    )
    return StoredRecord(record.offset() or 0, record.timestamp()[1], record.key(), record.value(), headers)
