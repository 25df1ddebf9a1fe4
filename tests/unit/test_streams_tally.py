"""The tally against a model that copies everything at each commit and savepoint."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.handler import Partition

NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(-2, 2)


class NoEntries:
    """Of a partition whose store stays empty."""

    def encode(self, key: bytes, value: int) -> bytes:
        raise NotImplementedError

    def decode(self, key: bytes, data: bytes) -> int:
        raise NotImplementedError

    def timer(self, value: int) -> int | None:
        raise NotImplementedError


class TallyMachine(RuleBasedStateMachine):
    """Through the partition, which is whose commits a tally follows."""

    @initialize()
    def begin(self) -> None:
        self.partition: Partition[int, int] = Partition(0, NoEntries())
        self.now: dict[str, int] = {}
        self.committed: dict[str, int] = {}
        self.saved: tuple[dict[str, int], tuple[int, int]] | None = None

    @rule(name=NAMES, number=NUMBERS)
    def put(self, name: str, number: int) -> None:
        self.partition.tally.put(name, number)
        self.now[name] = number

    @rule(name=NAMES, number=NUMBERS)
    def add(self, name: str, number: int) -> None:
        self.partition.tally.add(name, number)
        self.now[name] = self.now.get(name, 0) + number

    @rule()
    def clear(self) -> None:
        self.partition.tally.clear()
        self.now = {}

    @precondition(lambda self: self.saved is None)
    @rule()
    def commit(self) -> None:
        self.partition.commit()
        self.committed = dict(self.now)

    @rule()
    def rollback(self) -> None:
        self.partition.rollback()
        self.now, self.saved = dict(self.committed), None

    @precondition(lambda self: self.saved is None)
    @rule()
    def savepoint(self) -> None:
        self.saved = (dict(self.now), self.partition.savepoint())

    @precondition(lambda self: self.saved is not None)
    @rule()
    def release(self) -> None:
        self.partition.release()
        self.saved = None

    @precondition(lambda self: self.saved is not None)
    @rule()
    def rollback_to(self) -> None:
        assert self.saved is not None
        self.now, savepoint = self.saved
        self.partition.rollback_to(savepoint)
        self.saved = None

    @invariant()
    def reads_what_was_put(self) -> None:
        tally = self.partition.tally
        assert dict(tally.items()) == {name: number for name, number in self.now.items() if number}
        assert all(tally.get(name) == self.now.get(name, 0) for name in ("a", "b", "c"))


TestTally = TallyMachine.TestCase
TestTally.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
