"""The compiled router and the interpreted one, given the same records, say the same, byte for byte.

The records are those of `tests.interrupted_streams`, with rollbacks, deaths and restarts in between; and a long load. What is
compared is all that is ever written: events, deliveries with their signed receipts, refusals and the state's changelog.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter

import pytest
from hypothesis import HealthCheck, given, settings

from deploy.compiled import compiled_root
from deploy.folder import CHECKOUT
from router.quotas import Quotas
from streams.catalogue import DELIVERIES, FIREHOSE, REJECTED, ROUTER_STATE
from tests.bad_records import BAD_RECORDS
from tests.compiled.replay import Load, Replayer
from tests.dialogue import Dialogue
from tests.interrupted_streams import LIMITS, LINES, MOVES, NAMES, PIPELINES, Arrival, Line, Move, write

NOW = 1_800_000_000_000
HOUR = 3_600_000


@pytest.fixture(scope="module")
def routers() -> Iterator[tuple[Replayer, Replayer]]:
    with Replayer(compiled_root()) as compiled, Replayer(CHECKOUT) as interpreted:
        assert compiled.compiled
        assert not interpreted.compiled
        yield compiled, interpreted


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LINES, MOVES)
def test_whatever_is_sent_and_whatever_interrupts_it_is_said_alike(
    routers: tuple[Replayer, Replayer], lines: list[Line], moves: list[Move]
) -> None:
    arrivals, _ = write(lines)
    load = Load(NAMES, LIMITS.remembered, LIMITS.quotas, 4, arrivals, moves)
    compiled, interpreted = routers
    assert compiled.said_of(load) == interpreted.said_of(load)


def test_a_long_load_is_said_alike(routers: tuple[Replayer, Replayer]) -> None:
    load = long_load()
    compiled, interpreted = routers
    said = compiled.said_of(load)
    assert said == interpreted.said_of(load)
    told = Counter(topic for topic, _, _, _ in said)
    assert min(told[topic] for topic in (FIREHOSE, DELIVERIES, REJECTED, ROUTER_STATE)) > 50, told


def long_load() -> Load:
    """Some thousands of records of many banks: negotiations to their end or their deadline, and all that is refused."""
    choice = random.Random("a long load")
    banks = tuple(f"bank-{number}" for number in range(8))
    arrivals: list[Arrival] = []
    for number in range(500):
        opened_at, pipeline = NOW + number * 20, number % PIPELINES
        first, second, third = choice.sample(banks, 3)
        dialogue = Dialogue.between(
            *((first, second, third) if number % 3 == 0 else (first, second)),
            opened_at=opened_at,
            lasting=choice.choice((500, 5_000, HOUR)),
            open_for=HOUR,
            rule="ALL" if number % 5 == 0 else "ANY",
            pipeline=pipeline,
            seed=f"long-{number}",
        )
        for turn in range(choice.randrange(1, 6)):
            content = choice.randbytes(choice.randrange(400))
            record = dialogue.say((first, second)[turn % 2], "FINISH" if turn > 2 else None, content)
            arrivals.append(Arrival(pipeline, record, opened_at + turn * 130))
        if number % 7 == 0:
            arrivals.append(choice.choice(arrivals)._replace(at=opened_at + 300))
    for number, bad in enumerate(BAD_RECORDS.values()):
        opened_at, pipeline = NOW + number * 90, number % PIPELINES
        dialogue = Dialogue.between("alice", "bob", opened_at=opened_at, pipeline=pipeline)
        said = [dialogue.say("alice"), dialogue.say("bob"), bad.make(dialogue, opened_at)]
        arrivals += [Arrival(pipeline, record, opened_at) for record in said]
    arrivals.sort(key=attrgetter("at"))
    moves = [Move("commit", (300, 200)), Move("abort", (50, 60))] * 6
    quotas = Quotas(messages_per_second=40, open_transactions=200)
    return Load((*NAMES, *banks), 2_000, quotas, 500, arrivals, moves)
