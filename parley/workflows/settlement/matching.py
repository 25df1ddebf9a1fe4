"""Whether two instructions are one trade, seen from its two sides: field by field, as depositories match.

Three kinds of rule, after TARGET2-Securities' matching fields:

- **exact**: both state it, and the same. Dates, security, quantity, currency, either side's first party.
- **where both state it**: what one side left out matches anything. Trade and common references, further parties, LEIs,
  accounts, depositories.
- **within tolerance**: the settlement amount. Quantities never have any.

And one is the other's **mirror**: who delivers, and who receives. BICs of a head office match with and without the branch
XXX. A sender's own reference, safekeeping and cash account are its own affair and never compared; an account matters where
it stands in a chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from parley.workflows.settlement.counterparties import head_office
from parley.workflows.settlement.instruction import (
    Chain,
    Movement,
    Party,
    ProprietaryId,
    SettlementInstruction,
)

__all__ = ["NO_TOLERANCE", "Matched", "Matching", "Mismatch", "Mismatches", "Rule", "Tolerance", "match"]

_TOP: Final = "/Document/SctiesSttlmTxInstr"


class Rule(StrEnum):
    """How a field is compared."""

    MIRROR = "one side delivers, the other receives"
    EXACT = "both state the same"
    BOTH_STATED = "the same where both state it"
    TOLERANCE = "within the tolerance"


class Tolerance(NamedTuple):
    """How far two settlement amounts may be apart: within the absolute one for the currency, or the relative one."""

    absolute: tuple[tuple[str, Decimal], ...] = ()
    """By ISO 4217 currency, as ``(("EUR", Decimal(25)),)``. Currencies that are not named have none."""
    percent: Decimal = Decimal(0)
    """Of the smaller amount."""

    def admits(self, ours: Decimal, theirs: Decimal, currency: str) -> bool:
        """Whether two amounts in a currency match."""
        with localcontext() as context:
            context.prec = 60
            apart = abs(ours - theirs)
            relative = min(ours, theirs) * self.percent / 100
        return apart <= max(dict(self.absolute).get(currency, Decimal(0)), relative)


NO_TOLERANCE: Final = Tolerance()


class Mismatch(NamedTuple):
    """A field in which two instructions differ."""

    path: str
    """The element of sese.023 that holds it."""
    ours: str | None
    """What ours says there; None if it says nothing."""
    theirs: str | None
    rule: Rule
    reason: str
    """A code of UnmatchedReason11Code, for the status advice."""

    def __str__(self) -> str:
        """For people, in one line."""
        ours, theirs = (value or "nothing" for value in (self.ours, self.theirs))
        return f"{self.path}: ours is {ours}, theirs {theirs} ({self.rule})"


class Matched(NamedTuple):
    """The two instructions are one trade."""

    apart: Decimal
    """Ours minus theirs of the settlement amount; zero, or within the tolerance."""


class Mismatches(NamedTuple):
    """The two instructions are not one trade as they are; every field that says so."""

    fields: tuple[Mismatch, ...]


Matching: TypeAlias = Matched | Mismatches


def match(
    ours: SettlementInstruction, theirs: SettlementInstruction, tolerance: Tolerance = NO_TOLERANCE
) -> Matching:
    """Compare the two sides of a trade. The same whoever asks: only ``ours`` and ``theirs`` change places."""
    found = tuple(_mismatches(ours, theirs, tolerance))
    return Mismatches(found) if found else Matched(ours.amount.amount - theirs.amount.amount)


def _mismatches(
    ours: SettlementInstruction, theirs: SettlementInstruction, tolerance: Tolerance
) -> Iterator[Mismatch]:
    if theirs.movement is not ours.movement.mirror:
        path = f"{_TOP}/SttlmTpAndAddtlParams/SctiesMvmntTp"
        yield Mismatch(path, ours.movement, theirs.movement, Rule.MIRROR, "OTHR")
    yield from _stated(f"{_TOP}/SttlmTpAndAddtlParams/CmonId", ours.common_id, theirs.common_id, "IIND")
    yield from _stated(f"{_TOP}/TradDtls/TradId", ours.trade_id, theirs.trade_id, "OTHR")
    trade_dates = (ours.trade_date.isoformat(), theirs.trade_date.isoformat())
    yield from _exact(f"{_TOP}/TradDtls/TradDt/Dt", *trade_dates, "DTRD")
    settlement_dates = (ours.settlement_date.isoformat(), theirs.settlement_date.isoformat())
    yield from _exact(f"{_TOP}/TradDtls/SttlmDt/Dt", *settlement_dates, "DDAT")
    yield from _exact(f"{_TOP}/FinInstrmId/ISIN", ours.isin, theirs.isin, "DSEC")
    yield from _quantity(ours, theirs)
    kinds = (ours.transaction_type, theirs.transaction_type)
    yield from _exact(f"{_TOP}/SttlmParams/SctiesTxTp/Cd", *kinds, "SETR")
    yield from _chains(ours, theirs)
    yield from _amount(ours, theirs, tolerance)


def _exact(path: str, ours: str | None, theirs: str | None, reason: str) -> Iterator[Mismatch]:
    if ours != theirs:
        yield Mismatch(path, ours, theirs, Rule.EXACT, reason)


def _stated(path: str, ours: str | None, theirs: str | None, reason: str) -> Iterator[Mismatch]:
    if ours is not None and theirs is not None and ours != theirs:
        yield Mismatch(path, ours, theirs, Rule.BOTH_STATED, reason)


def _quantity(ours: SettlementInstruction, theirs: SettlementInstruction) -> Iterator[Mismatch]:
    if ours.quantity != theirs.quantity:
        mine, other = (f"{each.measure} {each.number:f}" for each in (ours.quantity, theirs.quantity))
        yield Mismatch(f"{_TOP}/QtyAndAcctDtls/SttlmQty/Qty", mine, other, Rule.EXACT, "DQUA")


def _amount(
    ours: SettlementInstruction, theirs: SettlementInstruction, tolerance: Tolerance
) -> Iterator[Mismatch]:
    mine, other = ours.amount, theirs.amount
    if mine.currency != other.currency:
        yield Mismatch(f"{_TOP}/SttlmAmt/Amt/@Ccy", mine.currency, other.currency, Rule.EXACT, "NCRR")
    elif not tolerance.admits(mine.amount, other.amount, mine.currency):
        amounts = (f"{mine.amount:f}", f"{other.amount:f}")
        yield Mismatch(f"{_TOP}/SttlmAmt/Amt", *amounts, Rule.TOLERANCE, "DMON")


def _chains(ours: SettlementInstruction, theirs: SettlementInstruction) -> Iterator[Mismatch]:
    compared = False
    for name, mine, other in (
        ("DlvrgSttlmPties", ours.delivering, theirs.delivering),
        ("RcvgSttlmPties", ours.receiving, theirs.receiving),
    ):
        path = f"{_TOP}/{name}"
        compared = compared or (mine.depository is not None and other.depository is not None)
        yield from _stated(f"{path}/Dpstry/Id", _bic(mine.depository), _bic(other.depository), "DEPT")
        yield from _parties(path, mine, other)
    if not compared:
        side = "RcvgSttlmPties" if ours.movement is Movement.DELIVER else "DlvrgSttlmPties"
        places = (_bic(ours.place_of_settlement), _bic(theirs.place_of_settlement))
        yield from _exact(f"{_TOP}/{side}/Dpstry/Id", *places, "DEPT")


def _parties(path: str, ours: Chain, theirs: Chain) -> Iterator[Mismatch]:
    first, other_first = (chain.parties[0] if chain.parties else None for chain in (ours, theirs))
    yield from _exact(f"{path}/Pty1/Id", _identity(first), _identity(other_first), "ICAG")
    for level, (mine, other) in enumerate(zip(ours.parties, theirs.parties, strict=False), 1):
        reason = "ICAG" if level == 1 else "ICUS"
        if level > 1:
            yield from _stated(f"{path}/Pty{level}/Id", _identity(mine), _identity(other), reason)
        yield from _stated(f"{path}/Pty{level}/LEI", mine.lei, other.lei, reason)
        accounts = (mine.safekeeping_account, other.safekeeping_account)
        yield from _stated(f"{path}/Pty{level}/SfkpgAcct/Id", *accounts, "SAFE")


def _identity(party: Party | None) -> str | None:
    """A party as it is compared."""
    if party is None:
        return None
    if isinstance(party.id, ProprietaryId):
        return f"{party.id.id} of {party.id.issuer}"
    return _bic(party.id)


def _bic(bic: str | None) -> str | None:
    return None if bic is None else head_office(bic)
