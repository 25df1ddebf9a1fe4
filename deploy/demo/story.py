"""One negotiation as its block tells it, line by line, to whoever holds a key and to everybody else, and the anchor it
stands under; reads the block store alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.demo.auditor import Audited, FoundAnchor
from parley.blocks import BlockStore
from parley.errors import ProofError
from parley.events import read_spoken
from parley.identifiers import parse_transaction_id
from parley.lookup import Lookup
from parley.reading import Reader
from parley.schemas import FirehoseEvent, decode
from parley.workflows.settlement.wording import in_words

__all__ = ["Line", "Story", "tell"]


@dataclass(frozen=True, slots=True)
class Line:
    """One message."""

    seconds: float
    """Since the opening, by the broker's clock."""
    speaker: str
    """Legal name."""
    action: str
    text: str | None
    """In words, as the reader decrypts it; ``None`` where it cannot."""
    sender: str
    recipients: tuple[str, ...]
    size: int
    """Of the content as it stands on the record, in bytes."""
    granted: tuple[str, ...]
    """Who is granted a key in this message, as everybody sees."""
    pipeline: int
    sequence: int
    """On the firehose."""


@dataclass(frozen=True, slots=True)
class Story:
    """A transaction from its first word to the chain."""

    transaction: str
    opened_at: int
    """By the broker's clock; ms since the Unix epoch."""
    lines: tuple[Line, ...]
    outcome: str
    height: int
    """Of its block."""
    sealed_after: float
    """Seconds from its end to its block."""
    root: str
    """The block's Merkle root, in hexadecimal."""
    anchor: FoundAnchor | None
    """The first final one that covers the block."""


def tell(
    store: BlockStore, transaction: str, audited: Audited, names: Mapping[str, str], reader: Reader
) -> Story:
    """The story of a transaction as ``reader`` may read it; ``names`` are legal names by participant.

    Raises:
        ProofError: it is not in the store, or the store does not verify.
    """
    place = Lookup(store).transaction(parse_transaction_id(transaction))
    block = store.block(place.height)
    sealed = block.transactions[place.leaf_index]
    events = [decode(event, FirehoseEvent) for event in sealed.events]
    return Story(
        transaction=transaction,
        opened_at=sealed.record.opened_at,
        lines=tuple(_lines(events, names, reader)),
        outcome=sealed.record.outcome,
        height=place.height,
        sealed_after=(block.header.sealed_at - sealed.record.ended_at) / 1_000,
        root=block.header.root.hex(),
        anchor=min(
            (anchor for anchor in audited.anchors if anchor.log_size > place.height),
            key=lambda anchor: anchor.log_size,
            default=None,
        ),
    )


def _lines(events: Sequence[FirehoseEvent], names: Mapping[str, str], reader: Reader) -> list[Line]:
    lines = []
    for event in events:
        spoken = read_spoken(event)
        if spoken is None:
            continue
        message = spoken.message
        grants = () if message.encryption is None else message.encryption.grants
        lines.append(
            Line(
                seconds=(event.at - events[0].at) / 1_000,
                speaker=names.get(message.sender, message.sender),
                action=message.action,
                text=_text(message.content_type, reader.read(message, spoken.message_id).content),
                sender=message.sender,
                recipients=message.recipients,
                size=len(message.content),
                granted=tuple(dict.fromkeys(grant.reader for grant in grants)),
                pipeline=event.pipeline,
                sequence=event.sequence,
            )
        )
    if not lines:
        raise ProofError("the transaction has no message; its block was made by other rules")
    return lines


def _text(content_type: str, content: bytes | None) -> str | None:
    return None if content is None else in_words(content_type, content)
