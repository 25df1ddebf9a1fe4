"""The at-least-once relay: reads a topic in batches and writes what each batch leads to, outside any transaction.

For outputs too many for a transaction, which would write a commit marker to each. A crash may write a record twice;
what is written therefore carries where it came from, and its readers drop what they have seen. Keeps no state.
A record that cannot be relayed goes to ``dead-letter`` as it came, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from streams import metrics
from streams.crashpoint import crash_point
from streams.dead_letter import Story, bury, failure
from streams.errors import FencedError, ProvisioningError, SessionLostError, StreamError, is_poison
from streams.fan_out import FanOut
from streams.membership import ASSIGNED, READY, REVOKED, SESSION_LOST, Membership
from streams.outcome import is_passing, kafka_error, stream_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from confluent_kafka import Consumer

    from streams.connection import KafkaConnection
    from streams.handler import Record, Write

log = structlog.get_logger()

UNDELIVERABLE: Final = "stream.record.undeliverable"

_WAIT_SECONDS: Final = 0.1
_COMMIT_SECONDS: Final = 0.1
"""Between commits of offsets: a crash repeats what was written since, and a batch does not wait for one."""
_PAUSE_SECONDS: Final = 0.2
_MISSING: Final = "UNKNOWN_TOPIC_OR_PARTITION"


class Route(Protocol):
    """What a relay's application does."""

    def __call__(self, records: Sequence[Record]) -> Iterable[Write]:
        """What these records, of any partitions and each partition's in order, lead to.

        An error that it raises for a record makes a dead letter of that one. So does an output that does not exist, and
        the whole record stands there: let one record lead to one output, or its other outputs get it again when it is put back.
        """
        ...


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """What a relay reads and under which names; see ``streams.processor.ProcessorConfig``."""

    service: str
    instance: str
    topic: str
    dead_letter: str = "dead-letter"
    batch_records: int = 2_000
    gather_ms: int = 2
    session_timeout_ms: int = 6_000


class Relay:
    """Runs a route until told to stop. Order is kept from each input partition to each output partition."""

    def __init__(self, config: RelayConfig, connection: KafkaConnection, route: Route) -> None:
        self._config = config
        self._connection = connection
        self._route = route

    def run(self, stopping: Callable[[], bool]) -> None:
        """Relay until ``stopping()``; raises FencedError, ProvisioningError, or what ``route`` raises."""
        ready = False
        while not stopping():
            session = RelaySession(self._config, self._connection, self._route)
            try:
                while not stopping():
                    session.step()
                    if not ready and session.joined:
                        log.info(READY, topic=self._config.topic)
                        ready = True
            except SessionLostError as error:
                metrics.SESSIONS_LOST.labels(self._config.topic).inc()
                log.warning(SESSION_LOST, topic=self._config.topic, reason=str(error))
                time.sleep(_PAUSE_SECONDS)
            finally:
                session.close()


class RelaySession:
    """One life of a relay's clients."""

    def __init__(self, config: RelayConfig, connection: KafkaConnection, route: Route) -> None:
        self._config = config
        self._route = route
        self._assigned: set[int] = set()
        self.joined = False
        """Whether the group has given us our partitions, be they none."""
        # The next offsets to read, by partition, that stand for what is written and are not committed yet.
        self._written: dict[int, int] = {}
        self._committed_at = 0.0
        self._outputs = FanOut(connection)
        self._membership = Membership(
            connection,
            config.topic,
            f"{config.service}-{config.instance}",
            session_timeout_ms=config.session_timeout_ms,
        )
        self._consumer = self._membership.join(self._on_assign, self._on_revoke)

    def step(self) -> None:
        """Read one batch and write what it leads to; its offsets are committed after that, soon."""
        try:
            self._step()
        except FencedError as error:
            self._membership.explain(error)

    def _step(self) -> None:
        topic = self._config.topic
        try:
            messages = self._consumer.consume(1, _WAIT_SECONDS)
            if messages:
                messages += self._consumer.consume(
                    self._config.batch_records - 1, self._config.gather_ms / 1_000
                )
        except KafkaException as exception:
            raise stream_error(kafka_error(exception), f"consuming {topic}") from exception
        records: list[Record] = []
        offsets: dict[int, int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                partition = cast("int", message.partition())
                if partition in self._assigned:
                    offsets[partition] = cast("int", message.offset()) + 1
                    records.append(cast("Record", message))
            elif not is_passing(error):
                raise stream_error(error, f"consuming {topic}")
        if records:
            self._relay(records)
            crash_point("relay.written")
            self._written |= offsets
            metrics.RECORDS.labels(topic).inc(len(records))
        if self._written and time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self._commit()

    def close(self) -> None:
        """Drop both clients; a static member gets its partitions back in its next life."""
        self._commit_before_leaving()
        self._consumer.close()
        self._outputs.close()

    def _relay(self, records: Sequence[Record]) -> None:
        """Write what the records lead to; a record with which that cannot be done becomes a dead letter."""
        try:
            writes = list(self._route(records))
        except Exception as error:
            if not is_poison(error):
                raise
            for record in records:
                self._relay_one(record)
            return
        if missing := self._outputs.write(writes):
            # The records, not what they led to: put back, they are routed again, and that has the places of then.
            told = ((record, _undelivered(self._route([record]), missing)) for record in records)
            self._bury([(record, story) for record, story in told if story is not None])

    def _relay_one(self, record: Record) -> None:
        try:
            writes = list(self._route([record]))
        except Exception as error:
            if not is_poison(error):
                raise
            self._bury([(record, failure(error))])
        else:
            if story := _undelivered(writes, self._outputs.write(writes)):
                self._bury([(record, story)])

    def _bury(self, dead: Sequence[tuple[Record, Story]]) -> None:
        config = self._config
        service = f"{config.service}-{config.instance}"
        if self._outputs.write(bury(config.dead_letter, service, *each) for each in dead):
            raise ProvisioningError(f"there is no topic {config.dead_letter}; provision the topics first")
        for _, story in dead:
            log.error(UNDELIVERABLE, destination=story.destination, reason=story.reason)

    def _commit(self) -> None:
        positions = [TopicPartition(self._config.topic, *position) for position in self._written.items()]
        self._written = {}
        self._committed_at = time.monotonic()
        try:
            self._consumer.commit(offsets=positions, asynchronous=False)
        except KafkaException as exception:
            # Somebody else will read these records again, or we shall.
            raise stream_error(kafka_error(exception), "committing offsets") from exception
        crash_point("relay.committed")
        metrics.COMMITS.labels(self._config.topic).inc()

    def _commit_before_leaving(self) -> None:
        """Commit what is written, if that can still be done; whoever comes next would only write it once more."""
        if self._written:
            with contextlib.suppress(StreamError):
                self._commit()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = True
        stable = self._membership.committed(partitions)
        for each in stable:
            self._assigned.add(each.partition)
            log.info(ASSIGNED, topic=each.topic, partition=each.partition, committed=each.offset)
            if each.offset < 0:
                each.offset = OFFSET_BEGINNING
        consumer.assign(stable)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit_before_leaving()
        for revoked in partitions:
            self._assigned.discard(revoked.partition)
            log.info(REVOKED, topic=revoked.topic, partition=revoked.partition)
        consumer.unassign()


def _undelivered(writes: Iterable[Write], missing: Collection[str]) -> Story | None:
    """The story of a record that led to a topic which does not exist."""
    gone = next((write[0] for write in writes if write[0] in missing), None)
    return (
        None if gone is None else Story(_MISSING, f"{_MISSING}: there is no topic {gone}", destination=gone)
    )
