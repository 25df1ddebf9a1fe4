"""Ed25519 and X25519 keys, and the one definition of a valid signature; where keys are kept is the keystore's affair.

Validity is libsodium's strict verification: RFC 8032 §5.1.7 without the cofactor, S canonical, and neither the public key
nor R of small order or non-canonical; over the bytes as received. A batch is judged exactly as its members would be one by
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from hashlib import sha256
from typing import NamedTuple

from nacl.bindings import crypto_box_seal, crypto_sign_open
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox
from nacl.signing import SigningKey as _NaclSigningKey

from parley.errors import EncryptionError, SigningError, UnsealingError
from parley.schemas import KeyId, PublicKey

__all__ = [
    "EncryptionKey",
    "SignatureClaim",
    "SigningKey",
    "key_id",
    "public_key",
    "seal_to",
    "verify",
    "verify_batch",
]


def key_id(public: bytes) -> KeyId:
    """The first 16 bytes of SHA-256 of a public key (32 bytes)."""
    return KeyId(sha256(public).digest()[:16])


def public_key(public: bytes) -> PublicKey:
    """A public key (32 bytes) with its id."""
    return PublicKey(key_id(public), public)


class SigningKey:
    """An Ed25519 private key; shows only its public half."""

    __slots__ = ("_key", "id", "public")

    def __init__(self, seed: bytes) -> None:
        """Take a 32-byte seed (RFC 8032 private key).

        Raises:
            SigningError: the seed is not 32 bytes.

        """
        if len(seed) != 32:
            raise SigningError(
                f"an Ed25519 seed has 32 bytes, not {len(seed)}; make one with `parley keygen`"
            )
        self._key = _NaclSigningKey(seed)
        self.public: bytes = bytes(self._key.verify_key)
        """The public key, 32 bytes."""
        self.id: KeyId = key_id(self.public)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls(bytes(_NaclSigningKey.generate()))

    @property
    def seed(self) -> bytes:
        """The 32-byte private seed, for a keystore only."""
        return bytes(self._key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of ``message``."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"SigningKey({self.id.hex()})"


class EncryptionKey:
    """An X25519 private key; shows only its public half."""

    __slots__ = ("_key", "id", "public")

    def __init__(self, private: bytes) -> None:
        """Take a 32-byte private key (RFC 7748).

        Raises:
            SigningError: it is not 32 bytes.

        """
        if len(private) != 32:
            raise SigningError(
                f"an X25519 private key has 32 bytes, not {len(private)}; make one with `parley keygen`"
            )
        self._key = PrivateKey(private)
        self.public: bytes = bytes(self._key.public_key)
        """The public key, 32 bytes."""
        self.id: KeyId = key_id(self.public)

    @classmethod
    def generate(cls) -> EncryptionKey:
        """A new key from the operating system's randomness."""
        return cls(bytes(PrivateKey.generate()))

    @property
    def private(self) -> bytes:
        """The 32-byte private key, for a keystore only."""
        return bytes(self._key)

    def unseal(self, box: bytes) -> bytes:
        """What was sealed to this key (libsodium's ``crypto_box_seal``: 32-byte ephemeral key, then the box).

        Raises:
            UnsealingError: the box is cut, changed, sealed to another key, or its ephemeral key is of small order.

        """
        try:
            return SealedBox(self._key).decrypt(box)
        except (CryptoError, TypeError, ValueError):
            raise UnsealingError(
                f"a sealed box of {len(box)} bytes does not open with key {self.id.hex()}:"
                " damaged, or sealed to another; have it sealed again"
            ) from None

    def __repr__(self) -> str:
        return f"EncryptionKey({self.id.hex()})"


def seal_to(public: bytes, data: bytes) -> bytes:
    """The data sealed to the holder of an X25519 public key (32 bytes): libsodium's sealed box, 48 bytes longer.

    Raises:
        EncryptionError: the key is not 32 bytes, or of small order, so that anybody could open what is sealed to it.

    """
    try:
        return crypto_box_seal(data, public)
    except (CryptoError, ValueError):
        raise EncryptionError(
            f"key {key_id(public).hex()} is no X25519 key that can be sealed to; its holder must make another"
        ) from None


class SignatureClaim(NamedTuple):
    """That ``signature`` over ``message`` was made by the holder of ``public``; yet to be judged."""

    public: bytes
    message: bytes
    signature: bytes


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature (64 bytes) over the message is valid under the public key (32 bytes).

    False for small-order or non-canonical keys and R, non-canonical S, and wrong lengths.
    """
    if len(signature) != 64 or len(public) != 32:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except (CryptoError, ValueError):
        return False
    return True


def verify_batch(
    claims: Sequence[SignatureClaim], executor: Executor | None = None, ways: int = 1
) -> list[bool]:
    """Judge many claims, in order, split over ``ways`` threads of ``executor`` (libsodium releases the interpreter's lock)."""
    if executor is None or ways < 2 or len(claims) < 8:
        return [verify(*claim) for claim in claims]
    share = -(-len(claims) // ways)
    parts = [claims[start : start + share] for start in range(0, len(claims), share)]
    rest = [executor.submit(verify_batch, part) for part in parts[1:]]
    verdicts = verify_batch(parts[0])
    for part in rest:
        verdicts += part.result()
    return verdicts
