"""OTC trades: captured, affirmed, amended and cancelled by two parties, against the router's own decisions in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

import pytest

from parley.client import Participant
from parley.deal import Deal
from parley.errors import OtcError
from parley.workflows import otc
from parley.workflows.otc import Phase, standing
from parley.workflows.otc_trade import Record, Trade, differences
from tests.memory_backbone import MemoryBackbone
from tests.two_parties import both_hear, opened_by, spoken, two

BUND = Trade(
    buyer="alpha",
    seller="beta",
    isin="DE0001102580",
    quantity=Decimal(5_000_000),
    price=Decimal("98.75"),
    price_in="percent",
    currency="EUR",
    trade_date=date(2026, 11, 18),
    settlement_date=date(2026, 11, 20),
)
DEARER = BUND._replace(price=Decimal("98.80"))
CALL = Record("phone", datetime(2026, 11, 18, 14, 3, tzinfo=UTC), "five million at 98.75", "ab" * 32)
HOUR = timedelta(hours=1)

Parties = tuple[Participant, Participant]
Sides = tuple[Deal, Deal]


@pytest.fixture
async def parties() -> AsyncIterator[Parties]:
    async with two(MemoryBackbone("alpha", "beta"), "alpha", "beta") as both:
        yield both


@pytest.fixture
async def sides(parties: Parties) -> Sides:
    """Both sides of a trade that alpha has captured."""
    alpha, beta = parties
    ours = await otc.capture(alpha, "beta", BUND, CALL, deadline=HOUR)
    return ours, await opened_by(alpha, beta, ours)


async def test_a_captured_trade_that_is_affirmed_binds_both(sides: Sides) -> None:
    theirs = sides[1]
    assert standing(theirs.messages).trade == BUND
    await otc.affirm(theirs, BUND)
    await both_hear(*sides)
    for deal in sides:
        now = standing(deal.messages)
        assert (now.phase, now.trade, now.step) == (Phase.AFFIRMED, BUND, otc.CAPTURE_STEP)
        assert now.digest == sha256(deal.messages[0].content).digest()


async def test_how_it_was_agreed_stands_beside_it(sides: Sides) -> None:
    said = sides[1].messages[0].json()
    assert isinstance(said, dict)
    assert said["record"] == {
        "by": "phone",
        "at": "2026-11-18T14:03:00+00:00",
        "said": "five million at 98.75",
        "evidence": "ab" * 32,
    }


@pytest.mark.parametrize("amended_by", [0, 1])
async def test_an_amendment_by_either_is_what_the_other_then_affirms(sides: Sides, amended_by: int) -> None:
    amends, affirms = sides[amended_by], sides[1 - amended_by]
    await otc.amend(amends, DEARER, "the price was 98.80")
    await both_hear(*sides)
    with pytest.raises(OtcError, match="says otherwise"):
        await otc.affirm(affirms, BUND)
    await otc.affirm(affirms)
    now = standing(affirms.messages)
    assert (now.phase, now.trade, now.reason) == (Phase.AFFIRMED, DEARER, "the price was 98.80")
    assert differences(BUND, DEARER) == ("price: 98.75, now 98.80",)


@pytest.mark.parametrize("cancelled_by", [0, 1])
async def test_a_cancellation_by_either_ends_it_without_a_trade(sides: Sides, cancelled_by: int) -> None:
    await otc.cancel(sides[cancelled_by], "captured twice")
    await both_hear(*sides)
    for deal in sides:
        assert standing(deal.messages).phase is Phase.CANCELLED
        assert standing(deal.messages).reason == "captured twice"
        with pytest.raises(OtcError, match="it is cancelled"):
            await otc.amend(deal, DEARER, "no")


async def test_nobody_affirms_its_own_words(sides: Sides) -> None:
    with pytest.raises(OtcError, match="beta must affirm it"):
        await otc.affirm(sides[0])


async def test_affirming_something_else_is_void(sides: Sides) -> None:
    ours, theirs = sides
    await theirs.finish({"affirmed": "00" * 32}, content_type=otc.AFFIRMATION_STEP)
    await both_hear(*sides)
    assert standing(ours.messages).phase is Phase.VOID


async def test_an_affirmed_trade_is_amended_by_a_transaction_that_refers_to_it(
    parties: Parties, sides: Sides
) -> None:
    alpha, beta = parties
    await otc.affirm(sides[1])
    later = await otc.amend_later(beta, "alpha", sides[0].id, DEARER, "the tape says 98.80", deadline=HOUR)
    sealed = later.messages[0].sealed
    assert sealed is not None
    assert [(each.relation, each.transaction_id) for each in sealed.references] == [("amends", sides[0].id)]
    ours = await opened_by(beta, alpha, later)
    await otc.affirm(ours)
    now = standing(ours.messages)
    assert (now.phase, now.trade, now.changes) == (Phase.AFFIRMED, DEARER, sides[0].id)


async def test_or_undone_by_one(parties: Parties, sides: Sides) -> None:
    alpha, beta = parties
    await otc.affirm(sides[1])
    later = await otc.cancel_later(alpha, "beta", sides[0].id, "fat finger", deadline=HOUR)
    theirs = await soon_opened(beta)
    assert standing(theirs.messages).step == otc.CANCELLATION_STEP
    await otc.affirm(theirs)
    await both_hear(later, theirs)
    now = standing(later.messages)
    assert (now.phase, now.trade, now.changes) == (Phase.AFFIRMED, None, sides[0].id)


async def soon_opened(me: Participant) -> Deal:
    return await anext(aiter(me.opened()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"buyer": "gamma"}, "must be the two parties"),
        ({"seller": "alpha"}, "would trade with itself"),
        ({"isin": "DE0001102581"}, "is no ISIN"),
        ({"currency": "euro"}, "no code of ISO 4217"),
        ({"quantity": Decimal(0)}, "more than nothing"),
        ({"price": Decimal(-1)}, "more than nothing"),
        ({"price_in": "points"}, "neither percent nor currency"),
        ({"settlement_date": date(2026, 11, 17)}, "before the trade date"),
    ],
)
async def test_a_trade_that_is_wrong_by_itself_is_not_sent(
    parties: Parties, change: dict[str, object], told: str
) -> None:
    wrong = BUND._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(OtcError, match=told):
        await otc.capture(parties[0], "beta", wrong, CALL, deadline=HOUR)


@pytest.mark.parametrize(
    ("content", "content_type", "told"),
    [
        (b"{}", otc.CAPTURE_STEP, "'trade' is missing"),
        (b'{"trade": {"buyer": "alpha"}}', otc.CAPTURE_STEP, "'seller' is missing"),
        (b"[" * 10_000, otc.CAPTURE_STEP, "JSON"),
        (b"hello", "text/plain", "is not JSON"),
        (b"{}", "text/plain", "capture the trade first"),
        (b'{"changes": "it"}', otc.CANCELLATION_STEP, "not a transaction id"),
        (b'{"reason": "x"}', otc.CANCELLATION_STEP, "'changes' is missing"),
    ],
)
def test_an_opening_that_makes_no_sense_is_no_trade(content: bytes, content_type: str, told: str) -> None:
    with pytest.raises(OtcError, match=told):
        standing([spoken(0, "alpha", content_type, content, "OPEN")])


@pytest.mark.parametrize("content_type", ["text/plain", otc.CAPTURE_STEP])
async def test_what_is_no_step_of_a_trade_makes_it_none(sides: Sides, content_type: str) -> None:
    captured = sides[0].messages[0]
    with pytest.raises(OtcError, match="only an amendment goes on"):
        standing([captured, spoken(1, "beta", content_type, b"{}")])
    assert standing([captured, spoken(1, "beta", content_type, b"{}", "FINISH")]).phase is Phase.VOID


@pytest.mark.parametrize("quantity", ["NaN", "Infinity", "-1", "many", "1e9999999"])
async def test_numbers_that_are_none_are_no_trade(sides: Sides, quantity: str) -> None:
    ours, _ = sides
    said = ours.messages[0].json()
    assert isinstance(said, dict)
    amended = {"trade": {**said["trade"], "quantity": quantity}, "reason": "x"}
    await ours.send(amended, content_type=otc.AMENDMENT_STEP)
    with pytest.raises(OtcError):
        standing(ours.messages)
