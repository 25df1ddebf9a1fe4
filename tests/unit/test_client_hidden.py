"""The client with hidden parties: the hidden one follows, answers and times out; the others see who it is once it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TypeVar

import pytest

import parley
from parley import Hidden
from parley.cli.telling import Teller
from parley.client import Participant
from parley.deal import Received, TimedOut, Unverified
from parley.errors import DirectoryError, MalformedError
from parley.events import prove_spoken, read_spoken
from parley.identifiers import shown_name
from parley.keys import EncryptionKey, public_key
from parley.schemas import FirehoseEvent, Message, SealedDelivery, decode, encode
from parley.transport import InboxRecord
from router.sealed_addresses import SealedAddresses
from tests.memory_backbone import MemoryBackbone
from tests.synthetic_ledger import signing_key

T = TypeVar("T")
MINUTES = timedelta(minutes=5)


@pytest.fixture
def backbone() -> MemoryBackbone:
    return MemoryBackbone("alpha", "beta", "gamma", pipelines=2)


def connected(backbone: MemoryBackbone, name: str, **settings: str) -> Participant:
    return parley.connect(
        backbone.transport(),
        participant=name,
        key=signing_key(name),
        registrar=backbone.registrar.public,
        clock=lambda: backbone.now,
        **settings,  # type: ignore[arg-type]
    )


@pytest.fixture
async def banks(backbone: MemoryBackbone) -> AsyncIterator[tuple[Participant, Participant, Participant]]:
    async with AsyncExitStack() as stack:
        alpha, beta, gamma = [
            await stack.enter_async_context(connected(backbone, name)) for name in ("alpha", "beta", "gamma")
        ]
        yield alpha, beta, gamma


Banks = tuple[Participant, Participant, Participant]


async def next_of(events: AsyncIterator[T]) -> T:
    async with asyncio.timeout(5):
        return await anext(events)


async def test_a_hidden_party_answers_and_everybody_sees_who_it_was(banks: Banks) -> None:
    alpha, beta, gamma = banks
    mine = await alpha.open([Hidden("beta"), "gamma"], kind="otc", deadline=MINUTES, content="who bids?")
    seen = await next_of(gamma.opened())
    theirs = await next_of(beta.opened())
    text = theirs.own_name
    assert text.startswith("sealed:")
    assert mine.parties == seen.parties == theirs.parties == ("alpha", text, "gamma")
    assert (mine.own_name, seen.own_name) == ("alpha", "gamma")
    assert (mine.names, seen.names) == ({text: "beta"}, {})
    assert text in seen.waiting_on

    accepted = await theirs.send("we bid 99.2")
    assert accepted.message.sender == "beta"
    assert (await next_of(seen)).sender == "beta"
    assert (await next_of(mine)).sender == "beta"
    assert mine.names == seen.names == theirs.names == {text: "beta"}
    await seen.send("a better one", to=["beta", "alpha"])
    assert (await next_of(theirs)).text == "a better one"
    assert (await next_of(mine)).text == "a better one"
    await mine.finish("done", to=["beta", "gamma"])
    assert [message.text async for message in theirs] == ["done"]
    assert theirs.outcome == "FINISHED"


async def test_a_silent_hidden_party_times_out_unnamed(banks: Banks, backbone: MemoryBackbone) -> None:
    alpha, beta, _ = banks
    mine = await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content="who bids?")
    inbox = beta.inbox()
    opened = await next_of(inbox)
    assert isinstance(opened, Received)
    backbone.pass_time(300_001)
    ended = await next_of(inbox)
    assert isinstance(ended, TimedOut)
    assert ended.waiting_on == (opened.deal.own_name,)
    assert [message async for message in mine] == []
    assert mine.waiting_on == ended.waiting_on
    assert all(b"beta" not in event for pipeline in backbone.pipelines for event in pipeline.firehose)


async def test_a_hidden_party_that_comes_back_still_knows_itself(backbone: MemoryBackbone) -> None:
    async with connected(backbone, "alpha") as alpha:
        async with connected(backbone, "beta") as beta:
            mine = await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content="who bids?")
            theirs = await next_of(beta.opened())
            name = theirs.own_name
        async with connected(backbone, "beta") as beta:
            (theirs,) = beta.deals
            assert theirs.own_name == name
            await theirs.finish("we do")
        assert (await next_of(mine)).sender == "beta"


async def test_what_comes_both_ways_is_told_once(banks: Banks) -> None:
    alpha, beta, gamma = banks
    await alpha.open([Hidden("beta"), "gamma"], kind="otc", deadline=MINUTES, content="who bids?")
    theirs, seen = await next_of(beta.opened()), await next_of(gamma.opened())
    message = seen.messages[0]
    head = seen.head
    await gamma.submit(
        Message(
            seen.id,
            seen.pipeline,
            head.sequence + 1,
            head.message_id,
            "gamma",
            ("beta", theirs.own_name),
            message.at,
            "CONTINUE",
            None,
            "text/plain",
            b"a guess",
            None,
            (),
        )
    )
    assert (await next_of(theirs)).text == "a guess"
    assert [said.text for said in theirs.messages] == ["who bids?", "a guess"]
    await theirs.send("still here")


async def test_an_address_may_be_given(banks: Banks, backbone: MemoryBackbone) -> None:
    alpha, beta, _ = banks
    await alpha.open([Hidden("beta", "beta")], kind="otc", deadline=MINUTES, content=b"")
    assert await next_of(beta.opened())
    with pytest.raises(DirectoryError, match="gamma is not an address of beta"):
        await alpha.open([Hidden("beta", "gamma")], kind="otc", deadline=MINUTES, content=b"")
    with pytest.raises(DirectoryError, match="zeta is not in the directory"):
        await alpha.open([Hidden("zeta")], kind="otc", deadline=MINUTES, content=b"")


@pytest.mark.parametrize("operator", ["gamma", "registrar", "nobody"])
async def test_nobody_can_be_hidden_where_no_operator_lists_a_key(
    backbone: MemoryBackbone, operator: str
) -> None:
    async with connected(backbone, "alpha", operator=operator) as alpha:
        with pytest.raises(DirectoryError, match=f"{operator} is no operator who lists"):
            await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content=b"")


async def test_addresses_are_sealed_to_the_newest_key(banks: Banks, backbone: MemoryBackbone) -> None:
    alpha, beta, _ = banks
    new = EncryptionKey(bytes(range(32)))
    before = backbone.directory.entry("operator")
    assert before is not None
    entry = before._replace(
        encryption_keys=(*before.encryption_keys, public_key(new.public)),
        previous=backbone.directory.version_of("operator"),
    )
    backbone.change(entry, backbone.router, backbone.registrar)
    backbone.sealed = SealedAddresses([new, *backbone.sealing])
    mine = await alpha.open(["gamma"], kind="otc", deadline=MINUTES, content=b"after the directory was read")
    assert mine.own_name == "alpha"
    await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content=b"")
    assert new.id.hex() in (await next_of(beta.opened())).own_name


async def test_a_stranger_cannot_be_addressed_by_a_name_that_is_not_known(banks: Banks) -> None:
    alpha, _, gamma = banks
    await alpha.open([Hidden("beta"), "gamma"], kind="otc", deadline=MINUTES, content="who bids?")
    seen = await next_of(gamma.opened())
    with pytest.raises(MalformedError, match="beta is not another party"):
        await seen.send("hello", to=["beta"])


class TestARouterThatLies:
    """About whose a sealed address is."""

    async def moved(self, backbone: MemoryBackbone, banks: Banks, **changes: object) -> InboxRecord:
        """A hidden party's opening, put into gamma's inbox with something else beside it."""
        alpha, beta, _ = banks
        await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content=b"")
        await next_of(beta.opened())
        original = backbone.inboxes["beta"][0]
        wrapped = decode(original.value, SealedDelivery)._replace(**changes)  # type: ignore[arg-type]
        backbone.deliver("gamma", 0, encode(wrapped))
        return original

    async def test_to_somebody_else_is_not_believed(self, banks: Banks, backbone: MemoryBackbone) -> None:
        await self.moved(backbone, banks)
        event = await next_of(banks[2].inbox())
        assert isinstance(event, Unverified)
        assert "not ours" in str(event.error)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"secret": bytes(32)}, "does not open"),
            ({"address": "beta"}, "sealed:<key id>:<box>"),
            ({"address": "sealed:" + "0" * 32 + ":" + "A" * 320}, "not in the directory"),
            ({"item": b""}, "does not verify"),
        ],
    )
    async def test_with_anything_else_is_not_believed(
        self, banks: Banks, backbone: MemoryBackbone, changes: dict[str, object], reason: str
    ) -> None:
        await self.moved(backbone, banks, **changes)
        event = await next_of(banks[2].inbox())
        assert isinstance(event, Unverified)
        assert reason in str(event.error)

    async def test_with_a_record_that_cannot_be_read_is_not_believed(
        self, banks: Banks, backbone: MemoryBackbone
    ) -> None:
        original = await self.moved(backbone, banks)
        backbone.deliver("gamma", 0, original.value[:-1])
        inbox = banks[2].inbox()
        await next_of(inbox)
        assert isinstance(await next_of(inbox), Unverified)


async def test_watching_tells_a_sealed_address_plainly_and_the_name_once_it_is_shown(
    banks: Banks, backbone: MemoryBackbone
) -> None:
    alpha, beta, _ = banks
    deal = await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content="who bids?")
    text = deal.parties[1]
    theirs = await next_of(beta.opened())
    await theirs.send("we do")
    await next_of(deal)
    backbone.pass_time(300_001)
    opening, answer, timeout = [
        decode(event, FirehoseEvent) for event in backbone.pipelines[deal.pipeline].firehose
    ]
    teller = Teller(backbone.directory)
    assert f"Alpha plc opens to {shown_name(text)}: who bids?" in teller.line(opening)
    assert "Beta plc says: we do" in teller.line(answer)
    assert teller.row(answer)["speaker"] == "beta"
    assert teller.row(answer)["sender"] == text
    assert teller.row(opening)["recipients"] == [text]
    assert "timed out, waiting on alpha" in teller.line(timeout)
    assert f"{shown_name(text)} says: we do" in Teller(None).line(answer)
    spoken = read_spoken(answer)
    assert spoken is not None
    prove_spoken(answer, spoken, backbone.directory)
