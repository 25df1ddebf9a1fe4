"""What is asked of whoever keeps private keys, and how a kept signing key is named; how it is kept is not known here.

Two questions, whatever the answer comes from: to sign, and to open what was sealed to us. A key in memory, the
keystore file and a hardware module answer the first; the keystore file the second, for every encryption key it ever
held. A key management service fits by answering the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from parley.keys import SigningKey
from parley.pkcs11_uri import SCHEME, parse_pkcs11_uri, token_key
from parley.private_files import read_private
from parley.schemas import KeyId

__all__ = ["Decryptor", "Signatory", "is_hardware", "load_signatory"]


class Signatory(Protocol):
    """Whoever signs with one Ed25519 key. May be asked from several threads at once."""

    @property
    def id(self) -> KeyId:
        """The key's id, 16 bytes."""
        ...

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes, of a message. Raises KeystoreError if the key cannot be reached."""
        ...


class Decryptor(Protocol):
    """Whoever holds our X25519 keys, old ones included."""

    @property
    def encryption_key_ids(self) -> Sequence[KeyId]:
        """The ids of all of them, newest first: what is sealed to us without saying so is found by trying each."""
        ...

    def unseal(self, key_id: KeyId, box: bytes) -> bytes:
        """What was sealed (libsodium's sealed box) to the key of this id.

        Raises:
            KeystoreError: the key is not held.
            UnsealingError: the box does not open with it.

        """
        ...


def is_hardware(reference: str) -> bool:
    """Whether a reference names a key in a hardware module, and not a file."""
    return reference[: len(SCHEME)].lower() == SCHEME


def load_signatory(reference: str, folder: Path = Path()) -> Signatory:
    """The signing key that a reference names: a PKCS #11 URI, or a private file with the seed (32 bytes).

    Relative paths are taken from ``folder``.

    Raises:
        KeystoreError: the file or the token does not give the key; HardwareError says what about the token.
        SigningError: the file holds no seed.

    """
    if not is_hardware(reference):
        return SigningKey(read_private(folder / reference, "key file"))
    from parley.hardware import HardwareKey  # noqa: PLC0415  an optional extra, needed only here

    return HardwareKey.open(token_key(parse_pkcs11_uri(reference), folder))
