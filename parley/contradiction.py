"""How what an operator sealed contradicts a receipt that it gave: by a record, a cut, or the event beside it; pure.

Each function tells the contradiction in words that complete "the operator promised …, but", or gives ``None``. An honest operator
seals nothing for which one of them tells any. What else a promise is broken by, and how all of it is shown to others, is in
``parley.evidence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from parley.errors import ProofError
from parley.firehose import chain_hash, event_digest
from parley.proof import carried_message, covered_to, listed_event
from parley.schemas import (
    ZERO_HASH,
    BlockHeader,
    DirectoryRecord,
    FirehoseEvent,
    Hash,
    Receipt,
    TransactionRecord,
    decode,
)

__all__ = ["Promised", "cut_fault", "lists", "neighbour_fault", "promised_by", "record_fault"]


class Promised(NamedTuple):
    """The event that a receipt promises."""

    event: FirehoseEvent
    encoded: bytes
    digest: Hash
    block_by: int

    @property
    def chain(self) -> Hash:
        """h(n) for the event at n."""
        return chain_hash(self.event.chain, self.digest)


def promised_by(receipt: Receipt) -> Promised:
    """The event of a receipt that holds it; raises WireError where that is none."""
    assert receipt.event is not None
    event = decode(receipt.event, FirehoseEvent)
    return Promised(event, receipt.event, receipt.event_digest, receipt.block_by)


def lists(record: TransactionRecord, promised: Promised) -> bool:
    """Whether a record lists the event, wherever."""
    return any(listed.digest == promised.digest for listed in record.events)


def record_fault(
    header: BlockHeader, record: TransactionRecord, promised: Promised, directory: Sequence[bytes]
) -> str | None:
    """How a record in the header's block contradicts the receipt; ``None`` where it lists the event well, or has nothing to do
    with it. ``directory`` are the encoded records, from the first on, that another header of the log commits to.
    """
    event = promised.event
    where = f"in block {header.height}"
    if lists(record, promised):
        try:
            _, index = listed_event(promised.encoded, record)
            carried_message(event, index, record)
        except ProofError as error:
            return f"{where} its transaction stands in a way that does not prove it ({error})"
        if covered_to(header, record.pipeline) < record.events[-1].sequence:
            return f"block {header.height} holds its transaction, and does not cover the end of it"
        if header.directory_version < event.directory_version:
            return f"block {header.height} holds it, and not the directory by which it was judged"
        if header.directory_version <= len(directory) and header.directory_chain != _chain_of(
            directory[: header.directory_version]
        ):
            return f"block {header.height} holds it, and commits to another directory than the log's"
        return None
    if record.pipeline != event.pipeline or not record.events:
        return None
    if any(listed.sequence == event.sequence for listed in record.events):
        return f"{where} another event stands at place {event.sequence} of pipeline {event.pipeline}"
    first, last = record.events[0].sequence, record.events[-1].sequence
    if record.transaction_id == event.transaction_id and first < event.sequence < last:
        return f"{where} its transaction, from event {first} to event {last}, stands without it"
    return None


def _chain_of(directory: Sequence[bytes]) -> Hash:
    """The chain hash that directory records lead to."""
    if not directory:
        return ZERO_HASH
    return chain_hash(decode(directory[-1], DirectoryRecord).chain, event_digest(directory[-1]))


def cut_fault(header: BlockHeader, promised: Promised) -> str | None:
    """How a header's cut at the event, or just before it, contradicts the receipt."""
    event = promised.event
    for cut in header.cuts:
        if cut.pipeline == event.pipeline:
            if cut.sequence == event.sequence and cut.chain != promised.chain:
                return _other_history(f"the cut of block {header.height}", event.sequence)
            if cut.sequence == event.sequence - 1 and cut.chain != event.chain:
                return _other_history(f"the cut of block {header.height}", event.sequence - 1)
    return None


def neighbour_fault(neighbour: FirehoseEvent, digest: Hash, promised: Promised) -> str | None:
    """How the event before or after, of this digest, contradicts the receipt by the chain hash that it carries or leads to."""
    event = promised.event
    if neighbour.pipeline != event.pipeline:
        return None
    teller = f"event {neighbour.sequence} of pipeline {event.pipeline}"
    if neighbour.sequence == event.sequence + 1 and neighbour.chain != promised.chain:
        return _other_history(teller, event.sequence)
    if neighbour.sequence == event.sequence - 1 and chain_hash(neighbour.chain, digest) != event.chain:
        return _other_history(teller, event.sequence - 1)
    return None


def _other_history(teller: str, sequence: int) -> str:
    return f"{teller} commits to another history up to event {sequence}"
