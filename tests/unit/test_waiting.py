"""What waits on whom, told by the client and on the command line, and what a timeout tells of those who were due."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from parley.client import Participant
from parley.deal import TimedOut
from parley.sealed_address import Hidden
from tests.fix_desks import STORE, Run
from tests.fix_ledger import SealedLedger
from tests.memory_backbone import MemoryBackbone
from tests.memory_clients import MINUTES, connected, next_of

START = 1_800_000_000_000


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


async def test_each_open_deal_tells_who_is_due_since_when_and_until_when(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    deal = await alpha.open(["beta", "gamma"], kind="otc", deadline=MINUTES, content="who bids?")
    backbone.now += 1_000
    theirs = await next_of(beta.opened())
    await theirs.send("99", to=["alpha"])
    await next_of(deal)
    (row,) = alpha.waiting()
    assert (row.deal, row.since, row.until) == (deal, START + 1_000, START + 300_000)
    assert row.mine
    ((name, participant, last_said),) = row.due
    assert name == participant == "alpha"
    assert last_said is not None
    assert last_said.text == "who bids?"


async def test_the_earliest_deadline_comes_first(alpha: Participant) -> None:
    deals = [
        await alpha.open(["beta"], kind="otc", deadline=timedelta(minutes=minutes), content="")
        for minutes in (3, 1, 2)
    ]
    assert [row.deal for row in alpha.waiting()] == [deals[1], deals[2], deals[0]]
    assert not any(row.mine for row in alpha.waiting())


async def test_what_ended_waits_no_longer(alpha: Participant) -> None:
    deal = await alpha.open(["beta"], kind="otc", deadline=MINUTES, content="")
    await deal.finish()
    assert alpha.waiting() == ()


async def test_a_timeout_tells_what_those_due_had_said_last(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    deal = await alpha.open(["beta", "gamma"], kind="otc", deadline=MINUTES, content="")
    theirs = await next_of(beta.opened())
    await theirs.send("99")
    await next_of(deal)
    await deal.send("98?")
    backbone.pass_time(300_001)
    inbox = alpha.inbox()
    event = await next_of(inbox)
    assert isinstance(event, TimedOut)
    assert [(due.participant, due.last_said and due.last_said.text) for due in event.due] == [
        ("beta", "99"),
        ("gamma", None),
    ]


async def test_whom_we_hide_is_named_to_us_and_nobody_else(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    await alpha.open(["gamma", Hidden("beta")], kind="otc", deadline=MINUTES, content="who bids?")
    (mine,), (theirs,) = alpha.waiting(), beta.waiting()
    assert [due.participant for due in mine.due] == ["gamma", "beta"]
    assert theirs.mine
    assert [due.participant for due in theirs.due] == ["gamma", "beta"]
    async with connected(backbone, "gamma") as gamma:
        (seen,) = gamma.waiting()
        assert [due.participant for due in seen.due] == ["gamma", None]


class TestOnTheCommandLine:
    def test_a_table_by_deadline_says_what_those_due_said_last(
        self, run: Run, told: Callable[..., str]
    ) -> None:
        (late,) = run("alpha", "send", "later", "--to", "beta", "--deadline", "2h")
        (soon,) = run("beta", "send", "who bids?", "--to", "alpha", "--deadline", "1m", "--kind", "otc")
        run("alpha", "send", "99", "--deal", str(soon["transaction"]))
        lines = told("alpha", "waiting").splitlines()
        assert [line.split()[0] for line in lines] == ["until", *(line.split()[0] for line in lines[1:])]
        assert str(soon["transaction"]) in lines[1]
        assert " ".join(lines[1].split()).endswith("otc beta (last said: who bids?)")
        assert str(late["transaction"]) in lines[2]
        assert lines[2].endswith("beta (has said nothing)")

    def test_mine_leaves_out_what_waits_on_others(self, run: Run) -> None:
        (theirs,) = run("beta", "send", "who bids?", "--to", "alpha")
        run("alpha", "send", "and you?", "--to", "beta")
        (row,) = run("alpha", "waiting", "--mine")
        assert row["transaction"] == theirs["transaction"]
        assert (row["mine"], row["waiting_on"]) == (True, ["alpha"])
        assert len(run("alpha", "waiting")) == 2

    def test_nothing_is_printed_where_nothing_waits(self, told: Callable[..., str]) -> None:
        assert told("alpha", "waiting") == ""

    def test_a_timeout_in_inbox_and_record_says_who_was_due_and_what_they_had_said(
        self,
        run: Run,
        told: Callable[..., str],
        desk_backbone: MemoryBackbone,
        seal_all: Callable[[], SealedLedger],
    ) -> None:
        (opened,) = run("alpha", "send", "who bids?", "--to", "beta", "--to", "gamma", "--deadline", "1m")
        identity = str(opened["transaction"])
        run("beta", "send", "99", "--deal", identity)
        run("alpha", "send", "98?", "--deal", identity)
        desk_backbone.pass_time(600_000)
        seal_all()
        expected = "timed out, waiting on beta (last said: 99), gamma (has said nothing)"
        assert expected in told("gamma", "inbox", "--once")
        assert expected in told("gamma", "tx", "show", identity, *STORE)
        (*_, timeout) = run("alpha", "inbox", "--once")
        assert timeout["due"] == [
            {
                "name": "beta",
                "participant": "beta",
                "last_said": {
                    "sequence": 1,
                    "action": "CONTINUE",
                    "at": desk_backbone.now - 600_000,
                    "content_type": "text/plain; charset=utf-8",
                    "content": "99",
                },
            },
            {"name": "gamma", "participant": "gamma", "last_said": None},
        ]
