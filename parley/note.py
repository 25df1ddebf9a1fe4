"""Signed notes and verifier keys (C2SP signed-note, Ed25519 only); what a text means is its reader's affair.

A note is UTF-8 text that ends in a newline, a blank line, and one line a signature::

    — <key name> base64(4-byte key id || signature)

Notes and verifier keys are read strictly: what is accepted serialises back to the very bytes that were read.
Whatever is wrong with a note is a ProofError; a key or text that cannot be used for signing is a
SigningError.
"""

from __future__ import annotations

import binascii
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from parley.custody import Signatory
from parley.errors import ProofError, SigningError
from parley.keys import verify

__all__ = [
    "MAX_NOTE_LENGTH",
    "MAX_SIGNATURES",
    "Note",
    "NoteSignature",
    "NoteSigner",
    "OpenedNote",
    "VerifierKey",
    "base64_bytes",
    "open_note",
    "parse_note",
    "parse_verifier_key",
    "sign_note",
]

MAX_NOTE_LENGTH = 1_000_000
"""In bytes, signatures included."""
MAX_SIGNATURES = 100
"""The specification asks for at least 16."""

_ED25519 = b"\x01"
_KEY_ID_LENGTH = 4
_PUBLIC_KEY_LENGTH = 32
_SIGNATURE_MARK = "— "


class VerifierKey(NamedTuple):
    """Whose Ed25519 signature to look for: the name on the signature line, and the public key (32 bytes).

    ``str()`` gives C2SP signed-note's verifier key string: ``name+hex(key id)+base64(0x01 || public key)``.
    """

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name || 0x0A || 0x01 || public key)."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_ID_LENGTH]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(_ED25519 + self.public_key).decode()}"


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A signing key under the name that its signature lines carry.

    Raises SigningError if the name is empty or has a space, a plus sign or a control character.
    """

    name: str
    key: Signatory

    def __post_init__(self) -> None:
        if not _is_key_name(self.name):
            raise SigningError(
                f"note key name {self.name!r}: use one without spaces, '+' or control characters,"
                " such as ledger.example/log"
            )

    @property
    def verifier_key(self) -> VerifierKey:
        """What a reader needs to check this signer's notes."""
        return VerifierKey(self.name, self.key.public)


class NoteSignature(NamedTuple):
    """One signature line: the key's name, its id (4 bytes), and the signature (64 bytes for Ed25519)."""

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """A note taken apart, its signatures not yet judged. The text includes its final newline."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The note as bytes."""
        lines = (
            f"{_SIGNATURE_MARK}{name} {b64encode(key_id + signature).decode()}\n"
            for name, key_id, signature in self.signatures
        )
        return f"{self.text}\n{''.join(lines)}".encode()


class OpenedNote(NamedTuple):
    """A note with at least one verified signature. Those of unknown keys say nothing; they are only shown."""

    text: str
    verified: tuple[NoteSignature, ...]
    unknown: tuple[NoteSignature, ...]


def parse_verifier_key(vkey: str) -> VerifierKey:
    """Read a verifier key string.

    Raises:
        SigningError: it is cut, not Ed25519, or its id does not fit name and key.

    """
    name, _, rest = vkey.partition("+")
    _, _, encoded = rest.partition("+")
    material = base64_bytes(encoded)
    if not _is_key_name(name) or material is None:
        raise SigningError("verifier key: expected name+id+base64 in one line; copy the whole line again")
    if material[:1] != _ED25519 or len(material) != 1 + _PUBLIC_KEY_LENGTH:
        raise SigningError(
            f"verifier key of {name}: not an Ed25519 key of 32 bytes; ask its owner for that kind of key"
        )
    key = VerifierKey(name, material[1:])
    if str(key) != vkey:
        raise SigningError(
            f"verifier key of {name}: its id does not fit name and key; copy the whole line again"
        )
    return key


