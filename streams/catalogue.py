"""The topics as data: what each is for, how it is kept, and which role may read or write it; touches no broker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

INGEST: Final = "ingest"
FIREHOSE: Final = "firehose"
DELIVERIES: Final = "deliveries"
REJECTED: Final = "rejected"
ROUTER_STATE: Final = "router-state"
ADMISSIONS: Final = "admissions"
DIRECTORY: Final = "directory"
BLOCKS: Final = "blocks"
ANCHORS: Final = "anchors"
REFUSALS: Final = "refusals"
DEAD_LETTER: Final = "dead-letter"
SHARES: Final = "shares"
INBOX_PREFIX: Final = "inbox."

_MIB: Final = 1024 * 1024
FOR_EVER: Final = None


class Role(StrEnum):
    """What a Kafka user is, and with that all it may do."""

    PARTICIPANT = "participant"
    REGULATOR = "regulator"
    MONITOR = "monitor"
    """A process of a regulator's that may read the firehose and nothing else."""
    AUDITOR = "auditor"
    REGISTRAR = "registrar"
    OPERATOR = "operator"
    GATEWAY = "gateway"
    ROUTER = "router"
    DELIVERY = "delivery"
    ADMISSION = "admission"
    BLOCKBUILDER = "blockbuilder"
    ANCHOR = "anchor"
    LEDGER = "ledger"
    """The ledger service: a participant of the operator's, which joins nobody."""


SERVICES: Final = frozenset(
    {Role.GATEWAY, Role.ROUTER, Role.DELIVERY, Role.ADMISSION, Role.BLOCKBUILDER, Role.ANCHOR}
)
"""Roles that our own processes have; they write in transactions and to ``dead-letter``."""

TRANSACTIONAL: Final = SERVICES | {Role.OPERATOR}
"""Roles that may write in transactions: an operator puts a dead letter back and marks it, or neither."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    ``per_pipeline`` topics have one partition a pipeline, and partition p of each belongs to pipeline p; the others
    have one partition. ``retention`` of FOR_EVER keeps everything. ``flushed`` topics are the record itself: on a
    single broker they reach the disk before a write is acknowledged. ``small`` ones are one of thousands.
    """

    name: str
    retention: timedelta | None
    written_by: frozenset[Role]
    read_by: frozenset[Role]
    per_pipeline: bool = False
    compacted: bool = False
    append_time: bool = False
    flushed: bool = False
    small: bool = False
    max_record_bytes: int = 2 * _MIB

    def partitions(self, pipelines: int) -> int:
        """How many partitions the topic has with so many pipelines."""
        return pipelines if self.per_pipeline else 1

    def config(self, *, durable: bool) -> dict[str, str]:
        """The topic's settings at the broker; ``durable`` where a single broker must flush what replicas would keep."""
        keep_ms = -1 if self.retention is None else int(self.retention.total_seconds() * 1_000)
        config = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(keep_ms),
            "retention.bytes": "-1",
            "max.message.bytes": str(self.max_record_bytes),
            "message.timestamp.type": "LogAppendTime" if self.append_time else "CreateTime",
            "compression.type": "producer",
            # The largest number is Kafka's own default: leave it to the operating system.
            "flush.messages": "1" if durable and self.flushed else str(2**63 - 1),
        }
        if self.compacted:
            # Only closed segments are compacted: small ones keep a restore short.
            config |= {
                "segment.bytes": str(64 * _MIB),
                "min.cleanable.dirty.ratio": "0.2",
                "segment.ms": "3600000",
            }
        if self.small:
            # At the default each segment would map 20 MiB of index.
            config["segment.index.bytes"] = str(256 * 1024)
        return config


def _roles(*roles: Role) -> frozenset[Role]:
    return frozenset(roles)


_DAYS: Final = timedelta(days=7)
_WEEKS: Final = timedelta(weeks=4)
_MONTHS: Final = timedelta(days=180)

_PUBLIC: Final = frozenset(Role) - {Role.MONITOR}

