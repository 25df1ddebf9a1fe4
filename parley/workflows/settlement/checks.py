"""What must be true of one instruction by itself: identifiers, currency, dates; each finding with its path and ISO reason.

Identifiers by python-stdnum (ISIN: ISO 6166, LEI: ISO 17442, BIC: ISO 9362), currencies and their decimals by ISO 4217.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Final, NamedTuple

from iso4217 import Currency
from stdnum import bic, isin, lei
from stdnum.exceptions import ValidationError

from parley.errors import AmountError, InstructionError
from parley.workflows.settlement.instruction import Chain, Money, Party, SettlementInstruction

__all__ = ["Finding", "check", "check_scale", "findings"]

_TOP: Final = "/Document/SctiesSttlmTxInstr"
_AMOUNT: Final = f"{_TOP}/SttlmAmt/Amt"
_DECIMALS: Final = {each.code: each.exponent or 0 for each in Currency if each.code not in {"XXX", "XTS"}}
"""Digits after the point of each currency's amounts; XXX is none, XTS is for tests."""


class Finding(NamedTuple):
    """Something that is wrong with an instruction."""

    path: str
    """The element of sese.023 that holds it."""
    reason: str
    """A code of RejectionReason75Code, for the status advice that rejects it."""
    says: str
    """What is wrong, and what to do."""


def check(instruction: SettlementInstruction, today: date) -> None:
    """Raise InstructionError, naming every finding, unless there is none."""
    found = findings(instruction, today)
    if found:
        raise InstructionError("; ".join(f"{each.path}: {each.says}" for each in found))


def findings(instruction: SettlementInstruction, today: date) -> tuple[Finding, ...]:
    """All that is wrong with an instruction that is sent on ``today``, in the document's order."""
    return tuple(_findings(instruction, today))


def check_scale(money: Money, path: str) -> None:
    """Raise AmountError if the amount is negative or finer than its currency, or there is no such currency."""
    wrong = _wrong_with(money)
    if wrong is not None:
        raise AmountError(path, wrong.says)


def _findings(instruction: SettlementInstruction, today: date) -> Iterator[Finding]:
    traded, settles = instruction.trade_date, instruction.settlement_date
    if traded > today:
        yield Finding(f"{_TOP}/TradDtls/TradDt", "DTRD", f"{traded} is after today, {today}; correct it")
    if settles < traded:
        yield Finding(
            f"{_TOP}/TradDtls/SttlmDt",
            "DDAT",
            f"{settles} is before the trade date, {traded}; correct either",
        )
    if settles < today:
        yield Finding(
            f"{_TOP}/TradDtls/SttlmDt", "DDAT", f"{settles} is past, today is {today}; agree on another date"
        )
    yield from _identified(f"{_TOP}/FinInstrmId/ISIN", "DSEC", "ISIN", instruction.isin, isin.validate)
    if instruction.quantity.number <= 0:
        path = f"{_TOP}/QtyAndAcctDtls/SttlmQty/Qty/{instruction.quantity.measure}"
        yield Finding(path, "DQUA", f"{instruction.quantity.number} is not more than nothing; state how much")
    yield from _chain(f"{_TOP}/DlvrgSttlmPties", instruction.delivering)
    yield from _chain(f"{_TOP}/RcvgSttlmPties", instruction.receiving)
    wrong = _wrong_with(instruction.amount)
    if wrong is not None:
        yield wrong
    elif instruction.amount.amount == 0:
        yield Finding(_AMOUNT, "DMON", "nothing is paid; state the amount")


def _chain(path: str, chain: Chain) -> Iterator[Finding]:
    if chain.depository is not None:
        yield from _identified(f"{path}/Dpstry/Id/AnyBIC", "DEPT", "BIC", chain.depository, bic.validate)
    for level, party in enumerate(chain.parties, 1):
        yield from _party(f"{path}/Pty{level}", "ICAG" if level == 1 else "ICUS", party)


def _party(path: str, reason: str, party: Party) -> Iterator[Finding]:
    if isinstance(party.id, str):
        yield from _identified(f"{path}/Id/AnyBIC", reason, "BIC", party.id, bic.validate)
    if party.lei is not None:
        yield from _identified(f"{path}/LEI", reason, "LEI", party.lei, lei.validate)


def _identified(
    path: str, reason: str, kind: str, value: str, validate: Callable[[str], str]
) -> Iterator[Finding]:
    try:
        valid = validate(value)
    except ValidationError as error:
        yield Finding(path, reason, f"{value!r} is no {kind} ({str(error).rstrip('.')}); correct it")
        return
    if valid != value:
        yield Finding(path, reason, f"{value!r} is no {kind} as it is written; write {valid}")


def _wrong_with(money: Money) -> Finding | None:
    decimals = _DECIMALS.get(money.currency)
    if decimals is None:
        return Finding(
            f"{_AMOUNT}/@Ccy",
            "NCRR",
            f"{money.currency!r} is no currency of ISO 4217 that is in use; correct it",
        )
    if not money.amount.is_finite() or money.amount < 0:
        return Finding(_AMOUNT, "DMON", f"{money.amount} is no amount; state zero or more")
    if len(f"{money.amount:f}".partition(".")[2].rstrip("0")) > decimals:
        return Finding(
            _AMOUNT,
            "DMON",
            f"{money.amount} {money.currency} is finer than the currency's {decimals} decimals; round it",
        )
    return None
