"""Purge statements: what an operator must put on the record before a body may go from a block store, and how it is told.

Rules:

1. A statement is a Purge in a DSSE envelope of type :data:`PURGE_TYPE`, signed by a participant whom the registrar attests
   as an operator, with keys that were its own when the message that carries it was judged.
2. It is the clear content of the opening of a transaction of kind :data:`ERASURE_KIND`, opened by that participant. It
   counts once that transaction has finished: one that timed out, as where a regulator withheld its FINISH under the finish
   rule ALL, names nothing.
3. It names sealed events by transaction, place and digest, and stands in a later block than they do.
4. Only bodies are purged: not timeouts, which have none, and not erasures, which account for what is missing.

Who rewrites block files is the block builder's affair; whether everything missing is accounted for, the audit's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

from parley.blocks import BlockStore, SealedTransaction, purged
from parley.directory import Directory
from parley.envelope import signature_claim
from parley.errors import (
    ErasureError,
    ParleyError,
    ProofError,
    PurgedError,
    VerificationError,
    WireError,
)
from parley.events import prove_spoken, read_spoken
from parley.identifiers import transaction_text
from parley.keys import verify
from parley.lookup import Lookup
from parley.schemas import (
    BlockHeader,
    Envelope,
    EventReference,
    FirehoseEvent,
    Hash,
    Proof,
    Purge,
    PurgedEvent,
    PurgeTarget,
    Receipt,
    StatementPlace,
    decode,
    decode_any,
)

__all__ = [
    "ERASURE_KIND",
    "PURGE_TYPE",
    "Statement",
    "directory_of",
    "event_in",
    "prove_statement",
    "purge_fault",
    "read_statement",
    "statement_on",
    "supplied",
    "target_of",
    "told",
    "told_in_words",
]

ERASURE_KIND = "erasure"
PURGE_TYPE = "application/vnd.parley.purge+avro"
"""Payload type of the envelope around a Purge, and content type of the message whose content that envelope is."""
MAXIMUM_WORDS = 1_000
"""Characters of a statement's reason, and of who requested it."""

Named = tuple[int, EventReference]
"""An event: pipeline, and its place and digest there."""


class Statement(NamedTuple):
    """A purge statement on the record."""

    purge: Purge
    operator: str
    """The participant who made it."""
    at: int
    """When it was accepted, by the broker's clock; ms since the Unix epoch."""
    place: StatementPlace
    envelope: Envelope
    """The Purge as the operator signed it."""

    def named(self) -> Iterator[Named]:
        """The events whose bodies go."""
        for target in self.purge.targets:
            for reference in target.events:
                yield target.pipeline, reference


def purge_fault(purge: Purge) -> str | None:
    """What is wrong with a Purge by itself."""
    for text, what in ((purge.reason, "reason"), (purge.requested_by, "requested_by")):
        if not text.strip() or not text.isprintable() or len(text) > MAXIMUM_WORDS:
            return f"its {what} is not one line of 1 to {MAXIMUM_WORDS} printable characters"
    places = [
        (target.pipeline, reference.sequence) for target in purge.targets for reference in target.events
    ]
    if not places or not all(target.events for target in purge.targets):
        return "it names no event, or a transaction without one"
    if len(set(places)) != len(places):
        return "it names an event twice"
    return None


def read_statement(sealed: SealedTransaction) -> Statement:
    """The statement that a sealed transaction makes; that an operator signed it is not proved yet.

    Raises:
        ErasureError: the transaction makes none.

    """
    record, of = sealed.record, f"transaction {transaction_text(sealed.record.transaction_id)}"
    if record.kind != ERASURE_KIND:
        raise ErasureError(
            f"{of} is of the kind {record.kind!r}; a purge is stated in one of {ERASURE_KIND!r}"
        )
    if record.outcome != "FINISHED":
        raise ErasureError(f"{of} timed out, so its statement does not count; state the purge again")
    try:
        event = decode(sealed.events[0], FirehoseEvent)
        spoken = read_spoken(event)
        if spoken is None or spoken.message.encryption is not None:
            raise ErasureError(f"{of} does not open with a clear message; a purge is stated for all to read")
        message = spoken.message
        if message.content_type != PURGE_TYPE:
            raise ErasureError(f"{of} opens with {message.content_type!r}, which is no purge statement")
        envelope = decode(message.content, Envelope)
        if envelope.payload_type != PURGE_TYPE:
            raise ErasureError(f"{of} holds an envelope of type {envelope.payload_type!r}, not of a purge")
        purge = decode(envelope.payload, Purge)
    except (VerificationError, WireError) as error:
        raise ErasureError(f"{of} holds no readable purge statement: {error}") from error
    if fault := purge_fault(purge):
        raise ErasureError(f"{of} makes a purge statement, but {fault}; state it again")
    place = StatementPlace(record.transaction_id, record.pipeline, sealed.ending_sequence)
    return Statement(purge, message.sender, event.at, place, envelope)


