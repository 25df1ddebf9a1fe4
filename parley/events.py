"""What a firehose event says, verified against the directory; what it means for a transaction is in ``parley.view``."""

from __future__ import annotations

from typing import NamedTuple

from parley.directory import Directory
from parley.envelope import MESSAGE_TYPE, message_id, pre_authentication_encoding
from parley.errors import VerificationError, WireError
from parley.keys import verify
from parley.lifecycle import well_formed
from parley.schemas import Envelope, FirehoseEvent, Message, MessageId, decode

__all__ = ["Spoken", "prove_spoken", "read_spoken"]


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


def prove_spoken(event: FirehoseEvent, spoken: Spoken, directory: Directory) -> None:
    """Demand that the sender signed, with keys in the directory by the event's version of it.

    Raises:
        VerificationError: a signature does not verify, or is not the sender's.

    """
    message, _, envelope = spoken
    if envelope.payload_type != MESSAGE_TYPE or not envelope.signatures:
        raise VerificationError(f"{_place(event)} carries an envelope that is unsigned or not a message's")
    covered = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    for key, signature in envelope.signatures:
        signer = directory.signer(key)
        if signer is None or signer.participant != message.sender or signer.version > event.directory_version:
            raise VerificationError(
                f"{_place(event)}: key {key.hex()} was not {message.sender}'s at directory version {event.directory_version}"
            )
        if not verify(signer.public_key, covered, signature):
            raise VerificationError(f"{_place(event)}: the signature by {message.sender} does not verify")


def _place(event: FirehoseEvent) -> str:
    return f"event {event.sequence} of pipeline {event.pipeline}"
