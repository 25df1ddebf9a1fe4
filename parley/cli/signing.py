"""Who signed for a transaction's messages, for ``parley tx show``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import typer

from parley.acknowledgement import acknowledged_in, is_acknowledgement, is_wanted
from parley.cli.output import moment, printable, show_json
from parley.directory import Directory
from parley.errors import VerificationError
from parley.events import Spoken, prove_spoken, read_spoken
from parley.identifiers import transaction_text
from parley.schemas import FirehoseEvent, Message, MessageId, TransactionId
from parley.sealed_address import speaker_of

__all__ = ["Signed", "asks", "mentions", "show_signed", "signed_for"]


class Signed(NamedTuple):
    """One message of the transaction, and who signed for it where and when (ms since the Unix epoch)."""

    sequence: int
    by: str
    legal_name: str | None
    transaction_id: TransactionId
    at: int


def asks(events: Iterable[FirehoseEvent]) -> bool:
    """Whether a message among the events asks to be signed for."""
    return any(is_wanted(spoken.message) for spoken in _spoken(events))


def mentions(event: FirehoseEvent, transaction_id: TransactionId) -> bool:
    """Whether the event is an acknowledgement of a message of this transaction."""
    return any(
        is_acknowledgement(spoken.message)
        and any(each.transaction_id == transaction_id for each in acknowledged_in(spoken.message))
        for spoken in _spoken([event])
    )


def signed_for(
    transaction: Iterable[FirehoseEvent], others: Iterable[FirehoseEvent], directory: Directory | None
) -> Iterator[Signed]:
    """What acknowledgements among ``others`` say of a transaction, as far as they are by its parties.

    With a directory, each one's signature is verified, one that does not verify is left out, and those of hidden parties that
    have spoken are found too.
    """
    said: dict[MessageId, Message] = {}
    parties: set[str] = set()
    for spoken in _spoken(transaction):
        said[spoken.message_id] = spoken.message
        if spoken.message.terms is not None:
            parties |= {party.participant for party in spoken.message.terms.parties}
        if directory is not None:
            parties.add(speaker_of(spoken.message, directory))
    for event in others:
        for opening in _spoken([event]):
            message = opening.message
            if not is_acknowledgement(message) or message.sender not in parties:
                continue
            if directory is not None and not _is_proved(event, opening, directory):
                continue
            entry = None if directory is None else directory.entry(message.sender)
            for acknowledged in acknowledged_in(message):
                about = said.get(acknowledged.message_id)
                if about is not None and about.transaction_id == acknowledged.transaction_id:
                    name = None if entry is None else entry.legal_name
                    yield Signed(about.sequence, message.sender, name, message.transaction_id, event.at)


def show_signed(signed: Signed, *, json: bool) -> None:
    """Print one, for a program or for people."""
    if json:
        show_json(
            {
                "event": "acknowledgement",
                "message_sequence": signed.sequence,
                "by": signed.by,
                "legal_name": signed.legal_name,
                "acknowledgement": transaction_text(signed.transaction_id),
                "at": signed.at,
            }
        )
        return
    who = signed.legal_name or signed.by
    typer.echo(
        f"{moment(signed.at)}  {printable(who, 60)} signed for message {signed.sequence}, "
        f"in transaction {transaction_text(signed.transaction_id)}"
    )


def _spoken(events: Iterable[FirehoseEvent]) -> Iterator[Spoken]:
    for event in events:
        try:
            spoken = read_spoken(event)
        except VerificationError:
            continue
        if spoken is not None:
            yield spoken


def _is_proved(event: FirehoseEvent, spoken: Spoken, directory: Directory) -> bool:
    try:
        prove_spoken(event, spoken, directory)
    except VerificationError:
        return False
    return True
