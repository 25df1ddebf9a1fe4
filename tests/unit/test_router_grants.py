"""The router's policy on grants: by kind of transaction, somebody must be granted the key; only that a grant is there is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import generate_latest

from parley.encryption import MessageKey, encrypt
from parley.grants import make_grants
from parley.schemas import ChannelEpoch, KeyGrant, KeyId, Message, Rejection, encode
from router.core import Limits
from router.handler import COMMITTED
from tests.dialogue import Dialogue, sealed, transaction_id
from tests.memory_router import MemoryRouter, members
from tests.private_speech import keys_of

START = 1_800_000_000_000
KEY = MessageKey(bytes(range(32)))
MEMBERS = members("alice", "bob", "regulator")
LIMITS = Limits(required_readers={"dvp": frozenset({"regulator"}), "loan": frozenset({"regulator", "csd"})})


def encrypted(message: Message, *readers: str, channel: ChannelEpoch | None = None) -> Message:
    return encrypt(message, KEY, channel=channel, grants=make_grants(KEY, message, None, keys_of(*readers)))


def own(message: Message) -> ChannelEpoch:
    return ChannelEpoch(message.transaction_id, 0)


def judged(*messages: Message, limits: Limits = LIMITS) -> list[Rejection]:
    router = MemoryRouter(MEMBERS, limits)
    for message in messages:
        router.append(sealed(message), START)
    router.step()
    assert len(router.firehose()) + len(router.rejections()) == len(messages)
    return router.rejections()


def talk(
    conceal_opening: Callable[[Message], Message],
    conceal_answer: Callable[[Message], Message],
    kind: str = "dvp",
) -> list[Message]:
    dialogue = Dialogue.between("alice", "bob", opened_at=START)
    dialogue.terms = dialogue.terms._replace(kind=kind)
    opening = conceal_opening(dialogue.message("alice", content=b"what is said"))
    dialogue.send(opening)
    return [opening, conceal_answer(dialogue.message("bob", content=b"what is answered"))]


def private(message: Message) -> Message:
    return encrypted(message, "alice", "bob", "regulator", channel=own(message))


def under_channel(message: Message) -> Message:
    return encrypt(message, KEY, channel=own(message))


def clear(message: Message) -> Message:
    return message


def test_a_private_deal_whose_opening_grants_the_key_is_accepted_to_its_end() -> None:
    assert judged(*talk(private, under_channel)) == []


@pytest.mark.parametrize("readers", [(), ("alice",), ("alice", "bob")], ids=len)
def test_an_opening_without_the_grant_is_refused(readers: tuple[str, ...]) -> None:
    opening, _ = talk(lambda message: encrypted(message, *readers, channel=own(message)), clear)
    (rejection,) = judged(opening)
    assert (rejection.reason, rejection.retriable, rejection.sender) == ("GRANT_REQUIRED", True, "alice")
    assert "grants its key to regulator" in rejection.detail


def test_an_opening_in_clear_is_refused_for_it_grants_nothing() -> None:
    """Its later messages would be under a key that nobody was seen to grant."""
    (rejection,) = judged(talk(clear, clear)[0])
    assert rejection.reason == "GRANT_REQUIRED"


def test_a_later_message_in_clear_needs_no_grant() -> None:
    assert judged(*talk(private, clear)) == []


@pytest.mark.parametrize("readers", [(), ("alice",)], ids=len)
def test_a_later_message_under_a_key_of_its_own_must_grant_it(readers: tuple[str, ...]) -> None:
    (rejection,) = judged(*talk(private, lambda message: encrypted(message, *readers)))
    assert rejection.reason == "GRANT_REQUIRED"
    assert judged(*talk(private, lambda message: encrypted(message, "alice", "regulator"))) == []


def test_a_later_message_that_grants_anything_grants_to_the_required_reader_too() -> None:
    other = ChannelEpoch(transaction_id("a named channel"), 0)
    (rejection,) = judged(*talk(private, lambda message: encrypted(message, "alice", channel=other)))
    assert rejection.reason == "GRANT_REQUIRED"


def test_all_the_readers_that_lack_are_named() -> None:
    opening, _ = talk(lambda message: encrypted(message, "alice", channel=own(message)), clear, "loan")
    (rejection,) = judged(opening)
    assert "grants its key to csd, regulator;" in rejection.detail


def test_a_kind_without_a_policy_needs_no_grant() -> None:
    assert judged(*talk(clear, lambda message: encrypted(message, "alice"), "negotiation")) == []
    assert judged(*talk(clear, lambda message: encrypted(message, "alice")), limits=Limits()) == []


def test_the_router_sees_only_that_a_grant_is_there() -> None:
    """That it opens nothing shows to the reader, whose word is then evidence against the sender's signature."""
    forged = KeyGrant("regulator", KeyId(bytes(16)), b"nothing")
    opening, _ = talk(lambda message: encrypt(message, KEY, channel=own(message), grants=(forged,)), clear)
    assert judged(opening) == []


def test_a_rejection_repeats_nothing_of_what_was_said() -> None:
    (rejection,) = judged(talk(clear, clear)[0])
    assert "what is said" not in repr(rejection)


def test_nothing_that_was_said_reaches_the_routers_logs_metrics_state_or_rejections() -> None:
    """Clear words are told here to be refused, which is the worst that a router could repeat."""
    router = MemoryRouter(MEMBERS, LIMITS)
    refused, _ = talk(clear, clear)
    for message in [refused, *talk(private, lambda message: encrypted(message, "alice"))]:
        router.append(sealed(message), START)
    router.append(sealed(talk(private, under_channel)[1])[:-1], START)
    router.step()
    assert len(router.rejections()) == 3
    assert len(router.firehose()) == 1
    state = [record.value() or b"" for record in router.changelog()] + [
        encode(each) for each in router.rejections()
    ]
    assert state
    assert any(entry["event"] == COMMITTED for entry in router.logs)
    told = (
        repr(router.logs).encode()
        + generate_latest()
        + b"".join(state)
        + repr(router.transactions()).encode()
    )
    for words in (b"what is said", b"what is answered", KEY.secret, repr(KEY.secret)[2:-1].encode()):
        assert words not in told
        assert all(words not in event for event in router.firehose())
