"""Proof files: one message with all that shows, offline, who said it, when, and in which transaction and log.

What is proved, in this order; each step is checked and a failure names it:

1. *checkpoint*: the log's signature, and no other line.
2. *block*: the header stands in the log at its height, the transaction record in the block at its index.
3. *transaction*: the record lists the event, by sequence and digest.
4. *message*: the event carries the envelope, and message, event and record agree on transaction, pipeline
   and place.
5. *directory*: the sender's record and the registrar's stand in the log; the sender's was admitted when
   the message was judged, is signed by its own keys, and by the key of the registrar, whose own record is
   the directory's first.
6. *signature*: every signature on the envelope is by a key of that sender.

A proof file holds only what is verified: its encoding is the only one there is for its content, and all
its content is under a hash or a signature; so any changed byte is refused. Anchoring on chains is proved
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from parley import merkle
from parley.blocks import BlockStore, purged
from parley.checkpoint import Checkpoint, open_checkpoint
from parley.envelope import (
    DIRECTORY_ENTRY_TYPE,
    MESSAGE_TYPE,
    message_id,
    signature_claim,
    verify_signatures,
)
from parley.erasure import statement_on, supplied, told_in_words
from parley.errors import ParleyError, ProofError, WireError
from parley.identifiers import transaction_text
from parley.keys import key_id, verify
from parley.lookup import Lookup, Place
from parley.note import VerifierKey, parse_verifier_key
from parley.schemas import (
    BlockHeader,
    DirectoryEntry,
    DirectoryRecord,
    Ending,
    Envelope,
    FirehoseEvent,
    Hash,
    Message,
    MessageId,
    PlacedLeaf,
    Proof,
    PublicKey,
    PurgedEvent,
    TransactionRecord,
    decode,
    encode,
)

__all__ = ["VerifiedMessage", "make_proof", "verify_proof"]


@dataclass(frozen=True, slots=True)
class VerifiedMessage:
    """What a proof proves."""

    message: Message
    message_id: MessageId
    envelope: Envelope
    event: FirehoseEvent
    """The message's place on the firehose: pipeline, sequence, time (ms), directory version."""
    transaction: TransactionRecord
    """How the transaction ended."""
    sender: DirectoryEntry
    """Who said it: legal name, LEI, role, keys."""
    sender_version: int
    """The directory version that admitted the sender."""
    registrar: DirectoryEntry
    """Who attests the sender's name."""
    header: BlockHeader
    """The block that holds the transaction."""
    checkpoint: Checkpoint
    """The log's origin, size and root that the proof stands under."""


def make_proof(lookup: Lookup, place: Place, copy: bytes | None = None) -> bytes:
    """The proof of the message at a place that :class:`~parley.lookup.Lookup` gave.

    Args:
        lookup: finds what else belongs into it.
        place: of the event that carries the message.
        copy: the holder's own copy of that event (``parley.erasure.event_in``), needed where its body was purged.

    Raises:
        PurgedError: the message was purged, and there is no copy.
        ProofError: the event there is a timeout, the copy is of another event, or the store does not verify.

    """
    store = lookup.store
    sealed = store.block(place.height).transactions[place.leaf_index]
    event = sealed.events[place.event_index]
    if (instead := purged(event)) is not None:
        event = supplied(instead, copy, _why(lookup, sealed.record, place.event_index, instead))
    envelope = decode(event, FirehoseEvent).envelope
    if envelope is None:
        raise ProofError(
            f"event {place.event_index} of transaction {transaction_text(sealed.record.transaction_id)} is its"
            " timeout; only messages have proofs: take an earlier event"
        )
    sender = decode(decode(envelope, Envelope).payload, Message).sender
    return encode(
        Proof(
            event,
            _placed(store, place.height, place.leaf_index),
            _placed(store, *lookup.participant(sender)),
            _placed(store, *lookup.directory_version(1)),
            store.note,
        )
    )


def _why(lookup: Lookup, record: TransactionRecord, number: int, instead: PurgedEvent) -> str:
    statement = statement_on(lookup, record.pipeline, instead)
    return f"message {number} of transaction {transaction_text(record.transaction_id)} was {told_in_words(statement)}"


def _placed(store: BlockStore, height: int, index: int) -> PlacedLeaf:
    block = store.block(height)
    return PlacedLeaf(
        block.leaves()[index],
        index,
        tuple(map(Hash, merkle.inclusion_path(block.leaf_hashes(), index))),
        block.encoded_header,
        tuple(map(Hash, store.log.inclusion_path(height))),
    )


