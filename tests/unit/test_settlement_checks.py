"""What must be true of one instruction by itself: every finding is named by its path, with the reason that tells it on."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from parley.errors import InstructionError
from parley.workflows.settlement.checks import check, findings
from parley.workflows.settlement.instruction import (
    Chain,
    Measure,
    Money,
    Party,
    Quantity,
    SettlementInstruction,
)
from tests.settlement import DELIVERY, RECEIPT, TODAY, TOP


def with_deliverer(party: Party) -> SettlementInstruction:
    return replace(DELIVERY, delivering=Chain("SICVFRPP", (party,)))


@pytest.mark.parametrize("instruction", [DELIVERY, RECEIPT])
def test_a_sound_instruction_has_no_findings(instruction: SettlementInstruction) -> None:
    assert findings(instruction, TODAY) == ()
    check(instruction, TODAY)


@pytest.mark.parametrize(
    ("instruction", "path", "reason"),
    [
        (
            replace(DELIVERY, settlement_date=date(2026, 11, 17), trade_date=date(2026, 11, 16)),
            "TradDtls/SttlmDt",
            "DDAT",
        ),
        (replace(DELIVERY, trade_date=date(2026, 11, 19)), "TradDtls/TradDt", "DTRD"),
        (replace(DELIVERY, isin="FR0000121015"), "FinInstrmId/ISIN", "DSEC"),
        (replace(DELIVERY, isin="ZZ0000121014"), "FinInstrmId/ISIN", "DSEC"),
        (replace(DELIVERY, isin="fr0000121014"), "FinInstrmId/ISIN", "DSEC"),
        (with_deliverer(Party("SBOSUS33", "571474TGEMMWANRLN573")), "DlvrgSttlmPties/Pty1/LEI", "ICAG"),
        (with_deliverer(Party("SBOSQQ33")), "DlvrgSttlmPties/Pty1/Id/AnyBIC", "ICAG"),
        (with_deliverer(Party("SBOSUS33 ")), "DlvrgSttlmPties/Pty1/Id/AnyBIC", "ICAG"),
        (
            replace(DELIVERY, receiving=replace(DELIVERY.receiving, depository="SICVQQPP")),
            "RcvgSttlmPties/Dpstry/Id/AnyBIC",
            "DEPT",
        ),
        (
            replace(
                DELIVERY,
                receiving=replace(DELIVERY.receiving, parties=(*DELIVERY.receiving.parties[:1], Party("QQ"))),
            ),
            "RcvgSttlmPties/Pty2/Id/AnyBIC",
            "ICUS",
        ),
        (
            replace(DELIVERY, quantity=Quantity(Measure.UNITS, Decimal(0))),
            "QtyAndAcctDtls/SttlmQty/Qty/Unit",
            "DQUA",
        ),
        (
            replace(DELIVERY, quantity=Quantity(Measure.FACE_AMOUNT, Decimal(-1))),
            "QtyAndAcctDtls/SttlmQty/Qty/FaceAmt",
            "DQUA",
        ),
        (replace(DELIVERY, amount=Money(Decimal(0), "EUR")), "SttlmAmt/Amt", "DMON"),
        (replace(DELIVERY, amount=Money(Decimal(-1), "EUR")), "SttlmAmt/Amt", "DMON"),
        (replace(DELIVERY, amount=Money(Decimal("NaN"), "EUR")), "SttlmAmt/Amt", "DMON"),
        (replace(DELIVERY, amount=Money(Decimal("1.001"), "EUR")), "SttlmAmt/Amt", "DMON"),
        (replace(DELIVERY, amount=Money(Decimal(1), "DEM")), "SttlmAmt/Amt/@Ccy", "NCRR"),
    ],
)
def test_what_is_wrong_is_named_by_path_and_reason(
    instruction: SettlementInstruction, path: str, reason: str
) -> None:
    assert [(found.path, found.reason) for found in findings(instruction, TODAY)] == [
        (f"{TOP}/{path}", reason)
    ]


def test_a_settlement_date_before_the_trade_date_is_found_even_in_the_future() -> None:
    instruction = replace(DELIVERY, trade_date=date(2026, 12, 2), settlement_date=date(2026, 12, 1))
    assert [found.reason for found in findings(instruction, date(2026, 12, 1))] == ["DTRD", "DDAT"]


def test_settling_today_is_not_in_the_past() -> None:
    assert findings(DELIVERY, DELIVERY.settlement_date) == ()


def test_all_findings_are_told_at_once() -> None:
    instruction = replace(DELIVERY, isin="FR0000121015", amount=Money(Decimal(1), "ABC"))
    with pytest.raises(InstructionError, match=r"ISIN: .*; .*@Ccy: 'ABC' is no currency"):
        check(instruction, TODAY)
