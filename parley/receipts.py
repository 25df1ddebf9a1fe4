"""Receipts: the operator's signed promise that a message is on the firehose and will be in a block; made and verified here.

One Ed25519 signature covers a whole commit of the router: it is over the RFC 6962 root of the commit's receipts, and each
receipt carries its own path. The leaf is message id, event digest, and ``block_by`` (8 bytes big-endian); the signature is
over DSSE's pre-authentication encoding of the tree head: root, then tree size (8 bytes big-endian).

Whether the promise was kept is ``parley.claim``'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from parley import merkle
from parley.custody import Signatory
from parley.directory import Directory, HeldKey
from parley.envelope import RECEIPTS_TYPE, pre_authentication_encoding
from parley.errors import ProofError, VerificationError, WireError
from parley.events import Spoken, read_spoken, signature_claims
from parley.firehose import event_digest
from parley.keys import verify
from parley.schemas import (
    ZERO_HASH,
    DirectoryEntry,
    FirehoseEvent,
    Hash,
    MessageId,
    Receipt,
    decode,
)

__all__ = [
    "PendingReceipt",
    "Promise",
    "ReceiptVerifier",
    "Signer",
    "contradiction_in",
    "issue_receipts",
    "judged_by",
    "prove_promise",
    "prove_signer",
    "read_receipt",
    "verify_receipt",
]

REMEMBERED_HEADS = 64
"""Commits whose signature a verifier remembers."""


class PendingReceipt(NamedTuple):
    """A receipt that waits for its commit's signature."""

    message_id: MessageId
    event_digest: Hash
    event: bytes | None
    block_by: int


def _leaf(message_id: bytes, digest: bytes, block_by: int) -> bytes:
    return merkle.leaf_hash(message_id + digest + block_by.to_bytes(8, "big"))


def _head(root: bytes, size: int) -> bytes:
    return pre_authentication_encoding(RECEIPTS_TYPE, root + size.to_bytes(8, "big"))


def issue_receipts(pending: Sequence[PendingReceipt], key: Signatory) -> list[Receipt]:
    """The receipts of one commit, in order, under one signature."""
    leaves = [_leaf(identity, digest, block_by) for identity, digest, _, block_by in pending]
    paths, root = merkle.paths(leaves)
    size = len(leaves)
    signature = key.sign(_head(root, size))
    return [
        Receipt(identity, digest, event, block_by, position, size, path, key.id, signature)
        for position, ((identity, digest, event, block_by), path) in enumerate(
            zip(pending, paths, strict=True)
        )
    ]


def verify_receipt(receipt: Receipt, router_key: bytes) -> None:
    """Demand that the holder of the router's public key (32 bytes) gave this receipt.

    Raises:
        ProofError: the event, the path or the signature does not fit.

    """
    if not verify(router_key, _covered(receipt), receipt.signature):
        raise ProofError("the receipt's signature is not the router's; keep it and ask the operator")


