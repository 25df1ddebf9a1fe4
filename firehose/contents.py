"""What a message says to somebody who counts: an instrument and an amount where it opens a trade, how it ended where it is the last.

Read are JSON objects with ``isin``, ``currency`` and ``settlement_amount``, or ``status``, and the documents of a delivery versus
payment. Whatever else it is says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from parley.errors import SettlementError
from parley.workflows.settlement.advice import Status, read_advice
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.steps import ADVICE_STEP, CONFIRMATION_STEP, INSTRUCTION_STEP

__all__ = ["DECLINED", "FINISHED", "MISMATCHED", "NO_TRADE", "SETTLED", "Traded", "outcome_of", "traded"]

FINISHED: Final = "finished"
SETTLED: Final = "settled"
DECLINED: Final = "declined"
MISMATCHED: Final = "mismatched"

_ISIN: Final = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]", re.ASCII)
_STATUS: Final = re.compile(r"[a-z][a-z_]{0,31}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_AMOUNT: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,8})?", re.ASCII)


class Traded(NamedTuple):
    """What an opening says of a trade, as far as it does."""

    isin: str | None
    currency: str | None
    amount: Decimal | None


NO_TRADE: Final = Traded(None, None, None)


def traded(content_type: str, content: bytes) -> Traded:
    """What an opening says of a trade."""
    if content_type == INSTRUCTION_STEP:
        try:
            said = read_instruction(content)
        except SettlementError:
            return NO_TRADE
        return Traded(said.isin, said.amount.currency, said.amount.amount)
    told = _json_object(content_type, content)
    isin, currency = told.get("isin"), told.get("currency")
    if not isinstance(isin, str) or not _ISIN.fullmatch(isin):
        return NO_TRADE
    amount = str(told.get("settlement_amount", ""))
    known = isinstance(currency, str) and _CURRENCY.fullmatch(currency) and _AMOUNT.fullmatch(amount)
    return Traded(isin, str(currency), Decimal(amount)) if known else Traded(isin, None, None)


def outcome_of(content_type: str, content: bytes) -> str:
    """How a transaction ended whose last message says this."""
    if content_type == CONFIRMATION_STEP:
        return SETTLED
    if content_type == ADVICE_STEP:
        try:
            status = read_advice(content).status
        except SettlementError:
            return FINISHED
        return MISMATCHED if status is Status.UNMATCHED else DECLINED
    told = _json_object(content_type, content).get("status")
    return told if isinstance(told, str) and _STATUS.fullmatch(told) else FINISHED


def _json_object(content_type: str, content: bytes) -> Mapping[str, object]:
    """The content if it is a JSON object, else nothing."""
    if not content_type.startswith("application/json"):
        return {}
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
