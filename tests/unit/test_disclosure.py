"""Disclosure: what a key that was given later opens, to whom, and how little it is believed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from parley.disclosure import DISCLOSURE_TYPE, read_disclosure, write_disclosure
from parley.encryption import EpochKey
from parley.envelope import message_id
from parley.errors import EncryptionError, GrantError, UnreadableError
from parley.reading import Reader
from parley.schemas import DisclosedKey, Message, encode
from tests.dialogue import Dialogue
from tests.private_speech import NOW, Room, granted_to, read, reader


class Record:
    """A private deal of three messages, and a named channel with a post and a transaction under it."""

    def __init__(self) -> None:
        self.deal = Room("alpha", ["beta"], seed="deal")
        self.talk = [self.deal.open(b"one"), self.deal.say("beta", b"two"), self.deal.say("alpha", b"three")]
        self.channel = Room("alpha", ["beta"], seed="channel", name="syndicate")
        self.opening = self.channel.open()
        self.posts = [self.channel.say("beta", b"a post")]
        other = Dialogue.between("alpha", "beta", opened_at=NOW, seed="other").message(
            "alpha", content=b"aside"
        )
        self.posts.append(self.channel.encrypted(other))
        self.later = self.channel.next_epoch("beta")
        self.posts.append(self.channel.encrypted(other._replace(sequence=1, content=b"under the next epoch")))

    def alpha(self) -> Reader:
        by = reader("alpha")
        for message in [*self.talk, self.opening, *self.posts, self.later]:
            read(by, message)
        return by


@pytest.fixture
def record() -> Record:
    return Record()


def disclosure(keys: Iterable[DisclosedKey], *, to: str = "regulator", sender: str = "alpha") -> Message:
    """The message by which the sender discloses, encrypted to the reader."""
    message = Dialogue.between(sender, to, opened_at=NOW, seed="disclosure").message(
        sender, content=write_disclosure(to, "request 17/2026", keys)
    )
    return granted_to(message._replace(content_type=DISCLOSURE_TYPE), sender, to)


def contents(by: Reader, messages: Iterable[Message]) -> list[bytes | None]:
    return [read(by, message).content for message in messages]


def test_one_message_disclosed_is_one_message_read(record: Record) -> None:
    second = record.talk[1]
    keys = record.alpha().message_keys(second, message_id(encode(second)))
    regulator = reader("regulator")
    assert contents(regulator, record.talk) == [None, None, None]
    read(regulator, disclosure(keys))
    assert contents(regulator, record.talk) == [None, b"two", None]
    assert read(regulator, second).access == "DISCLOSURE"


def test_a_transaction_disclosed_is_all_of_it_and_nothing_else(record: Record) -> None:
    regulator = reader("regulator")
    read(regulator, disclosure(record.alpha().transaction_keys(record.deal.id)))
    assert contents(regulator, record.talk) == [b"one", b"two", b"three"]
    assert contents(regulator, record.posts) == [None, None, None]


def test_an_epoch_disclosed_is_all_that_was_said_under_it(record: Record) -> None:
    regulator = reader("regulator")
    read(regulator, disclosure(record.alpha().epoch_keys(record.channel.id)))
    assert contents(regulator, record.posts) == [b"a post", b"aside", None]
    assert read(regulator, record.posts[0]).access == "DISCLOSURE"
    assert contents(regulator, record.talk) == [None, None, None]


def test_messages_granted_one_by_one_are_disclosed_with_their_transaction() -> None:
    said = granted_to(
        Dialogue.between("alpha", "beta", opened_at=NOW).message("alpha", content=b"x"), "alpha"
    )
    alpha, regulator = reader("alpha"), reader("regulator")
    read(alpha, said)
    read(regulator, disclosure(alpha.transaction_keys(said.transaction_id)))
    assert read(regulator, said).content == b"x"


def test_only_the_reader_it_is_meant_for_learns_from_it(record: Record) -> None:
    said = disclosure(record.alpha().transaction_keys(record.deal.id))
    mallory = reader("mallory")
    assert isinstance(read(mallory, said).problem, UnreadableError)
    assert contents(mallory, record.talk) == [None, None, None]


def test_a_disclosure_to_another_that_reaches_us_is_not_used(record: Record) -> None:
    meant = write_disclosure("regulator", "", record.alpha().transaction_keys(record.deal.id))
    message = Dialogue.between("alpha", "beta", opened_at=NOW).message("alpha", content=meant)
    forwarded = granted_to(message._replace(content_type=DISCLOSURE_TYPE), "mallory")
    mallory = reader("mallory")
    assert "not for mallory" in str(read(mallory, forwarded).problem)
    assert contents(mallory, record.talk) == [None, None, None]


def test_a_false_key_opens_nothing(record: Record) -> None:
    false = DisclosedKey("TRANSACTION", record.deal.id, None, record.deal.under, bytes(32))
    regulator = reader("regulator")
    assert read(regulator, disclosure([false])).access == "GRANT"
    assert contents(regulator, record.talk) == [None, None, None]
    read(regulator, disclosure(record.alpha().transaction_keys(record.deal.id)))
    assert contents(regulator, record.talk) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("scope", ["TRANSACTION", "EPOCH"])
def test_a_disclosed_key_is_never_spoken_under(record: Record, scope: str) -> None:
    """Or whoever discloses could have us encrypt to it."""
    key = EpochKey(bytes(32))
    secret = key.secret if scope == "EPOCH" else key.transaction_key(record.deal.id).secret
    planted = DisclosedKey(scope, record.deal.id, None, record.deal.under, secret)  # type: ignore[arg-type]
    beta = reader("beta")
    read(beta, disclosure([planted], to="beta", sender="mallory"))
    with pytest.raises(UnreadableError, match="no key to it was granted to beta"):
        beta.transaction_key(record.deal.id, record.deal.under, "alpha")
    assert not beta.channels.keys(record.deal.under)
    read(beta, record.talk[0])
    spoken = beta.transaction_key(record.deal.id, record.deal.under, "alpha")
    assert spoken == record.deal.keys[0].transaction_key(record.deal.id)


def test_a_key_disclosed_before_its_grant_is_seen_takes_nothing_from_the_grant(record: Record) -> None:
    """Or a fellow party could keep us from answering."""
    beta = reader("beta")
    read(beta, disclosure(record.alpha().transaction_keys(record.deal.id), to="beta"))
    assert read(beta, record.talk[0]) == (b"one", "GRANT", None)
    opened = beta.opened(record.deal.id)
    assert opened is not None
    spoken = beta.transaction_key(record.deal.id, record.deal.under, opened.channel_opener)
    assert spoken == record.deal.keys[0].transaction_key(record.deal.id)


def test_there_must_be_something_to_disclose(record: Record) -> None:
    with pytest.raises(EncryptionError, match="nothing to disclose"):
        disclosure(reader("mallory").transaction_keys(record.deal.id))


@pytest.mark.parametrize("content", [b"", b"no disclosure", bytes(100)])
def test_what_is_no_disclosure_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(GrantError, match="should be a disclosure is none"):
        read_disclosure(content, "regulator")


@pytest.mark.parametrize("scope", ["MESSAGE", "TRANSACTION", "EPOCH"])
def test_a_key_that_does_not_say_what_it_opens_is_refused(scope: str) -> None:
    key = DisclosedKey(scope, None, None, None, bytes(32))  # type: ignore[arg-type]
    with pytest.raises(GrantError, match=f"a disclosed {scope.lower()} key does not say what it opens"):
        read_disclosure(write_disclosure("regulator", "", [key]), "regulator")


def test_a_disclosed_key_shows_what_it_opens_and_never_itself(record: Record) -> None:
    (key,) = record.alpha().transaction_keys(record.deal.id)
    shown = repr(read_disclosure(write_disclosure("regulator", "", [key]), "regulator"))
    assert repr(record.deal.id) in shown
    assert repr(key.key) not in shown
    assert key.key.hex() not in shown
