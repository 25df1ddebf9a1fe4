"""A file of what became of which instruction, so that a run that was killed is taken up by the next and settles nothing twice.

JSON, one object a line, flushed to disk before anything follows from it: an instruction's end, and that we are about to say the
last word of a deal, for the record tells us of words that others say and not of our own. The last line of each instruction
counts. A line that was cut by a crash is left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from parley.client import Participant
from parley.deal import Deal
from parley.errors import JournalError
from parley.identifiers import transaction_text
from parley.workflows.settlement.negotiation import heard
from parley.workflows.settlement.office import Ending, Office, Practice, Settlement
from parley.workflows.settlement.steps import Word

__all__ = ["Entry", "Journal", "JournalledOffice"]


class Entry(NamedTuple):
    """What became of an instruction."""

    reference: str
    """Our own, of the instruction."""
    ending: Ending
    transaction: str
    """The deal's id; empty where none was opened."""
    why: str
    ended: bool
    """False where the last word was about to be said."""


class Journal:
    """The file; it is made where there is none."""

    def __init__(self, path: Path) -> None:
        """Open it and read what it holds. Raises JournalError if it cannot be read or written, or is none."""
        self._path = path
        try:
            with path.open("a+", encoding="utf-8") as file:
                file.seek(0)
                self._entries = {entry.reference: entry for entry in _read(file.read(), path)}
        except (OSError, UnicodeDecodeError) as error:
            raise JournalError(f"{path} cannot be used as a journal ({error}); name another file") from None

    def entry(self, reference: str) -> Entry | None:
        """What is known of an instruction."""
        return self._entries.get(reference)

    def note(self, entry: Entry) -> None:
        """Write a line; it is on disk when this returns."""
        line = json.dumps(entry._asdict(), ensure_ascii=False)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise JournalError(f"{self._path} cannot be written ({error.strerror}); make room") from error
        self._entries[entry.reference] = entry


class JournalledOffice(Office):
    """An office whose ends, and last words, are written down before anything follows from them."""

    def __init__(self, office: Office, journal: Journal) -> None:
        self._office = office
        self._journal = journal

    async def approve(self, settlement: Settlement, word: Word) -> Word | None:
        """As the office; a last word is noted before it is said."""
        approved = await self._office.approve(settlement, word)
        if approved is not None and approved.finishes and settlement.deal is not None:
            after = heard(
                settlement.negotiation, approved.content_type, approved.content, own=True, finishes=True
            )
            self._journal.note(_entry(settlement, Ending(after.phase.value), ended=False))
        return approved

    async def open(self, me: Participant, settlement: Settlement, word: Word, practice: Practice) -> Deal:
        """As the office."""
        return await self._office.open(me, settlement, word, practice)

    def ended(self, settlement: Settlement) -> None:
        """Note it, and pass it on."""
        assert settlement.ending is not None
        self._journal.note(_entry(settlement, settlement.ending, ended=True))
        self._office.ended(settlement)


def _entry(settlement: Settlement, ending: Ending, *, ended: bool) -> Entry:
    deal = settlement.deal
    transaction = "" if deal is None else transaction_text(deal.id)
    return Entry(settlement.ours.transaction_id, ending, transaction, settlement.why, ended)


def _read(text: str, path: Path) -> Iterator[Entry]:
    lines = [line for line in text.splitlines() if line]
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            yield Entry(
                str(row["reference"]),
                Ending(row["ending"]),
                str(row["transaction"]),
                str(row["why"]),
                bool(row["ended"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            if number == len(lines) and not text.endswith("\n"):
                return
            raise JournalError(
                f"{path}, entry {number} is none of a journal; name another file, or mend it"
            ) from None
