"""What a participant hears: messages that count, that its own were accepted, and how deals end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from parley.errors import EncryptionError, MalformedError
from parley.reading import Access
from parley.schemas import Action, Message, MessageId

if TYPE_CHECKING:
    from parley.deal import Deal

__all__ = ["Accepted", "DealMessage", "Due", "InboxEvent", "Received", "TimedOut", "Unverified"]


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
    wants_acknowledgement: bool = False
    """Whether its sender asks us to sign for it once we have dealt with it."""

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


class Due(NamedTuple):
    """A party that is to speak, or was when the deadline passed."""

    name: str
    """As the terms name it: a hidden one by its sealed address."""
    participant: str | None
    """Who that is, as far as is known here; ``None`` for a hidden party that has not spoken and that others hid."""
    last_said: DealMessage | None
    """What it said last, as far as was seen here; ``None`` where it has said nothing."""


class TimedOut(NamedTuple):
    """The deadline passed; ``waiting_on`` were due, and ``due`` tells what each of them had said last."""

    deal: Deal
    waiting_on: tuple[str, ...]
    at: int
    due: tuple[Due, ...] = ()


class Unverified(NamedTuple):
    """The inbox held something that does not verify. It changed nothing; ``record`` is evidence against the operator."""

    deal: Deal | None
    error: Exception
    record: bytes


InboxEvent = Received | TimedOut | Unverified
