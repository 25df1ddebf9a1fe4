"""A deal: one transaction in a participant's hands, to speak in and to listen to; how words travel is the client's affair."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from parley.errors import EncryptionError, MalformedError
from parley.identifiers import transaction_text
from parley.mailbox import Mailbox, Offer
from parley.reading import Access
from parley.schemas import (
    Action,
    Head,
    Message,
    MessageId,
    Outcome,
    Party,
    Reference,
    Scope,
    Terms,
    TransactionId,
)
from parley.sealed_address import Seal, showing
from parley.steps import StepRule, allowed_steps
from parley.view import DealView

__all__ = [
    "Accepted",
    "Content",
    "Deal",
    "DealMessage",
    "InboxEvent",
    "Received",
    "Speaker",
    "TimedOut",
    "Unverified",
    "content_of",
]

Content = bytes | str | Mapping[str, object]
"""Bytes as they are, text (UTF-8), or an object to be written as JSON."""


class DealMessage(NamedTuple):
    """A message that counts: signed by its sender, accepted by the router, and on the firehose."""

    message_id: MessageId
    sequence: int
    """Place in the transaction, from 0."""
    sender: str
    action: Action
    content_type: str
    content: bytes
    """In clear, however it was sent."""
    at: int
    """When it was appended, by the broker's clock; ms since the Unix epoch."""
    pipeline: int
    firehose_sequence: int
    access: Access = "CLEAR"
    """How the content was read; where it is NONE, the content is empty and ``problem`` says why."""
    problem: EncryptionError | None = None
    sealed: Message | None = None
    """What was encrypted, as the record has it, without its content."""

    def __repr__(self) -> str:
        """What was said is shown only where everybody can read it."""
        content = (
            repr(self.content) if self.access == "CLEAR" else f"{self.access}, {len(self.content)} bytes"
        )
        return f"DealMessage({self.message_id.hex()}, {self.sequence}, {self.sender!r}, {self.action}, {content})"

    @property
    def is_readable(self) -> bool:
        """Whether the content is what was said, rather than nothing because it is not readable by us."""
        return self.access != "NONE"

    def json(self) -> object:
        """The content read as JSON.

        Raises:
            MalformedError: it is not JSON.
            EncryptionError: it is not readable by us.

        """
        if self.problem is not None:
            raise self.problem
        try:
            value: object = json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise MalformedError(
                f"the content of message {self.sequence} by {self.sender} is not JSON ({error}); see content_type"
            ) from None
        return value

    @property
    def text(self) -> str:
        """The content as text; bytes that are not UTF-8 are shown as U+FFFD."""
        return self.content.decode("utf-8", "replace")


class Accepted(NamedTuple):
    """That a message sent was accepted: evidence that the operator signed."""

    deal: Deal
    message: DealMessage
    block_by: int
    """By when the transaction must stand in a block; ms since the Unix epoch."""
    receipt: bytes
    """The encoded Receipt: keep it where that promise may have to be proved."""


class Received(NamedTuple):
    """Another party said something."""

    deal: Deal
    message: DealMessage


class TimedOut(NamedTuple):
    """The deadline passed; ``waiting_on`` were due."""

    deal: Deal
    waiting_on: tuple[str, ...]
    at: int


class Unverified(NamedTuple):
    """The inbox held something that does not verify. It changed nothing; ``record`` is evidence against the operator."""

    deal: Deal | None
    error: Exception
    record: bytes


InboxEvent = Received | TimedOut | Unverified


class Speaker(Protocol):
    """What a deal needs of its client."""

    participant: str

    async def submit(self, message: Message) -> Accepted: ...
    def conceal(
        self,
        message: Message,
        parties: Iterable[str],
        readers: Iterable[str] | None,
        hidden: Mapping[str, str],
    ) -> Message: ...
    async def disclose(
        self,
        scope: Scope,
        transaction_id: TransactionId,
        *,
        to: str,
        statement: str,
        message: DealMessage | None = None,
    ) -> Accepted: ...
    def acknowledge(self, offset: int) -> None: ...
    def claim(self, offset: int) -> None: ...
    def now(self) -> int: ...


