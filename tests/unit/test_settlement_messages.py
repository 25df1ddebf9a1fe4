"""Status advices and confirmations, and a trade file as instructions of both sides."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from parley.errors import ElementError, TradeFileError, WrongDocumentError
from parley.workflows.settlement.advice import (
    Reason,
    Status,
    StatusAdvice,
    read_advice,
    rejection_reasons,
    unmatched_reasons,
    write_advice,
)
from parley.workflows.settlement.checks import findings
from parley.workflows.settlement.confirmation import Confirmation, read_confirmation, write_confirmation
from parley.workflows.settlement.instruction import Measure, Money, Movement
from parley.workflows.settlement.matching import Matched, Mismatches, match
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.trades import COLUMNS, participants, trades
from parley.workflows.settlement.writing import write_instruction
from tests.settlement import DELIVERY, RECEIPT, TODAY

DATA = Path(__file__).parents[2] / "deploy" / "data"
BICS = {"571474TGEMMWANRLN572": "SBOSUS33", "R0MUWSFPU8MPRO8K5P83": "BNPAFRPP"}
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


def trade_file(**changes: str) -> bytes:
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS)
    writer.writeheader()
    writer.writerow(ROW | changes)
    return written.getvalue().encode()


class TestAnAdvice:
    @pytest.mark.parametrize(
        ("status", "reasons"),
        [
            (Status.MATCHED, ()),
            (Status.UNMATCHED, (Reason("CMIS"),)),
            (Status.UNMATCHED, ()),
            (Status.PENDING, (Reason("LACK", "25 of LVMH are missing"), Reason("MONY"))),
            (Status.REJECTED, (Reason("DDAT", "2026-11-01 is past"),)),
        ],
    )
    def test_tells_the_status_and_its_reasons(self, status: Status, reasons: tuple[Reason, ...]) -> None:
        advice = write_advice(DELIVERY, status, reasons)
        assert read_advice(advice) == StatusAdvice("D-1", status, reasons, DELIVERY.amount)

    def test_carries_the_trade_so_that_it_can_be_read_by_itself(self) -> None:
        advice = write_advice(DELIVERY, Status.MATCHED).decode()
        for told in (
            "<TradId>571474TGEMMWANRLN572261118000001<",
            "<ISIN>FR0000121014<",
            "<CmonId>CMN-1<",
            "14243.00",
        ):
            assert told in advice

    @pytest.mark.parametrize("status", [Status.UNMATCHED, Status.PENDING, Status.REJECTED])
    def test_with_a_code_that_its_status_does_not_have_is_not_written(self, status: Status) -> None:
        with pytest.raises(ElementError, match="'ZZZZ' is not among the values"):
            write_advice(DELIVERY, status, [Reason("ZZZZ")])

    def test_of_a_match_has_no_reasons(self) -> None:
        with pytest.raises(ElementError, match="give none"):
            write_advice(DELIVERY, Status.MATCHED, [Reason("OTHR")])

    def test_with_a_text_longer_than_the_standard_is_not_written(self) -> None:
        with pytest.raises(ElementError, match="211 characters") as refused:
            write_advice(DELIVERY, Status.UNMATCHED, [Reason("OTHR"), Reason("OTHR", "x" * 211)])
        assert refused.value.path == "/Document/SctiesSttlmTxStsAdvc/MtchgSts/Umtchd/Rsn[2]/AddtlRsnInf"

    def test_of_mismatches_gives_one_reason_for_each_field(self) -> None:
        found = match(DELIVERY, replace(RECEIPT, isin="DE0007236101", amount=Money(Decimal(1), "USD")))
        assert isinstance(found, Mismatches)
        advice = read_advice(write_advice(DELIVERY, Status.UNMATCHED, unmatched_reasons(found)))
        assert [reason.code for reason in advice.reasons] == ["DSEC", "NCRR"]
        assert advice.reasons[0].text == (
            "FinInstrmId/ISIN: ours is FR0000121014, theirs DE0007236101 (both state the same)"
        )

    def test_of_mismatches_shortens_what_is_longer_than_the_standard(self) -> None:
        found = match(DELIVERY, replace(RECEIPT, trade_id="x" * 500))
        assert isinstance(found, Mismatches)
        (reason,) = unmatched_reasons(found)
        assert reason.text is not None
        assert len(reason.text) == 210
        write_advice(DELIVERY, Status.UNMATCHED, [reason])

    def test_of_findings_gives_one_reason_for_each(self) -> None:
        wrong = replace(DELIVERY, isin="FR0000121015", settlement_date=date(2026, 11, 17))
        reasons = rejection_reasons(findings(wrong, TODAY))
        advice = read_advice(write_advice(wrong, Status.REJECTED, reasons))
        assert [reason.code for reason in advice.reasons] == ["DDAT", "DDAT", "DSEC"]

    def test_of_a_status_that_is_none_of_ours_is_refused(self) -> None:
        advice = write_advice(DELIVERY, Status.PENDING).replace(b"SttlmSts>", b"IfrrdMtchgSts>")
        advice = advice.replace(b"<Pdg>", b"<Umtchd>").replace(b"</Pdg>", b"</Umtchd>")
        with pytest.raises(ElementError, match="no status that is known"):
            read_advice(advice)

    def test_is_no_instruction(self) -> None:
        with pytest.raises(WrongDocumentError):
            read_instruction(write_advice(DELIVERY, Status.MATCHED))


class TestAConfirmation:
    def test_tells_what_was_delivered_and_paid_and_when(self) -> None:
        paid = Money(Decimal("14250.00"), "EUR")
        told = read_confirmation(write_confirmation(RECEIPT, date(2026, 11, 23), paid))
        assert told == Confirmation(
            "OTHER-SIDE", Movement.RECEIVE, date(2026, 11, 23), "FR0000121014", RECEIPT.quantity, paid
        )

    def test_tells_the_instructions_amount_if_nothing_else_was_paid(self) -> None:
        assert read_confirmation(write_confirmation(DELIVERY, TODAY)).amount == DELIVERY.amount


class TestAnInstructionThatTheStandardDoesNotAdmit:
    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"transaction_id": ""}, "TxId"),
            ({"isin": "short"}, "FinInstrmId/ISIN"),
            ({"transaction_type": "SALE"}, "SttlmParams/SctiesTxTp/Cd"),
            ({"cash_account": "x" * 35}, "QtyAndAcctDtls/CshAcct/Prtry"),
            ({"amount": Money(Decimal(-1), "EUR")}, "SttlmAmt/Amt"),
        ],
    )
    def test_is_not_written(self, changes: dict[str, object], path: str) -> None:
        with pytest.raises(ElementError) as refused:
            write_instruction(replace(DELIVERY, **changes))  # type: ignore[arg-type]
        assert refused.value.path == f"/Document/SctiesSttlmTxInstr/{path}"


class TestATradeFile:
    def test_of_the_reference_data_becomes_instructions_that_match_and_survive_their_documents(self) -> None:
        bics = participants((DATA / "participants.csv").read_bytes())
        sides = list(trades((DATA / "settlements.csv").read_bytes(), bics))
        assert len(sides) == 600
        assert all(match(*side) == Matched(Decimal(0)) for side in sides)
        assert len({instruction.transaction_id for side in sides for instruction in side}) == 1_200
        for instruction in sides[0]:
            assert read_instruction(write_instruction(instruction)) == instruction

    def test_of_the_reference_data_passes_every_check_on_its_trade_date(self) -> None:
        bics = participants((DATA / "participants.csv").read_bytes())
        sides = trades((DATA / "settlements.csv").read_bytes(), bics)
        assert [findings(each, each.trade_date) for side in sides for each in side] == [()] * 1_200

    def test_gives_each_side_its_own_accounts(self) -> None:
        ((delivering, receiving),) = trades(trade_file(), BICS)
        assert (delivering.safekeeping_account, delivering.cash_account) == ("S1", "C1")
        assert (receiving.safekeeping_account, receiving.cash_account) == ("S2", "C2")

    def test_counts_bonds_by_their_face_amount(self) -> None:
        ((delivering, _),) = trades(trade_file(asset_class="BOND"), BICS)
        assert delivering.quantity.measure is Measure.FACE_AMOUNT

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"deliverer_lei": "NOBODY"}, "line 2, deliverer_lei: 'NOBODY' is no participant"),
            ({"quantity": "many"}, "line 2, quantity: 'many' is no number"),
            ({"quantity": "-1"}, "line 2, quantity"),
            ({"settlement_amount": "NaN"}, "line 2, settlement_amount"),
            ({"settlement_amount": "9" * 5_000}, "line 2, settlement_amount"),
            ({"trade_date": "18.11.2026"}, "line 2, trade_date: '18.11.2026' is no day"),
            ({"isin": ""}, "line 2, isin: is empty"),
        ],
    )
    def test_that_is_wrong_names_line_and_column(self, changes: dict[str, str], told: str) -> None:
        with pytest.raises(TradeFileError, match=told):
            list(trades(trade_file(**changes), BICS))

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "columns uti"),
            (b"uti,isin\n", "columns deliverer_lei"),
            (b"\xff\xfe", "not UTF-8"),
            (trade_file().replace(b",EUR,", b',"EUR,'), "after line 1: unexpected end"),
            (trade_file() + b"short,row\n", "line 3, receiver_lei: is empty"),
            (trade_file().replace(b"EUR", b"E" * 200_000), "field larger than"),
        ],
    )
    def test_that_is_no_such_table_is_refused(self, data: bytes, told: str) -> None:
        with pytest.raises(TradeFileError, match=told):
            list(trades(data, BICS))

    def test_whose_participants_contradict_each_other_is_refused(self) -> None:
        with pytest.raises(TradeFileError, match="line 3, lei"):
            participants(b"lei,bic\nA,BNPAFRPP\nA,DEUTDEFF\n")


def test_the_other_messages_of_the_package_of_models_are_not_loaded() -> None:
    program = """
import sys
from parley.workflows.settlement.confirmation import read_confirmation, write_confirmation
from tests.settlement import DELIVERY, TODAY
data = write_confirmation(DELIVERY, TODAY)
loaded = sorted(name for name in sys.modules if name.startswith("python_iso20022.sese.sese_"))
assert loaded == ["python_iso20022.sese.sese_025_001_11", "python_iso20022.sese.sese_025_001_11.models"], loaded
assert "python_iso20022.sese" not in sys.modules
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr.decode()
