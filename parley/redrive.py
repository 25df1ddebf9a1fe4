"""Redrives: what an operator may put back from the dead letters, and the statement of it that stands on the record; pure.

Rules:

1. A redrive is a transaction of kind :data:`REDRIVE_KIND`, opened by an operator's participant. Its opening holds a
   :class:`~parley.schemas.Redrive`: the letters by number, origin and digest, and why. Its FINISH holds a
   :class:`~parley.schemas.Redriven`: where they stand now. One that timed out was interrupted in between.
2. A letter goes back to the topic and partition that it came from, if that is one of :data:`SOUND`: those whose reader judges
   every record anew, and to which a record that comes later, or twice, does no harm.
3. Key, value and headers are those of the record as it came; one header more says which letter it was.
4. A letter goes back once. Twice, or when it came back, only where the operator says that this is meant.

The statement holds no key and no reason of a service's: an address in a key may be that of a party that is hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from parley.dead_letters import REDRIVEN, DeadLetter, DeadLetters, Header
from parley.errors import MalformedError, RedriveError, WireError
from parley.schemas import Message, Redrive, Redriven, RedriveTarget, decode

__all__ = [
    "MAXIMUM_LETTERS",
    "REDRIVEN_TYPE",
    "REDRIVE_KIND",
    "REDRIVE_TYPE",
    "SOUND",
    "fitting",
    "headers_back",
    "read_redrive",
    "redrive_fault",
    "target_of",
    "told",
    "told_in_words",
]

REDRIVE_KIND: Final = "redrive"
REDRIVE_TYPE: Final = "application/vnd.parley.redrive+avro"
"""Content type of the opening, whose content is a Redrive."""
REDRIVEN_TYPE: Final = "application/vnd.parley.redriven+avro"
"""Content type of the last message, whose content is a Redriven."""
MAXIMUM_LETTERS: Final = 500
"""In one statement, and in one Kafka transaction."""
MAXIMUM_BYTES: Final = 64 * 1024 * 1024
"""Of values, together, where all that wait are put back: they are held in memory."""
_MAXIMUM_WORDS: Final = 1_000

SOUND: Final = {
    "ingest": "it is judged as if it were sent now, by the time of its new place; what was accepted meanwhile is a duplicate",
    "admissions": "it is judged by the directory as it stands now",
    "deliveries": "it is delivered under a new place, after all that was delivered meanwhile",
}
"""The topics that a letter may go back to, and what that means for it. To any other only its own service may write, because
others rely on what stands there and on its order."""


def target_of(number: int, letters: DeadLetters, *, again: bool = False) -> RedriveTarget:
    """A letter as a redrive names it.

    Raises:
        RedriveError: it may not be put back, by rules 2 and 4, or there is none of that number.

    """
    letter = letters.get(number)
    if letter is None:
        raise RedriveError(
            f"there is no dead letter {number}; `parley operator dead-letter list --all` shows those that are kept"
        )
    origin = letter.origin
    if origin is None:
        raise RedriveError(f"dead letter {number} does not say where it came from, so it cannot be put back")
    if origin.topic not in SOUND:
        raise RedriveError(
            f"dead letter {number} came from {origin.topic}, where others rely on every record and its order; only those from"
            f" {', '.join(sorted(SOUND))} can be put back"
        )
    if not again and (fault := _done_before(letter, letters)):
        raise RedriveError(f"{fault}; if the cause is mended and it is meant, say --again")
    return RedriveTarget(
        number, origin.topic, origin.partition, origin.offset, origin.at, letter.digest, letter.error
    )


def fitting(letters: Iterable[DeadLetter]) -> list[int]:
    """The numbers of the first letters, as many as go back at once."""
    found: list[int] = []
    total = 0
    for letter in letters:
        total += letter.size
        if found and (len(found) == MAXIMUM_LETTERS or total > MAXIMUM_BYTES):
            break
        found.append(letter.number)
    return found


def _done_before(letter: DeadLetter, letters: DeadLetters) -> str | None:
    if marks := letters.marks(letter.number):
        last = marks[-1]
        return f"dead letter {letter.number} was put back before, by {last.by} (transaction {last.statement})"
    if (before := letters.before(letter)) is not None:
        return f"dead letter {letter.number} is letter {before}, which was put back and has come here again"
    return None


def headers_back(letter: DeadLetter) -> list[Header]:
    """The headers with which a letter goes back."""
    kept = [header for header in letter.headers if header[0] != REDRIVEN]
    return [*kept, (REDRIVEN, str(letter.number).encode())]


def redrive_fault(redrive: Redrive) -> str | None:
    """What is wrong with a Redrive by itself."""
    reason, targets = redrive.reason, redrive.targets
    if not reason.strip() or not reason.isprintable() or len(reason) > _MAXIMUM_WORDS:
        return f"its reason is not one line of 1 to {_MAXIMUM_WORDS} printable characters"
    if not 0 < len(targets) <= MAXIMUM_LETTERS:
        return f"it names {len(targets)} letters, and may name 1 to {MAXIMUM_LETTERS}"
    if len({target.letter for target in targets}) != len(targets):
        return "it names a letter twice"
    if unsound := sorted({target.topic for target in targets} - SOUND.keys()):
        return f"nothing may be put back to {unsound[0]}"
    return None


def read_redrive(message: Message) -> Redrive | Redriven | None:
    """What a clear message says of a redrive; None for one that is about something else.

    Raises:
        WireError: it claims to and cannot be read.

    """
    if message.encryption is not None or message.content_type not in {REDRIVE_TYPE, REDRIVEN_TYPE}:
        return None
    if message.content_type == REDRIVEN_TYPE:
        return decode(message.content, Redriven)
    redrive = decode(message.content, Redrive)
    if fault := redrive_fault(redrive):
        raise MalformedError(f"a redrive that does not count: {fault}")
    return redrive


def told(message: Message) -> dict[str, object]:
    """A redrive for programs; empty for a message that is about something else."""
    try:
        found = read_redrive(message)
    except WireError as error:
        return {"redrive_fault": str(error)}
    if isinstance(found, Redrive):
        targets = [
            target._asdict() | {"digest": target.digest.hex()}  # bytes, for JSON
            for target in found.targets
        ]
        return {"redrives": targets, "reason": found.reason, "again": found.again}
    return {} if found is None else {"redriven": [placed._asdict() for placed in found.placed]}


def told_in_words(message: Message) -> str | None:
    """A redrive for people; None for a message that is about something else."""
    try:
        found = read_redrive(message)
    except WireError as error:
        return str(error)
    if isinstance(found, Redrive):
        letters = ", ".join(
            f"{each.letter} ({each.topic}/{each.partition} offset {each.offset}, SHA-256 {each.digest.hex()})"
            for each in found.targets
        )
        return f"puts back{' again' if found.again else ''}, because {found.reason}: dead letters {letters}"
    if found is None:
        return None
    if not found.placed:
        return "nothing was put back"
    return "put back: " + ", ".join(f"{each.letter} at offset {each.offset}" for each in found.placed)
