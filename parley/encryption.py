"""Private content and the hierarchy of keys it is encrypted under; how a key reaches a reader is in ``parley.grants``.

::

    epoch key        random; whoever holds it reads all that is said in an epoch of a channel
      └ transaction key = BLAKE2b(key = epoch key, personal = "parley/txkey/1", transaction id)
          └ message key = BLAKE2b(key = transaction key, personal = "parley/msgkey/1", sequence, sender)

A message outside any channel has a random message key. Every content is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) under
its message key with a fresh nonce of 24 bytes. The associated data binds transaction, sequence, sender, channel epoch and content
type, so that nothing encrypted for one place reads in another.

XChaCha20-Poly1305 commits to no key: one ciphertext can be made that opens under two keys to two texts. So each message states
its **commitment**, SHA-256 of a context and the message key, and a key that does not match is refused before anything is opened.

What is encrypted is the content, one byte 80, and zeros (ISO/IEC 7816-4): as many as make the ciphertext, tag included, a power of
two of at least 256 bytes where padding is asked for, otherwise none.
"""

from __future__ import annotations

from hashlib import blake2b, sha256
from hmac import compare_digest
from struct import Struct

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError
from nacl.utils import random as random_bytes

from parley.errors import EncryptionError
from parley.schemas import ChannelEpoch, Encryption, Hash, KeyGrant, Message, TransactionId

__all__ = [
    "ALGORITHM",
    "KEY_BYTES",
    "ContentKey",
    "EpochKey",
    "MessageKey",
    "TransactionKey",
    "associated_data",
    "commits_to",
    "decrypt",
    "decrypt_committed",
    "encrypt",
    "is_padded",
]

ALGORITHM = "XChaCha20-Poly1305"
"""The only one; a message that names another is refused, not tried."""
KEY_BYTES = 32
LEAST_PADDED = 256
"""Bytes a padded ciphertext has at least."""

_NONCE_BYTES = 24
_TAG_BYTES = 16
_END = b"\x80"
_CONTENT = b"parley/content/1"
_COMMITMENT = b"parley/commitment/1"
_TRANSACTION_KEY = b"parley/txkey/1"
_MESSAGE_KEY = b"parley/msgkey/1"
_KEY_ID = b"parley/keyid/1"
_SEQUENCE = Struct(">q")
_PLACE = Struct(">16sq?16sqH")


def _derived(secret: bytes, personal: bytes, data: bytes) -> bytes:
    # libsodium's crypto_generichash_blake2b_salt_personal, by the standard library: the same in a ninth of the time.
    return blake2b(data, digest_size=KEY_BYTES, key=secret, person=personal).digest()


class ContentKey:
    """A secret key of 32 bytes; shows only its id, and equals its likes."""

    __slots__ = ("secret",)

    def __init__(self, secret: bytes) -> None:
        """Take the 32 bytes.

        Raises:
            EncryptionError: they are not 32.

        """
        if len(secret) != KEY_BYTES:
            raise EncryptionError(
                f"a content key has {KEY_BYTES} bytes, not {len(secret)}; have its sender grant it again"
            )
        self.secret = secret
        """The key itself, to be sealed to a reader or disclosed; for nothing else."""

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and isinstance(other, ContentKey)
            and compare_digest(self.secret, other.secret)
        )

    def __hash__(self) -> int:
        return hash(_derived(self.secret, _KEY_ID, b""))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_derived(self.secret, _KEY_ID, b'').hex()[:16]})"


class MessageKey(ContentKey):
    """Opens one message."""

    __slots__ = ()

    @classmethod
    def generate(cls) -> MessageKey:
        """A new key from the operating system's randomness, for a message outside any channel."""
        return cls(random_bytes(KEY_BYTES))

    def commitment(self) -> Hash:
        """What a message under this key must state, 32 bytes."""
        return Hash(sha256(_COMMITMENT + self.secret).digest())


class TransactionKey(ContentKey):
    """Opens what is said in one transaction under one channel epoch."""

    __slots__ = ()

    def message_key(self, sequence: int, sender: str) -> MessageKey:
        """The key of the sender's message at this place of the transaction."""
        return MessageKey(_derived(self.secret, _MESSAGE_KEY, _SEQUENCE.pack(sequence) + sender.encode()))


