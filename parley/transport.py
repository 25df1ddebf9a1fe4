"""The port between the client and whatever carries its records; Kafka's side of it is in ``parley.kafka``."""

from __future__ import annotations

from collections.abc import Sequence
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


class Arrivals(NamedTuple):
    """What has come since the last look, each kind in its own order."""

    inbox: Sequence[InboxRecord] = ()
    directory: Sequence[bytes] = ()
    undelivered: Sequence[Undelivered] = ()
    inbox_end: bool = False
    """Whether the inbox's end was reached with these."""
    directory_end: bool = False
    """Whether the directory's end was reached with these."""


class Standing(NamedTuple):
    """What was acknowledged in an earlier life: the offset of the next record, and the note saved with it."""

    position: int
    note: str


class Transport(Protocol):
    """Carries one participant's records. Every call is made from one event loop."""

    async def open(self, address: str) -> Standing:
        """Connect, and begin reading the inbox of ``address`` and the directory from the first records kept.

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

    def acknowledge(self, standing: Standing) -> None:
        """Save, soon, that everything before ``standing.position`` has been dealt with, and the note with it."""
        ...
