"""Deletes the past of topics up to given offsets, and tells what a group has left behind it; decides nothing about either.

What is deleted cannot be read from then on: Kafka moves the partition's beginning. Its bytes leave the broker's disk with
their segment, which is deleted once it is closed and lies before the beginning as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.outcome import kafka_error, stream_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.connection import KafkaConnection

__all__ = ["committed", "delete_before"]

_SECONDS: Final = 60.0


def delete_before(connection: KafkaConnection, offsets: Mapping[tuple[str, int], int]) -> None:
    """Delete, in each topic and partition, the records before an offset; what is gone already makes no difference.

    Raises:
        StreamError: the broker refuses, or cannot be reached; some partitions may have been cut, and again does no harm.

    """
    if not offsets:
        return
    admin = AdminClient(connection.client())
    wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    for place, future in admin.delete_records(wanted, request_timeout=_SECONDS).items():
        try:
            future.result(_SECONDS)
        except KafkaException as exception:
            doing = f"deleting the past of {place.topic}/{place.partition}"
            raise stream_error(kafka_error(exception), doing) from exception


def committed(connection: KafkaConnection, group: str, topic: str) -> dict[int, int]:
    """The next offset that a group reads, by partition of the topic; none where it has read nothing.

    Raises:
        StreamError: the broker refuses, or cannot be reached.

    """
    admin = AdminClient(connection.client())
    request = [ConsumerGroupTopicPartitions(group)]
    try:
        answer = admin.list_consumer_group_offsets(request, require_stable=True, request_timeout=_SECONDS)
        found = answer[group].result(_SECONDS).topic_partitions or []
    except KafkaException as exception:
        raise stream_error(kafka_error(exception), f"asking where {group} stands") from exception
    return {place.partition: place.offset for place in found if place.topic == topic and place.offset >= 0}
