"""Ticks: records without a value, appended to a partition so that its time goes on; decides nothing about when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from confluent_kafka import KafkaException, Producer

from streams import metrics
from streams.outcome import kafka_error, stream_error

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from streams.connection import ClientConfig
    from streams.handler import Headers, Record

_AGAIN_SECONDS: Final = 5.0
_UNACKNOWLEDGED: Final = -1


class Ticker:
    """Appends ticks to the partitions of one topic, at most one on its way in each.

    A tick is on its way until it has been processed; one that is not for seconds, because there is much before it or
    because it was lost, is followed by another.
    """

    def __init__(self, config: ClientConfig, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(config)
        self._on_its_way: dict[int, tuple[int, float]] = {}

    def tick(self, partition: int, position: int) -> None:
        """Append a tick, unless one stands at or after ``position``, the next offset to be processed.

        SessionLostError if the producer cannot be used any more.
        """
        try:
            self._producer.poll(0)
            offset, sent_at = self._on_its_way.get(partition, (_UNACKNOWLEDGED, -_AGAIN_SECONDS))
            now = time.monotonic()
            if (offset == _UNACKNOWLEDGED or position <= offset) and now - sent_at < _AGAIN_SECONDS:
                return
            self._on_its_way[partition] = (_UNACKNOWLEDGED, now)
            self._producer.produce(self._topic, None, None, partition, on_delivery=self._delivered)
            self._producer.poll(0)
        except (KafkaException, BufferError) as exception:
            if isinstance(exception, BufferError):
                return
            raise stream_error(kafka_error(exception), f"appending a tick to {self._topic}") from exception
        metrics.TICKS.labels(self._topic).inc()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        partition = cast("int", message.partition())
        if error is not None:
            self._on_its_way.pop(partition, None)
        elif partition in self._on_its_way:
            self._on_its_way[partition] = (cast("int", message.offset()), self._on_its_way[partition][1])


class Tick:
    """A record's time without the record, for waking what is due before it."""

    __slots__ = ("_record",)

    def __init__(self, record: Record) -> None:
        self._record = record

    def topic(self) -> str | None:
        return self._record.topic()

    def partition(self) -> int | None:
        return self._record.partition()

    def offset(self) -> int | None:
        return self._record.offset()

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return self._record.timestamp()

    def headers(self) -> Headers | None:
        return None
