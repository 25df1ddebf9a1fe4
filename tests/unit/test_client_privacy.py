"""Private deals, channels and disclosures through the client, against the router's own decisions in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from typing import TypeVar

import pytest

import parley
from parley.channel import Channel
from parley.client import Participant
from parley.deal import Deal, DealMessage, Received
from parley.errors import ChannelError, EncryptionError, RefusedError, UnreadableError
from parley.events import prove_spoken, read_spoken
from parley.grants import KeyRing
from parley.keys import EncryptionKey, public_key
from parley.reading import Reader, Reading
from parley.schemas import ChannelEpoch, FirehoseEvent, Hash, Message, TransactionId, decode
from tests.memory_backbone import MemoryBackbone
from tests.synthetic_ledger import encryption_key, signing_key

T = TypeVar("T")
MINUTES = timedelta(minutes=5)
SECRET = "we would go down to 98.75"


@pytest.fixture
def backbone() -> MemoryBackbone:
    backbone = MemoryBackbone("alpha", "beta", "gamma", "delta", pipelines=2)
    backbone.admit("regulator", "REGULATOR")
    return backbone


def connected(backbone: MemoryBackbone, name: str, *, blind: bool = False) -> Participant:
    return parley.connect(
        backbone.transport(),
        participant=name,
        key=signing_key(name),
        registrar=backbone.registrar.public,
        decryptor=None if blind else KeyRing([encryption_key(name)]),
        clock=lambda: backbone.now,
    )


@pytest.fixture
async def alpha(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "alpha") as me:
        yield me


@pytest.fixture
async def beta(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "beta") as me:
        yield me


@pytest.fixture
async def gamma(backbone: MemoryBackbone) -> AsyncIterator[Participant]:
    async with connected(backbone, "gamma") as me:
        yield me


async def next_of(events: AsyncIterator[T]) -> T:
    async with asyncio.timeout(5):
        return await anext(events)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the backbone in memory tells nobody
            await asyncio.sleep(0)


async def private(me: Participant, *others: str, readers: Iterable[str] = ()) -> Deal:
    return await me.open(
        others or ("beta",), kind="dvp", deadline=MINUTES, content=SECRET, private=True, readers=readers
    )


def record(backbone: MemoryBackbone) -> list[FirehoseEvent]:
    return [decode(event, FirehoseEvent) for each in backbone.pipelines for event in each.firehose]


def readings(backbone: MemoryBackbone, by: Reader, deal: TransactionId) -> list[Reading]:
    """What somebody who follows the whole firehose, and verifies it, reads of a deal."""
    found = []
    for event in record(backbone):
        spoken = read_spoken(event)
        if spoken is not None:
            prove_spoken(event, spoken, backbone.directory)
            reading = by.read(spoken.message, spoken.message_id)
            if event.transaction_id == deal:
                found.append(reading)
    return found


def follower(name: str) -> Reader:
    return Reader(name, KeyRing([encryption_key(name)]))


def texts(messages: Iterable[DealMessage]) -> list[str]:
    return [message.text for message in messages]


class TestAPrivateDeal:
    async def test_it_reads_to_its_parties_as_if_it_were_in_clear(
        self, alpha: Participant, beta: Participant
    ) -> None:
        mine = await private(alpha)
        theirs = await next_of(beta.opened())
        assert texts(theirs.messages) == [SECRET]
        assert theirs.messages[0].access == "GRANT"
        await theirs.send({"price": "98.80"})
        answer = await next_of(mine)
        assert answer.json() == {"price": "98.80"}
        assert answer.access == "GRANT"
        await mine.finish("done")
        assert [message.text async for message in theirs] == ["done"]
        assert texts(mine.messages) == [SECRET, '{"price":"98.80"}', "done"]

    async def test_nobody_else_reads_a_word_of_it(self, backbone: MemoryBackbone, alpha: Participant) -> None:
        deal = await private(alpha)
        await deal.send(SECRET)
        await deal.finish()
        for reading in readings(backbone, follower("gamma"), deal.id):
            assert reading.content is None
            assert isinstance(reading.problem, UnreadableError)
        assert all(SECRET.encode() not in event for each in backbone.pipelines for event in each.firehose)

    async def test_only_its_opening_carries_grants(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        deal = await private(alpha)
        await deal.send("more")
        counts = []
        for event in record(backbone):
            spoken = read_spoken(event)
            assert spoken is not None
            assert spoken.message.encryption is not None
            counts.append(len(spoken.message.encryption.grants))
        assert counts == [2, 0]

    async def test_a_further_reader_reads_all_of_it_on_the_firehose(
        self, backbone: MemoryBackbone, alpha: Participant, beta: Participant
    ) -> None:
        deal = await private(alpha, readers=["regulator"])
        await (await next_of(beta.opened())).send("agreed")
        await next_of(deal)
        read = readings(backbone, follower("regulator"), deal.id)
        assert [each.content for each in read] == [SECRET.encode(), b"agreed"]

    async def test_padding_is_kept_up_by_all_parties(
        self, backbone: MemoryBackbone, alpha: Participant, beta: Participant
    ) -> None:
        deal = await alpha.open(["beta"], kind="dvp", deadline=MINUTES, content="yes", padded=True)
        await (await next_of(beta.opened())).send("no, not at that price, and not today")
        await next_of(deal)
        sizes = [len(spoken.message.content) for event in record(backbone) if (spoken := read_spoken(event))]
        assert sizes == [256, 256]
        assert texts(deal.messages) == ["yes", "no, not at that price, and not today"]

    async def test_one_message_can_be_for_some_of_the_parties(
        self, alpha: Participant, beta: Participant, gamma: Participant
    ) -> None:
        deal = await alpha.open(["beta", "gamma"], kind="dvp", deadline=MINUTES, content="to all")
        accepted = await deal.send(SECRET, readers=["beta"])
        assert accepted.message.text == SECRET
        await next_of(beta.opened())
        await next_of(gamma.opened())
        for me, readable in ((beta, True), (gamma, False)):
            heard = await next_of(me.inbox())
            assert isinstance(heard, Received)
            assert heard.message.is_readable is readable
            assert heard.message.text == (SECRET if readable else "")

    async def test_who_is_granted_nothing_is_told_so_plainly(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        async with connected(backbone, "beta", blind=True) as blind:
            await private(alpha)
            theirs = await next_of(blind.opened())
            (message,) = theirs.messages
            assert (message.content, message.access, message.is_readable) == (b"", "NONE", False)
            assert "not readable by beta" in str(message.problem)
            with pytest.raises(UnreadableError):
                message.json()
            with pytest.raises(UnreadableError, match="no key to it was granted to beta"):
                await theirs.send("an answer that must not go in clear")
        assert len(record(backbone)) == 1

    async def test_it_goes_on_after_a_restart(self, backbone: MemoryBackbone, alpha: Participant) -> None:
        mine = await private(alpha)
        async with connected(backbone, "beta") as first:
            assert texts((await next_of(first.opened())).messages) == [SECRET]
        assert backbone.position("beta") == 1
        async with connected(backbone, "beta") as again:
            deal = again.deal(mine.id)
            assert deal is not None
            assert texts(deal.messages) == [SECRET]
            await deal.send("after the restart")
        assert (await next_of(mine)).text == "after the restart"

    async def test_its_opener_goes_on_after_a_restart_too(
        self, backbone: MemoryBackbone, beta: Participant
    ) -> None:
        async with connected(backbone, "alpha") as first:
            opened = await private(first)
        async with connected(backbone, "alpha") as again:
            deal = again.deal(opened.id)
            assert deal is not None
            await deal.send("and more")
        theirs = await next_of(beta.opened())
        assert (await next_of(theirs)).text == "and more"

    async def test_nothing_is_opened_that_we_could_not_read_ourselves(self, backbone: MemoryBackbone) -> None:
        async with connected(backbone, "alpha", blind=True) as me:
            with pytest.raises(EncryptionError, match="connect with the keystore's keys"):
                await private(me)
        assert record(backbone) == []

    async def test_a_reader_without_an_encryption_key_is_refused_before_anything_is_sent(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        with pytest.raises(EncryptionError, match="router has no encryption key in the directory"):
            await private(alpha, readers=["router"])
        assert record(backbone) == []


class TestARotatedEncryptionKey:
    NEW = EncryptionKey(bytes(range(32)))

    def rotate(self, backbone: MemoryBackbone) -> None:
        """Beta's entry gets another encryption key in place of its old one."""
        before = backbone.directory.entry("beta")
        assert before is not None
        entry = before._replace(
            encryption_keys=(public_key(self.NEW.public),), previous=backbone.directory.version_of("beta")
        )
        backbone.change(entry, signing_key("beta"))

    async def test_later_deals_are_granted_to_the_new_key_alone(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        old = await private(alpha)
        self.rotate(backbone)
        await until(lambda: alpha.directory.version == backbone.directory.version)
        new = await private(alpha)
        thief = Reader("beta", KeyRing([encryption_key("beta")]))
        assert readings(backbone, thief, old.id)[0].content == SECRET.encode()
        assert readings(backbone, thief, new.id)[0].content is None

    async def test_who_keeps_the_old_key_reads_everything_and_goes_on_with_deals_under_way(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        old = await private(alpha)
        self.rotate(backbone)
        await until(lambda: alpha.directory.version == backbone.directory.version)
        new = await private(alpha)
        async with parley.connect(
            backbone.transport(),
            participant="beta",
            key=signing_key("beta"),
            registrar=backbone.registrar.public,
            decryptor=KeyRing([self.NEW, encryption_key("beta")]),
            clock=lambda: backbone.now,
        ) as beta:
            for deal in (old, new):
                theirs = beta.deal(deal.id)
                assert theirs is not None
                assert texts(theirs.messages) == [SECRET]
                await theirs.send("agreed")
                assert (await next_of(deal)).text == "agreed"


class TestAChannel:
    @pytest.fixture
    async def channel(self, alpha: Participant) -> Channel:
        return await alpha.create_channel("syndicate", ["beta", "gamma"], readers=["regulator"])

    async def their(self, me: Participant, channel: Channel) -> Channel:
        """The channel in a member's hands."""
        await until(lambda: me.channel(channel.id) is not None)
        found = me.channel(channel.id)
        assert found is not None
        return found

    async def test_what_is_posted_reaches_all_members(
        self, channel: Channel, beta: Participant, gamma: Participant
    ) -> None:
        theirs = await self.their(beta, channel)
        assert (theirs.name, theirs.opener, theirs.members) == (
            "syndicate",
            "alpha",
            ("alpha", "beta", "gamma"),
        )
        await theirs.post("we take ten")
        assert (await next_of(channel.deal)).text == "we take ten"
        heard = await next_of((await self.their(gamma, channel)).deal)
        assert (heard.text, heard.sender, heard.access) == ("we take ten", "beta", "CHANNEL")

    async def test_posts_that_cross_all_arrive(
        self,
        backbone: MemoryBackbone,
        channel: Channel,
        alpha: Participant,
        beta: Participant,
        gamma: Participant,
    ) -> None:
        hands = [channel, await self.their(beta, channel), await self.their(gamma, channel)]
        backbone.hold = True
        posts = [asyncio.create_task(each.post(f"from {number}")) for number, each in enumerate(hands)]
        await until(lambda: len(backbone.held) == 3)
        backbone.hold = False
        backbone.judge()
        await asyncio.gather(*posts)
        await until(lambda: len(channel.deal.messages) == 4)
        assert set(texts(channel.deal.messages)[1:]) == {"from 0", "from 1", "from 2"}

    async def test_a_deal_on_a_channel_needs_no_grants_and_reads_to_its_members(
        self, backbone: MemoryBackbone, channel: Channel, alpha: Participant, beta: Participant
    ) -> None:
        deal = await alpha.open(["beta"], kind="dvp", deadline=MINUTES, content=SECRET, channel=channel)
        theirs = await next_of(beta.opened())
        while theirs.id != deal.id:
            theirs = await next_of(beta.opened())
        await theirs.send("agreed")
        assert (await next_of(deal)).text == "agreed"
        assert [each.content for each in readings(backbone, follower("gamma"), deal.id)] == [
            SECRET.encode(),
            b"agreed",
        ]
        assert readings(backbone, follower("delta"), deal.id)[0].content is None

    async def test_an_added_member_reads_what_is_new_and_posts(
        self, backbone: MemoryBackbone, channel: Channel, alpha: Participant
    ) -> None:
        await channel.post("before delta came")
        before = channel.epoch.transaction_id
        async with connected(backbone, "delta") as delta:
            await channel.add("delta")
            assert channel.epoch.number == 1
            assert channel.members == ("alpha", "beta", "gamma", "delta")
            theirs = await self.their(delta, channel)
            await theirs.post("hello from delta")
            assert (await next_of(channel.deal)).text == "hello from delta"
        assert all(each.content is None for each in readings(backbone, follower("delta"), before))

    async def test_a_removed_member_reads_nothing_new_and_keeps_what_it_could_read(
        self, backbone: MemoryBackbone, channel: Channel, beta: Participant, gamma: Participant
    ) -> None:
        await channel.post("while gamma was here")
        before = channel.epoch.transaction_id
        await channel.remove("gamma")
        await channel.post("gamma has left")
        assert (await next_of((await self.their(beta, channel)).deal)).text == "gamma has left"
        reads = follower("gamma")
        assert [each.content for each in readings(backbone, reads, channel.epoch.transaction_id)] == [
            None,
            None,
        ]
        assert b"while gamma was here" in [each.content for each in readings(backbone, reads, before)]
        theirs = await self.their(gamma, channel)
        assert theirs.epoch.number == 0
        await until(lambda: gamma.deal(before) is None)
        with pytest.raises(ChannelError, match=r"epoch 0 of channel .* has ended"):
            await theirs.post("may I still speak?")

    async def test_a_deal_under_way_goes_on_under_the_new_epoch_so_that_who_was_removed_reads_no_more(
        self, backbone: MemoryBackbone, channel: Channel, alpha: Participant, beta: Participant
    ) -> None:
        deal = await alpha.open(
            ["beta"], kind="dvp", deadline=MINUTES, content="old", channel=channel, readers=["delta"]
        )
        await channel.remove("gamma")
        await deal.send("new")
        await until(lambda: beta.deal(deal.id) is not None and len(beta.deal(deal.id).messages) == 2)  # type: ignore[union-attr]
        theirs = beta.deal(deal.id)
        assert theirs is not None
        assert texts(theirs.messages) == ["old", "new"]
        await theirs.send("newer")
        assert (await next_of(deal)).text == "newer"
        assert [each.content for each in readings(backbone, follower("gamma"), deal.id)] == [
            b"old",
            None,
            None,
        ]
        for reader in ("delta", "regulator"):
            read = readings(backbone, follower(reader), deal.id)
            assert [each.content for each in read] == [b"old", b"new", b"newer"]

    async def test_a_reader_who_is_no_member_follows_it_on_the_firehose(
        self, backbone: MemoryBackbone, channel: Channel
    ) -> None:
        await channel.post("one")
        await channel.remove("beta")
        await channel.post("two")
        regulator = follower("regulator")
        (epoch,) = (readings(backbone, regulator, channel.id), tuple(regulator.channels))[1]
        assert epoch.readers == ("regulator",)
        last = readings(backbone, regulator, channel.epoch.transaction_id)
        assert last[-1].content == b"two"

    async def test_only_its_opener_changes_it(self, channel: Channel, beta: Participant) -> None:
        theirs = await self.their(beta, channel)
        for change in (theirs.add("delta"), theirs.remove("gamma"), theirs.renew()):
            with pytest.raises(ChannelError, match="only alpha, who opened channel"):
                await change

    async def test_who_is_added_twice_is_a_member_once(self, channel: Channel) -> None:
        await channel.add("beta", "delta", "delta")
        assert channel.members == ("alpha", "beta", "gamma", "delta")

    @pytest.mark.parametrize("name", ["alpha", "delta"])
    async def test_only_other_members_can_be_removed(self, channel: Channel, name: str) -> None:
        with pytest.raises(ChannelError, match=f"{name} cannot be removed"):
            await channel.remove(name)

    async def test_it_is_found_again_after_a_restart(
        self, backbone: MemoryBackbone, channel: Channel
    ) -> None:
        for _ in range(2):
            async with connected(backbone, "beta") as me:
                theirs = await self.their(me, channel)
                await theirs.post("hello again")
                async for _event in me.inbox(follow=False):
                    pass
        assert texts(channel.deal.messages)[1:] == ["hello again", "hello again"]

    async def test_its_opener_finds_every_epoch_again_after_a_restart(self, backbone: MemoryBackbone) -> None:
        async with connected(backbone, "delta") as first:
            channel = await first.create_channel("desk", ["beta"])
            await channel.add("gamma")
        async with connected(backbone, "delta") as again:
            (found,) = again.channels
            assert (found.epoch.number, found.members) == (1, ("delta", "beta", "gamma"))
            await found.remove("beta")
            assert found.epoch.number == 2

    async def test_a_deal_on_it_is_between_members_ends_by_its_end_and_stays_on_its_pipeline(
        self, channel: Channel, alpha: Participant
    ) -> None:
        async def opened(parties: list[str], deadline: timedelta, pipeline: int | None = None) -> Deal:
            return await alpha.open(
                parties, kind="dvp", deadline=deadline, content="x", channel=channel, pipeline=pipeline
            )

        with pytest.raises(ChannelError, match="delta cannot read what is said on channel"):
            await opened(["beta", "delta"], MINUTES)
        with pytest.raises(ChannelError, match="choose an earlier one"):
            await opened(["beta"], timedelta(days=15))
        with pytest.raises(ChannelError, match="open it there"):
            await opened(["beta"], MINUTES, 1 - channel.epoch.pipeline)

    async def test_another_refusal_of_a_post_is_told(
        self, backbone: MemoryBackbone, channel: Channel
    ) -> None:
        backbone.hold = True
        post = asyncio.create_task(channel.post("too late"))
        await until(lambda: len(backbone.held) == 1)
        backbone.hold = False
        backbone.now += int(timedelta(days=15).total_seconds() * 1_000)
        backbone.judge()
        with pytest.raises(RefusedError, match=r"CLOSED|DEADLINE_PASSED"):
            await post

    async def test_where_a_stranger_claims_its_id_the_opener_must_be_named(
        self, backbone: MemoryBackbone, channel: Channel, beta: Participant
    ) -> None:
        async with connected(backbone, "delta") as delta:
            pretence = beta.opening(
                ["delta"], kind="channel", deadline=MINUTES, content=b"{}", pipeline=channel.epoch.pipeline
            )
            await beta.submit(beta.secrecy.open_epoch(pretence, ChannelEpoch(channel.id, 1)))
            await channel.add("delta")
            await until(lambda: len(delta.channels) == 2)
            with pytest.raises(ChannelError, match="name whom you mean"):
                delta.channel(channel.id)
            true = delta.channel(channel.id, "alpha")
            assert true is not None
            await true.post("to the true one")
        assert (await next_of(channel.deal)).text == "to the true one"

    async def test_it_shows_who_is_in_it_and_no_keys(self, channel: Channel) -> None:
        assert "epoch 0, alpha, beta, gamma" in repr(channel)
        assert "syndicate" not in repr(channel) + repr(channel.epoch)


class TestNothingPrivateIsAnsweredInClear:
    """Whatever a counterpart gets wrong in its opening, on purpose or not."""

    async def answered(self, backbone: MemoryBackbone, alpha: Participant, opening: Message) -> None:
        await alpha.submit(opening)
        async with connected(backbone, "beta") as beta:
            theirs = await next_of(beta.opened())
            with pytest.raises(UnreadableError):
                await theirs.send("an answer that must not go in clear")
        assert len(record(backbone)) == 1

    def opening(self, alpha: Participant) -> Message:
        return alpha.opening(["beta"], kind="dvp", deadline=MINUTES, content=SECRET)

    async def test_an_opening_that_names_a_key_twice(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        message = self.opening(alpha)
        good = alpha.secrecy.open_epoch(message, ChannelEpoch(message.transaction_id, 0))
        assert good.encryption is not None
        grants = good.encryption.grants
        twice = good.encryption._replace(grants=(*grants, grants[-1]))
        await self.answered(backbone, alpha, good._replace(encryption=twice))

    async def test_an_opening_of_an_epoch_that_is_not_the_first(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        message = self.opening(alpha)
        wrong = alpha.secrecy.open_epoch(message, ChannelEpoch(message.transaction_id, 3))
        await self.answered(backbone, alpha, wrong)

    async def test_an_opening_that_commits_to_another_key(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        message = self.opening(alpha)
        good = alpha.secrecy.open_epoch(message, ChannelEpoch(message.transaction_id, 0))
        assert good.encryption is not None
        await self.answered(
            backbone, alpha, good._replace(encryption=good.encryption._replace(commitment=Hash(bytes(32))))
        )

    async def test_an_opening_with_a_key_of_its_own(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        alone = alpha.secrecy.alone(self.opening(alpha), ["beta"])
        await self.answered(backbone, alpha, alone)
        async with connected(backbone, "beta") as beta:
            theirs = beta.deal(alone.transaction_id)
            assert theirs is not None
            assert texts(theirs.messages) == [SECRET]
            await theirs.send("for alpha", readers=["alpha"])


class TestDisclosure:
    async def test_a_regulator_reads_what_was_disclosed_and_nothing_else(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        shown, hidden = await private(alpha), await private(alpha)
        for deal in (shown, hidden):
            await deal.finish("done")
        regulator = follower("regulator")
        assert [each.content for each in readings(backbone, regulator, shown.id)] == [None, None]
        accepted = await shown.disclose(to="regulator", statement="request 17/2026")
        assert accepted.deal.outcome == "FINISHED"
        readings(backbone, regulator, shown.id)
        assert readings(backbone, regulator, shown.id) == [
            Reading(SECRET.encode(), "DISCLOSURE"),
            Reading(b"done", "DISCLOSURE"),
        ]
        assert [each.content for each in readings(backbone, regulator, hidden.id)] == [None, None]

    async def test_one_message_can_be_disclosed(self, backbone: MemoryBackbone, alpha: Participant) -> None:
        deal = await private(alpha)
        accepted = await deal.send("this one")
        await deal.disclose(to="regulator", message=accepted.message)
        regulator = follower("regulator")
        readings(backbone, regulator, deal.id)
        assert [each.content for each in readings(backbone, regulator, deal.id)] == [None, b"this one"]

    async def test_a_channels_epoch_can_be_disclosed(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        channel = await alpha.create_channel("desk", ["beta"])
        await channel.post("in the first epoch")
        first = channel.epoch.transaction_id
        await channel.disclose(to="regulator")
        await channel.add("gamma")
        await channel.post("in the second")
        regulator = follower("regulator")
        readings(backbone, regulator, first)
        assert readings(backbone, regulator, first)[1] == Reading(b"in the first epoch", "DISCLOSURE")
        assert readings(backbone, regulator, channel.epoch.transaction_id)[1].content is None

    async def test_the_regulators_own_client_learns_from_its_inbox(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        deal = await private(alpha)
        async with connected(backbone, "regulator") as regulator:
            await deal.disclose(to="regulator")
            told = await next_of(regulator.opened())
            assert told.kind == "disclosure"
            read = readings(backbone, regulator.secrecy.reader, deal.id)
            assert [each.content for each in read] == [SECRET.encode()]

    async def test_what_is_disclosed_is_not_on_the_record_only_that_something_was(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        deal = await private(alpha)
        accepted = await deal.disclose(to="regulator", statement="a statement for the regulator")
        told = [event for event in record(backbone) if event.transaction_id == accepted.deal.id]
        assert len(told) == 2
        spoken = read_spoken(told[0])
        assert spoken is not None
        assert spoken.message.terms is not None
        assert (spoken.message.terms.kind, spoken.message.sender) == ("disclosure", "alpha")
        assert spoken.message.references == ()
        assert told[0].envelope is not None
        assert bytes(deal.id) not in bytes(told[0].envelope)
        assert b"a statement" not in told[0].envelope

    async def test_what_was_said_in_clear_or_is_not_ours_cannot_be_disclosed(
        self, backbone: MemoryBackbone, alpha: Participant
    ) -> None:
        clear = await alpha.open(["beta"], kind="dvp", deadline=MINUTES, content="in clear")
        for disclosed in (
            clear.disclose(to="regulator"),
            clear.disclose(to="regulator", scope="EPOCH"),
            clear.disclose(to="regulator", message=clear.messages[0]),
        ):
            with pytest.raises(EncryptionError, match="nothing to disclose"):
                await disclosed
        await private(alpha)
        async with connected(backbone, "beta", blind=True) as blind:
            await next_of(blind.opened())
            deal = await next_of(blind.opened())
            with pytest.raises(EncryptionError, match="nothing to disclose"):
                await deal.disclose(to="regulator")


async def test_no_secret_reaches_logs_errors_representations_or_the_routers_state(
    backbone: MemoryBackbone, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A whole private story, with refusals; then everything that anybody could have written is searched."""
    caplog.set_level(logging.DEBUG)
    shown = []
    async with connected(backbone, "alpha") as alpha, connected(backbone, "beta", blind=True) as beta:
        channel = await alpha.create_channel("the name SYNDICATE-X", ["beta", "gamma"])
        await channel.post(SECRET)
        deal = await private(alpha)
        with pytest.raises(RefusedError) as refused:
            await deal.send(SECRET, after=deal.head._replace(sequence=7))
        shown += [repr(refused.value), str(refused.value), repr(refused.value.rejection)]
        await deal.disclose(to="regulator", statement="statement STATED-X")
        async for event in beta.inbox(follow=False):
            assert isinstance(event, Received)
            shown += [repr(event), str(event.message.problem)]
        reader = alpha.secrecy.reader
        keys = list(reader.transaction_keys(deal.id))
        shown += [repr(value) for value in (deal, deal.messages, channel, reader, keys)]
        shown += [repr(tuple(reader.channels))]
        shown += [repr(reader.channels.keys(channel.epoch.under))]
    secrets = [key.key for key in keys] + [key.secret for _, key in reader.channels.keys(channel.epoch.under)]
    assert len(secrets) == 2
    states = [state for each in backbone.pipelines for state in each.states.values()]
    on_record = [record.value for inbox in backbone.inboxes.values() for record in inbox]
    on_record += [event for each in backbone.pipelines for event in each.firehose]
    told = "\n".join([*shown, caplog.text, *capfd.readouterr(), repr(states)])
    assert "alpha" in told
    for secret in (SECRET.encode(), b"STATED-X", b"SYNDICATE-X", *secrets):
        assert all(secret not in value for value in on_record)
        assert repr(secret)[2:-1] not in told
        assert secret.hex() not in told
