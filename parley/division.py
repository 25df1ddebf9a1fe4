"""Which of a participant's deals are this process's, as its shares come and go: what it is offered, hands over, and inherits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from parley.deal import Deal
from parley.errors import ElsewhereError
from parley.heard import InboxEvent, Received
from parley.mailbox import Mailbox, Offer
from parley.schemas import TransactionId
from parley.shares import Shares
from parley.transport import Arrivals, Standing, Transport

__all__ = ["Division"]

_HANDING_OVER = 30.0
"""Seconds that the application has for what it holds of a share that must go to another process."""
_GRACE = 1.0
"""Seconds more that one who waits for a share gives those that hand it over."""


class Division:
    """Divides what one inbox brings: the application of this process is offered what is in its shares."""

    def __init__(self, transport: Transport, deals: Mapping[TransactionId, Deal]) -> None:
        """``deals`` are all open ones, whose they be."""
        self._transport = transport
        self._deals = deals
        self.shares: Shares[InboxEvent] = Shares({})
        self.inbox: Mailbox[InboxEvent] = Mailbox()
        """Everything that is for this process."""
        self.opened: Mailbox[InboxEvent] = Mailbox()
        """The openings of others, and what belongs to no deal."""
        self._heritage: dict[TransactionId, Deal] = {}
        """Open deals that became ours otherwise than by what is in ``opened`` or by opening them here; still to be taken."""
        self._news = asyncio.Event()
        """Set when something is in it, or nothing more will be."""
        self.is_assigned = False
        """Whether it is known what is ours, be it nothing."""
        self._is_ready = False
        self._has_share = asyncio.Event()
        self._leaving_since = 0.0
        self._failure: Exception | None = None
        self._is_leaving = False

    def begin(self, standings: Mapping[int, Standing]) -> None:
        """Begin with what was saved of each share; raises TransportError where that cannot be read."""
        self.shares = Shares(standings)

    def ready(self) -> None:
        """Everything up to now has been read: from here on, whatever changes is news."""
        self._is_ready = True
        self._inherit(self.shares.ours)

    def close(self, error: Exception, *, leaving: bool) -> None:
        """Nothing more will come; takers are told the error, or that this was all where we are ``leaving``."""
        self._failure = error
        self._has_share.set()
        self._is_leaving = leaving
        told = None if leaving else error
        self.inbox.close(told)
        self.opened.close(told)
        self._news.set()

    # What is asked by the client ------------------------------------------------------------------------------------------

    async def share(self) -> None:
        """Return once a share is ours; raises ElsewhereError where others keep them all."""
        try:
            async with asyncio.timeout(_HANDING_OVER + _GRACE):
                await self._has_share.wait()
        except TimeoutError:
            raise _standing_by() from None
        if self._failure is not None:
            raise self._failure

    def openable(self, pipeline: int | None) -> tuple[int, ...]:
        """Where a transaction can be opened: on ``pipeline``, or on each that is ours; raises ElsewhereError where nowhere."""
        if pipeline is not None:
            self.check_ours(pipeline)
            return (pipeline,)
        if not self.shares.ours:
            raise _standing_by()
        return self.shares.ours

    def check_ours(self, pipeline: int) -> None:
        """Return if the deals of a pipeline are this process's; raises ElsewhereError if not."""
        if not self.shares.has(pipeline):
            raise _elsewhere(pipeline)

    async def inherited(self) -> Deal | None:
        """The next deal to go on with, once there is one; ``None`` after the last."""
        while True:
            if self._failure is not None and not self._is_leaving:
                raise self._failure
            if self._heritage:
                return self._heritage.pop(next(iter(self._heritage)))
            if self._failure is not None:
                return None
            self._news.clear()
            await self._news.wait()

    def dealt_with(self, offset: int) -> None:
        """Nothing is to be done any more with the event that came at ``offset``."""
        self.shares.taken(offset)
        self.let_go()

    # What comes -----------------------------------------------------------------------------------------------------------

    def offer(self, pipeline: int, offset: int, event: InboxEvent) -> None:
        """Let the application take an event that came with the record read last, at once or when its share becomes ours."""
        offer = Offer(offset, event)
        if self.shares.offered(pipeline, offer):
            self._put(offer)

    def _put(self, offer: Offer[InboxEvent]) -> None:
        event = offer.event
        self.inbox.put(offer)
        deal = event.deal
        if deal is None or (isinstance(event, Received) and event.message.action == "OPEN"):
            self.opened.put(offer)
        else:
            deal.offer(offer)

    def made(self, deal: Deal) -> None:
        """There is a new deal."""
        if not self.shares.has(deal.pipeline):
            deal.pause(_elsewhere(deal.pipeline))

    def opened_elsewhere(self, deal: Deal) -> None:
        """Another process of ours opened a deal, which is this one's to go on with if it is on a pipeline of its."""
        if self._is_ready and self.shares.has(deal.pipeline):
            self._heritage[deal.id] = deal
            self._news.set()

    def ended(self, deal: Deal) -> None:
        """There is nothing more to go on with in a deal."""
        self._heritage.pop(deal.id, None)

    def divide(self, arrivals: Arrivals) -> None:
        """Take on the shares that have become ours, and prepare those that must go."""
        if arrivals.gained is None and not (arrivals.moved or arrivals.lost or arrivals.leaving):
            return
        self.shares.moved(arrivals.moved)
        if arrivals.lost:
            self.shares.lost(arrivals.lost)
            self._pause(arrivals.lost)
        if arrivals.leaving:
            self.shares.leave(arrivals.leaving)
            self._pause(arrivals.leaving)
            self._leaving_since = time.monotonic()
        if arrivals.gained is not None:
            self._gain(arrivals.gained)
        if self.shares.ours:
            self._has_share.set()
        else:
            self._has_share.clear()

    def _gain(self, standings: Mapping[int, Standing]) -> None:
        self.is_assigned = True
        offers = self.shares.gained(standings)
        for deal in self._of(standings):
            deal.pause(None)
        for offer in offers:
            self._put(offer)
        if self._is_ready:
            self._inherit(standings)

    def _inherit(self, pipelines: Iterable[int]) -> None:
        """Tell of the open deals of these pipelines, but of those whose opening waits to be taken."""
        new = {event.deal for event in self.opened.events()}
        for deal in self._of(pipelines):
            if deal not in new:
                self._heritage[deal.id] = deal
                self._news.set()

    def _pause(self, pipelines: Iterable[int]) -> None:
        for deal in self._of(pipelines):
            deal.pause(_elsewhere(deal.pipeline))
            self._heritage.pop(deal.id, None)

    def _of(self, pipelines: Iterable[int]) -> list[Deal]:
        chosen = set(pipelines)
        return [
            deal for deal in self._deals.values() if deal.pipeline in chosen and not deal.is_acknowledgement
        ]

    # What is saved --------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Have the transport save how far our shares are."""
        if standings := self.shares.advance():
            self._transport.acknowledge(standings)

    def let_go(self) -> None:
        """Let the shares go that must, once the application is done with what it holds of them, or too slow."""
        leaving = tuple(self.shares.leaving)
        if not leaving:
            return
        too_slow = time.monotonic() - self._leaving_since > _HANDING_OVER
        if too_slow or self.shares.can_go:
            self.save()
            self.shares.lost(leaving)
            self._transport.release()


def _elsewhere(pipeline: int) -> ElsewhereError:
    return ElsewhereError(
        f"another process of this consumer has the deals of pipeline {pipeline}; it goes on with this one"
    )


def _standing_by() -> ElsewhereError:
    return ElsewhereError(
        "every pipeline is another process's of this consumer; this one stands by until one of them leaves"
    )
