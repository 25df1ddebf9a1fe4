"""The regulator's monitor as a process, beside real negotiations."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.folder import CHECKOUT
from deploy.process import ChildProcess
from firehose.core import Figures
from firehose.state import StateFile
from streams.catalogue import Role
from tests.fix_backbone import RunningBackbone

pytestmark = pytest.mark.timeout(120)

ISIN = "FR0000121014"
REGULATOR = "regulator-a"


@contextmanager
def monitor(backbone: RunningBackbone, folder: Path) -> Iterator[StateFile]:
    """A monitor process; its file."""
    password, state = folder / "password", folder / "monitor.json"
    password.write_text(f"password-of-{REGULATOR}")
    process = ChildProcess.start(
        "monitor",
        [sys.executable, "-m", "firehose"],
        log=folder / "monitor.log",
        pid_file=folder / "monitor.pid",
        env=os.environ
        | {
            "PARLEY_MONITOR_KAFKA_BOOTSTRAP": backbone.access(REGULATOR).bootstrap,
            "PARLEY_MONITOR_KAFKA_USERNAME": REGULATOR,
            "PARLEY_MONITOR_KAFKA_PASSWORD_FILE": str(password),
            "PARLEY_MONITOR_STATE_FILE": str(state),
            "PARLEY_MONITOR_SAVE_INTERVAL_MS": "50",
        },
        cwd=CHECKOUT,
    )
    try:
        yield StateFile(state)
    finally:
        process.stop()


async def trade(backbone: RunningBackbone, count: int) -> None:
    async with backbone.connect("watched-a") as a, backbone.connect("watched-b") as b:
        for _ in range(count):
            opening = {"isin": ISIN, "currency": "EUR", "settlement_amount": "1.50"}
            await a.open(["watched-b"], kind="watched", deadline=timedelta(minutes=5), content=opening)
            theirs = await anext(b.opened())
            await theirs.finish({"text": "delivered", "status": "settled"})


def wait_for(file: StateFile, condition: Callable[[Figures], bool]) -> Figures:
    until = time.monotonic() + 40
    while not condition(figures := file.load().figures):
        assert time.monotonic() < until, figures
        time.sleep(0.05)
    return figures


def test_the_figures_are_live_and_a_restart_doubles_nothing(
    running_backbone: RunningBackbone, tmp_path: Path
) -> None:
    running_backbone.join("watched-a", "watched-b")
    running_backbone.join_reader(REGULATOR, Role.MONITOR)
    with monitor(running_backbone, tmp_path) as file:
        asyncio.run(trade(running_backbone, 2))
        wait_for(file, lambda figures: figures.kinds.get("watched") == {"settled": 2})
    asyncio.run(trade(running_backbone, 1))
    with monitor(running_backbone, tmp_path) as file:
        figures = wait_for(file, lambda figures: figures.kinds["watched"] != {"settled": 2})
    assert figures.kinds["watched"] == {"settled": 3}
    assert str(figures.instruments[ISIN].settled["EUR"]) == "4.50"
    assert figures.unreadable == 0
