"""The participant's client: opens deals, sends, listens; what arrives is judged in ``parley.book`` and carried by a transport.

One task reads the transport for all deals of a connection; a deal costs memory only. Everything runs in one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from parley.acknowledgement import WANTED
from parley.acknowledging import Acknowledger
from parley.admitted import check_admitted
from parley.channel import EPOCH_LASTS, Channel, channels_of, find_channel, open_channel
from parley.custody import Decryptor, Signatory
from parley.deal import (
    Accepted,
    Content,
    Deal,
    DealMessage,
)
from parley.directory import Directory
from parley.disclosing import disclose
from parley.errors import (
    TransportError,
)
from parley.identifiers import new_transaction_id
from parley.listening import Listening
from parley.opening import Deadline, Invitations, write_opening
from parley.outbox import Outbox
from parley.reception import Reception
from parley.schemas import (
    ChannelEpoch,
    FinishRule,
    Message,
    MessageId,
    Party,
    Reference,
    Scope,
    TransactionId,
)
from parley.sealed_address import Hidden
from parley.secrecy import Secrecy
from parley.transport import Transport

__all__ = ["Participant", "connect"]


def connect(
    transport: Transport,
    *,
    participant: str,
    key: Signatory,
    registrar: bytes,
    address: str | None = None,
    consumer: str | None = "main",
    cosigners: Sequence[Signatory] = (),
    decryptor: Decryptor | None = None,
    acknowledges: bool = True,
    operator: str = "operator",
    answer_within: float = 60.0,
    resend_after: float = 5.0,
    clock: Callable[[], int] | None = None,
    keep: Callable[[MessageId, bytes], None] | None = None,
) -> Participant:
    """A connection for ``participant``, who signs with ``key``; enter it with ``async with``.

    ``registrar`` is the registrar's public key (32 bytes), which the whole directory is judged by. ``address`` is the inbox to
    read, by default the one named like the participant. What was taken is remembered by the name of the ``consumer``: each has
    its own place in the inbox, and processes of one name share it, each with its own deals. Without one (``None``) all that
    comes from now on is heard and nothing is remembered. ``cosigners`` sign every message too, where the participant's entry
    demands more than one key. ``decryptor`` holds our encryption keys; without it nothing private can be said or read.
    What asks for a signed acknowledgement gets one once the application is done with it, unless ``acknowledges`` is false.
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
        consumer,
        decryptor,
        acknowledges=acknowledges,
        operator=operator,
        answer_within=answer_within,
        resend_after=resend_after,
        clock=clock or (lambda: time.time_ns() // 1_000_000),
        keep=keep,
    )


class Participant(Listening):
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
        consumer: str | None,
        decryptor: Decryptor | None,
        *,
        acknowledges: bool,
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
        self._consumer = consumer
        self._keys = keys
        self._clock = clock
        self._outbox = Outbox(
            transport, keys, answer_within=answer_within, resend_after=resend_after, keep=keep
        )
        self._invitations = Invitations(Party(participant, address), directory, operator)
        self._reception = Reception(
            self, transport, directory, self.secrecy, self._outbox, self._invitations.hidden
        )
        self._acknowledger = Acknowledger(
            self, self._reception.acknowledgements, self._reception.division.dealt_with, willing=acknowledges
        )

    # Connecting and leaving ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect, read the directory, and rebuild the open deals from the inbox.

        Raises:
            TransportError: the backbone cannot be reached.
            DirectoryError: the participant is not in the directory with this key and address.

        """
        try:
            await self._reception.begin(self.address, self._consumer)
            check_admitted(self.directory, self.participant, self._keys, self.address)
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            for offset in list(self._reception.claimed):
                self.acknowledge(offset)
            await self._acknowledger.settle()
        await self._leave()

    async def _leave(self) -> None:
        await self._acknowledger.end()
        await self._reception.end(TransportError("the connection was closed; connect again"))

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
        want_acknowledgement: bool = False,
    ) -> Deal:
        """Open a transaction with the other parties; returns once the receipt is in and verified.

        ``parties`` are the others, by name (their default address is used) or with an address; one that is ``Hidden`` is named
        to nobody but itself and the router, until it speaks. ``open_until`` is the last moment
        at which the opening counts, by default two minutes from now or the deadline. Who speaks first is told by ``to``, as
        for :meth:`Deal.send`, which also lists the errors; all parties by default.

        A ``private`` deal is encrypted from its opening on: its parties read it, hidden ones too, and ``readers`` besides, such as
        a regulator (naming any makes it private). On a ``channel`` all members read it. ``padded`` makes each message's size a
        power of two. ``want_acknowledgement`` is as for :meth:`Deal.send`.
        """
        parties, readers = tuple(parties), tuple(readers)
        await self._reception.division.share()
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
            references=(*references, WANTED) if want_acknowledgement else references,
            open_until=open_until,
            pipeline=pipeline,
        )
        hidden = self._invitations.hidden
        if channel is not None:
            message = self.secrecy.open_under(message, channel.epoch, readers, hidden=hidden, padded=padded)
        elif private or readers or padded:
            own = ChannelEpoch(message.transaction_id, 0)
            message = self.secrecy.open_epoch(message, own, readers, hidden=hidden, padded=padded)
        assert message.terms is not None
        try:
            return (await self.submit(message)).deal
        finally:
            self._invitations.answered(message.terms)

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
        transaction_id = new_transaction_id(self._clock())
        return write_opening(
            transaction_id,
            self._invitations.parties(parties, transaction_id),
            self._clock(),
            self._reception.division.openable(pipeline),
            kind=kind,
            deadline=deadline,
            content=content,
            content_type=content_type,
            finish_rule=finish_rule,
            to=to,
            known=self._invitations.hidden,
            references=references,
            open_until=open_until,
        )

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
        await self._reception.division.share()
        return await disclose(self, scope, transaction_id, to=to, statement=statement, message=message)

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
        await self._reception.division.share()
        return await open_channel(self, name, members, readers=readers, lasting=lasting, pipeline=pipeline)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that we hold keys to."""
        return channels_of(self)

    def channel(self, transaction_id: TransactionId, opener: str | None = None) -> Channel | None:
        """The channel with this id, opened by ``opener``, who must be named where a stranger claims the same id.

        Raises:
            ChannelError: several participants claim it, and ``opener`` is not given.

        """
        return find_channel(self, transaction_id, opener)

    def now(self) -> int:
        """The participant's clock; ms since the Unix epoch."""
        return self._clock()
