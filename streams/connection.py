"""How to reach Kafka, and the client settings each use needs with the reason for each; opens nothing itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

ClientConfig = dict[str, str | int | float | bool]

MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
"""The largest record a service may write: a dead letter holds a refused 4 MiB record and its story."""

SESSION_TIMEOUT_MS: Final = 6_000
"""How long a dead process keeps its partitions; with the move itself, a failover stays under 10 s."""

TRANSACTION_TIMEOUT_MS: Final = 6_000
"""How long a dead process's open transaction holds back readers, unless its successor aborts it sooner."""


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the cluster is and who we are. The user owns every group and transactional id that starts ``<user>/``."""

    bootstrap: str
    username: str
    password: str = field(repr=False)
    security: Literal["SASL_PLAINTEXT", "SASL_SSL"] = "SASL_PLAINTEXT"
    mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-256"
    ca_file: str | None = None

    def owned(self, name: str) -> str:
        """A group or transactional id that this user's permissions cover."""
        return f"{self.username}/{name}"

    def client(self) -> ClientConfig:
        """What every client needs; enough for an admin client."""
        config: ClientConfig = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            # A restarted broker is found again within a second, not within ten.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            # Added pipelines and inboxes are noticed within ten seconds, not within five minutes.
            "topic.metadata.refresh.interval.ms": 10_000,
            # The driver would write a line for each failed attempt; services log what matters (``error_cb``).
            "log_level": 2,
        }
        if self.ca_file is not None:
            config["ssl.ca.location"] = self.ca_file
        return config

    def producer(self, *, linger_ms: int = 50) -> ClientConfig:
        """An idempotent producer whose writes are acknowledged by every in-sync replica."""
        return self.client() | {
            "enable.idempotence": True,
            "acks": "all",
            # flush and commit do not wait for the linger, so it only decides how full a batch gets before them.
            "linger.ms": linger_ms,
            "batch.num.messages": 10_000,
            # Measured with 700-byte values, half random, broker on the same two cores: 54,000 records a second with
            # four writes each against 38,000 uncompressed, because the broker's work is by bytes.
            "compression.type": "lz4",
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.messages": 1_000_000,
            # A topic that is not there is told within two seconds, not within thirty.
            "topic.metadata.propagation.max.ms": 2_000,
            # Back-to-back transactions meet CONCURRENT_TRANSACTIONS and would sleep 100 ms each (librdkafka 967).
            "retry.backoff.ms": 1,
        }

    def transactional_producer(
        self, transactional_id: str, *, linger_ms: int = 50, timeout_ms: int = TRANSACTION_TIMEOUT_MS
    ) -> ClientConfig:
        """A producer for transactions. The id is stable, so that a restart aborts what the last life left open."""
        return self.producer(linger_ms=linger_ms) | {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout_ms,
            # The commit reports failures for all, so successes need no report each.
            "delivery.report.only.error": True,
        }

    def group_consumer(
        self, group: str, instance: str, *, session_timeout_ms: int = SESSION_TIMEOUT_MS
    ) -> ClientConfig:
        """A member of a group that commits its own offsets."""
        return self._consumer(group) | {
            # A static member that restarts gets its partitions back without moving the others'.
            "group.instance.id": instance,
            # Eager: a rebalance waits for our callback, so it never runs into an open transaction. The cooperative
            # protocol does not mix with static members: one that restarts between giving partitions up and joining
            # again is handed its old assignment, and what it gave up stays with nobody (seen with a killed broker).
            "partition.assignment.strategy": "range",
            "session.timeout.ms": session_timeout_ms,
            "heartbeat.interval.ms": session_timeout_ms // 4,
            # Restoring counts as not polling.
            "max.poll.interval.ms": 300_000,
        }

    def reading_consumer(self, *, end_wait_ms: int) -> ClientConfig:
        """A consumer of partitions it names itself; it belongs to no group and commits nothing.

        ``end_wait_ms`` is how long the broker holds a fetch at the end of the log, and so how late the end is told.
        """
        return self._consumer(self.owned("reader")) | {
            "enable.partition.eof": True,
            "fetch.wait.max.ms": end_wait_ms,
        }

    def _consumer(self, group: str) -> ClientConfig:
        return self.client() | {
            "group.id": group,
            # Offsets are committed with the work they stand for, never by a timer.
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Nobody ever sees what an aborted transaction wrote.
            "isolation.level": "read_committed",
            # A position that retention has passed by is an error to hear of, not a silent jump.
            "auto.offset.reset": "error",
            # After a full queue, fetch again at once and not after a second.
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": 32_768,
        }
