"""Sealed addresses: a party named so that only the router can tell who receives, until that party speaks; pure.

The text is ``sealed:<key id>:<box>``: the id of the router's X25519 key in hexadecimal, and 240 bytes in base64url. They are a
libsodium sealed box (``crypto_box_seal``: ephemeral key, then XSalsa20-Poly1305) of 192 bytes, the same for every address::

    transaction id (16) | SHA-256 of the sealer's name, cut (16) | secret (32) | address, filled up with zero bytes (128)

The ephemeral private key is BLAKE2b of the secret. So three can open the box: the router with its key; the sealer; and whoever
is shown the secret, who needs nothing but the router's public key, and sees that no other box was ever there: the ephemeral
key fixes what the box can hold. The router shows it to the receiver, beside what it delivers. When the receiver speaks, its
message shows it to everybody, so that nobody has to take the router's word for who spoke.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b, sha256
from typing import Final, NamedTuple, Protocol

from nacl.bindings import crypto_box, crypto_box_open, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from parley.directory import Directory
from parley.errors import MalformedError, SigningError, UnsealingError, VerificationError
from parley.identifiers import is_name, is_sealed_address
from parley.schemas import (
    Hash,
    KeyId,
    Message,
    PublicKey,
    Reference,
    SealedDelivery,
    TransactionId,
    decode,
    is_a,
)

__all__ = [
    "RELATION",
    "Hidden",
    "Opened",
    "Seal",
    "Unsealer",
    "key_of",
    "open_with_key",
    "open_with_secret",
    "seal_address",
    "sealer_of",
    "showing",
    "speaker_of",
    "unwrap",
]

RELATION: Final = "sealed-address"
"""Of the reference by which a hidden party shows that a sealed address is its own."""

_ADDRESS_LENGTH: Final = 128
_EPHEMERAL_LENGTH: Final = 32
_SECRET_LENGTH: Final = 32
_NONCE_LENGTH: Final = 24
_PERSON: Final = b"parley address"


class Hidden(NamedTuple):
    """A party that a new transaction is to name by a sealed address."""

    participant: str
    address: str | None = None
    """Where it receives; ``None`` for its default address."""


class Seal(NamedTuple):
    """A sealed address and the secret that opens it."""

    text: str
    secret: bytes
    """32 bytes."""


class Opened(NamedTuple):
    """What a sealed address holds."""

    address: str
    transaction_id: TransactionId
    """The only one that it is good for."""
    sealer: bytes
    """Who may bring it in: :func:`sealer_of` the sender, 16 bytes."""
    secret: bytes


class Unsealer(Protocol):
    """Whatever opens sealed boxes: ``parley.keys.EncryptionKey``."""

    def unseal(self, box: bytes, /) -> bytes: ...


def seal_address(
    address: str, key: PublicKey, transaction_id: TransactionId, sender: str, secret: bytes | None = None
) -> Seal:
    """Seal an address to the router's key, for one transaction and for ``sender`` to bring in; fresh each time.

    Raises:
        MalformedError: the address is not well formed.
        SigningError: the key is of small order, or no X25519 key.

    """
    if not is_name(address):
        raise MalformedError(f"{address[:200]!r} is no address; look it up in the directory")
    secret = secrets.token_bytes(_SECRET_LENGTH) if secret is None else secret
    ephemeral, public = _ephemeral(secret)
    content = transaction_id + sealer_of(sender) + secret + address.encode().ljust(_ADDRESS_LENGTH, b"\0")
    try:
        box = crypto_box(content, _nonce(public, key.public_key), key.public_key, ephemeral)
    except CryptoError:
        raise SigningError(f"nothing can be sealed to key {key.key_id.hex()}; ask the operator") from None
    text = urlsafe_b64encode(public + box).decode()
    return Seal(f"sealed:{key.key_id.hex()}:{text}", secret)


def sealer_of(sender: str) -> bytes:
    """What stands in a sealed address for the name of the sender who brings it in; 16 bytes."""
    return sha256(sender.encode()).digest()[:16]


def key_of(text: str) -> KeyId:
    """The router's key that an address is sealed to.

    Raises:
        MalformedError: this is no sealed address.

    """
    return _parse(text)[0]


def open_with_key(text: str, key: Unsealer) -> Opened:
    """Open a sealed address with the router's key that it names.

    Raises:
        MalformedError: this is no sealed address.
        UnsealingError: the box does not open, or holds something else than an address.

    """
    _, box = _parse(text)
    opened = _read(key.unseal(box))
    if opened is None or _ephemeral(opened.secret)[1] != box[:_EPHEMERAL_LENGTH]:
        raise UnsealingError("the sealed address holds something else than an address; have it sealed again")
    return opened


def open_with_secret(text: str, secret: bytes, router_key: bytes) -> Opened:
    """Open a sealed address with the secret that its receiver shows, and the router's public key (32 bytes).

    Raises:
        MalformedError: this is no sealed address.
        VerificationError: the secret is of another one, or the box holds something else than an address.

    """
    _, box = _parse(text)
    ephemeral, public = _ephemeral(secret)
    if public == box[:_EPHEMERAL_LENGTH]:
        try:
            content = crypto_box_open(
                box[_EPHEMERAL_LENGTH:], _nonce(public, router_key), router_key, ephemeral
            )
        except CryptoError:
            content = b""
        opened = _read(content)
        if opened is not None and opened.secret == secret:
            return opened
    raise VerificationError(
        "what is shown does not open the sealed address; nobody has proved to be behind it"
    )


def showing(seal: Seal) -> Reference:
    """The reference by which a message shows that its sender is behind a sealed address."""
    return Reference(RELATION, None, Hash(sha256(seal.text.encode()).digest()), None, seal.secret.hex())


def speaker_of(message: Message, directory: Directory) -> str:
    """The participant who says to have sent the message: the sender, or who the sealed address it speaks by belongs to.

    Raises:
        VerificationError: the message does not show whose the sealed address is.

    """
    sender = message.sender
    if ":" not in sender:
        return sender
    digest = sha256(sender.encode()).digest()
    for reference in message.references:
        if reference.relation == RELATION and reference.digest == digest:
            opened = _opened_for_all(sender, reference.location or "", directory)
            owner = directory.reserved_for(opened.address)
            if owner is not None and opened.transaction_id == message.transaction_id:
                return owner
            raise VerificationError("the sealed address is of another transaction, or nobody's")
    raise VerificationError(
        "a hidden party spoke without showing that the sealed address is its own; the message needs the reference"
    )


def _opened_for_all(text: str, shown: str, directory: Directory) -> Opened:
    try:
        secret = bytes.fromhex(shown)
        held = directory.holder(key_of(text))
    except (ValueError, MalformedError):
        raise VerificationError("what is shown of the sealed address cannot be read") from None
    if held is None or held.signs:
        raise VerificationError("the address is sealed to a key that is not in the directory")
    return open_with_secret(text, secret, held.public_key)


def unwrap(record: bytes) -> tuple[bytes, Seal | None]:
    """An inbox record, and what it came by where that was a sealed address.

    Raises:
        WireError: it is not what it says to be.

    """
    if not is_a(record, SealedDelivery):
        return record, None
    item, address, secret = decode(record, SealedDelivery)
    return item, Seal(address, secret)


def _parse(text: str) -> tuple[KeyId, bytes]:
    if not is_sealed_address(text):
        raise MalformedError(
            f"a sealed address is sealed:<key id>:<box>, 360 characters; this has {len(text)}: have it sealed again"
        )
    _, key, box = text.split(":")
    return KeyId(bytes.fromhex(key)), urlsafe_b64decode(box)


def _read(content: bytes) -> Opened | None:
    transaction_id, sealer, secret, padded = content[:16], content[16:32], content[32:64], content[64:]
    try:
        address = padded.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        return None
    if len(padded) != _ADDRESS_LENGTH or not is_name(address):
        return None
    return Opened(address, TransactionId(transaction_id), sealer, secret)


def _ephemeral(secret: bytes) -> tuple[bytes, bytes]:
    """The ephemeral X25519 key that belongs to a secret: private and public half."""
    private = blake2b(secret, digest_size=32, person=_PERSON).digest()
    return private, crypto_scalarmult_base(private)


def _nonce(ephemeral: bytes, public: bytes) -> bytes:
    """As libsodium's ``crypto_box_seal`` makes it."""
    return blake2b(ephemeral + public, digest_size=_NONCE_LENGTH).digest()
