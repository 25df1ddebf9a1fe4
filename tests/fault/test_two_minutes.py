"""Two minutes under load in which routers, delivery and block builder are killed and suspended at any moment, and at each step
of their work, and banks' applications killed; then the whole record is held against what docs/invariants.md promises of it.

``PARLEY_FAULT_SEED`` repeats a plan, which the test prints; ``PARLEY_FAULT_SECONDS`` makes it shorter or longer.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import pytest

from deploy.compiled import compiled_root
from deploy.folder import CHECKOUT
from deploy.process import ChildProcess
from parley.audit import audit
from parley.blocks import Block
from router.core import Limits
from router.service import STARTED
from streams.catalogue import BLOCKS
from tests import promises
from tests.broker_log import BrokerLog, tell, wait_for
from tests.fix_backbone import RunningBackbone
from tests.load import Load
from tests.promises import Due
from tests.torment import Torment
from tests.trading import READY, Desk, Journal

SECONDS = float(os.environ.get("PARLEY_FAULT_SECONDS", "120"))
SEED = os.environ.get("PARLEY_FAULT_SEED") or secrets.token_hex(4)

pytestmark = pytest.mark.timeout(600 + 5 * SECONDS)

BANKS = ("carol", "dave", "erin")
IN_TIME_MS = 1_000
FAILOVER_MS = 10_000
ROUND_SECONDS = 40.0
PLACES = {
    "router": (
        "stream.consumed:40",
        "stream.produced:3",
        "stream.offsets_sent:3",
        "stream.committing:3",
        "stream.committed:3",
    ),
    "delivery": ("relay.written:3", "relay.committed:3"),
    "blockbuilder": (
        "blockbuilder.staged",
        "blockbuilder.committed",
        "blockbuilder.published",
        "blockbuilder.tiles",
        "blockbuilder.checkpoint",
    ),
}
EXPECTED = {"SEQUENCE_CONFLICT", "DEADLINE_PASSED", "CLOSED", "OPENING_EXPIRED"}
"""Why a bank's message may be refused: banks speak at once, and late."""


class Trades:
    """The banks' applications, and the journals that they keep."""

    def __init__(self, running: RunningBackbone, folder: Path) -> None:
        self._running = running
        self.journals = {bank: Journal(folder / f"{bank}.journal") for bank in BANKS}
        self.folder = folder
        self._opens_until = time.time() + SECONDS

    def launch(self, bank: str, _: str = "") -> tuple[ChildProcess, Callable[[], bool]]:
        """Start a bank's application; also gives what tells that it is at work."""
        others = ",".join(other for other in BANKS if other != bank)
        desk = Desk(
            self._running.backbone.admin.bootstrap,
            self._running.registrar.hex(),
            bank,
            others,
            str(self.folder / f"{bank}.journal"),
            self._opens_until,
            every=0.5,
        )
        process = ChildProcess.start(
            f"bank {bank}",
            [sys.executable, "-m", "tests.trading"],
            log=self.folder / f"{bank}.log",
            pid_file=self.folder / f"{bank}.pid",
            env=os.environ | desk.environment(),
            cwd=CHECKOUT,
        )
        self._running.processes[f"bank-{bank}"] = process
        return process, lambda: READY in process.output()

    def faults(self, log: BrokerLog) -> Iterator[str]:
        """Where a bank's application was told something else than is on the record."""
        for bank, journal in self.journals.items():
            lives = journal.lives()
            yield from promises.read_once(log, bank, lives)
            for reason in set().union(*(life.refused.values() for life in lives)) - EXPECTED:
                yield f"{bank}'s application: was refused, {reason}"


@pytest.fixture
def trades(own_backbone: RunningBackbone, tmp_path: Path) -> Iterator[Trades]:
    """Everything at work: two routers, delivery, block builder, three banks."""
    own_backbone.join(*BANKS)
    for service, instance in (("router", "1"), ("router", "2"), ("delivery", "1"), ("blockbuilder", "1")):
        own_backbone.start(service, instance)
    trades = Trades(own_backbone, tmp_path)
    for bank in BANKS:
        process, at_work = trades.launch(bank)
        process.wait_until(at_work, seconds=60)
    yield trades
    for name in [name for name in own_backbone.processes if name != "admission-1"]:
        own_backbone.processes.pop(name).stop()


def launch(
    running: RunningBackbone, service: str, instance: str, crash_at: str
) -> tuple[ChildProcess, Callable[[], bool]]:
    at_work = running.launch(service, instance, crash_at=crash_at)
    return running.processes[f"{service}-{instance}"], at_work


def torment(running: RunningBackbone, trades: Trades) -> Torment:
    """All that may die, and where; the processes of one service share its places."""
    torment = Torment(SEED, ROUND_SECONDS)
    for bank in BANKS:
        name = f"bank-{bank}"
        # Who is away for long loses its deals to nobody, and is offered them again in the same life: so none is suspended.
        torment.add(
            name,
            running.processes[name],
            partial(trades.launch, bank),
            rests=False,
            longest=20,
            suspends=False,
        )
    for service, places in PLACES.items():
        names = [name for name in running.processes if name.startswith(service)]
        shuffled = random.Random(f"{SEED}/{service}").sample(places, len(places))
        for number, name in enumerate(names):
            torment.add(
                name,
                running.processes[name],
                partial(launch, running, service, name.removeprefix(f"{service}-")),
                shuffled[number :: len(names)],
                rests=service != "delivery",
                longest=4,
            )
    return torment


