"""Several consumers of one participant, each with everything; and several processes of one consumer, each with its own deals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from parley.client import Participant
from parley.deal import Deal, Received
from parley.errors import ElsewhereError
from tests.memory_backbone import MemoryBackbone, MemoryTransport
from tests.memory_clients import MINUTES, connected, next_of, until


@pytest.fixture
def backbone() -> MemoryBackbone:
    return MemoryBackbone("alpha", "beta", pipelines=2)


@pytest.fixture
async def alpha(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "alpha") as me:
        yield me


class Process(NamedTuple):
    """A process of beta's."""

    me: Participant
    transport: MemoryTransport


@asynccontextmanager
async def process(backbone: MemoryBackbone) -> AsyncIterator[Process]:
    transport = backbone.transport()
    async with connected(backbone, "beta", transport=transport) as me:
        yield Process(me, transport)


@pytest.fixture
async def first(backbone: MemoryBackbone) -> AsyncIterator[Process]:
    """Has all of beta's pipelines."""
    async with process(backbone) as made:
        yield made


@pytest.fixture
async def second(backbone: MemoryBackbone, first: Process) -> AsyncIterator[Process]:
    """Shares beta's consumer, and has nothing until something is given to it."""
    async with process(backbone) as made:
        yield made


async def give(backbone: MemoryBackbone, to: Process, *pipelines: int) -> None:
    backbone.groups["beta", "main"].give(to.transport, *pipelines)
    await until(lambda: set(pipelines) <= set(to.me._reception.division.shares.ours))


async def deal_on(alpha: Participant, pipeline: int) -> Deal:
    return await alpha.open(
        ["beta"], kind="otc", deadline=MINUTES, content=f"on {pipeline}", pipeline=pipeline
    )


