"""However a stream is cut into commits, and whatever is rolled back, killed or lost between them, the router says the same.

The streams are those of `tests.interrupted_streams`. The reference judges them record by record and is never interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from router import handler
from router.handler import PIPELINE_KEY
from streams.catalogue import FIREHOSE, INGEST, ROUTER_STATE
from tests.interrupted_streams import LINES, MOVES, PIPELINES, Line, Move, play, take, write
from tests.memory_router import MemoryRouter, facts


@pytest.fixture(scope="module", autouse=True)
def short_memory() -> Iterator[None]:
    """Write transactions to router-state after a few events or a short time, so that short streams meet it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handler, "WRITE_BEHIND", 4)
        patch.setattr(handler, "WRITE_EVERY", 20)
        yield


@dataclass(frozen=True)
class Outcome:
    """All that anybody ever hears of a router, and all that it remembers."""

    firehose: object
    deliveries: object
    rejections: object
    positions: object
    transactions: object

    @classmethod
    def of(cls, router: MemoryRouter) -> Outcome:
        pipelines = range(PIPELINES)
        return cls(
            [router.firehose(index) for index in pipelines],
            [[(to, facts(value)) for to, value in router.deliveries(index)] for index in pipelines],
            router.rejections(),
            [router.position(index) for index in pipelines],
            [router.transactions(index) for index in pipelines],
        )


COMMON = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)


def settle(router: MemoryRouter, at: int) -> Outcome:
    """All that is left, and a tick: what a restart has remembered again is forgotten before the next record is judged."""
    for pipeline in range(PIPELINES):
        router.append(None, at, pipeline)
    router.step()
    return Outcome.of(router)


@COMMON
@given(LINES, MOVES)
def test_commits_rollbacks_deaths_and_restarts_change_nothing(lines: list[Line], moves: list[Move]) -> None:
    arrivals, reference = write(lines)
    router = take(arrivals)
    play(router, moves)
    end = arrivals[-1].at
    outcome = settle(reference, end)
    event(f"events: {len(reference.firehose(0) + reference.firehose(1)) // 8 * 8}+")
    assert settle(router, end) == outcome
    router.restart()
    assert settle(router, end).transactions == outcome.transactions


# Damage --------------------------------------------------------------------------------------------------------------


def lose_offsets(router: MemoryRouter, choice: int) -> None:
    """As on a mirrored cluster that does not carry them."""
    router.committed = dict.fromkeys(router.committed)


def set_offsets_back(router: MemoryRouter, choice: int) -> None:
    router.committed = {
        index: None if offset is None else max(offset - choice, 0)
        for index, offset in router.committed.items()
    }


def set_offsets_ahead(router: MemoryRouter, choice: int) -> None:
    """As an operator's hand may; never beyond what is there."""
    router.committed = {
        index: min((offset or 0) + choice, router.topics.end(INGEST, index))
        for index, offset in router.committed.items()
    }


def lose_state(router: MemoryRouter, choice: int) -> None:
    for index in range(PIPELINES):
        router.topics.drop(ROUTER_STATE, index)


def lose_the_newest_state(router: MemoryRouter, choice: int) -> None:
    """As a power cut may, since router-state is not flushed at each commit: whole commits, the last ones."""
    for index in range(PIPELINES):
        ends = [
            place
            for place, record in enumerate(router.changelog(index), 1)
            if record.with_key == PIPELINE_KEY
        ]
        router.topics.drop(ROUTER_STATE, index, keep=ends[max(len(ends) - 1 - choice, 0)])


def lose_state_and_offsets(router: MemoryRouter, choice: int) -> None:
    lose_state(router, choice)
    lose_offsets(router, choice)


def lose_the_newest_of_the_firehose(router: MemoryRouter, choice: int) -> None:
    """As a backup that is older than router-state and offsets."""
    for index in range(PIPELINES):
        kept = max(len(router.firehose(index)) - choice, 0)
        router.topics.drop(FIREHOSE, index, keep=kept)


DAMAGES = {
    damage.__name__: damage
    for damage in (
        lose_offsets,
        set_offsets_back,
        set_offsets_ahead,
        lose_state,
        lose_the_newest_state,
        lose_state_and_offsets,
        lose_the_newest_of_the_firehose,
    )
}
TELLS_TWICE = ("lose_the_newest_state", "lose_state_and_offsets", "lose_the_newest_of_the_firehose")
"""Where nobody knows any more what was refused after the last event, it is judged again: to the same end."""


@pytest.mark.parametrize("damage", DAMAGES)
@COMMON
@given(LINES, MOVES, MOVES, st.integers(1, 6))
def test_the_firehose_is_enough_to_go_on_from(
    damage: str, lines: list[Line], before: list[Move], after: list[Move], choice: int
) -> None:
    arrivals, reference = write(lines)
    router = take(arrivals)
    play(router, before)
    DAMAGES[damage](router, choice)
    router.restart()
    play(router, after)
    end = arrivals[-1].at
    healed, outcome = settle(router, end), settle(reference, end)
    if damage in TELLS_TWICE:
        assert set(router.rejections()) == set(reference.rejections())
        healed = replace(healed, rejections=outcome.rejections, deliveries=outcome.deliveries)
    assert healed == outcome
