"""Deadlines and time on a pipeline, receipts, and the firehose as a whole, judged by hand-made records."""

from __future__ import annotations

import pytest

from parley.firehose import Follower
from parley.receipts import ReceiptVerifier, verify_receipt
from parley.schemas import Ending, FinishRule, FirehoseEvent, Receipt, encode
from router.core import Limits
from streams import state
from tests.bad_records import BAD_RECORDS
from tests.dialogue import Dialogue, sealed
from tests.memory_router import ROUTER_KEY, MemoryRouter, facts, members

START = 1_800_000_000_000
MEMBERS = members("alice", "bob", "carol", "mallory")


def router(limits: Limits | None = None, pipelines: int = 1) -> MemoryRouter:
    return MemoryRouter(MEMBERS, limits, pipelines=pipelines)


def between(*parties: str, at: int = START, lasting: int = 1_000, seed: str = "", **named: int) -> Dialogue:
    return Dialogue.between(*(parties or ("alice", "bob")), opened_at=at, lasting=lasting, seed=seed, **named)  # type: ignore[arg-type]


def ended(event: FirehoseEvent) -> Ending:
    assert event.ended is not None
    return event.ended


def receipts_of(router: MemoryRouter, address: str) -> list[Receipt]:
    return [value for value in router.delivered_to(address) if isinstance(value, Receipt)]


# Deadlines -----------------------------------------------------------------------------------------------------------


def test_a_message_at_the_very_deadline_is_in_time_and_one_a_moment_later_is_not() -> None:
    at_deadline, after = router(), router()
    for each, late in ((at_deadline, 0), (after, 1)):
        deal = between()
        each.append(deal.say("alice"), START)
        each.append(deal.say("bob", "FINISH"), deal.terms.deadline + late)
        each.step()
    assert ended(at_deadline.events()[1]).outcome == "FINISHED"
    assert at_deadline.rejections() == []
    assert ended(after.events()[1]).outcome == "TIMED_OUT"
    assert [rejection.reason for rejection in after.rejections()] == ["DEADLINE_PASSED"]


def test_a_tick_at_the_deadline_ends_nothing_and_one_after_it_does() -> None:
    each = router()
    deal = between()
    each.append(deal.say("alice"), START)
    each.append(None, deal.terms.deadline)
    each.step()
    assert len(each.events()) == 1
    each.append(None, deal.terms.deadline + 1)
    each.step()
    event = each.events()[1]
    assert (event.envelope, event.transaction_id, event.at) == (None, deal.id, deal.terms.deadline + 1)
    assert ended(event).outcome == "TIMED_OUT"


def test_a_timeout_names_who_was_due_and_tells_every_party() -> None:
    each = router()
    deal = between("alice", "bob", "carol")
    each.append(deal.say("alice"), START)
    each.append(deal.say("bob", recipients=["carol"]), START + 1)
    each.append(None, deal.terms.deadline + 1)
    each.step()
    timeout = each.events()[-1]
    ending = ended(timeout)
    assert ending.waiting_on == ("carol",)
    assert (ending.kind, ending.opened_at) == ("dvp", START)
    assert [reference.sequence for reference in ending.events] == [0, 1]
    for party in ("alice", "bob", "carol"):
        assert each.delivered_to(party)[-1] == timeout


@pytest.mark.parametrize("rule", ["ANY", "ALL"])
def test_a_transaction_that_finished_does_not_time_out(rule: FinishRule) -> None:
    each = router()
    deal = Dialogue.between("alice", "bob", opened_at=START, lasting=1_000, rule=rule)
    each.append(deal.say("alice"), START)
    each.append(deal.say("bob", "FINISH"), START + 1)
    if rule == "ALL":
        each.append(deal.say("alice", "FINISH"), START + 2)
    each.append(None, START + 5_000)
    each.step()
    assert [ended(event).outcome for event in each.events() if event.ended] == ["FINISHED"]


