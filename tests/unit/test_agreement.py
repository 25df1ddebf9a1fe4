"""A simple agreement: exact terms that both signed, or none; against the router's own decisions in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256

import pytest

from parley.client import Participant
from parley.deal import Deal
from parley.errors import AgreementError, RefusedError
from parley.workflows.agreement import (
    ACCEPTANCE_STEP,
    OFFER_STEP,
    REFUSAL_STEP,
    Offer,
    Phase,
    accept,
    counter,
    offer,
    refuse,
    standing,
)
from tests.memory_backbone import MemoryBackbone
from tests.two_parties import both_hear, opened_by, spoken, two

LOAN = Offer("Loan", "Alpha lends Beta 100 EUR until 1 December 2026, at 3 % a year.")
DEARER = LOAN._replace(terms="Alpha lends Beta 100 EUR until 1 December 2026, at 4 % a year.")
OFFERED = spoken(0, "alpha", OFFER_STEP, b'{"title": "Loan", "terms": "100 EUR"}', "OPEN")
HOUR = timedelta(hours=1)

Sides = tuple[Deal, Deal]


@pytest.fixture
async def parties() -> AsyncIterator[tuple[Participant, Participant]]:
    async with two(MemoryBackbone("alpha", "beta", "gamma"), "alpha", "beta") as both:
        yield both


@pytest.fixture
async def sides(parties: tuple[Participant, Participant]) -> Sides:
    """Both sides of a deal in which alpha has offered a loan."""
    alpha, beta = parties
    ours = await offer(alpha, "beta", LOAN, deadline=HOUR)
    return ours, await opened_by(alpha, beta, ours)


async def test_an_offer_that_is_accepted_is_agreed_by_both(sides: Sides) -> None:
    ours, theirs = sides
    await accept(theirs)
    await both_hear(*sides)
    for deal in sides:
        now = standing(deal.messages)
        assert (now.phase, now.offer, now.by) == (Phase.AGREED, LOAN, "alpha")
        assert now.digest == sha256(deal.messages[0].content).digest()
    assert ours.outcome == theirs.outcome == "FINISHED"
    assert ours.messages[-1].json() == {"offer": standing(ours.messages).digest.hex()}


async def test_a_counter_offer_is_what_is_then_agreed(sides: Sides) -> None:
    ours, theirs = sides
    await counter(theirs, DEARER)
    await both_hear(*sides)
    await accept(ours)
    now = standing(ours.messages)
    assert (now.phase, now.offer, now.by) == (Phase.AGREED, DEARER, "beta")


async def test_a_refusal_says_why(sides: Sides) -> None:
    ours, theirs = sides
    await refuse(theirs, "we lend to nobody")
    await both_hear(*sides)
    now = standing(ours.messages)
    assert (now.phase, now.reason) == (Phase.REFUSED, "we lend to nobody")


async def test_an_offer_can_be_taken_back_until_it_is_accepted(sides: Sides) -> None:
    ours, theirs = sides
    await refuse(ours, "we changed our mind")
    await both_hear(*sides)
    with pytest.raises(AgreementError, match="it is refused"):
        await accept(theirs)


async def test_nobody_accepts_or_counters_its_own_offer(sides: Sides) -> None:
    ours, _ = sides
    with pytest.raises(AgreementError, match="our own; wait for beta"):
        await accept(ours)
    with pytest.raises(AgreementError, match="our own"):
        await counter(ours, DEARER)


async def test_what_was_looked_at_is_accepted_or_nothing(sides: Sides) -> None:
    _, theirs = sides
    with pytest.raises(AgreementError, match="read them and decide anew"):
        await accept(theirs, DEARER)
    await accept(theirs, LOAN)


async def test_of_a_withdrawal_and_an_acceptance_at_once_one_counts(sides: Sides) -> None:
    ours, theirs = sides
    await refuse(ours, "we changed our mind")
    with pytest.raises((RefusedError, AgreementError)):
        await accept(theirs)
    await both_hear(*sides)
    assert standing(theirs.messages).phase is Phase.REFUSED


async def test_accepting_other_terms_than_those_on_offer_agrees_to_nothing(sides: Sides) -> None:
    ours, theirs = sides
    await theirs.finish({"offer": sha256(b"something else").hexdigest()}, content_type=ACCEPTANCE_STEP)
    await both_hear(*sides)
    now = standing(ours.messages)
    assert now.phase is Phase.VOID
    assert "was not on offer" in now.reason


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{}", ACCEPTANCE_STEP),
        (b"not json", ACCEPTANCE_STEP),
        (b'{"offer": 7}', ACCEPTANCE_STEP),
        (b"[]", ACCEPTANCE_STEP),
        (b"agreed!", "text/plain"),
        (b"{}", REFUSAL_STEP),
    ],
)
def test_finishing_with_anything_else_agrees_to_nothing(content: bytes, content_type: str) -> None:
    now = standing([OFFERED, spoken(1, "beta", content_type, content, "FINISH")])
    assert now.phase is Phase.VOID
    assert now.reason


def test_accepting_ones_own_offer_agrees_to_nothing() -> None:
    content = b'{"offer": "%s"}' % sha256(OFFERED.content).hexdigest().encode()
    assert standing([OFFERED, spoken(1, "alpha", ACCEPTANCE_STEP, content, "FINISH")]).phase is Phase.VOID


def test_offering_twice_is_no_counter_offer() -> None:
    with pytest.raises(AgreementError, match="alpha spoke twice"):
        standing([OFFERED, spoken(1, "alpha", OFFER_STEP, OFFERED.content)])


@pytest.mark.parametrize(
    ("content", "content_type", "told"),
    [
        (b"{}", OFFER_STEP, "'title' is missing"),
        (b'{"title": "x", "terms": ""}', OFFER_STEP, "'terms' is missing"),
        (b"\xff", OFFER_STEP, "not JSON"),
        (b"[" * 100_000, OFFER_STEP, "not JSON"),
        (b"hello", "text/plain", "where an offer was due"),
    ],
)
def test_an_opening_that_is_no_offer_is_no_agreement(content: bytes, content_type: str, told: str) -> None:
    with pytest.raises(AgreementError, match=told):
        standing([spoken(0, "alpha", content_type, content, "OPEN")])


def test_nothing_said_is_no_agreement() -> None:
    with pytest.raises(AgreementError, match="nothing was said"):
        standing([])
