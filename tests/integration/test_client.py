"""The client on a real broker, with real admission, router and delivery processes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import parley
from parley.deal import Received, TimedOut
from parley.errors import DirectoryError, RefusedError, TransportError
from parley.kafka import KafkaAccess, KafkaTransport, TopicReader
from tests.fix_backbone import RunningBackbone
from tests.synthetic_ledger import signing_key

pytestmark = pytest.mark.timeout(120)

MINUTES = timedelta(minutes=5)


async def test_two_banks_settle_a_trade(running_backbone: RunningBackbone) -> None:
    running_backbone.join("settle-a", "settle-b")
    async with running_backbone.connect("settle-a") as a, running_backbone.connect("settle-b") as b:
        mine = await a.open(["settle-b"], kind="dvp", deadline=MINUTES, content={"isin": "DE0001102580"})
        theirs = await anext(b.opened())
        await theirs.send("I commit to deliver on confirmation of the cash")
        await anext(mine)
        await mine.send("cash confirmed")
        await anext(theirs)
        await theirs.finish("delivered")
        assert [message.text async for message in mine] == ["delivered"]
        assert mine.outcome == theirs.outcome == "FINISHED"


async def test_a_silent_counterparty_times_the_deal_out(running_backbone: RunningBackbone) -> None:
    running_backbone.join("silent-a", "silent-b")
    async with running_backbone.connect("silent-a") as a, running_backbone.connect("silent-b") as b:
        deal = await a.open(["silent-b"], kind="dvp", deadline=timedelta(seconds=1), content=b"")
        inbox = b.inbox()
        opened = await anext(inbox)
        assert isinstance(opened, Received)
        assert [message async for message in deal] == []
        assert deal.outcome == "TIMED_OUT"
        assert deal.waiting_on == ("silent-b",)
        assert isinstance(await anext(inbox), TimedOut)
        with pytest.raises(RefusedError, match="DEADLINE_PASSED"):
            await opened.deal.finish("too late")


async def test_many_deals_run_at_once_over_one_connection(running_backbone: RunningBackbone) -> None:
    running_backbone.join("many-a", "many-b")
    async with running_backbone.connect("many-a") as a, running_backbone.connect("many-b") as b:

        async def answer() -> None:
            async with asyncio.TaskGroup() as sends:
                inbox = b.inbox()
                for _ in range(300):
                    event = await anext(inbox)
                    assert isinstance(event, Received)
                    sends.create_task(event.deal.finish("yes"))

        async def ask() -> None:
            deal = await a.open(["many-b"], kind="otc", deadline=MINUTES, content="yes?")
            assert [message.text async for message in deal] == ["yes"]

        async with asyncio.TaskGroup() as everything:
            everything.create_task(answer())
            for _ in range(300):
                everything.create_task(ask())


async def test_a_client_that_comes_back_goes_on_where_it_was(running_backbone: RunningBackbone) -> None:
    running_backbone.join("back-a", "back-b")
    async with running_backbone.connect("back-a") as a:
        async with running_backbone.connect("back-b") as b:
            deal = await a.open(["back-b"], kind="dvp", deadline=MINUTES, content="opening")
            theirs = await anext(b.opened())
            await theirs.send("committed")
        await anext(deal)
        await deal.send("while you were away")
        async with running_backbone.connect("back-b") as b:
            (theirs,) = b.deals
            assert [message.text for message in theirs.messages][:2] == ["opening", "committed"]
            event = await anext(b.inbox())
            assert isinstance(event, Received)
            assert event.message.text == "while you were away"
            await theirs.finish("done")
        async with running_backbone.connect("back-b") as b:
            assert not b.deals


async def test_a_message_is_signed_for_on_the_record(running_backbone: RunningBackbone) -> None:
    running_backbone.join("signed-a", "signed-b")
    async with running_backbone.connect("signed-a") as a:
        async with running_backbone.connect("signed-b") as b:
            deal = await a.open(
                ["signed-b"], kind="dvp", deadline=MINUTES, content="terms", want_acknowledgement=True
            )
            await anext(b.opened())
        async with asyncio.timeout(20):
            while not (signed := deal.acknowledged_by(deal.messages[0])):  # noqa: ASYNC110  nothing is awaited for it
                await asyncio.sleep(0.05)
        assert [each.by for each in signed] == ["signed-b"]
        assert deal.waiting_on == ("signed-b",)
        await deal.finish()
    async with running_backbone.connect("signed-b") as b:
        assert isinstance(event := await anext(b.inbox()), Received)
        assert event.message.action == "FINISH"  # the opening does not come again


async def test_a_wrong_password_is_told_in_words(running_backbone: RunningBackbone) -> None:
    running_backbone.join("password-a")
    access = KafkaAccess(running_backbone.backbone.admin.bootstrap, "password-a", "wrong")
    me = parley.connect(
        KafkaTransport(access, patience_s=5),
        participant="password-a",
        key=signing_key("password-a"),
        registrar=running_backbone.registrar,
    )
    with pytest.raises(TransportError, match="refused"):
        async with me:
            pass


async def test_nobody_reads_anothers_inbox(running_backbone: RunningBackbone) -> None:
    running_backbone.join("nosy-a", "nosy-b")
    me = parley.connect(
        KafkaTransport(running_backbone.access("nosy-a")),
        participant="nosy-a",
        key=signing_key("nosy-a"),
        registrar=running_backbone.registrar,
        address="nosy-b",
    )
    with pytest.raises(TransportError, match="may not"):
        async with me:
            pass


async def test_a_participant_may_not_read_the_firehose(running_backbone: RunningBackbone) -> None:
    running_backbone.join("hose-a")
    with pytest.raises(TransportError, match="may not"):
        TopicReader(running_backbone.access("hose-a"), "firehose")


async def test_a_key_that_is_not_in_the_directory_cannot_connect(running_backbone: RunningBackbone) -> None:
    running_backbone.join("key-a")
    me = parley.connect(
        KafkaTransport(running_backbone.access("key-a")),
        participant="key-a",
        key=signing_key("another"),
        registrar=running_backbone.registrar,
    )
    with pytest.raises(DirectoryError, match="join"):
        async with me:
            pass
