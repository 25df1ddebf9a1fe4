"""What is traded over the counter, as values and as JSON; who says what of it is `parley.workflows.otc`'s affair."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from stdnum import isin
from stdnum.exceptions import ValidationError

from parley.errors import OtcError
from parley.workflows.forms import Form, text_of

__all__ = [
    "Record",
    "Trade",
    "check_trade",
    "differences",
    "read_day",
    "read_number",
    "trade_in",
    "trade_row",
]

_NUMBER: Final = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?", re.ASCII)
_LONGEST_NUMBER: Final = 40


class Trade(NamedTuple):
    """What was traded."""

    buyer: str
    """A participant, as is the seller."""
    seller: str
    isin: str
    quantity: Decimal
    """Units, or nominal for bonds."""
    price: Decimal
    price_in: str
    """``percent`` of nominal, or ``currency`` a unit."""
    currency: str
    """ISO 4217."""
    trade_date: date
    settlement_date: date


class Record(NamedTuple):
    """How a trade was agreed."""

    by: str
    """``phone`` or ``e-mail``."""
    at: datetime
    said: str
    """The words, or who spoke."""
    evidence: str = ""
    """SHA-256 of the recording or e-mail, in hexadecimal."""


def differences(before: Trade, after: Trade) -> tuple[str, ...]:
    """What an amendment changes, each as ``field: before, now after``."""
    rows = zip(Trade._fields, before, after, strict=True)
    return tuple(f"{name.replace('_', ' ')}: {old}, now {new}" for name, old, new in rows if old != new)


def check_trade(trade: Trade, parties: Iterable[str]) -> None:
    """Raise OtcError unless the trade is right by itself and between these two."""
    if trade.buyer == trade.seller:
        raise OtcError(f"{trade.buyer} would trade with itself; name the counterparty")
    if sorted((trade.buyer, trade.seller)) != sorted(parties):
        raise OtcError(f"buyer and seller are {trade.buyer} and {trade.seller}; they must be the two parties")
    try:
        isin.validate(trade.isin)
    except ValidationError as error:
        raise OtcError(f"isin: {trade.isin!r} is no ISIN ({str(error).rstrip('.')}); correct it") from None
    if len(trade.currency) != 3 or not (trade.currency.isascii() and trade.currency.isupper()):
        raise OtcError(f"currency: {trade.currency!r} is no code of ISO 4217, such as EUR; correct it")
    if trade.quantity <= 0 or trade.price <= 0:
        raise OtcError("quantity and price must be more than nothing; correct them")
    if trade.price_in not in {"percent", "currency"}:
        raise OtcError(f"price in: {trade.price_in!r} is neither percent nor currency")
    if trade.settlement_date < trade.trade_date:
        raise OtcError(
            f"settlement date: {trade.settlement_date} is before the trade date, {trade.trade_date}; correct either"
        )


def trade_row(trade: Trade) -> dict[str, str]:
    """A trade as JSON; numbers are decimal digits, dates ISO 8601."""
    row = {name: str(value) for name, value in trade._asdict().items()}
    return {**row, "quantity": f"{trade.quantity:f}", "price": f"{trade.price:f}"}


def trade_in(form: Form) -> Trade:
    """The trade that a message holds, right by itself; raises OtcError."""
    row = form.get("trade")
    if not isinstance(row, Mapping):
        raise OtcError("'trade' is missing; state it")
    texts = {name: text_of(row, name, OtcError) for name in Trade._fields}
    trade = Trade(
        texts["buyer"],
        texts["seller"],
        texts["isin"],
        read_number("quantity", texts["quantity"]),
        read_number("price", texts["price"]),
        texts["price_in"],
        texts["currency"],
        read_day("trade_date", texts["trade_date"]),
        read_day("settlement_date", texts["settlement_date"]),
    )
    check_trade(trade, (trade.buyer, trade.seller))
    return trade


def read_number(name: str, text: str) -> Decimal:
    """A number above or equal to zero as people write it, with a point before the decimals and commas between thousands or none."""
    if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text):
        return Decimal(text.replace(",", ""))
    raise OtcError(f"{name}: {text[:40]!r} is no number; write it as 5,000,000 or 98.75")


def read_day(name: str, text: str) -> date:
    """A day; raises OtcError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise OtcError(f"{name}: {text[:40]!r} is no day; write it as YYYY-MM-DD") from None
