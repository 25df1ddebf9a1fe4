"""What became of a receipt's promise: the message's proof, evidence that the operator broke it, or that it is too early to say.

Looked for in the log from the first block that covers the event on, in this order:

1. A receipt that contradicts its own event is evidence by itself.
2. The event stands in a block, and the message is proved; if that block was sealed after the promised time, it is evidence too.
3. A record, a cut or an event beside it says otherwise. That is evidence at once, before the promised time as well.
4. The log has a block that was sealed after the promised time: then the event's absence is evidence.
5. Otherwise it is too early. A log that stands still accuses nobody by itself: only the reader's clock and the anchors on
   chains tell for how long it has.

What evidence is, and how a third party judges it, is in ``parley.evidence``. A block that is missing from the store, or does
not verify, is told as an error: without it neither proof nor evidence can be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from parley import merkle
from parley.blocks import Block, BlockStore
from parley.contradiction import (
    Promised,
    cut_fault,
    lists,
    neighbour_fault,
    promised_by,
    record_fault,
)
from parley.errors import ProofError, WireError
from parley.evidence import Judgement, blocks_before, judge_evidence
from parley.lookup import Lookup, Place
from parley.proof import VerifiedMessage, covered_to, make_proof, verify_proof
from parley.receipts import contradiction_in, prove_signer
from parley.recorded import directory_in
from parley.schemas import (
    BareBlock,
    Breach,
    Evidence,
    FirehoseEvent,
    Hash,
    PlacedHeader,
    Receipt,
    SealedRecord,
    decode,
    encode,
    is_a,
)

__all__ = ["Broken", "Claimant", "Kept", "TooEarly", "claim"]

ENCLOSED_BYTES: Final = 32 * 1024 * 1024
"""Leaves that an evidence file holds at most; what is absent from more is judged with the block store."""
ENCLOSED_BLOCKS: Final = 65_536


class Kept(NamedTuple):
    """The message is in a block."""

    proof: bytes
    message: VerifiedMessage


class Broken(NamedTuple):
    """The promise was not kept."""

    evidence: bytes
    judgement: Judgement
    late: Kept | None
    """Where the message is in a block all the same, its proof."""


class TooEarly(NamedTuple):
    """Nothing can be said yet; ask again once the log has a block that was sealed after ``block_by``."""

    block_by: int
    """ms since the Unix epoch."""
    sealed_at: int | None
    """When the log's newest block was sealed; ``None`` where it has none. ms since the Unix epoch."""
    covered: bool
    """Whether the log covers the message's event already, so that its transaction has not ended."""


def claim(store: BlockStore, receipt: Receipt, registrar: bytes | None = None) -> Kept | Broken | TooEarly:
    """Hold one receipt against a log; arguments and errors are those of :class:`Claimant`."""
    return Claimant(store, registrar).claim(receipt)


class _Contradiction(NamedTuple):
    """Where the log says otherwise."""

    breach: Breach
    height: int
    record: SealedRecord | None = None
    neighbour: bytes | None = None


