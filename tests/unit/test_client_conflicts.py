"""Two speak at once: what the one hears whose message came second, and when it is said again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import NamedTuple

import pytest

from parley.client import Participant
from parley.conflict import ATTEMPTS
from parley.deal import Accepted, Deal, DealMessage
from parley.errors import ConflictError, RefusedError, VerificationError
from parley.schemas import Head, MessageId
from tests.memory_backbone import MemoryBackbone
from tests.memory_clients import MINUTES, connected, next_of, until


@pytest.fixture
def backbone() -> MemoryBackbone:
    return MemoryBackbone("alpha", "beta", "gamma")


@pytest.fixture
async def alpha(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "alpha") as me:
        yield me


@pytest.fixture
async def beta(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "beta") as me:
        yield me


class Both(NamedTuple):
    """A deal in both parties' hands."""

    backbone: MemoryBackbone
    alpha: Deal
    beta: Deal


@pytest.fixture
async def deal(backbone: MemoryBackbone, alpha: Participant, beta: Participant) -> Both:
    mine = await alpha.open(["beta"], kind="negotiation", deadline=MINUTES, content="", finish_rule="ALL")
    return Both(backbone, mine, await next_of(beta.opened()))


async def race(
    backbone: MemoryBackbone, first: Coroutine[None, None, Accepted], second: Coroutine[None, None, Accepted]
) -> Accepted:
    """Both are on their way before either is judged; what comes of the second."""
    backbone.hold = True
    wins = asyncio.create_task(first)
    await until(lambda: len(backbone.held) == 1)
    loses = asyncio.create_task(second)
    await until(lambda: len(backbone.held) == 2)
    backbone.hold = False
    backbone.judge()
    await wins
    return await loses


async def test_the_one_that_comes_second_has_back_what_it_said_and_what_came_first(deal: Both) -> None:
    with pytest.raises(ConflictError) as refused:
        await race(
            deal.backbone, deal.alpha.send("100"), deal.beta.send({"price": "99"}, content_type="text/x-bid")
        )
    conflict = refused.value
    assert conflict.reason == "SEQUENCE_CONFLICT"
    assert conflict.message.content == b'{"price":"99"}'
    assert conflict.message.content_type == "text/x-bid"
    assert [said.text for said in conflict.came_first] == ["100"]
    assert conflict.is_whole
    assert conflict.head == deal.beta.head
    assert "99" not in str(conflict)


async def test_the_next_send_links_to_what_came_first(deal: Both) -> None:
    with pytest.raises(ConflictError):
        await race(deal.backbone, deal.alpha.send("first"), deal.beta.send("second"))
    await deal.beta.send("decided anew")
    assert [said.text for said in deal.beta.messages] == ["", "first", "decided anew"]


async def test_what_came_first_is_still_there_to_be_taken(deal: Both) -> None:
    with pytest.raises(ConflictError):
        await race(deal.backbone, deal.alpha.send("first"), deal.beta.send("second"))
    assert (await next_of(deal.beta)).text == "first"


async def test_unless_finished_it_goes_again_after_what_came_first(deal: Both) -> None:
    accepted = await race(
        deal.backbone, deal.alpha.send("first"), deal.beta.send("second", resend="unless finished")
    )
    assert accepted.message.sequence == 2
    assert [said.text for said in deal.beta.messages] == ["", "first", "second"]


async def test_a_finish_that_came_first_lets_nothing_go_again(deal: Both) -> None:
    with pytest.raises(ConflictError) as refused:
        await race(
            deal.backbone, deal.alpha.finish("agreed"), deal.beta.send("but", resend="unless finished")
        )
    assert [said.action for said in refused.value.came_first] == ["FINISH"]
    assert [said.text for said in deal.beta.messages] == ["", "agreed"]


async def test_a_function_decides_by_what_came_first(deal: Both) -> None:
    asked: list[tuple[str, ...]] = []

    def only_after_greetings(came_first: tuple[DealMessage, ...]) -> bool:
        asked.append(tuple(said.text for said in came_first))
        return all(said.text == "good morning" for said in came_first)

    await race(
        deal.backbone, deal.alpha.send("good morning"), deal.beta.send("99", resend=only_after_greetings)
    )
    with pytest.raises(ConflictError):
        await race(deal.backbone, deal.alpha.send("101"), deal.beta.send("99", resend=only_after_greetings))
    assert asked == [("good morning",), ("101",)]


async def test_nothing_goes_again_after_our_own_words_by_another_process(
    deal: Both, backbone: MemoryBackbone
) -> None:
    """They may mean the very same, sent before and thought lost."""
    async with connected(backbone, "beta", consumer=None) as other:
        twin = other.deal(deal.beta.id)
        assert twin is not None
        with pytest.raises(ConflictError) as refused:
            await race(backbone, twin.send("yes"), deal.beta.send("yes, again", resend="unless finished"))
    assert [said.sender for said in refused.value.came_first] == ["beta"]


async def test_it_goes_again_a_few_times_and_no_more(deal: Both) -> None:
    deal.backbone.hold = True
    sending = asyncio.create_task(deal.beta.send("at last", resend="unless finished"))
    for attempt in range(ATTEMPTS):
        await until(lambda: len(deal.backbone.held) == 1)
        held = deal.backbone.held.pop()
        deal.backbone.hold = False
        await deal.alpha.send(f"before {attempt}")
        deal.backbone.hold = True
        deal.backbone.submit(*held)
        deal.backbone.judge()
    with pytest.raises(ConflictError) as refused:
        await sending
    assert [said.text for said in refused.value.came_first] == [f"before {ATTEMPTS - 1}"]
    assert len(deal.beta.messages) == 1 + ATTEMPTS


async def test_what_was_said_between_others_cannot_be_read_so_nothing_goes_again_after_it(
    backbone: MemoryBackbone, alpha: Participant, beta: Participant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.deal.CATCHING_UP", 0.05)
    mine = await alpha.open(["beta", "gamma"], kind="negotiation", deadline=MINUTES, content="")
    theirs = await next_of(beta.opened())
    with pytest.raises(ConflictError) as refused:
        await race(backbone, mine.send("aside", to=["gamma"]), theirs.send("loud", resend="unless finished"))
    assert not refused.value.is_whole
    assert refused.value.came_first == ()
    await theirs.send("loud", after=refused.value.head)
    assert mine.messages[-1].text == "loud"


async def test_a_head_that_is_not_the_one_delivered_is_not_believed(deal: Both) -> None:
    with pytest.raises(VerificationError, match="another message 0"):
        await deal.beta._catch_up(Head(0, MessageId(bytes(32))))


async def test_other_refusals_come_as_they_are(deal: Both) -> None:
    deal.backbone.pass_time(1_000_000)
    with pytest.raises(RefusedError) as refused:
        await deal.beta.send("late", resend="unless finished")
    assert not isinstance(refused.value, ConflictError)