def test_deadlines_of_many_at_one_moment_end_them_in_several_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_MAXIMUM_WOKEN", 4)
    each = router()
    deals = [between(seed=str(number)) for number in range(10)]
    for deal in deals:
        each.append(deal.say("alice"), START)
    each.step()
    over = deals[0].terms.deadline + 1
    each.append(None, over)
    for deal in deals:
        each.append(deal.say("bob"), over)
    each.step()
    assert len(each.events()) == 14
    assert {rejection.reason for rejection in each.rejections()} == {"DEADLINE_PASSED"}, "woken or not"
    assert len(each.rejections()) == 10
    while each.next_due() <= over:
        each.append(None, over + 1)
        each.step()
    assert {event.transaction_id for event in each.events()[10:]} == {deal.id for deal in deals}
    assert len(each.events()) == 20


def test_what_time_has_ended_comes_before_the_record_that_brought_the_time() -> None:
    """In the order of their deadlines, whatever the order of their openings; and none of it is that record's doing."""
    each = router()
    deals = [between(seed=str(number), lasting=lasting) for number, lasting in enumerate((30, 10, 20, 40))]
    for deal in deals:
        each.append(deal.say("alice"), START)
    late = START + 35
    newer = between(at=late)
    each.append(newer.say("alice"), late)
    each.step()
    events = each.events()[len(deals) :]
    first, second, third, _ = (deal.id for deal in deals)
    assert [event.transaction_id for event in events] == [second, third, first, newer.id]
    assert [event.at for event in events] == [late] * 4
    assert [event.envelope is None for event in events] == [True, True, True, False]


def test_a_bad_record_brings_the_time_too() -> None:
    each = router()
    deal = between()
    each.append(deal.say("alice"), START)
    each.append(b"garbage", deal.terms.deadline + 1)
    each.step()
    assert ended(each.events()[1]).outcome == "TIMED_OUT"
    assert [rejection.reason for rejection in each.rejections()] == ["MALFORMED"]


def test_time_on_a_pipeline_never_runs_backwards() -> None:
    """A broker's clock that was set back must not let in what was too late."""
    each = router()
    deal = between()
    each.append(deal.say("alice"), START)
    each.append(None, deal.terms.deadline + 1)
    each.append(deal.say("bob"), START + 5)
    newer = between(at=START + 1_000, seed="newer")
    each.append(newer.say("alice"), START + 10)
    each.step()
    assert [rejection.reason for rejection in each.rejections()] == ["DEADLINE_PASSED"]
    times = [event.at for event in each.events()]
    assert times == sorted(times)
    assert times[-1] == deal.terms.deadline + 1
    each.restart()
    each.append(deal.say("alice"), START)
    each.step()
    assert each.rejections()[-1].at == deal.terms.deadline + 1


def test_time_of_one_pipeline_is_not_that_of_another() -> None:
    each = router(pipelines=2)
    deal = between()
    each.append(deal.say("alice"), START)
    each.append(None, START + 100_000, pipeline=1)
    each.step()
    assert len(each.events(0)) == 1


# Memory --------------------------------------------------------------------------------------------------------------


def test_an_ended_transaction_is_remembered_until_its_opening_does_not_count_any_more() -> None:
    each = router(Limits(remembered=50))
    deal = between(open_for=100)
    each.append(deal.say("alice"), START)
    each.append(deal.say("bob", "FINISH"), START + 1)
    each.append(None, START + 100)
    each.step()
    assert deal.id in each.transactions()
    each.append(None, START + 101)
    each.step()
    assert each.transactions() == {}
    assert len(each.events()) == 2, "forgetting is no event"


def test_an_ended_transaction_is_remembered_for_the_time_set() -> None:
    each = router(Limits(remembered=50))
    deal = between(open_for=0)
    each.append(deal.say("alice"), START)
    last = deal.say("bob", "FINISH")
    each.append(last, START + 1)
    each.append(last, START + 51)
    each.append(last, START + 52)
    each.step()
    assert len(receipts_of(each, "bob")) == 2
    assert [rejection.reason for rejection in each.rejections()] == ["UNKNOWN_TRANSACTION"]


# Receipts ------------------------------------------------------------------------------------------------------------


