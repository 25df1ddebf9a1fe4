"""Signed acknowledgements of delivery: who asks, who signs when, what stands on the record, and what nobody is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from parley.acknowledgement import ACKNOWLEDGEMENT_KIND, ACKNOWLEDGEMENT_TYPE, AT_ONCE, Acknowledgement
from parley.cli import main
from parley.cli.signing import asks, mentions, signed_for
from parley.client import Participant
from parley.deal import Deal, DealMessage
from parley.envelope import MESSAGE_TYPE, seal
from parley.events import prove_spoken, read_spoken
from parley.identifiers import transaction_text
from parley.schemas import FirehoseEvent, Hash, Reference, decode, encode
from parley.sealed_address import Hidden
from tests.fix_desks import STORE, Run
from tests.fix_ledger import SealedLedger
from tests.memory_backbone import MemoryBackbone
from tests.memory_clients import MINUTES, connected, next_of, until
from tests.synthetic_ledger import signing_key


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> MemoryBackbone:
    monkeypatch.setattr("parley.acknowledging._GATHERING", 0.01)
    return MemoryBackbone("alpha", "beta", "gamma")


@pytest.fixture
async def alpha(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "alpha") as me:
        yield me


@pytest.fixture
async def beta(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "beta") as me:
        yield me


async def asking(me: Participant, *others: str | Hidden) -> Deal:
    return await me.open(
        others or ("beta",), kind="otc", deadline=MINUTES, content="sign for this", want_acknowledgement=True
    )


def acknowledgements(backbone: MemoryBackbone) -> list[FirehoseEvent]:
    """The openings of all acknowledgements on the record."""
    events = [decode(data, FirehoseEvent) for pipeline in backbone.pipelines for data in pipeline.firehose]
    spoken = [(event, read_spoken(event)) for event in events]
    return [
        event
        for event, said in spoken
        if said and said.message.terms and said.message.terms.kind == ACKNOWLEDGEMENT_KIND
    ]


async def signed(deal: Deal, message: DealMessage, count: int = 1) -> tuple[Acknowledgement, ...]:
    await until(lambda: len(deal.acknowledged_by(message)) == count)
    return deal.acknowledged_by(message)


async def test_what_was_dealt_with_is_signed_for_on_the_record(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    deal = await asking(alpha)
    opened = beta.opened()
    theirs = await next_of(opened)
    assert theirs.messages[0].wants_acknowledgement
    assert deal.acknowledged_by(deal.messages[0]) == ()
    await theirs.send("I have read it")
    beta.acknowledge(0)
    (by_beta,) = await signed(deal, deal.messages[0])
    assert (by_beta.by, by_beta.message) == ("beta", (deal.id, deal.messages[0].message_id))
    # It is evidence by itself: the event verifies, and refers to the very payload.
    event = decode(by_beta.event, FirehoseEvent)
    spoken = read_spoken(event)
    assert spoken is not None
    prove_spoken(event, spoken, backbone.directory)
    assert spoken.message.transaction_id == by_beta.transaction_id
    assert spoken.message.references[0].digest == Hash(deal.messages[0].message_id)


async def test_nothing_is_signed_for_before_the_application_has_dealt_with_it(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    await asking(alpha)
    await next_of(beta.opened())
    await alpha.open(["beta"], kind="otc", deadline=MINUTES, content="something else")
    assert not acknowledgements(backbone)


async def test_what_does_not_ask_is_not_signed_for(alpha: Participant, backbone: MemoryBackbone) -> None:
    await alpha.open(["beta"], kind="otc", deadline=MINUTES, content="no need")
    async with connected(backbone, "beta") as beta:
        await next_of(beta.opened())
    assert not acknowledgements(backbone)


async def test_the_negotiation_is_not_disturbed(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    """The deal's turn stays, no application hears of the acknowledgement, and nothing waits for it."""
    deal = await asking(alpha)
    await next_of(beta.opened())
    beta.acknowledge(0)
    await signed(deal, deal.messages[0])
    await until(
        lambda: all(
            state.outcome
            for state in backbone.pipelines[0].states.values()
            if state.terms.kind == ACKNOWLEDGEMENT_KIND
        )
    )
    assert deal.head.sequence == 0
    assert deal.waiting_on == ("beta",)
    assert [row.deal for row in alpha.waiting()] == [deal]
    assert alpha.deals == (deal,)
    assert alpha._reception.division.inbox.events() == []


