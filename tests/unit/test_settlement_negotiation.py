"""One delivery versus payment as a state machine: what is said when, what is refused, and that both sides see the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.workflows.settlement.advice import Reason, Status, read_advice, write_advice
from parley.workflows.settlement.confirmation import write_confirmation
from parley.workflows.settlement.instruction import Money, SettlementInstruction
from parley.workflows.settlement.matching import NO_TOLERANCE, Tolerance
from parley.workflows.settlement.negotiation import (
    Negotiation,
    Phase,
    decline,
    heard,
    next_word,
    refuse_unknown,
)
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.steps import ADVICE_STEP, CONFIRMATION_STEP, INSTRUCTION_STEP, Word
from parley.workflows.settlement.wording import in_words
from parley.workflows.settlement.writing import write_instruction
from tests.settlement import DELIVERY, RECEIPT, TODAY, pairs

TEN_EURO = Tolerance((("EUR", Decimal(10)),))


class Table:
    """The two sides of a trade, each with its own view; what one says both hear."""

    def __init__(
        self,
        delivering: SettlementInstruction = DELIVERY,
        receiving: SettlementInstruction = RECEIPT,
        *,
        day: date = TODAY,
        tolerance: Tolerance = NO_TOLERANCE,
    ) -> None:
        self.deliverer, self.receiver = Negotiation(delivering), Negotiation(receiving)
        self.said: list[Word] = []
        self._day, self._tolerance = day, tolerance

    def say(self, word: Word, *, receiver: bool) -> None:
        self.said.append(word)
        told = (word.content_type, word.content)
        self.deliverer = heard(self.deliverer, *told, own=not receiver, finishes=word.finishes)
        self.receiver = heard(self.receiver, *told, own=receiver, finishes=word.finishes)

    def due(self) -> list[tuple[bool, Word]]:
        """Who has something to say, and what."""
        sides = ((True, self.receiver), (False, self.deliverer))
        words = ((receiver, next_word(side, self._day, self._tolerance)) for receiver, side in sides)
        return [(receiver, word) for receiver, word in words if word is not None]

    def turn(self) -> Word:
        ((receiver, word),) = self.due()
        self.say(word, receiver=receiver)
        return word

    def until(self, phase: Phase) -> Table:
        while self.receiver.phase is not phase:
            self.turn()
        return self

    def to_the_end(self) -> Table:
        while self.due():
            self.turn()
        return self


def last_advice(table: Table) -> tuple[Status, list[str]]:
    advice = read_advice(table.said[-1].content)
    return advice.status, [reason.code for reason in advice.reasons]


def test_four_documents_settle_a_trade() -> None:
    table = Table().to_the_end()
    assert [word.content_type for word in table.said] == [
        INSTRUCTION_STEP,
        INSTRUCTION_STEP,
        ADVICE_STEP,
        CONFIRMATION_STEP,
    ]
    assert [word.finishes for word in table.said] == [False, False, False, True]
    assert table.deliverer.phase is table.receiver.phase is Phase.SETTLED
    assert read_instruction(table.said[0].content) == RECEIPT
    assert read_instruction(table.said[1].content) == DELIVERY


@settings(max_examples=20, deadline=None)
@given(pairs())
def test_any_two_sides_that_match_settle_and_only_one_is_ever_due(
    sides: tuple[SettlementInstruction, SettlementInstruction],
) -> None:
    ours, theirs = sides
    receiving, delivering = (ours, theirs) if ours.movement == "RECE" else (theirs, ours)
    table = Table(delivering, receiving).to_the_end()
    assert len(table.said) == 4
    assert table.deliverer.phase is table.receiver.phase is Phase.SETTLED


def test_a_side_that_starts_again_stands_where_it_was() -> None:
    table = Table().to_the_end()
    for ours in (DELIVERY, RECEIPT):
        again = Negotiation(ours)
        for place, word in enumerate(table.said):
            own = (ours is RECEIPT) == (place % 2 == 0)
            again = heard(again, word.content_type, word.content, own=own, finishes=word.finishes)
        assert again == (table.receiver if ours is RECEIPT else table.deliverer)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"isin": "DE0007236101"}, "DSEC"),
        ({"amount": Money(Decimal("14243.01"), "EUR")}, "DMON"),
        ({"amount": Money(Decimal("14243.00"), "USD")}, "NCRR"),
        ({"settlement_date": date(2026, 11, 23)}, "DDAT"),
        ({"trade_date": date(2026, 11, 17)}, "DTRD"),
        ({"trade_id": "ANOTHER"}, "OTHR"),
    ],
)
def test_a_deliverer_with_the_trade_otherwise_in_its_books_says_which_field_differs(
    change: dict[str, object], code: str
) -> None:
    table = Table(replace(DELIVERY, **change)).to_the_end()  # type: ignore[arg-type]
    assert last_advice(table) == (Status.UNMATCHED, [code])
    assert len(table.said) == 2
    for side in (table.deliverer, table.receiver):
        assert side.phase is Phase.UNMATCHED
        assert [reason.code for reason in side.reasons] == [code]


def test_a_receiver_matches_the_commitment_against_its_own_books() -> None:
    table = Table().until(Phase.INSTRUCTED)
    table.say(
        Word(INSTRUCTION_STEP, write_instruction(replace(DELIVERY, isin="DE0007236101"))), receiver=False
    )
    assert table.turn().finishes
    assert last_advice(table) == (Status.UNMATCHED, ["DSEC"])


def test_within_the_tolerance_the_deliverers_amount_is_paid() -> None:
    table = Table(replace(DELIVERY, amount=Money(Decimal("14245.50"), "EUR")), tolerance=TEN_EURO)
    table.to_the_end()
    assert table.deliverer.phase is table.receiver.phase is Phase.SETTLED
    assert read_advice(table.said[2].content).amount == Money(Decimal("14245.50"), "EUR")
    assert b"14245.50" in table.said[3].content
    assert b"14243" not in table.said[3].content


def test_beyond_the_tolerance_nothing_is_delivered() -> None:
    table = Table(replace(DELIVERY, amount=Money(Decimal("14253.01"), "EUR")), tolerance=TEN_EURO)
    assert table.to_the_end().receiver.phase is Phase.UNMATCHED


def test_a_settlement_date_in_the_past_is_rejected_with_its_path() -> None:
    table = Table(day=date(2026, 11, 21)).until(Phase.INSTRUCTED)
    table.turn()
    assert last_advice(table) == (Status.REJECTED, ["DDAT"])
    assert "TradDtls/SttlmDt" in str(table.receiver.reasons[0].text)


@pytest.mark.parametrize(
    "amount", [Money(Decimal("14242.99"), "EUR"), Money(Decimal("14243.00"), "USD")], ids=str
)
def test_cash_that_is_confirmed_for_another_amount_is_no_cash(amount: Money) -> None:
    table = Table().until(Phase.COMMITTED)
    other = write_advice(replace(DELIVERY, amount=amount), Status.PENDING, [Reason("AWSH")])
    table.say(Word(ADVICE_STEP, other), receiver=True)
    assert table.deliverer.phase is Phase.COMMITTED
    refusal = next_word(table.deliverer, TODAY)
    assert refusal is not None
    assert refusal.finishes
    assert read_advice(refusal.content).status is Status.REJECTED


@pytest.mark.parametrize(
    ("status", "reasons"),
    [(Status.MATCHED, []), (Status.PENDING, [Reason("MONY")]), (Status.PENDING, [Reason("LACK")])],
)
def test_an_advice_that_says_something_else_confirms_no_cash(status: Status, reasons: list[Reason]) -> None:
    table = Table().until(Phase.COMMITTED)
    table.say(Word(ADVICE_STEP, write_advice(DELIVERY, status, reasons)), receiver=True)
    assert table.deliverer.fault is not None
    assert "confirms no cash" in table.deliverer.fault


def test_a_confirmation_of_something_else_is_disputed() -> None:
    table = Table().until(Phase.CASH_CONFIRMED)
    less = replace(RECEIPT, amount=Money(Decimal(1), "EUR"))
    table.say(Word(CONFIRMATION_STEP, write_confirmation(less, TODAY), finishes=True), receiver=False)
    assert table.receiver.phase is Phase.DISPUTED
    assert table.receiver.reasons


@pytest.mark.parametrize("phase", [Phase.INSTRUCTED, Phase.COMMITTED, Phase.CASH_CONFIRMED])
def test_whoever_declines_is_understood(phase: Phase) -> None:
    table = Table().until(phase)
    receiver = phase is Phase.COMMITTED
    table.say(
        decline(table.receiver if receiver else table.deliverer, "our client has withdrawn it" * 20),
        receiver=receiver,
    )
    for side in (table.deliverer, table.receiver):
        assert side.phase is Phase.REJECTED
        assert str(side.reasons[0].text).startswith("our client has withdrawn it")
    assert table.due() == []


def test_an_opening_for_no_instruction_of_ours_is_told_so() -> None:
    table = Table().until(Phase.INSTRUCTED)
    table.say(refuse_unknown(RECEIPT), receiver=False)
    assert last_advice(table) == (Status.UNMATCHED, ["CMIS"])
    assert table.receiver.phase is Phase.UNMATCHED


@settings(max_examples=60, deadline=None)
@given(
    phase=st.sampled_from([Phase.INSTRUCTED, Phase.COMMITTED, Phase.CASH_CONFIRMED]),
    receiver=st.booleans(),
    content_type=st.sampled_from([INSTRUCTION_STEP, ADVICE_STEP, CONFIRMATION_STEP, "text/plain"]),
    content=st.sampled_from([b"", b"<a/>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"{}", b"\x00\xff"]),
    finishes=st.booleans(),
)
def test_what_makes_no_sense_moves_nothing_and_is_refused_with_a_reason(
    phase: Phase, receiver: bool, content_type: str, content: bytes, finishes: bool
) -> None:
    table = Table().until(phase)
    table.say(Word(content_type, content, finishes), receiver=receiver)
    other = table.deliverer if receiver else table.receiver
    if finishes:
        assert other.phase is Phase.REJECTED
        assert other.reasons[0].text
    else:
        assert other.phase is phase
        word = next_word(other, TODAY)
        assert word is not None
        assert word.finishes
        assert read_advice(word.content).reasons[0].text


@pytest.mark.parametrize("phase", [Phase.INSTRUCTED, Phase.COMMITTED, Phase.CASH_CONFIRMED])
def test_an_instruction_out_of_turn_is_refused(phase: Phase) -> None:
    table = Table().until(phase)
    table.say(Word(INSTRUCTION_STEP, write_instruction(RECEIPT)), receiver=True)
    assert table.deliverer.phase is phase
    assert table.deliverer.fault is not None


def test_every_step_is_told_in_a_sentence() -> None:
    sentences = [
        in_words(word.content_type, word.content)
        for word in Table(replace(DELIVERY, safekeeping_account="S-1")).to_the_end().said
    ]
    assert sentences == [
        "We receive 25 FR0000121014 against EUR 14,243.00, on 2026-11-20 in SICVFRPP, on our account OTHER-ACCOUNT.",
        "We commit to deliver 25 FR0000121014 against EUR 14,243.00, on 2026-11-20 in SICVFRPP, from our account S-1.",
        "Matched. EUR 14,243.00 is blocked, and is yours on delivery.",
        "Delivered: 25 FR0000121014. EUR 14,243.00 received. Settled on 2026-11-20.",
    ]
    table = Table().until(Phase.COMMITTED)
    withdrawn = decline(table.receiver, "the buyer withdrew")
    assert in_words(*withdrawn[:2]) == "We decline: the buyer withdrew."
    assert in_words("text/plain", b"hello") == "5 bytes of text/plain."
    assert in_words(INSTRUCTION_STEP, b"<a/>").startswith("Not readable")