class ReceiptVerifier:
    """Verifies receipts by the directory; the one signature of a commit is verified once for all its receipts."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._verified: dict[tuple[bytes, bytes, bytes], None] = {}

    def verify(self, receipt: Receipt, version: int | None = None) -> None:
        """Demand that an operator in the directory gave this receipt.

        ``version`` is that of the directory by which the receipt's event was judged; without it the newest one counts.

        Raises:
            ProofError: the event, the path or the signature does not fit, or the key was no operator's then.
            DirectoryError: the directory has not been read that far.

        """
        at = self._directory.version if version is None else version
        signer = self._directory.signer(receipt.key_id, at)
        placed = None if signer is None else self._directory.entry_at(signer.participant, at)
        if signer is None or placed is None or placed.entry.role != "OPERATOR":
            raise ProofError(
                f"the receipt is signed by key {receipt.key_id.hex()}, which is no operator's in the directory at version {at}"
            )
        claim = (signer.public_key, _covered(receipt), receipt.signature)
        if claim in self._verified:
            return
        if not verify(*claim):
            raise ProofError("the receipt's signature is not the router's; keep it and ask the operator")
        self._verified[claim] = None
        if len(self._verified) > REMEMBERED_HEADS:
            del self._verified[next(iter(self._verified))]


def _covered(receipt: Receipt) -> bytes:
    """What the router's signature must cover for this receipt to be in its commit's tree."""
    if receipt.event is not None and event_digest(receipt.event) != receipt.event_digest:
        raise ProofError("the receipt's event is not the one that it promises")
    if len(receipt.path) % merkle.HASH_LENGTH:
        raise ProofError("the receipt's path is not made of whole hashes")
    path = [
        receipt.path[start : start + merkle.HASH_LENGTH]
        for start in range(0, len(receipt.path), merkle.HASH_LENGTH)
    ]
    leaf = _leaf(receipt.message_id, receipt.event_digest, receipt.block_by)
    root = merkle.root_from_inclusion(leaf, receipt.leaf_index, receipt.tree_size, path)
    return _head(root, receipt.tree_size)


# A receipt that was kept.


class Signer(NamedTuple):
    """The operator who gave a receipt, and the key it is signed with."""

    operator: DirectoryEntry
    key: HeldKey


class Promise(NamedTuple):
    """What a receipt promises: that this message stands on the firehose, and in a block by ``receipt.block_by``."""

    receipt: Receipt
    event: FirehoseEvent
    spoken: Spoken
    signer: Signer


def read_receipt(data: bytes, event: bytes | None = None) -> Receipt:
    """The receipt in a file, with its event: its own, or the one given where the receipt is one of a message sent again.

    Raises:
        ProofError: the file is no receipt, or neither event is the one that it promises.

    """
    try:
        receipt = decode(data, Receipt)
    except WireError as error:
        raise ProofError(f"receipt: {error}") from error
    if receipt.event is None:
        if event is None:
            raise ProofError(
                "this receipt is of a message that was sent again and does not hold the event; give the first receipt, or the"
                " event besides (--body)"
            )
        receipt = receipt._replace(event=event)
    _covered(receipt)
    return receipt


def prove_signer(receipt: Receipt, directory: Directory) -> Signer:
    """Demand that an operator in the directory gave a receipt, which holds its event, and give the operator.

    Its key must have been valid when the event was judged, or have come later: who sends a message again is answered with
    the key of that day. Where the directory does not reach so far, the last version there is decides.

    Raises:
        ProofError: the path or the signature does not fit, or the key was no operator's.

    """
    at = min(judged_by(receipt), directory.version)
    held = directory.holder(receipt.key_id)
    if held is not None and held.signs and (held.until is None or held.until > at):
        placed = directory.entry_at(held.participant, max(at, held.since))
        if placed is not None and placed.entry.role == "OPERATOR":
            verify_receipt(receipt, held.public_key)
            return Signer(placed.entry, held)
    raise ProofError(
        f"the receipt is signed by key {receipt.key_id.hex()}, which is no operator's in this directory at version {at}; name"
        " the log, or the profile, of the backbone that gave it"
    )


def contradiction_in(receipt: Receipt, directory: Directory) -> str | None:
    """How a receipt contradicts the event that it holds, if it does; that an operator signed it is proved elsewhere.

    Signatures are judged where the directory reaches as far as the event was judged by.
    """
    try:
        event = decode(receipt.event or b"", FirehoseEvent)
        spoken = read_spoken(event)
        if spoken is None:
            return "it promises a timeout, which carries no message"
        if min(event.pipeline, event.sequence) < 0 or (event.sequence == 0 and event.chain != ZERO_HASH):
            return "the event that it promises stands on no place that there is"
        if spoken.message_id != receipt.message_id:
            return f"the event that it promises carries message {spoken.message_id.hex()}, another one"
        if event.directory_version <= directory.version:
            claims = signature_claims(spoken.message, spoken.envelope, event.directory_version, directory)
            if not all(verify(*claim) for claim in claims):
                return f"the event that it promises holds a signature by {spoken.message.sender} that does not verify"
    except (WireError, VerificationError) as error:
        return f"the event that it promises is none that a router may accept: {error}"
    return None


def prove_promise(receipt: Receipt, directory: Directory) -> Promise:
    """What a receipt that holds its event promises, and who signed that.

    Raises:
        ProofError: no operator signed it, or it contradicts its own event.

    """
    signer = prove_signer(receipt, directory)
    if fault := contradiction_in(receipt, directory):
        raise ProofError(
            f"the receipt is {signer.operator.legal_name}'s, but contradicts itself: {fault}; `parley receipt claim` makes"
            " evidence of that"
        )
    event = decode(receipt.event or b"", FirehoseEvent)
    spoken = read_spoken(event)
    assert spoken is not None
    return Promise(receipt, event, spoken, signer)


def judged_by(receipt: Receipt) -> int:
    """The directory version by which a receipt's event was judged; the first where it names none that there can be."""
    try:
        return max(decode(receipt.event or b"", FirehoseEvent).directory_version, 1)
    except WireError:
        return 1