def sign_note(text: str, *signers: NoteSigner) -> bytes:
    """The note with ``text`` and a signature of each signer, in order.

    Raises:
        SigningError: no signer, or the text does not end in a newline or has other control characters.

    """
    if not signers:
        raise SigningError("note: signing takes at least one key")
    if not text.endswith("\n") or _has_control_characters(text) or not _is_unicode(text):
        raise SigningError(
            "note text: must be valid Unicode, end in a newline, and have no other control characters"
        )
    signatures = tuple(
        NoteSignature(signer.name, signer.verifier_key.key_id, signer.key.sign(text.encode()))
        for signer in signers
    )
    return Note(text, signatures).encode()


def parse_note(data: bytes) -> Note:
    """Take a note apart without judging its signatures; ``parse_note(data).encode() == data``.

    Raises:
        ProofError: the note is malformed; the message names what is.

    """
    if len(data) > MAX_NOTE_LENGTH:
        raise _malformed(f"{len(data)} bytes are more than {MAX_NOTE_LENGTH}")
    try:
        content = data.decode()
    except UnicodeDecodeError:
        raise _malformed("not valid UTF-8") from None
    if _has_control_characters(content):
        raise _malformed("control characters other than newline")
    end_of_text = content.rfind("\n\n")
    if end_of_text < 0:
        raise _malformed("no blank line between text and signatures")
    text, block = content[: end_of_text + 1], content[end_of_text + 2 :]
    if not block.endswith("\n"):
        raise _malformed("no signature line, or the last one is cut")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"more than {MAX_SIGNATURES} signatures")
    return Note(text, tuple(_parse_signature(line) for line in lines))


def open_note(data: bytes, verifier_keys: Iterable[VerifierKey]) -> OpenedNote:
    """Read a note and verify every signature that one of the keys should have made.

    Signatures of other keys are ignored, also those that share a name or an id (but not both) with a known
    key.

    Raises:
        ProofError: the note is malformed, a known key's signature is wrong, or no known key signed.
        SigningError: two of the keys given share both name and id.

    """
    known: dict[tuple[str, bytes], bytes] = {}
    for key in verifier_keys:
        if known.setdefault((key.name, key.key_id), key.public_key) != key.public_key:
            raise SigningError(
                f"verifier keys: two keys share the name and id {key.name}+{key.key_id.hex()}; keep one"
            )
    note = parse_note(data)
    message = note.text.encode()
    verified, unknown = [], []
    for line in note.signatures:
        public = known.get((line.name, line.key_id))
        if public is None:
            unknown.append(line)
        elif verify(public, message, line.signature):
            verified.append(line)
        else:
            raise ProofError(
                f"note signature: the one of {line.name}+{line.key_id.hex()} does not verify;"
                " the text or the signature was changed"
            )
    if not verified:
        signers = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in note.signatures)
        raise ProofError(
            f"note signature: no known key signed this note, only {signers}; check the verifier key"
        )
    return OpenedNote(note.text, tuple(verified), tuple(unknown))


def base64_bytes(encoded: str) -> bytes | None:
    """The bytes of a canonical standard base64 string (RFC 4648 §4), or None if it is not one."""
    try:
        decoded = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:  # binascii.Error, or characters outside ASCII
        return None
    return decoded if b64encode(decoded).decode() == encoded else None


def _parse_signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_SIGNATURE_MARK).partition(" ")
    decoded = base64_bytes(encoded)
    if not line.startswith(_SIGNATURE_MARK) or not _is_key_name(name) or decoded is None:
        raise _malformed("a signature line is not '— name base64'")
    if len(decoded) <= _KEY_ID_LENGTH:
        raise _malformed(f"the signature of {name} is empty")
    return NoteSignature(name, decoded[:_KEY_ID_LENGTH], decoded[_KEY_ID_LENGTH:])


def _malformed(what: str) -> ProofError:
    return ProofError(f"note format: {what}; fetch the note again, byte for byte")


def _is_key_name(name: str) -> bool:
    return (
        name != ""
        and "+" not in name
        and not any(character.isspace() for character in name)
        and not _has_control_characters(name)
        and _is_unicode(name)
    )


def _has_control_characters(text: str) -> bool:
    return any(character < " " and character != "\n" for character in text)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
