"""One negotiation as its block tells it, line by line, and the anchor it stands under; reads the block store alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.demo.auditor import Audited, FoundAnchor
from parley.blocks import BlockStore
from parley.errors import ProofError
from parley.events import read_spoken
from parley.identifiers import parse_transaction_id
from parley.lookup import Lookup
from parley.schemas import FirehoseEvent, Message, decode

__all__ = ["Line", "Story", "tell"]


@dataclass(frozen=True, slots=True)
class Line:
    """One message."""

    seconds: float
    """Since the opening, by the broker's clock."""
    speaker: str
    """Legal name."""
    action: str
    text: str
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


def tell(store: BlockStore, transaction: str, audited: Audited, names: Mapping[str, str]) -> Story:
    """The story of a transaction; ``names`` are legal names by participant.

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
        lines=tuple(_lines(events, names)),
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


def _lines(events: Sequence[FirehoseEvent], names: Mapping[str, str]) -> list[Line]:
    lines = []
    for event in events:
        spoken = read_spoken(event)
        if spoken is None:
            continue
        message = spoken.message
        lines.append(
            Line(
                seconds=(event.at - events[0].at) / 1_000,
                speaker=names.get(message.sender, message.sender),
                action=message.action,
                text=_text(message),
                pipeline=event.pipeline,
                sequence=event.sequence,
            )
        )
    if not lines:
        raise ProofError("the transaction has no message; its block was made by other rules")
    return lines


def _text(message: Message) -> str:
    value: object = json.loads(message.content)
    return str(value.get("text", "")) if isinstance(value, dict) else ""
