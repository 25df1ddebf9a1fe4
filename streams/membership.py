"""What every member of a consumer group does alike: learn where to go on, and tell of brokers that are away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog
from confluent_kafka import KafkaException

from streams.outcome import is_passing, kafka_error, stream_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer, KafkaError, TopicPartition

log = structlog.get_logger()

READY: Final = "service.ready"
ASSIGNED: Final = "stream.partition.assigned"
REVOKED: Final = "stream.partition.revoked"
SESSION_LOST: Final = "stream.session.lost"
CLIENT_ERROR: Final = "stream.client.error"

_OFFSETS_SECONDS: Final = 60.0
_REQUEST_SECONDS: Final = 3.0
_QUIET_SECONDS: Final = 10.0


def client_errors(topic: str) -> Callable[[KafkaError], None]:
    """An ``error_cb`` that tells of brokers being away, once in a while: the driver tries again forty times a second."""
    quiet_until = 0.0

    def told(error: KafkaError) -> None:
        nonlocal quiet_until
        if time.monotonic() > quiet_until:
            quiet_until = time.monotonic() + _QUIET_SECONDS
            log.warning(CLIENT_ERROR, topic=topic, code=error.name(), reason=error.str())

    return told


def committed_offsets(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """The group's committed offset for each partition (negative where there is none).

    Waits for transactions that have offsets pending (KIP-447: a read_committed consumer asks for stable offsets), so
    that what a process which has just lost the partition may still commit is known first.
    """
    deadline = time.monotonic() + _OFFSETS_SECONDS
    while True:
        try:
            stable = consumer.committed(partitions, _REQUEST_SECONDS)
        except KafkaException as exception:
            error = kafka_error(exception)
            if not is_passing(error) or time.monotonic() > deadline:
                raise stream_error(error, "fetching committed offsets") from exception
        else:
            break
    for partition in stable:
        if partition.error is not None:
            raise stream_error(partition.error, f"fetching the committed offset of {partition.topic}")
    return stable
