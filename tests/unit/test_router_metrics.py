"""What a router shows of its pipelines: open transactions by kind, and when time next changes one."""

from __future__ import annotations

import gc

from prometheus_client import REGISTRY, generate_latest

from router.core import Limits
from router.handler import Delivery, Router, State
from router.metrics import OpenTransactions
from streams.handler import Partition
from tests.dialogue import Dialogue
from tests.memory_router import ROUTER_KEY, MemoryRouter, members

START = 1_800_000_000_000
MEMBERS = members("alice", "bob")


def opened(kind: str, seed: str) -> Dialogue:
    dialogue = Dialogue.between("alice", "bob", opened_at=START, seed=seed)
    dialogue.terms = dialogue.terms._replace(kind=kind)
    return dialogue


def shown(kind: str) -> float | None:
    return REGISTRY.get_sample_value("parley_router_open_transactions", {"kind": kind})


def due(pipeline: int = 0) -> float | None:
    return REGISTRY.get_sample_value("parley_router_next_due_timestamp_seconds", {"pipeline": str(pipeline)})


def a_partition() -> Partition[State, Delivery]:
    return Partition(7, Router(MEMBERS, ROUTER_KEY, Limits(), lambda _: None))


def test_open_transactions_are_shown_by_kind_until_they_end() -> None:
    router = MemoryRouter(MEMBERS)
    repo, loan = opened("repo", "a"), opened("loan", "b")
    for dialogue in (repo, loan, opened("loan", "c")):
        router.append(dialogue.say("alice"), START)
    router.step()
    assert (shown("repo"), shown("loan"), shown("(others)")) == (1, 2, None)
    router.append(loan.say("bob", "FINISH"), START + 1)
    router.step()
    assert (shown("repo"), shown("loan")) == (1, 1)
    router.append(None, repo.terms.deadline + 1)
    router.step()
    assert (shown("repo"), shown("loan")) == (None, None)


def test_they_are_shown_again_after_a_restart() -> None:
    router = MemoryRouter(MEMBERS)
    router.append(opened("repo", "a").say("alice"), START)
    router.step()
    router.restart()
    router.append(None, START + 1)
    router.step()
    assert shown("repo") == 1


def test_the_earliest_moment_at_which_time_changes_something_is_shown() -> None:
    router = MemoryRouter(MEMBERS)
    dialogue = opened("repo", "a")
    router.append(dialogue.say("alice"), START)
    router.step()
    assert due() == (dialogue.terms.deadline + 1) / 1_000 == router.next_due() / 1_000


def test_a_pipeline_that_another_router_has_is_shown_no_more() -> None:
    gauges = OpenTransactions()
    partition = a_partition()
    partition.tally.put("kind/repo", 3)
    gauges.observe(7, partition.tally, START)
    assert [len(gauge.samples) for gauge in gauges.collect()] == [1, 1]
    del partition
    gc.collect()
    assert [len(gauge.samples) for gauge in gauges.collect()] == [0, 0]


def test_of_very_many_kinds_the_rarest_are_shown_as_one() -> None:
    gauges = OpenTransactions()
    partition = a_partition()
    for number in range(60):
        partition.tally.put(f"kind/{number}", number + 1)
    gauges.observe(7, partition.tally, START)
    kinds, _ = gauges.collect()
    counted = {sample.labels["kind"]: sample.value for sample in kinds.samples}
    assert len(counted) == 51
    assert counted["59"] == 60
    assert counted["(others)"] == sum(range(1, 11))


def test_the_gauges_are_served_with_the_others() -> None:
    router = MemoryRouter(MEMBERS)
    router.append(opened("repo", "a").say("alice"), START)
    router.step()
    assert b'parley_router_open_transactions{kind="repo"} 1.0' in generate_latest()
