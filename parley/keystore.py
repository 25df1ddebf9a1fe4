"""One participant's private keys in a file under a password; what they are for is their user's affair.

A key is never taken out: what was sealed to an old encryption key stays readable, here and from a copy.

The file, version 1 (integers big-endian)::

    magic "PARLEYKS" | version 1 B | Argon2id operations 4 B | memory in KiB 4 B | salt 16 B | nonce 24 B
    XChaCha20-Poly1305 of the keys (JSON), with all the bytes above as associated data
    SHA-256 of everything above

Argon2id (RFC 9106) turns the password into the key; its cost stands in the file and is bounded when read. The
digest at the end is no protection: it tells a damaged file from a wrong password before any work is done.
Files are mode 0600, never reached through a symbolic link, and replaced as a whole: a crash leaves the old
file or the new one.
"""

from __future__ import annotations

import json
import secrets
import struct
import unicodedata
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from parley.errors import KeystoreError, SigningError
from parley.identifiers import is_name
from parley.keys import EncryptionKey, SigningKey
from parley.private_files import read_private, replace, write_new
from parley.schemas import KeyId

__all__ = ["INTERACTIVE", "MODERATE", "Cost", "Keystore", "NamedKey"]

_MAGIC = b"PARLEYKS"
_VERSION = 1
_HEADER = struct.Struct(">8sBII16s24s")
_DIGEST_LENGTH = 32
_NONCE_LENGTH = 24
_TAG_LENGTH = 16
_KEY_LENGTH = 32
_KIB = 1024

_Key = TypeVar("_Key", SigningKey, EncryptionKey)


class Cost(NamedTuple):
    """What one guess of the password costs: Argon2id passes (1–10), and memory in bytes (8 KiB–1 GiB)."""

    operations: int
    memory: int


INTERACTIVE = Cost(2, 64 << 20)
"""About 0.1 s: for a key on a machine that is trusted anyway, such as a service's."""
MODERATE = Cost(3, 256 << 20)
"""About 0.7 s: for a file that may be copied away."""

_LEAST_COST = Cost(1, 8 * _KIB)
_GREATEST_COST = Cost(10, 1 << 30)


class NamedKey(NamedTuple):
    """A key under its owner's name for it. The active one of its kind is used; others only read history."""

    name: str
    key: SigningKey | EncryptionKey
    active: bool


