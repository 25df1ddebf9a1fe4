"""Channels: who reads what as members come and go, and who may open an epoch."""

from __future__ import annotations

import pytest

from parley.channels import channel_name
from parley.errors import GrantError, UnreadableError
from parley.grants import make_grants
from parley.reading import Reader
from parley.schemas import ChannelEpoch, Message
from tests.dialogue import Dialogue
from tests.private_speech import NOW, Room, keys_of, read, reader


@pytest.fixture
def room() -> Room:
    return Room("alpha", ["beta", "gamma"], name="syndicate", readers=["regulator"])


def content(by: Reader, message: Message) -> bytes | None:
    return read(by, message).content


def listen(by: Reader, *messages: Message) -> Reader:
    for message in messages:
        read(by, message)
    return by


def elsewhere(room: Room, sender: str, text: bytes, *, epoch: int = -1) -> Message:
    """The opening of another transaction, between two of the members, under the channel."""
    message = Dialogue.between(sender, "beta", opened_at=NOW, seed=f"{text!r}").message(sender, content=text)
    return room.encrypted(message, epoch=epoch)


def test_members_read_what_is_posted_without_any_grant(room: Room) -> None:
    opening = room.open()
    post = room.say("beta", b"we take ten")
    assert post.encryption is not None
    assert post.encryption.grants == ()
    for name in ("alpha", "beta", "gamma", "regulator"):
        by = listen(reader(name), opening)
        assert read(by, post) == (b"we take ten", "CHANNEL", None)


def test_a_stranger_reads_nothing_and_is_told_why(room: Room) -> None:
    stranger = listen(reader("mallory"), room.open())
    reading = read(stranger, room.say("beta", b"we take ten"))
    assert reading.content is None
    assert isinstance(reading.problem, UnreadableError)
    assert "not readable by mallory" in str(reading.problem)


def test_other_transactions_run_under_the_channels_key(room: Room) -> None:
    opening, deal = room.open(), elsewhere(room, "alpha", b"a deal of our own")
    assert read(listen(reader("gamma"), opening), deal).access == "CHANNEL"
    assert content(listen(reader("mallory"), opening), deal) is None


def test_an_added_member_reads_what_is_new_and_nothing_of_before(room: Room) -> None:
    opening, before = room.open(), room.say("beta", b"before delta came")
    added = room.next_epoch("beta", "gamma", "delta")
    after = elsewhere(room, "alpha", b"welcome, delta")
    delta = listen(reader("delta"), added)
    assert content(delta, after) == b"welcome, delta"
    assert content(delta, opening) is None
    assert content(delta, before) is None


def test_a_removed_member_reads_nothing_new_and_keeps_what_it_could_read(room: Room) -> None:
    opening, before = room.open(), room.say("beta", b"while gamma was here")
    removed = room.next_epoch("beta")
    after, late = elsewhere(room, "alpha", b"gamma has left"), elsewhere(room, "beta", b"before", epoch=0)
    gamma, beta = (listen(reader(name), opening, before, removed) for name in ("gamma", "beta"))
    assert content(beta, after) == b"gamma has left"
    assert content(gamma, after) is None
    assert content(gamma, removed) is None
    assert content(gamma, before) == b"while gamma was here"
    assert content(gamma, late) == b"before"


def test_an_epochs_key_gives_no_other_epochs(room: Room) -> None:
    room.open()
    room.next_epoch("beta")
    first, second = room.keys
    assert first != second
    assert first.transaction_key(room.id) != second.transaction_key(room.id)


class TestTheBook:
    def test_it_tells_name_opener_members_and_readers_of_the_newest_epoch(self, room: Room) -> None:
        beta = listen(reader("beta"), room.open(), room.next_epoch("beta", "delta"))
        (epoch,) = beta.channels
        assert (epoch.id, epoch.number, epoch.name) == (room.id, 1, "syndicate")
        assert (epoch.opener, epoch.members, epoch.readers) == (
            "alpha",
            ("alpha", "beta", "delta"),
            ("regulator",),
        )
        assert epoch.under == room.under

    def test_an_epoch_whose_key_we_were_not_given_is_not_ours(self, room: Room) -> None:
        gamma = listen(reader("gamma"), room.open(), room.next_epoch("beta"))
        (epoch,) = gamma.channels
        assert epoch.number == 0
        assert not list(listen(reader("mallory"), room.open()).channels)

    def test_a_private_deal_is_a_channel_without_a_name_and_is_not_listed(self) -> None:
        deal = Room("alpha", ["beta"])
        beta = listen(reader("beta"), deal.open(b"between us"))
        assert read(beta, deal.say("alpha", b"still between us")) == (b"still between us", "GRANT", None)
        assert not list(beta.channels)


