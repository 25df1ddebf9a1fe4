"""A backbone with everything at work, for tests that kill parts of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.broker_log import BrokerLog
from tests.fix_backbone import RunningBackbone
from tests.load import Load

SERVICES = (("router", "1"), ("router", "2"), ("delivery", "1"))


@pytest.fixture(scope="package")
def routed(own_backbone: RunningBackbone) -> Iterator[RunningBackbone]:
    """Two routers and delivery at work: each pipeline has answered."""
    for service, instance in SERVICES:
        own_backbone.launch(service, instance)
    Load.of(own_backbone, messages=80, rate=1_000).finish()
    with BrokerLog(own_backbone) as log:
        log.await_judgement()
    yield own_backbone
    for service, instance in SERVICES:
        own_backbone.processes.pop(f"{service}-{instance}").stop()
