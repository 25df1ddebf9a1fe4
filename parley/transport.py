"""The port between the client and whatever carries its records; Kafka's side of it is in ``parley.kafka``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from parley.errors import TransportError

__all__ = ["Arrivals", "Delivery", "InboxRecord", "Standing", "Transport", "Undelivered"]


class Delivery(NamedTuple):
    """Where the delivery stage read an inbox record; grows with every new record of a partition, repeats with a repeat."""

    partition: int
    offset: int


class InboxRecord(NamedTuple):
    """One record of an inbox."""

    offset: int
    delivery: Delivery | None
    value: bytes


class Undelivered(NamedTuple):
    """A record that was not written: the key it had, and why."""

    key: bytes
    error: TransportError


class Standing(NamedTuple):
    """How far a consumer is with one pipeline's share of an inbox: the offset of the next record, and the note saved with it."""

    position: int
    note: str


class Arrivals(NamedTuple):
    """What has come since the last look, each kind in its own order; shares are named by their pipelines."""

    inbox: Sequence[InboxRecord] = ()
    directory: Sequence[bytes] = ()
    undelivered: Sequence[Undelivered] = ()
    inbox_end: bool = False
    """Whether the inbox's end was reached with these."""
    directory_end: bool = False
    """Whether the directory's end was reached with these."""
    gained: Mapping[int, Standing] | None = None
    """Shares that are ours from now on, each from where it stands; ``None`` where nothing was assigned, not even none."""
    leaving: Collection[int] = ()
    """Shares that must go to another process: :meth:`Transport.release` lets them."""
    lost: Collection[int] = ()
    """Shares that have gone without asking."""
    moved: Mapping[int, Standing] = {}
    """How far others are with theirs."""


class Transport(Protocol):
    """Carries one participant's records. Every call is made from one event loop."""

    async def open(self, address: str, consumer: str | None) -> Mapping[int, Standing]:
        """Connect, and begin reading the inbox of ``address`` and the directory from the first records kept.

        Gives how far ``consumer`` is with each share; which of them are ours comes with :meth:`arrivals`, and changes as
        processes of that name come and go. Without a consumer all are ours from the inbox's end, and nothing is saved.

        Raises:
            TransportError: the backbone cannot be reached, or refuses.

        """
        ...

    async def close(self) -> None:
        """Write and acknowledge what is under way, then leave."""
        ...

    @property
    def pipelines(self) -> int:
        """How many pipelines there are, at least 1."""
        ...

    async def produce(self, pipeline: int, key: bytes, value: bytes) -> None:
        """Hand a record for ``ingest`` over; waits only while too much is under way.

        That it was not written comes with :meth:`arrivals`. Raises TransportError if it can never be written.
        """
        ...

    async def arrivals(self, patience: float) -> Arrivals:
        """What has come; waits for it up to ``patience`` seconds, and then gives nothing.

        Raises:
            TransportError: the connection is lost for good.

        """
        ...

    def acknowledge(self, standings: Mapping[int, Standing]) -> None:
        """Save, soon, that of these shares everything before their positions has been dealt with, and the notes with it."""
        ...

    def release(self) -> None:
        """Let the shares go that must, once what was acknowledged is saved."""
        ...
