"""What the tests of settlement share: instructions of both sides, as values and as Hypothesis strategies.

What is drawn here passes `checks`; codes are valid by their own check digits, made here and not by the package under test.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from parley.workflows.settlement.instruction import (
    Chain,
    Measure,
    Money,
    Movement,
    Party,
    ProprietaryId,
    Quantity,
    SettlementInstruction,
)

__all__ = [
    "DELIVERY",
    "EXAMPLES",
    "RECEIPT",
    "TODAY",
    "TOP",
    "instructions",
    "mirrored",
    "pairs",
    "parties",
    "texts",
]

EXAMPLES = Path(__file__).parent / "data" / "settlement"
TODAY = date(2026, 11, 18)
TOP = "/Document/SctiesSttlmTxInstr"

DELIVERY = SettlementInstruction(
    transaction_id="D-1",
    trade_id="571474TGEMMWANRLN572261118000001",
    common_id="CMN-1",
    movement=Movement.DELIVER,
    trade_date=TODAY,
    settlement_date=date(2026, 11, 20),
    isin="FR0000121014",
    quantity=Quantity(Measure.UNITS, Decimal(25)),
    amount=Money(Decimal("14243.00"), "EUR"),
    safekeeping_account="SBOSSAFE10541731",
    cash_account=None,
    transaction_type="TRAD",
    delivering=Chain("SICVFRPP", (Party("SBOSUS33", "571474TGEMMWANRLN572", "SBOSSAFE10541731"),)),
    receiving=Chain(
        "SICVFRPP",
        (Party("BNPAFRPP", "R0MUWSFPU8MPRO8K5P83", "BNPASAFE34251196"), Party(ProprietaryId("77", "SICV"))),
    ),
)


def mirrored(instruction: SettlementInstruction) -> SettlementInstruction:
    """What the counterparty instructs, if it sees everything alike."""
    return replace(
        instruction,
        transaction_id="OTHER-SIDE",
        movement=instruction.movement.mirror,
        safekeeping_account="OTHER-ACCOUNT",
        cash_account=None,
    )


RECEIPT = mirrored(DELIVERY)

_DIGITS = "0123456789"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BOTH = _DIGITS + _LETTERS


def texts(longest: int) -> SearchStrategy[str]:
    """Text as the standard's plain text fields take it: plain, to be escaped, and beyond Latin."""
    return st.text("abcXYZ019 /-?:().,'+<&>\"éß€漢", min_size=1, max_size=longest)


@st.composite
def isins(draw: DrawFn) -> str:
    """ISO 6166: country, nine characters, Luhn's digit over the letters as numbers."""
    body = draw(st.sampled_from(("FR", "DE", "US", "XS", "JP"))) + draw(
        st.text(_BOTH, min_size=9, max_size=9)
    )
    digits = "".join(str(int(character, 36)) for character in body)
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if position % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return f"{body}{-total % 10}"


@st.composite
def leis(draw: DrawFn) -> str:
    """ISO 17442: 18 characters, two digits by ISO 7064 MOD 97-10."""
    body = draw(st.text(_BOTH, min_size=18, max_size=18))
    number = int("".join(str(int(character, 36)) for character in body + "00"))
    return f"{body}{98 - number % 97:02}"


@st.composite
def bics(draw: DrawFn) -> str:
    """ISO 9362, with a branch that is not the head office's or without one."""
    bank = draw(st.text(_LETTERS, min_size=4, max_size=4))
    place = draw(st.sampled_from(("FR", "DE", "US", "GB", "JP"))) + draw(
        st.text(_BOTH, min_size=2, max_size=2)
    )
    branch = draw(st.just("") | st.text(_BOTH, min_size=3, max_size=3).filter(lambda code: code != "XXX"))
    return bank + place + branch


def parties() -> SearchStrategy[Party]:
    return st.builds(
        Party,
        bics() | st.builds(ProprietaryId, texts(35), texts(35), st.none() | texts(35)),
        st.none() | leis(),
        st.none() | texts(35),
    )


def chains() -> SearchStrategy[Chain]:
    return st.builds(Chain, bics(), st.lists(parties(), min_size=1, max_size=5).map(tuple))


@st.composite
def amounts(draw: DrawFn) -> Money:
    currency, decimals = draw(st.sampled_from((("EUR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3))))
    return Money(Decimal(draw(st.integers(1, 10**15))).scaleb(-decimals), currency)


@st.composite
def quantities(draw: DrawFn) -> Quantity:
    measure, places = draw(st.sampled_from(((Measure.UNITS, 10), (Measure.FACE_AMOUNT, 5))))
    number = Decimal(draw(st.integers(1, 10**18 - 1))).scaleb(-draw(st.integers(0, places)))
    return Quantity(measure, number)


@st.composite
def instructions(draw: DrawFn) -> SettlementInstruction:
    """Any instruction that checks find nothing wrong with on `TODAY`."""
    return SettlementInstruction(
        transaction_id=draw(texts(35)),
        trade_id=draw(st.none() | texts(52)),
        common_id=draw(st.none() | texts(35)),
        movement=draw(st.sampled_from(Movement)),
        trade_date=TODAY - timedelta(days=draw(st.integers(0, 400))),
        settlement_date=TODAY + timedelta(days=draw(st.integers(0, 400))),
        isin=draw(isins()),
        quantity=draw(quantities()),
        amount=draw(amounts()),
        safekeeping_account=draw(texts(35)),
        cash_account=draw(st.none() | texts(34)),
        transaction_type=draw(st.sampled_from(("TRAD", "REPU", "SECL", "COLO"))),
        delivering=draw(chains()),
        receiving=draw(chains()),
    )


def pairs() -> SearchStrategy[tuple[SettlementInstruction, SettlementInstruction]]:
    """The two sides of a trade that match."""
    return instructions().map(lambda ours: (ours, mirrored(ours)))
