"""Events that wait to be taken, in order; an event may wait in several mailboxes and is taken from one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Mailbox", "Offer"]

T = TypeVar("T")


class Offer(Generic[T]):
    """An event that came with the inbox record at ``offset``; whoever takes it first has it."""

    __slots__ = ("_event", "offset")

    def __init__(self, offset: int, event: T) -> None:
        self.offset = offset
        self._event: T | None = event

    @property
    def is_open(self) -> bool:
        """Whether nobody has taken it."""
        return self._event is not None

    def take(self) -> T:
        """The event, for the one who takes it; once."""
        event, self._event = self._event, None
        assert event is not None
        return event

    @property
    def event(self) -> T:
        """The event, while nobody has taken it."""
        assert self._event is not None
        return self._event

    def renewed(self) -> Offer[T]:
        """The same, to be offered anew; this one can no longer be taken."""
        return Offer(self.offset, self.take())


class Mailbox(Generic[T]):
    """A queue of offers with any number of takers."""

    __slots__ = ("_closed", "_error", "_offers", "_pause", "_takers")

    def __init__(self) -> None:
        self._offers: deque[Offer[T]] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._error: Exception | None = None
        self._pause: Exception | None = None

    def put(self, offer: Offer[T]) -> None:
        """Add an offer, and wake one taker."""
        offers = self._offers
        while offers and not offers[0].is_open:
            offers.popleft()
        offers.append(offer)
        self._wake()

    def events(self) -> list[T]:
        """What can be taken, in order."""
        return [offer.event for offer in self._offers if offer.is_open]

    def close(self, error: Exception | None = None) -> None:
        """No more will come: takers get what is left, then ``None``, or at once the error."""
        self._closed = True
        self._error = error
        while self._takers:
            self._wake()

    def pause(self, error: Exception | None) -> None:
        """Takers get the error until this is called with ``None``."""
        self._pause = error
        while error is not None and self._takers:
            self._wake()

    async def next(self, *, wait: bool = True) -> Offer[T] | None:
        """The first offer that is open, to be taken before anything is awaited.

        Waits for one; ``None`` after the last, or without ``wait`` where there is none now.
        """
        while True:
            if (error := self._error or self._pause) is not None:
                raise error
            while self._offers:
                offer = self._offers.popleft()
                if offer.is_open:
                    return offer
            if self._closed or not wait:
                return None
            await self._wait()

    async def _wait(self) -> None:
        taker = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        try:
            await taker
        except asyncio.CancelledError:
            if taker.done() and not taker.cancelled():
                self._wake()  # woken for an offer that somebody else must take now
            raise

    def _wake(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return
