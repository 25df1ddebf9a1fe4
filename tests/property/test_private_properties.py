"""Private content over all inputs: it comes back whole to those who may read it, and any changed byte is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley.encryption import EpochKey, MessageKey, decrypt, encrypt
from parley.errors import EncryptionError
from parley.grants import KeyRing, make_grants, open_grant
from parley.keys import EncryptionKey
from parley.schemas import ChannelEpoch, Encryption, Message, decode, encode
from tests.private_speech import Room, granted_to, keys_of, read, reader
from tests.strategies import messages, names, transaction_ids
from tests.synthetic_ledger import encryption_key

KEYS = st.binary(min_size=32, max_size=32)
CHANNELS = st.none() | st.builds(ChannelEpoch, transaction_ids(), st.integers(0, 2**31 - 1))
CONTENTS = st.binary(max_size=600)


@given(messages(), KEYS, CHANNELS, CONTENTS, st.booleans())
def test_every_content_comes_back_through_the_wire(
    message: Message, secret: bytes, channel: ChannelEpoch | None, content: bytes, padded: bool
) -> None:
    key = MessageKey(secret)
    said = encrypt(message._replace(content=content), key, channel=channel, padded=padded)
    assert decrypt(decode(encode(said), Message), key) == content


@given(messages(), CONTENTS, st.lists(names(), min_size=1, max_size=4, unique=True), st.data())
def test_every_reader_granted_to_reads_and_each_changed_byte_is_refused(
    message: Message, content: bytes, readers: list[str], data: st.DataObject
) -> None:
    said = granted_to(message._replace(content=content), *readers)
    for name in readers:
        assert read(reader(name), said).content == content
    encryption = said.encryption
    assert encryption is not None
    part = data.draw(st.sampled_from(["content", "nonce", "commitment", "sealed key"]))
    changed = _changed(said, encryption, part, data)
    assert read(reader(readers[0]), changed).content is None


def _changed(said: Message, encryption: Encryption, part: str, data: st.DataObject) -> Message:
    def flip(value: bytes) -> bytes:
        place = data.draw(st.integers(0, len(value) - 1))
        mask = data.draw(st.integers(1, 255))
        return value[:place] + bytes([value[place] ^ mask]) + value[place + 1 :]

    if part == "content":
        return said._replace(content=flip(said.content))
    if part == "nonce":
        return said._replace(encryption=encryption._replace(nonce=flip(encryption.nonce)))
    if part == "commitment":
        assert encryption.commitment is not None
        return said._replace(encryption=encryption._replace(commitment=flip(encryption.commitment)))  # type: ignore[arg-type]
    first, *rest = encryption.grants
    sealed = first._replace(sealed_key=flip(first.sealed_key))
    return said._replace(encryption=encryption._replace(grants=(sealed, *rest)))


@given(messages(), messages(), KEYS)
def test_content_reads_only_where_it_was_said(message: Message, other: Message, secret: bytes) -> None:
    key = MessageKey(secret)
    said = encrypt(message, key)
    moved = other._replace(content=said.content, encryption=said.encryption)
    bound = ("transaction_id", "sequence", "sender", "content_type")
    if all(getattr(moved, field) == getattr(said, field) for field in bound):
        assert decrypt(moved, key) == message.content
        return
    try:
        decrypt(moved, key)
    except EncryptionError:
        return
    raise AssertionError("content was read in another place")


@given(messages(), names(), names(), KEYS)
def test_a_grant_opens_with_its_readers_key_alone(
    message: Message, name: str, other: str, secret: bytes
) -> None:
    key = MessageKey(secret)
    said = encrypt(message, key, grants=make_grants(key, message, None, keys_of(name)))
    assert open_grant(said, name, KeyRing([encryption_key(name)])) == key
    strangers = KeyRing([EncryptionKey.generate(), *([] if other == name else [encryption_key(other)])])
    assert open_grant(said, name, strangers) is None


@given(st.lists(st.tuples(st.sampled_from(["alpha", "beta"]), CONTENTS), max_size=5), st.booleans())
def test_a_private_deal_reads_to_its_parties_and_to_nobody_else(
    talk: list[tuple[str, bytes]], padded: bool
) -> None:
    room = Room("alpha", ["beta"])
    said = [room.open(b"opening", padded=padded), *(room.say(sender, content) for sender, content in talk)]
    spoken = [b"opening", *(content for _, content in talk)]
    for name in ("alpha", "beta"):
        by = reader(name)
        assert [read(by, message).content for message in said] == spoken
    stranger = reader("gamma")
    assert [read(stranger, message).content for message in said] == [None] * len(said)


@given(KEYS, transaction_ids(), transaction_ids(), st.integers(0, 2**31 - 1), names(), names())
def test_two_places_never_share_a_key(
    secret: bytes, one: bytes, other: bytes, sequence: int, name: str, another: str
) -> None:
    epoch = EpochKey(secret)
    first = epoch.transaction_key(one)  # type: ignore[arg-type]
    second = epoch.transaction_key(other)  # type: ignore[arg-type]
    assert (first == second) is (one == other)
    assert (first.message_key(sequence, name) == first.message_key(sequence, another)) is (name == another)
    assert first.message_key(sequence, name) != first.message_key(sequence ^ 1, name)
