"""Delivery killed under load: each inbox has everything due to it, in order, once what is repeated is dropped."""

from __future__ import annotations

import signal

import pytest

from tests.broker_log import BrokerLog, tell, wait_for
from tests.fix_backbone import RunningBackbone
from tests.load import Load

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("place", ["written:3", "committed:3"])
def test_delivery_that_dies_between_writing_and_committing_repeats_and_loses_nothing(
    routed: RunningBackbone, place: str
) -> None:
    load = Load.of(routed, messages=400, rate=200, seed=place)
    routed.processes["delivery-1"].kill()
    routed.launch("delivery", "1", crash_at=f"relay.{place}")
    dying = routed.processes["delivery-1"]
    wait_for(lambda: dying.exit_code is not None, lambda: f"delivery to die at {place}")
    assert dying.exit_code == -signal.SIGKILL, dying.obituary()
    routed.launch("delivery", "1")
    load.finish()
    with BrokerLog(routed, ["alice", "bob"]) as log:
        log.await_judgement()
        log.await_delivery()
        repetitions = log.assert_delivered()
        tell(f"{log.counts()}, {repetitions} of them repeated")
        assert repetitions or place.startswith("committed")