def verify_proof(data: bytes, log_key: str | VerifierKey, registrar: bytes | None = None) -> VerifiedMessage:
    """Verify a proof file with nothing but the log's verifier key (C2SP signed-note, or as read).

    Args:
        data: the proof file.
        log_key: whose log it must be.
        registrar: a public key (32 bytes) that the registrar must have; without it, the log vouches for names.

    Raises:
        ProofError: what fails, and at which step. Nothing in the file is to be believed then.
        SigningError: ``log_key`` is no verifier key.

    """
    key = parse_verifier_key(log_key) if isinstance(log_key, str) else log_key
    try:
        proof = decode(data, Proof)
    except WireError as error:
        raise ProofError(f"proof file: {error}") from error
    if encode(proof) != data:
        raise ProofError(
            "proof file: written in another way than the one that its contents have; make it again"
        )
    with _step("checkpoint"):
        checkpoint = open_checkpoint(proof.checkpoint, key, alone=True)
    header, record = _placed_transaction(proof, checkpoint)
    event, index = _listed_event(proof.event, record)
    envelope, message = _carried_message(event, index, record)
    registrar_entry, registrar_key = _registrar(proof.registrar, checkpoint, registrar)
    sender, version = _sender(proof.signer, checkpoint, registrar_key)
    with _step("directory"):
        if not version <= event.directory_version <= header.directory_version:
            raise ProofError(
                f"the sender was admitted by directory version {version}, the message judged by"
                f" {event.directory_version}, and the block covers {header.directory_version}: out of order"
            )
        if sender.participant != message.sender:
            raise ProofError(f"the record is of {sender.participant}, but the message of {message.sender}")
    with _step("signature"):
        _verify_sender(envelope, sender)
    return VerifiedMessage(
        message=message,
        message_id=message_id(envelope.payload),
        envelope=envelope,
        event=event,
        transaction=record,
        sender=sender,
        sender_version=version,
        registrar=registrar_entry,
        header=header,
        checkpoint=checkpoint,
    )


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Name the step in whatever error it ends with."""
    try:
        yield
    except ParleyError as error:
        raise ProofError(f"{name}: {error}") from error


def _placed_header(placed: PlacedLeaf, checkpoint: Checkpoint) -> BlockHeader:
    """The header that a leaf stands under; header in log and leaf in block are proved."""
    header = decode(placed.header, BlockHeader)
    merkle.verify_inclusion(
        merkle.leaf_hash(placed.header), header.height, checkpoint.size, placed.log_path, checkpoint.root
    )
    merkle.verify_inclusion(
        merkle.leaf_hash(placed.leaf),
        placed.leaf_index,
        header.transactions + header.directory_records,
        placed.path,
        header.root,
    )
    return header


def _placed_transaction(proof: Proof, checkpoint: Checkpoint) -> tuple[BlockHeader, TransactionRecord]:
    placed = proof.transaction
    with _step("block"):
        header = _placed_header(placed, checkpoint)
        if placed.leaf_index >= header.transactions:
            raise ProofError(f"leaf {placed.leaf_index} of block {header.height} is not a transaction")
        record = decode(placed.leaf, TransactionRecord)
        cut = next((cut for cut in header.cuts if cut.pipeline == record.pipeline), None)
        if cut is None or not record.events or record.events[-1].sequence > cut.sequence:
            raise ProofError(f"block {header.height} does not cover the end of this transaction")
        return header, record


def _listed_event(encoded: bytes, record: TransactionRecord) -> tuple[FirehoseEvent, int]:
    """The event and its number in the transaction."""
    with _step("transaction"):
        digest = sha256(encoded).digest()
        index = next((i for i, listed in enumerate(record.events) if listed.digest == digest), None)
        if index is None:
            raise ProofError("the transaction record does not list the event; one of the two was changed")
        event = decode(encoded, FirehoseEvent)
        if (event.pipeline, event.transaction_id) != (record.pipeline, record.transaction_id):
            raise ProofError("the event is of another transaction or pipeline than the record that lists it")
        if event.sequence != record.events[index].sequence:
            raise ProofError("the record lists the event at another firehose sequence than the event says")
        last = index == len(record.events) - 1
        if last is (event.ended is None):
            raise ProofError("the last event of a transaction ends it, and no other does")
        if index == 0 and event.at != record.opened_at:
            raise ProofError("the first event and the record disagree on when the transaction opened")
        if event.ended is not None and (
            event.ended
            != Ending(record.outcome, record.kind, record.opened_at, record.waiting_on, record.events[:-1])
            or event.at != record.ended_at
        ):
            raise ProofError("the event that ended the transaction and the record disagree on how")
        return event, index


def _carried_message(event: FirehoseEvent, index: int, record: TransactionRecord) -> tuple[Envelope, Message]:
    with _step("message"):
        if event.envelope is None:
            raise ProofError("the event is a timeout and carries no message")
        envelope = decode(event.envelope, Envelope)
        if envelope.payload_type != MESSAGE_TYPE:
            raise ProofError(f"the payload is of type {envelope.payload_type!r}, which is no message")
        message = decode(envelope.payload, Message)
        if (message.transaction_id, message.pipeline) != (record.transaction_id, record.pipeline):
            raise ProofError("the message is of another transaction or pipeline than its record")
        if message.sequence != index:
            raise ProofError(
                f"the message says number {message.sequence}, but is number {index} on the record"
            )
        if message.terms is not None and message.terms.kind != record.kind:
            raise ProofError("the opening and the record disagree on the kind of transaction")
        return envelope, message


def _entry(placed: PlacedLeaf, checkpoint: Checkpoint) -> tuple[DirectoryRecord, Envelope, DirectoryEntry]:
    """A directory record proved to stand in the log, and the entry it admits."""
    header = _placed_header(placed, checkpoint)
    if placed.leaf_index < header.transactions:
        raise ProofError(f"leaf {placed.leaf_index} of block {header.height} is not a directory record")
    record = decode(placed.leaf, DirectoryRecord)
    if record.version > header.directory_version:
        raise ProofError(f"block {header.height} does not cover directory version {record.version}")
    envelope = decode(record.envelope, Envelope)
    if envelope.payload_type != DIRECTORY_ENTRY_TYPE:
        raise ProofError(f"the payload is of type {envelope.payload_type!r}, which is no directory entry")
    entry = decode(envelope.payload, DirectoryEntry)
    if any(key.key_id != key_id(key.public_key) for key in entry.signing_keys):
        raise ProofError("a signing key is not listed under its own id")
    return record, envelope, entry


def _registrar(
    placed: PlacedLeaf, checkpoint: Checkpoint, pinned: bytes | None
) -> tuple[DirectoryEntry, tuple[PublicKey, ...]]:
    """The registrar's entry and the keys that attest for it: its own, or the pinned one alone."""
    with _step("registrar"):
        record, envelope, entry = _entry(placed, checkpoint)
        if record.version != 1 or entry.role != "REGISTRAR":
            raise ProofError("the record is not the directory's first, or not of a registrar")
        verify_signatures(envelope, entry.signing_keys)
        if pinned is None:
            return entry, entry.signing_keys
        keys = tuple(key for key in entry.signing_keys if key.public_key == pinned)
        if not keys:
            raise ProofError(f"{entry.legal_name} does not have the registrar's key that you trust")
        return entry, keys


