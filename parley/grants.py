"""Key grants: a content key sealed to one reader, for one purpose; which keys were learnt so is for ``parley.reading``.

What is sealed (X25519 sealed box) is the key and SHA-256 of what it is for: scope, transaction, sequence, sender, channel epoch,
reader and the reader's key. A grant copied into another message, or to another reader, is refused by whoever opens it.

What a grant's key opens follows from the message that carries it:

- **MESSAGE** outside any channel: this message alone.
- **EPOCH** in the opening of a channel's epoch: everything under that epoch. So only the channel's opener grants its keys.
- **TRANSACTION** in another message under a named channel: this transaction alone, for a reader who is no member.

Elsewhere a message carries no grants.

A grant to a party that is named by a sealed address (``parley.sealed_address``) must not tell who it is: its reader is that address
and its key id is zero, the key itself is known only inside the box, and its reader finds it by trying its own keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from hmac import compare_digest
from struct import Struct

from parley.custody import Decryptor
from parley.directory import Directory
from parley.encryption import KEY_BYTES, ContentKey, EpochKey, MessageKey, TransactionKey
from parley.errors import EncryptionError, GrantError, KeystoreError, UnsealingError
from parley.keys import EncryptionKey, seal_to
from parley.schemas import ChannelEpoch, KeyGrant, KeyId, Message, PublicKey, Scope

__all__ = [
    "ANONYMOUS",
    "CHANNEL_KIND",
    "KeyRing",
    "check_grants",
    "make_grants",
    "open_grant",
    "reader_keys",
    "scope_of",
]

CHANNEL_KIND = "channel"
"""Kind of the transactions that open a named channel's epochs."""

ANONYMOUS = KeyId(bytes(16))
"""In place of the id of a hidden reader's key."""

_GRANT = b"parley/grant/1"
_PURPOSE = Struct(">B16sq?16sq16sHH")
_SCOPES: dict[Scope, tuple[int, type[ContentKey]]] = {
    "MESSAGE": (0, MessageKey),
    "TRANSACTION": (1, TransactionKey),
    "EPOCH": (2, EpochKey),
}


