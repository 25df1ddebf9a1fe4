"""Processes of one bank that share an inbox, on a real broker: who takes what, and what happens when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from deploy.folder import CHECKOUT
from parley.client import Participant
from parley.identifiers import transaction_text
from parley.kafka_access import SESSION_MS
from tests.broker_log import tell
from tests.fix_backbone import RunningBackbone

pytestmark = pytest.mark.timeout(120)


class Sharer:
    """A process of a bank's, and what it says to have taken."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._listening = asyncio.create_task(self._listen())
        self.ready = asyncio.Event()
        self.took: list[str] = []

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            what, _, which = line.decode().strip().partition(" ")
            if what == "ready":
                self.ready.set()
            else:
                assert what == "took", line
                self.took.append(which)

    def kill(self) -> None:
        self._process.kill()

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._listening


@asynccontextmanager
async def sharer(running: RunningBackbone, name: str, manner: str = "quick") -> AsyncIterator[Sharer]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.sharer",
        running.backbone.admin.bootstrap,
        name,
        running.registrar.hex(),
        manner,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PARLEY_TEST_PASSWORD": f"password-of-{name}"},
        cwd=CHECKOUT,
    )
    made = Sharer(process)
    try:
        async with asyncio.timeout(40):
            await made.ready.wait()
        yield made
    finally:
        await made.end()


async def ask(me: Participant, pipeline: int, content: str = "shall we?") -> str:
    deal = await me.open(
        ["shared-b"], kind="otc", deadline=timedelta(minutes=5), content=content, pipeline=pipeline
    )
    return transaction_text(deal.id)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  other processes tell us nothing else
            await asyncio.sleep(0.05)


async def test_processes_share_an_inbox_and_a_dead_ones_deals_go_to_another(
    running_backbone: RunningBackbone,
) -> None:
    running = running_backbone
    running.join("shared-a", "shared-b")
    async with (
        running.connect("shared-a") as a,
        sharer(running, "shared-b") as first,
        sharer(running, "shared-b", "holding") as second,
    ):
        asked: list[str] = []

        def is_all_taken() -> bool:
            return len(first.took) + len(second.took) >= len(asked)

        while not (first.took and second.took):  # a share goes over soon after the second process came
            asked += [await ask(a, pipeline) for pipeline in (0, 1) for _ in range(5)]
            await until(is_all_taken)
        assert Counter(first.took + second.took) == Counter(asked)

        # The second holds one message in its hand, and has not taken another, when it is killed.
        await until(lambda: len(a.deals) == len(asked))
        pipelines = {transaction_text(deal.id): deal.pipeline for deal in a.deals}
        held = await ask(a, pipelines[second.took[-1]], "hold")
        await until(lambda: second.took[-1] == held)
        untaken = await ask(a, pipelines[second.took[-2]])
        second.kill()
        killed = time.monotonic()
        await until(lambda: first.took[-2:] == [held, untaken])
        took = time.monotonic() - killed
        tell(f"what the dead process had went to the other {took:.1f} s after the kill")
        assert took < SESSION_MS / 1_000 + 14
