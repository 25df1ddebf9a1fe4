"""The state of one partition: values by key, their timers, and the way back to the last commit.

Knows nothing of Kafka or what the values mean.

An entry put with a **mark** is written behind: the changelog may have it later, or never if it is gone by then. That is
for entries whose owner can make them again from its own output from that mark on; marks only grow (such as the sequence
of that output), and :meth:`Store.oldest_mark` is from where the owner must be able to.

An entry is held in one of two ways. What was put stands as the object that it is. What the changelog has had, late or
on restoring, stands **packed**: as the changelog's bytes, behind the time at which it wants waking. Objects are what was
touched lately, so they are few however many entries there are, and a packed one is unpacked whenever it is read. The
dictionary of packed entries holds bytes alone, which the garbage collector does not walk through.

Writes go straight to the dictionaries and note what stood there before, so a read costs one or two look-ups and a
commit costs little but forgetting the notes. Values must be immutable: the notes hold references, not copies.
"""

from __future__ import annotations

from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from streams.timers import NEVER, Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["NEVER", "Entries", "Store"]

V = TypeVar("V")

_DUE_BYTES: Final = 8
_MAXIMUM_OBJECTS: Final = 32_768
"""More are packed, the oldest first, whether the changelog has had them or not."""
_PACKED_AT_ONCE: Final = 1_024
_MAXIMUM_LATE: Final = 32_768
"""Entries that one commit writes late."""
_MAXIMUM_WOKEN: Final = 5_000
"""Entries woken between two commits: a commit has to be over before the broker gives it up."""


class Entries(Protocol[V]):
    """What a store must know of its entries; whatever they are, they are not ``bytes``."""

    def encode(self, key: bytes, value: V) -> bytes:
        """The changelog's bytes for an entry of the store."""
        ...

    def decode(self, key: bytes, data: bytes) -> V:
        """The entry that ``encode`` gave these bytes for."""
        ...

    def timer(self, value: V) -> int | None:
        """When this entry wants waking (ms since the Unix epoch), or None for never; by the value alone."""
        ...


