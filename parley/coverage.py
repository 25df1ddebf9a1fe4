"""What blocks cover of a pipeline: claims about its chain, its sealed events, the firehose up to a cut.

Nothing is judged here but whether two statements about the same event agree; rules are the audit's affair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from parley.errors import FirehoseError
from parley.firehose import Follower, event_digest
from parley.schemas import ZERO_HASH, FirehoseEvent, Hash

__all__ = ["ChainClaims", "FollowedFirehose"]


class ChainClaims:
    """What is claimed about one pipeline's chain hashes, and which of its events are sealed."""

    def __init__(self) -> None:
        self.sealed: set[int] = set()
        self.complete = 0
        """Every event before this one is sealed."""
        self._claims: dict[int, tuple[Hash, int]] = {}

    def agree(self, sequence: int, chain: Hash, *, by_event: bool) -> bool:
        """Whether a claim about h(sequence) agrees with those before.

        Two events speak of it, the one at ``sequence`` and the next; once both have, it is settled.
        """
        if sequence < 0:
            return chain == ZERO_HASH
        known, events = self._claims.get(sequence, (chain, 0))
        if events + by_event == 2:
            del self._claims[sequence]
        else:
            self._claims[sequence] = (known, events + by_event)
        return known == chain

    def seal(self, sequence: int) -> bool:
        """Mark an event as sealed; whether it was not before."""
        if sequence < self.complete or sequence in self.sealed:
            return False
        self.sealed.add(sequence)
        while self.complete in self.sealed:
            self.sealed.remove(self.complete)
            self.complete += 1
        return True


class FollowedFirehose:
    """One pipeline of the firehose, followed up to what the blocks cover."""

    def __init__(self, pipeline: int, records: Iterator[bytes]) -> None:
        self.events = 0
        self._pipeline = pipeline
        self._records = records
        self._follower = Follower()
        self._digests: dict[int, Hash] = {}
        self._endings: deque[int] = deque()
        self._judged_by = 0

    def follow_to(self, sequence: int) -> Hash | None:
        """Read up to an event and give h of it; ``None`` if the firehose ends before.

        Raises:
            FirehoseError: events are missing, or contradict each other.
            WireError: a record is no event.

        """
        while (
            position := self._follower.cursor.get(self._pipeline)
        ) is None or position.sequence <= sequence:
            if self._next() is None:
                return None
        return position.chain if position.sequence == sequence + 1 else None

    def overdue(self, before: int) -> list[int]:
        """Read on to the first event at or after a time (ms), and give where transactions ended until then.

        Raises:
            FirehoseError: events are missing, or contradict each other.
            WireError: a record is no event.

        """
        found = []
        while (event := self._next()) is not None and event.at < before:
            if event.ended is not None:
                found.append(event.sequence)
        return found

    def _next(self) -> FirehoseEvent | None:
        record = next(self._records, None)
        if record is None:
            return None
        event = self._follower.follow(record, 0)
        if event is None or event.pipeline != self._pipeline:
            raise FirehoseError(f"an event that is not pipeline {self._pipeline}'s next stands on it")
        if event.directory_version < self._judged_by:
            raise FirehoseError(
                f"event {event.sequence} of pipeline {self._pipeline} was judged by directory version"
                f" {event.directory_version}, an older one than the event before it ({self._judged_by})"
            )
        self._judged_by = event.directory_version
        self.events += 1
        self._digests[event.sequence] = event_digest(record)
        if event.ended is not None:
            self._endings.append(event.sequence)
        return event

    def endings_to(self, sequence: int) -> list[int]:
        """Where transactions ended, from the last call's sequence up to this one."""
        found = []
        while self._endings and self._endings[0] <= sequence:
            found.append(self._endings.popleft())
        return found

    def has(self, sequence: int, digest: Hash) -> bool:
        """Whether this is the event at that sequence; each is asked for once."""
        return self._digests.pop(sequence, None) == digest