class EpochKey(ContentKey):
    """Opens everything that is said in one epoch of a channel."""

    __slots__ = ()

    @classmethod
    def generate(cls) -> EpochKey:
        """A new key from the operating system's randomness."""
        return cls(random_bytes(KEY_BYTES))

    def transaction_key(self, transaction_id: TransactionId) -> TransactionKey:
        """The key of one transaction under this epoch."""
        return TransactionKey(_derived(self.secret, _TRANSACTION_KEY, transaction_id))


def associated_data(message: Message, channel: ChannelEpoch | None) -> bytes:
    """What the content is bound to; every field has a fixed length or states it, so that no two places read alike."""
    sender = message.sender.encode()
    epoch = (False, b"", 0) if channel is None else (True, channel.channel, channel.epoch)
    place = _PLACE.pack(message.transaction_id, message.sequence, *epoch, len(sender))
    return b"".join((_CONTENT, place, sender, message.content_type.encode()))


def encrypt(
    message: Message,
    key: MessageKey,
    *,
    channel: ChannelEpoch | None = None,
    grants: tuple[KeyGrant, ...] = (),
    padded: bool = False,
) -> Message:
    """The message with its content encrypted under ``key``, which those who hold the channel's, or a grant, can tell.

    Everything but the content must be as it will be sent: it is bound to the content.
    """
    nonce = random_bytes(_NONCE_BYTES)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
        _filled(message.content, padded=padded), associated_data(message, channel), nonce, key.secret
    )
    return message._replace(
        content=sealed, encryption=Encryption(ALGORITHM, nonce, grants, channel, key.commitment())
    )


def decrypt(message: Message, key: MessageKey) -> bytes:
    """The content in clear.

    Raises:
        EncryptionError: the message is in clear, names another algorithm, commits to another key, or was changed or cut.

    """
    encryption = message.encryption
    if encryption is None:
        raise EncryptionError("the content is not encrypted; read it as it stands")
    if encryption.commitment is not None and not commits_to(message, key):
        raise EncryptionError(
            "the key is not the one that the message commits to; whoever gave it meant another message, or means to deceive"
        )
    return decrypt_committed(message, key)


def decrypt_committed(message: Message, key: MessageKey) -> bytes:
    """The content in clear, for a key that :func:`commits_to` has shown to be the message's; errors as for :func:`decrypt`."""
    assert message.encryption is not None
    algorithm, nonce, _, channel, commitment = message.encryption
    if algorithm != ALGORITHM:
        raise EncryptionError(
            f"content under {algorithm[:64]!r} is not read, only {ALGORITHM}; have the sender use that"
        )
    if len(nonce) != _NONCE_BYTES or commitment is None:
        raise EncryptionError(
            f"encrypted content states a nonce of {_NONCE_BYTES} bytes and a commitment to its key; have the sender state both"
        )
    try:
        filled = crypto_aead_xchacha20poly1305_ietf_decrypt(
            message.content, associated_data(message, channel), nonce, key.secret
        )
    except (CryptoError, ValueError):
        raise EncryptionError(
            "the content does not open under its own key: it was changed, cut, or encrypted for another place; keep it as evidence"
        ) from None
    content = filled.rstrip(b"\0")
    if not content.endswith(_END):
        raise EncryptionError("the content has no end mark; its sender encrypts otherwise than agreed")
    return content[:-1]


def commits_to(message: Message, key: MessageKey) -> bool:
    """Whether the message says that this is its key."""
    commitment = None if message.encryption is None else message.encryption.commitment
    return commitment is not None and compare_digest(commitment, key.commitment())


def is_padded(ciphertext: bytes) -> bool:
    """Whether a ciphertext has a size that padding gives."""
    size = len(ciphertext)
    return size >= LEAST_PADDED and size & (size - 1) == 0


def _filled(content: bytes, *, padded: bool) -> bytes:
    if not padded:
        return content + _END
    size = len(content) + len(_END) + _TAG_BYTES
    whole = max(LEAST_PADDED, 1 << (size - 1).bit_length())
    return content + _END + bytes(whole - size)
