"""Content under its key: what it is bound to, and everything that must not open."""

from __future__ import annotations

import pytest
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_generichash_blake2b_salt_personal,
)

from parley.encryption import (
    ALGORITHM,
    EpochKey,
    MessageKey,
    TransactionKey,
    associated_data,
    decrypt,
    encrypt,
    is_padded,
)
from parley.errors import EncryptionError
from parley.schemas import ChannelEpoch, Encryption, Message, TransactionId
from tests.dialogue import Dialogue, transaction_id

CLEAR = Dialogue.between("alpha", "beta", opened_at=1_800_000_000_000).message(
    "alpha", content=b"the price is 99.5"
)
CHANNEL = ChannelEpoch(transaction_id("channel"), 3)
KEY = MessageKey(bytes(range(32)))


def encryption_of(message: Message) -> Encryption:
    assert message.encryption is not None
    return message.encryption


@pytest.fixture
def said() -> Message:
    return encrypt(CLEAR, KEY, channel=CHANNEL)


def test_what_was_encrypted_reads_under_its_key_and_shows_nothing_without(said: Message) -> None:
    assert decrypt(said, KEY) == CLEAR.content
    assert CLEAR.content not in said.content
    assert said._replace(content=CLEAR.content, encryption=None) == CLEAR


def test_the_same_words_never_look_the_same_twice(said: Message) -> None:
    again = encrypt(CLEAR, KEY, channel=CHANNEL)
    assert again.content != said.content
    assert encryption_of(again).nonce != encryption_of(said).nonce


