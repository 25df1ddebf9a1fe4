"""What comes to a participant: one task reads the transport, has each record judged in ``parley.book``, changes the deals by it
and offers the events to the application.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from parley.acknowledgement import (
    Acknowledgement,
    Acknowledgements,
    acknowledged_in,
    is_acknowledgement,
    is_wanted,
)
from parley.book import Ahead, Book, Doubtful, Expired, Said
from parley.deal import Accepted, Deal, DealMessage, InboxEvent, Received, TimedOut, Unverified
from parley.directory import Directory
from parley.division import Division
from parley.errors import ParleyError, RefusedError, WireError
from parley.outbox import Outbox
from parley.schemas import Message, Rejection, TransactionId
from parley.sealed_address import Seal, speaker_of, unwrap
from parley.secrecy import Secrecy
from parley.share import Arrival
from parley.shares import pipeline_of
from parley.speaker import Speaker
from parley.transport import Arrivals, InboxRecord, Transport
from parley.view import DealView

__all__ = ["Reception"]

_TICK = 0.25
"""Seconds between looks at what waits for an answer."""
_SAVE_EVERY = 1.0
_DIRECTORY_PATIENCE = 10.0
"""Seconds a record may wait for the directory version it was judged by."""


class Reception:
    """One participant's deals and events, as its inbox and the directory tell them."""

    def __init__(
        self,
        speaker: Speaker,
        transport: Transport,
        directory: Directory,
        secrecy: Secrecy,
        outbox: Outbox,
        hidden: dict[str, str],
    ) -> None:
        """For ``speaker``, whose deals these are; ``hidden`` is whom its openings hide, by sealed address."""
        self._speaker = speaker
        self._transport = transport
        self._directory = directory
        self._secrecy = secrecy
        self._outbox = outbox
        self._hidden = hidden
        self._book = Book(speaker.participant, directory, outbox.envelopes)
        self.deals: dict[TransactionId, Deal] = {}
        """Those that are open, whichever process has them."""
        self.division = Division(transport, self.deals)
        """Which of what comes is for this process."""
        self.claimed: dict[int, InboxEvent] = {}
        """What the application has in hand, by its offset."""
        self.acknowledgements = Acknowledgements()
        """Those on the record that were for us or are ours."""
        self._backlog: list[InboxRecord] = []
        self._held: tuple[Arrival, float] | None = None
        self._failure: Exception | None = None
        self._saved_at = 0.0
        self._ready: asyncio.Future[None] | None = None
        self._inbox_read = self._directory_read = False
        self._task: asyncio.Task[None] | None = None

    async def begin(self, address: str, consumer: str | None) -> None:
        """Connect, and return once the directory and the inbox have been read to their ends, and our shares are known.

        Errors as for ``Transport.open``.
        """
        self.division.begin(await self._transport.open(address, consumer))
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._follow(), name=f"parley {self._speaker.participant}")
        await self._ready

    async def end(self, error: Exception) -> None:
        """Leave; whoever waits is told the error."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._fail(error)
        self.division.save()
        await self._transport.close()

    # Following the transport -------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        transport = self._transport
        try:
            while True:
                arrivals = await transport.arrivals(_TICK)
                self._arrive(arrivals)
                now = time.monotonic()
                if now - self._saved_at >= _SAVE_EVERY:
                    self._saved_at = now
                    self.division.save()
                self.division.let_go()
                await self._outbox.chase(now)
        except ParleyError as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        """Tell everybody who waits that nothing more will come."""
        if self._failure is not None:
            return
        self._failure = error
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
        self._outbox.fail(error)
        for deal in self.deals.values():
            deal.close(error)
        self.division.close(error, leaving=self._task is None)

    def _arrive(self, arrivals: Arrivals) -> None:
        for record in arrivals.directory:
            self._directory.apply(record)
        for key, error in arrivals.undelivered:
            self._outbox.undelivered(key, error)
        self.division.divide(arrivals)
        self._backlog.extend(arrivals.inbox)
        self._inbox_read |= arrivals.inbox_end
        self._directory_read |= arrivals.directory_end
        if self._backlog:
            self._read_backlog()
        is_read = self._inbox_read and self._directory_read and not self._backlog
        if is_read and self.division.is_assigned and self._ready is not None and not self._ready.done():
            self.division.ready()
            self._ready.set_result(None)

    def _read_backlog(self) -> None:
        """Take in the records in order, up to one that must wait for the directory."""
        done = 0
        for record in self._backlog:
            arrival, since = self._held or (self.division.shares.arrived(record), 0.0)
            if arrival is not Arrival.REPEATED:
                impatient = since > 0 and time.monotonic() - since > _DIRECTORY_PATIENCE
                value, seal = _unwrapped(record.value)
                fact = self._book.read(value, impatient=impatient, seal=seal)
                if isinstance(fact, Ahead):
                    self._held = self._held or (arrival, time.monotonic())
                    break
                event = self._event(fact, value)
                if arrival is Arrival.NEW and event is not None:
                    self.division.offer(pipeline_of(record), record.offset, event)
            self._held = None
            done += 1
        del self._backlog[:done]

    def _event(self, fact: Said | Expired | Rejection | Doubtful | None, record: bytes) -> InboxEvent | None:
        """Change the deals as the fact says, and give what the application must know."""
        if isinstance(fact, Said):
            return self._said(fact, record)
        if isinstance(fact, Rejection):
            self._outbox.refuse(fact.message_id, RefusedError(fact))
            return None
        if isinstance(fact, Expired):
            deal = self._at(fact.view, None)
            if deal.is_acknowledgement:
                return None
            return TimedOut(deal, deal.waiting_on, fact.event.at, deal.due)
        if isinstance(fact, Doubtful):
            return self._doubted(fact, record)
        return None

    def _said(self, fact: Said, record: bytes) -> InboxEvent | None:
        message, identity, _ = fact.spoken
        event = fact.event
        content, access, problem = self._secrecy.read(message, identity)
        said = DealMessage(
            identity,
            message.sequence,
            speaker_of(message, self._directory),
            message.action,
            message.content_type,
            content or b"",
            event.at,
            event.pipeline,
            event.sequence,
            access,
            problem,
            None if message.encryption is None else message._replace(content=b""),
            is_wanted(message),
        )
        deal = self._at(fact.view, said, fact.seal)
        if said.sender != message.sender:
            deal.names[message.sender] = said.sender
        if is_acknowledgement(message):
            self._acknowledged(message, said, record if fact.receipt is None else fact.receipt.event or b"")
        if fact.receipt is None:
            return None if deal.is_acknowledgement else Received(deal, said)
        is_ours_alone = identity in self._outbox.envelopes or deal.is_acknowledgement
        if message.action == "OPEN" and not is_ours_alone:
            self.division.opened_elsewhere(deal)
        self._outbox.answer(identity, Accepted(deal, said, fact.receipt.block_by, record))
        return None

    def _acknowledged(self, opening: Message, said: DealMessage, event: bytes) -> None:
        """Remember what an acknowledgement says."""
        self.acknowledgements.add(
            Acknowledgement(said.sender, message, opening.transaction_id, said.at, event)
            for message in acknowledged_in(opening)
        )

    def _at(self, view: DealView, said: DealMessage | None, seal: Seal | None = None) -> Deal:
        """The deal, where the view now stands; one that has ended is let go."""
        deal = self.deals.get(view.transaction_id)
        if deal is None:
            deal = self.deals[view.transaction_id] = Deal(self._speaker, view)
            deal.names.update((text, self._hidden[text]) for text in deal.parties if text in self._hidden)
            self.division.made(deal)
        deal.update(view, said, seal)
        if view.transaction.outcome is not None:
            del self.deals[view.transaction_id]
            self._secrecy.reader.ended(view.transaction_id)
            self.division.ended(deal)
        return deal

    def _doubted(self, fact: Doubtful, record: bytes) -> Unverified:
        deal = None if fact.transaction_id is None else self.deals.get(fact.transaction_id)
        if fact.message_id is not None:
            self._outbox.refuse(fact.message_id, fact.error)
        return Unverified(deal, fact.error, record)


def _unwrapped(record: bytes) -> tuple[bytes, Seal | None]:
    try:
        return unwrap(record)
    except WireError:
        return record, None  # which the book will say is not readable
