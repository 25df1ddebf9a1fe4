"""Straight-through processing: all instructions followed to their end, what failed reported, and a killed run taken up again."""

from __future__ import annotations

import asyncio
import csv
import io
from contextlib import nullcontext
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from parley.errors import InstructionError, JournalError, TradeFileError, VerificationError
from parley.identifiers import transaction_text
from parley.workflows.settlement.instruction import Chain, Party, SettlementInstruction
from parley.workflows.settlement.journal import Entry, Journal
from parley.workflows.settlement.negotiation import Phase
from parley.workflows.settlement.office import Ending, Office, Practice, Settlement
from parley.workflows.settlement.steps import Word
from parley.workflows.settlement.straight_through import (
    REPORT_COLUMNS,
    Outcome,
    own_side,
    settle_all,
    write_report,
)
from parley.workflows.settlement.trades import COLUMNS
from tests.memory_backbone import MemoryBackbone
from tests.settlement import DELIVERY, RECEIPT, TODAY
from tests.two_parties import connected, soon, until

ON_THE_DAY = Practice(day=lambda _: TODAY, deadline=timedelta(minutes=5))
WITHIN = timedelta(seconds=1)
HOUR = timedelta(hours=1)
MORE_THAN_THE_DEADLINE = 300_001


class KilledError(Exception):
    """The process is killed here."""


class Dying(Office):
    """Is killed when it should approve a word in a phase: before it is said, or after."""

    def __init__(self, phase: Phase) -> None:
        self._phase = phase

    async def approve(self, settlement: Settlement, word: Word) -> Word | None:
        if settlement.negotiation.phase is self._phase:
            raise KilledError
        return word


@pytest.fixture
def backbone() -> MemoryBackbone:
    backbone = MemoryBackbone()
    backbone.admit("sbos", lei="571474TGEMMWANRLN572", bic="SBOSUS33")
    backbone.admit("bnpa", lei="R0MUWSFPU8MPRO8K5P83", bic="BNPAFRPP")
    return backbone


async def settled(
    backbone: MemoryBackbone,
    name: str,
    *instructions: SettlementInstruction,
    journal: Path | None = None,
    office: Office | None = None,
    within: timedelta = HOUR,
    practice: Practice = ON_THE_DAY,
) -> tuple[Outcome, ...]:
    with nullcontext() if journal is None else Journal(journal) as kept:
        async with connected(backbone, name) as me:
            return await settle_all(me, instructions, practice, within=within, office=office, journal=kept)


def trades(count: int) -> tuple[list[SettlementInstruction], list[SettlementInstruction]]:
    numbers = range(count)
    return (
        [replace(DELIVERY, transaction_id=f"D-{n}", trade_id=f"T-{n}") for n in numbers],
        [replace(RECEIPT, transaction_id=f"R-{n}", trade_id=f"T-{n}") for n in numbers],
    )


async def test_all_trades_of_both_sides_settle(backbone: MemoryBackbone) -> None:
    delivering, receiving = trades(20)
    ours, theirs = await soon(
        asyncio.gather(settled(backbone, "sbos", *delivering), settled(backbone, "bnpa", *receiving))
    )
    assert [outcome.ending for outcome in (*ours, *theirs)] == [Ending.SETTLED] * 40
    assert [outcome.instruction for outcome in theirs] == receiving
    assert list(csv.DictReader(io.StringIO(write_report(theirs).decode()))) == []


async def test_the_report_names_what_failed_and_why(backbone: MemoryBackbone) -> None:
    delivering, receiving = trades(3)
    delivering[1] = replace(delivering[1], isin="DE0007236101")
    receiving[2] = replace(receiving[2], settlement_date=date(2026, 11, 17), trade_date=date(2026, 11, 16))
    _, theirs = await soon(
        asyncio.gather(
            settled(backbone, "sbos", *delivering, within=WITHIN), settled(backbone, "bnpa", *receiving)
        )
    )
    report = list(csv.DictReader(io.StringIO(write_report(theirs).decode())))
    assert [tuple(row) for row in report] == [REPORT_COLUMNS] * 2
    unmatched, rejected = report
    assert (unmatched["reference"], unmatched["ending"]) == ("R-1", "unmatched")
    assert "FinInstrmId/ISIN: ours is DE0007236101, theirs FR0000121014" in unmatched["why"]
    assert len(unmatched["transaction"]) == 36
    assert (rejected["reference"], rejected["ending"], rejected["transaction"]) == ("R-2", "rejected", "")
    assert "2026-11-17 is past" in rejected["why"]


async def test_who_lets_it_time_out_is_named_with_how_far_it_was(backbone: MemoryBackbone) -> None:
    running = asyncio.create_task(settled(backbone, "bnpa", RECEIPT))
    await until(lambda: bool(backbone.pipelines[0].firehose))
    backbone.pass_time(MORE_THAN_THE_DEADLINE)
    (outcome,) = await soon(running)
    assert (outcome.ending, outcome.due) == (Ending.TIMED_OUT, ("sbos",))
    assert outcome.why == "waited for sbos, after the receiver's instruction"


