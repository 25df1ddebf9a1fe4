"""However a stream is cut into commits, and whatever is rolled back, killed or lost between them, the router says the same.

Streams are of good and bad records over two pipelines, with transactions that end, time out, are forgotten and begin anew
under an old id. The reference judges them record by record and is never interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from parley import lifecycle
from parley.schemas import Action, FinishRule
from router import handler
from router.core import Limits
from router.handler import PIPELINE_KEY
from router.quotas import Quotas
from streams.catalogue import FIREHOSE, INGEST, ROUTER_STATE
from tests.bad_records import BAD_RECORDS
from tests.dialogue import Dialogue, sealed, transaction_id
from tests.memory_router import MemoryRouter, facts, members

START = 1_800_000_000_000
PIPELINES = 2
PARTIES = ("alice", "bob", "carol")
MEMBERS = members(*PARTIES, "mallory")
LIMITS = Limits(remembered=12, quotas=Quotas(open_transactions=1))
BAD = tuple(BAD_RECORDS.values())


@pytest.fixture(scope="module", autouse=True)
def short_memory() -> Iterator[None]:
    """Write transactions to router-state after a few events or a short time, so that short streams meet it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handler, "WRITE_BEHIND", 4)
        patch.setattr(handler, "WRITE_EVERY", 20)
        yield


# Streams -------------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """What somebody does ``wait`` ms after the line before; ``slot`` names the transaction, and by its parity the pipeline."""

    what: Literal["say", "finish", "open anew", "repeat", "late", "stranger", "bad", "tick"]
    slot: int
    wait: int
    choice: int


LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from(
            ["say", "say", "say", "finish", "open anew", "repeat", "late", "stranger", "bad", "tick"]
        ),
        st.integers(0, 3),
        st.sampled_from([0, 0, 0, 1, 1, 2, 7, 25]),
        st.integers(0, 40),
    ),
    min_size=8,
    max_size=60,
)


class Arrival(NamedTuple):
    pipeline: int
    value: bytes | None
    at: int


def write(lines: Sequence[Line]) -> tuple[list[Arrival], MemoryRouter]:
    """The ingest records of the lines, and the router that has judged them one by one.

    It is asked for each transaction's head, so that most of what is said next is accepted.
    """
    router = MemoryRouter(MEMBERS, LIMITS, pipelines=PIPELINES)
    arrivals: list[Arrival] = []
    slots: dict[int, Dialogue] = {}
    now = START
    for line in (*lines, Line("tick", 0, 0, 0), Line("tick", 1, 0, 0)):
        now += line.wait
        pipeline = line.slot % PIPELINES
        arrival = Arrival(pipeline, _record(line, now, slots, arrivals, router), now)
        arrivals.append(arrival)
        router.append(arrival.value, arrival.at, pipeline)
        router.step()
    return arrivals, router


def _record(
    line: Line, now: int, slots: dict[int, Dialogue], arrivals: Sequence[Arrival], router: MemoryRouter
) -> bytes | None:
    slot, choice = line.slot, line.choice
    if line.what == "tick":
        return None
    if line.what == "repeat":
        earlier = [each for each in arrivals if each.pipeline == slot % PIPELINES]
        return earlier[choice % len(earlier)].value if earlier else None
    if slot not in slots or line.what == "open anew":
        slots[slot] = _opening(slot, now, choice)
        return sealed(slots[slot].message(PARTIES[choice % 2]))
    dialogue = slots[slot]
    if line.what == "bad":
        return BAD[choice % len(BAD)].make(replace(dialogue), now)
    if line.what == "late":
        return sealed(dialogue.message(PARTIES[choice % 2], content=b"%d" % choice))
    state = router.transactions(slot % PIPELINES).get(dialogue.id)
    if state is not None:
        head = lifecycle.head_of(state)
        dialogue.sequence, dialogue.previous = head.sequence + 1, head.message_id
    if line.what == "stranger":
        return sealed(dialogue.message("mallory"))
    sender = dialogue.terms.parties[choice % len(dialogue.terms.parties)].participant
    action: Action | None = "FINISH" if line.what == "finish" and dialogue.sequence else None
    return sealed(dialogue.message(sender, action))


def _opening(slot: int, now: int, choice: int) -> Dialogue:
    """A transaction under the slot's one id, which an earlier one may have had."""
    rule: FinishRule = "ALL" if choice % 3 == 0 else "ANY"
    dialogue = Dialogue.between(
        *PARTIES[: 2 + choice % 2],
        opened_at=now,
        lasting=(3, 10, 40, 200)[choice % 4],
        open_for=(0, 5, 30)[choice % 3],
        rule=rule,
        pipeline=slot % PIPELINES,
    )
    dialogue.id = transaction_id(f"slot {slot}")
    return dialogue


# Interruptions -------------------------------------------------------------------------------------------------------


class Move(NamedTuple):
    """One thing that the process does, with at most so many records of either pipeline."""

    what: Literal["commit", "abort", "die", "restart"]
    counts: tuple[int, int]


COUNTS = st.tuples(st.integers(0, 6), st.integers(0, 6))
MOVES = st.lists(
    st.builds(Move, st.sampled_from(["commit", "commit", "abort", "die", "restart"]), COUNTS),
    min_size=3,
    max_size=25,
)


def play(router: MemoryRouter, moves: Sequence[Move]) -> None:
    for what, counts in moves:
        most = dict(enumerate(counts))
        if what == "commit":
            router.step(most)
        elif what == "abort":
            router.abort(most)
        elif what == "die":
            router.die(most)
        else:
            router.restart()


def take(arrivals: Sequence[Arrival]) -> MemoryRouter:
    """A router with all of this before it."""
    router = MemoryRouter(MEMBERS, LIMITS, pipelines=PIPELINES)
    for pipeline, value, at in arrivals:
        router.append(value, at, pipeline)
    return router


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
