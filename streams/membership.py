"""Membership of a consumer group: joining under a static name, where to go on, and whether another process took the name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NoReturn

import structlog
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import SessionLostError
from streams.outcome import is_passing, kafka_error, stream_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError, TopicPartition

    from streams.connection import KafkaConnection
    from streams.errors import FencedError

    Rebalanced = Callable[[Consumer, list[TopicPartition]], None]

log = structlog.get_logger()

READY: Final = "service.ready"
ASSIGNED: Final = "stream.partition.assigned"
REVOKED: Final = "stream.partition.revoked"
SESSION_LOST: Final = "stream.session.lost"
CLIENT_ERROR: Final = "stream.client.error"

_OFFSETS_SECONDS: Final = 60.0
_REQUEST_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 10.0
_NOBODY: Final = ""


class Membership:
    """A static member's place in the group that reads a topic, through one life of its consumer."""

    def __init__(
        self, connection: KafkaConnection, topic: str, instance: str, *, session_timeout_ms: int
    ) -> None:
        """``instance`` is the static name, used by one process at a time."""
        self._connection = connection
        self._topic = topic
        self._group = connection.owned(topic)
        self._instance = instance
        self._session_timeout_ms = session_timeout_ms
        self._member_id: str | None = None
        self._consumer: Consumer

    def join(self, on_assign: Rebalanced, on_revoke: Rebalanced) -> Consumer:
        """A consumer subscribed to the topic; a partition that was lost is told of as one that is revoked."""

        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self._member_id = consumer.memberid()
            on_assign(consumer, partitions)

        config = self._connection.group_consumer(
            self._group, self._instance, session_timeout_ms=self._session_timeout_ms
        )
        self._consumer = Consumer(config | {"error_cb": _client_errors(self._topic)})
        self._consumer.subscribe([self._topic], on_assign=assigned, on_revoke=on_revoke, on_lost=on_revoke)
        return self._consumer

    def committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The group's committed offset for each partition (negative where there is none).

        Waits for transactions that have offsets pending (KIP-447: a read_committed consumer asks for stable offsets),
        so that what a process which has just lost the partition may still commit is known first.
        """
        deadline = time.monotonic() + _OFFSETS_SECONDS
        while True:
            try:
                stable = self._consumer.committed(partitions, _REQUEST_SECONDS)
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

    def explain(self, error: FencedError) -> NoReturn:
        """Raise ``error`` if another process has our place, else a SessionLostError. Close the consumer after this.

        Being fenced does not prove that there is another. A process that was suspended for about as long as its session
        gives its member id up by its own clock, and fences itself with its next heartbeat while the broker still keeps
        its place (librdkafka 3437). A producer is fenced when its own transaction was timed out by the broker, too. Who
        is there under our name is therefore looked up: another stays, while what a dead process has sent expires.
        """
        admin = AdminClient(self._connection.client())
        deadline = time.monotonic() + self._session_timeout_ms / 1_000 + _GRACE_SECONDS
        holder = self._holder(admin)
        while time.monotonic() < deadline and (holder is None or not self._has_given_up(holder)):
            time.sleep(_LOOK_SECONDS)
            holder = self._holder(admin)
        if holder in {None, _NOBODY, self._member_id}:
            raise SessionLostError(
                f"fenced, though the group tells of nobody else in our place: {error}"
            ) from error
        raise error

    def _has_given_up(self, holder: str) -> bool:
        """Whether it is we who gave our place up, and not another who takes it.

        While we hold it and know that we do, it is the producer that was fenced, by somebody who may be about to join.
        """
        return holder == _NOBODY or holder == self._member_id != self._consumer.memberid()

    def _holder(self, admin: AdminClient) -> str | None:
        """The member id that the group has under our name; ``None`` while it cannot be asked."""
        (asked,) = admin.describe_consumer_groups([self._group], request_timeout=_REQUEST_SECONDS).values()
        try:
            members = asked.result().members
        except KafkaException as exception:
            error = kafka_error(exception)
            if not is_passing(error):
                raise stream_error(error, f"asking the group {self._group}") from exception
            return None
        return next((each.member_id for each in members if each.group_instance_id == self._instance), _NOBODY)


def _client_errors(topic: str) -> Callable[[KafkaError], None]:
    """An ``error_cb`` that tells of brokers being away, once in a while: the driver tries again forty times a second."""
    quiet_until = 0.0

    def told(error: KafkaError) -> None:
        nonlocal quiet_until
        if time.monotonic() > quiet_until:
            quiet_until = time.monotonic() + _QUIET_SECONDS
            log.warning(CLIENT_ERROR, topic=topic, code=error.name(), reason=error.str())

    return told
