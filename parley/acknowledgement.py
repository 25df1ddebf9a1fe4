"""Signed acknowledgements of delivery: how one is asked for, what it looks like on the record, and what is known of them; pure.

A message asks by a reference of the relation ``acknowledgement-wanted``, without target. Who has dealt with it opens a
transaction of the kind ``acknowledgement`` with the asker: its opening refers to each message acknowledged, by transaction and
by message id (the SHA-256 of its payload), and the same party finishes it. The opening alone is the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from parley.schemas import Hash, Message, MessageId, Reference, TransactionId

__all__ = [
    "ACKNOWLEDGEMENT_KIND",
    "ACKNOWLEDGEMENT_TYPE",
    "AT_ONCE",
    "WANTED",
    "Acknowledged",
    "Acknowledgement",
    "Acknowledgements",
    "acknowledged_in",
    "is_acknowledgement",
    "is_wanted",
    "references_to",
]

ACKNOWLEDGEMENT_KIND: Final = "acknowledgement"
ACKNOWLEDGEMENT_TYPE: Final = "application/vnd.parley.acknowledgement"
"""Media type of its messages, whose content is empty."""
AT_ONCE: Final = 64
"""How many messages one acknowledgement may refer to."""
WANTED: Final = Reference("acknowledgement-wanted", None, None, None, None)
"""The reference by which a message asks each of its recipients for an acknowledgement."""
REMEMBERED: Final = 65_536
"""Messages whose acknowledgements are remembered."""

_RELATION: Final = "acknowledges"


class Acknowledged(NamedTuple):
    """A message that was acknowledged."""

    transaction_id: TransactionId
    message_id: MessageId


class Acknowledgement(NamedTuple):
    """That a participant signed for a message."""

    by: str
    message: Acknowledged
    transaction_id: TransactionId
    """Of the acknowledgement: `parley tx prove` gives the proof of it."""
    at: int
    """When it was appended; ms since the Unix epoch."""
    event: bytes
    """The encoded FirehoseEvent, signature and all."""


def is_wanted(message: Message) -> bool:
    """Whether a message asks to be acknowledged."""
    return WANTED in message.references


def references_to(messages: Iterable[Acknowledged]) -> tuple[Reference, ...]:
    """How an acknowledgement refers to what it acknowledges."""
    return tuple(
        Reference(_RELATION, transaction_id, Hash(message_id), None, None)
        for transaction_id, message_id in messages
    )


def is_acknowledgement(opening: Message) -> bool:
    """Whether a message opens an acknowledgement."""
    terms = opening.terms
    return (
        terms is not None
        and terms.kind == ACKNOWLEDGEMENT_KIND
        and opening.content_type == ACKNOWLEDGEMENT_TYPE
    )


def acknowledged_in(opening: Message) -> tuple[Acknowledged, ...]:
    """What an acknowledgement's opening acknowledges."""
    return tuple(
        Acknowledged(reference.transaction_id, MessageId(reference.digest))
        for reference in opening.references
        if reference.relation == _RELATION
        and reference.transaction_id is not None
        and reference.digest is not None
    )


class Acknowledgements:
    """Those that a participant has signed or was given, as far back as its inbox goes."""

    def __init__(self) -> None:
        self._of: dict[MessageId, list[Acknowledgement]] = {}

    def add(self, acknowledgements: Iterable[Acknowledgement]) -> None:
        """Remember them; of several by one participant for one message, the first."""
        for each in acknowledgements:
            known = self._of.setdefault(each.message.message_id, [])
            if all(other.by != each.by for other in known):
                known.append(each)
        while len(self._of) > REMEMBERED:
            del self._of[next(iter(self._of))]

    def of(self, message_id: MessageId, transaction_id: TransactionId) -> Sequence[Acknowledgement]:
        """Those of one message of a transaction, in order."""
        return [
            each for each in self._of.get(message_id, ()) if each.message.transaction_id == transaction_id
        ]
