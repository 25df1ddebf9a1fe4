"""Whose each key was at every version of the directory; what may come in is the rules' affair (``parley.admission``).

A key is valid for an interval of directory versions, ``[since, until)``, and never again: so one interval tells all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from parley.schemas import DirectoryEntry, KeyId, PublicKey, RevocationReason

__all__ = ["HeldKey", "KeyTable"]


class HeldKey(NamedTuple):
    """A key that a participant has, or had."""

    participant: str
    public_key: bytes
    """Ed25519 if it signs, else X25519; 32 bytes."""
    signs: bool
    since: int
    """The directory version from which on it is valid."""
    until: int | None = None
    """The version from which on it is valid no more; ``None`` while nothing has ended it."""
    revoked: RevocationReason | None = None
    """Why, where a revocation ended it and not a new entry."""

    def valid_at(self, version: int) -> bool:
        """Whether what was judged by this version of the directory may rest on the key."""
        return self.since <= version and (self.until is None or version < self.until)

    @property
    def ending(self) -> str:
        """How it came to its end, in words."""
        return f"{'replaced' if self.revoked is None else 'revoked'} at directory version {self.until}"


class KeyTable:
    """Every key that was ever admitted."""

    def __init__(self) -> None:
        self._keys: dict[KeyId, HeldKey] = {}
        self._of: dict[str, dict[KeyId, None]] = {}

    def copy(self) -> KeyTable:
        """A table that can go on without changing this one."""
        other = KeyTable()
        other._keys = dict(self._keys)
        other._of = {participant: dict(keys) for participant, keys in self._of.items()}
        return other

    def get(self, key: KeyId) -> HeldKey | None:
        """Whose the key is or ever was; ``None`` where it never came in."""
        return self._keys.get(key)

    def of(self, participant: str, version: int, *, sign: bool) -> tuple[PublicKey, ...]:
        """The participant's keys that are valid at a version: those that sign, or those that things are sealed to."""
        return tuple(
            PublicKey(key, held.public_key)
            for key, held in self._held_by(participant)
            if held.signs is sign and held.valid_at(version)
        )

    def replace(self, entry: DirectoryEntry, version: int) -> tuple[KeyId, ...]:
        """Make the entry's keys the participant's from this version on; gives those that this ends."""
        listed = {key.key_id for key in entry.signing_keys + entry.encryption_keys}
        ended = tuple(
            key
            for key, held in self._held_by(entry.participant)
            if held.valid_at(version) and key not in listed
        )
        for key in ended:
            self._keys[key] = self._keys[key]._replace(until=version)
        self._add(entry.participant, entry.signing_keys, version, signs=True)
        self._add(entry.participant, entry.encryption_keys, version, signs=False)
        return ended

    def revoke(self, key: KeyId, version: int, reason: RevocationReason) -> None:
        """End a key's validity at this version."""
        self._keys[key] = self._keys[key]._replace(until=version, revoked=reason)

    def _add(self, participant: str, keys: Iterable[PublicKey], version: int, *, signs: bool) -> None:
        for key, public in keys:
            if key not in self._keys:
                self._keys[key] = HeldKey(participant, public, signs, version)
                self._of.setdefault(participant, {})[key] = None

    def _held_by(self, participant: str) -> Iterator[tuple[KeyId, HeldKey]]:
        for key in self._of.get(participant, ()):
            yield key, self._keys[key]