class Claimant:
    """Holds receipts against one log; its directory is read and verified once."""

    def __init__(
        self, store: BlockStore, registrar: bytes | None = None, *, enclosed_bytes: int = ENCLOSED_BYTES
    ) -> None:
        """Read the directory of a log.

        Args:
            store: of the operator's log, at its newest checkpoint.
            registrar: a public key (32 bytes) that the registrar must have; without it, the log vouches for names.
            enclosed_bytes: of leaves that evidence of absence may hold; beyond that it is judged with the store.

        Raises:
            ProofError: the store or its directory does not verify.

        """
        self._store = store
        self._registrar = registrar
        self._enclosed_bytes = enclosed_bytes
        self._lookup = Lookup(store)
        self._sealed = directory_in(store, registrar) if len(store) else None

    def claim(
        self, receipt: Receipt, progress: Callable[[int, int], None] | None = None
    ) -> Kept | Broken | TooEarly:
        """What became of the promise of a receipt, which holds its event (:func:`parley.recorded.receipt_in`).

        ``progress`` is told how many blocks of how many have been looked through.

        Raises:
            ProofError: no operator in the log's directory gave the receipt, or the store does not verify.

        """
        if self._sealed is None:
            return TooEarly(receipt.block_by, None, covered=False)
        newest = self._store.header(len(self._store) - 1)
        prove_signer(receipt, self._sealed.directory)
        if contradiction_in(receipt, self._sealed.directory):
            return self._broken(receipt, _Contradiction("RECEIPT", newest.height))
        promised = promised_by(receipt)
        start = self._first_covering(promised)
        found = self._looked(receipt, promised, start, self._sealed.records, progress)
        if isinstance(found, _Contradiction):
            return self._broken(receipt, found)
        if found is not None:
            return found
        if newest.sealed_at > promised.block_by:
            after = self._first_after(promised.block_by)
            return self._broken(receipt, _Contradiction("ABSENT", after), self._enclosed(after, promised))
        return TooEarly(promised.block_by, newest.sealed_at, start < len(self._store))

    def _looked(
        self,
        receipt: Receipt,
        promised: Promised,
        start: int,
        directory: Sequence[bytes],
        progress: Callable[[int, int], None] | None,
    ) -> Kept | Broken | _Contradiction | None:
        """What the blocks from ``start`` on, which cover the event, say of it, and the cuts around its place."""
        store = self._store
        found = [
            _Contradiction("HISTORY", height)
            for height in range(max(start - 1, 0), min(start + 1, len(store)))
            if cut_fault(store.header(height), promised)
        ]
        for height in range(start, len(store)):
            try:
                block = store.block(height)
            except ProofError:
                if found:
                    break
                raise
            if progress is not None:
                progress(height - start + 1, len(store) - start)
            for place in _places(block, promised, directory):
                return self._kept(receipt, place, block)
            found.extend(_contradictions(block, promised, directory))
            if found and block.header.sealed_at > promised.block_by:
                break
        return found[0] if found else None

    def _kept(self, receipt: Receipt, place: Place, block: Block) -> Kept | Broken:
        proof = make_proof(self._lookup, place, receipt.event)
        kept = Kept(proof, verify_proof(proof, self._store.log_key, self._registrar))
        if block.header.sealed_at <= receipt.block_by:
            return kept
        late = _Contradiction("LATE", place.height, _sealed_record(block, place.leaf_index))
        return self._broken(receipt, late, late=kept)

    def _broken(
        self,
        receipt: Receipt,
        what: _Contradiction,
        blocks: tuple[BareBlock, ...] = (),
        late: Kept | None = None,
    ) -> Broken:
        """The evidence, judged as a third party will."""
        store = self._store
        assert receipt.event is not None
        assert self._sealed is not None
        evidence = encode(
            Evidence(
                what.breach,
                encode(receipt._replace(event=None)),
                receipt.event,
                self._logged(what.height),
                what.record,
                what.neighbour,
                blocks,
                store.note,
                self._logged(self._sealed.height),
                self._sealed.records,
            )
        )
        return Broken(evidence, judge_evidence(evidence, store.log_key, self._registrar, store), late)

    def _logged(self, height: int) -> PlacedHeader:
        path = tuple(map(Hash, self._store.log.inclusion_path(height)))
        return PlacedHeader(self._store.encoded_header(height), path)

    def _enclosed(self, height: int, promised: Promised) -> tuple[BareBlock, ...]:
        """The blocks that the event is absent from, oldest first; none where its block does not cover it, or they are too many."""
        event = promised.event
        if covered_to(self._store.header(height), event.pipeline) < event.sequence:
            return ()
        blocks: list[BareBlock] = []
        size = 0
        for block in blocks_before(self._store, height, promised):
            size += sum(map(len, block.leaves))
            if size > self._enclosed_bytes or len(blocks) == ENCLOSED_BLOCKS:
                return ()
            blocks.append(block)
        return tuple(reversed(blocks))

    def _first_covering(self, promised: Promised) -> int:
        """The first block that covers the event; the log's size where none does."""
        try:
            return self._store.height_of_event(promised.event.pipeline, promised.event.sequence)
        except ProofError:
            return len(self._store)

    def _first_after(self, moment: int) -> int:
        """The first block that was sealed after a moment (ms), the newest one being so."""
        low, high = 0, len(self._store) - 1
        while low < high:
            middle = (low + high) // 2
            if self._store.header(middle).sealed_at > moment:
                high = middle
            else:
                low = middle + 1
        return low


def _places(block: Block, promised: Promised, directory: Sequence[bytes]) -> Iterator[Place]:
    """Where a block holds the event as it should."""
    for leaf_index, sealed in enumerate(block.transactions):
        if lists(sealed.record, promised) and not record_fault(
            block.header, sealed.record, promised, directory
        ):
            digests = [listed.digest for listed in sealed.record.events]
            yield Place(block.header.height, leaf_index, digests.index(promised.digest))


def _contradictions(block: Block, promised: Promised, directory: Sequence[bytes]) -> Iterator[_Contradiction]:
    """What in a block says otherwise."""
    height = block.header.height
    event = promised.event
    beside = (event.sequence - 1, event.sequence + 1)
    for leaf_index, sealed in enumerate(block.transactions):
        if record_fault(block.header, sealed.record, promised, directory):
            yield _Contradiction("RECORD", height, _sealed_record(block, leaf_index))
        if sealed.record.pipeline != event.pipeline:
            continue
        for listed, data in zip(sealed.record.events, sealed.events, strict=True):
            if listed.sequence in beside and is_a(data, FirehoseEvent):
                with suppress(WireError):
                    neighbour = decode(data, FirehoseEvent)
                    if neighbour.sequence == listed.sequence and neighbour_fault(
                        neighbour, listed.digest, promised
                    ):
                        yield _Contradiction("HISTORY", height, _sealed_record(block, leaf_index), data)


def _sealed_record(block: Block, leaf_index: int) -> SealedRecord:
    path = merkle.inclusion_path(block.leaf_hashes(), leaf_index)
    return SealedRecord(block.leaves()[leaf_index], leaf_index, tuple(map(Hash, path)))
