"""Streams of good and bad records over two pipelines, and what may interrupt the router that judges them; nothing is judged here.

Transactions end, time out, are forgotten and begin anew under an old id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from hypothesis import strategies as st

from parley import lifecycle
from parley.schemas import Action, FinishRule
from router.core import Limits
from router.quotas import Quotas
from tests.bad_records import BAD_RECORDS
from tests.dialogue import Dialogue, sealed, transaction_id
from tests.memory_router import MemoryRouter, members

__all__ = [
    "LIMITS",
    "LINES",
    "MEMBERS",
    "MOVES",
    "NAMES",
    "PIPELINES",
    "Arrival",
    "Line",
    "Move",
    "play",
    "take",
    "write",
]

START = 1_800_000_000_000
PIPELINES = 2
PARTIES = ("alice", "bob", "carol")
NAMES = (*PARTIES, "mallory")
MEMBERS = members(*NAMES)
LIMITS = Limits(remembered=12, quotas=Quotas(open_transactions=1))
BAD = tuple(BAD_RECORDS.values())


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
