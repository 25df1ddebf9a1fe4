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

from collections.abc import Callable, Iterator
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
from parley.directory import Directory, change_of
from parley.erasure import event_in
from parley.errors import ProofError, RefusedError, WireError
from parley.evidence import Judgement, blocks_before, judge_evidence
from parley.lookup import Lookup, Place
from parley.proof import VerifiedMessage, covered_to, make_proof, verify_proof
from parley.receipts import contradiction_in, prove_signer, read_receipt
from parley.schemas import (
    BareBlock,
    Breach,
    DirectoryEntry,
    DirectoryRecord,
    Evidence,
    FirehoseEvent,
    Hash,
    MessageId,
    PlacedHeader,
    Receipt,
    SealedRecord,
    decode,
    encode,
    is_a,
)

__all__ = [
    "Broken",
    "Kept",
    "TooEarly",
    "claim",
    "directory_in",
    "prove_recorded",
    "prove_resent",
    "receipt_in",
]

ENCLOSED_BYTES: Final = 32 * 1024 * 1024
"""Leaves that an evidence file holds at most; what is absent from more is judged with the block store."""
ENCLOSED_BLOCKS: Final = 65_536

_OVER: Final = frozenset({"UNKNOWN_TRANSACTION", "OPENING_EXPIRED", "CLOSED", "DEADLINE_PASSED"})
"""Why what was sent too late is refused, whether it was sent before or not."""


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


def claim(
    store: BlockStore,
    receipt: Receipt,
    registrar: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    enclosed_bytes: int = ENCLOSED_BYTES,
) -> Kept | Broken | TooEarly:
    """Hold a receipt, with its event, against the log of a block store.

    Args:
        store: of the operator's log, at its newest checkpoint.
        receipt: as :func:`receipt_in` gives it.
        registrar: a public key (32 bytes) that the registrar must have; without it, the log vouches for names.
        progress: is told how many blocks of how many have been looked through.
        enclosed_bytes: of leaves that evidence of absence may hold; beyond that it is judged with the store.

    Raises:
        ProofError: no operator in this log's directory gave the receipt, or the store does not verify.
        DirectoryError: the log's directory breaks a rule, or does not begin with that registrar.

    """
    if not len(store):
        return TooEarly(receipt.block_by, None, covered=False)
    return _Search(store, receipt, registrar, enclosed_bytes).result(progress)


def receipt_in(data: bytes, copy: bytes | None = None, store: BlockStore | None = None) -> Receipt:
    """The receipt in a file, with its event: its own, or from ``copy`` (event, first receipt or proof), or as a store has it.

    Raises:
        ProofError: the file is no receipt, or its event is nowhere among these.

    """
    if copy is not None:
        return read_receipt(data, event_in(copy))
    if store is None or not is_a(data, Receipt) or (receipt := decode(data, Receipt)).event is not None:
        return read_receipt(data)
    lookup = Lookup(store)
    try:
        place = lookup.message(receipt.message_id)
    except ProofError as error:
        raise ProofError(
            f"this receipt is of a message that was sent again and does not hold the event, and {error}; give the first"
            " receipt, or the event besides (--body)"
        ) from error
    return read_receipt(
        data, store.block(place.height).transactions[place.leaf_index].events[place.event_index]
    )


def prove_recorded(store: BlockStore, message_id: MessageId) -> bytes:
    """The proof of a message by its id; raises ProofError where it is in no block, was purged, or the store does not verify."""
    lookup = Lookup(store)
    return make_proof(lookup, lookup.message(message_id))


def prove_resent(refused: RefusedError, store: BlockStore) -> bytes:
    """The proof of a message that was sent again, and refused because it is on the record and its transaction forgotten.

    Raises:
        RefusedError: the refusal is for something else: it stands.
        ProofError: as for :func:`prove_recorded`; the refusal stands where the message is in no block.

    """
    if refused.reason not in _OVER:
        raise refused
    try:
        return prove_recorded(store, refused.rejection.message_id)
    except ProofError as error:
        raise error from refused


def directory_in(store: BlockStore, registrar: bytes | None = None) -> Directory:
    """The directory as far as a store's blocks hold it, from the registrar's pinned key on, or from the one it began with.

    Raises:
        ProofError: the blocks hold none, or do not verify.
        DirectoryError: a record breaks a rule; so it does where the key is not that of the first one.

    """
    records = _records(store)
    directory = Directory(_first_key(records) if registrar is None else registrar)
    for record in records:
        directory.apply(record)
    return directory


