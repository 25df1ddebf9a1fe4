"""Following the firehose: chain hashes, gap detection, and the cursor a subscriber resumes from; where records come from is
the transport's affair.

``h(n) = SHA-256(h(n-1) || SHA-256(event n))``, with 32 zero bytes before the first event of a pipeline. Every event carries
h(n-1), so whoever holds one event holds a commitment to all before it.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from parley.errors import CursorError, FirehoseError
from parley.schemas import ZERO_HASH, FirehoseEvent, Hash, decode

__all__ = ["Cursor", "CursorFile", "Follower", "Position", "chain_hash", "event_digest"]


def event_digest(event: bytes) -> Hash:
    """SHA-256 of an encoded event: what transaction records commit to."""
    return Hash(sha256(event).digest())


def chain_hash(previous: Hash, digest: Hash) -> Hash:
    """h(n) from h(n-1) and the digest of event n."""
    return Hash(sha256(previous + digest).digest())


class Position(NamedTuple):
    """Up to where a pipeline has been followed."""

    sequence: int
    """Of the next event."""
    chain: Hash
    """h of the last event followed."""
    offset: int
    """Where the transport finds the next event: an offset of the firehose's partition."""


START = Position(0, ZERO_HASH, 0)

Cursor = dict[int, Position]
"""One position for each pipeline followed."""


class Follower:
    """Checks that events come without gap, change or insertion, and keeps the cursor."""

    def __init__(self, cursor: Cursor | None = None) -> None:
        self.cursor: Cursor = dict(cursor or {})

    def follow(self, record: bytes, offset: int) -> FirehoseEvent | None:
        """Take the next record of a pipeline, read at ``offset``, and give its event; ``None`` if it was followed before.

        Raises:
            FirehoseError: events are missing, or what came before is not what this event commits to, or the event is on no
                place that there is.
            WireError: not a FirehoseEvent.

        """
        event = decode(record, FirehoseEvent)
        if min(event.pipeline, event.sequence) < 0:
            raise FirehoseError(
                f"pipeline {event.pipeline}: event {event.sequence} is below zero; keep it as evidence"
            )
        sequence, chain, _ = self.cursor.get(event.pipeline, START)
        if event.sequence < sequence:
            return None
        if event.sequence > sequence:
            raise FirehoseError(
                f"pipeline {event.pipeline}: events {sequence} to {event.sequence - 1} are missing before this one; "
                "resume from an older cursor or from the blocks"
            )
        if event.chain != chain:
            raise FirehoseError(
                f"pipeline {event.pipeline}: event {sequence} commits to another history than the one followed; keep both as evidence"
            )
        self.cursor[event.pipeline] = Position(
            sequence + 1, chain_hash(chain, event_digest(record)), offset + 1
        )
        return event


class CursorFile:
    """A cursor kept in a file between runs: JSON, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Cursor:
        """The cursor saved last, or an empty one.

        Raises:
            CursorError: the file is not a cursor.

        """
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            return {int(pipeline): _position(row) for pipeline, row in rows.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError) as error:
            raise CursorError(
                f"{self._path} is not a cursor ({error}); move it away to follow from the start"
            ) from error

    def save(self, cursor: Cursor) -> None:
        """Replace the saved cursor; call it only when everything before it has been dealt with.

        Raises:
            CursorError: the file cannot be written.

        """
        rows = {
            str(pipeline): {**at._asdict(), "chain": at.chain.hex()}
            for pipeline, at in sorted(cursor.items())
        }
        draft = self._path.with_name(f"{self._path.name}.new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(rows, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            raise CursorError(
                f"{self._path} cannot be written ({error}); give it a folder that can be"
            ) from error


def _position(row: dict[str, object]) -> Position:
    sequence, chain, offset = row["sequence"], row["chain"], row["offset"]
    if type(sequence) is not int or type(offset) is not int or min(sequence, offset) < 0:
        raise ValueError("a sequence or an offset is not a whole number from 0")
    value = bytes.fromhex(str(chain))
    if len(value) != len(ZERO_HASH):
        raise ValueError("a chain hash has not 32 bytes")
    return Position(sequence, Hash(value), offset)
