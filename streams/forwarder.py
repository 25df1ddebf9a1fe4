"""Moves records from one topic to others, at least once and without a transaction; what goes where is the caller's affair.

For fan-out to very many topics: a transaction writes a marker to every partition it touched, an idempotent producer does
not. A crash may write a record twice, so each copy names where it came from in the header :data:`ORIGIN`
(``<partition>:<offset>`` of the source) and its readers drop what they have seen. Batches form by themselves: while one
is on its way to the broker, the next gathers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streams.connection import KafkaConnection
from streams.errors import ProvisioningError
from streams.handler import Headers
from streams.outcome import kafka_error, stream_error

__all__ = ["ORIGIN", "Forwarded", "Forwarder"]

ORIGIN: Final = "delivery"
_BATCH: Final = 2_000
_WAIT_SECONDS: Final = 0.05
_FLUSH_SECONDS: Final = 30.0
_NO_SUCH_TOPIC: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001  librdkafka's local codes start with an underscore
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)


class Forwarded(NamedTuple):
    """What one turn moved."""

    records: int
    undeliverable: int


class Forwarder:
    """One member of a group that shares the source's partitions."""

    def __init__(
        self,
        connection: KafkaConnection,
        source: str,
        group: str,
        instance: str,
        target: Callable[[bytes], str],
        dead_letter: str,
    ) -> None:
        """``target`` names the topic for a record's key; what has no such topic goes to ``dead_letter``."""
        self._target = target
        self._dead_letter = dead_letter
        self._source = source
        self._failed: list[tuple[KafkaError, Message]] = []
        self._consumer = Consumer(
            connection.group_consumer(group, instance) | {"auto.offset.reset": "earliest"}
        )
        self._consumer.subscribe([source])
        self._producer = Producer(
            connection.producer(linger_ms=1)
            # A topic that is not there is known to be missing after this long, not after half a minute.
            | {"delivery.report.only.error": True, "topic.metadata.propagation.max.ms": 5_000}
        )

    def turn(self) -> Forwarded:
        """Move what has come, wait until it is written, and commit; waits up to 50 ms for something to come.

        Raises:
            StreamError: the broker cannot be written to; nothing is committed, and a restart moves the records again.
        """
        batch = self._consumer.consume(_BATCH, timeout=_WAIT_SECONDS)
        if not batch:
            return Forwarded(0, 0)
        moved: dict[int, int] = {}
        for message in batch:
            error = message.error()
            if error is not None:
                if not error.retriable():
                    raise stream_error(error, f"reading {self._source}")
                continue
            partition, offset = message.partition() or 0, message.offset() or 0
            self._produce(
                self._target(message.key() or b""), message, [(ORIGIN, b"%d:%d" % (partition, offset))]
            )
            moved[partition] = offset + 1
        self._settle()
        undeliverable = self._bury()
        self._commit(moved)
        return Forwarded(len(batch), undeliverable)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _produce(self, topic: str, message: Message, headers: Headers) -> None:
        def report(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._failed.append((error, message))

        while True:
            try:
                self._producer.produce(
                    topic, message.value(), message.key(), on_delivery=report, headers=headers
                )
            except BufferError:
                self._producer.poll(_WAIT_SECONDS)
            except KafkaException as exception:
                self._failed.append((kafka_error(exception), message))
                return
            else:
                return

    def _settle(self) -> None:
        if left := self._producer.flush(_FLUSH_SECONDS):
            raise ProvisioningError(
                f"{left} records could not be written in {_FLUSH_SECONDS:.0f} s; see whether the broker is up"
            )

    def _bury(self) -> int:
        """Send to the dead letters what has no topic to go to, and demand that everything else was written."""
        failed, self._failed = self._failed, []
        for error, message in failed:
            if error.code() not in _NO_SUCH_TOPIC:
                raise stream_error(error, f"forwarding from {self._source}")
            origin = f"{message.topic()}/{message.partition()}/{message.offset()}"
            self._produce(
                self._dead_letter,
                message,
                [("reason", b"UNDELIVERABLE"), ("origin", origin.encode()), ("detail", error.str().encode())],
            )
        if failed:
            self._settle()
            if self._failed:
                raise stream_error(self._failed[0][0], f"writing {self._dead_letter}")
        return len(failed)

    def _commit(self, moved: dict[int, int]) -> None:
        offsets = [TopicPartition(self._source, partition, offset) for partition, offset in moved.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() not in (
                KafkaError.ILLEGAL_GENERATION,
                KafkaError.UNKNOWN_MEMBER_ID,
                KafkaError.REBALANCE_IN_PROGRESS,
            ):
                raise stream_error(error, f"committing {self._source}") from exception
            # the partitions moved on to another member, which writes these again; readers drop them