class Store(Generic[V]):
    """Values by key with timers, of which everything since the last commit can be undone.

    Whoever pops a due entry changes its time or deletes it; one left as it is may be woken again.
    """

    __slots__ = (
        "_before",
        "_behind",
        "_decode",
        "_encode",
        "_inner",
        "_mark",
        "_marked",
        "_objects",
        "_packed",
        "_popped",
        "_timer",
        "_timers",
        "_unwritten",
        "write_before",
    )

    def __init__(self, entries: Entries[V]) -> None:
        self._encode, self._decode, self._timer = entries.encode, entries.decode, entries.timer
        # A key stands in one of the two at most.
        self._objects: dict[bytes, V] = {}
        self._packed: dict[bytes, bytes] = {}
        self._timers = Timers(self._due_of)
        # What each key written since the last commit held before (None: nothing), and what was woken since then.
        self._before: dict[bytes, V | bytes | None] = {}
        self._popped: list[tuple[int, bytes]] = []
        # The same for a savepoint, while one is open: keys it wrote, and how many had been woken before it.
        self._inner: dict[bytes, V | bytes | None] | None = None
        self._mark = 0
        # Keys whose changes the changelog lacks, by the mark of the first such change, oldest first; those it has never
        # had; and the marks given since the last commit.
        self._behind: dict[bytes, int] = {}
        self._unwritten: set[bytes] = set()
        self._marked: dict[bytes, int] = {}
        self.write_before = 0
        """The next commit writes the entries whose mark is less than this, or as many of them as a commit may."""

    def __len__(self) -> int:
        return len(self._objects) + len(self._packed)

    def __contains__(self, key: object) -> bool:
        return key in self._objects or key in self._packed

    def get(self, key: bytes) -> V | None:
        """The value under ``key``, uncommitted writes included, or None."""
        value = self._objects.get(key)
        if value is None and (packed := self._packed.get(key)) is not None:
            return self._decode(key, packed[_DUE_BYTES:])
        return value

    def keys(self) -> Iterator[bytes]:
        """The key of every entry, uncommitted writes included, in no particular order."""
        return chain(self._objects, self._packed)

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Every entry, uncommitted writes included, in no particular order; unpacks them all, one after the other."""
        yield from self._objects.items()
        for key, packed in self._packed.items():
            yield key, self._decode(key, packed[_DUE_BYTES:])

    def put(self, key: bytes, value: V, mark: int | None = None) -> None:
        """Set ``key`` to ``value``, to be undone unless a commit follows; with a mark, written behind."""
        if mark is not None and key not in self._marked:
            self._marked[key] = mark
        objects = self._objects
        old: V | bytes | None = objects.get(key)
        if old is None:
            old = self._packed.pop(key, None)
        before = self._before if self._inner is None else self._inner
        if key not in before:
            before[key] = old
        objects[key] = value
        due = self._timer(value)
        if due is not None and (old is None or self._due(old) != due):
            self._timers.set(key, due)
        if len(objects) > _MAXIMUM_OBJECTS:
            self._pack_oldest()

    def delete(self, key: bytes) -> None:
        """Remove ``key`` if it is there, to be undone unless a commit follows."""
        old = self._remove(key)
        before = self._before if self._inner is None else self._inner
        if old is not None and key not in before:
            before[key] = old

    def load(self, key: bytes, data: bytes | None) -> None:
        """Set ``key`` to the changelog's bytes (or with None remove it) as already committed; for restoring only.

        Only :meth:`loaded` reads them: most of a changelog may be superseded by what follows.
        """
        if data is None:
            self._packed.pop(key, None)
        else:
            self._packed[key] = data

    def loaded(self, see: Callable[[V], object] | None = None) -> None:
        """End restoring: set the timers of everything loaded, and have each value seen, which costs less than reading it again.

        Raises what ``decode`` raises for bytes that are no entry.
        """
        packed = self._packed
        for key, data in packed.items():
            value = self._decode(key, data)
            if see is not None:
                see(value)
            due = self._timer(value)
            packed[key] = _packed(due, data)
            if due is not None:
                self._timers.set(key, due)

    def _remove(self, key: bytes) -> V | bytes | None:
        old = self._objects.pop(key, None)
        return self._packed.pop(key, None) if old is None else old

    def _raw(self, key: bytes) -> V | bytes | None:
        value = self._objects.get(key)
        return self._packed.get(key) if value is None else value

    def _data(self, key: bytes, held: V | bytes) -> bytes:
        return held[_DUE_BYTES:] if isinstance(held, bytes) else self._encode(key, held)

    def _pack(self, key: bytes, data: bytes) -> None:
        """Hold an object as the bytes it is encoded to."""
        self._packed[key] = _packed(self._timer(self._objects.pop(key)), data)

    def _pack_oldest(self) -> None:
        for key, value in list(islice(self._objects.items(), _PACKED_AT_ONCE)):
            self._pack(key, self._encode(key, value))

    # Timers ----------------------------------------------------------------------------------------------------------

    def next_due(self) -> int:
        """When the next entry wants waking (ms since the Unix epoch), or NEVER; see :meth:`is_due` for a cheaper question."""
        return self._timers.next_due()

    def is_due(self, before: int) -> bool:
        """Whether any entry wants waking strictly before ``before`` (ms)."""
        return self._timers.is_due(before)

    def pop_due(self, before: int) -> Sequence[bytes]:
        """The keys due strictly before ``before`` (ms), earliest first; each is given once.

        Not more than fit a commit: where there are, :meth:`is_due` still holds after it.
        """
        if before <= self._timers.not_before:
            return ()
        popped = self._timers.pop(before, _MAXIMUM_WOKEN - len(self._popped))
        self._popped += popped
        return [key for _, key in popped]

    def _due(self, held: V | bytes) -> int | None:
        if isinstance(held, bytes):
            due = int.from_bytes(held[:_DUE_BYTES], "big")
            return None if due == NEVER else due
        return self._timer(held)

    def _due_of(self, key: bytes) -> int | None:
        held = self._raw(key)
        return None if held is None else self._due(held)

    # Commit and rollback ---------------------------------------------------------------------------------------------

    def oldest_mark(self) -> int | None:
        """The mark of the oldest change that the changelog may lack after the next commit, or None if it has all."""
        for marks in (self._behind, self._marked):
            for mark in marks.values():
                return mark
        return None

    def is_changed(self) -> bool:
        """Whether the next commit may have anything to write."""
        return bool(self._before) or any(True for _ in self._overdue())

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """What the next commit writes: each key with its last value encoded, or None where it was removed.

        What is written late, and has not changed since the last commit, is held packed from here on.
        """
        for key, old in self._before.items():
            new = self._raw(key)
            if new is old or (new is None and key in self._unwritten):
                continue
            if new is None:
                yield key, None
            elif key not in self._marked:
                yield key, self._data(key, new)
        for key in self._overdue():
            if (late := self._raw(key)) is not None:
                data = self._data(key, late)
                if key in self._objects and key not in self._before:
                    self._pack(key, data)
                yield key, data

    def _overdue(self) -> Iterator[bytes]:
        late = takewhile(lambda entry: entry[1] < self.write_before, self._behind.items())
        return (key for key, _ in islice(late, _MAXIMUM_LATE))

    def commit(self) -> None:
        """Keep everything written since the last commit."""
        for key in list(self._overdue()):
            del self._behind[key]
            self._unwritten.discard(key)
        if not any(True for _ in self._overdue()):
            # Once written is enough: what is marked from here on is younger than any commit was asked to write.
            self.write_before = 0
        objects, packed = self._objects, self._packed
        for key in self._before:
            if key not in self._marked or (key not in objects and key not in packed):
                self._behind.pop(key, None)
                self._unwritten.discard(key)
        # In the order of the marks, which need not be that of the first writes: a removed key may have come again.
        for key, mark in self._marked.items():
            if key in self._before and key not in self._behind and (key in objects or key in packed):
                self._behind[key] = mark
                if self._before[key] is None:
                    self._unwritten.add(key)
        self._marked = {}
        self._before = {}
        self._popped = []
        self._timers.tidy(len(self))

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

    def _undo(self, before: dict[bytes, V | bytes | None], mark: int) -> None:
        for key, old in before.items():
            self._remove(key)
            if old is None:
                continue
            if isinstance(old, bytes):
                self._packed[key] = old
            else:
                self._objects[key] = old
            due = self._due(old)
            if due is not None:
                self._timers.set(key, due)
        for due, key in self._popped[mark:]:
            self._timers.set(key, due)
        del self._popped[mark:]


def _packed(due: int | None, data: bytes) -> bytes:
    return (NEVER if due is None else due).to_bytes(_DUE_BYTES, "big") + data