async def test_a_deal_that_timed_out_before_we_came_leaves_our_delivery_free_for_the_next(
    backbone: MemoryBackbone,
) -> None:
    missed = asyncio.create_task(settled(backbone, "bnpa", RECEIPT))
    await until(lambda: bool(backbone.pipelines[0].firehose))
    backbone.pass_time(MORE_THAN_THE_DEADLINE)
    assert (await soon(missed))[0].ending is Ending.TIMED_OUT
    again = replace(RECEIPT, transaction_id="R-again")
    sides = await soon(asyncio.gather(settled(backbone, "sbos", DELIVERY), settled(backbone, "bnpa", again)))
    assert [outcome.ending for (outcome,) in sides] == [Ending.SETTLED] * 2


async def test_a_delivery_that_nobody_opens_fails_in_time(backbone: MemoryBackbone) -> None:
    (outcome,) = await soon(settled(backbone, "sbos", DELIVERY, within=timedelta(seconds=0.1)))
    assert outcome.ending is Ending.NOT_INSTRUCTED


async def test_what_does_not_verify_stops_the_desk(backbone: MemoryBackbone) -> None:
    running = asyncio.create_task(settled(backbone, "sbos", DELIVERY))
    await until(lambda: bool(backbone.connections))
    backbone.deliver("sbos", 0, b"forged")
    with pytest.raises(VerificationError):
        await soon(running)


async def test_a_reference_stands_for_one_instruction(backbone: MemoryBackbone) -> None:
    with pytest.raises(InstructionError, match="D-1 stands there twice"):
        await soon(settled(backbone, "sbos", DELIVERY, DELIVERY))


class TestARunThatIsKilled:
    """Run again with the same journal, it opens nothing twice, says nothing twice and loses no end."""

    @pytest.mark.parametrize(
        ("side", "phase"),
        [
            ("sbos", Phase.INSTRUCTED),
            ("sbos", Phase.CASH_CONFIRMED),
            ("bnpa", Phase.COMMITTED),
        ],
    )
    async def test_before_it_speaks_goes_on_from_there(
        self, backbone: MemoryBackbone, tmp_path: Path, side: str, phase: Phase
    ) -> None:
        own, counterpart = (DELIVERY, RECEIPT) if side == "sbos" else (RECEIPT, DELIVERY)
        other = asyncio.create_task(settled(backbone, "bnpa" if side == "sbos" else "sbos", counterpart))
        journal = tmp_path / "journal"
        with pytest.raises(KilledError):
            await soon(settled(backbone, side, own, journal=journal, office=Dying(phase)))
        (outcome,) = await soon(settled(backbone, side, own, journal=journal))
        assert outcome.ending is Ending.SETTLED
        assert (await soon(other))[0].ending is Ending.SETTLED
        assert len(backbone.pipelines[0].firehose) == 4

    async def test_after_everything_has_ended_does_nothing(
        self, backbone: MemoryBackbone, tmp_path: Path
    ) -> None:
        delivering, receiving = trades(3)
        delivering[1] = replace(delivering[1], isin="DE0007236101")
        other = asyncio.create_task(settled(backbone, "sbos", *delivering))
        journal = tmp_path / "journal"
        first = await soon(settled(backbone, "bnpa", *receiving, journal=journal))
        await soon(other)
        said = len(backbone.pipelines[0].firehose)
        assert await soon(settled(backbone, "bnpa", *receiving, journal=journal)) == first
        assert len(backbone.pipelines[0].firehose) == said

    async def test_between_its_last_word_and_its_noting_that_it_was_heard_knows_it(
        self, backbone: MemoryBackbone, tmp_path: Path
    ) -> None:
        journal = tmp_path / "journal"
        other = asyncio.create_task(settled(backbone, "bnpa", RECEIPT))
        await soon(settled(backbone, "sbos", DELIVERY, journal=journal))
        await soon(other)
        forget_last_line(journal)
        (outcome,) = await soon(settled(backbone, "sbos", DELIVERY, journal=journal))
        assert outcome.ending is Ending.SETTLED
        with Journal(journal) as kept:
            known = kept.entry("D-1")
        assert known == Entry("D-1", Ending.SETTLED, outcome.transaction, "", ended=True)

    async def test_before_its_last_word_was_heard_learns_that_the_deal_timed_out(
        self, backbone: MemoryBackbone, tmp_path: Path
    ) -> None:
        journal = tmp_path / "journal"
        other = asyncio.create_task(settled(backbone, "bnpa", RECEIPT))
        with pytest.raises(KilledError):
            await soon(
                settled(backbone, "sbos", DELIVERY, journal=journal, office=Dying(Phase.CASH_CONFIRMED))
            )
        (identity,) = backbone.pipelines[0].states
        about_to_settle = Entry("D-1", Ending.SETTLED, transaction_text(identity), "", ended=False)
        with Journal(journal) as kept:
            kept.note(about_to_settle)
        backbone.pass_time(MORE_THAN_THE_DEADLINE)
        (outcome,) = await soon(settled(backbone, "sbos", DELIVERY, journal=journal))
        assert outcome.ending is Ending.TIMED_OUT
        assert (await soon(other))[0].ending is Ending.TIMED_OUT

    @pytest.mark.parametrize("torn", ['{"reference": "D-2", "ending"', "{"])
    def test_in_the_middle_of_a_line_knows_what_came_before_it(self, tmp_path: Path, torn: str) -> None:
        path = tmp_path / "journal"
        entry = Entry("D-1", Ending.SETTLED, "", "é", ended=True)
        with Journal(path) as journal:
            journal.note(entry)
        with path.open("a") as file:
            file.write(f"\n{torn}")
        with Journal(path) as journal:
            assert journal.entry("D-2") is None
            journal.note(entry._replace(reference="D-3"))
        with Journal(path) as journal:
            assert journal.entry("D-1") == entry
            assert journal.entry("D-3") == entry._replace(reference="D-3")

    def test_keeps_its_journal_to_itself(self, tmp_path: Path) -> None:
        with Journal(tmp_path / "journal"), pytest.raises(JournalError, match="another run's"):
            Journal(tmp_path / "journal")
        with Journal(tmp_path / "journal") as journal:
            assert journal.entry("D-1") is None


