"""The client under a quota: what came too early is sent again at its time, the same bytes, while somebody still waits."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

import parley
from parley.client import Participant
from parley.deal import Deal
from parley.errors import RefusedError
from router.core import Limits
from router.quotas import Quotas
from tests.memory_backbone import MemoryBackbone
from tests.synthetic_ledger import signing_key


def backbone_with(quotas: Quotas) -> MemoryBackbone:
    backbone = MemoryBackbone("alpha", "beta")
    backbone.limits = Limits(quotas=quotas)
    return backbone


def connected(backbone: MemoryBackbone, answer_within: float = 30.0) -> Participant:
    return parley.connect(
        backbone.transport(),
        participant="alpha",
        key=signing_key("alpha"),
        registrar=backbone.registrar.public,
        clock=lambda: backbone.now,
        answer_within=answer_within,
        resend_after=0.01,
    )


async def opening(me: Participant) -> Deal:
    return await me.open(["beta"], kind="dvp", deadline=timedelta(minutes=5), content=b"")


async def test_a_message_that_came_too_early_is_sent_again_at_its_time_and_not_before() -> None:
    backbone = backbone_with(Quotas(messages_per_second=5, allowance=1))
    async with connected(backbone) as me:
        deal = await opening(me)
        before, started = backbone.produced, time.monotonic()
        sending = asyncio.create_task(deal.send("in a moment"))
        async with asyncio.timeout(10):
            while backbone.produced == before:  # noqa: ASYNC110  the backbone in memory tells nobody
                await asyncio.sleep(0)
            backbone.pass_time(200)
            accepted = await sending
        assert accepted.message.sequence == 1
        assert time.monotonic() - started >= 0.19
        assert backbone.produced == before + 2


async def test_a_message_that_counts_only_after_our_patience_is_refused_with_the_moment() -> None:
    backbone = backbone_with(Quotas(messages_per_second=1, allowance=1))
    async with connected(backbone, answer_within=0.5) as me:
        deal = await opening(me)
        with pytest.raises(RefusedError, match="RATE_LIMITED") as refused:
            await deal.send("now or never")
        assert refused.value.retriable
        assert refused.value.retry_at == backbone.now + 999
        backbone.pass_time(999)
        assert (await deal.send("now")).message.sequence == 1


async def test_who_gives_up_a_message_that_waits_leaves_nothing_behind() -> None:
    backbone = backbone_with(Quotas(messages_per_second=5, allowance=1))
    async with connected(backbone) as me:
        deal = await opening(me)
        before = backbone.produced
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(deal.send("never mind"), 0.05)
        backbone.pass_time(200)
        assert (await deal.send("this instead")).message.content == b"this instead"
        assert backbone.produced == before + 2
