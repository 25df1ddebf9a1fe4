"""The store against a model that simply copies everything at each commit and savepoint."""

from __future__ import annotations

import copy
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.handler import Partition
from streams.state import NEVER, Store


class Entry(NamedTuple):
    content: int
    due: int | None


def due_time(entry: Entry) -> int | None:
    return entry.due


THROUGH = (b"a", b"b")
"""Keys whose changes the changelog has at each commit."""
BEHIND = (b"c", b"d")
"""Keys that are put with marks, and that the changelog may have later."""
KEYS = st.sampled_from(THROUGH + BEHIND)
DUES = st.one_of(st.none(), st.integers(0, 20))
ENTRIES = st.builds(Entry, st.integers(0, 3), DUES)


class StoreMachine(RuleBasedStateMachine):
    """``now`` holds what should be read; ``committed`` and ``saved`` what a rollback should bring back.

    ``changelog`` holds what the commits wrote, and ``made`` every committed change with its mark, in order: what the
    changelog lacks must be among those from the store's oldest mark on.
    """

    @initialize(entries=st.dictionaries(KEYS, ENTRIES))
    def restore(self, entries: dict[bytes, Entry]) -> None:
        self.store: Store[Entry] = Store(due_time)
        for key, entry in entries.items():
            self.store.load(key, entry)
        self.store.loaded()
        self.now = dict(entries)
        self.committed = dict(entries)
        self.changelog = dict(entries)
        self.mark = 0
        self.making: list[tuple[int, bytes, Entry | None]] = []
        self.made: list[tuple[int, bytes, Entry | None]] = []
        self.saved: tuple[dict[bytes, Entry], int] | None = None

    @rule(key=KEYS, entry=ENTRIES)
    def put(self, key: bytes, entry: Entry) -> None:
        if key in BEHIND:
            self.store.put(key, entry, self.mark)
            self.making.append((self.mark, key, entry))
            self.mark += 1
        else:
            self.store.put(key, entry)
        self.now[key] = entry

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        self.store.delete(key)
        if key in BEHIND:
            self.making.append((self.mark, key, None))
        self.now.pop(key, None)

    @rule(before=st.integers(0, 21), later=DUES)
    def wake(self, before: int, later: int | None) -> None:
        """Whoever pops an entry deletes it or gives it a later time, as the store asks."""
        expected = sorted(
            (entry.due, key)
            for key, entry in self.now.items()
            if entry.due is not None and entry.due < before
        )
        keys = list(self.store.pop_due(before))
        assert keys == [key for _, key in expected]
        for key in keys:
            if later is None or later < before:
                self.delete(key)
            else:
                self.put(key, Entry(0, later))

    @precondition(lambda self: self.saved is None)
    @rule(behind=st.integers(0, 5))
    def commit(self, behind: int) -> None:
        """Let the changelog be ``behind`` changes late."""
        self.store.write_before = self.mark - behind
        for key, entry in dict(self.store.changes()).items():
            self.apply(self.changelog, key, entry)
        self.store.commit()
        self.committed = dict(self.now)
        self.made += self.making
        self.making = []

    @staticmethod
    def apply(entries: dict[bytes, Entry], key: bytes, entry: Entry | None) -> None:
        if entry is None:
            entries.pop(key, None)
        else:
            entries[key] = entry

    @rule()
    def rollback(self) -> None:
        self.store.rollback()
        self.now = dict(self.committed)
        self.making = []
        self.saved = None

    @precondition(lambda self: self.saved is None)
    @rule()
    def savepoint(self) -> None:
        self.store.savepoint()
        self.saved = dict(self.now), len(self.making)

    @precondition(lambda self: self.saved is not None)
    @rule(keep=st.booleans())
    def end_savepoint(self, keep: bool) -> None:
        assert self.saved is not None
        if keep:
            self.store.release()
        else:
            self.store.rollback_to_savepoint()
            self.now, made = self.saved
            del self.making[made:]
        self.saved = None

    @invariant()
    def reads_what_was_written(self) -> None:
        assert dict(self.store.items()) == self.now
        assert len(self.store) == len(self.now)
        assert all(self.store.get(key) == self.now.get(key) for key in (b"a", b"b", b"c", b"d"))

    @invariant()
    def the_changelog_and_what_was_made_since_the_oldest_mark_give_the_state(self) -> None:
        oldest = self.store.oldest_mark()
        restored = dict(self.changelog)
        for mark, key, entry in self.made:
            if oldest is not None and mark >= oldest:
                self.apply(restored, key, entry)
        assert restored == self.committed

    @invariant()
    def the_next_timer_is_the_earliest(self) -> None:
        dues = [entry.due for entry in self.now.values() if entry.due is not None]
        assert self.store.next_due() == min(dues, default=NEVER)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_an_entry_put_back_at_the_time_it_was_woken_for_waits_for_its_next_time() -> None:
    store: Store[Entry] = Store(due_time)
    store.put(b"a", Entry(0, 5))
    assert store.pop_due(6) == [b"a"]
    store.put(b"a", Entry(1, 9))
    assert store.pop_due(6) == ()
    assert store.pop_due(10) == [b"a"]


def test_an_entry_set_twice_for_one_time_is_woken_once() -> None:
    store: Store[Entry] = Store(due_time)
    for due in (5, 9, 5):
        store.put(b"a", Entry(0, due))
    assert store.pop_due(6) == [b"a"]


def test_closed_entries_leave_no_timers_behind() -> None:
    store: Store[Entry] = Store(due_time)
    for number in range(5_000):
        key = number.to_bytes(4, "big")
        store.put(key, Entry(0, 10_000 + number))
        store.delete(key)
        store.commit()
    assert len(store._timers) <= 1_025


def test_an_entry_made_and_removed_within_a_commit_leaves_no_trace_in_the_changelog() -> None:
    store: Store[Entry] = Store(due_time)
    store.put(b"a", Entry(0, None))
    store.delete(b"a")
    assert list(store.changes()) == []


def test_a_removal_is_a_change_without_a_value() -> None:
    store: Store[Entry] = Store(due_time)
    store.put(b"a", Entry(0, None))
    store.commit()
    store.delete(b"a")
    assert list(store.changes()) == [(b"a", None)]


def test_a_partition_takes_back_everything_since_the_savepoint() -> None:
    partition: Partition[Entry, str] = Partition(3, due_time)
    partition.emit("out", b"k", b"kept")
    partition.deferred.append("kept")
    before = copy.copy(partition.emitted)
    savepoint = partition.savepoint()
    partition.emit("out", b"k", b"dropped")
    partition.deferred.append("dropped")
    partition.store.put(b"a", Entry(0, None))
    partition.rollback_to(savepoint)
    assert partition.emitted == before == [("out", 3, b"k", b"kept", None)]
    assert partition.deferred == ["kept"]
    assert partition.store.get(b"a") is None


def test_a_partition_writes_to_the_partition_of_its_own_index_unless_told_otherwise() -> None:
    partition: Partition[Entry, str] = Partition(3, due_time)
    partition.emit("out", None, None)
    partition.emit("out", None, None, partition=0)
    assert [write[1] for write in partition.emitted] == [3, 0]
