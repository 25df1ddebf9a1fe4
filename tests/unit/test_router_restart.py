"""Where a router goes on after a restart, case by case; `tests/property/test_router_recovery.py` looks for cases nobody thought of."""

from __future__ import annotations

import pytest

from parley.schemas import FirehoseEvent, TransactionState, decode, encode
from router import handler
from router.core import Limits
from router.errors import RecoveryError
from router.handler import PIPELINE_KEY
from streams.catalogue import FIREHOSE, ROUTER_STATE
from tests.dialogue import Dialogue
from tests.memory_router import MemoryRouter, members

START = 1_800_000_000_000
MEMBERS = members("alice", "bob")


@pytest.fixture(autouse=True)
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a transaction to router-state four events after its change."""
    monkeypatch.setattr(handler, "WRITE_BEHIND", 4)


def between(at: int = START, lasting: int = 1_000, seed: str = "") -> Dialogue:
    return Dialogue.between("alice", "bob", opened_at=at, lasting=lasting, seed=seed, open_for=0)


def busy(events: int, limits: Limits | None = None) -> tuple[MemoryRouter, list[Dialogue]]:
    """A router that has accepted as many openings, in one commit."""
    router = MemoryRouter(MEMBERS, limits)
    deals = [between(seed=str(number)) for number in range(events)]
    for deal in deals:
        router.append(deal.say("alice"), START)
    router.step()
    return router, deals


def written(router: MemoryRouter) -> set[bytes]:
    """The transactions that router-state holds."""
    held: dict[bytes, bytes | None] = {}
    for record in router.changelog():
        held[record.with_key or b""] = record.with_value
    return {key for key, value in held.items() if value is not None and key != PIPELINE_KEY}


def test_transactions_are_written_behind_and_restored_all_the_same() -> None:
    router, deals = busy(3)
    assert written(router) == set()
    before = router.transactions()
    router.restart()
    assert router.transactions() == before
    assert set(before) == {deal.id for deal in deals}


def test_a_transaction_forgotten_in_time_is_never_written() -> None:
    router, (deal,) = busy(1, Limits(remembered=0))
    router.append(deal.say("bob", "FINISH"), START + 1)
    router.append(None, START + 10)
    router.step()
    assert {record.with_key for record in router.changelog()} == {PIPELINE_KEY}
    router.restart()
    router.append(None, START + 10)
    router.step()
    assert router.transactions() == {}


def test_more_events_in_one_commit_than_are_kept_behind_survive_the_next_restarts() -> None:
    router, deals = busy(12)
    for _ in range(3):
        router.append(None, START)
        router.step()
        router.restart()
        assert set(router.transactions()) == {deal.id for deal in deals}
    assert len(router.firehose()) == 12


def test_state_that_was_lost_is_rebuilt_and_survives_the_next_restarts() -> None:
    router, _ = busy(12)
    before = router.transactions()
    router.topics.drop(ROUTER_STATE, 0)
    for _ in range(3):
        router.restart()
        assert router.transactions() == before
        router.append(None, START)
        router.step()


def test_state_of_a_longer_firehose_leaves_no_trace() -> None:
    """As after a restore of the firehose alone: what router-state says is of events that never were."""
    router, deals = busy(2)
    for deal in deals * 3:
        router.append(deal.say("bob"), START + 1)
        router.step()
    assert written(router)
    whole = router.firehose()
    router.topics.drop(FIREHOSE, 0, keep=3)
    router.restart()
    router.restart()
    counts = {key: len(state.messages) // 80 for key, state in router.transactions().items()}
    assert counts == {deals[0].id: 2, deals[1].id: 1}
    router.step()
    assert router.firehose() == whole, "ingest is judged again from there, to the same end"


def test_an_id_that_came_again_after_it_was_forgotten_is_the_second_one_after_a_restart() -> None:
    router, (first,) = busy(1, Limits(remembered=0))
    router.append(None, first.terms.deadline + 1)
    again = first.terms.deadline + 10
    second = between(at=again)
    second.id = first.id
    router.append(second.say("alice"), again)
    router.step()
    (state,) = router.transactions().values()
    assert (state.outcome, state.opened_at) == (None, again)
    router.restart()
    assert router.transactions() == {second.id: state}


def test_the_state_knows_better_than_an_offset_set_ahead() -> None:
    router, (deal,) = busy(1)
    router.append(deal.say("bob"), START + 1)
    router.committed[0] = 2
    router.restart()
    assert router.committed[0] == 1
    router.step()
    assert len(router.firehose()) == 2


def test_an_offset_that_was_lost_or_set_back_judges_nothing_again() -> None:
    for offset in (None, 0):
        router, (deal,) = busy(1)
        router.append(b"garbage", START)
        router.append(deal.say("bob"), START + 1)
        router.step()
        router.committed[0] = offset
        router.restart()
        assert router.committed[0] == 3
        router.step()
        assert len(router.rejections()) == 1


def test_a_quiet_pipeline_is_written_within_the_hour_and_needs_the_firehose_no_more() -> None:
    router, (deal,) = busy(1)
    hour = START + handler.WRITE_EVERY
    assert router.next_due() == min(hour, deal.terms.deadline + 1)
    long_lasting = between(START + 2_000, lasting=80 * 86_400_000)
    router.append(long_lasting.say("alice"), START + 2_000)
    router.step()
    router.append(None, hour)
    router.step()
    assert long_lasting.id in written(router)
    assert router.next_due() == hour + handler.WRITE_EVERY, "to note that nothing is left to write"
    router.append(None, router.next_due())
    router.step()
    assert router.next_due() == long_lasting.terms.deadline + 1, "and from then on it is left alone"
    router.topics.expire(FIREHOSE, 0, len(router.firehose()))
    before = router.transactions()
    router.restart()
    assert router.transactions() == before
    assert long_lasting.id in before


def test_a_firehose_emptied_by_retention_is_not_one_that_was_lost() -> None:
    router, (deal,) = busy(1)
    router.append(None, START)
    router.step()
    for record in (
        deal.say("bob"),
        deal.say("alice"),
        deal.say("bob"),
        deal.say("alice"),
        deal.say("bob", "FINISH"),
    ):
        router.append(record, START + 1)
    router.append(None, START + 700_000)
    router.step()
    router.append(None, START + 700_000)
    router.step()
    position = router.position()
    router.topics.expire(FIREHOSE, 0, len(router.firehose()))
    router.restart()
    assert router.position() == position
    router.append(between(at=START + 700_000).say("alice"), START + 700_000)
    router.step()
    (event,) = router.events()
    assert (event.sequence, event.chain) == (position.sequence, position.chain)


def test_a_firehose_that_lacks_what_the_state_needs_is_not_gone_on_with() -> None:
    router, _ = busy(3)
    router.topics.expire(FIREHOSE, 0, 2)
    with pytest.raises(RecoveryError, match="breaks before event 2"):
        router.restart()
    router.topics.expire(FIREHOSE, 0, 1)
    with pytest.raises(RecoveryError, match="no longer holds events 0 to 2"):
        router.restart()


def changed(router: MemoryRouter, place: int, **changes: object) -> None:
    """Put another event in an event's place."""
    records = router.topics.records(FIREHOSE, 0)
    event = decode(records[place].with_value or b"", FirehoseEvent)._replace(**changes)  # type: ignore[arg-type]
    records[place] = records[place]._replace(with_value=encode(event))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_firehose_that_was_changed_is_not_gone_on_with(place: int) -> None:
    router, _ = busy(4)
    router.topics.drop(ROUTER_STATE, 0)
    changed(router, place, at=START + 1)
    with pytest.raises(RecoveryError, match=f"breaks before event {place + 1}"):
        router.restart()


