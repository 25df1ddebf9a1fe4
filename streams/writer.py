"""Writes single records and waits for them: for joining, provisioning and tools, not for hot paths."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.connection import KafkaConnection
from streams.outcome import kafka_error, stream_error

__all__ = ["write"]

_SECONDS: Final = 30.0


def write(
    connection: KafkaConnection, topic: str, *records: bytes, key: bytes | None = None, partition: int = 0
) -> None:
    """Append the records, in order, and return once they are acknowledged.

    Raises:
        StreamError: the broker refuses a record or cannot be reached.
    """
    failures: list[KafkaError] = []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(connection.producer(linger_ms=0))
    try:
        for record in records:
            producer.produce(topic, record, key, partition, on_delivery=report)
    except KafkaException as exception:
        raise stream_error(kafka_error(exception), f"writing to {topic}") from exception
    left = producer.flush(_SECONDS)
    if failures or left:
        error = failures[0] if failures else KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001
        raise stream_error(error, f"writing to {topic}")
