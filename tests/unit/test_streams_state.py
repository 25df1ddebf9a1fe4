"""The store against a model that simply copies everything at each commit and savepoint."""

from __future__ import annotations

import copy
from struct import Struct
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams import state
from streams.handler import Partition
from streams.state import NEVER, Store


class Entry(NamedTuple):
    content: int
    due: int | None


class Entries:
    """As they would stand in a changelog."""

    layout = Struct(">qq")

    def encode(self, key: bytes, value: Entry) -> bytes:
        content, due = value
        return key + self.layout.pack(content, -1 if due is None else due)

    def decode(self, key: bytes, data: bytes) -> Entry:
        assert data.startswith(key)
        content, due = self.layout.unpack(data.removeprefix(key))
        return Entry(content, None if due < 0 else due)

    def timer(self, value: Entry) -> int | None:
        return value.due


ENTRIES_OF_TESTS = Entries()


def new_store() -> Store[Entry]:
    return Store(ENTRIES_OF_TESTS)


def encoded(key: bytes, entry: Entry) -> bytes:
    return ENTRIES_OF_TESTS.encode(key, entry)


def decoded(key: bytes, data: bytes | None) -> Entry | None:
    return None if data is None else ENTRIES_OF_TESTS.decode(key, data)


THROUGH = (b"a", b"b")
"""Keys whose changes the changelog has at each commit."""
BEHIND = (b"c", b"d")
"""Keys that are put with marks, and that the changelog may have later."""
KEYS = st.sampled_from(THROUGH + BEHIND)
DUES = st.one_of(st.none(), st.integers(0, 20), st.integers(65_530, 65_540))
ENTRIES = st.builds(Entry, st.integers(0, 3), DUES)


class StoreMachine(RuleBasedStateMachine):
    """``now`` holds what should be read; ``committed`` and ``saved`` what a rollback should bring back.

    ``changelog`` holds what the commits wrote, and ``made`` every committed change with its mark, in order: what the
    changelog lacks must be among those from the store's oldest mark on.
    """

    @initialize(entries=st.dictionaries(KEYS, ENTRIES), gone=st.sets(KEYS))
    def restore(self, entries: dict[bytes, Entry], gone: set[bytes]) -> None:
        self.store = new_store()
        for key in gone:
            self.store.load(key, b"superseded")
            self.store.load(key, None)
        for key, entry in entries.items():
            self.store.load(key, encoded(key, entry))
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

    @rule(before=st.one_of(st.integers(0, 21), st.integers(65_530, 65_541)), later=DUES)
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
        for key, data in dict(self.store.changes()).items():
            self.apply(self.changelog, key, decoded(key, data))
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
    def abort(self) -> None:
        """Have a commit rolled back after its changes were written."""
        self.store.write_before = self.mark
        for key, data in self.store.changes():
            assert decoded(key, data) == self.now.get(key)
        self.rollback()

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
        assert sorted(self.store.keys()) == sorted(self.now)
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
        due = min(dues, default=NEVER)
        assert self.store.next_due() == due
        assert self.store.is_due(min(due + 1, NEVER)) == (due != NEVER)
        assert not self.store.is_due(due)


