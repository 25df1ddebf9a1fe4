"""Taking what waits in a mailbox one by one; asking for the next acknowledges the one before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Generic, Protocol, TypeVar

from parley.deal import Deal, InboxEvent, Unverified
from parley.mailbox import Mailbox

__all__ = ["Taking", "deal_of"]

T = TypeVar("T")


class Taker(Protocol):
    """Whom an event is taken for."""

    def acknowledge(self, offset: int) -> None: ...
    def claim(self, offset: int, event: InboxEvent) -> None: ...


class Taking(AsyncIterator[T], Generic[T]):
    """Takes events from a mailbox; asking for the next acknowledges the one before."""

    def __init__(
        self,
        client: Taker,
        mailbox: Mailbox[InboxEvent],
        read: Callable[[InboxEvent], T],
        *,
        follow: bool = True,
    ) -> None:
        self._client = client
        self._mailbox = mailbox
        self._read = read
        self._follow = follow
        self._last: int | None = None

    async def __anext__(self) -> T:
        if self._last is not None:
            self._client.acknowledge(self._last)
            self._last = None
        offer = await self._mailbox.next(wait=self._follow)
        if offer is None:
            raise StopAsyncIteration
        event = offer.take()
        self._last = offer.offset
        self._client.claim(offer.offset, event)
        return self._read(event)


def deal_of(event: InboxEvent) -> Deal:
    """The event's deal; raises VerificationError for a record that verifies for none."""
    if isinstance(event, Unverified):
        raise event.error
    return event.deal
