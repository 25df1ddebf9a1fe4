"""How far the past of a pipeline may go: what the firehose still has, held against what stands in anchored blocks; pure.

Rules, for deleting the firehose's events before one:

1. Each stands, by place and digest, in a block that verifies and that an anchor on a chain vouches for, as it was or purged.
   So no open transaction loses an event that its block will need.
2. The router has written to its state what each of them changed, so it starts without them.
3. The newest event stays: it tells the sequence to go on with.

What belongs to the same events elsewhere goes with them: their records on ``ingest``, and what ``deliveries`` carries of
them, as far as it has been delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from blockbuilder.errors import TrimError
from parley.firehose import event_digest
from parley.identifiers import transaction_text
from parley.schemas import DeliveryBatch, FirehoseEvent, Hash, Receipt, decode, decode_any

__all__ = ["Bound", "Kept", "bound", "concerns"]


class Kept(NamedTuple):
    """A record of the firehose: where it lies, and its bytes."""

    offset: int
    data: bytes


class Bound(NamedTuple):
    """Up to where a pipeline's past may go."""

    sequence: int
    """The first event that stays."""
    offset: int
    """Where it lies."""
    ingest_offset: int
    """The first record of ``ingest`` that stays; 0 if all do."""
    deleted: int
    """Events that go."""
    reason: str
    """Why not further."""


def bound(
    pipeline: int,
    events: Iterable[Kept],
    sealed: Mapping[int, Hash],
    replayed_from: int,
    wanted: int | None = None,
) -> Bound | None:
    """Up to where a pipeline's past may go, and no further than wanted; ``None`` for an empty firehose.

    Args:
        pipeline: whose.
        events: the firehose from its first record that is kept, read no further than needed.
        sealed: digests by sequence of what stands in anchored blocks.
        replayed_from: the event from which on the router's state may lack changes.
        wanted: the first event that is to stay.

    Raises:
        TrimError: an event differs from the one in its block.
        WireError: a record is no event.

    """
    deleted, last = 0, None
    before: tuple[Kept, FirehoseEvent] | None = None
    for kept in events:
        event = decode(kept.data, FirehoseEvent)
        if before is not None:
            deleted, last = deleted + 1, before[1]
        reason = _needed(pipeline, event, kept.data, sealed, replayed_from, wanted)
        if reason is not None:
            return Bound(event.sequence, kept.offset, _after(last), deleted, reason)
        before = kept, event
    if before is None:
        return None
    kept, event = before
    return Bound(event.sequence, kept.offset, _after(last), deleted, "the newest event stays, to go on from")


def _after(last: FirehoseEvent | None) -> int:
    return 0 if last is None else last.ingest_offset + 1


def _needed(
    pipeline: int,
    event: FirehoseEvent,
    data: bytes,
    sealed: Mapping[int, Hash],
    replayed_from: int,
    wanted: int | None,
) -> str | None:
    """Why an event stays; ``None`` if it may go."""
    sequence = event.sequence
    if wanted is not None and sequence >= wanted:
        return "no more was asked for"
    digest = sealed.get(sequence)
    if digest is None:
        return (
            f"event {sequence} of pipeline {pipeline} stands in no anchored block: transaction"
            f" {transaction_text(event.transaction_id)} is open, or its block is not final on a chain yet"
        )
    if digest != event_digest(data):
        raise TrimError(
            f"event {sequence} of pipeline {pipeline} is not the one in its block; keep both as evidence, and audit"
        )
    if sequence >= replayed_from:
        return (
            f"the router's state may lack what changed from event {replayed_from} of pipeline {pipeline} on; it is"
            " written within the hour"
        )
    return None


def concerns(batch: bytes, pipeline: int, sequence: int) -> bool:
    """Whether a batch of deliveries holds an event of the pipeline from this sequence on; raises WireError."""
    return any(_place(item) >= (pipeline, sequence) for item in decode(batch, DeliveryBatch).items)


def _place(item: bytes) -> tuple[int, int]:
    """Pipeline and sequence of what is delivered; before everything for what is about no event."""
    value = decode_any(item)
    if isinstance(value, Receipt) and value.event is not None:
        value = decode(value.event, FirehoseEvent)
    return (value.pipeline, value.sequence) if isinstance(value, FirehoseEvent) else (-1, -1)