def test_every_accepted_message_is_receipted_to_its_sender_alone() -> None:
    each = router(Limits(block_grace=7_000))
    deal = between()
    for sender in ("alice", "bob", "alice"):
        each.append(deal.say(sender), START)
    each.step()
    for sender, sequences in (("alice", [0, 2]), ("bob", [1])):
        receipts = receipts_of(each, sender)
        assert [receipt.event for receipt in receipts] == [each.firehose()[n] for n in sequences]
        assert all(receipt.block_by == deal.terms.deadline + 7_000 for receipt in receipts)


def test_receipts_of_one_commit_share_a_signature_that_verifies_for_each() -> None:
    each = router(pipelines=2)
    for pipeline in (0, 1):
        for number in range(5):
            deal = between(seed=str(number), pipeline=pipeline)
            each.append(deal.say("alice"), START, pipeline)
    each.step()
    receipts = [
        value
        for pipeline in (0, 1)
        for value in each.delivered_to("alice", pipeline)
        if isinstance(value, Receipt)
    ]
    assert len({receipt.signature for receipt in receipts}) == 1
    assert sorted(receipt.leaf_index for receipt in receipts) == list(range(10))
    verifier = ReceiptVerifier(MEMBERS)
    for receipt in receipts:
        verify_receipt(receipt, ROUTER_KEY.public)
        verifier.verify(receipt)


def test_a_repeated_message_gets_the_same_receipt_and_changes_nothing() -> None:
    each = router()
    deal = between()
    records = [deal.say("alice"), deal.say("bob"), deal.say("alice", "FINISH")]
    for record in records:
        each.append(record, START)
    each.step()
    before, firehose = each.transactions(), each.firehose()
    for record in reversed(records):
        each.append(record, START + 1)
    each.step()
    assert each.rejections() == []
    assert each.firehose() == firehose
    assert each.transactions() == before
    for sender, sent in (("alice", 2), ("bob", 1)):
        receipts = receipts_of(each, sender)
        first, again = receipts[:sent], receipts[sent:][::-1]
        for original, repeated in zip(first, again, strict=True):
            assert facts(repeated) == facts(original._replace(event=None))
            verify_receipt(repeated, ROUTER_KEY.public)


def test_a_repeated_message_counts_as_repeated_after_the_deadline_too() -> None:
    each = router()
    deal = between()
    opening = deal.say("alice")
    each.append(opening, START)
    each.append(opening, deal.terms.deadline + 1)
    each.step()
    assert each.rejections() == []
    assert len(receipts_of(each, "alice")) == 2


# The firehose --------------------------------------------------------------------------------------------------------


def test_the_firehose_is_dense_and_chained_whatever_comes() -> None:
    each = router(pipelines=2)
    for number in range(30):
        pipeline = number % 2
        deal = between(at=START + number, lasting=10, seed=str(number), pipeline=pipeline)
        each.append(deal.say("alice"), START + number, pipeline)
        bad = list(BAD_RECORDS.values())[number % len(BAD_RECORDS)]
        each.append(bad.make(deal, START + number), START + number, pipeline)
        each.append(sealed(deal.message("bob", "FINISH" if number % 3 else None)), START + number, pipeline)
        if number % 4 == 0:
            each.step()
    each.step()
    follower = Follower()
    for pipeline in (0, 1):
        for offset, record in enumerate(each.firehose(pipeline)):
            assert follower.follow(record, offset) is not None
        sequence, chain, _ = follower.cursor[pipeline]
        position = each.position(pipeline)
        assert (position.sequence, position.chain) == (sequence, chain)
        assert sequence > 30


def test_a_recipient_gets_the_very_event_once() -> None:
    each = router()
    deal = between("alice", "bob", "carol")
    each.append(deal.say("alice", recipients=["bob", "alice"]), START)
    each.step()
    (event,) = each.events()
    assert each.delivered_to("bob") == [event]
    assert each.delivered_to("carol") == []
    own, receipt = each.delivered_to("alice")
    assert encode(own) == each.firehose()[0]
    assert isinstance(receipt, Receipt)
