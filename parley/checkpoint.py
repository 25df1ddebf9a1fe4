"""Checkpoints of a log as signed notes (C2SP tlog-checkpoint); what the log holds is not looked at.

Whether two checkpoints are consistent is ``parley.merkle``'s affair. Every log here signs under its origin as
key name, which the specification recommends, so a verifier key says which log it is for.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass

from parley.errors import ProofError, SigningError
from parley.merkle import EMPTY_ROOT, HASH_LENGTH, MAX_SIZE
from parley.note import NoteSigner, VerifierKey, base64_bytes, open_note, sign_note

__all__ = ["Checkpoint", "open_checkpoint", "parse_checkpoint", "sign_checkpoint"]

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree head of a log: who keeps it (origin), how many leaves it has, and its root (32 bytes).

    ``extensions`` are further lines, opaque and not recommended. Raises ProofError if a line would be empty
    or hold a control character, the size is out of range, or the root is not 32 bytes or not the empty tree's
    at size 0.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(_is_line(line) for line in (self.origin, *self.extensions)):
            raise ProofError(
                "checkpoint: origin and extension lines must be non-empty, without control characters"
            )
        if not 0 <= self.size <= MAX_SIZE:
            raise ProofError(f"checkpoint size: {self.size} is not between 0 and {MAX_SIZE}")
        if len(self.root) != HASH_LENGTH:
            raise ProofError(f"checkpoint root: {len(self.root)} bytes instead of {HASH_LENGTH}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise ProofError("checkpoint root: at size 0 it must be the empty tree's, SHA-256 of nothing")

    @property
    def text(self) -> str:
        """The note text: origin, size and root, a line each, then the extensions."""
        return "".join(
            f"{line}\n" for line in (self.origin, self.size, b64encode(self.root).decode(), *self.extensions)
        )


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a note's text; ``parse_checkpoint(text).text == text``.

    Raises:
        ProofError: it is no checkpoint; the message names the line.

    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1]:
        raise ProofError("checkpoint: needs three lines (origin, size, root), each ended by a newline")
    origin, size, encoded_root, *extensions = lines[:-1]
    if not _SIZE.fullmatch(size):
        raise ProofError(f"checkpoint size: {size[:40]!r} is not a decimal without leading zeros")
    root = base64_bytes(encoded_root)
    if root is None:
        raise ProofError("checkpoint root: not standard base64")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """The checkpoint as a signed note.

    Raises:
        SigningError: the signer's name is not the checkpoint's origin.

    """
    if signer.name != checkpoint.origin:
        raise SigningError(
            f"checkpoint of {checkpoint.origin}: the signer's name must be the same, not {signer.name}"
        )
    return sign_note(checkpoint.text, signer)


def open_checkpoint(note: bytes, verifier_key: VerifierKey, *, alone: bool = False) -> Checkpoint:
    """Verify a checkpoint and read it.

    Other signatures (witnesses, an older key) are ignored as the specification asks; with ``alone=True`` they
    are refused, for files that must hold nothing unverified.

    Raises:
        ProofError: the note does not verify, is no checkpoint, or its origin is not the key's name.

    """
    opened = open_note(note, (verifier_key,))
    if alone and (opened.unknown or len(opened.verified) != 1):
        raise ProofError("checkpoint signatures: only the log's own belongs here; take the other lines out")
    checkpoint = parse_checkpoint(opened.text)
    if checkpoint.origin != verifier_key.name:
        raise ProofError(
            f"checkpoint origin: {checkpoint.origin!r} is not the log that {verifier_key.name} signs for;"
            " check the verifier key"
        )
    return checkpoint


def _is_line(line: str) -> bool:
    return line != "" and not any(character < " " for character in line)
