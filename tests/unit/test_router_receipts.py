"""The life of a receipt: however often a message comes again, its promise is the same, until its transaction is forgotten."""

from __future__ import annotations

from typing import Literal

import pytest

from parley.firehose import event_digest
from parley.schemas import Receipt, Rejection
from router.core import Limits
from tests.dialogue import Dialogue
from tests.memory_router import MemoryRouter, members

START = 1_800_000_000_000
MEMBERS = members("alice", "bob")
REMEMBERED = 5_000
LIMITS = Limits(remembered=REMEMBERED)


def conversation(end: Literal["finished", "timed out", "open"]) -> tuple[MemoryRouter, Dialogue, list[bytes]]:
    """A router that has judged a transaction, and the records of what was said in it."""
    router = MemoryRouter(MEMBERS, LIMITS)
    of = Dialogue.between("alice", "bob", opened_at=START, lasting=40_000, open_for=1_000)
    said = [of.say("alice"), of.say("bob")]
    if end == "finished":
        said.append(of.say("alice", "FINISH"))
    for place, record in enumerate(said):
        router.append(record, START + place)
    if end == "timed out":
        router.append(None, of.terms.deadline + 1)
    router.step()
    return router, of, said


def promises(router: MemoryRouter, to: str) -> list[tuple[bytes, bytes, int]]:
    """What each receipt says, the event itself aside, which only the first one holds."""
    receipts = [value for value in router.delivered_to(to) if isinstance(value, Receipt)]
    return [(each.message_id, each.event_digest, each.block_by) for each in receipts]


def again(router: MemoryRouter, record: bytes, at: int, times: int = 1) -> None:
    for _ in range(times):
        router.append(record, at)
    router.step()


@pytest.mark.parametrize("end", ["open", "finished", "timed out"])
def test_the_same_promise_comes_back_however_often_a_message_does(
    end: Literal["finished", "timed out", "open"],
) -> None:
    router, of, said = conversation(end)
    at = of.terms.deadline + 2 if end == "timed out" else START + 10
    first, answers = promises(router, "alice")[0], len(promises(router, "alice"))
    again(router, said[0], at, times=3)
    router.restart()
    again(router, said[0], at + 1, times=2)
    assert promises(router, "alice")[answers:] == [first] * 5
    assert router.rejections() == []


def test_a_promise_names_the_event_that_stands_on_the_firehose() -> None:
    router, of, said = conversation("finished")
    again(router, said[1], START + 10)
    first, repeated = promises(router, "bob")
    assert first == repeated
    assert first[1] == event_digest(router.firehose()[1])
    assert first[2] == of.terms.deadline + LIMITS.block_grace


def test_every_message_of_an_ended_transaction_gets_its_receipt_to_the_last_moment() -> None:
    router, _, said = conversation("finished")
    before = len(promises(router, "alice")) + len(promises(router, "bob"))
    for record in said:
        again(router, record, START + 2 + REMEMBERED)
    assert len(promises(router, "alice")) + len(promises(router, "bob")) == before + len(said)
    assert router.rejections() == []


def test_after_that_it_is_told_that_what_it_says_is_on_the_record() -> None:
    router, of, said = conversation("finished")
    for record in said:
        again(router, record, START + 3 + REMEMBERED)
    opening, *later = router.rejections()
    assert opening.reason == "OPENING_EXPIRED"
    assert opening.detail == (
        f"this opening counted until {of.terms.open_until}; if it opened a transaction before, that has ended and is on"
        " the record, and otherwise sign a new one"
    )
    assert {(each.reason, each.detail) for each in later} == {
        (
            "UNKNOWN_TRANSACTION",
            "no such transaction is open on this pipeline, or it ended and is on the record",
        )
    }
    assert len(router.firehose()) == 3


def test_how_long_is_remembered_counts_from_the_end_and_not_from_what_comes_again() -> None:
    router, _, said = conversation("finished")
    for wait in range(0, REMEMBERED, 1_000):
        again(router, said[2], START + 3 + wait)
    again(router, said[2], START + 3 + REMEMBERED)
    (refused,) = [value for value in router.delivered_to("alice") if isinstance(value, Rejection)]
    assert refused.reason == "UNKNOWN_TRANSACTION"
