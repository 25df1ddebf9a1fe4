"""What everything of a participant's that speaks to Kafka has in common: who we are to it, its settings, and what failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from parley.errors import TransportError

__all__ = [
    "MAXIMUM_RECORD_BYTES",
    "PATIENCE_S",
    "SESSION_MS",
    "Config",
    "Failures",
    "KafkaAccess",
    "ask",
    "partitions_of",
]

MAXIMUM_RECORD_BYTES: Final = 2 * 1024 * 1024
PATIENCE_S: Final = 20.0
"""How long a question to the cluster may take."""
SESSION_MS: Final = 6_000
"""How long a process that shares a consumer may be silent before its deals go to another."""
_FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_PAUSE_S: Final = 0.05

T = TypeVar("T")
Config = dict[str, str | int | float | bool | object]


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where the cluster is, and who we are to it. A user owns every group whose name starts with ``<username>/``."""

    bootstrap: str
    username: str
    password: str = field(repr=False)
    security: Literal["SASL_PLAINTEXT", "SASL_SSL"] = "SASL_PLAINTEXT"
    mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-256"
    ca_file: str | None = None

    def _client(self) -> Config:
        config: Config = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "topic.metadata.refresh.interval.ms": 10_000,
            "log_level": 0,  # what goes wrong is raised
        }
        if self.ca_file is not None:
            config["ssl.ca.location"] = self.ca_file
        return config

    def producer(self, linger_ms: int) -> Config:
        """Settings of an idempotent producer."""
        return self._client() | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "message.max.bytes": MAXIMUM_RECORD_BYTES,
            # The receipt is the acknowledgement that counts; only failures are reported.
            "delivery.report.only.error": True,
            "message.timeout.ms": 30_000,
        }

    def consumer(self, group: str) -> Config:
        """Settings of a consumer of partitions it names itself."""
        return self._client() | {
            "group.id": f"{self.username}/{group}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            # A position that retention has passed by is an error to hear of, not a silent jump.
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 10,
            # How long the end of a quiet topic takes to be known; new records are fetched at once.
            "fetch.wait.max.ms": 200,
            "queued.max.messages.kbytes": 32_768,
        }

    def member(self, group: str) -> Config:
        """Settings of a member of a group that divides partitions among its members."""
        return self.consumer(group) | {
            # What a member has stays with it as far as can be, so that deals seldom move.
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 1_000,
            "max.poll.interval.ms": 60_000,
        }


class Failures:
    """What the driver reports about the connection, for the message of whatever fails because of it."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        self._last: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        self._last = error

    def judge(self, error: KafkaError, doing: str) -> None:
        """Raise what will not pass by itself; the driver goes on after the rest, as when a broker restarts."""
        self.note(error)
        if error.fatal() or error.code() in _FORBIDDEN:
            raise self.error(doing, error)

    @property
    def refused(self) -> bool:
        """Whether the cluster refused user or password; final only while connecting, for a broker that starts refuses too."""
        return self._last is not None and self._last.code() in {
            KafkaError._AUTHENTICATION,  # noqa: SLF001
            KafkaError.SASL_AUTHENTICATION_FAILED,
        }

    def error(self, doing: str, cause: KafkaError | None = None) -> TransportError:
        """What to tell the application."""
        where = f"{self._access.bootstrap} while {doing}"
        if self.refused:
            return TransportError(
                f"user {self._access.username} was refused by {where}; check user name and password"
            )
        told = cause or self._last
        detail = "no answer" if told is None else told.str()
        if cause is not None and cause.code() in _FORBIDDEN:
            return TransportError(
                f"user {self._access.username} may not do this ({detail}) at {where}; ask the operator"
            )
        return TransportError(
            f"{detail} from {where}; check that the backbone is up and the address is right"
        )


def ask(
    question: Callable[[], T], client: Producer | Consumer, doing: str, failures: Failures, patience_s: float
) -> T:
    """The cluster's answer, asked for again while it cannot tell yet; a refusal is told at once."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return question()
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            client.poll(0)  # serves what the driver has to report
            if failures.refused or error.code() in _FORBIDDEN or time.monotonic() > until:
                raise failures.error(doing, error) from exception
            time.sleep(_PAUSE_S)


def partitions_of(client: Producer | Consumer, topic: str, failures: Failures, patience_s: float) -> set[int]:
    """The partitions of a topic."""

    def question() -> set[int]:
        found = client.list_topics(topic, timeout=1).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return set(found.partitions)

    return ask(question, client, f"looking up {topic}", failures, patience_s)