def test_a_router_state_written_by_something_else_is_not_gone_on_with() -> None:
    router, _ = busy(1)
    router.topics.append(ROUTER_STATE, 0, b"x" * 16, router.firehose()[0])
    with pytest.raises(RecoveryError, match="holds a FirehoseEvent"):
        router.restart()


def test_timers_go_on_after_a_restart() -> None:
    router, deals = busy(3)
    router.restart()
    router.append(None, deals[0].terms.deadline + 1)
    router.step()
    ended = [event.transaction_id for event in router.events() if event.ended is not None]
    assert sorted(ended) == sorted(deal.id for deal in deals)
    assert all(isinstance(state, TransactionState) for state in router.transactions().values())


def test_a_router_that_takes_over_reads_the_directory_as_far_as_the_one_before() -> None:
    """Else a key that was revoked in between would count again."""
    router, _ = busy(1)
    router.asked_for.clear()
    router.restart()
    assert router.asked_for == [MEMBERS.version]


SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
LASTINGS = (1, 50, 3 * SECOND, HOUR, DAY, 21 * DAY, 90 * DAY)


def lasting_from_a_millisecond_to_months(router: MemoryRouter) -> list[Dialogue]:
    """Deals of as many lengths, opened in the opposite order, in one commit."""
    deals = [between(lasting=lasting, seed=str(lasting)) for lasting in LASTINGS]
    for deal in reversed(deals):
        router.append(deal.say("alice"), START)
    router.step()
    return deals