def _records(store: BlockStore) -> tuple[bytes, ...]:
    return Lookup(store).directory(store.header(len(store) - 1).directory_version)


def _first_key(records: tuple[bytes, ...]) -> bytes:
    first = change_of(decode(records[0], DirectoryRecord)) if records else None
    if not isinstance(first, DirectoryEntry) or not first.signing_keys:
        raise ProofError(
            "the log's blocks hold no directory that begins with a registrar; name another store"
        )
    return first.signing_keys[0].public_key


class _Contradiction(NamedTuple):
    """Where the log says otherwise."""

    breach: Breach
    height: int
    record: SealedRecord | None = None
    neighbour: bytes | None = None


class _Search:
    """One receipt, one log."""

    def __init__(
        self, store: BlockStore, receipt: Receipt, registrar: bytes | None, enclosed_bytes: int
    ) -> None:
        self._store = store
        self._receipt = receipt
        self._registrar = registrar
        self._enclosed_bytes = enclosed_bytes
        self._lookup = Lookup(store)
        self._newest = store.header(len(store) - 1)
        self._directory = directory_in(store, registrar)
        prove_signer(receipt, self._directory)

    def result(self, progress: Callable[[int, int], None] | None) -> Kept | Broken | TooEarly:
        if contradiction_in(self._receipt, self._directory):
            return self._broken(_Contradiction("RECEIPT", self._newest.height))
        promised = promised_by(self._receipt)
        event = promised.event
        covered = covered_to(self._newest, event.pipeline) >= event.sequence
        start = (
            self._store.height_of_event(event.pipeline, event.sequence) if covered else self._newest.height
        )
        found = [
            _Contradiction("HISTORY", height)
            for height in range(max(start - 1, 0), start + 1)
            if cut_fault(self._store.header(height), promised)
        ]
        for height in range(start, len(self._store)) if covered else ():
            block = self._store.block(height)
            if progress is not None:
                progress(height - start + 1, len(self._store) - start)
            for place in _places(block, promised):
                return self._kept(place, block, promised)
            found.extend(_contradictions(block, promised))
            if found and block.header.sealed_at > promised.block_by:
                break
        if found:
            return self._broken(found[0])
        if self._newest.sealed_at > promised.block_by:
            return self._broken(_Contradiction("ABSENT", self._first_after(promised.block_by)), promised)
        return TooEarly(promised.block_by, self._newest.sealed_at, covered)

    def _kept(self, place: Place, block: Block, promised: Promised) -> Kept | Broken:
        proof = make_proof(self._lookup, place, promised.encoded)
        kept = Kept(proof, verify_proof(proof, self._store.log_key, self._registrar))
        if block.header.sealed_at <= promised.block_by:
            return kept
        late = _Contradiction("LATE", place.height, _sealed_record(block, place.leaf_index))
        return self._broken(late, promised, kept)

    def _broken(
        self, what: _Contradiction, promised: Promised | None = None, late: Kept | None = None
    ) -> Broken:
        """The evidence, judged as a third party will."""
        store, receipt = self._store, self._receipt
        assert receipt.event is not None
        blocks: tuple[BareBlock, ...] = ()
        if what.breach == "ABSENT" and promised is not None:
            blocks = self._enclosed(what.height, promised)
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
                self._logged(self._newest.height),
                self._lookup.directory(self._newest.directory_version),
            )
        )
        judgement = judge_evidence(evidence, store.log_key, self._registrar, store)
        return Broken(evidence, judgement, late)

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


def _places(block: Block, promised: Promised) -> Iterator[Place]:
    """Where a block holds the event as it should."""
    for leaf_index, sealed in enumerate(block.transactions):
        if lists(sealed.record, promised) and not record_fault(block.header, sealed.record, promised):
            digests = [listed.digest for listed in sealed.record.events]
            yield Place(block.header.height, leaf_index, digests.index(promised.digest))


def _contradictions(block: Block, promised: Promised) -> Iterator[_Contradiction]:
    """What in a block says otherwise."""
    height = block.header.height
    event = promised.event
    beside = (event.sequence - 1, event.sequence + 1)
    for leaf_index, sealed in enumerate(block.transactions):
        if record_fault(block.header, sealed.record, promised):
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