class TestConsumers:
    async def test_each_has_all_messages_and_its_own_place(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        await deal_on(alpha, 0)
        for consumer in ("back-office", "archive"):
            async with connected(backbone, "beta", consumer) as me:
                assert (await next_of(me.opened())).messages[0].text == "on 0"
        await deal_on(alpha, 1)
        async with connected(backbone, "beta", "archive") as me:
            assert (await next_of(me.opened())).messages[0].text == "on 1"
        assert backbone.position("beta", "back-office") == 1
        assert backbone.position("beta", "archive") == 2

    async def test_without_one_all_that_comes_from_now_on_is_heard_and_nothing_is_saved(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        await deal_on(alpha, 0)
        async with connected(backbone, "beta", consumer=None) as me:
            assert [deal.messages[0].text for deal in me.deals] == ["on 0"]
            await deal_on(alpha, 1)
            assert (await next_of(me.opened())).messages[0].text == "on 1"
        assert not [key for key in backbone.groups if key[0] == "beta"]

    async def test_without_one_another_process_keeps_what_it_has(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process
    ) -> None:
        await deal_on(alpha, 0)
        async with connected(backbone, "beta", consumer=None) as me:
            await me.deals[0].send("said by hand")
        assert (await next_of(first.me.opened())).messages[-1].text == "said by hand"


class TestSharing:
    async def test_each_takes_the_deals_of_its_own_pipelines(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process, second: Process
    ) -> None:
        await give(backbone, second, 1)
        for pipeline in (0, 1, 0, 1):
            await deal_on(alpha, pipeline)
        for each, pipeline in ((first, 0), (second, 1)):
            opened = each.me.opened()
            texts = [(await next_of(opened)).messages[0].text for _ in range(2)]
            assert texts == [f"on {pipeline}"] * 2
            assert {deal.pipeline for deal in each.me.deals} == {pipeline}

    async def test_a_process_opens_on_its_own_pipelines(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process, second: Process
    ) -> None:
        await give(backbone, second, 1)
        opened = [await second.me.open(["alpha"], kind="otc", deadline=MINUTES, content="") for _ in range(4)]
        assert {deal.pipeline for deal in opened} == {1}
        with pytest.raises(ElsewhereError, match="pipeline 0"):
            await second.me.open(["alpha"], kind="otc", deadline=MINUTES, content="", pipeline=0)

    async def test_a_process_without_a_share_stands_by(
        self, first: Process, second: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parley.division._HANDING_OVER", 0)
        monkeypatch.setattr("parley.division._GRACE", 0.01)
        assert not second.me.deals
        with pytest.raises(ElsewhereError, match="stands by"):
            await second.me.open(["alpha"], kind="otc", deadline=MINUTES, content="")

    async def test_what_was_not_taken_goes_with_its_deal(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process, second: Process
    ) -> None:
        deal = await deal_on(alpha, 1)
        opened = first.me.opened()
        theirs = await next_of(opened)
        await deal.send("one")
        assert (await next_of(theirs)).text == "one"
        await deal.send("two")
        await until(lambda: len(theirs.messages) == 3)
        theirs.acknowledge()
        first.me.acknowledge(0)
        await give(backbone, second, 1)
        inherited = await next_of(second.me.inherited())
        assert [message.text for message in inherited.messages] == ["on 1", "one", "two"]
        assert (await next_of(inherited)).text == "two"

    async def test_who_waits_in_a_deal_that_goes_is_told(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process, second: Process
    ) -> None:
        await deal_on(alpha, 1)
        theirs = await next_of(first.me.opened())
        waiting = asyncio.create_task(anext(theirs))
        await asyncio.sleep(0)
        backbone.groups["beta", "main"].give(second.transport, 1)
        with pytest.raises(ElsewhereError):
            await waiting
        first.me.acknowledge(0)
        await until(lambda: bool(second.me.deals))
        with pytest.raises(ElsewhereError):
            await theirs.send("too late for this process")
        assert not first.me.deals

    async def test_a_share_stays_until_what_was_taken_of_it_is_dealt_with(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process, second: Process
    ) -> None:
        await deal_on(alpha, 1)
        opened = first.me.opened()
        theirs = await next_of(opened)
        backbone.groups["beta", "main"].give(second.transport, 1)
        await until(lambda: first.me._reception.division.shares.leaving != ())
        assert not second.me.deals
        await theirs.send("still mine to answer")
        asking = asyncio.ensure_future(anext(opened))
        await until(lambda: bool(second.me.deals))
        assert [message.text for message in second.me.deals[0].messages] == ["on 1", "still mine to answer"]
        asking.cancel()
        assert second.me._reception.division.inbox.events() == []

    async def test_a_process_too_slow_loses_what_it_holds(
        self,
        backbone: MemoryBackbone,
        alpha: Participant,
        first: Process,
        second: Process,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("parley.division._HANDING_OVER", 0)
        await deal_on(alpha, 1)
        await next_of(first.me.opened())
        await give(backbone, second, 1)
        assert (await next_of(second.me.opened())).messages[0].text == "on 1"

    async def test_a_dead_process_loses_only_what_it_had_taken_and_not_dealt_with(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process
    ) -> None:
        deals = [await deal_on(alpha, pipeline) for pipeline in (0, 1, 0)]
        transport = backbone.transport()
        dying = connected(backbone, "beta", transport=transport)
        async with dying:
            await give(backbone, Process(dying, transport), 0)
            opened = dying.opened()
            assert (await next_of(opened)).id == deals[0].id
            assert (await next_of(opened)).id == deals[2].id
            dying._reception.division.save()
            transport.kill()
            await until(lambda: 0 in first.me._reception.division.shares.ours)
            opened = first.me.opened()
            assert [(await next_of(opened)).id for _ in range(2)] == [deals[1].id, deals[2].id]
            assert (await next_of(first.me.inherited())).id == deals[0].id

    async def test_a_process_that_was_given_up_saves_nothing_any_more(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process, second: Process
    ) -> None:
        await deal_on(alpha, 0)
        await next_of(first.me.opened())
        first.transport.kill()
        await until(lambda: second.me._reception.division.shares.ours == (0, 1))
        first.me.acknowledge(0)
        first.me._reception.division.save()
        assert (await next_of(second.me.opened())).messages[0].text == "on 0"

    async def test_what_the_others_have_dealt_with_is_not_kept(
        self, backbone: MemoryBackbone, alpha: Participant, first: Process, second: Process
    ) -> None:
        await deal_on(alpha, 0)
        inbox = first.me.inbox()
        assert isinstance(await next_of(inbox), Received)
        first.me.acknowledge(0)
        first.me._reception.division.save()
        await until(lambda: len(second.me._reception.deals) == 1)
        assert list(second.me._reception.division.shares._kept) == [0]
        backbone.groups["beta", "main"].look(second.transport)
        await until(lambda: not second.me._reception.division.shares._kept)


class TestInheriting:
    async def test_after_a_restart_open_deals_are_inherited_but_those_whose_opening_comes_again(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        async with process(backbone) as before:
            mine = await before.me.open(["alpha"], kind="otc", deadline=MINUTES, content="ours")
            theirs = await deal_on(alpha, 0)
            assert await next_of(before.me.opened()) == before.me.deal(theirs.id)
        fresh = await deal_on(alpha, 1)
        async with process(backbone) as after:
            inherited = after.me.inherited()
            assert {(await next_of(inherited)).id for _ in range(2)} == {mine.id, theirs.id}
            assert (await next_of(after.me.opened())).id == fresh.id

    async def test_what_another_process_of_ours_opens_on_our_pipelines_is_inherited(
        self, backbone: MemoryBackbone, first: Process
    ) -> None:
        async with connected(backbone, "beta", consumer=None) as by_hand:
            deal = await by_hand.open(["alpha"], kind="otc", deadline=MINUTES, content="by hand")
            assert (await next_of(first.me.inherited())).id == deal.id

    async def test_what_has_ended_meanwhile_is_not(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        async with process(backbone) as before:
            for content in ("ended", "open"):
                await before.me.open(["alpha"], kind="otc", deadline=MINUTES, content=content)
        async with process(backbone) as after:
            await next(deal for deal in after.me.deals if deal.messages[0].text == "ended").finish()
            assert (await next_of(after.me.inherited())).messages[0].text == "open"
