"""A deal: one transaction in a participant's hands, to speak in and to listen to; how words travel is the client's affair."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Self

from parley.acknowledgement import WANTED, Acknowledgement
from parley.composing import Content, content_of, recipients
from parley.conflict import ATTEMPTS, CATCHING_UP, Resend, may_resend
from parley.course import Course
from parley.errors import ConflictError, RefusedError, VerificationError
from parley.heard import Accepted, DealMessage, Due, InboxEvent, Received, TimedOut, Unverified
from parley.mailbox import Mailbox, Offer
from parley.schemas import (
    Action,
    Head,
    Message,
    Reference,
    Scope,
)
from parley.sealed_address import Seal, showing
from parley.speaker import Speaker
from parley.view import DealView

__all__ = [
    "Accepted",
    "Content",
    "Deal",
    "DealMessage",
    "Due",
    "InboxEvent",
    "Received",
    "TimedOut",
    "Unverified",
]


class Deal(Course):
    """A transaction. ``async for message in deal`` gives what the other parties say, until it ends.

    Taking the next message acknowledges the one before, so a crash in between brings it again.
    """

    __slots__ = ("_claimed", "_mailbox", "_moved", "_speaker", "_turn")

    def __init__(self, speaker: Speaker, view: DealView) -> None:
        super().__init__(speaker.participant, view)
        self._speaker = speaker
        self._mailbox: Mailbox[InboxEvent] = Mailbox()
        self._turn = asyncio.Lock()
        self._moved: asyncio.Event | None = None
        self._claimed: int | None = None

    def acknowledged_by(self, message: DealMessage) -> tuple[Acknowledgement, ...]:
        """Who of the parties has signed for a message of this deal, as far as that was for us; works after its end too."""
        parties = {self.names.get(name, name) for name in self.parties}
        known = self._speaker.acknowledgements(message, self.id)
        return tuple(each for each in known if each.by in parties)

    async def send(
        self,
        content: Content,
        *,
        content_type: str | None = None,
        to: Iterable[str] | None = None,
        references: Sequence[Reference] = (),
        readers: Iterable[str] | None = None,
        after: Head | None = None,
        resend: Resend = "never",
        want_acknowledgement: bool = False,
    ) -> Accepted:
        """Say something to the other parties, or to those named in ``to``; returns once the receipt is in and verified.

        In a private deal it is encrypted for those who read the deal; with ``readers`` in any deal for these and ourselves alone.
        ``after`` links to another head than the last message seen: one that a refusal told.

        With ``want_acknowledgement`` each recipient's client signs for it on the record once its application has dealt with it;
        :meth:`acknowledged_by` tells who did.

        Where another message comes first, ``resend`` says whether this one still stands: ``"unless finished"`` sends it again,
        a few times at most, after what came first, unless that was somebody's FINISH or our own; a function decides by what
        came first. By default nothing is sent again, and what conflicted comes back in the error.

        Raises:
            EncryptionError: no key to the deal was granted to us, or a reader has no encryption key.
            ConflictError: another message came first; it holds both, to decide anew.
            RefusedError: the router refused it.
            ElsewhereError: the deal is another process's of the same consumer.
            OversizedError: the content is over the limit; send its hash as a reference instead.
            TransportError: no answer; it may still have been accepted, and then shows in ``messages``.
            VerificationError: the receipt is not what it must be.

        """
        references = (*references, WANTED) if want_acknowledgement else references
        return await self._say("CONTINUE", content, content_type, to, references, readers, after, resend)

    async def finish(
        self,
        content: Content = b"",
        *,
        content_type: str | None = None,
        to: Iterable[str] | None = None,
        references: Sequence[Reference] = (),
        readers: Iterable[str] | None = None,
        after: Head | None = None,
        resend: Resend = "never",
        want_acknowledgement: bool = False,
    ) -> Accepted:
        """Say the last word, or agree to end where every party must; otherwise as :meth:`send`."""
        references = (*references, WANTED) if want_acknowledgement else references
        return await self._say("FINISH", content, content_type, to, references, readers, after, resend)

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
        resend: Resend,
    ) -> Accepted:
        speaker = self._speaker
        speaker.check_ours(self.pipeline)
        data, media_type = content_of(content, content_type)
        to, readers = _kept(to), _kept(readers)
        async with self._turn:  # one message at a time, for each links to the one before
            attempts = 0
            while True:
                attempts += 1
                head = self._view.head if after is None else after
                message = self._message(head, action, data, media_type, to, references)
                try:
                    return await speaker.submit(speaker.conceal(message, self.parties, readers, self.names))
                except RefusedError as error:
                    if error.head is None or error.reason != "SEQUENCE_CONFLICT":
                        raise
                    is_whole = await self._catch_up(error.head)
                    came_first = tuple(said for said in self.messages if said.sequence > head.sequence)
                    may = is_whole and may_resend(resend, came_first, speaker.participant)
                    if attempts == ATTEMPTS or not may or self.outcome is not None:
                        raise ConflictError(error.rejection, message, came_first, is_whole=is_whole) from None
                    after = None

    def _message(
        self,
        head: Head,
        action: Action,
        content: bytes,
        content_type: str,
        to: Iterable[str] | None,
        references: Sequence[Reference],
    ) -> Message:
        """What would be said after ``head``, in clear."""
        shown = () if self._seal is None else (showing(self._seal),)
        return Message(
            transaction_id=self.id,
            pipeline=self.pipeline,
            sequence=head.sequence + 1,
            previous=head.message_id,
            sender=self.own_name,
            recipients=recipients(self.terms.parties, self.own_name, to, self.names),
            sent_at=self._speaker.now(),
            action=action,
            terms=None,
            content_type=content_type,
            content=content,
            encryption=None,
            references=(*references, *shown),
        )

    async def _catch_up(self, head: Head) -> bool:
        """Wait for the inbox to bring what the router judged by; whether the head it told was seen.

        Raises:
            VerificationError: another message than the head that the router told was delivered in its place.

        """
        try:
            async with asyncio.timeout(CATCHING_UP):
                while self._view.head.sequence < head.sequence and self.outcome is None:
                    self._moved = self._moved or asyncio.Event()
                    await self._moved.wait()
        except TimeoutError:
            return False  # it was said between others, or is late
        if self._view.head.sequence == head.sequence and self._view.head != head:
            raise VerificationError(
                f"the refusal names another message {head.sequence} than the one delivered; keep both as evidence"
            )
        return self._view.head.sequence >= head.sequence

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DealMessage:
        """The next message of another party.

        Raises:
            VerificationError: it does not verify.
            ElsewhereError: the deal went to another process of the same consumer, which takes the next one.

        """
        self.acknowledge()
        while offer := await self._mailbox.next():
            event = offer.take()
            self._claimed = offer.offset
            self._speaker.claim(offer.offset, event)
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
        self._go_on(view, message, seal)
        if self._moved is not None:
            self._moved.set()
            self._moved = None
        if view.transaction.outcome is not None:
            self._mailbox.close()

    def offer(self, offer: Offer[InboxEvent]) -> None:
        """Let the application take an event of this deal; for the client."""
        self._mailbox.put(offer)

    def pause(self, error: Exception | None) -> None:
        """Let nothing be taken until this is called with ``None``; for the client."""
        self._mailbox.pause(error)

    def close(self, error: Exception | None) -> None:
        """Nothing more will come over this connection; for the client."""
        self._mailbox.close(error)


def _kept(names: Iterable[str] | None) -> tuple[str, ...] | None:
    """The names, to be read more than once."""
    return None if names is None else tuple(names)
