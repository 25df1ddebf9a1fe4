"""The client: deals opened, spoken in, listened to and rebuilt, against the router's own decisions in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

import parley
from parley.client import Participant
from parley.deal import Deal, Received, TimedOut, Unverified
from parley.envelope import MESSAGE_TYPE, message_id, seal
from parley.errors import (
    DirectoryError,
    MalformedError,
    OversizedError,
    RefusedError,
    TransportError,
    VerificationError,
)
from parley.outbox import CONTENT_LIMIT
from parley.schemas import Envelope, FirehoseEvent, Message, decode, encode
from parley.transport import Undelivered
from tests.memory_backbone import MemoryBackbone
from tests.synthetic_ledger import signing_key

T = TypeVar("T")
MINUTES = timedelta(minutes=5)


@pytest.fixture
def backbone() -> MemoryBackbone:
    return MemoryBackbone("alpha", "beta", "gamma", pipelines=2)


def connected(backbone: MemoryBackbone, name: str, **settings: float) -> Participant:
    return parley.connect(
        backbone.transport(),
        participant=name,
        key=signing_key(name),
        registrar=backbone.registrar.public,
        clock=lambda: backbone.now,
        **settings,  # type: ignore[arg-type]
    )


@pytest.fixture
async def alpha(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "alpha") as me:
        yield me


@pytest.fixture
async def beta(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "beta") as me:
        yield me


async def opening(me: Participant, *others: str) -> Deal:
    return await me.open(others or ("beta",), kind="dvp", deadline=MINUTES, content={"isin": "DE0001102580"})


async def next_of(events: AsyncIterator[T]) -> T:
    async with asyncio.timeout(5):
        return await anext(events)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the backbone in memory tells nobody
            await asyncio.sleep(0)


async def test_four_messages_settle_a_trade(alpha: Participant, beta: Participant) -> None:
    mine = await opening(alpha)
    theirs = await next_of(beta.opened())
    assert theirs.id == mine.id
    assert theirs.messages[0].json() == {"isin": "DE0001102580"}
    assert mine.waiting_on == ("beta",)
    await theirs.send("I commit to deliver on confirmation of the cash")
    assert (await next_of(mine)).text == "I commit to deliver on confirmation of the cash"
    await mine.send("cash confirmed")
    assert (await next_of(theirs)).sender == "alpha"
    await theirs.finish("delivered")
    assert [message.action async for message in mine] == ["FINISH"]
    assert [message.sequence for message in mine.messages] == [0, 1, 2, 3]
    assert mine.outcome == theirs.outcome == "FINISHED"
    assert not mine.waiting_on
    assert not alpha.deals
    assert not beta.deals


async def test_what_send_returns_is_evidence(alpha: Participant, backbone: MemoryBackbone) -> None:
    deal = await opening(alpha)
    accepted = await deal.send(b"more")
    assert accepted.deal is deal
    assert accepted.message == deal.messages[-1]
    assert accepted.message.at == backbone.now
    assert accepted.receipt == backbone.inboxes["alpha"][-1].value


async def test_the_inbox_gives_every_event_in_order(alpha: Participant, beta: Participant) -> None:
    deal = await opening(alpha)
    await deal.send("one")
    await deal.send("two")
    inbox = beta.inbox()
    events = [await next_of(inbox) for _ in range(3)]
    assert [event.message.action for event in events if isinstance(event, Received)] == [
        "OPEN",
        "CONTINUE",
        "CONTINUE",
    ]


async def test_an_event_taken_from_the_inbox_is_not_offered_by_its_deal(
    alpha: Participant, beta: Participant
) -> None:
    deal = await opening(alpha)
    await deal.send("one")
    inbox = beta.inbox()
    opened = await next_of(inbox)
    assert isinstance(opened, Received)
    await next_of(inbox)
    await deal.finish("two")
    assert [message.text async for message in opened.deal] == ["two"]


async def test_a_timeout_ends_the_deal_and_names_who_was_due(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    deal = await opening(alpha)
    inbox = beta.inbox()
    await next_of(inbox)
    backbone.pass_time(MINUTES // timedelta(milliseconds=1) + 1)
    assert [message async for message in deal] == []
    assert deal.outcome == "TIMED_OUT"
    assert deal.waiting_on == ("beta",)
    event = await next_of(inbox)
    assert isinstance(event, TimedOut)
    assert event.waiting_on == ("beta",)


async def test_under_the_rule_all_every_party_must_finish(alpha: Participant, beta: Participant) -> None:
    deal = await alpha.open(["beta"], kind="dvp", deadline=MINUTES, content=b"", finish_rule="ALL")
    await deal.finish("agreed")
    assert deal.outcome is None
    theirs = await next_of(beta.opened())
    await next_of(theirs)
    await theirs.finish("agreed")
    assert theirs.outcome == "FINISHED"


async def test_a_late_finish_is_refused_with_its_reason(alpha: Participant, backbone: MemoryBackbone) -> None:
    deal = await opening(alpha)
    backbone.hold = True
    sending = asyncio.create_task(deal.finish("too late"))
    await until(lambda: bool(backbone.held))
    backbone.hold = False
    backbone.now += 10 * 60_000
    backbone.judge()
    with pytest.raises(RefusedError) as refused:
        await sending
    assert refused.value.reason == "DEADLINE_PASSED"
    assert not refused.value.retriable


async def test_of_two_that_speak_at_once_the_second_is_told_the_head(
    alpha: Participant, beta: Participant, backbone: MemoryBackbone
) -> None:
    mine = await opening(alpha)
    theirs = await next_of(beta.opened())
    backbone.hold = True
    first = asyncio.create_task(mine.send("first"))
    await until(lambda: len(backbone.held) == 1)
    second = asyncio.create_task(theirs.send("second"))
    await until(lambda: len(backbone.held) == 2)
    backbone.hold = False
    backbone.judge()
    accepted = await first
    with pytest.raises(RefusedError) as refused:
        await second
    assert refused.value.reason == "SEQUENCE_CONFLICT"
    assert refused.value.retriable
    assert refused.value.head is not None
    assert refused.value.head.message_id == accepted.message.message_id
    await next_of(theirs)
    assert (await theirs.send("second, again")).message.sequence == 2


async def test_messages_of_one_deal_go_out_one_after_another(alpha: Participant) -> None:
    deal = await opening(alpha)
    sent = await asyncio.gather(*(deal.send(str(number)) for number in range(5)))
    assert [accepted.message.sequence for accepted in sent] == [1, 2, 3, 4, 5]


async def test_an_unanswered_message_is_sent_again_and_counts_once(backbone: MemoryBackbone) -> None:
    async with connected(backbone, "alpha", resend_after=0.01) as me:
        deal = await opening(me)
        backbone.hold = True
        sending = asyncio.create_task(deal.send("once"))
        await until(lambda: len(backbone.held) >= 3)
        assert len({value for _, _, value in backbone.held}) == 1
        backbone.hold = False
        backbone.judge()
        assert (await sending).message.sequence == 1
        assert (await deal.send("twice")).message.sequence == 2
        assert len(deal.messages) == 3


async def test_a_message_without_any_answer_is_given_up_in_the_end(backbone: MemoryBackbone) -> None:
    async with connected(backbone, "alpha", resend_after=0.01, answer_within=0.05) as me:
        deal = await opening(me)
        backbone.hold = True
        with pytest.raises(TransportError, match="may have been accepted"):
            await deal.send("hello?")


async def test_a_record_that_cannot_be_written_fails_its_sender(backbone: MemoryBackbone) -> None:
    async with connected(backbone, "alpha") as me:
        deal = await opening(me)
        backbone.hold = True
        sending = asyncio.create_task(deal.send("x"))
        await until(lambda: bool(backbone.held))
        transport = backbone.connections[-1]
        transport.undeliverable.append(Undelivered(deal.id, TransportError("not allowed")))
        transport.changed.set()
        with pytest.raises(TransportError, match="not allowed"):
            await sending


async def test_content_over_the_limit_is_refused_before_it_is_sent(
    alpha: Participant, backbone: MemoryBackbone
) -> None:
    deal = await opening(alpha)
    before = backbone.produced
    with pytest.raises(OversizedError, match="reference"):
        await deal.send(bytes(CONTENT_LIMIT + 1))
    assert backbone.produced == before
    await deal.send(bytes(CONTENT_LIMIT))


async def test_a_deadline_may_be_a_moment_but_not_one_without_time_zone(
    alpha: Participant, backbone: MemoryBackbone
) -> None:
    moment = datetime.fromtimestamp(backbone.now / 1000, UTC) + MINUTES
    deal = await alpha.open(["beta"], kind="dvp", deadline=moment, content=b"")
    assert deal.deadline == backbone.now + 300_000
    with pytest.raises(MalformedError, match="time zone"):
        await alpha.open(["beta"], kind="dvp", deadline=moment.replace(tzinfo=None), content=b"")


async def test_a_stranger_cannot_be_made_a_party(alpha: Participant) -> None:
    with pytest.raises(DirectoryError, match="nobody"):
        await opening(alpha, "nobody")


async def test_whoever_is_not_admitted_is_told_to_join(backbone: MemoryBackbone) -> None:
    stranger = parley.connect(
        backbone.transport(), participant="alpha", key=signing_key("x"), registrar=backbone.registrar.public
    )
    with pytest.raises(DirectoryError, match="join"):
        async with stranger:
            pass
    assert backbone.connections[-1].closed


async def test_a_directory_by_another_registrar_is_not_believed(backbone: MemoryBackbone) -> None:
    misled = parley.connect(
        backbone.transport(), participant="alpha", key=signing_key("alpha"), registrar=signing_key("x").public
    )
    with pytest.raises(DirectoryError):
        async with misled:
            pass


async def test_a_participant_admitted_while_we_are_connected_can_deal(
    alpha: Participant, backbone: MemoryBackbone
) -> None:
    backbone.admit("delta")
    async with connected(backbone, "delta") as delta:
        await opening(delta, "alpha")
        assert (await next_of(alpha.opened())).parties == ("delta", "alpha")


class TestAfterARestart:
    async def test_open_deals_are_rebuilt_and_go_on(self, backbone: MemoryBackbone) -> None:
        async with connected(backbone, "alpha") as alpha, connected(backbone, "beta") as beta:
            await opening(alpha)
            opened = beta.opened()
            theirs = await next_of(opened)
            await theirs.send("committed")
        async with connected(backbone, "beta") as beta:
            (deal,) = beta.deals
            assert [message.sender for message in deal.messages] == ["alpha", "beta"]
            await deal.finish("done")
            assert deal.outcome == "FINISHED"

    async def test_what_was_taken_is_not_offered_again_and_the_rest_is(
        self, backbone: MemoryBackbone
    ) -> None:
        async with connected(backbone, "alpha") as alpha, connected(backbone, "beta") as beta:
            deal = await opening(alpha)
            await deal.send("one")
            await deal.send("two")
            inbox = beta.inbox()
            await next_of(inbox)
            await next_of(inbox)
        assert backbone.position("beta") == 2
        async with connected(backbone, "beta") as beta:
            event = await next_of(beta.inbox())
            assert isinstance(event, Received)
            assert event.message.text == "two"
            assert len(event.deal.messages) == 3

    async def test_what_was_taken_when_the_application_failed_comes_again(
        self, backbone: MemoryBackbone
    ) -> None:
        async with connected(backbone, "alpha") as alpha:
            await opening(alpha)
        for _ in range(2):
            with pytest.raises(RuntimeError):  # noqa: PT012  the error is the application's
                async with connected(backbone, "beta") as beta:
                    await next_of(beta.inbox())
                    raise RuntimeError
        async with connected(backbone, "beta") as beta:
            assert isinstance(await next_of(beta.inbox()), Received)

    async def test_what_was_not_dealt_with_comes_again_and_what_was_after_it_does_not(
        self, backbone: MemoryBackbone
    ) -> None:
        async with connected(backbone, "alpha") as alpha:
            first, second = await opening(alpha), await opening(alpha)
            await first.send("slow")
            await second.send("quick")
        with pytest.raises(RuntimeError):  # noqa: PT012  the error is the application's
            async with connected(backbone, "beta") as beta:
                opened = beta.opened()
                slow, quick = await next_of(opened), await next_of(opened)
                await next_of(slow)
                await next_of(quick)
                quick.acknowledge()
                raise RuntimeError
        async with connected(backbone, "beta") as beta:
            again = [event async for event in beta.inbox(follow=False) if isinstance(event, Received)]
            assert {(event.deal.id, event.message.sequence) for event in again} == {
                (quick.id, 0),
                (slow.id, 1),
            }

    async def test_records_written_twice_are_read_once(self, backbone: MemoryBackbone) -> None:
        async with connected(backbone, "alpha") as alpha, connected(backbone, "beta") as beta:
            deal = await opening(alpha)
            await deal.send("one")
            backbone.repeat("beta", 2)
            inbox = beta.inbox()
            await next_of(inbox)
            await next_of(inbox)
        backbone.repeat("beta", 2)
        async with connected(backbone, "alpha") as alpha, connected(backbone, "beta") as beta:
            (deal,) = alpha.deals
            await deal.send("two")
            event = await next_of(beta.inbox())
            assert isinstance(event, Received)
            assert event.message.text == "two"
        assert backbone.position("beta") == len(backbone.inboxes["beta"]) == 7


class TestWhatDoesNotVerify:
    async def test_a_forged_message_is_surfaced_and_changes_nothing(
        self, alpha: Participant, beta: Participant, backbone: MemoryBackbone
    ) -> None:
        deal = await opening(alpha)
        theirs = await next_of(beta.opened())
        genuine = decode(backbone.inboxes["beta"][0].value, FirehoseEvent)
        forged = reply_by("gamma", genuine, sender="alpha")
        backbone.deliver("beta", deal.pipeline, forged)
        with pytest.raises(VerificationError, match="was not alpha's"):
            await next_of(theirs)
        assert len(theirs.messages) == 1
        await deal.send("genuine")
        assert (await next_of(theirs)).text == "genuine"

    async def test_a_strangers_message_that_the_router_let_through_is_a_violation(
        self, alpha: Participant, beta: Participant, backbone: MemoryBackbone
    ) -> None:
        deal = await opening(alpha)
        theirs = await next_of(beta.opened())
        genuine = decode(backbone.inboxes["beta"][0].value, FirehoseEvent)
        backbone.deliver("beta", deal.pipeline, reply_by("gamma", genuine, sender="gamma"))
        with pytest.raises(VerificationError, match="NOT_A_PARTY"):
            await next_of(theirs)

    async def test_a_message_of_an_unknown_transaction_is_surfaced(
        self, alpha: Participant, beta: Participant, backbone: MemoryBackbone
    ) -> None:
        await opening(alpha, "gamma")
        deal = alpha.deals[0]
        await deal.send("psst")
        leaked = backbone.pipelines[deal.pipeline].firehose[1]
        backbone.deliver("beta", deal.pipeline, leaked)
        event = await next_of(beta.inbox())
        assert isinstance(event, Unverified)
        assert event.record == leaked

    async def test_garbage_in_the_inbox_is_surfaced_and_the_rest_goes_on(
        self, alpha: Participant, beta: Participant, backbone: MemoryBackbone
    ) -> None:
        backbone.deliver("beta", 0, b"garbage")
        await opening(alpha)
        opened = beta.opened()
        with pytest.raises(VerificationError):
            await next_of(opened)
        assert (await next_of(opened)).kind == "dvp"

    async def test_a_receipt_by_somebody_else_is_not_believed(
        self, alpha: Participant, backbone: MemoryBackbone
    ) -> None:
        deal = await opening(alpha)
        backbone.router = signing_key("beta")
        with pytest.raises(VerificationError, match="no operator's"):
            await deal.send("x")

    async def test_a_timeout_before_its_time_is_not_believed(
        self, alpha: Participant, backbone: MemoryBackbone
    ) -> None:
        deal = await opening(alpha)
        backbone.pass_time(0)
        backbone.hold = True
        pipeline = backbone.pipelines[deal.pipeline]
        state = pipeline.states[deal.id]
        pipeline.states[deal.id] = state._replace(terms=state.terms._replace(deadline=backbone.now + 1))
        backbone.pass_time(2)
        with pytest.raises(VerificationError, match="deadline had not passed"):
            await next_of(deal)
        assert deal.outcome is None

    async def test_a_record_ahead_of_the_directory_waits_for_it(
        self, beta: Participant, backbone: MemoryBackbone
    ) -> None:
        backbone.admit("delta")
        async with connected(backbone, "delta") as delta:
            missing = backbone.directory_records.pop()
            async with connected(backbone, "gamma") as gamma:
                await opening(delta, "gamma")
                waiting = asyncio.create_task(next_of(gamma.opened()))
                await asyncio.sleep(0)
                backbone.directory_records.append(missing)
                backbone.wake()
                assert (await waiting).parties == ("delta", "gamma")


def reply_by(name: str, event: FirehoseEvent, *, sender: str) -> bytes:
    """An event with a reply to the message in ``event``, signed by ``name`` as ``sender``."""
    assert event.envelope is not None
    envelope = decode(event.envelope, Envelope)
    message = decode(envelope.payload, Message)._replace(
        sequence=1, previous=message_id(envelope.payload), sender=sender, action="CONTINUE", terms=None
    )
    forged = seal(MESSAGE_TYPE, message, signing_key(name))
    return encode(event._replace(sequence=event.sequence + 1, envelope=encode(forged)))


class TestKeysThatChange:
    """A participant's keys, as its own client meets them."""

    def connect(self, backbone: MemoryBackbone, *keys: str) -> Participant:
        key, *others = map(signing_key, keys)
        return parley.connect(
            backbone.transport(),
            participant="alpha",
            key=key,
            cosigners=others,
            registrar=backbone.registrar.public,
            clock=lambda: backbone.now,
        )

    async def test_a_key_that_was_replaced_does_not_connect(self, backbone: MemoryBackbone) -> None:
        backbone.rekey("alpha", signing_key("newer"))
        with pytest.raises(
            DirectoryError, match="was replaced at directory version 6; connect with one that is"
        ):
            async with self.connect(backbone, "alpha"):
                pass

    async def test_a_sender_whose_key_is_replaced_meanwhile_hears_so_at_once(
        self, backbone: MemoryBackbone
    ) -> None:
        async with self.connect(backbone, "alpha") as me:
            await opening(me)
            backbone.rekey("alpha", signing_key("newer"))
            with pytest.raises(RefusedError, match=r"KEY_NOT_VALID: .* was replaced at directory version 6"):
                await opening(me)

    async def test_four_eyes_sign_every_message(self, backbone: MemoryBackbone, beta: Participant) -> None:
        backbone.rekey("alpha", signing_key("alpha"), signing_key("second"), threshold=2)
        with pytest.raises(DirectoryError, match="alpha's messages need 2 different keys"):
            async with self.connect(backbone, "alpha"):
                pass
        async with self.connect(backbone, "alpha", "second") as me:
            deal = await opening(me)
            assert (await next_of(beta.opened())).id == deal.id

    async def test_a_second_key_demanded_meanwhile_is_told(self, backbone: MemoryBackbone) -> None:
        async with self.connect(backbone, "alpha") as me:
            backbone.rekey("alpha", signing_key("alpha"), signing_key("second"), threshold=2)
            with pytest.raises(RefusedError, match="SIGNATURES_MISSING: 1 of the 2 keys"):
                await opening(me)
