"""One pipeline's part of an inbox as one process follows it: drops repeats, and finds the position that may be saved; pure.

An inbox is written at least once: after a crash the delivery stage writes some records again. Each carries where the
delivery stage read it (`Delivery`), which only grows within a pipeline, so one number tells repeats. That number is saved
as a note together with the position, in one write.

The position saved is that of the first record the application has not dealt with; the note also lists those after it that it
has, up to a bound beyond which they come again. What nobody has taken is kept here also where the share is another
process's, so that nothing is missing when it becomes ours.

A note is the number, and where there is such a list a semicolon and the distances from the position on: ``17;2.1.4``.
"""

from __future__ import annotations

from enum import Enum, auto
from itertools import pairwise
from typing import Final, Generic, NamedTuple, TypeVar

from parley.errors import TransportError
from parley.mailbox import Offer
from parley.transport import InboxRecord, Standing

__all__ = ["LISTED", "Arrival", "Share"]

LISTED: Final = 400
"""Records dealt with after the position that a note lists; the broker takes notes of 4 KiB."""

T = TypeVar("T")


class Arrival(Enum):
    """What a record is to the one who reads it."""

    NEW = auto()
    REPLAYED = auto()
    """Taken before, by us or another process: it counts for the state, and is not offered again."""
    REPEATED = auto()
    """Written twice; this is the second."""


class _Kept(NamedTuple, Generic[T]):
    offer: Offer[T]
    before: int
    """The place that the record before this one had."""


class Share(Generic[T]):
    """Follows one pipeline's records of one inbox from the first that is kept."""

    __slots__ = ("_before", "_carried", "_done", "_end", "_kept", "_place", "_position", "_saved", "is_ours")

    def __init__(self, standing: Standing) -> None:
        """Begin with what was saved.

        Raises:
            TransportError: its note cannot be read.

        """
        self._position = standing.position
        self._saved = standing
        # Until its position is reached, the saved number is kept apart: the replay must not drop by it.
        self._carried, self._done = _read_note(standing)
        self._place = self._before = -1
        self._end = 0
        self._kept: dict[int, _Kept[T]] = {}
        self.is_ours = False
        """Whether it is for this process to take what is in it."""

    def arrived(self, record: InboxRecord) -> Arrival:
        """Take note of the next record; a NEW one counts as taken unless :meth:`offered` follows."""
        offset, delivery, _ = record
        if offset >= self._position:
            self._place = max(self._place, self._carried)
        self._end = offset + 1
        self._before = self._place
        if delivery is not None:
            if delivery.offset <= self._place:
                return Arrival.REPEATED
            self._place = delivery.offset
        is_done = offset < self._position or offset in self._done
        return Arrival.REPLAYED if is_done else Arrival.NEW

    def offered(self, offer: Offer[T]) -> None:
        """The record that arrived last waits to be taken."""
        self._kept[offer.offset] = _Kept(offer, self._before)

    def taken(self, offset: int) -> None:
        """The application has dealt with the record at ``offset``."""
        if self._kept.pop(offset, None) is not None:
            self._done.add(offset)

    def moved(self, standing: Standing) -> None:
        """Another process has come so far; what it has dealt with is kept no longer."""
        if standing == self._saved or standing.position < self._position:
            return
        place, done = _read_note(standing)
        self._saved = standing
        self._position = standing.position
        self._carried = max(self._carried, place)
        self._done = {offset for offset in self._done | done if offset >= self._position}
        for offset in [offset for offset in self._kept if offset < self._position or offset in done]:
            del self._kept[offset]

    def gained(self, standing: Standing) -> None:
        """It is ours from now on, from where it stands."""
        self.moved(standing)
        self._saved = (
            standing  # what we had dealt with and not saved before it went away from us is to be saved now
        )
        self.is_ours = True

    def __contains__(self, offset: int) -> bool:
        """Whether what came at ``offset`` is still to be dealt with."""
        return offset in self._kept

    def waiting(self) -> list[Offer[T]]:
        """What can be taken, in order."""
        return [kept.offer for kept in self._kept.values() if kept.offer.is_open]

    @property
    def is_in_hand(self) -> bool:
        """Whether the application has taken something that it has not dealt with."""
        return any(not kept.offer.is_open for kept in self._kept.values())

    def withdraw(self) -> None:
        """Let nothing more be taken of what was offered; it can be offered anew."""
        for offset, (offer, before) in self._kept.items():
            if offer.is_open:
                self._kept[offset] = _Kept(offer.renewed(), before)

    def advance(self) -> Standing | None:
        """What may be saved now, if that is more than before."""
        first = next(iter(self._kept), None)
        self._position = max(self._position, self._end if first is None else first)
        self._done = {offset for offset in self._done if offset >= self._position}
        place = self._place if first is None else self._kept[first].before
        standing = Standing(
            self._position, _write_note(self._position, max(place, self._carried), self._done)
        )
        if standing == self._saved:
            return None
        self._saved = standing
        return standing


def _write_note(position: int, place: int, done: set[int]) -> str:
    number = "" if place < 0 else str(place)
    if not done:
        return number
    listed = [position, *sorted(done)[:LISTED]]
    return number + ";" + ".".join(str(after - before) for before, after in pairwise(listed))


def _read_note(standing: Standing) -> tuple[int, set[int]]:
    """The place of the record before the position, or -1, and what was dealt with after it."""
    number, mark, distances = standing.note.partition(";")
    done, offset = set[int](), standing.position
    for distance in distances.split(".") if mark else ():
        offset += _digits(distance, standing)
        done.add(offset)
    return (_digits(number, standing) if number else -1), done


def _digits(text: str, standing: Standing) -> int:
    if not (text.isascii() and text.isdigit()):
        raise TransportError(
            f"the note saved with the inbox's position is not ours ({standing.note[:80]!r}); reset the group's offsets"
        )
    return int(text)
