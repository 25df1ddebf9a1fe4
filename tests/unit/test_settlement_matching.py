"""Matching as depositories do it: what must agree, what may be left out, and how far amounts may be apart."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from parley.workflows.settlement.instruction import (
    Chain,
    Money,
    Party,
    ProprietaryId,
    Quantity,
    SettlementInstruction,
)
from parley.workflows.settlement.matching import Matched, Mismatch, Mismatches, Rule, Tolerance, match
from parley.workflows.settlement.reading import read_instruction
from tests.settlement import DELIVERY, EXAMPLES, RECEIPT, TOP, mirrored

TWENTY_FIVE = Tolerance((("EUR", Decimal(25)),))


def paying(amount: str, currency: str = "EUR") -> SettlementInstruction:
    return replace(RECEIPT, amount=Money(Decimal(amount), currency))


def receiving(*parties: Party, depository: str | None = "SICVFRPP") -> SettlementInstruction:
    return replace(RECEIPT, receiving=Chain(depository, parties))


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.xml")), ids=lambda path: path.name)
def test_each_example_matches_its_mirror(example: object) -> None:
    ours = read_instruction(example.read_bytes())  # type: ignore[attr-defined]
    assert match(ours, mirrored(ours)) == Matched(Decimal(0))


def test_a_mismatch_names_path_both_values_and_rule() -> None:
    assert match(DELIVERY, paying("14243.01")) == Mismatches(
        (Mismatch(f"{TOP}/SttlmAmt/Amt", "14243.00", "14243.01", Rule.TOLERANCE, "DMON"),)
    )


def test_a_mismatch_reads_as_a_sentence() -> None:
    found = match(DELIVERY, receiving())
    assert isinstance(found, Mismatches)
    assert str(found.fields[0]) == (
        f"{TOP}/RcvgSttlmPties/Pty1/Id: ours is BNPAFRPP, theirs nothing (both state the same)"
    )


class TestTheAmount:
    @pytest.mark.parametrize(
        ("amount", "matches"),
        [("14268.00", True), ("14218.00", True), ("14268.01", False), ("14217.99", False)],
    )
    def test_may_be_apart_by_the_absolute_tolerance_and_no_cent_more(
        self, amount: str, matches: bool
    ) -> None:
        assert isinstance(match(DELIVERY, paying(amount), TWENTY_FIVE), Matched) is matches

    def test_that_is_apart_within_tolerance_says_by_how_much(self) -> None:
        assert match(DELIVERY, paying("14250.00"), TWENTY_FIVE) == Matched(Decimal("-7.00"))

    def test_has_no_tolerance_in_a_currency_that_has_none(self) -> None:
        dollars = replace(DELIVERY, amount=Money(Decimal("14243.00"), "USD"))
        assert isinstance(match(dollars, paying("14243.01", "USD"), TWENTY_FIVE), Mismatches)

    @pytest.mark.parametrize(
        ("amount", "matches"), [("14385.43", True), ("14385.44", False), ("14101.97", False)]
    )
    def test_may_be_apart_by_a_percentage_of_the_smaller_one(self, amount: str, matches: bool) -> None:
        assert isinstance(match(DELIVERY, paying(amount), Tolerance(percent=Decimal(1))), Matched) is matches

    def test_may_be_apart_by_the_wider_of_two_tolerances(self) -> None:
        both = Tolerance((("EUR", Decimal(25)),), Decimal(1))
        assert isinstance(match(DELIVERY, paying("14300.00"), both), Matched)

    def test_in_another_currency_never_matches_and_is_not_compared(self) -> None:
        found = match(DELIVERY, paying("14243.00", "USD"), Tolerance(percent=Decimal(100)))
        assert isinstance(found, Mismatches)
        assert [field.path for field in found.fields] == [f"{TOP}/SttlmAmt/Amt/@Ccy"]


def test_a_quantity_has_no_tolerance_but_its_digits_may_be_written_as_one_likes() -> None:
    written = replace(RECEIPT, quantity=Quantity(RECEIPT.quantity.measure, Decimal("25.000")))
    assert isinstance(match(DELIVERY, written), Matched)
    more = replace(RECEIPT, quantity=Quantity(RECEIPT.quantity.measure, Decimal("25.001")))
    assert isinstance(match(DELIVERY, more, Tolerance(percent=Decimal(100))), Mismatches)


def test_two_deliveries_are_no_trade() -> None:
    found = match(DELIVERY, DELIVERY)
    assert isinstance(found, Mismatches)
    assert [(field.ours, field.theirs, field.rule) for field in found.fields] == [
        ("DELI", "DELI", Rule.MIRROR)
    ]


class TestWhatOneSideLeavesOut:
    def test_matches_in_references(self) -> None:
        assert isinstance(match(DELIVERY, replace(RECEIPT, common_id=None, trade_id=None)), Matched)

    def test_matches_in_leis_accounts_and_parties_behind_the_first(self) -> None:
        assert isinstance(match(DELIVERY, receiving(Party("BNPAFRPP"))), Matched)

    def test_does_not_match_in_the_first_party(self) -> None:
        assert isinstance(match(DELIVERY, receiving()), Mismatches)

    def test_matches_in_the_depository_of_one_side(self) -> None:
        silent = receiving(*RECEIPT.receiving.parties, depository=None)
        assert isinstance(match(DELIVERY, silent), Matched)

    def test_in_depositories_leaves_the_place_of_settlement_to_be_compared(self) -> None:
        ours = replace(DELIVERY, delivering=replace(DELIVERY.delivering, depository=None))
        theirs = receiving(*RECEIPT.receiving.parties, depository=None)
        assert isinstance(match(ours, theirs), Matched)
        elsewhere = replace(theirs, delivering=replace(theirs.delivering, depository="DAKVDEFF"))
        found = match(ours, elsewhere)
        assert isinstance(found, Mismatches)
        assert found.fields == (
            Mismatch(f"{TOP}/RcvgSttlmPties/Dpstry/Id", "SICVFRPP", "DAKVDEFF", Rule.EXACT, "DEPT"),
        )


class TestAParty:
    def test_is_the_same_with_and_without_its_head_offices_branch(self) -> None:
        assert isinstance(match(DELIVERY, receiving(Party("BNPAFRPPXXX"), depository="SICVFRPPXXX")), Matched)

    def test_is_another_in_another_branch(self) -> None:
        assert isinstance(match(DELIVERY, receiving(Party("BNPAFRPPPAR"))), Mismatches)

    def test_by_a_scheme_is_the_same_whatever_the_scheme_is_called(self) -> None:
        first = RECEIPT.receiving.parties[0]
        named = receiving(first, Party(ProprietaryId("77", "SICV", "PARTICIPANT")))
        assert isinstance(match(DELIVERY, named), Matched)

    def test_by_a_scheme_is_another_by_another_issuer(self) -> None:
        first = RECEIPT.receiving.parties[0]
        found = match(DELIVERY, receiving(first, Party(ProprietaryId("77", "CRST"))))
        assert isinstance(found, Mismatches)
        assert [(field.path, field.ours, field.theirs, field.reason) for field in found.fields] == [
            (f"{TOP}/RcvgSttlmPties/Pty2/Id", "77 of SICV", "77 of CRST", "ICUS")
        ]
