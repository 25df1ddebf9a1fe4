"""What a block store tells whoever holds a receipt, or sent a message again: the log's directory, a receipt's event, a proof by id.

Whether a receipt's promise was kept is ``parley.claim``'s affair.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parley.blocks import BlockStore
from parley.directory import Directory
from parley.erasure import event_in
from parley.errors import ProofError, RefusedError
from parley.firehose import chain_hash, event_digest
from parley.lookup import Lookup
from parley.proof import make_proof, proved_directory
from parley.receipts import read_receipt
from parley.schemas import ZERO_HASH, Hash, MessageId, Receipt, decode, is_a

__all__ = ["SealedDirectory", "directory_in", "prove_recorded", "prove_resent", "receipt_in"]

_OVER: Final = frozenset({"UNKNOWN_TRANSACTION", "OPENING_EXPIRED", "CLOSED", "DEADLINE_PASSED"})
"""Why what was sent too late is refused, whether it was sent before or not."""


class SealedDirectory(NamedTuple):
    """The directory as a log commits to it."""

    directory: Directory
    records: tuple[bytes, ...]
    """All of it, encoded, from version 1 on."""
    height: int
    """The newest block whose header commits to it."""


def directory_in(store: BlockStore, registrar: bytes | None = None) -> SealedDirectory:
    """The newest directory that a header of the log commits to, from the registrar's pinned key on, or from the one it began with.

    Raises:
        ProofError: there is none, it breaks a rule, or does not begin with that registrar; or a block does not verify.

    """
    records: list[bytes] = []
    chains: list[Hash] = [ZERO_HASH]
    for height in range(len(store)):
        if store.header(height).directory_records:
            for entry in store.block(height).entries:
                records.append(entry.leaf)
                chains.append(chain_hash(chains[-1], event_digest(entry.leaf)))
    for height in range(len(store) - 1, -1, -1):
        header = store.header(height)
        version = header.directory_version
        if 0 < version < len(chains) and chains[version] == header.directory_chain:
            listed = tuple(records[:version])
            return SealedDirectory(proved_directory(listed, header, registrar), listed, height)
    raise ProofError("the log's blocks hold no directory that a header commits to; audit the store")


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
