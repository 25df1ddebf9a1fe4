"""When each key of a store wants waking; knows neither the values nor the log.

Times soon to come stand in a heap. Those further away stand in buckets of about a minute, each a plain run of bytes: a timer
costs some 20 bytes there, no object that the garbage collector would visit, and no rebuilding of a large heap. A bucket is
opened into the heap when the time has come to it.

A timer that was set is never taken away. It is *stale* once its key wants waking at another time, which whoever holds the
values tells; stale ones are dropped when they are met, and by :meth:`Timers.tidy` before they pile up.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["NEVER", "Timers"]

NEVER: Final = 2**63 - 1
"""A time (ms) later than any timer."""

_BITS: Final = 16
"""A bucket holds times that are the same but for so many bits: 65,536 ms."""
_LENGTH_BYTES: Final = 2
_STALE_ALLOWED: Final = 1_024
_LOOKED_AT: Final = 4_096
"""Timers that tidying looks at in one go, or one bucket: nobody waits for all of them."""


class Timers:
    """Keys (up to 65,535 bytes) by the time at which they want waking, in ms since the Unix epoch.

    ``due`` tells when a key wants waking now, None for never.
    """

    __slots__ = (
        "_buckets",
        "_due",
        "_far",
        "_first",
        "_horizon",
        "_near",
        "_order",
        "_untidied",
        "not_before",
    )

    def __init__(self, due: Callable[[bytes], int | None]) -> None:
        self._due = due
        self._near: list[tuple[int, bytes]] = []
        # Buckets before this one are open: their times are in the heap.
        self._horizon = 0
        # Keys, each after its length, by bucket; the buckets' numbers as a heap; and how many timers they hold.
        self._buckets: dict[int, bytearray] = {}
        self._order: list[int] = []
        self._far = 0
        self._untidied: list[int] = []
        # The earliest of the buckets, where it was asked for: it is until its key wants waking at another time.
        self._first: tuple[int, bytes] | None = None
        self.not_before = NEVER
        """No key wants waking before this: the cheapest answer, asked before every record."""

    def __len__(self) -> int:
        return len(self._near) + self._far

    def set(self, key: bytes, due: int) -> None:
        """Wake ``key`` at ``due``, if that is still when it wants waking then."""
        self.not_before = min(self.not_before, due)
        number = due >> _BITS
        if number < self._horizon:
            heapq.heappush(self._near, (due, key))
            return
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = bytearray()
            heapq.heappush(self._order, number)
        bucket += _entry(key)
        self._far += 1
        if self._first is not None and due < self._first[0]:
            self._first = (due, key)

    def is_due(self, before: int) -> bool:
        """Whether any key wants waking strictly before ``before`` (ms)."""
        if before <= self.not_before:
            return False
        self._open(before)
        self._drop_stale()
        return self.not_before < before

    def next_due(self) -> int:
        """When the next key wants waking, or NEVER; seldom takes as long as there are timers in its bucket."""
        self._drop_stale()
        if self._near:
            return self._near[0][0]
        while self._first is None or self._due(self._first[1]) != self._first[0]:
            if not self._order:
                return NEVER
            current = self._current(self._order[0])
            self._first = min(((due, key) for key, due in current.items()), default=None)
            if self._first is None:
                self._remove(heapq.heappop(self._order))
        return self._first[0]

    def pop(self, before: int, most: int) -> Sequence[tuple[int, bytes]]:
        """The keys that want waking strictly before ``before`` (ms), and when, earliest first; ``most`` at most."""
        if before <= self.not_before:
            return ()
        self._open(before)
        near = self._near
        popped: list[tuple[int, bytes]] = []
        last: tuple[int, bytes] | None = None
        while near and near[0][0] < before and len(popped) < most:
            entry = heapq.heappop(near)
            # Equal entries stand next to each other: one set twice for the same time is still woken once.
            if entry != last and self._due(entry[1]) == entry[0]:
                popped.append(entry)
            last = entry
        self._look_ahead()
        return popped

    def tidy(self, keys: int) -> None:
        """Drop some stale timers where they are many for a store of so many keys."""
        looked_at = 0
        while self._far > keys + keys // 2 + _STALE_ALLOWED and looked_at < _LOOKED_AT:
            if not self._untidied:
                self._untidied = list(self._buckets)
            number = self._untidied.pop()
            if number in self._buckets:
                looked_at += self._tidy_bucket(number) + 1

    def _tidy_bucket(self, number: int) -> int:
        """How many timers the bucket had before its stale ones were dropped."""
        bucket = self._buckets[number]
        had, current = sum(1 for _ in _keys(bucket)), self._current(number)
        bucket[:] = b"".join(map(_entry, current))
        self._far -= had - len(current)
        return had

    def _open(self, before: int) -> None:
        """Have all that is due before a time in the heap."""
        order = self._order
        if not order or order[0] << _BITS >= before:
            return
        while order and order[0] << _BITS < before:
            number = heapq.heappop(order)
            self._near += ((due, key) for key, due in self._current(number).items())
            self._remove(number)
            self._horizon = number + 1
        self._first = None
        heapq.heapify(self._near)

    def _remove(self, number: int) -> None:
        self._far -= sum(1 for _ in _keys(self._buckets.pop(number)))

    def _look_ahead(self) -> None:
        soonest = self._near[0][0] if self._near else NEVER
        self.not_before = min(soonest, self._order[0] << _BITS) if self._order else soonest

    def _current(self, number: int) -> dict[bytes, int]:
        """When the keys of a bucket want waking, as far as that is in the bucket."""
        current = {}
        for key in _keys(self._buckets[number]):
            due = self._due(key)
            if due is not None and due >> _BITS == number:
                current[key] = due
        return current

    def _drop_stale(self) -> None:
        near = self._near
        while near and self._due(near[0][1]) != near[0][0]:
            heapq.heappop(near)
        self._look_ahead()


def _entry(key: bytes) -> bytes:
    return len(key).to_bytes(_LENGTH_BYTES, "big") + key


def _keys(bucket: bytearray) -> Iterator[bytes]:
    start = 0
    while start < len(bucket):
        at = start + _LENGTH_BYTES
        start = at + int.from_bytes(bucket[start:at], "big")
        yield bytes(bucket[at:start])
