"""The participant's client: opens deals, sends, listens; what arrives is judged in ``parley.book`` and carried by a transport.

One task reads the transport for all deals of a connection; a deal costs memory only. Everything runs in one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

from parley.acknowledgement import Acknowledgements, Arrival
from parley.book import Ahead, Book, Doubtful, Expired, Said
from parley.channel import EPOCH_LASTS, Channel, open_channel
from parley.custody import Decryptor, Signatory
from parley.deal import (
    Accepted,
    Content,
    Deal,
    DealMessage,
    InboxEvent,
    Received,
    TimedOut,
    Unverified,
)
from parley.directory import Directory
from parley.disclosure import DISCLOSURE_KIND, DISCLOSURE_TYPE, write_disclosure
from parley.errors import (
    ChannelError,
    DirectoryError,
    ParleyError,
    RefusedError,
    TransportError,
    WireError,
)
from parley.identifiers import new_transaction_id, transaction_text
from parley.mailbox import Mailbox, Offer
from parley.opening import Deadline, write_opening
from parley.outbox import Outbox
from parley.schemas import (
    ChannelEpoch,
    FinishRule,
    Message,
    MessageId,
    Party,
    Reference,
    Rejection,
    Scope,
    TransactionId,
)
from parley.sealed_address import Hidden, Seal, seal_address, speaker_of, unwrap
from parley.secrecy import Secrecy
from parley.taking import Taking, deal_of
from parley.transport import Arrivals, InboxRecord, Transport
from parley.view import DealView

__all__ = ["Participant", "connect"]

_TICK = 0.25
"""Seconds between looks at what waits for an answer."""
_ACKNOWLEDGE_EVERY = 1.0
_DISCLOSURE_LASTS = timedelta(hours=1)
"""How long the two messages of a disclosure may take."""
_DIRECTORY_PATIENCE = 10.0
"""Seconds a record may wait for the directory version it was judged by."""


def connect(
    transport: Transport,
    *,
    participant: str,
    key: Signatory,
    registrar: bytes,
    address: str | None = None,
    cosigners: Sequence[Signatory] = (),
    decryptor: Decryptor | None = None,
    operator: str = "operator",
    answer_within: float = 60.0,
    resend_after: float = 5.0,
    clock: Callable[[], int] | None = None,
    keep: Callable[[MessageId, bytes], None] | None = None,
) -> Participant:
    """A connection for ``participant``, who signs with ``key``; enter it with ``async with``.

    ``registrar`` is the registrar's public key (32 bytes), which the whole directory is judged by. ``address`` is the inbox to
    read, by default the one named like the participant. ``cosigners`` sign every message too, where the participant's entry
    demands more than one key. ``decryptor`` holds our encryption keys; without it nothing private can be said or read.
    ``operator`` is the entry that lists the router's encryption keys, to which hidden parties'
    addresses are sealed. A message without an answer is sent again, the same bytes, every
    ``resend_after`` seconds, and given up after ``answer_within``. ``clock`` gives ms since the Unix epoch. ``keep`` is given the
    receipt of each message of ours, verified, with its id: such as a :class:`parley.ReceiptFolder`.
    """
    return Participant(
        transport,
        participant,
        (key, *cosigners),
        Directory(registrar),
        address or participant,
        decryptor,
        operator=operator,
        answer_within=answer_within,
        resend_after=resend_after,
        clock=clock or (lambda: time.time_ns() // 1_000_000),
        keep=keep,
    )


class Participant:
    """A participant connected to the backbone; use it as ``async with``.

    Each event is taken once, through :meth:`inbox`, :meth:`opened` or its deal, whichever asks first. Taking the next
    acknowledges the one before; what was not acknowledged comes again after a restart, and every event must be taken in the
    end. Leaving the ``async with`` without an error acknowledges all that was taken.
    """

    def __init__(
        self,
        transport: Transport,
        participant: str,
        keys: Sequence[Signatory],
        directory: Directory,
        address: str,
        decryptor: Decryptor | None,
        *,
        operator: str,
        answer_within: float,
        resend_after: float,
        clock: Callable[[], int],
        keep: Callable[[MessageId, bytes], None] | None,
    ) -> None:
        self.participant = participant
        self.address = address
        self.directory = directory
        """Everybody admitted: legal names, keys, addresses."""
        self.secrecy = Secrecy(participant, directory, decryptor)
        """What is private: the keys learnt so far, and how our own words are concealed."""
        self._transport = transport
        self._operator = operator
        self._keys = keys
        self._clock = clock
        self._outbox = Outbox(
            transport, keys, answer_within=answer_within, resend_after=resend_after, keep=keep
        )
        self._book = Book(participant, directory, self._outbox.envelopes)
        self._deals: dict[TransactionId, Deal] = {}
        self._hidden: dict[str, str] = {}
        """Whom we hide in openings that wait for an answer, by sealed address."""
        self._inbox: Mailbox[InboxEvent] = Mailbox()
        self._opened: Mailbox[InboxEvent] = Mailbox()
        self._claimed: set[int] = set()
        self._backlog: list[InboxRecord] = []
        self._held: tuple[Arrival, float] | None = None
        self._failure: Exception | None = None
        self._acknowledged_at = 0.0
        self._ready: asyncio.Future[None] | None = None
        self._inbox_read = self._directory_read = False
        self._task: asyncio.Task[None] | None = None
        self._acknowledgements: Acknowledgements | None = None

    # Connecting and leaving ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect, read the directory, and rebuild the open deals from the inbox.

        Raises:
            TransportError: the backbone cannot be reached.
            DirectoryError: the participant is not in the directory with this key and address.

        """
        standing = await self._transport.open(self.address)
        try:
            self._acknowledgements = Acknowledgements(standing)
            self._ready = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(
                self._follow(self._acknowledgements), name=f"parley {self.participant}"
            )
            await self._ready
            self._check_admitted()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._acknowledgements is not None:
            for offset in self._claimed:
                self._acknowledgements.taken(offset)
        await self._leave()

    async def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._fail(TransportError("the connection was closed; connect again"))
        if self._acknowledgements is not None and (standing := self._acknowledgements.advance()):
            self._transport.acknowledge(standing)
        await self._transport.close()

    def _check_admitted(self) -> None:
        for key in self._keys:
            held = self.directory.holder(key.id)
            if held is None or held.participant != self.participant:
                raise DirectoryError(
                    f"key {key.id.hex()} is not {self.participant}'s in the directory; join first (`parley join`)"
                )
            if held.until is not None:
                raise DirectoryError(
                    f"key {key.id.hex()} was {held.ending}; connect with one that is valid now"
                )
        needed = self.directory.threshold(self.participant, self.directory.version)
        if len({key.id for key in self._keys}) < needed:
            raise DirectoryError(
                f"{self.participant}'s messages need {needed} different keys; give the others as cosigners"
            )
        if self.directory.owner(self.address) != self.participant:
            raise DirectoryError(
                f"{self.address} is not an address of {self.participant}; use one of its entry"
            )

    # Speaking --------------------------------------------------------------------------------------------------------------

    async def open(
        self,
        parties: Iterable[str | Party | Hidden],
        *,
        kind: str,
        deadline: Deadline,
        content: Content,
        content_type: str | None = None,
        finish_rule: FinishRule = "ANY",
        to: Iterable[str] | None = None,
        references: Sequence[Reference] = (),
        open_until: Deadline | None = None,
        pipeline: int | None = None,
        private: bool = False,
        readers: Iterable[str] = (),
        channel: Channel | None = None,
        padded: bool = False,
    ) -> Deal:
        """Open a transaction with the other parties; returns once the receipt is in and verified.

        ``parties`` are the others, by name (their default address is used) or with an address; one that is ``Hidden`` is named
        to nobody but itself and the router, until it speaks. ``open_until`` is the last moment
        at which the opening counts, by default two minutes from now or the deadline. Who speaks first is told by ``to``, as
        for :meth:`Deal.send`, which also lists the errors; all parties by default.

        A ``private`` deal is encrypted from its opening on: its parties read it, hidden ones too, and ``readers`` besides, such as
        a regulator (naming any makes it private). On a ``channel`` all members read it. ``padded`` makes each message's size a
        power of two.
        """
        parties, readers = tuple(parties), tuple(readers)
        if channel is not None and pipeline is None:
            pipeline = channel.epoch.pipeline
        message = self.opening(
            parties,
            kind=kind,
            deadline=deadline,
            content=content,
            content_type=content_type,
            finish_rule=finish_rule,
            to=to,
            references=references,
            open_until=open_until,
            pipeline=pipeline,
        )
        if channel is not None:
            message = self.secrecy.open_under(
                message, channel.epoch, readers, hidden=self._hidden, padded=padded
            )
        elif private or readers or padded:
            own = ChannelEpoch(message.transaction_id, 0)
            message = self.secrecy.open_epoch(message, own, readers, hidden=self._hidden, padded=padded)
        assert message.terms is not None
        try:
            return (await self.submit(message)).deal
        finally:
            for party in message.terms.parties:
                self._hidden.pop(party.participant, None)

    def opening(
        self,
        parties: Iterable[str | Party | Hidden],
        *,
        kind: str,
        deadline: Deadline,
        content: Content,
        content_type: str | None = None,
        finish_rule: FinishRule = "ANY",
        to: Iterable[str] | None = None,
        references: Sequence[Reference] = (),
        open_until: Deadline | None = None,
        pipeline: int | None = None,
    ) -> Message:
        """The message that would open a transaction, in clear and not sent; arguments as for :meth:`open`."""
        own = Party(self.participant, self.address)
        transaction_id = new_transaction_id(self._clock())
        others = [self._party(party, transaction_id) for party in parties]
        return write_opening(
            transaction_id,
            (own, *(party for party in others if party.participant != self.participant)),
            self._clock(),
            self._transport.pipelines,
            kind=kind,
            deadline=deadline,
            content=content,
            content_type=content_type,
            finish_rule=finish_rule,
            to=to,
            known=self._hidden,
            references=references,
            open_until=open_until,
            pipeline=pipeline,
        )

    def _party(self, party: str | Party | Hidden, transaction_id: TransactionId) -> Party:
        if isinstance(party, Party):
            return party
        if isinstance(party, Hidden):
            text = self._sealed(party, transaction_id)
            self._hidden[text] = party.participant
            return Party(text, text)
        return Party(party, self._default_address(party))

    def _sealed(self, party: Hidden, transaction_id: TransactionId) -> str:
        """The party's sealed address for a transaction that we open."""
        entry = self.directory.entry(self._operator)
        keys = self.directory.encryption_keys(self._operator)
        if entry is None or entry.role != "OPERATOR" or not keys:
            raise DirectoryError(
                f"{self._operator} is no operator who lists an encryption key, so nobody can be hidden; ask the operator"
            )
        address = party.address or self._default_address(party.participant)
        if self.directory.owner(address) != party.participant:
            raise DirectoryError(f"{address} is not an address of {party.participant}; use one of its entry")
        return seal_address(address, keys[-1], transaction_id, self.participant).text

    def _default_address(self, name: str) -> str:
        entry = self.directory.entry(name)
        if entry is None:
            raise DirectoryError(f"{name} is not in the directory; only admitted participants can be parties")
        return entry.addresses[0]

    async def submit(self, message: Message) -> Accepted:
        """Sign and send a message made by hand, and wait for its receipt; errors as for :meth:`Deal.send`."""
        return await self._outbox.send(message)

    def conceal(
        self,
        message: Message,
        parties: Iterable[str],
        readers: Iterable[str] | None,
        hidden: Mapping[str, str],
    ) -> Message:
        """A later message of a transaction, encrypted as its opening was, or for ``readers`` alone; errors as for :meth:`Deal.send`.

        ``hidden`` says who is behind the sealed addresses among ``parties``, as far as we know.
        """
        if readers is not None:
            return self.secrecy.alone(message, readers, hidden)
        return self.secrecy.follow(message, [hidden.get(party, party) for party in parties])

    async def disclose(
        self,
        scope: Scope,
        transaction_id: TransactionId,
        *,
        to: str,
        statement: str = "",
        message: DealMessage | None = None,
    ) -> Accepted:
        """Disclose what we can read of a transaction, as :meth:`Deal.disclose` says; also of one that has ended."""
        reader = self.secrecy.reader
        if scope == "EPOCH":
            keys = reader.epoch_keys(transaction_id)
        elif message is None or message.sealed is None:
            keys = reader.transaction_keys(transaction_id) if scope == "TRANSACTION" else iter(())
        else:
            keys = reader.message_keys(message.sealed, message.message_id)
        opening = self.opening(
            [to],
            kind=DISCLOSURE_KIND,
            deadline=_DISCLOSURE_LASTS,
            content=write_disclosure(to, statement, keys),
            content_type=DISCLOSURE_TYPE,
        )
        own = ChannelEpoch(opening.transaction_id, 0)
        accepted = await self.submit(self.secrecy.open_epoch(opening, own))
        await accepted.deal.finish()
        return accepted

    # Channels --------------------------------------------------------------------------------------------------------------

    async def create_channel(
        self,
        name: str,
        members: Iterable[str],
        *,
        readers: Iterable[str] = (),
        lasting: timedelta = EPOCH_LASTS,
        pipeline: int | None = None,
    ) -> Channel:
        """Open a channel with these members besides ourselves; ``readers``, such as a regulator, read it without being members.

        Raises:
            EncryptionError: a member or reader has no encryption key in the directory.

        """
        return await open_channel(self, name, members, readers=readers, lasting=lasting, pipeline=pipeline)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that we hold keys to."""
        return tuple(Channel(self, epoch.id, epoch.opener) for epoch in self.secrecy.reader.channels)

    def channel(self, transaction_id: TransactionId, opener: str | None = None) -> Channel | None:
        """The channel with this id, opened by ``opener``, who must be named where a stranger claims the same id.

        Raises:
            ChannelError: several participants claim it, and ``opener`` is not given.

        """
        found = [
            channel
            for channel in self.channels
            if channel.id == transaction_id and opener in (None, channel.opener)
        ]
        if len(found) > 1:
            raise ChannelError(
                f"{' and '.join(channel.opener for channel in found)} each told us of a channel with the id "
                f"{transaction_text(transaction_id)}, and only one of them opened it; name whom you mean"
            )
        return found[0] if found else None

    def now(self) -> int:
        """The participant's clock; ms since the Unix epoch."""
        return self._clock()

    # Listening -------------------------------------------------------------------------------------------------------------

    @property
    def deals(self) -> tuple[Deal, ...]:
        """The deals that are open, those of earlier lives included."""
        return tuple(self._deals.values())

    def deal(self, transaction_id: TransactionId) -> Deal | None:
        """The open deal with this id."""
        return self._deals.get(transaction_id)

    def inbox(self, *, follow: bool = True) -> AsyncIterator[InboxEvent]:
        """Everything that comes, in order, as far as nobody else takes it first; without ``follow``, what is there now."""
        return Taking(self, self._inbox, lambda event: event, follow=follow)

    def opened(self) -> AsyncIterator[Deal]:
        """The deals that others open; raises VerificationError for a record that verifies for no deal."""
        return Taking(self, self._opened, deal_of)

    def claim(self, offset: int) -> None:
        """Note that the application has the event that came at ``offset``, but may not be done with it."""
        self._claimed.add(offset)

    def acknowledge(self, offset: int) -> None:
        """The application is done with the event that came at ``offset``."""
        self._claimed.discard(offset)
        if self._acknowledgements is not None:
            self._acknowledgements.taken(offset)

    # Following the transport -------------------------------------------------------------------------------------------------

    async def _follow(self, acknowledgements: Acknowledgements) -> None:
        transport = self._transport
        try:
            while True:
                arrivals = await transport.arrivals(_TICK)
                self._arrive(arrivals, acknowledgements)
                now = time.monotonic()
                if now - self._acknowledged_at >= _ACKNOWLEDGE_EVERY:
                    self._acknowledged_at = now
                    if standing := acknowledgements.advance():
                        transport.acknowledge(standing)
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
        for deal in self._deals.values():
            deal.close(error)
        leaving = self._task is None
        self._inbox.close(None if leaving else error)
        self._opened.close(None if leaving else error)

    def _arrive(self, arrivals: Arrivals, acknowledgements: Acknowledgements) -> None:
        for record in arrivals.directory:
            self.directory.apply(record)
        for key, error in arrivals.undelivered:
            self._outbox.undelivered(key, error)
        self._backlog.extend(arrivals.inbox)
        self._inbox_read |= arrivals.inbox_end
        self._directory_read |= arrivals.directory_end
        if self._backlog:
            self._read_backlog(acknowledgements)
        if (
            self._inbox_read
            and self._directory_read
            and not self._backlog
            and self._ready is not None
            and not self._ready.done()
        ):
            self._ready.set_result(None)

    def _read_backlog(self, acknowledgements: Acknowledgements) -> None:
        """Take in the records in order, up to one that must wait for the directory."""
        done = 0
        for record in self._backlog:
            arrival, since = self._held or (acknowledgements.arrived(record), 0.0)
            if arrival is not Arrival.REPEATED:
                if arrival is Arrival.NEW and self._held is None:
                    acknowledgements.offered(record.offset)
                impatient = since > 0 and time.monotonic() - since > _DIRECTORY_PATIENCE
                value, seal = _unwrapped(record.value)
                fact = self._book.read(value, impatient=impatient, seal=seal)
                if isinstance(fact, Ahead):
                    self._held = self._held or (arrival, time.monotonic())
                    break
                event = self._event(fact, value)
                if arrival is Arrival.NEW:
                    if event is None:
                        acknowledgements.taken(record.offset)
                    else:
                        self._offer(Offer(record.offset, event), event)
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
            return TimedOut(deal, deal.waiting_on, fact.event.at)
        if isinstance(fact, Doubtful):
            return self._doubted(fact, record)
        return None

    def _said(self, fact: Said, record: bytes) -> InboxEvent | None:
        message, identity, _ = fact.spoken
        event = fact.event
        content, access, problem = self.secrecy.read(message, identity)
        said = DealMessage(
            identity,
            message.sequence,
            speaker_of(message, self.directory),
            message.action,
            message.content_type,
            content or b"",
            event.at,
            event.pipeline,
            event.sequence,
            access,
            problem,
            None if message.encryption is None else message._replace(content=b""),
        )
        deal = self._at(fact.view, said, fact.seal)
        if said.sender != message.sender:
            deal.names[message.sender] = said.sender
        if fact.receipt is None:
            return Received(deal, said)
        self._outbox.answer(identity, Accepted(deal, said, fact.receipt.block_by, record))
        return None

    def _at(self, view: DealView, said: DealMessage | None, seal: Seal | None = None) -> Deal:
        """The deal, where the view now stands; one that has ended is let go."""
        deal = self._deals.get(view.transaction_id)
        if deal is None:
            deal = self._deals[view.transaction_id] = Deal(self, view)
            deal.names.update((text, self._hidden[text]) for text in deal.parties if text in self._hidden)
        deal.update(view, said, seal)
        if view.transaction.outcome is not None:
            del self._deals[view.transaction_id]
            self.secrecy.reader.ended(view.transaction_id)
        return deal

    def _doubted(self, fact: Doubtful, record: bytes) -> Unverified:
        deal = None if fact.transaction_id is None else self._deals.get(fact.transaction_id)
        if fact.message_id is not None:
            self._outbox.refuse(fact.message_id, fact.error)
        return Unverified(deal, fact.error, record)

    def _offer(self, offer: Offer[InboxEvent], event: InboxEvent) -> None:
        self._inbox.put(offer)
        deal = event.deal
        if deal is None or (isinstance(event, Received) and event.message.action == "OPEN"):
            self._opened.put(offer)
        else:
            deal.offer(offer)


def _unwrapped(record: bytes) -> tuple[bytes, Seal | None]:
    try:
        return unwrap(record)
    except WireError:
        return record, None  # which the book will say is not readable
