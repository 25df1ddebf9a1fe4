"""Key grants: who gets a key, for what, and every way in which one must be refused."""

from __future__ import annotations

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, crypto_box_seal

from parley.directory import Directory
from parley.encryption import EpochKey, MessageKey, associated_data, encrypt
from parley.errors import EncryptionError, GrantError, UnreadableError
from parley.grants import KeyRing, make_grants, open_grant, reader_keys
from parley.keys import EncryptionKey, key_id, public_key, seal_to
from parley.reading import Reader
from parley.schemas import ChannelEpoch, KeyGrant, Message
from tests.dialogue import Dialogue, transaction_id
from tests.memory_backbone import MemoryBackbone
from tests.private_speech import NOW, Room, granted_to, keys_of, read, reader
from tests.synthetic_ledger import encryption_key

SECRET = b"we would go down to 98.75"
CLEAR = Dialogue.between("alpha", "beta", "gamma", opened_at=NOW).message("alpha", content=SECRET)
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
"""The points of small order on Curve25519 and its twist, in every encoding below 2^255 (RFC 7748 §6.1's all-zero results)."""


def regranted(message: Message, *grants: KeyGrant) -> Message:
    assert message.encryption is not None
    return message._replace(encryption=message.encryption._replace(grants=grants))


def grants_of(message: Message) -> tuple[KeyGrant, ...]:
    assert message.encryption is not None
    return message.encryption.grants


def problem(message: Message, by: str = "beta") -> str:
    """Why the message is not readable; it must not be."""
    reading = read(reader(by), message)
    assert reading.content is None
    assert reading.access == "NONE"
    assert SECRET.decode() not in str(reading.problem)
    return str(reading.problem)


def test_each_reader_granted_to_reads_and_nobody_else() -> None:
    message = granted_to(CLEAR, "alpha", "beta")
    for name in ("alpha", "beta"):
        assert read(reader(name), message) == (SECRET, "GRANT", None)
    assert "not readable by gamma" in problem(message, "gamma")


def test_a_reader_with_several_keys_needs_one_of_them() -> None:
    message = granted_to(CLEAR, "alpha", "beta")
    others = [EncryptionKey.generate(), encryption_key("beta"), EncryptionKey.generate()]
    key = open_grant(message, "beta", KeyRing(others))
    assert isinstance(key, MessageKey)


def test_each_of_a_readers_keys_is_granted_to_so_that_each_of_its_devices_reads() -> None:
    devices = [EncryptionKey.generate(), EncryptionKey.generate()]
    key = MessageKey.generate()
    to = [("beta", public_key(device.public)) for device in devices]
    message = encrypt(CLEAR, key, grants=make_grants(key, CLEAR, None, to))
    for device in devices:
        assert open_grant(message, "beta", KeyRing([device])) == key


class TestKeySubstitution:
    """One ciphertext, two keys, two readers: both must not be able to read different things."""

    def test_a_reader_given_another_key_than_the_committed_one_refuses(self) -> None:
        true, other = MessageKey.generate(), MessageKey.generate()
        grants = (
            *make_grants(true, CLEAR, None, keys_of("beta")),
            *make_grants(other, CLEAR, None, keys_of("gamma")),
        )
        message = encrypt(CLEAR, true, grants=grants)
        assert read(reader("beta"), message).content == SECRET
        assert "commits to" in problem(message, "gamma")

    def test_content_that_opens_under_the_second_key_too_has_no_second_meaning(self) -> None:
        true, other = MessageKey.generate(), MessageKey.generate()
        message = encrypt(CLEAR, true, grants=make_grants(other, CLEAR, None, keys_of("gamma")))
        assert message.encryption is not None
        second = crypto_aead_xchacha20poly1305_ietf_encrypt(
            b"we would never go below 99\x80",
            associated_data(message, None),
            message.encryption.nonce,
            other.secret,
        )
        assert "commits to" in problem(message._replace(content=second), "gamma")

    def test_a_reader_given_another_epoch_key_learns_nothing_from_it(self) -> None:
        room = Room("alpha", ["beta", "gamma"])
        opening = room.open(SECRET)
        beta, gamma = grants_of(opening)[1:3]
        (forged,) = make_grants(EpochKey.generate(), opening, room.under, keys_of("gamma"))
        assert gamma.reader == forged.reader == "gamma"
        substituted = regranted(opening, beta, forged)
        victim = reader("gamma")
        assert "commits to" in str(read(victim, substituted).problem)
        assert not victim.channels.keys(room.under)
        assert read(reader("beta"), substituted).content == SECRET


class TestAGrantIsForOnePurpose:
    @pytest.fixture
    def good(self) -> Message:
        return granted_to(CLEAR, "beta")

    def test_replayed_into_another_transaction_it_is_refused(self, good: Message) -> None:
        elsewhere = CLEAR._replace(transaction_id=transaction_id("elsewhere"))
        message = encrypt(elsewhere, MessageKey.generate(), grants=grants_of(good))
        assert "made for another message" in problem(message)

    @pytest.mark.parametrize("change", [{"sequence": 2}, {"sender": "gamma"}], ids=["sequence", "sender"])
    def test_replayed_into_another_message_it_is_refused(
        self, good: Message, change: dict[str, object]
    ) -> None:
        message = good._replace(**change)  # type: ignore[arg-type]
        assert "made for another message" in problem(message)

    def test_given_to_another_reader_it_is_refused(self, good: Message) -> None:
        (grant,) = grants_of(good)
        message = regranted(good, grant._replace(reader="gamma"))
        assert open_grant(good, "beta", KeyRing([encryption_key("beta")]))
        with pytest.raises(GrantError, match="made for another"):
            open_grant(message, "gamma", KeyRing([encryption_key("beta")]))

    def test_of_one_epoch_it_opens_no_other(self) -> None:
        room = Room("alpha", ["beta"], name="syndicate")
        first, later = room.open(), room.next_epoch("beta")
        by = reader("beta")
        assert read(by, first).access == "CHANNEL"
        replayed = regranted(later, *grants_of(first))
        assert "made for another" in str(read(by, replayed).problem)

    def test_of_a_message_it_is_none_of_a_transaction(self) -> None:
        """The same bytes under a channel would open everything that is said in the transaction."""
        message = granted_to(CLEAR, "beta")
        assert message.encryption is not None
        channel = ChannelEpoch(transaction_id("channel"), 0)
        widened = message._replace(encryption=message.encryption._replace(channel=channel))
        assert "made for another message" in problem(widened)