def _sender(
    placed: PlacedLeaf, checkpoint: Checkpoint, registrar: tuple[PublicKey, ...]
) -> tuple[DirectoryEntry, int]:
    """The sender's entry and version, signed by its own keys and a key of the registrar's."""
    with _step("directory"):
        record, envelope, entry = _entry(placed, checkpoint)
        signed = {signature.key_id for signature in envelope.signatures}
        attesting = [key for key in registrar if key.key_id in signed]
        if not attesting:
            raise ProofError(f"no key of the registrar attests {entry.legal_name}")
        verify_signatures(envelope, {*entry.signing_keys, *attesting})
        return entry, record.version


def _verify_sender(envelope: Envelope, sender: DirectoryEntry) -> None:
    """Demand at least one signature, and of every one that it is valid and by a key of the sender's."""
    keys = {key.key_id: key.public_key for key in sender.signing_keys}
    if not envelope.signatures:
        raise ProofError("the envelope has no signature")
    for signature in envelope.signatures:
        public = keys.get(signature.key_id)
        if public is None:
            raise ProofError(f"key {signature.key_id.hex()} is not a signing key of {sender.legal_name}")
        if not verify(*signature_claim(envelope, signature, public)):
            raise ProofError(f"the signature by key {signature.key_id.hex()} does not verify")
