"""Firehose events as people and programs read them; with a directory, signatures are verified and names are the registrar's,
and with a reader what it may read is decrypted.
"""

from __future__ import annotations

from contextlib import suppress

from parley import redrive
from parley.cli.output import moment, printable
from parley.directory import Directory
from parley.erasure import Statement, told, told_in_words
from parley.errors import SettlementError, VerificationError
from parley.events import Spoken, prove_spoken, read_spoken
from parley.heard import DealMessage, Due
from parley.identifiers import is_sealed_address, shown_name, transaction_text
from parley.reading import Access, Reader, Reading
from parley.schemas import FirehoseEvent, Message, PurgedEvent, TransactionRecord
from parley.sealed_address import speaker_of

__all__ = ["ACCESS", "Teller", "due_row", "due_text", "purged_line", "purged_row", "said_of"]

_ISO_20022 = "application/vnd.iso20022.sese."
_VERBS = {"OPEN": "opens", "CONTINUE": "says", "FINISH": "finishes"}
ACCESS: dict[Access, str] = {
    "CLEAR": "",
    "GRANT": "  [private, read by grant]",
    "CHANNEL": "  [private, read as on a channel]",
    "DISCLOSURE": "  [private, read by disclosure]",
    "NONE": "",
}
"""How a content was read, for people."""


class Teller:
    """Tells events one by one."""

    def __init__(
        self, directory: Directory | None, reader: Reader | None = None, *, one_transaction: bool = False
    ) -> None:
        """With ``one_transaction`` all events are of one, in order, and its timeout tells what those due had said last."""
        self._directory = directory
        self._reader = reader
        self._last: dict[str, str] | None = {} if one_transaction else None

    def row(self, event: FirehoseEvent) -> dict[str, object]:
        """The event for a program."""
        row: dict[str, object] = {
            "event": "message" if event.envelope is not None else "timeout",
            "pipeline": event.pipeline,
            "sequence": event.sequence,
            "at": event.at,
            "transaction": transaction_text(event.transaction_id),
        }
        try:
            if spoken := self._spoken(event):
                message = spoken.message
                reading = self._reading(spoken)
                row |= {
                    "message_id": spoken.message_id.hex(),
                    "sender": message.sender,
                    "speaker": self._speaker(message),
                    "legal_name": self._legal_name(self._speaker(message)),
                    "action": message.action,
                    "recipients": list(message.recipients),
                    "message_sequence": message.sequence,
                    "kind": None if message.terms is None else message.terms.kind,
                    "content_type": message.content_type,
                    "encrypted": message.encryption is not None,
                    "access": reading.access,
                    "content": None
                    if reading.content is None
                    else reading.content.decode("utf-8", "replace"),
                }
                row |= redrive.told(message)
                if reading.problem is not None:
                    row["unreadable"] = str(reading.problem)
        except VerificationError as error:
            row["violation"] = str(error)
        if event.ended is not None:
            row |= {
                "outcome": event.ended.outcome,
                "kind": event.ended.kind,
                "waiting_on": list(event.ended.waiting_on),
            }
        return row

    def line(self, event: FirehoseEvent) -> str:
        """The event for people."""
        place = (
            f"{moment(event.at)}  {event.pipeline}/{event.sequence}  {transaction_text(event.transaction_id)}"
        )
        try:
            spoken = self._spoken(event)
        except VerificationError as error:
            return f"{place}  NOT VERIFIED: {printable(str(error))}"
        ended = event.ended
        if spoken is None:
            due = "nobody" if ended is None else ", ".join(map(self._due, ended.waiting_on))
            return f"{place}  timed out, waiting on {printable(due, 400)}"
        message = spoken.message
        who = self._legal_name(self._speaker(message)) or shown_name(message.sender)
        whom = ", ".join(shown_name(to) for to in message.recipients if is_sealed_address(to))
        verb = _VERBS[message.action] + (f" to {whom}" if whom else "")
        reading = self._reading(spoken)
        stated = printable(redrive.told_in_words(message) or "", 2_500)
        if self._last is not None:
            self._last[message.sender] = _said(message.content_type, reading, 60)
        end = "" if ended is None else f"  [{ended.outcome.lower()}]"
        return f"{place}  {printable(who, 60)} {verb}: {stated or _said(message.content_type, reading)}{end}"

    def _due(self, name: str) -> str:
        if self._last is None:
            return shown_name(name)
        last = self._last.get(name)
        return shown_name(name) + (" (has said nothing)" if last is None else f" (last said: {last})")

    def _reading(self, spoken: Spoken) -> Reading:
        if self._reader is not None:
            return self._reader.read(spoken.message, spoken.message_id)
        if spoken.message.encryption is not None:
            return Reading(None, "NONE")
        return Reading(spoken.message.content, "CLEAR")

    def _spoken(self, event: FirehoseEvent) -> Spoken | None:
        spoken = read_spoken(event)
        if spoken is not None and self._directory is not None:
            prove_spoken(event, spoken, self._directory)
        return spoken

    def _speaker(self, message: Message) -> str:
        """Whose the sealed address is that the sender speaks by, where a directory can tell."""
        return message.sender if self._directory is None else speaker_of(message, self._directory)

    def _legal_name(self, participant: str) -> str | None:
        entry = None if self._directory is None else self._directory.entry(participant)
        return None if entry is None else entry.legal_name


