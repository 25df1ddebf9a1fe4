"""Timers against a model that sorts everything each time it is asked."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams import timers as module
from streams.timers import NEVER, Timers

MINUTE = 65_536
KEYS = st.sampled_from([b"", b"a", b"b", b"c" * 16, b"d" * 300])
TIMES = st.builds(lambda bucket, within: bucket * MINUTE + within, st.integers(0, 3), st.integers(0, 2))
"""In few buckets, near their edges."""


class TimersMachine(RuleBasedStateMachine):
    """``wanted`` holds when each key wants waking."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[bytes, int] = {}
        self.timers = Timers(self.wanted.get)

    @rule(key=KEYS, due=TIMES)
    def set(self, key: bytes, due: int) -> None:
        self.wanted[key] = due
        self.timers.set(key, due)

    @rule(key=KEYS)
    def remove(self, key: bytes) -> None:
        self.wanted.pop(key, None)

    @rule(before=TIMES, most=st.integers(0, 4))
    def pop(self, before: int, most: int) -> None:
        expected = sorted((due, key) for key, due in self.wanted.items() if due < before)[:most]
        assert list(self.timers.pop(before, most)) == expected
        for _, key in expected:
            del self.wanted[key]

    @rule(before=TIMES)
    def ask(self, before: int) -> None:
        assert self.timers.is_due(before) == any(due < before for due in self.wanted.values())

    @rule()
    def tidy(self) -> None:
        self.timers.tidy(0)

    @invariant()
    def the_next_is_the_earliest(self) -> None:
        assert self.timers.next_due() == min(self.wanted.values(), default=NEVER)

    @invariant()
    def none_is_lost(self) -> None:
        assert len(self.timers) >= len(self.wanted)


class Untidy(TimersMachine):
    """With tidying at work on every stale timer, few at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed, self.looked_at = module._STALE_ALLOWED, module._LOOKED_AT
        module._STALE_ALLOWED, module._LOOKED_AT = 0, 1  # type: ignore[misc]

    def teardown(self) -> None:
        module._STALE_ALLOWED, module._LOOKED_AT = self.allowed, self.looked_at  # type: ignore[misc]


TestTimers = TimersMachine.TestCase
TestTimers.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestUntidyTimers = Untidy.TestCase
TestUntidyTimers.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_question_about_now_leaves_what_is_far_away_packed() -> None:
    wanted = {number.to_bytes(16, "big"): 100 * MINUTE + number for number in range(1_000)}
    timers = Timers(wanted.get)
    for key, due in wanted.items():
        timers.set(key, due)
    assert not timers.is_due(50 * MINUTE)
    assert timers.next_due() == 100 * MINUTE
    assert not timers._near
    assert timers.is_due(100 * MINUTE + 1)


def test_stale_timers_are_dropped_before_they_pile_up_a_part_at_each_call() -> None:
    wanted: dict[bytes, int] = {}
    timers = Timers(wanted.get)
    longest = 0
    for number in range(30_000):
        key = number.to_bytes(16, "big")
        wanted[key] = (1 + number % 50) * MINUTE
        timers.set(key, wanted[key])
        if number >= 1_000:
            del wanted[(number - 1_000).to_bytes(16, "big")]
        timers.tidy(len(wanted))
        longest = max(longest, len(timers))
    assert longest <= 2_600 + 30_000 / 50
    assert timers.next_due() == MINUTE
