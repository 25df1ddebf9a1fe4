"""Evidence that an operator broke the promise of a receipt: two statements that it signed, and why both cannot be true.

One is the receipt, the other a checkpoint of the log. What shows their contradiction, one of five:

- *RECEIPT*: the event that the receipt promises is none that a router may accept, or carries another message.
- *RECORD*: a sealed transaction record says otherwise of the event: another one stands in its place, or its transaction
  stands without it, or with it in a way that no honest one does.
- *HISTORY*: the log commits, beside the event's place, to another chain hash than the event leads to or comes from; by the cut
  of a header, or by the event next to it.
- *LATE*: the event stands in a block, but that was sealed after the promised time.
- *ABSENT*: a block was sealed after the promised time, and the event is in none before: either the block's cut has not even
  reached it, or here are all leaves of all blocks before it whose cuts have.

An honest operator cannot be accused: every one of these breaks a rule that ``parley.audit`` holds blocks to, or the promised
time. The directory by which receipt and message are judged is the one that the log itself commits to, at least up to the version
that the event names; where no block covers that, up to the newest. Judging takes the log's key and no connection; where an absence is too large for a file, it takes the blocks besides.
Finding the evidence is ``parley.claim``'s affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from parley import merkle
from parley.blocks import BlockStore, header_hash
from parley.checkpoint import Checkpoint, open_checkpoint
from parley.contradiction import (
    Promised,
    cut_fault,
    lists,
    neighbour_fault,
    promised_by,
    record_fault,
)
from parley.directory import Directory
from parley.errors import ProofError, WireError
from parley.firehose import event_digest
from parley.keys import key_id
from parley.note import VerifierKey, parse_verifier_key
from parley.proof import covered_to, proved_directory, step
from parley.receipts import Signer, contradiction_in, judged_by, prove_signer, read_receipt
from parley.schemas import (
    BareBlock,
    BlockHeader,
    Breach,
    Evidence,
    FirehoseEvent,
    PlacedHeader,
    Receipt,
    TransactionRecord,
    decode,
    encode,
)

__all__ = ["EVIDENCE_BYTES", "Judgement", "blocks_before", "judge_evidence"]

EVIDENCE_BYTES: Final = 64 * 1024 * 1024
"""An evidence file is at most this large."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What evidence proves: who promised what, and how it was broken."""

    breach: Breach
    detail: str
    """How the promise was broken; completes "the operator promised …, but"."""
    receipt: Receipt
    """With its event."""
    signer: Signer
    """The operator who gave the receipt, by which key."""
    header: BlockHeader
    """The block in which the breach shows."""
    checkpoint: Checkpoint


def judge_evidence(
    data: bytes, log_key: str | VerifierKey, registrar: bytes | None = None, store: BlockStore | None = None
) -> Judgement:
    """Judge an evidence file with nothing but the log's verifier key (C2SP signed-note, or as read).

    Args:
        data: the evidence file.
        log_key: whose log it must be.
        registrar: a public key (32 bytes) that the registrar must have; without it, the log vouches for names.
        store: the log's blocks, from anywhere; needed where the file leaves out what something is absent from.

    Raises:
        ProofError: nothing is proved, and why. The operator is not accused then.
        SigningError: ``log_key`` is no verifier key.

    """
    key = parse_verifier_key(log_key) if isinstance(log_key, str) else log_key
    try:
        evidence = decode(data, Evidence, EVIDENCE_BYTES)
    except WireError as error:
        raise ProofError(f"evidence file: {error}") from error
    if encode(evidence) != data:
        raise ProofError("evidence file: written in another way than the one that its contents have")
    with step("checkpoint"):
        checkpoint = open_checkpoint(evidence.checkpoint, key, alone=True)
    with step("block"):
        header = _logged(evidence.shown_by, checkpoint)
        covering = _logged(evidence.directory_of, checkpoint)
    directory = proved_directory(evidence.directory, covering, registrar)
    with step("receipt"):
        receipt = read_receipt(evidence.receipt, evidence.event)
        if receipt == decode(evidence.receipt, Receipt):
            raise ProofError("it holds its event twice")
        signer = prove_signer(receipt, directory)
        _check_log(key, signer, directory)
        if directory.version < judged_by(receipt) and covering.height != checkpoint.size - 1:
            raise ProofError(
                "the directory here does not reach as far as the event was judged by, and is not the log's newest"
            )
        contradiction = contradiction_in(receipt, directory)
        if contradiction is not None and evidence.breach != "RECEIPT":
            raise ProofError(f"{contradiction}; that is another breach than the file says")
    with step(evidence.breach.lower()):
        _check_parts(evidence)
        detail = contradiction or _broken(evidence, header, promised_by(receipt), store)
        if detail is None:
            raise ProofError(
                "what is here does not contradict the receipt; the operator is accused of nothing"
            )
    return Judgement(evidence.breach, detail, receipt, signer, header, checkpoint)


def _check_log(key: VerifierKey, signer: Signer, directory: Directory) -> None:
    """Demand that the log is not another participant's than the one who gave the receipt, where the directory lists its key."""
    held = directory.holder(key_id(key.public_key))
    if held is not None and held.participant != signer.operator.participant:
        raise ProofError(
            f"it was given by {signer.operator.participant}, and the log is {held.participant}'s; hold it against its own"
            " operator's log"
        )


def _logged(placed: PlacedHeader, checkpoint: Checkpoint) -> BlockHeader:
    """A header that stands in the log at its height."""
    header = decode(placed.header, BlockHeader)
    leaf = merkle.leaf_hash(placed.header)
    merkle.verify_inclusion(leaf, header.height, checkpoint.size, placed.log_path, checkpoint.root)
    return header


