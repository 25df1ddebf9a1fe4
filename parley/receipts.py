"""Receipts: the operator's signed promise that a message is on the firehose and will be in a block; made and verified here.

One Ed25519 signature covers a whole commit of the router: it is over the RFC 6962 root of the commit's receipts, and each
receipt carries its own path. The leaf is message id, event digest, and ``block_by`` (8 bytes big-endian); the signature is
over DSSE's pre-authentication encoding of the tree head: root, then tree size (8 bytes big-endian).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from parley import merkle
from parley.custody import Signatory
from parley.directory import Directory
from parley.envelope import RECEIPTS_TYPE, pre_authentication_encoding
from parley.errors import ProofError
from parley.firehose import event_digest
from parley.keys import verify
from parley.schemas import Hash, MessageId, Receipt

__all__ = ["PendingReceipt", "ReceiptVerifier", "issue_receipts", "verify_receipt"]

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