class TestWhatIsNoGrant:
    def test_a_key_granted_to_twice_is_refused(self) -> None:
        with pytest.raises(GrantError, match="granted to twice"):
            granted_to(CLEAR, "beta", "beta")

    def test_a_message_that_names_a_key_twice_is_refused_by_every_reader(self) -> None:
        message = granted_to(CLEAR, "beta", "gamma")
        beta, gamma = grants_of(message)
        twice = regranted(message, beta, gamma, beta._replace(reader="gamma"))
        for name in ("beta", "gamma"):
            assert "granted to twice" in problem(twice, name)

    def test_a_grant_to_a_key_that_is_not_the_readers_opens_for_nobody(self) -> None:
        """Mallory's key under beta's name: beta cannot open it, and mallory was not named."""
        key = MessageKey.generate()
        ((_, public),) = keys_of("mallory")
        message = encrypt(CLEAR, key, grants=make_grants(key, CLEAR, None, [("beta", public)]))
        assert "not readable by beta" in problem(message, "beta")
        assert "not readable by mallory" in problem(message, "mallory")

    @pytest.mark.parametrize("length", [0, 47, 48, 111])
    def test_a_sealed_key_that_is_cut_is_refused(self, length: int) -> None:
        message = granted_to(CLEAR, "beta")
        (grant,) = grants_of(message)
        assert len(grant.sealed_key) == 112
        assert "does not open" in problem(
            regranted(message, grant._replace(sealed_key=grant.sealed_key[:length]))
        )

    @pytest.mark.parametrize("content", [b"", b"short", bytes(32), bytes(63), bytes(64), bytes(65)], ids=len)
    def test_a_box_that_holds_something_else_is_refused(self, content: bytes) -> None:
        box = crypto_box_seal(content, encryption_key("beta").public)
        (grant,) = grants_of(granted_to(CLEAR, "beta"))
        message = granted_to(CLEAR, "beta")
        assert "made for another message" in problem(regranted(message, grant._replace(sealed_key=box)))

    def test_a_box_sealed_to_another_key_under_our_id_is_refused(self) -> None:
        message = granted_to(CLEAR, "gamma")
        (grant,) = grants_of(message)
        moved = regranted(message, grant._replace(reader="beta", key_id=encryption_key("beta").id))
        assert "does not open" in problem(moved)

    @pytest.mark.parametrize("point", SMALL_ORDER)
    def test_nothing_is_sealed_to_a_key_of_small_order(self, point: str) -> None:
        with pytest.raises(EncryptionError, match="no X25519 key that can be sealed to"):
            seal_to(bytes.fromhex(point), b"key")
        public = public_key(bytes.fromhex(point))
        with pytest.raises(EncryptionError):
            make_grants(MessageKey.generate(), CLEAR, None, [("beta", public)])

    @pytest.mark.parametrize("point", SMALL_ORDER)
    def test_a_box_made_with_a_point_of_small_order_does_not_open(self, point: str) -> None:
        message = granted_to(CLEAR, "beta")
        (grant,) = grants_of(message)
        box = bytes.fromhex(point) + grant.sealed_key[32:]
        assert "does not open" in problem(regranted(message, grant._replace(sealed_key=box)))

    @pytest.mark.parametrize("length", [0, 31, 33])
    def test_nothing_is_sealed_to_a_key_of_another_length(self, length: int) -> None:
        with pytest.raises(EncryptionError, match="its holder must make another"):
            seal_to(bytes(length), b"key")


class TestWhomToGrant:
    def test_each_encryption_key_of_the_readers_entry(self) -> None:
        directory = MemoryBackbone("beta").directory
        assert reader_keys(directory, "beta") == (public_key(encryption_key("beta").public),)

    @pytest.mark.parametrize("name", ["ghost", "router"])
    def test_a_stranger_and_a_participant_without_an_encryption_key_cannot_be_readers(
        self, name: str
    ) -> None:
        directory: Directory = MemoryBackbone("beta").directory
        with pytest.raises(EncryptionError, match=f"{name} has no encryption key in the directory"):
            reader_keys(directory, name)


def test_a_key_ring_shows_ids_and_no_keys() -> None:
    key = encryption_key("beta")
    shown = repr(KeyRing([key]))
    assert key.id.hex() in shown
    assert key.private.hex() not in shown
    assert key_id(key.public) == key.id


def test_who_holds_no_keys_reads_what_is_clear_and_says_of_the_rest_that_it_cannot() -> None:
    blind = Reader("beta", None)
    assert read(blind, CLEAR) == (SECRET, "CLEAR", None)
    reading = read(blind, granted_to(CLEAR, "beta"))
    assert isinstance(reading.problem, UnreadableError)
