"""Nothing that anybody else may read holds a hidden party's name, whatever is said in whatever order, until it speaks."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.errors import UnsealingError, VerificationError
from parley.events import read_spoken
from parley.identifiers import is_sealed_address
from parley.keys import EncryptionKey, public_key
from parley.schemas import FirehoseEvent, SealedDelivery, decode, is_a
from parley.sealed_address import open_with_key, open_with_secret, seal_address, sealer_of
from router.core import Limits
from router.sealed_addresses import SealedAddresses
from streams.catalogue import DELIVERIES, FIREHOSE, REJECTED
from tests import strategies as of
from tests.dialogue import Dialogue, sealed
from tests.hiding import OLD, hidden_dialogue, hiding_ledger, sealed_to, shown
from tests.memory_router import CHANGELOG, MemoryRouter
from tests.synthetic_ledger import signing_key

START = 1_800_000_000_000
SECRET_NAME = "zugspitzbank"
"""No other byte string that a router writes holds it by chance."""
LEDGER = hiding_ledger("alice", "carol", SECRET_NAME)
SEAL = sealed_to(SECRET_NAME)
KEYS = st.binary(min_size=32, max_size=32).map(lambda seed: EncryptionKey(sha256(seed).digest()))


@settings(max_examples=50, deadline=None)
@given(of.names(), KEYS, of.transaction_ids(), of.names(), st.binary(min_size=32, max_size=32), KEYS)
def test_what_is_sealed_opens_with_its_key_and_its_secret_and_with_no_other(
    address: str, key: EncryptionKey, transaction: bytes, sender: str, secret: bytes, other: EncryptionKey
) -> None:
    seal = seal_address(address, public_key(key.public), transaction, sender, secret)  # type: ignore[arg-type]
    assert is_sealed_address(seal.text)
    expected = (address, transaction, sealer_of(sender), secret)
    assert open_with_key(seal.text, key) == open_with_secret(seal.text, secret, key.public) == expected
    if other.id != key.id:
        with pytest.raises(UnsealingError):
            open_with_key(seal.text, other)
        with pytest.raises(VerificationError):
            open_with_secret(seal.text, secret, other.public)


SAID: dict[str, Callable[[Dialogue, str], bytes]] = {
    "alice to it": lambda dialogue, text: dialogue.say("alice", recipients=[text]),
    "carol to it": lambda dialogue, text: dialogue.say("carol", recipients=[text]),
    "carol to all": lambda dialogue, _: dialogue.say("carol"),
}
"""What counts, if there is room for it."""
OTHER: dict[str, Callable[[Dialogue, str], bytes | None]] = {
    "a stranger": lambda dialogue, text: sealed(dialogue.message("mallory", recipients=[text])),
    "a forger": lambda dialogue, text: sealed(dialogue.message(text), signing_key("carol")),
    "a replay": lambda _, text: hidden_dialogue(text, opened_at=START, seed="another").say("alice"),
    "a conflict": lambda dialogue, _: sealed(dialogue.message("carol")._replace(sequence=77)),
    "its own conflict": lambda dialogue, text: sealed(
        shown(dialogue, SEAL)._replace(sender=text, sequence=77), signing_key(SECRET_NAME)
    ),
    "a tick": lambda _, __: None,
}
MOVES = st.sampled_from([*SAID, *OTHER, "again", "restart", "commit"])


def play(router: MemoryRouter, steps: list[str], passing: list[int], *, ends: bool) -> None:
    """Alice opens with carol and the hidden party, then these things happen, so many ms after each other."""
    dialogue = hidden_dialogue("carol", SEAL.text, opened_at=START)
    now = START
    last: bytes = dialogue.say("alice")
    router.append(last, now)
    for step, ms in zip(steps, passing, strict=False):
        now += ms
        if step == "restart":
            router.restart()
        elif step == "commit":
            router.step()
        elif step in SAID:
            last = SAID[step](dialogue, SEAL.text)
            router.append(last, now)
        else:
            router.append(last if step == "again" else OTHER[step](dialogue, SEAL.text), now)
    if ends:
        router.append(None, now + 60_001)
    router.step()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(MOVES, max_size=12),
    st.lists(st.integers(0, 5), min_size=12, max_size=12),
    st.booleans(),
)
def test_no_output_but_the_hidden_partys_own_tells_its_name(
    steps: list[str], passing: list[int], ends: bool
) -> None:
    router = MemoryRouter(LEDGER.directory, Limits(messages=6), sealed=SealedAddresses([OLD]))
    play(router, steps, passing, ends=ends)
    name = SECRET_NAME.encode()
    for topic in (FIREHOSE, REJECTED, CHANGELOG, DELIVERIES):
        for record in router.topics.records(topic, 0):
            assert name not in (record.with_value or b""), topic
            assert topic == DELIVERIES or name not in (record.with_key or b""), topic
    assert router.logs
    assert SECRET_NAME not in repr(router.logs)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(MOVES, max_size=12),
    st.lists(st.integers(0, 5), min_size=12, max_size=12),
    st.booleans(),
)
def test_the_hidden_party_gets_what_is_addressed_to_it_once_and_in_order(
    steps: list[str], passing: list[int], ends: bool
) -> None:
    router = MemoryRouter(LEDGER.directory, Limits(messages=6), sealed=SealedAddresses([OLD]))
    play(router, steps, passing, ends=ends)
    reached = [value for to, value in router.deliveries() if to == SECRET_NAME]
    items = []
    for value in reached:
        assert isinstance(value, SealedDelivery)
        assert (value.address, value.secret) == SEAL
        items.append(value.item)
    addressed = [event for event in router.firehose() if _addressed(event)]
    assert [item for item in items if is_a(item, FirehoseEvent)] == addressed != []


def _addressed(data: bytes) -> bool:
    """Whether an event goes to the hidden party: a timeout goes to all."""
    spoken = read_spoken(decode(data, FirehoseEvent))
    return spoken is None or SEAL.text in spoken.message.recipients
