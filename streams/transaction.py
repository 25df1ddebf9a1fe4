"""One producer's Kafka transactions, each outcome told apart by its error; decides nothing about what to write.

The outcomes are: committed; ``AbortedError`` (rolled back, run it again); ``SessionLostError`` (unknown, or the
producer is unusable: start over); ``FencedError`` (another process has our id). Retriable errors are retried here.

librdkafka has no KIP-890 transactions (its issue 5423): after a commit or an abort that timed out the producer must be
destroyed and a new one with the same id made, whose ``init_transactions`` settles what the old one left.

Nor does its sending of offsets keep its time-out (issue 5456): it waits without end for a group coordinator that was
away for a moment (issue 5511), as every one is while a single broker restarts. Such a call is given up; the next
producer of the name fences whatever it may still send.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.bounded import call_within
from streams.crashpoint import crash_point
from streams.errors import AbortedError, HandlerError, SessionLostError
from streams.outcome import MEMBERSHIP_LOST, is_fenced, is_forbidden, kafka_error, stream_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import TopicPartition

    from streams.connection import ClientConfig
    from streams.handler import Write

_CALL_SECONDS: Final = 10.0
_OPEN_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.05
_GRACE_SECONDS: Final = 1.0
_TIMED_OUT: Final = KafkaError._TIMED_OUT  # noqa: SLF001


class TransactionalProducer:
    """Writes records and consumed offsets, all or nothing."""

    def __init__(self, config: ClientConfig) -> None:
        """Connect, fence any other producer of this transactional id, and settle what it left open.

        Blocks for up to a minute while the coordinator is busy with the former life's transaction.
        """
        self._refusal: KafkaError | None = None
        # After this the broker has rolled the transaction back anyway.
        self._offsets_seconds = int(config["transaction.timeout.ms"]) / 1_000
        self._producer = Producer(config | {"error_cb": self._on_client_error})
        self._open()

    def commit(
        self,
        writes: Iterable[Write],
        offsets: list[TopicPartition] | None = None,
        group_metadata: object = None,
    ) -> None:
        """Write ``writes`` in order and the next ``offsets`` to read, in one transaction.

        Raises AbortedError, SessionLostError or FencedError; in each case none of it is visible, except that after
        SessionLostError all of it may be.
        """
        producer = self._producer
        try:
            producer.begin_transaction()
            self._produce(writes)
            crash_point("stream.produced")
            if offsets:
                self._send_offsets(offsets, group_metadata)
        except KafkaException as exception:
            self._abort(kafka_error(exception), "writing a transaction")
        crash_point("stream.committing")
        try:
            self._retried("committing", producer.commit_transaction, _CALL_SECONDS)
        except KafkaException as exception:
            self._abort(kafka_error(exception), "committing")
        crash_point("stream.committed")

    def close(self) -> None:
        """Destroy the producer with whatever was not committed; twice does no harm.

        Left alive, it would go on trying to end a transaction that its successor of the same name has ended.
        """
        producer = self.__dict__.pop("_producer", None)
        if producer is not None:
            producer.purge()

    def _open(self) -> None:
        deadline = time.monotonic() + _OPEN_SECONDS
        while True:
            try:
                self._producer.init_transactions(_LOOK_SECONDS)
            except KafkaException as exception:
                error = self._refused() or kafka_error(exception)
                if not error.retriable() or time.monotonic() > deadline:
                    raise stream_error(error, "opening transactions") from exception
            else:
                return

    def _refused(self) -> KafkaError | None:
        """Why the broker does not let us in, if that is so; to the call itself it looks like a broker that is away."""
        try:
            self._producer.poll(0)
        except KafkaException as exception:
            return kafka_error(exception)
        return self._refusal

    def _on_client_error(self, error: KafkaError) -> None:
        if is_forbidden(error):
            self._refusal = error

    def _produce(self, writes: Iterable[Write]) -> None:
        produce = self._producer.produce
        for topic, partition, key, value, headers in writes:
            while True:
                try:
                    if headers is None:
                        produce(topic, value, key, partition)
                    else:
                        produce(topic, value, key, partition, headers=headers)
                except BufferError:
                    self._producer.poll(_RETRY_SECONDS)
                    continue
                break

    def _send_offsets(self, offsets: list[TopicPartition], group_metadata: object) -> None:
        doing, producer = "sending offsets", self._producer

        def send(timeout: float) -> None:
            call = partial(producer.send_offsets_to_transaction, offsets, group_metadata, timeout)
            call_within(timeout + _GRACE_SECONDS, doing, call)

        self._retried(doing, send, self._offsets_seconds)
        crash_point("stream.offsets_sent")

    def _abort(self, cause: KafkaError, doing: str) -> None:
        """Roll back after ``cause``; always raises."""
        if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            raise HandlerError(
                f"a record larger than the limit was emitted: {cause.str()}; limit what is copied"
            )
        if is_fenced(cause) or is_forbidden(cause):
            raise stream_error(cause, doing)
        try:
            self._retried("aborting", self._producer.abort_transaction, _CALL_SECONDS)
        except KafkaException as exception:
            raise stream_error(kafka_error(exception), "aborting") from exception
        if cause.code() in MEMBERSHIP_LOST:
            raise SessionLostError(f"{cause.str()} while {doing}: this process is no longer in its group")
        raise AbortedError(f"{cause.str()} ({cause.name()}) while {doing}")

    def _retried(self, doing: str, call: Callable[[float], None], seconds: float) -> None:
        """Call with a timeout until it succeeds; raises KafkaException where the transaction must be aborted."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                call(max(deadline - time.monotonic(), _RETRY_SECONDS))
            except KafkaException as exception:
                error = kafka_error(exception)
                if error.txn_requires_abort():
                    raise
                if not error.retriable() or error.code() == _TIMED_OUT or time.monotonic() > deadline:
                    raise stream_error(error, doing) from exception
                time.sleep(_RETRY_SECONDS)
            else:
                return