class KeyRing:
    """A decryptor of keys in memory; a keystore is one of keys in a file."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[EncryptionKey]) -> None:
        self._keys = {key.id: key for key in keys}

    @property
    def encryption_key_ids(self) -> tuple[KeyId, ...]:
        """As `parley.custody.Decryptor` says."""
        return tuple(self._keys)

    def unseal(self, key_id: KeyId, box: bytes) -> bytes:
        """As `parley.custody.Decryptor` says."""
        held = self._keys.get(key_id)
        if held is None:
            raise KeystoreError(
                f"no encryption key {key_id.hex()} here; restore the backup that has it to open what was sealed to it"
            )
        return held.unseal(box)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(key.hex() for key in self._keys)})"


def scope_of(message: Message) -> Scope:
    """What a key granted in this message opens.

    Raises:
        GrantError: a message like this carries no grants.

    """
    channel = None if message.encryption is None else message.encryption.channel
    if channel is None:
        return "MESSAGE"
    own = channel.channel == message.transaction_id
    if message.terms is not None and (own or message.terms.kind == CHANNEL_KIND):
        return "EPOCH"
    if own:
        raise GrantError(
            "a channel's keys are granted where an epoch of it is opened, by its opener; refuse what is granted elsewhere"
        )
    return "TRANSACTION"


def reader_keys(directory: Directory, reader: str) -> tuple[PublicKey, ...]:
    """The valid encryption keys of a reader, each of which is granted to.

    Raises:
        EncryptionError: the reader is not in the directory, or has none.

    """
    keys = directory.encryption_keys(reader)
    if not keys:
        raise EncryptionError(
            f"{reader} has no encryption key in the directory; it must join with one before it can be granted anything"
        )
    return keys


def make_grants(
    key: ContentKey, message: Message, channel: ChannelEpoch | None, readers: Iterable[tuple[str, PublicKey]]
) -> tuple[KeyGrant, ...]:
    """The key, sealed to each reader for this message, which need not be encrypted yet; a sealed address is a hidden reader.

    Raises:
        EncryptionError: a reader's key cannot be sealed to.
        GrantError: a key, or a hidden reader, is named twice.

    """
    scope = next(name for name, (_, kind) in _SCOPES.items() if kind is type(key))
    grants = tuple(
        KeyGrant(
            reader,
            ANONYMOUS if ":" in reader else public.key_id,
            seal_to(public.public_key, key.secret + _purpose(scope, message, channel, reader, public.key_id)),
        )
        for reader, public in readers
    )
    _check_distinct(grants)
    return grants


def check_grants(message: Message) -> None:
    """Demand that the message may carry the grants it carries, each to another key or hidden reader.

    Raises:
        GrantError: it may not, a key is named twice, or one is named where the reader is hidden.

    """
    if message.encryption is not None and message.encryption.grants:
        if any((":" in grant.reader) != (grant.key_id == ANONYMOUS) for grant in message.encryption.grants):
            raise GrantError(
                "a grant to a sealed address names no key, and every other names one; refuse the message"
            )
        _check_distinct(message.encryption.grants)
        scope_of(message)


def open_grant(message: Message, reader: str, decryptor: Decryptor) -> ContentKey | None:
    """The key that the message (:func:`check_grants`) grants to ``reader``; ``None`` if none, or none to a key we hold.

    Grants to hidden readers are tried with each of our keys, where none names us. That it is the key the message commits to remains to be checked.

    Raises:
        GrantError: the grant does not open, or was made for something else.

    """
    encryption = message.encryption
    if encryption is None:
        return None
    for grant in encryption.grants:
        if grant.reader == reader:
            try:
                opened = decryptor.unseal(grant.key_id, grant.sealed_key)
            except KeystoreError:
                continue
            except UnsealingError as error:
                raise GrantError(f"the grant to {reader} is none: {error}") from error
            return _granted(message, encryption.channel, reader, grant.key_id, opened)
    for grant in encryption.grants:
        if grant.key_id == ANONYMOUS:
            for key_id in decryptor.encryption_key_ids:
                with suppress(UnsealingError):
                    opened = decryptor.unseal(key_id, grant.sealed_key)
                    return _granted(message, encryption.channel, grant.reader, key_id, opened)
    return None


def _granted(
    message: Message, channel: ChannelEpoch | None, reader: str, key_id: KeyId, opened: bytes
) -> ContentKey:
    """The key in an opened grant; raises GrantError where it was made for something else."""
    scope = scope_of(message)
    secret, purpose = opened[:KEY_BYTES], opened[KEY_BYTES:]
    expected = _purpose(scope, message, channel, reader, key_id)
    if len(secret) != KEY_BYTES or not compare_digest(purpose, expected):
        raise GrantError(
            f"the grant to {reader} was made for another message, reader or channel; refuse it, and ask the sender for its own"
        )
    return _SCOPES[scope][1](secret)


def _check_distinct(grants: Sequence[KeyGrant]) -> None:
    named = {grant.reader if grant.key_id == ANONYMOUS else grant.key_id for grant in grants}
    if len(named) != len(grants):
        raise GrantError(
            "a key is granted to twice in one message; refuse the message, each key has one grant"
        )


def _purpose(scope: Scope, message: Message, channel: ChannelEpoch | None, reader: str, key: KeyId) -> bytes:
    """SHA-256 of what a grant is for."""
    sender, to = message.sender.encode(), reader.encode()
    epoch = (False, b"", 0) if channel is None else (True, channel.channel, channel.epoch)
    fixed = _PURPOSE.pack(
        _SCOPES[scope][0], message.transaction_id, message.sequence, *epoch, key, len(sender), len(to)
    )
    return sha256(b"".join((_GRANT, fixed, sender, to))).digest()