async def test_several_messages_share_one_acknowledgement(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    deals = [await asking(alpha) for _ in range(AT_ONCE + 1)]
    opened = beta.opened()
    for _ in deals:
        await next_of(opened)
    for offset in range(len(deals)):
        beta.acknowledge(offset)
    for deal in deals:
        await signed(deal, deal.messages[0])
    assert len(acknowledgements(backbone)) == 2


async def test_each_recipient_signs_for_itself(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    deal = await asking(alpha, "beta", "gamma")
    async with connected(backbone, "gamma") as gamma:
        for each in (beta, gamma):
            await next_of(each.opened())
            each.acknowledge(0)
        both = await signed(deal, deal.messages[0], 2)
    assert {each.by for each in both} == {"beta", "gamma"}


async def test_later_messages_ask_too(alpha: Participant, beta: Participant) -> None:
    deal = await alpha.open(["beta"], kind="otc", deadline=MINUTES, content="")
    theirs = await next_of(beta.opened())
    said = (await deal.finish("the last word", want_acknowledgement=True)).message
    assert [message.text async for message in theirs] == ["the last word"]
    await signed(deal, said)


async def test_leaving_signs_for_what_was_taken(alpha: Participant, backbone: MemoryBackbone) -> None:
    deal = await asking(alpha)
    async with connected(backbone, "beta") as beta:
        await next_of(beta.opened())
    await signed(deal, deal.messages[0])
    assert backbone.position("beta") == len(backbone.inboxes["beta"])


async def test_the_position_waits_for_the_signature(
    alpha: Participant, backbone: MemoryBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in between brings the message again, and it is signed for then."""
    deal = await asking(alpha)
    with monkeypatch.context() as hurried:
        hurried.setattr("parley.acknowledging._SETTLING", 0.01)
        async with connected(backbone, "beta") as beta:
            await next_of(beta.opened())
            backbone.hold = True
    backbone.held.clear()
    backbone.hold = False
    assert not backbone.groups["beta", "main"].standings
    async with connected(backbone, "beta") as beta:
        await next_of(beta.opened())
    await signed(deal, deal.messages[0])


async def test_it_is_signed_for_once_whatever_consumers_there_are(
    alpha: Participant, backbone: MemoryBackbone
) -> None:
    deal = await asking(alpha)
    for consumer in ("main", "archive"):
        async with connected(backbone, "beta", consumer) as beta:
            await next_of(beta.opened())
    await signed(deal, deal.messages[0])
    assert len(acknowledgements(backbone)) == 1


async def test_who_does_not_sign_is_heard_to_be_silent(alpha: Participant, backbone: MemoryBackbone) -> None:
    deal = await asking(alpha)
    async with connected(backbone, "beta", acknowledges=False) as beta:
        await next_of(beta.opened())
    assert not acknowledgements(backbone)
    assert deal.acknowledged_by(deal.messages[0]) == ()


async def test_the_asker_finds_it_again_after_a_restart(backbone: MemoryBackbone) -> None:
    async with connected(backbone, "alpha") as alpha:
        await asking(alpha)
        async with connected(backbone, "beta") as beta:
            await next_of(beta.opened())
    async with connected(backbone, "alpha") as alpha:
        (deal,) = alpha.deals
        assert [each.by for each in deal.acknowledged_by(deal.messages[0])] == ["beta"]


async def test_a_stranger_signs_for_nothing(alpha: Participant, backbone: MemoryBackbone) -> None:
    deal = await asking(alpha)
    reference = Reference("acknowledges", deal.id, Hash(deal.messages[0].message_id), None, None)
    async with connected(backbone, "gamma") as gamma:
        await gamma.open(
            ["alpha"],
            kind=ACKNOWLEDGEMENT_KIND,
            deadline=MINUTES,
            content=b"",
            content_type=ACKNOWLEDGEMENT_TYPE,
            references=[reference],
        )
    await until(lambda: bool(alpha.acknowledgements(deal.messages[0], deal.id)))
    assert deal.acknowledged_by(deal.messages[0]) == ()


class TestHiddenParties:
    async def test_one_that_has_not_spoken_does_not_sign_for_that_would_name_it(
        self, alpha: Participant, backbone: MemoryBackbone
    ) -> None:
        await asking(alpha, Hidden("beta"))
        async with connected(backbone, "beta") as beta:
            await next_of(beta.opened())
        assert not acknowledgements(backbone)

    async def test_one_that_has_spoken_signs_by_its_name(self, alpha: Participant, beta: Participant) -> None:
        deal = await asking(alpha, Hidden("beta"))
        theirs = await next_of(beta.opened())
        await theirs.send("here I am")
        beta.acknowledge(0)
        (by_beta,) = await signed(deal, deal.messages[0])
        assert by_beta.by == "beta"

    async def test_one_that_asks_is_answered_at_its_own_address(
        self, alpha: Participant, beta: Participant
    ) -> None:
        await asking(alpha, Hidden("beta"))
        theirs = await next_of(beta.opened())
        said = (await theirs.send("sign, please", want_acknowledgement=True)).message
        (deal,) = alpha.deals
        await next_of(deal)
        deal.acknowledge()
        (by_alpha,) = await signed(theirs, said)
        assert by_alpha.by == "alpha"


class TestOnTheCommandLine:
    @pytest.fixture
    def identity(self, run: Run, seal_all: Callable[[], SealedLedger]) -> str:
        """A transaction of two messages that ended and was sealed; beta signed for the first, and gamma for nothing."""
        (opened,) = run(
            "alpha", "send", "sign, please", "--to", "beta", "--to", "gamma", "--want-acknowledgement"
        )
        identity = str(opened["transaction"])
        run("beta", "inbox", "--once", "--acknowledge")
        run("gamma", "inbox", "--once")
        run("alpha", "send", "thanks", "--deal", identity, "--finish")
        seal_all()
        return identity

    def test_tx_show_tells_who_signed(self, run: Run, told: Callable[..., str], identity: str) -> None:
        rows = run("alpha", "tx", "show", identity, *STORE)
        assert [row["event"] for row in rows] == ["message", "message", "acknowledgement", "sealed"]
        assert (rows[2]["by"], rows[2]["message_sequence"]) == ("beta", 0)
        lines = told("alpha", "tx", "show", identity, *STORE)
        assert f"beta signed for message 0, in transaction {rows[2]['acknowledgement']}" in lines

    def test_the_acknowledgement_is_proved_like_any_message(
        self, run: Run, identity: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        signed = str(run("alpha", "tx", "show", identity, *STORE)[2]["acknowledgement"])
        assert main(["tx", "prove", signed, *STORE, "--message", "0", "--output", "ack.proof"]) == 0
        assert main(["verify", "ack.proof", "--log-key", "log.vkey"]) == 0
        assert "beta" in capsys.readouterr().out

    def test_it_is_found_on_the_firehose_with_its_legal_name(
        self, desk_backbone: MemoryBackbone, identity: str
    ) -> None:
        events = [decode(data, FirehoseEvent) for data in desk_backbone.pipelines[0].firehose]
        ours = [event for event in events if transaction_text(event.transaction_id) == identity]
        others = [event for event in events if mentions(event, ours[0].transaction_id)]
        (signed,) = signed_for(ours, others, desk_backbone.directory)
        assert signed.legal_name == "Beta plc"
        assert asks(ours)
        forged = [event._replace(envelope=forgery(event)) for event in others]
        assert not list(signed_for(ours, forged, desk_backbone.directory))

    def test_a_post_on_a_channel_is_not_signed_for(self, told: Callable[..., str]) -> None:
        assert "not signed for" in told("alpha", "send", "x", "--channel", "00", "--want-acknowledgement")


def forgery(event: FirehoseEvent) -> bytes:
    """The same words, signed by somebody else."""
    spoken = read_spoken(event)
    assert spoken is not None
    return encode(seal(MESSAGE_TYPE, spoken.message, signing_key("gamma")))