@pytest.mark.parametrize(
    "change",
    [
        {"transaction_id": transaction_id("another")},
        {"sequence": 1},
        {"sender": "beta"},
        {"content_type": "text/html"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_content_moved_to_another_place_does_not_open(said: Message, change: dict[str, object]) -> None:
    with pytest.raises(EncryptionError, match="changed, cut, or encrypted for another place"):
        decrypt(said._replace(**change), KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "channel",
    [None, CHANNEL._replace(epoch=4), CHANNEL._replace(channel=transaction_id("another"))],
    ids=["no channel", "another epoch", "another channel"],
)
def test_content_moved_to_another_channel_epoch_does_not_open(
    said: Message, channel: ChannelEpoch | None
) -> None:
    moved = said._replace(encryption=encryption_of(said)._replace(channel=channel))
    with pytest.raises(EncryptionError, match="changed, cut, or encrypted for another place"):
        decrypt(moved, KEY)


def test_no_two_places_have_the_same_associated_data() -> None:
    """What would read alike if lengths were not stated."""
    one = CLEAR._replace(sender="alpha", content_type="text/plain")
    other = CLEAR._replace(sender="alphat", content_type="ext/plain")
    assert associated_data(one, None) != associated_data(other, None)
    zero = ChannelEpoch(TransactionId(bytes(16)), 0)
    assert associated_data(one, zero) != associated_data(one, None)


@pytest.mark.parametrize("algorithm", ["", "none", "AES-256-GCM", "ChaCha20-Poly1305", "xchacha20-poly1305"])
def test_another_algorithm_is_refused_and_never_tried(said: Message, algorithm: str) -> None:
    downgraded = said._replace(encryption=encryption_of(said)._replace(algorithm=algorithm))
    with pytest.raises(EncryptionError, match=f"only {ALGORITHM}"):
        decrypt(downgraded, KEY)


def test_a_truncated_ciphertext_is_refused_at_every_length(said: Message) -> None:
    for length in range(len(said.content)):
        with pytest.raises(EncryptionError, match="changed, cut"):
            decrypt(said._replace(content=said.content[:length]), KEY)


@pytest.mark.parametrize("length", [0, 12, 23, 25, 32])
def test_a_nonce_of_another_length_is_refused(said: Message, length: int) -> None:
    broken = said._replace(encryption=encryption_of(said)._replace(nonce=bytes(length)))
    with pytest.raises(EncryptionError, match="a nonce of 24 bytes"):
        decrypt(broken, KEY)


def test_a_message_without_a_commitment_is_refused(said: Message) -> None:
    silent = said._replace(encryption=encryption_of(said)._replace(commitment=None))
    with pytest.raises(EncryptionError, match="a commitment to its key"):
        decrypt(silent, KEY)


def test_a_key_that_the_message_does_not_commit_to_is_refused_before_anything_is_opened(
    said: Message,
) -> None:
    """Even where it would open: a ciphertext made for two keys means one thing only."""
    other = MessageKey(bytes(32))
    nonce = encryption_of(said).nonce
    forged = crypto_aead_xchacha20poly1305_ietf_encrypt(
        b"another meaning\x80", associated_data(said, CHANNEL), nonce, other.secret
    )
    with pytest.raises(EncryptionError, match="not the one that the message commits to"):
        decrypt(said._replace(content=forged), other)


def test_content_without_its_end_mark_is_refused() -> None:
    message = encrypt(CLEAR, KEY)
    for filling in (b"", b"no mark", bytes(40)):
        content = crypto_aead_xchacha20poly1305_ietf_encrypt(
            filling, associated_data(message, None), encryption_of(message).nonce, KEY.secret
        )
        with pytest.raises(EncryptionError, match="no end mark"):
            decrypt(message._replace(content=content), KEY)


def test_clear_content_is_not_decrypted() -> None:
    with pytest.raises(EncryptionError, match="not encrypted"):
        decrypt(CLEAR, KEY)


@pytest.mark.parametrize("length", [0, 1, 238, 239, 240, 255, 256, 495, 496, 5_000, (1 << 20) - 17])
def test_padded_content_has_the_size_of_a_power_of_two_and_comes_back_whole(length: int) -> None:
    content = bytes(length)
    message = encrypt(CLEAR._replace(content=content), KEY, padded=True)
    size = len(message.content)
    assert size >= max(256, length)
    assert size & (size - 1) == 0
    assert size < max(257, 2 * (length + 17))
    assert is_padded(message.content)
    assert decrypt(message, KEY) == content


def test_padding_hides_which_of_two_answers_was_given() -> None:
    yes, no = (
        encrypt(CLEAR._replace(content=word), KEY, padded=True) for word in (b"yes", b"no, not at that price")
    )
    assert len(yes.content) == len(no.content)
    yes, no = (encrypt(CLEAR._replace(content=word), KEY) for word in (b"yes", b"no, not at that price"))
    assert len(yes.content) != len(no.content)


class TestTheHierarchy:
    EPOCH = EpochKey(bytes(32))

    def test_every_transaction_sequence_and_sender_has_a_key_of_its_own(self) -> None:
        one, other = (self.EPOCH.transaction_key(transaction_id(name)) for name in ("one", "other"))
        keys = {
            key.message_key(sequence, sender).secret
            for key in (one, other)
            for sequence in (0, 1, 256)
            for sender in ("alpha", "beta")
        }
        assert len(keys) == 12
        assert not keys & {one.secret, other.secret, self.EPOCH.secret}

    def test_the_derivation_is_the_one_that_is_written_down(self) -> None:
        """Fixed values: whoever changes the hierarchy makes history unreadable."""
        transaction = self.EPOCH.transaction_key(TransactionId(bytes(16)))
        message = transaction.message_key(1, "alpha")
        assert transaction.secret.hex() == "907b512cd461b9ccc8b99264e4dfb9303b5e1af38e0becedd76c854c171ab915"
        assert message.secret.hex() == "75bc474fdb14babc8a86e7ed170b4a1a536fb1b192b47ebdef037b3ef514118c"
        assert (
            message.commitment().hex() == "07f14572f98119fea39eabe7c875e00a2ab74e1c85993e8747c61bf9ec3937fe"
        )

    def test_the_derivation_is_libsodiums(self) -> None:
        identity = transaction_id("any")
        transaction = self.EPOCH.transaction_key(identity)
        derived = crypto_generichash_blake2b_salt_personal(
            identity, 32, self.EPOCH.secret, person=b"parley/txkey/1"
        )
        assert transaction.secret == derived
        derived = crypto_generichash_blake2b_salt_personal(
            (7).to_bytes(8, "big") + b"alpha", 32, transaction.secret, person=b"parley/msgkey/1"
        )
        assert transaction.message_key(7, "alpha").secret == derived

    def test_a_key_of_one_level_is_not_one_of_another(self) -> None:
        assert TransactionKey(bytes(32)) != EpochKey(bytes(32))
        assert TransactionKey(bytes(32)) == TransactionKey(bytes(32))
        assert len({TransactionKey(bytes(32)), TransactionKey(bytes(32)), EpochKey(bytes(32))}) == 2

    @pytest.mark.parametrize("kind", [EpochKey, TransactionKey, MessageKey])
    def test_a_key_shows_its_id_and_never_itself(self, kind: type[EpochKey]) -> None:
        key = kind(b"a secret that nobody may print..")
        assert "secret" not in f"{key!r} {key}"
        assert key.secret.hex() not in repr(key)
        assert repr(key) == repr(kind(key.secret)) != repr(kind(bytes(32)))

    @pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
    def test_a_key_has_32_bytes(self, length: int) -> None:
        with pytest.raises(EncryptionError, match="a content key has 32 bytes"):
            EpochKey(bytes(length))
