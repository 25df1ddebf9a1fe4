"""What an application writes against: the records it is given, the partition it works on, the handler it implements.

Has no Kafka in it: a handler is tested with a ``Partition`` made by hand and records from a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

from streams.state import Entries, Store
from streams.tally import Tally

V = TypeVar("V")
D = TypeVar("D")

Headers = list[tuple[str, str | bytes | None]]


class Record(Protocol):
    """One record of a topic. The driver's own message object satisfies it, so the hot path copies nothing."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]:
        """(type, ms since the Unix epoch); on a LogAppendTime topic the broker's time of appending."""
        ...

    def headers(self) -> Headers | None: ...


Write = tuple[str, int, bytes | None, bytes | None, Headers | None]
"""A record to write: topic, partition, key, value, headers. Plain, since the hot path makes several for each record."""


class Emit(NamedTuple):
    """A ``Write`` with its parts named, where speed does not matter."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None


class Partition(Generic[V, D]):
    """One partition of the input topic: its state, and what its records lead to.

    Everything here is undone together when the commit does not happen; a handler keeps nothing per partition
    elsewhere. ``V`` is what the store holds, ``D`` what the handler puts off until the end of the commit.
    """

    __slots__ = ("deferred", "emitted", "index", "store", "tally")

    def __init__(self, index: int, entries: Entries[V]) -> None:
        self.index = index
        self.store: Store[V] = Store(entries)
        self.tally = Tally()
        """What is counted besides, and written nowhere."""
        self.emitted: list[Write] = []
        self.deferred: list[D] = []
        """Work for ``before_commit``, such as receipts that one signature will cover; emptied after each commit."""

    def emit(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Write a record with this commit, to the partition of the same index unless another is named."""
        self.emitted.append((topic, self.index if partition is None else partition, key, value, headers))

    def commit(self) -> None:
        """Keep the state and forget what was emitted: it is written."""
        self.store.commit()
        self.tally.commit()
        self.emitted = []
        self.deferred = []

    def rollback(self) -> None:
        """Go back to the last commit."""
        self.store.rollback()
        self.tally.rollback()
        self.emitted = []
        self.deferred = []

    def savepoint(self) -> tuple[int, int]:
        """Open a savepoint; what it returns is for ``rollback_to``."""
        self.store.savepoint()
        self.tally.savepoint()
        return len(self.emitted), len(self.deferred)

    def release(self) -> None:
        """Close the savepoint, keeping what happened since."""
        self.store.release()
        self.tally.release()

    def rollback_to(self, savepoint: tuple[int, int]) -> None:
        """Close the savepoint, undoing what happened since."""
        self.store.rollback_to_savepoint()
        self.tally.rollback_to_savepoint()
        del self.emitted[savepoint[0] :]
        del self.deferred[savepoint[1] :]


class History(Protocol):
    """What is already in the log, for a handler that checks its state against it (``streams.reader.Reader``)."""

    def last_record(self, topic: str, partition: int) -> Record | None:
        """The last committed record of a partition, or None where there is none."""
        ...

    def read_partition(self, topic: str, partition: int, start: int = 0) -> Iterator[Record]:
        """The committed records of a partition from offset ``start`` to its present end."""
        ...

    def first(self, topic: str, partition: int, reached: Callable[[Record], bool]) -> int:
        """The offset from which on every committed record has ``reached`` something; the end if none has."""
        ...


class Handler(Entries[V], Protocol[V, D]):
    """An application of the processor.

    Deterministic: what it emits follows from its state and the records alone, never from a clock or a random source,
    because after an abort the same records come again.
    """

    def restored(self, partition: Partition[V, D], value: V) -> None:
        """Called for each entry that the changelog gave back, before ``assigned``; for what is counted besides."""
        ...

    def assigned(self, partition: Partition[V, D], committed: int | None, history: History) -> int | None:
        """Called when the state is restored and before the first record; returns the offset to go on from.

        ``committed`` is the next offset to read as the last commit left it, None if there never was one. Return it
        unchanged unless the log says otherwise (None: from the beginning). What is put or emitted here is committed
        before the first record.
        """
        ...

    def process(self, partition: Partition[V, D], records: Sequence[Record]) -> None:
        """Judge some records of one partition in order.

        A record whose value is None is a **tick**: it carries nothing but the time. Time on a partition is that of
        its records, so before each record (ticks included) the handler wakes what is due before that record's
        timestamp: ``partition.store.pop_due(timestamp)``. Raise ``PoisonError`` for a record that cannot be judged.
        """
        ...

    def before_commit(self, partitions: Sequence[Partition[V, D]]) -> None:
        """Emit what depends on the whole commit; called once, after every partition's records are processed."""
        ...

    def after_commit(self, partitions: Sequence[Partition[V, D]]) -> None:
        """Look at what was committed (``emitted`` and ``deferred`` are still there); change nothing."""
        ...
