"""The directory as a table over its log: who is who, and was at every version of it; pure, fed record by record.

Versions are dense from 1, and each record carries the chain hash of the record before, as on the firehose:
``h(n) = SHA-256(h(n-1) || SHA-256(record n))``. A record admits a participant, replaces its entry as a whole, or revokes one
of its keys; what may is said in ``parley.admission``, and every reader holds every record against those rules.

Validity is by place in this log, never by a claimed time: whatever was judged by version n is held, for ever, against the
keys and rules of version n. So a key that was replaced or revoked signs nothing new, however it dates it, and what it had
signed until then stays good.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from parley.admission import Change, judge
from parley.envelope import DIRECTORY_REVOCATION_TYPE
from parley.errors import DirectoryError, ForkError
from parley.firehose import chain_hash
from parley.key_table import HeldKey, KeyTable
from parley.keys import key_id
from parley.schemas import (
    ZERO_HASH,
    DirectoryEntry,
    DirectoryRecord,
    DirectoryRevocation,
    Envelope,
    Hash,
    KeyId,
    PublicKey,
    decode,
    encode,
)

__all__ = ["Directory", "HeldKey", "Placed", "PlacedEntry", "change_of"]


class Placed(NamedTuple):
    """A change of the directory, and the version that it made."""

    version: int
    change: Change


class PlacedEntry(NamedTuple):
    """An entry, and the version from which on it is in force."""

    version: int
    entry: DirectoryEntry


def change_of(record: DirectoryRecord) -> Change:
    """The entry or the revocation that a record holds."""
    envelope = decode(record.envelope, Envelope)
    if envelope.payload_type == DIRECTORY_REVOCATION_TYPE:
        return decode(envelope.payload, DirectoryRevocation)
    return decode(envelope.payload, DirectoryEntry)


class Directory:
    """Everybody admitted up to :attr:`version`, and how it came to that."""

    def __init__(self, registrar: bytes) -> None:
        """Begin empty, trusting the key (public, 32 bytes) with which the registrar began."""
        self.root: PublicKey = PublicKey(key_id(registrar), registrar)
        self.version: int = 0
        self.chain: Hash = ZERO_HASH
        self.registrar: str | None = None
        """The registrar's name, once its entry is read."""
        self._keys = KeyTable()
        self._speakers: dict[KeyId, HeldKey] = {}
        self._entries: dict[str, DirectoryEntry] = {}
        self._in_force: dict[str, list[PlacedEntry]] = {}
        self._history: dict[str, list[Placed]] = {}
        self._addresses: dict[str, str] = {}
        self._accounts: dict[str, str] = {}
        self._digests: list[Hash] = []

    def copy(self) -> Directory:
        """A directory that can go on without changing this one."""
        other = Directory(self.root.public_key)
        other.version, other.chain, other.registrar = self.version, self.chain, self.registrar
        other._keys = self._keys.copy()
        other._speakers = dict(self._speakers)
        other._entries = dict(self._entries)
        other._in_force = {participant: list(placed) for participant, placed in self._in_force.items()}
        other._history = {participant: list(placed) for participant, placed in self._history.items()}
        other._addresses = dict(self._addresses)
        other._accounts = dict(self._accounts)
        other._digests = list(self._digests)
        return other

    # The log ---------------------------------------------------------------------------------------------------------------

    def apply(self, record: bytes) -> Change:
        """Take the next record of the log (encoded) and give what it changes.

        Raises:
            ForkError: another record of this version has been read: there are two directories.
            DirectoryError: it is not the next record, or breaks a rule; the log is not to be trusted.
            WireError: it is not a DirectoryRecord.

        """
        value = decode(record, DirectoryRecord)
        digest = Hash(sha256(record).digest())
        if 1 <= value.version <= self.version and self._digests[value.version - 1] != digest:
            raise ForkError(value.version, self._digests[value.version - 1], digest)
        if value.version != self.version + 1 or value.chain != self.chain:
            raise DirectoryError(
                f"directory record {value.version} does not follow record {self.version}; read the directory again from its start"
            )
        change = judge(self, decode(value.envelope, Envelope))
        self.version = value.version
        self.chain = chain_hash(self.chain, digest)
        self._digests.append(digest)
        self._history.setdefault(change.participant, []).append(Placed(value.version, change))
        if isinstance(change, DirectoryRevocation):
            self._keys.revoke(change.key_id, self.version, change.reason)
            self._speakers.pop(change.key_id, None)
        else:
            self._enter(change)
        return change

    def _enter(self, entry: DirectoryEntry) -> None:
        for key in self._keys.replace(entry, self.version):
            self._speakers.pop(key, None)
        for key, _ in entry.signing_keys:
            held = self._keys.get(key)
            assert held is not None
            self._speakers[key] = held
        self._entries[entry.participant] = entry
        self._in_force.setdefault(entry.participant, []).append(PlacedEntry(self.version, entry))
        self._addresses.update(dict.fromkeys(entry.addresses, entry.participant))
        self._accounts.update(dict.fromkeys(entry.accounts, entry.participant))
        if entry.role == "REGISTRAR":
            self.registrar = entry.participant

    def admit(self, envelope: Envelope, at: int) -> DirectoryRecord:
        """The record that would make this change next, at ``at`` (ms); nothing changes until it is applied.

        Raises:
            DirectoryError: the change breaks a rule.
            WireError: the envelope's payload is neither a DirectoryEntry nor a DirectoryRevocation.

        """
        judge(self, envelope)
        return DirectoryRecord(self.version + 1, self.chain, at, encode(envelope))

    # Who is who now --------------------------------------------------------------------------------------------------------

    def speaker(self, key: KeyId) -> HeldKey | None:
        """Whose signing key this is now, if anybody's: one look-up, for judging what comes in."""
        return self._speakers.get(key)

    def entry(self, participant: str) -> DirectoryEntry | None:
        """The participant's entry in force, if admitted; of its keys, those that were revoked count no more."""
        return self._entries.get(participant)

    def version_of(self, participant: str) -> int | None:
        """The version that made the participant's entry in force, if it has one."""
        entries = self._in_force.get(participant)
        return None if entries is None else entries[-1].version

    def owner(self, address: str) -> str | None:
        """Which participant receives at this address now, if any."""
        owner = self._addresses.get(address)
        return owner if owner is not None and address in self._entries[owner].addresses else None

    def reserved_for(self, address: str) -> str | None:
        """Whose the address is or was: one that was dropped is given to nobody else, for its inbox holds the past."""
        return self._addresses.get(address)

    def account_holder(self, account: str) -> str | None:
        """Whose the account on a chain (CAIP-10) is or was."""
        return self._accounts.get(account)

    def __contains__(self, participant: str) -> bool:
        return participant in self._entries

    def __iter__(self) -> Iterator[DirectoryEntry]:
        return iter(self._entries.values())

    # Who was who -----------------------------------------------------------------------------------------------------------

    def holder(self, key: KeyId) -> HeldKey | None:
        """Whose the key is or ever was, and for which versions; ``None`` where it never came in."""
        return self._keys.get(key)

    def signer(self, key: KeyId, version: int) -> HeldKey | None:
        """Whose signing key this was at a version; ``None`` where it was valid for nobody then.

        Raises:
            DirectoryError: the directory has not been read that far.

        """
        self._reach(version)
        held = self._keys.get(key)
        return held if held is not None and held.signs and held.valid_at(version) else None

    def entry_at(self, participant: str, version: int) -> PlacedEntry | None:
        """The participant's entry that was in force at a version; errors as for :meth:`signer`."""
        entries = self._in_force.get(participant, [])
        place = bisect_right(entries, self._reach(version), key=lambda placed: placed.version)
        return entries[place - 1] if place else None

    def threshold(self, participant: str, version: int) -> int:
        """How many different keys had to sign a message of the participant at a version; errors as for :meth:`signer`."""
        placed = self.entry_at(participant, version)
        return 1 if placed is None else placed.entry.threshold

    def signing_keys(self, participant: str, version: int | None = None) -> tuple[PublicKey, ...]:
        """The participant's valid signing keys, now or at a version; errors as for :meth:`signer`."""
        return self._keys.of(participant, self._reach(version), sign=True)

    def encryption_keys(self, participant: str, version: int | None = None) -> tuple[PublicKey, ...]:
        """The participant's valid encryption keys, now or at a version; errors as for :meth:`signer`."""
        return self._keys.of(participant, self._reach(version), sign=False)

    def history(self, participant: str) -> tuple[Placed, ...]:
        """All entries and revocations of a participant, oldest first."""
        return tuple(self._history.get(participant, ()))

    def _reach(self, version: int | None) -> int:
        if version is None:
            return self.version
        if version > self.version:
            raise DirectoryError(
                f"directory version {version} is asked about, and {self.version} has been read; read on, and ask again"
            )
        return version
