"""The record of a phone call, or an e-mail, as an OTC trade."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.errors import OtcError
from parley.workflows.otc_form import read_call, read_email
from parley.workflows.otc_trade import Trade

LINES = {
    "we": "buy",
    "counterparty": "beta",
    "isin": "DE0001102580",
    "quantity": "5,000,000",
    "price": "98.75 %",
    "currency": "EUR",
    "trade date": "2026-11-18",
    "settlement date": "2026-11-20",
    "agreed at": "2026-11-18T14:03:00+01:00",
    "said": "five million at 98.75: two days",
}


def form(**changes: str | None) -> str:
    lines = {**LINES, **{name.replace("_", " "): value for name, value in changes.items()}}
    return "".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None)


def email(body: str, *headers: str) -> bytes:
    return "\r\n".join([*headers, "", *body.splitlines(), ""]).encode()


HEADERS = ("From: Bea <bea@beta.example>", "Subject: done", "Date: Wed, 18 Nov 2026 14:03:00 +0100")


def test_the_notes_of_a_call_say_what_was_traded_and_how_it_was_agreed() -> None:
    text = form()
    agreed = read_call(text, "alpha")
    assert agreed.counterparty == "beta"
    trade = agreed.trade
    assert (trade.buyer, trade.seller, trade.quantity) == ("alpha", "beta", Decimal(5_000_000))
    assert (trade.price, trade.price_in) == (Decimal("98.75"), "percent")
    assert agreed.record.at == datetime(2026, 11, 18, 13, 3, tzinfo=UTC)
    assert agreed.record.said == "five million at 98.75: two days"
    assert agreed.record.evidence == sha256(text.encode()).hexdigest()


def test_who_sells_is_the_seller_and_a_price_without_percent_is_a_units() -> None:
    trade = read_call(form(we="SELL", price="569.72"), "alpha").trade
    assert (trade.buyer, trade.seller) == ("beta", "alpha")
    assert (trade.price, trade.price_in) == (Decimal("569.72"), "currency")


def test_names_of_lines_may_be_written_in_any_case() -> None:
    assert isinstance(read_call(form().replace("trade date:", "Trade  Date :"), "alpha").trade, Trade)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"isin": None}, "the lines isin are missing"),
        ({"we": "hold"}, "neither buy nor sell"),
        ({"quantity": "5.000.000"}, "quantity: '5.000.000' is no number"),
        ({"quantity": "5,00"}, "is no number"),
        ({"quantity": "1" * 41}, "is no number"),
        ({"price": "-1"}, "price: '-1' is no number"),
        ({"trade_date": "18.11.2026"}, "trade date: '18.11.2026' is no day"),
        ({"agreed_at": "2026-11-18T14:03"}, "is no moment"),
        ({"agreed_at": None}, "'agreed at' is missing"),
        ({"counterparty": "alpha"}, "would trade with itself"),
        ({"settlement_date": "2026-11-17"}, "before the trade date"),
        ({"broker": "us"}, "line 11: 'broker: us' is none of"),
    ],
)
def test_a_form_that_is_wrong_says_where(changes: dict[str, str | None], told: str) -> None:
    with pytest.raises(OtcError, match=told):
        read_call(form(**changes), "alpha")


def test_a_line_that_is_there_twice_is_ambiguous() -> None:
    with pytest.raises(OtcError, match="line 11: 'price' is there twice"):
        read_call(form() + "price: 98.80 %\n", "alpha")


def test_an_email_may_say_more_than_the_form_and_is_evidence_itself() -> None:
    data = email("Hi Al,\n\n" + form(agreed_at=None, said=None) + "\nBest regards: Bea\n", *HEADERS)
    agreed = read_email(data, "alpha")
    assert agreed.record.by == "e-mail"
    assert agreed.record.at == datetime(2026, 11, 18, 14, 3, tzinfo=timezone(timedelta(hours=1)))
    assert agreed.record.said == "from Bea <bea@beta.example>: done"
    assert agreed.record.evidence == sha256(data).hexdigest()


def test_an_email_without_a_date_needs_the_line() -> None:
    assert read_email(email(form(), HEADERS[0]), "alpha").record.said == LINES["said"]
    with pytest.raises(OtcError, match="no date with a time zone"):
        read_email(email(form(agreed_at=None), HEADERS[0]), "alpha")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Content-Type: text/html\r\n\r\n<p>we: buy</p>",
        b"Content-Type: text/plain; charset=klingon\r\n\r\n" + form().encode(),
    ],
)
def test_an_email_that_cannot_be_read_is_told_so(data: bytes) -> None:
    with pytest.raises(OtcError):
        read_email(data, "alpha")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_no_email_does_anything_else_than_being_read_or_refused(data: bytes) -> None:
    with pytest.raises(OtcError):
        read_email(data, "alpha")
