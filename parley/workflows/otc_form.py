"""The record of a phone call, or an e-mail, as an OTC trade: lines of ``name: value`` that people write and keep.

    we: buy
    counterparty: beta
    isin: DE0001102580
    quantity: 5,000,000
    price: 98.75 %
    currency: EUR
    trade date: 2026-11-18
    settlement date: 2026-11-20
    agreed at: 2026-11-18T14:03:00+01:00
    said: five million at 98.75, two days

A price with ``%`` is percent of nominal, any other is the currency's a unit. Of an e-mail (RFC 5322) the plain text holds these
lines, the time is its ``Date`` unless they say otherwise, and its SHA-256 is the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from hashlib import sha256
from typing import Final, NamedTuple

from parley.errors import OtcError
from parley.workflows.otc_trade import Record, Trade, check_trade, read_day, read_number

__all__ = ["Agreed", "read_call", "read_email"]

_LINE: Final = re.compile(r"\s*([A-Za-z][A-Za-z ]{0,30}?)\s*:\s*(.*?)\s*")
_NEEDED: Final = (
    "we",
    "counterparty",
    "isin",
    "quantity",
    "price",
    "currency",
    "trade date",
    "settlement date",
)
_KNOWN: Final = frozenset({*_NEEDED, "agreed at", "said"})


class Agreed(NamedTuple):
    """What was agreed, and with whom."""

    counterparty: str
    trade: Trade
    record: Record


def read_call(text: str, own: str) -> Agreed:
    """What the notes of a phone call say that we (``own``) agreed.

    Raises:
        OtcError: a line cannot be read, is missing or is there twice, or the trade is wrong by itself.

    """
    lines = _lines(text, strict=True)
    if "agreed at" not in lines:
        raise OtcError("the line 'agreed at' is missing; say when, as in 2026-11-18T14:03:00+01:00")
    return _agreed(lines, own, "phone", _moment(lines["agreed at"]), sha256(text.encode()).hexdigest())


def read_email(data: bytes, own: str) -> Agreed:
    """What an e-mail says that we agreed; lines that are none of ours are left alone. Raises as `read_call`."""
    message = message_from_bytes(data, policy=policy.default)
    body = message.get_body(("plain",)) if isinstance(message, EmailMessage) else None
    if body is None:
        raise OtcError("the e-mail has no plain text; write the trade's lines into its text")
    try:
        text = str(body.get_content())
        sent = message["Date"]
        at = None if sent is None else sent.datetime
    except (LookupError, ValueError, AttributeError) as error:
        raise OtcError(f"the e-mail cannot be read ({error}); save it as it was sent") from None
    lines = _lines(text, strict=False)
    if "agreed at" in lines:
        at = _moment(lines["agreed at"])
    if at is None or at.tzinfo is None:
        raise OtcError("the e-mail has no date with a time zone; add the line 'agreed at'")
    agreed = _agreed(lines, own, "e-mail", at, sha256(data).hexdigest())
    sender = str(message["From"] or "")
    said = agreed.record.said or f"from {sender}: {message['Subject'] or ''}"
    return agreed._replace(record=agreed.record._replace(said=said))


def _lines(text: str, *, strict: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        name = "" if match is None else " ".join(match[1].lower().split())
        if match is None or name not in _KNOWN:
            if strict:
                raise OtcError(f"line {number}: {line.strip()[:60]!r} is none of {', '.join(sorted(_KNOWN))}")
            continue
        if name in found:
            raise OtcError(f"line {number}: {name!r} is there twice; leave one")
        found[name] = match[2]
    missing = [name for name in _NEEDED if not found.get(name)]
    if missing:
        raise OtcError(f"the lines {', '.join(missing)} are missing; add them")
    return found


def _agreed(lines: Mapping[str, str], own: str, by: str, at: datetime, evidence: str) -> Agreed:
    counterparty = lines["counterparty"]
    if lines["we"].lower() not in {"buy", "sell"}:
        raise OtcError(f"we: {lines['we'][:40]!r} is neither buy nor sell")
    buys = lines["we"].lower() == "buy"
    price, percent = lines["price"].removesuffix("%").rstrip(), lines["price"].endswith("%")
    trade = Trade(
        buyer=own if buys else counterparty,
        seller=counterparty if buys else own,
        isin=lines["isin"],
        quantity=read_number("quantity", lines["quantity"]),
        price=read_number("price", price),
        price_in="percent" if percent else "currency",
        currency=lines["currency"],
        trade_date=read_day("trade date", lines["trade date"]),
        settlement_date=read_day("settlement date", lines["settlement date"]),
    )
    check_trade(trade, (own, counterparty))
    return Agreed(counterparty, trade, Record(by, at, lines.get("said", ""), evidence))


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise OtcError(f"agreed at: {text[:40]!r} is no moment; write it as 2026-11-18T14:03:00+01:00")
    return at
