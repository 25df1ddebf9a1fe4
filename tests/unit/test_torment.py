"""What kills processes by a plan: the plan is its seed's, leaves out no place, and in the end everybody lives."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest

from deploy.process import ChildProcess
from tests import torment
from tests.torment import Blow, Fate, Torment, fates

PLACES = ("written", "committed", "closed")


def test_a_seed_gives_each_process_a_plan_of_its_own_and_always_the_same() -> None:
    def plan(seed: str, victim: str) -> list[Fate]:
        return list(islice(fates(seed, victim, PLACES, 4, suspends=True), 50))

    assert plan("seed", "router-1") == plan("seed", "router-1")
    assert plan("seed", "router-1") != plan("seed", "router-2")
    assert plan("seed", "router-1") != plan("another", "router-1")


@pytest.mark.parametrize("seed", [str(number) for number in range(20)])
def test_a_plan_has_every_kind_of_life_and_each_place_once(seed: str) -> None:
    plan = list(islice(fates(seed, "router", PLACES, 4, suspends=True), 200))
    assert sorted(fate.place for fate in plan if fate.place) == sorted(PLACES)
    assert any(fate.early for fate in plan)
    assert any(fate.suspended for fate in plan)
    assert any(fate.away > 6 for fate in plan), "longer than a session lasts"
    for before, fate in pairwise(plan):
        assert not (before.suspended and fate.place), "who goes on cannot be told where to die"
    assert not any(fate.suspended for fate in islice(fates(seed, "bank", (), 4, suspends=False), 200))


# With processes that do nothing. ---------------------------------------------------------------------------------------

Start = Callable[[str], tuple[ChildProcess, Callable[[], bool]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that sleeps, or soon kills itself where it is given a place."""
    started: list[ChildProcess] = []

    def start(place: str) -> tuple[ChildProcess, Callable[[], bool]]:
        command = ["sh", "-c", "sleep 0.4; kill -9 $$"] if place else ["sleep", "60"]
        process = ChildProcess.start(
            "sleeper", command, log=tmp_path / "log", pid_file=tmp_path / "pid", env=dict(os.environ)
        )
        started.append(process)
        return process, lambda: True

    yield start
    for process in started:
        process.kill()


def test_in_the_end_everybody_lives_and_has_died_at_each_place(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brief(*told: str, suspends: bool) -> Iterator[Fate]:
        plan = fates("seed", "sleeper", PLACES, 4, suspends=suspends)
        return (fate._replace(lasting=fate.lasting / 50, away=0.05) for fate in plan)

    monkeypatch.setattr(torment, "fates", brief)
    run = Torment("seed", round_seconds=0.6)
    run.add("sleeper", start("")[0], start, PLACES, rests=True, longest=4)
    run.run(1.5)
    whats = [blow.what for blow in run.blows]
    assert {f"died at {place}" for place in PLACES} <= set(whats)
    assert whats[-1] in (torment.AT_WORK, "went on")
    assert len(run.starts("sleeper")) == whats.count(torment.AT_WORK) > 0
    assert run.moments("another") == []
    assert run.slowness >= 1


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(start: Start) -> None:
    run = Torment("seed", round_seconds=0.6)
    process, _ = start("")
    run.add("sleeper", process, start, rests=False, longest=4)
    os.kill(process.pid, signal.SIGTERM)
    with pytest.raises(AssertionError, match=r"seed seed: sleeper ended by itself: .*SIGTERM"):
        run.run(5)


def test_a_start_is_a_moment_of_its_own_only_while_all_are_gone(start: Start) -> None:
    run = Torment("seed", round_seconds=1)
    process, _ = start("")
    for name in ("router-1", "router-2", "delivery"):
        run.add(name, process, start, rests=False, longest=4)
    told = [
        (1, "router-1", "killed"),
        (2, "router-1", torment.STARTED),
        (3, "delivery", "killed"),
        (4, "router-1", torment.AT_WORK),
        (5, "router-2", "died at written"),
        (6, "router-1", "suspended"),
        (7, "router-2", torment.STARTED),
        (8, "router-1", torment.WENT_ON),
    ]
    run.blows += [Blow(*each) for each in told]
    assert run.moments("router") == [1, 5, 6, 7, 8]
    assert run.starts("router") == [2]
