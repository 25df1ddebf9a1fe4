"""Quotas per sender: what is more is refused, told when to come again, and nothing else is paid for."""

from __future__ import annotations

from parley.schemas import Message, Receipt
from router.core import Limits
from router.quotas import OPEN_AGAIN, Quotas
from tests.dialogue import Dialogue, sealed
from tests.memory_router import MemoryRouter, facts, members

START = 1_800_000_000_000
MEMBERS = members("alice", "bob")
SLOW = Quotas(messages_per_second=10, allowance=200)
"""Three at once, then one each 100 ms."""


def router_with(quotas: Quotas, pipelines: int = 1) -> MemoryRouter:
    return MemoryRouter(MEMBERS, Limits(quotas=quotas), pipelines=pipelines)


def openings(count: int, sender: str = "alice", pipeline: int = 0) -> list[Message]:
    other = "bob" if sender == "alice" else "alice"
    return [
        Dialogue.between(sender, other, opened_at=START, pipeline=pipeline, seed=str(number)).message(sender)
        for number in range(count)
    ]


def offer(router: MemoryRouter, message: Message, at: int) -> int | None:
    """When to come again, in ms from ``at``; ``None`` if it counts."""
    before = len(router.rejections())
    router.append(sealed(message), at, message.pipeline)
    router.step()
    new = router.rejections()[before:]
    if not new:
        return None
    (refused,) = new
    assert (refused.reason, refused.retriable) == ("RATE_LIMITED", True)
    assert refused.retry_at is not None
    return refused.retry_at - at


def test_a_sender_at_rest_may_send_its_allowance_at_once_and_then_at_its_rate() -> None:
    router = router_with(SLOW)
    answers = [offer(router, message, START) for message in openings(4)]
    assert answers == [None, None, None, 100]
    more = openings(7)[4:]
    assert [offer(router, message, START + 100 * place) for place, message in enumerate(more, 1)] == [
        None
    ] * 3


def test_the_same_bytes_count_from_the_moment_that_was_told_and_not_before() -> None:
    router = router_with(SLOW)
    for message in openings(3):
        offer(router, message, START)
    late = openings(4)[3]
    assert offer(router, late, START) == 100
    assert offer(router, late, START + 99) == 1
    assert offer(router, late, START + 100) is None


