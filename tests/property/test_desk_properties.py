"""Two settlement desks, whatever either of them does, and wherever one is killed: both see the same end, and it is the right one."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from parley.lifecycle import message_count
from parley.workflows.settlement.instruction import Money, SettlementInstruction
from parley.workflows.settlement.journal import Journal
from parley.workflows.settlement.negotiation import Phase, decline
from parley.workflows.settlement.office import Ending, Office, Practice, Settlement
from parley.workflows.settlement.steps import Word
from parley.workflows.settlement.straight_through import Outcome, settle_all
from tests.memory_backbone import MemoryBackbone
from tests.settlement import DELIVERY, RECEIPT, TODAY
from tests.two_parties import connected, soon, until

PRACTICE = Practice(day=lambda _: TODAY, deadline=timedelta(minutes=5))
HOUR = timedelta(hours=1)
MORE_THAN_THE_DEADLINE = 300_001
SIDES = {"sbos": DELIVERY, "bnpa": RECEIPT}
TURNS = {"sbos": (Phase.INSTRUCTED, Phase.CASH_CONFIRMED), "bnpa": (Phase.NEW, Phase.COMMITTED)}
"""In which phases each side is due."""


class Conduct(Enum):
    SPEAKS = "speaks"
    DECLINES = "declines"
    SILENT = "silent"
    DIES = "dies"
    """It is killed, runs again, and speaks."""


class KilledError(Exception):
    """The process is killed here."""


@dataclass
class Played(Office):
    """What one side does in each phase; it dies there once."""

    conducts: dict[Phase, Conduct]
    stays_silent: bool = False

    async def approve(self, settlement: Settlement, word: Word) -> Word | None:
        phase = settlement.negotiation.phase
        conduct = self.conducts[phase]
        if conduct is Conduct.DIES:
            self.conducts[phase] = Conduct.SPEAKS
            raise KilledError
        if conduct is Conduct.SILENT:
            self.stays_silent = True
            return None
        return decline(settlement.negotiation, "no") if conduct is Conduct.DECLINES else word


def expected(conducts: dict[str, dict[Phase, Conduct]], *, matches: bool) -> Ending:
    """How it must end: what the first says who does not go on, or the mismatch, which the deliverer sees at its first turn."""
    for phase, side in (
        (Phase.INSTRUCTED, "sbos"),
        (Phase.COMMITTED, "bnpa"),
        (Phase.CASH_CONFIRMED, "sbos"),
    ):
        conduct = conducts[side][phase]
        if conduct is Conduct.SILENT:
            return Ending.TIMED_OUT
        if conduct is Conduct.DECLINES:
            return Ending.REJECTED
        if not matches:
            return Ending.UNMATCHED
    return Ending.SETTLED


async def run(
    backbone: MemoryBackbone, name: str, instruction: SettlementInstruction, office: Office, journal: Path
) -> Outcome:
    """Run a side, and run it again whenever it was killed."""
    while True:
        try:
            with Journal(journal) as kept:
                async with connected(backbone, name) as me:
                    (outcome,) = await settle_all(
                        me, [instruction], PRACTICE, within=HOUR, office=office, journal=kept
                    )
                    return outcome
        except KilledError:
            continue


async def both(
    conducts: dict[str, dict[Phase, Conduct]], sides: dict[str, SettlementInstruction], folder: Path
) -> tuple[list[Outcome], int]:
    """What became of it on each side, and how many messages there were."""
    backbone = MemoryBackbone()
    backbone.admit("sbos", lei="571474TGEMMWANRLN572", bic="SBOSUS33")
    backbone.admit("bnpa", lei="R0MUWSFPU8MPRO8K5P83", bic="BNPAFRPP")
    offices = {name: Played(dict(conducts[name])) for name in sides}
    running = [
        asyncio.create_task(run(backbone, name, instruction, offices[name], folder / name))
        for name, instruction in sides.items()
    ]
    await until(
        lambda: all(task.done() for task in running) or any(each.stays_silent for each in offices.values())
    )
    backbone.pass_time(MORE_THAN_THE_DEADLINE)
    outcomes = [await soon(task) for task in running]
    (state,) = backbone.pipelines[0].states.values()
    return outcomes, message_count(state)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), matches=st.booleans())
def test_whatever_two_desks_do_both_see_the_same_end(data: st.DataObject, matches: bool) -> None:
    draw = data.draw
    conducts = {
        name: {phase: draw(st.sampled_from(Conduct), label=f"{name}, {phase}") for phase in phases}
        for name, phases in TURNS.items()
    }
    if conducts["bnpa"][Phase.NEW] is not Conduct.DIES:
        conducts["bnpa"][Phase.NEW] = Conduct.SPEAKS  # else nothing is opened
    sides = dict(SIDES)
    if not matches:
        sides["sbos"] = replace(DELIVERY, amount=Money(Decimal(1), "EUR"))
    with tempfile.TemporaryDirectory() as folder:
        outcomes, messages = asyncio.run(both(conducts, sides, Path(folder)))
    ending = expected(conducts, matches=matches)
    assert [outcome.ending for outcome in outcomes] == [ending, ending]
    assert len({outcome.transaction for outcome in outcomes}) == 1
    assert messages <= 4
    assert (messages == 4) <= (ending in {Ending.SETTLED, Ending.REJECTED})