def purged_row(instead: PurgedEvent, record: TransactionRecord, statement: Statement) -> dict[str, object]:
    """What is left of a purged event, and why it is gone, for a program."""
    return {
        "event": "purged",
        "pipeline": record.pipeline,
        "sequence": instead.sequence,
        "at": instead.at,
        "transaction": transaction_text(record.transaction_id),
        "digest": instead.digest.hex(),
        "bytes": instead.size,
        **told(statement),
    }


def purged_line(instead: PurgedEvent, record: TransactionRecord, statement: Statement) -> str:
    """The same for people."""
    place = f"{moment(instead.at)}  {record.pipeline}/{instead.sequence}  {transaction_text(record.transaction_id)}"
    return f"{place}  {printable(told_in_words(statement), 2_500)}; digest {instead.digest.hex()}"


def said_of(message: DealMessage, limit: int = 160) -> str:
    """What a message says, for people; at most ``limit`` characters of it."""
    if message.is_readable:
        return _text(message.content_type, message.content, limit) + ACCESS[message.access]
    return f"(encrypted: {printable(str(message.problem))})"


def _said(content_type: str, reading: Reading, limit: int = 160) -> str:
    if reading.content is not None:
        return _text(content_type, reading.content, limit) + ACCESS[reading.access]
    return "(encrypted)" if reading.problem is None else f"(encrypted: {printable(str(reading.problem))})"


def _text(content_type: str, content: bytes, limit: int) -> str:
    """A settlement's document in a sentence, where the extra for it is installed; everything else as it is."""
    if content_type.startswith(_ISO_20022):
        with suppress(SettlementError):
            from parley.workflows.settlement.wording import in_words  # noqa: PLC0415  loads the models

            return printable(in_words(content_type, content), limit)
    return printable(content.decode("utf-8", "replace"), limit)


def due_row(due: Due) -> dict[str, object]:
    """A party that is due, for a program."""
    last = due.last_said
    return {
        "name": due.name,
        "participant": due.participant,
        "last_said": None
        if last is None
        else {
            "sequence": last.sequence,
            "action": last.action,
            "at": last.at,
            "content_type": last.content_type,
            "content": last.text if last.is_readable else None,
        },
    }


def due_text(due: Due) -> str:
    """The same for people."""
    who = due.participant or shown_name(due.name)
    if due.last_said is None:
        return f"{who} (has said nothing)"
    return f"{who} (last said: {said_of(due.last_said, 60)})"