def test_bytes_are_counted_as_messages_are_and_a_large_one_is_paid_for_afterwards() -> None:
    large, second = (message._replace(content=bytes(5_000)) for message in openings(2))
    router = router_with(Quotas(bytes_per_second=10_000, allowance=100))
    assert offer(router, large, START) is None
    cost = -(-len(sealed(large)) * 1_000_000 // 10_000)
    assert offer(router, second, START) == -(-cost // 1_000) - 100


def test_both_rates_are_told_where_both_are_exceeded() -> None:
    router = router_with(Quotas(messages_per_second=1, bytes_per_second=100, allowance=1))
    first, second = openings(2)
    offer(router, first, START)
    assert offer(router, second, START) == -(-len(sealed(first)) * 1_000 // 100) - 1
    (refused,) = router.rejections()
    assert refused.detail.startswith(
        "its sender has sent more than the 1 messages and the 100 bytes a second that it may on this pipeline; send"
        " the same bytes again in "
    )


def test_each_sender_and_each_pipeline_has_quotas_of_its_own() -> None:
    router = router_with(Quotas(messages_per_second=1, allowance=1), pipelines=2)
    mine, more = openings(2)
    assert offer(router, mine, START) is None
    assert offer(router, openings(1, "bob")[0], START) is None
    assert offer(router, openings(1, pipeline=1)[0], START) is None
    assert offer(router, more, START) == 999


def test_nothing_is_paid_for_what_is_refused_or_repeated() -> None:
    router = router_with(SLOW)
    first, second, third, fourth = openings(4)
    assert offer(router, first, START) is None
    for _ in range(5):
        router.append(sealed(first), START)
        router.append(sealed(first._replace(sequence=3, terms=None, previous=first.previous)), START)
    router.step()
    assert {rejection.reason for rejection in router.rejections()} == {"MALFORMED"}
    assert offer(router, second, START) is None
    assert offer(router, third, START) is None
    assert [offer(router, fourth, START) for _ in range(3)] == [100, 100, 100]


def test_who_sends_too_much_is_told_first_what_else_is_wrong() -> None:
    """Coming again with the same bytes must be worth it."""
    router = router_with(Quotas(messages_per_second=1, allowance=1))
    good, bad = openings(2)
    offer(router, good, START)
    router.append(sealed(bad._replace(recipients=("nowhere",))), START)
    router.step()
    assert [rejection.reason for rejection in router.rejections()] == ["UNKNOWN_ADDRESS"]


def test_a_message_over_the_rate_is_told_to_its_sender_and_changes_nothing() -> None:
    router = router_with(Quotas(messages_per_second=1, allowance=1))
    of = Dialogue.between("alice", "bob", opened_at=START)
    router.append(of.say("alice"), START)
    router.append(sealed(of.message("alice")), START)
    router.append(of.say("bob"), START)
    router.step()
    (refused,) = router.rejections()
    assert refused in router.delivered_to("alice")
    assert len(router.firehose()) == 2


def test_as_many_transactions_are_open_as_allowed_and_one_more_once_one_ends() -> None:
    router = router_with(Quotas(open_transactions=2))
    first, second, third = (
        Dialogue.between("alice", "bob", opened_at=START, seed=str(number)) for number in range(3)
    )
    for dialogue in (first, second):
        router.append(dialogue.say("alice"), START)
    assert offer(router, third.message("alice"), START) == OPEN_AGAIN
    (refused,) = router.rejections()
    assert refused.detail == (
        "its sender has 2 transactions open on this pipeline, and may have 2; finish some, or open it on another pipeline"
    )
    router.append(first.say("bob", "FINISH"), START + 1)
    assert offer(router, third.message("alice"), START + 1) is None


def test_a_transaction_that_timed_out_is_open_no_more() -> None:
    router = router_with(Quotas(open_transactions=1))
    short = Dialogue.between("alice", "bob", opened_at=START, lasting=10)
    router.append(short.say("alice"), START)
    assert offer(router, openings(1)[0], START + 11) is None


def test_rates_and_open_transactions_are_kept_side_by_side() -> None:
    router = router_with(Quotas(messages_per_second=10, allowance=1, open_transactions=1))
    first = Dialogue.between("alice", "bob", opened_at=START, seed="first")
    second, third = openings(2)
    router.append(first.say("alice"), START)
    assert offer(router, second, START) == OPEN_AGAIN
    router.append(first.say("alice", "FINISH"), START + 100)
    assert offer(router, second, START + 100) == 99
    assert offer(router, second, START + 199) is None
    assert offer(router, third, START + 1_000) == OPEN_AGAIN


def test_only_the_opener_is_charged_with_an_open_transaction() -> None:
    router = router_with(Quotas(open_transactions=1))
    assert offer(router, openings(1, "alice")[0], START) is None
    assert offer(router, openings(1, "bob")[0], START) is None
    assert offer(router, openings(2, "bob")[1], START) == OPEN_AGAIN


def test_open_transactions_are_counted_again_after_a_restart() -> None:
    router = router_with(Quotas(open_transactions=2))
    for message in openings(2):
        offer(router, message, START)
    router.restart()
    assert offer(router, openings(3)[2], START) == OPEN_AGAIN


def test_paid_rates_are_forgotten_on_a_restart() -> None:
    router = router_with(Quotas(messages_per_second=1, allowance=1))
    first, second = openings(2)
    offer(router, first, START)
    router.restart()
    assert offer(router, second, START) is None


def test_a_batch_that_is_rolled_back_is_judged_alike_when_it_comes_again() -> None:
    router, spared = router_with(SLOW), router_with(SLOW)
    for each in (router, spared):
        for message in openings(5):
            each.append(sealed(message), START)
    for _ in range(3):
        router.abort()
    router.step()
    spared.step()
    assert router.firehose() == spared.firehose()
    assert router.rejections() == spared.rejections()
    assert len(router.rejections()) == 2


def test_without_limits_nothing_is_refused_or_kept() -> None:
    router = router_with(Quotas(open_transactions=0))
    assert [offer(router, message, START) for message in openings(20)] == [None] * 20


def test_a_sender_that_is_held_back_is_answered_with_its_receipt_once_it_counts() -> None:
    router = router_with(Quotas(messages_per_second=1, allowance=1))
    first, second = openings(2)
    offer(router, first, START)
    again = offer(router, second, START)
    assert again is not None
    offer(router, second, START + again)
    receipts = [facts(value) for value in router.delivered_to("alice") if isinstance(value, Receipt)]
    assert len(receipts) == 2
