"""What a firehose event says, verified against the directory; what it means for a transaction is in ``parley.view``."""

from __future__ import annotations

from typing import NamedTuple

from parley.directory import Directory
from parley.envelope import MESSAGE_TYPE, message_id, pre_authentication_encoding
from parley.errors import DirectoryError, VerificationError, WireError
from parley.keys import SignatureClaim, verify
from parley.lifecycle import well_formed
from parley.schemas import Envelope, FirehoseEvent, KeyId, Message, MessageId, decode
from parley.sealed_address import speaker_of

__all__ = ["Spoken", "prove_spoken", "read_spoken", "signature_claims"]


class Spoken(NamedTuple):
    """The message that an event carries, and its id."""

    message: Message
    message_id: MessageId
    envelope: Envelope


def read_spoken(event: FirehoseEvent) -> Spoken | None:
    """The event's message, or ``None`` for a timeout; that its sender signed it is not proved yet.

    Raises:
        VerificationError: what the event carries is no message of its transaction and pipeline.

    """
    if event.envelope is None:
        return None
    try:
        envelope = decode(event.envelope, Envelope)
        message = decode(envelope.payload, Message)
    except WireError as error:
        raise VerificationError(
            f"{_place(event)} carries something else than a message ({error}); keep it as evidence"
        ) from error
    if fault := well_formed(message):
        raise VerificationError(f"{_place(event)}: {fault.detail}; the router had to refuse it")
    if message.transaction_id != event.transaction_id or message.pipeline != event.pipeline:
        raise VerificationError(
            f"{_place(event)} carries a message signed for another transaction or pipeline"
        )
    return Spoken(message, message_id(envelope.payload), envelope)


def signature_claims(
    message: Message, envelope: Envelope, version: int, directory: Directory
) -> list[SignatureClaim]:
    """What must verify for the message to be its sender's, by keys and threshold of a version of the directory.

    A sender who was hidden until it spoke must show whose its sealed address is.

    Raises:
        VerificationError: it is unsigned, by somebody else's key or one not valid then, or by too few keys.
        DirectoryError: the directory has not been read that far.

    """
    if envelope.payload_type != MESSAGE_TYPE or not envelope.signatures:
        raise VerificationError("carries an envelope that is unsigned or not a message's")
    speaker = speaker_of(message, directory)
    covered = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    claims: list[SignatureClaim] = []
    keys: set[KeyId] = set()
    for key, signature in envelope.signatures:
        held = directory.signer(key, version)
        if held is None or held.participant != speaker:
            raise VerificationError(
                f"is signed by key {key.hex()}, which was not {speaker}'s at directory version {version}"
            )
        keys.add(key)
        claims.append(SignatureClaim(held.public_key, covered, signature))
    needed = directory.threshold(speaker, version)
    if len(keys) < needed:
        raise VerificationError(
            f"is signed by {len(keys)} of the {needed} keys that {speaker}'s messages needed then"
        )
    return claims


def prove_spoken(event: FirehoseEvent, spoken: Spoken, directory: Directory) -> None:
    """Demand that the sender signed, with enough keys that were valid at the event's version of the directory.

    Raises:
        VerificationError: a signature does not verify, is not the sender's, or one is missing.

    """
    message, _, envelope = spoken
    try:
        claims = signature_claims(message, envelope, event.directory_version, directory)
    except (VerificationError, DirectoryError) as error:
        raise VerificationError(f"{_place(event)}: {error}") from error
    if not all(verify(*claim) for claim in claims):
        raise VerificationError(f"{_place(event)}: the signature by {message.sender} does not verify")


def _place(event: FirehoseEvent) -> str:
    return f"event {event.sequence} of pipeline {event.pipeline}"
