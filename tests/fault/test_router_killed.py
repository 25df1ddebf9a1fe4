"""Routers killed under load, anywhere and at each step of a commit: nothing acknowledged is lost, doubled, or late."""

from __future__ import annotations

import random
import signal
import time
from functools import partial

import pytest

from deploy.process import ChildProcess
from tests.broker_log import BrokerLog, tell, wait_for
from tests.fix_backbone import RunningBackbone
from tests.load import Load

pytestmark = pytest.mark.timeout(180)

ADDRESSES = ("alice", "bob")
IN_TIME_MS = 1_000
FAILOVER_MS = 10_000
LIVES = 5
STEPS = ("consumed:40", "produced:3", "offsets_sent:3", "committing:3", "committed:3")


def compare(running: RunningBackbone, load: Load, kills: int) -> None:
    """Hold the whole input against the whole output, from the first record on, and say what was compared."""
    acknowledged = load.finish()
    with BrokerLog(running, ADDRESSES) as log:
        log.await_judgement()
        log.await_delivery()
        assert log.records() >= acknowledged >= load.least
        log.assert_each_record_judged_once()
        log.assert_firehose_whole()
        late = log.assert_ended(load.began_at)
        log.assert_as_uninterrupted()
        repetitions = log.assert_delivered()
        assert log.dead_letters_of("router") == []
        tell(
            f"{log.counts()}, {repetitions} of them repeated; latest timeout {late} ms after its deadline, {kills} kills"
        )
        assert late <= IN_TIME_MS + kills * FAILOVER_MS


def reached(log: BrokerLog, events: int) -> bool:
    log.refresh()
    return log.count() >= events


def test_routers_killed_again_and_again_at_any_moment(routed: RunningBackbone) -> None:
    moments = random.Random(1)
    load = Load.of(routed, messages=2_000, rate=250, seed="any moment")
    with BrokerLog(routed) as log:
        for _ in range(LIVES):
            log.refresh()
            wait_for(partial(reached, log, log.count() + moments.randrange(1, 400)), lambda: "further events")
            instance = moments.choice("12")
            routed.processes[f"router-{instance}"].kill()
            routed.launch("router", instance)
    compare(routed, load, LIVES)


def test_a_router_that_dies_at_each_step_of_a_commit_loses_and_doubles_nothing(
    routed: RunningBackbone,
) -> None:
    load = Load.of(routed, messages=400, rate=100, seed="each step")
    for step in STEPS:
        routed.processes["router-1"].kill()
        routed.launch("router", "1", crash_at=f"stream.{step}")
        dying = routed.processes["router-1"]
        wait_for(partial(has_ended, dying), partial("router-1 to die at {}".format, step))
        assert dying.exit_code == -signal.SIGKILL, dying.obituary()
    routed.launch("router", "1")
    compare(routed, load, 2 * len(STEPS))


def has_ended(process: ChildProcess) -> bool:
    return process.exit_code is not None


def test_pipelines_of_a_router_that_stays_dead_are_taken_over(routed: RunningBackbone) -> None:
    load = Load.of(routed, messages=200, rate=50, seed="takeover")
    killed_at = time.time_ns() // 1_000_000
    routed.processes["router-1"].kill()
    with BrokerLog(routed) as log:

        def gone_on() -> bool:
            log.refresh()
            return all(any(written_at > killed_at for _, written_at in pipeline) for pipeline in log.judged)

        wait_for(gone_on, lambda: "every pipeline to go on")
        firsts = [
            next(written_at for _, written_at in pipeline if written_at > killed_at)
            for pipeline in log.judged
        ]
    failover = max(firsts) - killed_at
    tell(f"every pipeline went on {failover} ms after the kill")
    assert failover <= FAILOVER_MS
    compare(routed, load, 1)
    routed.start("router", "1")