def _check_parts(evidence: Evidence) -> None:
    """Demand that the file holds what its breach needs, and nothing else."""
    breach, record, neighbour = evidence.breach, evidence.record, evidence.neighbour
    needs_record = breach in ("RECORD", "LATE") or (breach == "HISTORY" and neighbour is not None)
    if (
        (record is not None) is not needs_record
        or (neighbour is not None and breach != "HISTORY")
        or (evidence.blocks and breach != "ABSENT")
    ):
        raise ProofError("the file does not hold what shows such a breach, or holds more")


def _broken(
    evidence: Evidence, header: BlockHeader, promised: Promised, store: BlockStore | None
) -> str | None:
    """How, by what the file holds besides the receipt."""
    if evidence.breach == "RECEIPT":
        return None
    if evidence.breach == "ABSENT":
        return _absent(evidence, header, promised, store)
    if evidence.record is None:
        return cut_fault(header, promised)
    record = _sealed_record(evidence, header)
    if evidence.breach == "RECORD":
        return record_fault(header, record, promised, evidence.directory)
    if evidence.breach == "LATE":
        if not lists(record, promised) or record_fault(header, record, promised, evidence.directory):
            return None
        return _late(header, promised)
    assert evidence.neighbour is not None
    digest = event_digest(evidence.neighbour)
    neighbour = decode(evidence.neighbour, FirehoseEvent)
    if (neighbour.sequence, digest) not in record.events:
        raise ProofError("the record does not list the event beside it")
    return neighbour_fault(neighbour, digest, promised)


def _sealed_record(evidence: Evidence, header: BlockHeader) -> TransactionRecord:
    sealed = evidence.record
    assert sealed is not None
    leaves = header.transactions + header.directory_records
    merkle.verify_inclusion(
        merkle.leaf_hash(sealed.leaf), sealed.leaf_index, leaves, sealed.path, header.root
    )
    if sealed.leaf_index >= header.transactions:
        raise ProofError(f"leaf {sealed.leaf_index} of block {header.height} is not a transaction")
    return decode(sealed.leaf, TransactionRecord)


def _late(header: BlockHeader, promised: Promised) -> str | None:
    late = header.sealed_at - promised.block_by
    return f"block {header.height}, which holds it, was sealed {late} ms after that" if late > 0 else None


def _absent(
    evidence: Evidence, header: BlockHeader, promised: Promised, store: BlockStore | None
) -> str | None:
    if header.sealed_at <= promised.block_by:
        return None
    event = promised.event
    reached = covered_to(header, event.pipeline)
    if reached < event.sequence:
        if evidence.blocks:
            raise ProofError("the block does not cover the event, so no blocks before it belong here")
        return (
            f"block {header.height}, sealed {header.sealed_at - promised.block_by} ms after that, covers pipeline"
            f" {event.pipeline} up to event {reached}, and the message is event {event.sequence}"
        )
    if evidence.blocks:
        before: Iterator[BareBlock] = reversed(evidence.blocks)
    elif header.height == 0:
        before = iter(())
    elif store is None:
        raise ProofError(
            "the blocks that the message is absent from are too large for the file; give the log's block store besides (--store)"
        )
    else:
        if store.encoded_header(header.height) != evidence.shown_by.header:
            raise ProofError(f"the block store has another block {header.height}; give that of the same log")
        before = blocks_before(store, header.height, promised)
    count = _walk(before, header, promised)
    if count == 0:
        late = header.sealed_at - promised.block_by
        return f"block {header.height}, the first that covers it, was sealed {late} ms after that"
    return f"none of the {count} blocks that cover it and were sealed before block {header.height} holds it"


def blocks_before(store: BlockStore, height: int, promised: Promised) -> Iterator[BareBlock]:
    """The blocks before a height, newest first, down to the first that does not cover the event: of that the header alone."""
    for number in range(height - 1, -1, -1):
        header = store.encoded_header(number)
        if covered_to(store.header(number), promised.event.pipeline) < promised.event.sequence:
            yield BareBlock(header, ())
            return
        yield BareBlock(header, tuple(store.block(number).leaves()))


def _walk(newest_first: Iterator[BareBlock], header: BlockHeader, promised: Promised) -> int:
    """How many blocks before a header cover the event, and do not hold it.

    Raises:
        ProofError: one does, one is missing, or there is more.

    """
    count, later = 0, header
    for encoded, leaves in newest_first:
        if header_hash(encoded) != later.previous:
            raise ProofError(f"what stands here before block {later.height} is not the block before it")
        block = decode(encoded, BlockHeader)
        if covered_to(block, promised.event.pipeline) < promised.event.sequence:
            if leaves or next(newest_first, None) is not None:
                raise ProofError(
                    f"block {block.height} does not cover the event; nothing from before it belongs here"
                )
            return count
        hashes = list(map(merkle.leaf_hash, leaves))
        if len(leaves) != block.transactions + block.directory_records or merkle.root(hashes) != block.root:
            raise ProofError(f"the leaves of block {block.height} are not those that its header commits to")
        for leaf in leaves[: block.transactions]:
            if lists(decode(leaf, TransactionRecord), promised):
                raise ProofError(
                    f"the message is in block {block.height}; the operator is accused of nothing"
                )
        count, later = count + 1, block
    if later.height != 0:
        raise ProofError(f"the blocks before block {later.height} are missing")
    return count
