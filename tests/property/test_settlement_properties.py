"""Whatever can be instructed: documents give back what they were written from, and matching names what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.errors import SettlementError
from parley.workflows.settlement.advice import Reason, Status, StatusAdvice, read_advice, write_advice
from parley.workflows.settlement.checks import findings
from parley.workflows.settlement.confirmation import read_confirmation, write_confirmation
from parley.workflows.settlement.instruction import Chain, Measure, Money, Quantity, SettlementInstruction
from parley.workflows.settlement.matching import Matched, Mismatches, Tolerance, match
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.writing import write_instruction
from tests.settlement import DELIVERY, TODAY, TOP, instructions, pairs

slow_to_draw = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=25)


@slow_to_draw
@given(instructions())
def test_reading_gives_back_what_was_written(instruction: SettlementInstruction) -> None:
    assert read_instruction(write_instruction(instruction)) == instruction


@slow_to_draw
@given(instructions())
def test_nothing_is_found_wrong_with_a_sound_instruction(instruction: SettlementInstruction) -> None:
    assert findings(instruction, TODAY) == ()


@slow_to_draw
@given(instructions(), st.sampled_from(("NCRR", "DSEC", "OTHR")), st.text("abc …é", min_size=1, max_size=210))
def test_an_advice_tells_what_was_written(instruction: SettlementInstruction, code: str, text: str) -> None:
    told = write_advice(instruction, Status.UNMATCHED, [Reason(code, text), Reason("DMON")])
    expected = (Reason(code, text), Reason("DMON"))
    assert read_advice(told) == StatusAdvice(
        instruction.transaction_id, Status.UNMATCHED, expected, instruction.amount
    )


@slow_to_draw
@given(instructions())
def test_a_confirmation_tells_what_was_written(instruction: SettlementInstruction) -> None:
    told = read_confirmation(write_confirmation(instruction, TODAY))
    assert told.transaction_id == instruction.transaction_id
    assert told[1:] == (
        instruction.movement,
        TODAY,
        instruction.isin,
        instruction.quantity,
        instruction.amount,
    )


@slow_to_draw
@given(pairs())
def test_two_sides_that_see_a_trade_alike_match(
    sides: tuple[SettlementInstruction, SettlementInstruction],
) -> None:
    assert match(*sides) == Matched(Decimal(0))


Change = Callable[[SettlementInstruction], SettlementInstruction]


def _chain(side: str, change: Callable[[Chain], Chain]) -> Change:
    return lambda i: replace(i, **{side: change(getattr(i, side))})  # type: ignore[arg-type]


def _first(**changes: object) -> Callable[[Chain], Chain]:
    return lambda chain: Chain(chain.depository, (replace(chain.parties[0], **changes), *chain.parties[1:]))  # type: ignore[arg-type]


# A change to the other side, and the paths that the mismatch must name, and no others.
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "movement": (
        lambda i: replace(i, movement=i.movement.mirror),
        {"SttlmTpAndAddtlParams/SctiesMvmntTp"},
    ),
    "common reference": (lambda i: replace(i, common_id="another"), {"SttlmTpAndAddtlParams/CmonId"}),
    "trade": (lambda i: replace(i, trade_id="another"), {"TradDtls/TradId"}),
    "trade date": (
        lambda i: replace(i, trade_date=i.trade_date - timedelta(days=1)),
        {"TradDtls/TradDt/Dt"},
    ),
    "settlement date": (
        lambda i: replace(i, settlement_date=i.settlement_date + timedelta(days=1)),
        {"TradDtls/SttlmDt/Dt"},
    ),
    "security": (lambda i: replace(i, isin="CH0038863350"), {"FinInstrmId/ISIN"}),
    "number": (
        lambda i: replace(i, quantity=replace(i.quantity, number=i.quantity.number + 1)),
        {"QtyAndAcctDtls/SttlmQty/Qty"},
    ),
    "measure": (
        lambda i: replace(
            i,
            quantity=Quantity(
                Measure.UNITS if i.quantity.measure is Measure.FACE_AMOUNT else Measure.FACE_AMOUNT,
                i.quantity.number,
            ),
        ),
        {"QtyAndAcctDtls/SttlmQty/Qty"},
    ),
    "type": (lambda i: replace(i, transaction_type="NETT"), {"SttlmParams/SctiesTxTp/Cd"}),
    "amount": (
        lambda i: replace(i, amount=replace(i.amount, amount=i.amount.amount + Decimal("0.001"))),
        {"SttlmAmt/Amt"},
    ),
    "currency": (lambda i: replace(i, amount=Money(i.amount.amount, "CHF")), {"SttlmAmt/Amt/@Ccy"}),
} | {
    f"{side} {what}": (_chain(side, change), {f"{element}/{path}"})
    for side, element in (("delivering", "DlvrgSttlmPties"), ("receiving", "RcvgSttlmPties"))
    for what, change, path in (
        ("depository", lambda chain: replace(chain, depository="DAKVDEFF999"), "Dpstry/Id"),
        ("first party", _first(id="MGTCBEBEECL"), "Pty1/Id"),
        ("first party's LEI", _first(lei="another"), "Pty1/LEI"),
        ("first party's account", _first(safekeeping_account="another account"), "Pty1/SfkpgAcct/Id"),
    )
}


@pytest.mark.parametrize("what", CHANGES)
@slow_to_draw
@given(sides=pairs())
def test_any_single_field_changed_is_named_by_the_mismatch(
    what: str, sides: tuple[SettlementInstruction, SettlementInstruction]
) -> None:
    change, paths = CHANGES[what]
    ours, theirs = _everything_stated(sides[0]), change(_everything_stated(sides[1]))
    found = match(ours, theirs)
    assert isinstance(found, Mismatches)
    assert {field.path.removeprefix(f"{TOP}/") for field in found.fields} == paths


def _everything_stated(instruction: SettlementInstruction) -> SettlementInstruction:
    stated = replace(instruction, common_id="common", trade_id="trade")
    for side in ("delivering", "receiving"):
        party = getattr(stated, side).parties[0]
        full = _first(lei=party.lei or "lei", safekeeping_account=party.safekeeping_account or "account")
        stated = _chain(side, full)(stated)
    return stated


@given(
    st.decimals(0, 10**9, places=2),
    st.decimals(0, 10**9, places=2),
    st.decimals(0, 100, places=2),
    st.decimals(0, 5, places=2),
)
def test_a_tolerance_admits_the_same_whoever_asks_and_never_less_when_it_is_wider(
    ours: Decimal, theirs: Decimal, absolute: Decimal, percent: Decimal
) -> None:
    narrow = Tolerance((("EUR", absolute),), percent)
    wide = Tolerance((("EUR", absolute + 1),), percent)
    assert narrow.admits(ours, theirs, "EUR") == narrow.admits(theirs, ours, "EUR")
    assert wide.admits(ours, theirs, "EUR") >= narrow.admits(ours, theirs, "EUR")


@slow_to_draw
@given(instructions(), instructions())
def test_both_sides_see_the_same_mismatches(
    ours: SettlementInstruction, theirs: SettlementInstruction
) -> None:
    seen, mirror = match(ours, theirs), match(theirs, ours)
    if isinstance(seen, Mismatches) and isinstance(mirror, Mismatches):
        assert {(each.path, each.ours, each.theirs) for each in seen.fields} == {
            (each.path, each.theirs, each.ours) for each in mirror.fields
        }
    else:
        assert type(seen) is type(mirror)


WRITTEN = write_instruction(DELIVERY)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, len(WRITTEN) - 1),
    st.integers(0, 20),
    st.binary(max_size=20)
    | st.sampled_from(
        (
            b"<",
            b">",
            b"&",
            b"&lt;",
            b"<!DOCTYPE x>",
            b"<!--",
            b"]]>",
            b"<x/>",
            b"-",
            b"NaN",
            b" ",
            b"\0",
            b"1e9",
        )
    ),
)
def test_bytes_changed_anywhere_give_an_instruction_or_an_error_of_ours(
    at: int, cut: int, put: bytes
) -> None:
    changed = WRITTEN[:at] + put + WRITTEN[at + cut :]
    try:
        instruction = read_instruction(changed)
    except SettlementError:
        return
    assert read_instruction(write_instruction(instruction)) == instruction


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_document_give_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(SettlementError):
        read_instruction(data)