class Deal:
    """A transaction. ``async for message in deal`` gives what the other parties say, until it ends.

    Taking the next message acknowledges the one before, so a crash in between brings it again.
    """

    __slots__ = ("_claimed", "_mailbox", "_seal", "_speaker", "_turn", "_view", "messages", "names")

    def __init__(self, speaker: Speaker, view: DealView) -> None:
        self._speaker = speaker
        self._view = view
        self._mailbox: Mailbox[InboxEvent] = Mailbox()
        self._turn = asyncio.Lock()
        self._claimed: int | None = None
        self.messages: list[DealMessage] = []
        """Everything said so far that this participant has seen, its own messages included."""
        self._seal: Seal | None = None
        self.names: dict[str, str] = {}
        """Who is behind the sealed addresses among the parties, as far as this connection knows: those that it hid itself, and
        those that have spoken."""

    @property
    def id(self) -> TransactionId:
        return self._view.transaction_id

    @property
    def pipeline(self) -> int:
        return self._view.pipeline

    @property
    def terms(self) -> Terms:
        return self._view.transaction.terms

    @property
    def kind(self) -> str:
        return self.terms.kind

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties as the terms name them: a hidden one by its sealed address (``names`` may tell more)."""
        return tuple(party.participant for party in self.terms.parties)

    @property
    def own_name(self) -> str:
        """What the terms call this participant: its name, or its sealed address. Speaking by that one reveals who it is."""
        return self._speaker.participant if self._seal is None else self._seal.text

    @property
    def opened_at(self) -> int:
        """When the opening was appended; ms since the Unix epoch."""
        return self._view.transaction.opened_at

    @property
    def deadline(self) -> int:
        """The last moment at which a message counts; ms since the Unix epoch."""
        return self.terms.deadline

    @property
    def outcome(self) -> Outcome | None:
        """FINISHED, TIMED_OUT, or ``None`` while open."""
        return self._view.transaction.outcome

    @property
    def waiting_on(self) -> tuple[str, ...]:
        """Who is due to speak, as the terms name them; after a timeout, who was; empty once finished."""
        return self._view.transaction.due

    @property
    def next_steps(self) -> tuple[StepRule, ...]:
        """What we may say now, in a kind of transaction that has a table of steps; empty where it has none, or not all was seen."""
        return allowed_steps(self._view.transaction, self.own_name) if self.is_whole else ()

    @property
    def head(self) -> Head:
        """The last message seen, which the next one will link to."""
        return self._view.head

    @property
    def is_whole(self) -> bool:
        """Whether every message up to the head was seen here."""
        return self._view.whole

    async def send(
        self,
        content: Content,
        *,
        content_type: str | None = None,
        to: Iterable[str] | None = None,
        references: Sequence[Reference] = (),
        readers: Iterable[str] | None = None,
        after: Head | None = None,
    ) -> Accepted:
        """Say something to the other parties, or to those named in ``to``; returns once the receipt is in and verified.

        In a private deal it is encrypted for those who read the deal; with ``readers`` in any deal for these and ourselves alone.
        ``after`` links to another head than the last message seen: one that a refusal told.

        Raises:
            EncryptionError: no key to the deal was granted to us, or a reader has no encryption key.
            RefusedError: the router refused it; where it conflicts with a message that came first, read that and decide anew.
            OversizedError: the content is over the limit; send its hash as a reference instead.
            TransportError: no answer; it may still have been accepted, and then shows in ``messages``.
            VerificationError: the receipt is not what it must be.

        """
        return await self._say("CONTINUE", content, content_type, to, references, readers, after)

    async def finish(
        self,
        content: Content = b"",
        *,
        content_type: str | None = None,
        to: Iterable[str] | None = None,
        references: Sequence[Reference] = (),
        readers: Iterable[str] | None = None,
        after: Head | None = None,
    ) -> Accepted:
        """Say the last word, or agree to end where every party must; otherwise as :meth:`send`."""
        return await self._say("FINISH", content, content_type, to, references, readers, after)

    async def disclose(
        self,
        *,
        to: str,
        scope: Scope = "TRANSACTION",
        message: DealMessage | None = None,
        statement: str = "",
    ) -> Accepted:
        """Give a regulator, or whomever else, the key to this deal, to one ``message`` of it, or to its channel's epoch.

        The keys go in a transaction of their own, encrypted to the reader: that there was a disclosure to it is on the record, and
        what it opens is not. Works after the deal has ended too.

        Raises:
            EncryptionError: there is nothing that we could disclose, or the reader has no encryption key.

        """
        return await self._speaker.disclose(
            "MESSAGE" if message is not None else scope, self.id, to=to, statement=statement, message=message
        )

    async def _say(
        self,
        action: Action,
        content: Content,
        content_type: str | None,
        to: Iterable[str] | None,
        references: Sequence[Reference],
        readers: Iterable[str] | None,
        after: Head | None,
    ) -> Accepted:
        speaker = self._speaker
        data, media_type = content_of(content, content_type)
        async with self._turn:  # one message at a time, for each links to the one before
            head = self._view.head if after is None else after
            shown = () if self._seal is None else (showing(self._seal),)
            message = Message(
                transaction_id=self.id,
                pipeline=self.pipeline,
                sequence=head.sequence + 1,
                previous=head.message_id,
                sender=self.own_name,
                recipients=recipients(self.terms.parties, self.own_name, to, self.names),
                sent_at=speaker.now(),
                action=action,
                terms=None,
                content_type=media_type,
                content=data,
                encryption=None,
                references=(*references, *shown),
            )
            return await speaker.submit(speaker.conceal(message, self.parties, readers, self.names))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DealMessage:
        """The next message of another party; raises VerificationError for one that does not verify."""
        self.acknowledge()
        while offer := await self._mailbox.next():
            event = offer.take()
            self._claimed = offer.offset
            self._speaker.claim(offer.offset)
            if isinstance(event, Received):
                return event.message
            if isinstance(event, Unverified):
                raise event.error
            self.acknowledge()
        raise StopAsyncIteration

    def acknowledge(self) -> None:
        """Say that the message taken last has been dealt with; taking the next says so too."""
        if self._claimed is not None:
            self._speaker.acknowledge(self._claimed)
            self._claimed = None

    # What the client does to it.

    def update(self, view: DealView, message: DealMessage | None, seal: Seal | None = None) -> None:
        """Stand where the view stands, with the message that led there; for the client."""
        self._view = view
        self._seal = seal or self._seal
        if message is not None and (not self.messages or self.messages[-1].sequence < message.sequence):
            self.messages.append(message)
        if view.transaction.outcome is not None:
            self._mailbox.close()

    def offer(self, offer: Offer[InboxEvent]) -> None:
        """Let the application take an event of this deal; for the client."""
        self._mailbox.put(offer)

    def close(self, error: Exception | None) -> None:
        """Nothing more will come over this connection; for the client."""
        self._mailbox.close(error)

    def __repr__(self) -> str:
        state = self.outcome or f"waiting on {', '.join(self.waiting_on)}"
        return f"Deal({transaction_text(self.id)}, {self.kind!r}, {state})"


def recipients(
    parties: Sequence[Party], sender: str, to: Iterable[str] | None, known: Mapping[str, str]
) -> tuple[str, ...]:
    """The addresses of the parties named in ``to``, or of all but the sender; raises MalformedError for a stranger.

    ``known`` gives the participants behind sealed addresses, who may be named by either.
    """
    by_name = {party.participant: party.address for party in parties}
    names = [name for name in by_name if name != sender] if to is None else list(to)
    by_name |= {name: text for text, name in known.items() if text in by_name}
    if missing := next((name for name in names if name not in by_name or name == sender), None):
        raise MalformedError(f"{missing} is not another party of this transaction; name its other parties")
    return tuple(by_name[name] for name in names)


def content_of(content: Content, content_type: str | None) -> tuple[bytes, str]:
    """The bytes to send and their media type."""
    if isinstance(content, str):
        return content.encode(), content_type or "text/plain; charset=utf-8"
    if isinstance(content, Mapping):
        try:
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise MalformedError(
                f"the content cannot be written as JSON: {error}; encode it yourself"
            ) from None
        return text.encode(), content_type or "application/json"
    return bytes(content), content_type or "application/octet-stream"
