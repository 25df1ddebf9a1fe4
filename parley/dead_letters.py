"""Dead letters as the topic `dead-letter` has them: a record that could not be processed, and its story; pure, knows no Kafka.

A letter has the key, value and headers of the record as it came, and after its headers the story: one header each for the names
below, ``dead-letter.reason`` first. Whatever the record's own headers say, the story is what follows the last of that name, so a
sender cannot write one. A *mark* in the same topic tells that a letter was put back where it came from: a record without a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from parley.schemas import Hash

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "Header",
    "Mark",
    "Origin",
    "StoredRecord",
    "read_record",
    "write_mark",
]

REASON: Final = "dead-letter.reason"
ERROR: Final = "dead-letter.error"
SERVICE: Final = "dead-letter.service"
TOPIC: Final = "dead-letter.topic"
PARTITION: Final = "dead-letter.partition"
OFFSET: Final = "dead-letter.offset"
TIMESTAMP: Final = "dead-letter.timestamp"
DESTINATION: Final = "dead-letter.destination"
STACK: Final = "dead-letter.stack"

REDRIVEN: Final = "redriven"
"""Added to a record that is put back: the number of the letter that it was."""
MARKED: Final = "redrive.letter"
_DIGEST: Final = "redrive.digest"
_STATEMENT: Final = "redrive.statement"
_BY: Final = "redrive.by"

Header = tuple[str, bytes | None]


class StoredRecord(NamedTuple):
    """A record of the topic `dead-letter`, as Kafka gives it."""

    number: int
    """Its offset, by which a letter is named."""
    at: int
    """When it was written; ms since the Unix epoch."""
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


class Origin(NamedTuple):
    """Where a record was when it could not be processed."""

    topic: str
    partition: int
    offset: int
    at: int
    """Its timestamp there; ms since the Unix epoch."""


class DeadLetter(NamedTuple):
    """A record that could not be processed, without its value."""

    number: int
    at: int
    """When it became a dead letter; ms since the Unix epoch."""
    key: bytes | None
    headers: tuple[Header, ...]
    """The record's own, as they came."""
    size: int
    """Of the value, in bytes."""
    digest: Hash
    """SHA-256 of the value."""
    origin: Origin | None
    """None where the letter does not say."""
    service: str
    error: str
    """The kind of error, by which letters are counted."""
    reason: str
    stack: str | None
    destination: str | None
    """The topic that was missing, where that was the reason."""
    claimed: int | None
    """The letter that this record says it was before it was put back; anybody may have written that."""


class Mark(NamedTuple):
    """That a letter was put back."""

    letter: int
    digest: Hash
    statement: str
    """The transaction by which that stands on the record, as text."""
    by: str
    """The operator."""
    at: int
    """When; ms since the Unix epoch."""


def read_record(record: StoredRecord) -> DeadLetter | Mark | None:
    """What a record of the topic is; None for one that is neither, which is of no use to anybody."""
    if record.value is None:
        return _read_mark(record)
    last = max((index for index, (name, _) in enumerate(record.headers) if name == REASON), default=None)
    if last is None:
        return None
    own, story = record.headers[:last], dict(record.headers[last:])

    def text(name: str) -> str | None:
        value = story.get(name)
        return None if value is None else value.decode("utf-8", "replace")

    return DeadLetter(
        record.number,
        record.at,
        record.key,
        own,
        len(record.value),
        Hash(sha256(record.value).digest()),
        _origin(text(TOPIC), text(PARTITION), text(OFFSET), text(TIMESTAMP)),
        text(SERVICE) or "",
        text(ERROR) or (text(REASON) or "").partition(":")[0],
        text(REASON) or "",
        text(STACK),
        text(DESTINATION),
        _number(dict(own).get(REDRIVEN)),
    )


def write_mark(mark: Mark) -> list[Header]:
    """The headers of a mark; its key is the letter's number, and it has no value."""
    return [
        (MARKED, str(mark.letter).encode()),
        (_DIGEST, mark.digest.hex().encode()),
        (_STATEMENT, mark.statement.encode()),
        (_BY, mark.by.encode()),
    ]


def _read_mark(record: StoredRecord) -> Mark | None:
    found = dict(record.headers)
    letter, digest = _number(found.get(MARKED)), (found.get(_DIGEST) or b"").decode("utf-8", "replace")
    try:
        digest_bytes = bytes.fromhex(digest)
    except ValueError:
        return None
    if letter is None or len(digest_bytes) != 32:
        return None
    statement, by = ((found.get(name) or b"").decode("utf-8", "replace") for name in (_STATEMENT, _BY))
    return Mark(letter, Hash(digest_bytes), statement, by, record.at)


def _origin(topic: str | None, *numbers: str | None) -> Origin | None:
    if topic is None or any(number is None or not number.isdecimal() for number in numbers[:2]):
        return None
    partition, offset, at = (int(n) if n is not None and n.isdecimal() else 0 for n in numbers)
    return Origin(topic, partition, offset, at)


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None


class DeadLetters:
    """All dead letters, and which of them were put back."""

    def __init__(self, records: Iterable[StoredRecord]) -> None:
        """Read the topic from its beginning."""
        self._letters: dict[int, DeadLetter] = {}
        self._marks: dict[int, list[Mark]] = {}
        for record in records:
            found = read_record(record)
            if isinstance(found, DeadLetter):
                self._letters[found.number] = found
            elif found is not None:
                self._marks.setdefault(found.letter, []).append(found)

    def __iter__(self) -> Iterator[DeadLetter]:
        """In the order in which they came."""
        return iter(self._letters.values())

    def __getitem__(self, number: int) -> DeadLetter:
        """The letter of this number; KeyError where there is none."""
        return self._letters[number]

    def get(self, number: int) -> DeadLetter | None:
        """The letter of this number."""
        return self._letters.get(number)

    def marks(self, number: int) -> Sequence[Mark]:
        """When a letter was put back, the first first."""
        return self._marks.get(number, ())

    def before(self, letter: DeadLetter) -> int | None:
        """The letter that this record was before it was put back, by an operator's mark; what only the record claims counts not."""
        if letter.claimed is None or letter.claimed >= letter.number:
            return None
        marked = any(mark.digest == letter.digest for mark in self.marks(letter.claimed))
        return letter.claimed if marked else None

    def waiting(self) -> Iterator[DeadLetter]:
        """Those that nobody has put back."""
        return (letter for letter in self if not self.marks(letter.number))