class Keystore:
    """The keys of one participant, in the order they were added, with the file that holds them.

    Changes are in memory until ``save``. Every method raises only KeystoreError, which says what to do and
    never holds the password or a private key.
    """

    __slots__ = ("_digest", "_keys", "_lock", "participant", "path")

    def __init__(
        self, path: Path, participant: str, keys: tuple[NamedKey, ...], lock: _Lock, digest: bytes
    ) -> None:
        """Not for callers, who ``create`` or ``open`` one."""
        self.path = path
        self.participant = participant
        self._keys = keys
        self._lock = lock
        self._digest = digest

    @classmethod
    def create(cls, path: Path, participant: str, password: str, *, cost: Cost = MODERATE) -> Keystore:
        """A new, empty keystore, written to a file that must not exist yet.

        Raises:
            KeystoreError: the file exists or cannot be written, or name, password or cost are not usable.

        """
        if not is_name(participant):
            raise KeystoreError(
                f"participant {participant!r}: use 1 to 128 of a-z 0-9 . -, no . or - at the ends"
            )
        store = cls(path, participant, (), _Lock.fresh(password, cost), b"")
        data = store._encode()
        write_new(path, data)
        store._digest = data[-_DIGEST_LENGTH:]
        return store

    @classmethod
    def open(cls, path: Path, password: str) -> Keystore:
        """The keystore in a file.

        Raises:
            KeystoreError: no such file, unsafe permissions, a damaged file, or a wrong password.

        """
        data = read_private(path)
        body, digest = data[:-_DIGEST_LENGTH], data[-_DIGEST_LENGTH:]
        if (
            len(body) < _HEADER.size + _TAG_LENGTH
            or not body.startswith(_MAGIC)
            or sha256(body).digest() != digest
        ):
            raise KeystoreError(f"{path}: damaged, cut, or not a keystore; restore it from a backup")
        _, version, operations, memory, salt, nonce = _HEADER.unpack_from(body)
        if version != _VERSION:
            raise KeystoreError(
                f"{path}: keystore version {version}, this software reads {_VERSION}; upgrade it"
            )
        lock = _Lock.derive(password, salt, Cost(operations, memory * _KIB))
        header, sealed = body[: _HEADER.size], body[_HEADER.size :]
        try:
            content = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, header, nonce, lock.key)
        except CryptoError:
            raise KeystoreError(
                f"{path}: wrong password; try again, or restore the file if it was altered"
            ) from None
        participant, keys = _parse_content(content, path)
        return cls(path, participant, keys, lock, digest)

    @property
    def keys(self) -> tuple[NamedKey, ...]:
        """All keys, oldest first."""
        return self._keys

    def signing_key(self) -> SigningKey:
        """The active signing key.

        Raises:
            KeystoreError: there is none.

        """
        return self._active(SigningKey, "signing")

    def encryption_key(self) -> EncryptionKey:
        """The active encryption key.

        Raises:
            KeystoreError: there is none.

        """
        return self._active(EncryptionKey, "encryption")

    def signing_keys(self) -> tuple[SigningKey, ...]:
        """All signing keys, newest (active) first."""
        return self._of_kind(SigningKey)

    def encryption_keys(self) -> tuple[EncryptionKey, ...]:
        """All encryption keys, newest (active) first: what was sealed to an old one stays readable."""
        return self._of_kind(EncryptionKey)

    @property
    def encryption_key_ids(self) -> tuple[KeyId, ...]:
        """As `parley.custody.Decryptor` says."""
        return tuple(key.id for key in self.encryption_keys())

    def unseal(self, key_id: KeyId, box: bytes) -> bytes:
        """What was sealed to our encryption key of this id, however old (`parley.custody.Decryptor`).

        Raises:
            KeystoreError: no such key is held here.
            UnsealingError: the box does not open with it.

        """
        for held in self._keys:
            if held.key.id == key_id and isinstance(held.key, EncryptionKey):
                return held.key.unseal(box)
        raise KeystoreError(
            f"{self.path}: no encryption key {key_id.hex()}, so what was sealed to it stays closed;"
            " restore the backup that has it"
        )

    def copy_to(self, path: Path, password: str, *, cost: Cost = MODERATE) -> Keystore:
        """All keys under a password of their own, in a new file; what is given back was read from it with that password.

        Raises:
            KeystoreError: the file exists or cannot be written, or password or cost are not usable.

        """
        copy = Keystore(path, self.participant, self._keys, _Lock.fresh(password, cost), b"")
        write_new(path, copy._encode())
        return Keystore.open(path, password)

    def add(self, name: str, key: SigningKey | EncryptionKey) -> None:
        """Add a key and make it the active one of its kind; the one before it is kept.

        Raises:
            KeystoreError: the name is not usable, or name or key are in the keystore already.

        """
        if not is_name(name):
            raise KeystoreError(f"key name {name!r}: use 1 to 128 of a-z 0-9 . -, no . or - at the ends")
        if any(held.name == name or held.key.id == key.id for held in self._keys):
            raise KeystoreError(
                f"key {name}: this name or this key is in the keystore already; use another name"
            )
        retired = tuple(
            held._replace(active=held.active and not isinstance(held.key, type(key))) for held in self._keys
        )
        self._keys = (*retired, NamedKey(name, key, active=True))

    def change_password(self, password: str, *, cost: Cost = MODERATE) -> None:
        """Put the keystore under another password, or another cost, from the next ``save`` on.

        Raises:
            KeystoreError: password or cost are not usable.

        """
        self._lock = _Lock.fresh(password, cost)

    def save(self) -> None:
        """Replace the file by what is in memory, whole and on disk when this returns.

        Raises:
            KeystoreError: the file changed since it was opened, is unsafe, or cannot be written.

        """
        if read_private(self.path)[-_DIGEST_LENGTH:] != self._digest:
            raise KeystoreError(
                f"{self.path}: changed by someone else since it was opened; open it again and repeat"
            )
        data = self._encode()
        replace(self.path, data)
        self._digest = data[-_DIGEST_LENGTH:]

    def __repr__(self) -> str:
        return (
            f"Keystore({self.participant!r}, {str(self.path)!r}, keys={[held.name for held in self._keys]})"
        )

    def _active(self, kind: type[_Key], word: str) -> _Key:
        for held in self._keys:
            if held.active and isinstance(held.key, kind):
                return held.key
        raise KeystoreError(f"{self.path}: no {word} key in this keystore; add one with `parley keygen`")

    def _of_kind(self, kind: type[_Key]) -> tuple[_Key, ...]:
        return tuple(held.key for held in reversed(self._keys) if isinstance(held.key, kind))

    def _encode(self) -> bytes:
        """The file's bytes, under a fresh nonce."""
        nonce = secrets.token_bytes(_NONCE_LENGTH)
        (operations, memory), salt, key = self._lock
        header = _HEADER.pack(_MAGIC, _VERSION, operations, memory // _KIB, salt, nonce)
        content = _encode_content(self.participant, self._keys)
        body = header + crypto_aead_xchacha20poly1305_ietf_encrypt(content, header, nonce, key)
        return body + sha256(body).digest()


class _Lock(NamedTuple):
    """What a password was turned into."""

    cost: Cost
    salt: bytes
    key: bytes

    @classmethod
    def fresh(cls, password: str, cost: Cost) -> _Lock:
        if password == "":
            raise KeystoreError("keystore password: must not be empty")
        return cls.derive(password, secrets.token_bytes(argon2id.SALTBYTES), cost)

    @classmethod
    def derive(cls, password: str, salt: bytes, cost: Cost) -> _Lock:
        within = all(
            least <= asked <= most
            for least, asked, most in zip(_LEAST_COST, cost, _GREATEST_COST, strict=True)
        )
        if not within or cost.memory % _KIB:
            raise KeystoreError(
                f"keystore cost: {cost.operations} passes over {cost.memory} bytes are out of bounds;"
                " take 1 to 10 passes and whole KiB up to 1 GiB, or restore the file from a backup"
            )
        try:
            secret = unicodedata.normalize("NFC", password).encode()
        except UnicodeEncodeError:
            raise KeystoreError("keystore password: must be valid Unicode") from None
        try:
            key = argon2id.kdf(_KEY_LENGTH, secret, salt, cost.operations, cost.memory)
        except (CryptoError, MemoryError):
            raise KeystoreError(
                f"keystore: {cost.memory} bytes of memory are needed to open it; free some"
            ) from None
        return cls(cost, salt, key)


def _encode_content(participant: str, keys: Sequence[NamedKey]) -> bytes:
    rows = [
        {
            "name": name,
            "kind": "ed25519" if isinstance(key, SigningKey) else "x25519",
            "active": active,
            "private": (key.seed if isinstance(key, SigningKey) else key.private).hex(),
        }
        for name, key, active in keys
    ]
    return json.dumps({"participant": participant, "keys": rows}).encode()


def _parse_content(content: bytes, path: Path) -> tuple[str, tuple[NamedKey, ...]]:
    """What ``_encode_content`` wrote; it is authentic, so anything else comes from other software."""
    kinds: dict[str, type[SigningKey | EncryptionKey]] = {"ed25519": SigningKey, "x25519": EncryptionKey}
    try:
        fields = json.loads(content)
        keys = tuple(
            NamedKey(
                str(row["name"]), kinds[row["kind"]](bytes.fromhex(row["private"])), row["active"] is True
            )
            for row in fields["keys"]
        )
        return str(fields["participant"]), keys
    except (KeyError, TypeError, ValueError, SigningError):
        raise KeystoreError(
            f"{path}: opened, but its content is not understood; upgrade this software"
        ) from None