def kinds_of_routers(running: RunningBackbone) -> set[bool]:
    """Whether those that ran were compiled."""
    logs = [path.read_text() for path in running.backbone.folder.logs.glob("router-*.log")]
    lines = [line for log in logs for line in log.splitlines() if f'"{STARTED}"' in line]
    return {json.loads(line)["compiled"] for line in lines}


def await_banks(log: BrokerLog, trades: Trades, patience_s: float) -> None:
    """Wait until the banks' applications were told what is on the record, and nothing else."""
    wait_for(
        lambda: not any(trades.faults(log)),
        lambda: f"PARLEY_FAULT_SEED={SEED}: {list(islice(trades.faults(log), 5))}",
        patience_s,
    )


def await_blocks(running: RunningBackbone, log: BrokerLog, patience_s: float) -> list[Block]:
    """All blocks, once they cover the firehose."""

    def covered() -> bool:
        store = running.sealed()
        cuts = {cut.pipeline: cut.sequence for cut in store.header(len(store) - 1).cuts}
        return all(cuts.get(pipeline) == len(log.firehose[pipeline]) - 1 for pipeline in log.pipelines)

    wait_for(covered, lambda: "the blocks to cover the firehose", patience_s)
    store = running.sealed()
    return [store.block(height) for height in range(len(store))]


def faults(
    running: RunningBackbone, log: BrokerLog, load: Load, blocks: list[Block], plan: Torment
) -> Iterator[str]:
    """Where the whole record breaks a promise. What is promised by the clock may take as much longer as everything does here."""
    slow = plan.slowness
    within, failover, grace = (int(ms * slow) for ms in (IN_TIME_MS, FAILOVER_MS, Limits().block_grace))
    timeouts, sealings = timed(running, log, load, blocks)
    yield from promises.acknowledged(log, load.acknowledged)
    yield from promises.judged_once(log)
    yield from promises.told(log)
    yield from promises.chained(log)
    yield from promises.as_uninterrupted(log)
    yield from promises.delivered(log)
    yield from promises.ended(log)
    yield from promises.sealed(log, blocks, grace)
    yield from promises.in_time(timeouts, within, plan.moments("router"), failover)
    yield from promises.in_time(sealings, within, plan.moments("router", "blockbuilder"), failover)
    firehose = {pipeline: log.firehose[pipeline] for pipeline in log.pipelines}
    yield from map(str, audit(running.sealed(), running.registrar, firehose).violations)


def timed(
    running: RunningBackbone, log: BrokerLog, load: Load, blocks: list[Block]
) -> tuple[list[Due], list[Due]]:
    """The timeouts, and the ends to be sealed, that were due since the load began."""
    written = [record.timestamp()[1] for record in running.reader().read_partition(BLOCKS, 0)]
    timeouts = [due for due in promises.timeouts(log) if due.due_at > load.began_at]
    return timeouts, [due for due in promises.sealings(log, blocks, written) if due.due_at > load.began_at]


def figures(plan: Torment, timeouts: list[Due], sealings: list[Due]) -> str:
    """For people: how late the latest was; and the latest that nothing excuses."""
    told = []
    for what, dues, deaths in (
        ("timeout", timeouts, plan.moments("router")),
        ("block", sealings, plan.moments("router", "blockbuilder")),
    ):
        late = [due.done_at - due.due_at for due in dues]
        calm = [
            due.done_at - due.due_at
            for due in dues
            if not any(due.due_at - FAILOVER_MS <= death <= due.done_at for death in deaths)
        ]
        told.append(
            f"latest {what} of {len(late)} after {max(late)} ms, of {len(calm)} in calm after {max(calm, default=0)} ms"
        )
    starts = ", ".join(
        f"{name} {median(plan.starts(name)):.0f} ms" for name in ("router", "blockbuilder", "bank")
    )
    return f"struck: {plan.told()}; {'; '.join(told)}; started: {starts}; all took {plan.slowness:.1f} times as long"


def test_what_is_killed_and_suspended_for_two_minutes_loses_doubles_and_delays_nothing(
    own_backbone: RunningBackbone, trades: Trades
) -> None:
    tell(f"to repeat this plan: PARLEY_FAULT_SEED={SEED}")
    load = Load.of(own_backbone, messages=0, rate=100, seed=SEED)
    plan = torment(own_backbone, trades)
    plan.run(SECONDS)
    load.finish()
    assert kinds_of_routers(own_backbone) == {False, compiled_root() != CHECKOUT}
    patience_s = 60 * plan.slowness
    with BrokerLog(own_backbone, ("alice", "bob", *BANKS)) as log:
        log.await_judgement(patience_s)
        log.await_delivery(patience_s)
        await_banks(log, trades, patience_s)
        blocks = await_blocks(own_backbone, log, patience_s)
        found = list(islice(faults(own_backbone, log, load, blocks, plan), 10))
        tell(f"{log.counts()}, {promises.repetitions(log)} of them repeated; {len(blocks)} blocks")
        tell(figures(plan, *timed(own_backbone, log, load, blocks)))
    if found:
        plan.write(trades.folder / "blows")
        story = [
            f"PARLEY_FAULT_SEED={SEED}; what befell whom is in {trades.folder / 'blows'}, their logs beside it",
            f"and in {own_backbone.backbone.folder.logs}",
        ]
        pytest.fail("\n".join([*story, *found]), pytrace=False)
