"""A file of what became of which instruction, so that a run that was killed is taken up by the next and settles nothing twice.

JSON, one object a line, flushed to disk before anything follows from it: an instruction's end, and that we are about to say the
last word of a deal, for the record tells us of words that others say and not of our own. The last line of each instruction
counts. A line that a crash cut short is taken out.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from parley.client import Participant
from parley.deal import Deal
from parley.errors import JournalError
from parley.identifiers import transaction_text
from parley.workflows.settlement.negotiation import heard
from parley.workflows.settlement.office import Ending, Office, Practice, Settlement
from parley.workflows.settlement.steps import Word

__all__ = ["Entry", "Journal", "JournalledOffice"]


_BEGINNING: Final = '{"reference": '
"""Of each line."""


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
    """The file, made where there is none; one run has it at a time. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open it and read what it holds. Raises JournalError if it cannot be used, is none, or another run has it."""
        self._path = path
        try:
            self._file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise JournalError(
                f"{path} cannot be used as a journal ({error.strerror}); name another file"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.seek(0)
            text = self._file.read()
            whole = _without_torn_line(text)
            self._entries = {entry.reference: entry for entry in _read(whole, path)}
            if whole != text:
                self._file.truncate(len(whole.encode()))
        except BlockingIOError:
            self.close()
            raise JournalError(f"{path} is another run's, which goes on; wait for its end") from None
        except (OSError, UnicodeDecodeError) as error:
            self.close()
            raise JournalError(f"{path} cannot be used as a journal ({error}); name another file") from None
        except JournalError:
            self.close()
            raise

    def close(self) -> None:
        """Leave the file to others."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def entry(self, reference: str) -> Entry | None:
        """What is known of an instruction."""
        return self._entries.get(reference)

    def note(self, entry: Entry) -> None:
        """Write a line; it is on disk when this returns. Raises JournalError."""
        line = json.dumps(entry._asdict(), ensure_ascii=False)
        try:
            self._file.write(f"\n{line}\n")
            self._file.flush()
            os.fsync(self._file.fileno())
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


def _without_torn_line(text: str) -> str:
    """A journal without a last line of ours that a crash cut short."""
    whole, newline, last = text.rpartition("\n")
    return whole + newline if last and (last[: len(_BEGINNING)] == _BEGINNING[: len(last)]) else text


def _read(text: str, path: Path) -> Iterator[Entry]:
    for number, line in enumerate(filter(None, text.splitlines()), 1):
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
            raise JournalError(
                f"{path}, entry {number} is none of a journal; name another file, or mend it"
            ) from None