def prove_statement(sealed: SealedTransaction, directory: Directory) -> Statement:
    """The statement that a sealed transaction makes, if it counts.

    Raises:
        ErasureError: it does not, by rules 1 and 2.

    """
    statement = read_statement(sealed)
    event = decode(sealed.events[0], FirehoseEvent)
    spoken = read_spoken(event)
    assert spoken is not None
    of = f"the purge statement of {statement.operator}"
    try:
        prove_spoken(event, spoken, directory)
    except ParleyError as error:
        raise ErasureError(f"{of} does not count: {error}") from error
    placed = directory.entry_at(statement.operator, event.directory_version)
    if placed is None or placed.entry.role != "OPERATOR":
        raise ErasureError(f"{of} does not count: the directory does not list it as an operator")
    if not statement.envelope.signatures:
        raise ErasureError(f"{of} is not signed; sign it with the operator's key")
    for signature in statement.envelope.signatures:
        signer = directory.signer(signature.key_id, event.directory_version)
        if (
            signer is None
            or signer.participant != statement.operator
            or not verify(*signature_claim(statement.envelope, signature, signer.public_key))
        ):
            raise ErasureError(
                f"{of}: the signature by key {signature.key_id.hex()} is not a valid one of that operator's"
            )
    return statement


def directory_of(store: BlockStore, registrar: bytes) -> Directory:
    """The directory as a store's blocks hold it, judged from the registrar's public key (32 bytes) on.

    Raises:
        ProofError, DirectoryError: a block or record does not verify.

    """
    directory = Directory(registrar)
    for height in range(len(store)):
        header: BlockHeader = store.header(height)
        if header.directory_records:
            for entry in store.block(height).entries:
                directory.apply(entry.leaf)
    return directory


def target_of(sealed: SealedTransaction, messages: tuple[int, ...] = ()) -> PurgeTarget:
    """These messages of a sealed transaction (from 0; all that still have a body where none is given) as a target.

    Raises:
        ErasureError: there is nothing of that to purge.

    """
    record, of = sealed.record, f"transaction {transaction_text(sealed.record.transaction_id)}"
    if record.kind == ERASURE_KIND:
        raise ErasureError(f"{of} is an erasure itself; it accounts for what is missing, and stays")
    said = len(record.events) - (record.outcome == "TIMED_OUT")
    kept = [number for number in range(said) if purged(sealed.events[number]) is None]
    if unknown := sorted(set(messages) - set(range(said))):
        raise ErasureError(f"{of} has messages 0 to {said - 1}, and no message {unknown[0]}")
    if gone := sorted(set(messages) - set(kept)):
        raise ErasureError(f"message {gone[0]} of {of} has been purged already")
    if not kept:
        raise ErasureError(f"{of} has been purged already")
    named = tuple(record.events[number] for number in sorted(set(messages or kept)))
    return PurgeTarget(record.transaction_id, record.pipeline, sealed.ending_sequence, named)


def statement_on(lookup: Lookup, pipeline: int, instead: PurgedEvent) -> Statement:
    """The statement by which an event was purged, as its block store has it; an audit proves it.

    Raises:
        ProofError: the store has no statement there that names the event.

    """
    _, erased_on, ending = instead.statement
    try:
        place = lookup.ending(erased_on, ending)
        statement = read_statement(lookup.store.block(place.height).transactions[place.leaf_index])
    except (ErasureError, ProofError) as error:
        raise ProofError(
            f"event {instead.sequence} of pipeline {pipeline} is gone, and no statement says why: {error}; keep the"
            " store as evidence and audit it"
        ) from error
    if (pipeline, EventReference(instead.sequence, instead.digest)) not in set(statement.named()):
        raise ProofError(
            f"event {instead.sequence} of pipeline {pipeline} is gone, but the statement that it refers to does not"
            " name it; keep the store as evidence and audit it"
        )
    return statement


def told(statement: Statement) -> dict[str, str | int]:
    """Why a body is gone, for programs; ``purged_at`` is in ms since the Unix epoch."""
    return {
        "purged_at": statement.at,
        "purged_by": statement.operator,
        "reason": statement.purge.reason,
        "requested_by": statement.purge.requested_by,
        "statement": transaction_text(statement.place.transaction_id),
    }


def told_in_words(statement: Statement) -> str:
    """Why a body is gone, for people; completes "was …"."""
    moment = datetime.fromtimestamp(statement.at / 1_000, UTC).isoformat(" ", "seconds")
    purge = statement.purge
    return (
        f"purged on {moment} by {statement.operator}, because: {purge.reason} (requested by {purge.requested_by},"
        f" statement {transaction_text(statement.place.transaction_id)})"
    )


def event_in(data: bytes) -> bytes:
    """The encoded firehose event in what a holder may have kept: the event, a receipt with it, or a proof of it.

    Raises:
        ProofError: there is none in it.

    """
    try:
        kept = decode_any(data)
    except WireError as error:
        raise ProofError(f"the copy cannot be read: {error}") from error
    if isinstance(kept, FirehoseEvent):
        return data
    if isinstance(kept, Proof):
        return kept.event
    if isinstance(kept, Receipt) and kept.event is not None:
        return kept.event
    raise ProofError(
        f"the copy is a {type(kept).__name__} without the event; give the event as the inbox had it, the receipt of"
        " its acceptance, or a proof made before"
    )


def supplied(instead: PurgedEvent, copy: bytes | None, why: str) -> bytes:
    """The encoded event that was purged, from a holder's copy.

    Raises:
        PurgedError: there is no copy; ``why`` is part of the message.
        ProofError: the copy is of something else.

    """
    if copy is None:
        raise PurgedError(f"{why}; whoever kept a copy proves it with that copy (--body)")
    event = event_in(copy)
    if Hash(sha256(event).digest()) != instead.digest:
        raise ProofError("the copy is not of the event that was purged: its digest is another")
    return event
