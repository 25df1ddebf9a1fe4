"""Quotas over streams of any shape: never more than the rate and the allowance, and never later than was told."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import Limits
from router.quotas import Quotas, Standing, over_quota, paid
from tests.dialogue import Dialogue, sealed
from tests.memory_router import MemoryRouter, members

START = 1_800_000_000_000
MEMBERS = members("alice", "bob")
RATES = st.builds(Quotas, st.integers(1, 2_000), st.integers(100, 100_000), st.integers(1, 3_000), st.just(0))
SENT = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 5_000)), min_size=1, max_size=30)
"""For each message, ms since the one before, and its bytes."""


def accepted(quotas: Quotas, sent: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """When each message that counted came, and its bytes."""
    counted = []
    standing, at = Standing(), START
    for wait, size in sent:
        at += wait
        if over_quota(quotas, standing, at, opens=False) is None:
            standing = paid(quotas, standing, size, at)
            counted.append((at, size))
    return counted


@given(RATES, SENT)
def test_no_stretch_of_time_holds_more_than_its_rate_the_allowance_and_one_message(
    quotas: Quotas, sent: list[tuple[int, int]]
) -> None:
    counted = accepted(quotas, sent)
    for first, last in combinations_with_replacement(range(len(counted)), 2):
        stretch = counted[first : last + 1]
        time = stretch[-1][0] - stretch[0][0] + quotas.allowance
        # The last message of a stretch may be any size: it is paid for after it.
        assert (len(stretch) - 1) * 1_000 <= quotas.messages_per_second * time
        assert sum(size for _, size in stretch[:-1]) * 1_000 <= quotas.bytes_per_second * time


@given(RATES, SENT, st.integers(1, 5_000))
def test_what_is_refused_counts_from_the_moment_that_was_told_and_not_a_millisecond_before(
    quotas: Quotas, sent: list[tuple[int, int]], size: int
) -> None:
    standing = Standing()
    for _ in sent:
        standing = paid(quotas, standing, size, START)
    refused = over_quota(quotas, standing, START, opens=False)
    if refused is not None:
        assert refused.retry_at is not None
        assert over_quota(quotas, standing, refused.retry_at - 1, opens=False) is not None
        assert over_quota(quotas, standing, refused.retry_at, opens=False) is None


@given(RATES, SENT)
def test_who_keeps_to_the_rate_is_never_refused(quotas: Quotas, sent: list[tuple[int, int]]) -> None:
    standing, at = Standing(), START
    for _, size in sent:
        assert over_quota(quotas, standing, at, opens=False) is None
        standing = paid(quotas, standing, size, at)
        at += max(-(-1_000 // quotas.messages_per_second), -(-size * 1_000 // quotas.bytes_per_second))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["alice", "bob"]), st.sampled_from([0, 0, 1, 5, 40])),
        min_size=1,
        max_size=25,
    ),
    st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=20),
)
def test_rollbacks_and_batches_change_no_verdict(
    said: list[tuple[str, int]], moves: list[tuple[bool, int]]
) -> None:
    limits = Limits(quotas=Quotas(messages_per_second=50, allowance=30, open_transactions=2))
    router, spared = MemoryRouter(MEMBERS, limits), MemoryRouter(MEMBERS, limits)
    at = START
    for number, (sender, wait) in enumerate(said):
        at += wait
        dialogue = Dialogue.between("alice", "bob", opened_at=at, lasting=15, open_for=5, seed=str(number))
        record = sealed(dialogue.message(sender))
        router.append(record, at)
        spared.append(record, at)
        spared.step()
    for commits, most in moves:
        if commits:
            router.step(most)
        else:
            router.abort(most)
    router.step()
    assert router.rejections() == spared.rejections()
    assert router.firehose() == spared.firehose()
