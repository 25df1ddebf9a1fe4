"""Proof files: one message with all that shows, offline, who said it, when, and in which transaction and log.

What is proved, in this order; each step is checked and a failure names it:

1. *checkpoint*: the log's signature, and no other line.
2. *block*: the header stands in the log at its height, the transaction record in the block at its index.
3. *transaction*: the record lists the event, by sequence and digest.
4. *message*: the event carries the envelope, and message, event and record agree on transaction, pipeline
   and place.
5. *directory*: its records, from the first to the last that the block covers, keep every rule of admission
   and lead to the chain hash in the header: none is left out, neither a rotation nor a revocation.
6. *signature*: enough keys signed, each of them the sender's at the directory version by which the message
   was judged, and every signature verifies.

A proof file holds only what is verified: its encoding is the only one there is for its content, and all
its content is under a hash or a signature; so any changed byte is refused. Anchoring on chains is proved
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from parley import merkle
from parley.blocks import BlockStore, purged
from parley.checkpoint import Checkpoint, open_checkpoint
from parley.directory import Directory, PlacedEntry, change_of
from parley.envelope import MESSAGE_TYPE, message_id
from parley.erasure import statement_on, supplied, told_in_words
from parley.errors import ParleyError, ProofError, WireError
from parley.events import signature_claims
from parley.identifiers import transaction_text
from parley.keys import verify
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
    PurgedEvent,
    TransactionRecord,
    decode,
    encode,
)
from parley.sealed_address import speaker_of

__all__ = [
    "VerifiedMessage",
    "carried_message",
    "covered_to",
    "listed_event",
    "make_proof",
    "proved_directory",
    "step",
    "verify_proof",
]


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
    """The directory version that made this entry."""
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
    return encode(
        Proof(
            event,
            _placed(store, place.height, place.leaf_index),
            store.note,
            lookup.directory(store.header(place.height).directory_version),
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
    with step("checkpoint"):
        checkpoint = open_checkpoint(proof.checkpoint, key, alone=True)
    header, record = _placed_transaction(proof, checkpoint)
    event, index = listed_event(proof.event, record)
    envelope, message = carried_message(event, index, record)
    directory = proved_directory(proof.directory, header, registrar)
    with step("directory"):
        if event.directory_version > header.directory_version:
            raise ProofError(
                f"the message was judged by directory version {event.directory_version}, and the block covers"
                f" {header.directory_version}: out of order"
            )
        version, sender = _in_force(directory, speaker_of(message, directory), event.directory_version)
        _, attesting = _in_force(directory, directory.registrar, event.directory_version)
    with step("signature"):
        for claim in signature_claims(message, envelope, event.directory_version, directory):
            if not verify(*claim):
                raise ProofError(f"a signature by {sender.legal_name} does not verify")
    return VerifiedMessage(
        message=message,
        message_id=message_id(envelope.payload),
        envelope=envelope,
        event=event,
        transaction=record,
        sender=sender,
        sender_version=version,
        registrar=attesting,
        header=header,
        checkpoint=checkpoint,
    )


@contextmanager
def step(name: str) -> Iterator[None]:
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


def covered_to(header: BlockHeader, pipeline: int) -> int:
    """The last event of a pipeline that a header covers, by its sequence; -1 where it covers none."""
    return next((cut.sequence for cut in header.cuts if cut.pipeline == pipeline), -1)


def _placed_transaction(proof: Proof, checkpoint: Checkpoint) -> tuple[BlockHeader, TransactionRecord]:
    placed = proof.transaction
    with step("block"):
        header = _placed_header(placed, checkpoint)
        if placed.leaf_index >= header.transactions:
            raise ProofError(f"leaf {placed.leaf_index} of block {header.height} is not a transaction")
        record = decode(placed.leaf, TransactionRecord)
        if not record.events or record.events[-1].sequence > covered_to(header, record.pipeline):
            raise ProofError(f"block {header.height} does not cover the end of this transaction")
        return header, record


def listed_event(encoded: bytes, record: TransactionRecord) -> tuple[FirehoseEvent, int]:
    """The event and its number in the transaction; raises ProofError where the record does not list it as it is."""
    with step("transaction"):
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


def carried_message(event: FirehoseEvent, index: int, record: TransactionRecord) -> tuple[Envelope, Message]:
    """The message of an event that is number ``index`` of a record; raises ProofError where the two disagree."""
    with step("message"):
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


def proved_directory(records: Sequence[bytes], header: BlockHeader, pinned: bytes | None) -> Directory:
    """The directory that the header covers, from the pinned key on, or from the one that it began with; raises ProofError where
    the records do not lead to what the header states, or break a rule of admission.
    """
    with step("directory"):
        if not records:
            raise ProofError(
                "the file holds no directory records, so nothing shows that the key was valid; it is of an earlier format:"
                " make it again"
            )
        first = change_of(decode(records[0], DirectoryRecord))
        if not isinstance(first, DirectoryEntry) or not first.signing_keys:
            raise ProofError("the first record is no entry with a key")
        if pinned is not None and all(key.public_key != pinned for key in first.signing_keys):
            raise ProofError(f"{first.legal_name} does not have the registrar's key that you trust")
        directory = Directory(first.signing_keys[0].public_key if pinned is None else pinned)
        for record in records:
            directory.apply(record)
        if (directory.version, directory.chain) != (header.directory_version, header.directory_chain):
            raise ProofError(
                f"its records lead to version {directory.version}, but not to what block {header.height} states for"
                f" version {header.directory_version}"
            )
        return directory


def _in_force(directory: Directory, participant: str | None, version: int) -> PlacedEntry:
    placed = None if participant is None else directory.entry_at(participant, version)
    if placed is None:
        raise ProofError(f"{participant} was not in the directory at version {version}")
    return placed
