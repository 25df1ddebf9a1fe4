"""The state of one partition: values by key, their timers, and the way back to the last commit.

Knows nothing of Kafka, encoding or what the values mean.

An entry put with a **mark** is written behind: the changelog may have it later, or never if it is gone by then. That is
for entries whose owner can make them again from its own output from that mark on; marks only grow (such as the sequence
of that output), and :meth:`Store.oldest_mark` is from where the owner must be able to.

Writes go straight to the dictionary and note what stood there before, so a read costs one dictionary look-up and a
commit costs nothing but forgetting the notes. Values must be immutable: the notes hold references, not copies.
"""

from __future__ import annotations

import heapq
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

V = TypeVar("V")

NEVER: Final = 2**63 - 1
"""A time (ms) later than any timer."""

_STALE_TIMERS_ALLOWED: Final = 1024


class Store(Generic[V]):
    """Values by key with timers, of which everything since the last commit can be undone.

    ``timer(value)`` is when the entry wants waking (ms since the Unix epoch) or None for never; it must depend on the
    value alone. Whoever pops a due entry changes its time or deletes it; one left as it is may be woken again.
    """

    __slots__ = (
        "_before",
        "_behind",
        "_inner",
        "_mark",
        "_marked",
        "_popped",
        "_timer",
        "_timers",
        "_unwritten",
        "_values",
        "write_before",
    )

    def __init__(self, timer: Callable[[V], int | None]) -> None:
        self._timer = timer
        self._values: dict[bytes, V] = {}
        self._timers: list[tuple[int, bytes]] = []
        # What each key written since the last commit held before (None: nothing), and what was woken since then.
        self._before: dict[bytes, V | None] = {}
        self._popped: list[tuple[int, bytes]] = []
        # The same for a savepoint, while one is open: keys it wrote, and how many had been woken before it.
        self._inner: dict[bytes, V | None] | None = None
        self._mark = 0
        # Keys whose changes the changelog lacks, by the mark of the first such change, oldest first; those it has never
        # had; and the marks given since the last commit.
        self._behind: dict[bytes, int] = {}
        self._unwritten: set[bytes] = set()
        self._marked: dict[bytes, int] = {}
        self.write_before = 0
        """The next commit writes the entries whose mark is less than this."""

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: bytes) -> V | None:
        """The value under ``key``, uncommitted writes included, or None."""
        return self._values.get(key)

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Every entry, uncommitted writes included, in no particular order."""
        return iter(self._values.items())

    def put(self, key: bytes, value: V, mark: int | None = None) -> None:
        """Set ``key`` to ``value``, to be undone unless a commit follows; with a mark, written behind."""
        if mark is not None and key not in self._marked:
            self._marked[key] = mark
        values = self._values
        old = values.get(key)
        before = self._before if self._inner is None else self._inner
        if key not in before:
            before[key] = old
        values[key] = value
        due = self._timer(value)
        if due is not None and (old is None or self._timer(old) != due):
            heapq.heappush(self._timers, (due, key))

    def delete(self, key: bytes) -> None:
        """Remove ``key`` if it is there, to be undone unless a commit follows."""
        old = self._values.pop(key, None)
        before = self._before if self._inner is None else self._inner
        if old is not None and key not in before:
            before[key] = old

    def load(self, key: bytes, value: V | None) -> None:
        """Set (or with None remove) ``key`` as already committed; for restoring only."""
        if value is None:
            self._values.pop(key, None)
            return
        self._values[key] = value

    def loaded(self) -> None:
        """End restoring: set the timers of everything loaded."""
        self._rebuild_timers()

    # Timers ----------------------------------------------------------------------------------------------------------

    def next_due(self) -> int:
        """When the next entry wants waking (ms since the Unix epoch), or NEVER."""
        timers = self._timers
        while timers:
            due, key = timers[0]
            if self._is_current(due, key):
                return due
            heapq.heappop(timers)
        return NEVER

    def pop_due(self, before: int) -> Sequence[bytes]:
        """The keys due strictly before ``before`` (ms), earliest first; each is given once."""
        timers = self._timers
        if not timers or timers[0][0] >= before:
            return ()
        keys: list[bytes] = []
        last: tuple[int, bytes] | None = None
        while timers and timers[0][0] < before:
            entry = heapq.heappop(timers)
            # Equal entries stand next to each other: one set twice for the same time is still woken once.
            if entry != last and self._is_current(*entry):
                keys.append(entry[1])
                self._popped.append(entry)
            last = entry
        return keys

    def _is_current(self, due: int, key: bytes) -> bool:
        value = self._values.get(key)
        return value is not None and self._timer(value) == due

    def _rebuild_timers(self) -> None:
        timer = self._timer
        timers = [(due, key) for key, value in self._values.items() if (due := timer(value)) is not None]
        heapq.heapify(timers)
        self._timers = timers

    # Commit and rollback ---------------------------------------------------------------------------------------------

    def oldest_mark(self) -> int | None:
        """The mark of the oldest change that the changelog may lack after the next commit, or None if it has all."""
        for marks in (self._behind, self._marked):
            for mark in marks.values():
                return mark
        return None

    def changes(self) -> Iterator[tuple[bytes, V | None]]:
        """What the next commit writes: each key with its last value, or None where it was removed."""
        values = self._values
        for key, old in self._before.items():
            new = values.get(key)
            if new is old or (new is None and key in self._unwritten):
                continue
            if new is None or key not in self._marked:
                yield key, new
        for key in self._overdue():
            if (late := values.get(key)) is not None:
                yield key, late

    def _overdue(self) -> list[bytes]:
        return [key for key, _ in takewhile(lambda entry: entry[1] < self.write_before, self._behind.items())]

    def commit(self) -> None:
        """Keep everything written since the last commit."""
        for key in self._overdue():
            del self._behind[key]
            self._unwritten.discard(key)
        # Once written is enough: what is marked from here on is younger than any commit was asked to write.
        self.write_before = 0
        for key in self._before:
            if key not in self._values or key not in self._marked:
                self._behind.pop(key, None)
                self._unwritten.discard(key)
        # In the order of the marks, which need not be that of the first writes: a removed key may have come again.
        for key, mark in self._marked.items():
            if key in self._before and key in self._values and key not in self._behind:
                self._behind[key] = mark
                if self._before[key] is None:
                    self._unwritten.add(key)
        self._marked = {}
        self._before = {}
        self._popped = []
        # A timer outlives its entry until it is due; years of closed entries must not pile up.
        if len(self._timers) > 2 * len(self._values) + _STALE_TIMERS_ALLOWED:
            self._rebuild_timers()

    def rollback(self) -> None:
        """Undo everything since the last commit: values, removals and woken timers."""
        if self._inner is not None:
            self.rollback_to_savepoint()
        self._undo(self._before, 0)
        self._before = {}
        self._marked = {}

    def savepoint(self) -> None:
        """Open a savepoint within the commit; one at a time."""
        self._inner = {}
        self._mark = len(self._popped)

    def release(self) -> None:
        """Close the savepoint and keep what was written in it."""
        inner, self._inner = self._inner, None
        for key, old in (inner or {}).items():
            self._before.setdefault(key, old)

    def rollback_to_savepoint(self) -> None:
        """Close the savepoint and undo what was written in it."""
        inner, self._inner = self._inner, None
        self._undo(inner or {}, self._mark)

    def _undo(self, before: dict[bytes, V | None], mark: int) -> None:
        for key, old in before.items():
            if old is None:
                self._values.pop(key, None)
                continue
            self._values[key] = old
            due = self._timer(old)
            if due is not None:
                heapq.heappush(self._timers, (due, key))
        for entry in self._popped[mark:]:
            heapq.heappush(self._timers, entry)
        del self._popped[mark:]