class TestOnlyTheOpenerGrants:
    def test_a_member_cannot_open_an_epoch_of_the_channel(self, room: Room) -> None:
        opening = room.open()
        hijack = room.next_epoch("beta", sender="gamma")
        beta = listen(reader("beta"), opening)
        reading = read(beta, hijack)
        assert isinstance(reading.problem, GrantError)
        assert "only its opener (alpha)" in str(reading.problem)
        (epoch,) = beta.channels
        assert (epoch.opener, epoch.number) == ("alpha", 0)
        assert not beta.channels.keys(room.under)

    def test_a_newcomer_deceived_by_a_stranger_still_hears_the_opener(self, room: Room) -> None:
        room.open()
        pretence = room.next_epoch("delta", sender="mallory")
        true = room.next_epoch("beta", "delta")
        delta = listen(reader("delta"), pretence, true)
        assert {(epoch.opener, epoch.number) for epoch in delta.channels} == {("mallory", 1), ("alpha", 2)}
        assert content(delta, elsewhere(room, "beta", b"among us")) == b"among us"
        assert delta.channels.key(room.under, "alpha") == room.keys[2]
        assert delta.channels.key(ChannelEpoch(room.id, 1), "alpha") is None

    def test_a_channel_is_opened_at_epoch_0_and_continued_after_it(self, room: Room) -> None:
        opening = room.open()
        assert opening.encryption is not None
        late = opening._replace(encryption=opening.encryption._replace(channel=ChannelEpoch(room.id, 4)))
        assert "opens its epoch 0" in str(read(reader("beta"), late).problem)
        again = room.next_epoch("beta")
        assert again.encryption is not None
        back = again._replace(encryption=again.encryption._replace(channel=ChannelEpoch(room.id, 0)))
        assert "after epoch 0" in str(read(listen(reader("beta"), opening), back).problem)

    def test_no_key_of_a_private_deal_is_granted_after_its_opening(self) -> None:
        deal = Room("alpha", ["beta"])
        opening = deal.open()
        answer = deal.dialogue.message("beta", content=b"and bring in mallory")
        said = deal.encrypted(answer)
        assert said.encryption is not None
        assert opening.encryption is not None
        smuggled = said._replace(encryption=said.encryption._replace(grants=opening.encryption.grants[:1]))
        for name in ("alpha", "beta"):
            problem = read(listen(reader(name), opening), smuggled).problem
            assert "granted where an epoch of it is opened" in str(problem)

    def test_a_reader_who_is_no_member_is_granted_one_transaction_and_no_more(self, room: Room) -> None:
        room.open()
        deal = Dialogue.between("alpha", "beta", opened_at=NOW, seed="one deal")
        message = deal.message("alpha", content=b"for the auditor too")
        key = room.keys[0].transaction_key(deal.id)
        granted = room.encrypted(message, grants=make_grants(key, message, room.under, keys_of("auditor")))
        deal.send(granted)
        auditor = reader("auditor")
        assert read(auditor, granted) == (b"for the auditor too", "GRANT", None)
        assert content(auditor, room.encrypted(deal.message("beta", content=b"and this"))) == b"and this"
        assert content(auditor, elsewhere(room, "alpha", b"not this")) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"no JSON", b"[]", b'{"name": 7}', b"\xff", b"[" * 200_000],
    ids=["empty", "text", "a list", "a number", "not UTF-8", "nested too deep"],
)
def test_an_opening_that_gives_no_name_is_an_opening_without_a_name(content: bytes) -> None:
    assert channel_name(content) is None