def timed_out(router: MemoryRouter) -> list[tuple[bytes, int]]:
    """What has timed out, in order, and when."""
    return [(event.transaction_id, event.at) for event in router.events() if event.envelope is None]


def test_deadlines_from_milliseconds_to_months_are_armed_again_by_each_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler, "WRITE_EVERY", 2**50)  # else the hourly writing has a timer too
    router = MemoryRouter(MEMBERS, Limits(remembered=200 * DAY))
    deals = lasting_from_a_millisecond_to_months(router)
    for count, deal in enumerate(deals):
        router.restart()
        assert router.next_due() == deal.terms.deadline + 1
        router.append(None, deal.terms.deadline)
        router.step()
        assert len(timed_out(router)) == count, "not a moment too early"
        router.append(None, router.next_due())
        router.step()
        assert timed_out(router)[-1] == (deal.id, deal.terms.deadline + 1)


@pytest.mark.parametrize("lost", ["nothing", "router-state"])
def test_a_restart_after_days_ends_what_is_overdue_in_order_and_nothing_else(lost: str) -> None:
    router = MemoryRouter(MEMBERS)
    deals = lasting_from_a_millisecond_to_months(router)
    if lost == "router-state":
        router.topics.drop(ROUTER_STATE, 0)
    restarted_at = START + 10 * DAY
    router.restart()
    assert router.next_due() < restarted_at, "overdue: the first tick is sent at once"
    router.append(None, restarted_at)
    router.step()
    overdue = [deal for deal, lasting in zip(deals, LASTINGS, strict=True) if lasting < 10 * DAY]
    assert timed_out(router) == [(deal.id, restarted_at) for deal in overdue]
    assert all(event.ended.waiting_on == ("bob",) for event in router.events() if event.ended is not None)
    open_still = {key for key, state in router.transactions().items() if state.outcome is None}
    assert open_still == {deal.id for deal in deals[len(overdue) :]}


def test_what_came_in_time_while_no_router_was_there_counts_days_later() -> None:
    router = MemoryRouter(MEMBERS)
    *_, in_time, late = deals = [between(lasting=DAY, seed=seed) for seed in ("silent", "in time", "late")]
    for deal in deals:
        router.append(deal.say("alice"), START)
    router.step()
    router.append(in_time.say("bob", "FINISH"), START + DAY)
    router.append(late.say("bob", "FINISH"), START + DAY + 1)
    router.append(None, START + 10 * DAY)
    router.restart()
    router.step()
    assert [event.ended.outcome for event in router.events() if event.ended is not None] == [
        "FINISHED",
        "TIMED_OUT",
        "TIMED_OUT",
    ]
    assert timed_out(router)[0][1] == START + DAY + 1, "by the time of the record that came next"
    assert [rejection.reason for rejection in router.rejections()] == ["DEADLINE_PASSED"]