def forget_last_line(path: Path) -> None:
    lines = path.read_text().rstrip("\n").split("\n")
    path.write_text("\n".join(lines[:-1]))


def test_a_file_that_is_no_journal_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    for text in ("Dear all,\nhello\n", "hello", "{}", '{"a": 1}\n'):
        path.write_text(text)
        with pytest.raises(JournalError, match="entry 1 is none of a journal"):
            Journal(path)
        assert path.read_text() == text
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path)


ROW = {
    "uti": "571474TGEMMWANRLN572261118000001",
    "deliverer_lei": "571474TGEMMWANRLN572",
    "receiver_lei": "R0MUWSFPU8MPRO8K5P83",
    "deliverer_securities_account": "S1",
    "receiver_securities_account": "S2",
    "deliverer_cash_account": "C1",
    "receiver_cash_account": "C2",
    "isin": "FR0000121014",
    "asset_class": "EQUITY",
    "quantity": "25",
    "currency": "EUR",
    "settlement_amount": "14243.00",
    "trade_date": "2026-11-18",
    "settlement_date": "2026-11-20",
    "place_of_settlement_bic": "MGTCBEBE",
}


class TestATradeFile:
    def file(self, *rows: dict[str, str]) -> bytes:
        written = io.StringIO()
        writer = csv.DictWriter(written, COLUMNS)
        writer.writeheader()
        writer.writerows(ROW | row for row in rows)
        return written.getvalue().encode()

    def test_gives_our_own_side_of_our_own_trades(self, backbone: MemoryBackbone) -> None:
        backbone.admit("deut", lei="7LTWFZYICNSX8D621K86", bic="DEUTDEFF")
        mirrored = {
            "uti": "571474TGEMMWANRLN572261118000002",
            "deliverer_lei": "R0MUWSFPU8MPRO8K5P83",
            "receiver_lei": "571474TGEMMWANRLN572",
        }
        foreign = {"uti": "571474TGEMMWANRLN572261118000003", "deliverer_lei": "7LTWFZYICNSX8D621K86"}
        ours = list(own_side(self.file({}, mirrored, foreign), backbone.directory, "sbos"))
        assert [each.movement.name for each in ours] == ["DELIVER", "RECEIVE"]
        assert ours[0].delivering == Chain("MGTCBEBE", (Party("SBOSUS33", "571474TGEMMWANRLN572", "S1"),))

    def test_with_a_party_whom_the_directory_does_not_have_is_refused_whole(
        self, backbone: MemoryBackbone
    ) -> None:
        stranger = self.file({}, {"receiver_lei": "7LTWFZYICNSX8D621K86"})
        with pytest.raises(TradeFileError, match="line 3, receiver_lei"):
            list(own_side(stranger, backbone.directory, "sbos"))

    def test_is_nobodys_who_has_no_attested_lei(self, backbone: MemoryBackbone) -> None:
        backbone.admit("nameless")
        with pytest.raises(InstructionError, match="nameless has no LEI"):
            list(own_side(self.file({}), backbone.directory, "nameless"))

    async def test_settles_straight_through(self, backbone: MemoryBackbone) -> None:
        data = self.file(*({"uti": f"571474TGEMMWANRLN57226111800000{n}"} for n in range(5)))
        sides = [list(own_side(data, backbone.directory, name)) for name in ("sbos", "bnpa")]
        outcomes = await soon(
            asyncio.gather(settled(backbone, "sbos", *sides[0]), settled(backbone, "bnpa", *sides[1]))
        )
        assert {outcome.ending for side in outcomes for outcome in side} == {Ending.SETTLED}
