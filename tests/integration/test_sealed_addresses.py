"""Sealed addresses on a real broker: a hidden bank is reached, answers or times out, and the router's key is rotated."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from parley import Hidden
from parley.client import Participant
from parley.deal import Received, TimedOut
from parley.errors import RefusedError
from parley.schemas import KeyId, Party, SealedDelivery, decode_any
from parley.sealed_address import key_of
from router.sealing_keys import renew
from streams.catalogue import DELIVERIES, FIREHOSE, REJECTED, ROUTER_STATE, inbox_topic
from tests.fix_backbone import RunningBackbone

pytestmark = pytest.mark.timeout(180)

MINUTES = timedelta(minutes=5)


def said_of(backbone: RunningBackbone, name: str) -> list[str]:
    """Where a name can be read among all that the router wrote, its delivery's keys aside."""
    reader, found = backbone.reader(), []
    for topic in (FIREHOSE, ROUTER_STATE, REJECTED, DELIVERIES):
        for partition in range(reader.partitions(topic)):
            for record in reader.read_partition(topic, partition):
                key = b"" if topic == DELIVERIES else record.key() or b""
                if name.encode() in key + (record.value() or b""):
                    found.append(topic)
    return found


async def test_a_hidden_bank_follows_answers_and_times_out(running_backbone: RunningBackbone) -> None:
    running_backbone.join("opener", "shy-hidden-bank")
    async with (
        running_backbone.connect("opener") as a,
        running_backbone.connect("shy-hidden-bank") as b,
    ):
        inbox = b.inbox()
        short = timedelta(seconds=2)
        silent = await a.open([Hidden("shy-hidden-bank")], kind="otc", deadline=short, content="who bids?")
        assert isinstance(await anext(inbox), Received)
        ended = await anext(inbox)
        assert isinstance(ended, TimedOut)
        assert [message async for message in silent] == []
        assert silent.waiting_on == ended.waiting_on == (silent.parties[1],)
        assert said_of(running_backbone, "shy-hidden-bank") == []

        words = "shy-hidden-bank alone reads this"
        deal = await a.open(
            [Hidden("shy-hidden-bank")],
            kind="otc",
            deadline=MINUTES,
            content=words,
            private=True,
            padded=True,
        )
        opened = await anext(inbox)
        assert isinstance(opened, Received)
        assert opened.message.text == words
        assert said_of(running_backbone, "shy-hidden-bank") == []
        await opened.deal.send("we do")
        assert (await anext(deal)).sender == "shy-hidden-bank"
        await deal.finish("done")
        closed = await anext(inbox)
        assert isinstance(closed, Received)
        assert closed.deal.outcome == "FINISHED"

    wrapped = [
        decode_any(record.value() or b"")
        for record in running_backbone.reader().read_partition(inbox_topic("shy-hidden-bank"), 0)
    ]
    assert len(wrapped) == 5
    assert all(isinstance(value, SealedDelivery) for value in wrapped)


async def test_the_routers_key_is_rotated_while_a_hidden_bank_negotiates(
    running_backbone: RunningBackbone,
) -> None:
    backbone = running_backbone.backbone
    running_backbone.join("rotor-a", "rotor-b")
    (old,) = backbone.sealing_keys
    async with running_backbone.connect("rotor-a") as a, running_backbone.connect("rotor-b") as b:
        before = await a.open([Hidden("rotor-b")], kind="otc", deadline=MINUTES, content="sealed to the old")
        theirs = await anext(b.opened())
        for _ in range(2):
            renew(backbone.sealing_folder)
            running_backbone.processes["router-1"].stop()
            running_backbone.start("router")
            backbone.provision()
            assert len(backbone.sealing_keys) == 2
        newest = backbone.sealing_keys[-1]
        await until_listed(a, newest.id)

        after = await a.open(
            [Hidden("rotor-b")], kind="otc", deadline=MINUTES, content="sealed to the newest"
        )
        assert key_of(after.parties[1]) == newest.id
        assert (await anext(b.opened())).own_name == after.parties[1]

        # The old key is listed no more: open transactions go on, and no new one takes it.
        assert old.id not in {key.id for key in backbone.sealing_keys}
        await theirs.finish("still here")
        assert (await anext(before)).sender == "rotor-b"
        text = before.parties[1]
        with pytest.raises(RefusedError, match=f"seal it to {newest.id.hex()}") as refused:
            await a.open([Party(text, text)], kind="otc", deadline=MINUTES, content="replayed")
        assert refused.value.retriable


async def until_listed(client: Participant, key: KeyId) -> None:
    """Wait for the directory to tell the client of a key."""
    async with asyncio.timeout(30):
        while client.directory.holder(key) is None:  # noqa: ASYNC110  the client tells nobody of keys
            await asyncio.sleep(0.05)