TOPICS: Final = (
    Topic(
        FIREHOSE,
        _WEEKS,
        written_by=_roles(Role.ROUTER),
        read_by=_roles(
            Role.ROUTER,
            Role.BLOCKBUILDER,
            Role.GATEWAY,
            Role.REGULATOR,
            Role.MONITOR,
            Role.AUDITOR,
            Role.OPERATOR,
        ),
        per_pipeline=True,
        flushed=True,
    ),
    Topic(
        DELIVERIES,
        _DAYS,
        # The operator puts dead letters back; whom they reach verifies what they say.
        written_by=_roles(Role.ROUTER, Role.OPERATOR),
        read_by=_roles(Role.DELIVERY, Role.OPERATOR),
        per_pipeline=True,
    ),
    Topic(
        ROUTER_STATE,
        FOR_EVER,
        written_by=_roles(Role.ROUTER),
        read_by=_roles(Role.ROUTER, Role.OPERATOR),
        per_pipeline=True,
        compacted=True,
    ),
    # Always empty: by its partitions the processes of one consumer divide the pipelines among themselves.
    Topic(SHARES, _DAYS, written_by=frozenset(), read_by=_PUBLIC, per_pipeline=True),
    # Ingest comes after the topics its records lead to, so that none of them is missing when a pipeline is added.
    # Too large a message must arrive to be refused with a reason, so the broker takes four times what the router does.
    # The router writes to it too: ticks, which carry the time to an idle pipeline. The operator puts dead letters back.
    Topic(
        INGEST,
        _DAYS,
        written_by=_roles(Role.PARTICIPANT, Role.GATEWAY, Role.ROUTER, Role.OPERATOR, Role.LEDGER),
        read_by=_roles(Role.ROUTER, Role.OPERATOR),
        per_pipeline=True,
        append_time=True,
        flushed=True,
        max_record_bytes=4 * _MIB,
    ),
    Topic(
        REJECTED,
        _MONTHS,
        written_by=_roles(Role.ROUTER),
        read_by=_roles(Role.REGULATOR, Role.OPERATOR, Role.GATEWAY),
    ),
    Topic(
        ADMISSIONS,
        _DAYS,
        written_by=_roles(Role.PARTICIPANT, Role.REGISTRAR, Role.GATEWAY, Role.OPERATOR),
        read_by=_roles(Role.ADMISSION, Role.REGISTRAR, Role.OPERATOR),
        append_time=True,
    ),
    Topic(REFUSALS, _MONTHS, written_by=_roles(Role.ADMISSION), read_by=_PUBLIC),
    Topic(
        DIRECTORY,
        FOR_EVER,
        written_by=_roles(Role.ADMISSION),
        read_by=_PUBLIC,
        flushed=True,
    ),
    Topic(BLOCKS, FOR_EVER, written_by=_roles(Role.BLOCKBUILDER), read_by=_PUBLIC, flushed=True),
    Topic(ANCHORS, FOR_EVER, written_by=_roles(Role.ANCHOR), read_by=_PUBLIC),
    Topic(
        DEAD_LETTER,
        _MONTHS,
        written_by=SERVICES | {Role.OPERATOR},
        read_by=_roles(Role.OPERATOR),
        max_record_bytes=5 * _MIB,
    ),
)
"""Every topic but the inboxes, in the order in which they are made."""


def inbox_topic(address: str) -> str:
    """The topic in which an address receives; one partition, read by its participant alone, written by delivery."""
    return INBOX_PREFIX + address


def inbox(address: str) -> Topic:
    """The catalogue's entry for one address's inbox. Its readers are not a role: provisioning names the one user."""
    return Topic(
        inbox_topic(address),
        _WEEKS,
        written_by=_roles(Role.DELIVERY),
        read_by=_roles(Role.OPERATOR),
        small=True,
    )


def topic(name: str) -> Topic:
    """The catalogue's entry for a topic of this name, inboxes included."""
    if name.startswith(INBOX_PREFIX):
        return inbox(name.removeprefix(INBOX_PREFIX))
    return next(entry for entry in TOPICS if entry.name == name)