class SmallStoreMachine(StoreMachine):
    """A store that packs what it can as soon as it can, and writes late one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = state._MAXIMUM_OBJECTS, state._PACKED_AT_ONCE, state._MAXIMUM_LATE
        state._MAXIMUM_OBJECTS, state._PACKED_AT_ONCE, state._MAXIMUM_LATE = 1, 1, 1  # type: ignore[misc]

    def teardown(self) -> None:
        state._MAXIMUM_OBJECTS, state._PACKED_AT_ONCE, state._MAXIMUM_LATE = self.limits  # type: ignore[misc]


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestSmallStore = SmallStoreMachine.TestCase
TestSmallStore.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def packed(store: Store[Entry]) -> set[bytes]:
    """The keys whose entries are held as bytes."""
    return set(store._packed)


def test_an_entry_is_packed_once_the_changelog_has_it_late_and_is_an_object_again_once_touched() -> None:
    store = new_store()
    store.put(b"a", Entry(1, 5), 0)
    store.commit()
    assert packed(store) == set()
    store.write_before = 1
    assert list(store.changes()) == [(b"a", encoded(b"a", Entry(1, 5)))]
    store.commit()
    assert packed(store) == {b"a"}
    assert store.get(b"a") == Entry(1, 5)
    store.put(b"a", Entry(2, 5), 1)
    assert packed(store) == set()
    store.rollback()
    assert packed(store) == {b"a"}
    assert store.get(b"a") == Entry(1, 5)


def test_what_is_restored_is_read_once_and_stays_packed() -> None:
    store = new_store()
    store.load(b"a", b"of no entry, but superseded")
    store.load(b"a", encoded(b"a", Entry(1, 5)))
    store.loaded()
    assert packed(store) == {b"a"}
    assert store.next_due() == 5
    assert store.get(b"a") == Entry(1, 5)
    assert list(store.items()) == [(b"a", Entry(1, 5))]


def test_a_store_that_is_filled_before_it_can_be_written_keeps_few_objects() -> None:
    store = new_store()
    for number in range(40_000):
        store.put(number.to_bytes(4, "big"), Entry(number, None), number)
    assert len(store) - len(packed(store)) <= state._MAXIMUM_OBJECTS
    store.write_before = 40_000
    store.commit()
    written = []
    while store.oldest_mark() is not None:
        store.write_before = 40_000
        written.append(dict(store.changes()))
        store.commit()
    assert max(map(len, written)) == state._MAXIMUM_LATE
    assert {key for keys in written for key in keys} == {
        number.to_bytes(4, "big") for number in range(40_000)
    }


def test_no_more_are_woken_than_fit_a_commit_and_the_others_after_it() -> None:
    store = new_store()
    keys = [number.to_bytes(4, "big") for number in range(25_000)]
    for key in keys:
        store.put(key, Entry(0, 5))
    store.commit()
    woken: list[bytes] = []
    commits = 0
    while store.is_due(6):
        for part in (store.pop_due(6), store.pop_due(6)):
            woken += part
            for key in part:
                store.delete(key)
        store.commit()
        commits += 1
    assert woken == keys
    assert commits == 5


def test_an_entry_put_back_at_the_time_it_was_woken_for_waits_for_its_next_time() -> None:
    store = new_store()
    store.put(b"a", Entry(0, 5))
    assert store.pop_due(6) == [b"a"]
    store.put(b"a", Entry(1, 9))
    assert store.pop_due(6) == ()
    assert store.pop_due(10) == [b"a"]


def test_an_entry_set_twice_for_one_time_is_woken_once() -> None:
    store = new_store()
    for due in (5, 9, 5):
        store.put(b"a", Entry(0, due))
    assert store.pop_due(6) == [b"a"]


def test_closed_entries_leave_no_timers_behind() -> None:
    store = new_store()
    for number in range(5_000):
        key = number.to_bytes(4, "big")
        store.put(key, Entry(0, 10_000 + number))
        store.delete(key)
        store.commit()
    assert len(store._timers) <= 1_025


def test_an_entry_made_and_removed_within_a_commit_leaves_no_trace_in_the_changelog() -> None:
    store = new_store()
    store.put(b"a", Entry(0, None))
    store.delete(b"a")
    assert list(store.changes()) == []


def test_a_removal_is_a_change_without_a_value() -> None:
    store = new_store()
    store.put(b"a", Entry(0, None))
    store.commit()
    store.delete(b"a")
    assert list(store.changes()) == [(b"a", None)]


def test_a_partition_takes_back_everything_since_the_savepoint() -> None:
    partition: Partition[Entry, str] = Partition(3, ENTRIES_OF_TESTS)
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
    partition: Partition[Entry, str] = Partition(3, ENTRIES_OF_TESTS)
    partition.emit("out", None, None)
    partition.emit("out", None, None, partition=0)
    assert [write[1] for write in partition.emitted] == [3, 0]
