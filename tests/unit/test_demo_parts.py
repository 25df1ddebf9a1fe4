"""The demonstration's pure parts: what banks say, who plays which part, and when a run is not good."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from deploy.demo.__main__ import main
from deploy.demo.auditor import Audited, FoundAnchor
from deploy.demo.conduct import DECLINED, PlayedOffice
from deploy.demo.findings import Evidence, checks
from deploy.demo.folder import DemoFolder
from deploy.demo.orders import (
    Conduct,
    Order,
    Report,
    Side,
    TradeReport,
    orders_for,
    read,
    write,
    write_instructions,
)
from deploy.demo.reference import (
    EXPECTED,
    Ending,
    Institution,
    Scenario,
    Trade,
    institutions,
    pairs,
    select,
    sides,
    trades,
    ungranted,
)
from deploy.demo.run import Result
from deploy.demo.venue import Pace
from deploy.errors import AlreadyRunningError, DeployError, SetupError
from firehose.core import Figures, Instrument
from parley.workflows.settlement.advice import Reason
from parley.workflows.settlement.checks import findings
from parley.workflows.settlement.negotiation import Phase, heard, next_word
from parley.workflows.settlement.office import Settlement
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.steps import KIND

EVERYBODY = institutions()
TRADES = trades()


def trade_of(scenario: Scenario) -> Trade:
    return next(trade for trade in TRADES if trade.scenario is scenario)


def both_orders(trade: Trade, folder: Path = Path()) -> tuple[Order, Order]:
    """The deliverer's and the receiver's."""
    (delivers,) = orders_for(trade.deliverer_lei, [trade], folder)
    (receives,) = orders_for(trade.receiver_lei, [trade], folder)
    return delivers, receives


async def negotiated(trade: Trade) -> tuple[Settlement, Settlement]:
    """The deliverer's side and the receiver's after both banks have played their parts, the late ones left out."""
    instructions = sides()[trade.uti]
    deliverer, receiver = Settlement(instructions.delivering), Settlement(instructions.receiving)
    offices = [PlayedOffice({trade.uti: order.conduct}, no_opening, print) for order in both_orders(trade)]
    turn, other = (receiver, offices[1]), (deliverer, offices[0])
    while not turn[0].negotiation.phase.ends:
        speaker, office = turn
        word = next_word(speaker.negotiation, speaker.ours.trade_date)
        assert word is not None
        word = await office.approve(speaker, word)
        late = speaker.negotiation.phase is Phase.CASH_CONFIRMED and trade.scenario is Scenario.LATE_FINISH
        if word is None or late:
            break
        for each in (deliverer, receiver):
            each.messages += 1
            each.negotiation = heard(each.negotiation, *word[:2], own=each is speaker, finishes=word.finishes)
        turn, other = other, turn
    return deliverer, receiver


async def no_opening(*_: object) -> NoReturn:
    raise AssertionError("nothing is opened here")


# Reference data --------------------------------------------------------------------------------------------------------


def test_every_party_of_every_trade_is_an_institution_of_the_reference_data() -> None:
    known = {institution.lei for institution in EVERYBODY if institution.role == "bank"}
    assert {lei for trade in TRADES for lei in (trade.deliverer_lei, trade.receiver_lei)} == known


@pytest.mark.parametrize("count", [5, 12, 30, 600])
def test_a_smaller_run_still_has_every_scenario(count: int) -> None:
    chosen = select(TRADES, count)
    assert len(chosen) == count
    assert {trade.scenario for trade in chosen} == set(Scenario)
    assert chosen == sorted(chosen, key=TRADES.index)


def test_every_trade_is_in_the_orders_of_its_two_banks_and_of_nobody_else() -> None:
    books = Counter(order.uti for bank in EVERYBODY for order in orders_for(bank.lei, TRADES, Path()))
    assert set(books.values()) == {2}
    assert len(books) == len(TRADES)


def test_a_bank_is_told_its_own_part_only() -> None:
    delivers, receives = both_orders(trade_of(Scenario.RECEIVER_SILENT))
    assert (delivers.side, delivers.conduct) == (Side.DELIVER, Conduct.REGULAR)
    assert (receives.side, receives.conduct) == (Side.RECEIVE, Conduct.SILENT)


def test_a_bank_is_told_its_own_instruction_with_its_own_cash_account(tmp_path: Path) -> None:
    trade = trade_of(Scenario.SETTLES)
    (delivers, _), (_, receives) = (both_orders(trade, tmp_path / side) for side in ("D", "R"))
    write_instructions([delivers, receives], sides())
    assert read_instruction(delivers.instruction.read_bytes()) == sides()[trade.uti].delivering
    assert trade.receiver_cash_account not in delivers.instruction.read_text()
    assert trade.deliverer_cash_account not in receives.instruction.read_text()


def test_one_bank_forgets_the_regulator_once() -> None:
    conducts = [order.conduct for bank in EVERYBODY for order in orders_for(bank.lei, TRADES, Path())]
    assert conducts.count(Conduct.FORGETS) == 1


def test_each_pair_of_banks_that_trades_is_one_whoever_delivers() -> None:
    there = trade_of(Scenario.SETTLES)
    back = replace(there, deliverer_lei=there.receiver_lei, receiver_lei=there.deliverer_lei)
    assert pairs([there, back]) == {frozenset((there.deliverer_lei, there.receiver_lei))}


# Parts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "phase"),
    [
        (Scenario.SETTLES, Phase.SETTLED),
        (Scenario.DECLINED, Phase.REJECTED),
        (Scenario.RECEIVER_SILENT, Phase.COMMITTED),
        (Scenario.DELIVERER_SILENT, Phase.INSTRUCTED),
        (Scenario.LATE_FINISH, Phase.CASH_CONFIRMED),
    ],
)
async def test_each_scenario_takes_its_course(scenario: Scenario, phase: Phase) -> None:
    trade = trade_of(scenario)
    for settlement in await negotiated(trade):
        assert settlement.negotiation.phase is phase
        assert settlement.messages == trade.messages


async def test_who_declines_says_why() -> None:
    deliverer, _ = await negotiated(trade_of(Scenario.DECLINED))
    assert deliverer.negotiation.reasons == (Reason("OTHR", DECLINED),)


def test_every_instruction_of_the_reference_data_is_right_on_its_trade_date() -> None:
    instructions = [each for pair in sides().values() for each in pair]
    assert len(instructions) == 2 * len(TRADES)
    assert [found for each in instructions for found in findings(each, each.trade_date)] == []


# Files -----------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    report = Report("bank", (good_report(TRADES[0], Side.RECEIVE),), ("odd",))
    write(tmp_path / "report.json", report)
    assert read(tmp_path / "report.json", Report) == report
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"participant": 1}'])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(DeployError, match="no Report"):
        read(path, Report)


# Findings --------------------------------------------------------------------------------------------------------------


def name_of(lei: str) -> str:
    return next(each.participant for each in EVERYBODY if each.lei == lei)


def good_report(trade: Trade, side: Side) -> TradeReport:
    late = trade.scenario is Scenario.LATE_FINISH and side is Side.DELIVER
    refused: tuple[str, ...] = ("DEADLINE_PASSED",) if late else ()
    if trade.uti == ungranted(TRADES) and side is Side.RECEIVE:
        refused = ("GRANT_REQUIRED",)
    return TradeReport(
        uti=trade.uti,
        isin=trade.isin,
        currency=trade.currency,
        settlement_amount=trade.settlement_amount,
        side=side,
        transaction="t",
        ending=EXPECTED[trade.scenario],
        due=() if trade.due is None else (name_of(trade.due),),
        refused=refused,
    )


def good_evidence(count: int = 30) -> Evidence:
    """What a run in which all went well leaves behind."""
    chosen = select(TRADES, count)
    banks: list[Institution] = [each for each in EVERYBODY if each.role == "bank"]
    reports = [
        Report(
            bank.participant,
            tuple(
                good_report(trade, side)
                for trade in chosen
                for side, lei in ((Side.DELIVER, trade.deliverer_lei), (Side.RECEIVE, trade.receiver_lei))
                if lei == bank.lei
            ),
            (),
        )
        for bank in banks
    ]
    channels = len(pairs(chosen))
    said = {KIND: sum(trade.messages for trade in chosen), "channel": 2 * channels}
    figures = Figures(
        events=7,
        messages=sum(said.values()),
        private=sum(said.values()),
        unread={"channel": 2 * channels},
        opened=count + channels,
        outcomes=Counter(str(EXPECTED[trade.scenario]) for trade in chosen),
        waiting_on=Counter(name_of(trade.due) for trade in chosen if trade.due is not None),
        instruments={isin: instrument_of(chosen, isin) for isin in {trade.isin for trade in chosen}},
    )
    finished = sum(EXPECTED[trade.scenario] is not Ending.TIMED_OUT for trade in chosen)
    audited = Audited(
        log_size=9,
        root="00",
        transactions=count + channels,
        transactions_by_kind={KIND: count, "channel": channels},
        messages_by_kind=said,
        in_clear=0,
        finished=finished + channels,
        timed_out=count - finished,
        messages=figures.messages,
        signatures=figures.messages,
        directory_records=18,
        firehose_events=7,
        unsealed=0,
        anchors=(FoundAnchor(9, "00", "00", 1, 2),),
        proofs_verified=finished,
        violations=(),
    )
    late = sum(trade.scenario is Scenario.LATE_FINISH for trade in chosen)
    rejections = {"DEADLINE_PASSED": late, "GRANT_REQUIRED": 1}
    return Evidence(chosen, EVERYBODY, reports, figures, rejections, audited)


def instrument_of(chosen: list[Trade], isin: str) -> Instrument:
    here = [trade for trade in chosen if trade.isin == isin]
    instrument = Instrument(Counter(str(EXPECTED[trade.scenario]) for trade in here), {})
    settled = dict(instrument.settled)
    for trade in here:
        if trade.scenario is Scenario.SETTLES:
            settled[trade.currency] = settled.get(trade.currency, trade.amount * 0) + trade.amount
    return replace(instrument, settled=settled)


def broken(evidence: Evidence) -> list[str]:
    return [check.claim for check in checks(evidence) if not check.good]


def test_a_run_in_which_all_went_well_is_good() -> None:
    assert broken(good_evidence()) == []


@pytest.mark.parametrize("scenario", list(Scenario))
def test_a_trade_that_ended_otherwise_than_its_scenario_says_is_named(scenario: Scenario) -> None:
    evidence = good_evidence()
    trade = next(trade for trade in evidence.trades if trade.scenario is scenario)
    other = Ending.SETTLED if EXPECTED[scenario] is not Ending.SETTLED else Ending.TIMED_OUT
    reports = [
        replace(
            bank,
            trades=tuple(
                replace(each, ending=other) if each.uti == trade.uti else each for each in bank.trades
            ),
        )
        for bank in evidence.reports
    ]
    first, *_ = checks(replace(evidence, reports=reports))
    assert not first.good
    assert any(trade.uti in fault for fault in first.faults)


@pytest.mark.parametrize("json_asked", [False, True])
def test_the_verdict_on_a_bad_run_is_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], json_asked: bool
) -> None:
    evidence = replace(good_evidence(), reports=[])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(
        "deploy.demo.run.perform",
        lambda *_: Result(evidence, checks(evidence), None, None, True, Pace(40, 25), {"total": 1.0}),
    )
    folder = tmp_path / "run"
    assert main(["--folder", str(folder), *(["--json"] if json_asked else [])]) == 1
    shown = capsys.readouterr().out
    assert json.loads((folder / "summary.json").read_text())["good"] is False
    if json_asked:
        assert json.loads(shown)["good"] is False
    else:
        assert "✗ every trade ended as its scenario says" in shown
        assert "NOT everything is as it must be" in shown


def test_banks_that_do_not_report_a_trade_make_the_run_bad() -> None:
    evidence = good_evidence()
    assert broken(replace(evidence, reports=evidence.reports[1:]))


def test_a_timeout_that_names_the_wrong_bank_makes_the_run_bad() -> None:
    evidence = good_evidence()
    reports = [
        replace(bank, trades=tuple(replace(each, due=("ubswchzh",)) for each in bank.trades))
        for bank in evidence.reports
    ]
    assert "every timeout names the bank that was due" in broken(replace(evidence, reports=reports))


@pytest.mark.parametrize(
    "rejections",
    [
        {},
        {"DEADLINE_PASSED": 1},
        {"DEADLINE_PASSED": 2, "GRANT_REQUIRED": 1},
        {"DEADLINE_PASSED": 1, "GRANT_REQUIRED": 1, "MALFORMED": 1},
    ],
)
def test_refusals_must_be_those_of_the_late_and_the_forgetful_and_no_others(
    rejections: dict[str, int],
) -> None:
    assert broken(replace(good_evidence(12), rejections=rejections))


def test_a_regulator_who_counts_otherwise_makes_the_run_bad() -> None:
    evidence = good_evidence()
    isin, instrument = next(iter(evidence.figures.instruments.items()))
    outcomes = {**instrument.outcomes, "settled": 99}
    figures = replace(
        evidence.figures,
        instruments={**evidence.figures.instruments, isin: replace(instrument, outcomes=outcomes)},
    )
    assert len(broken(replace(evidence, figures=figures))) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"unread": {}},
        {"unread": {"channel": 48, KIND: 1}},
        {"private": 1},
    ],
)
def test_a_regulator_who_reads_less_than_the_trades_or_more_makes_the_run_bad(
    change: dict[str, object],
) -> None:
    evidence = good_evidence()
    figures = replace(evidence.figures, **change)  # type: ignore[arg-type]
    assert len(broken(replace(evidence, figures=figures))) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"violations": ("block in block 3: bad",)},
        {"violations": ("anchors: another root",)},
        {"violations": ("proof x.proof: bad",)},
        {"transactions_by_kind": {KIND: 30, "channel": 1}},
        {"messages_by_kind": {KIND: 1}},
        {"in_clear": 1},
        {"unsealed": 1},
        {"firehose_events": 6},
        {"anchors": ()},
        {"proofs_verified": 1},
    ],
)
def test_an_audit_that_finds_something_makes_the_run_bad(change: dict[str, object]) -> None:
    evidence = good_evidence()
    audited = replace(evidence.audited, **change)  # type: ignore[arg-type]
    assert len(broken(replace(evidence, audited=audited))) == 1


def test_a_check_names_a_few_faults_and_counts_the_rest() -> None:
    first, *_ = checks(replace(good_evidence(), reports=[]))
    assert len(first.faults) == 6
    assert first.faults[-1] == "and 25 more"


# Folder ----------------------------------------------------------------------------------------------------------------


def test_a_run_finds_nothing_of_the_last_one_and_leaves_no_secret(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    with folder.taken(keep=False):
        (folder.proofs / "old.proof").write_bytes(b"")
        folder.summary.write_text("{}")
        folder.stack.password("somebody")
    assert folder.summary.exists()
    assert not folder.stack.secrets.exists()
    with folder.taken(keep=True):
        assert not folder.summary.exists()
        assert not any(folder.proofs.iterdir())
        folder.stack.password("somebody")
    assert folder.stack.secrets.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("precious")
    with pytest.raises(SetupError, match="name an empty folder"), DemoFolder(tmp_path).taken(keep=False):
        pass
    assert (tmp_path / "log").read_text() == "precious"


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    with (
        folder.taken(keep=False),
        pytest.raises(AlreadyRunningError, match="runs in"),
        folder.taken(keep=False),
    ):
        pass
