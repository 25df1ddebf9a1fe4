"""The directory as a table over its log: who is admitted, with which keys and addresses; pure, fed record by record.

Rules of admission:

1. The first record is the registrar's own entry, signed by the registrar's key: the root of trust, which everybody who
   reads the directory pins.
2. Every other entry is signed by each of its own signing keys (proof of possession) and by the registrar; by nobody else,
   so that no signature stands in the log unverified.
3. A participant, a key and an address belong to one entry each.
4. Versions are dense from 1, and each record carries the chain hash of the record before:
   ``h(n) = SHA-256(h(n-1) || SHA-256(record n))``, as on the firehose.

Validity is by place in this log (its version), never by a claimed time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from parley.envelope import DIRECTORY_ENTRY_TYPE, verify_signatures
from parley.errors import BadSignatureError, DirectoryError
from parley.firehose import chain_hash
from parley.identifiers import is_name
from parley.keys import key_id
from parley.schemas import (
    ZERO_HASH,
    DirectoryEntry,
    DirectoryRecord,
    Envelope,
    Hash,
    KeyId,
    PublicKey,
    decode,
    encode,
)

__all__ = ["Directory", "Signer", "entry_of"]

MAXIMUM_KEYS = 16
MAXIMUM_ADDRESSES = 256

_COUNTRY = re.compile(r"[A-Z]{2}")


class Signer(NamedTuple):
    """Whose a signing key is."""

    participant: str
    public_key: bytes
    version: int


def entry_of(record: DirectoryRecord) -> DirectoryEntry:
    """The entry that a record admits."""
    return decode(decode(record.envelope, Envelope).payload, DirectoryEntry)


class Directory:
    """Everybody admitted up to :attr:`version`."""

    def __init__(self, registrar: bytes) -> None:
        """Begin empty, trusting the registrar's public key (32 bytes)."""
        self.registrar: PublicKey = PublicKey(key_id(registrar), registrar)
        self.version: int = 0
        self.chain: Hash = ZERO_HASH
        self._entries: dict[str, DirectoryEntry] = {}
        self._versions: dict[str, int] = {}
        self._signers: dict[KeyId, Signer] = {}
        self._keys: set[KeyId] = set()
        self._owners: dict[str, str] = {}

    def copy(self) -> Directory:
        """A directory that can go on without changing this one."""
        other = Directory(self.registrar.public_key)
        other.version, other.chain = self.version, self.chain
        other._entries = dict(self._entries)
        other._versions = dict(self._versions)
        other._signers = dict(self._signers)
        other._keys = set(self._keys)
        other._owners = dict(self._owners)
        return other

    def apply(self, record: bytes) -> DirectoryEntry:
        """Take the next record of the log (encoded) and give its entry.

        Raises:
            DirectoryError: it is not the next record, or breaks a rule of admission; the log is not to be trusted.
            WireError: it is not a DirectoryRecord.

        """
        value = decode(record, DirectoryRecord)
        if value.version != self.version + 1 or value.chain != self.chain:
            raise DirectoryError(
                f"directory record {value.version} does not follow record {self.version}; read the directory again from its start"
            )
        entry = self.check(decode(value.envelope, Envelope))
        self.version = value.version
        self.chain = chain_hash(self.chain, Hash(sha256(record).digest()))
        self._entries[entry.participant] = entry
        self._versions[entry.participant] = value.version
        for key in entry.signing_keys:
            self._signers[key.key_id] = Signer(entry.participant, key.public_key, value.version)
        self._keys.update(key.key_id for key in entry.signing_keys + entry.encryption_keys)
        for address in entry.addresses:
            self._owners[address] = entry.participant
        return entry

    def admit(self, envelope: Envelope, at: int) -> DirectoryRecord:
        """The record that would admit this entry next, at ``at`` (ms); nothing changes until it is applied.

        Raises:
            DirectoryError: the entry breaks a rule of admission.
            WireError: the envelope's payload is not a DirectoryEntry.

        """
        self.check(envelope)
        return DirectoryRecord(self.version + 1, self.chain, at, encode(envelope))

    def check(self, envelope: Envelope) -> DirectoryEntry:
        """The envelope's entry, if it may be admitted now; errors as for :meth:`admit`."""
        if envelope.payload_type != DIRECTORY_ENTRY_TYPE:
            raise DirectoryError(
                f"the payload type is {envelope.payload_type!r}; it must be {DIRECTORY_ENTRY_TYPE}"
            )
        entry = decode(envelope.payload, DirectoryEntry)
        if fault := self._fault(entry):
            raise DirectoryError(fault)
        if self.version == 0:
            if entry.role != "REGISTRAR" or self.registrar not in entry.signing_keys:
                raise DirectoryError("the first entry must be the registrar's own, with the registrar's key")
        elif entry.role == "REGISTRAR":
            raise DirectoryError("the directory has a registrar already")
        self._check_signatures(envelope, entry)
        return entry

    def _check_signatures(self, envelope: Envelope, entry: DirectoryEntry) -> None:
        signers = {self.registrar, *entry.signing_keys}
        try:
            verify_signatures(envelope, signers)
        except BadSignatureError as error:
            raise DirectoryError(f"{entry.participant}: {error}") from error
        if len(envelope.signatures) != len(signers):
            raise DirectoryError(
                f"{entry.participant}: an entry is signed by its own keys and the registrar's, each once; remove the rest"
            )

    def _fault(self, entry: DirectoryEntry) -> str | None:
        if not is_name(entry.participant) or not all(map(is_name, entry.addresses)):
            return "the participant's name or an address is not well formed (1 to 128 of a-z 0-9 . -)"
        if not entry.legal_name.strip() or not entry.legal_name.isprintable():
            return "an entry has a legal name of printable characters"
        if not _COUNTRY.fullmatch(entry.country):
            return "the country is two capital letters (ISO 3166-1)"
        keys = entry.signing_keys + entry.encryption_keys
        if not 1 <= len(entry.signing_keys) <= MAXIMUM_KEYS or len(entry.encryption_keys) > MAXIMUM_KEYS:
            return f"an entry has 1 to {MAXIMUM_KEYS} signing keys and at most as many encryption keys"
        if not 1 <= len(entry.addresses) <= MAXIMUM_ADDRESSES or len(set(entry.addresses)) != len(
            entry.addresses
        ):
            return f"an entry has 1 to {MAXIMUM_ADDRESSES} different addresses"
        if any(key.key_id != key_id(key.public_key) for key in keys) or len(
            {key.key_id for key in keys}
        ) != len(keys):
            return "each key is listed once, under the first 16 bytes of its SHA-256"
        if entry.participant in self._entries:
            return f"{entry.participant} is admitted already"
        if any(key.key_id in self._keys for key in keys):
            return "a key is in use by another participant; make a new one"
        if taken := next((address for address in entry.addresses if address in self._owners), None):
            return f"the address {taken} is {self._owners[taken]}'s; choose another"
        return None

    def signer(self, key: KeyId) -> Signer | None:
        """Whose signing key this is, if anybody's."""
        return self._signers.get(key)

    def owner(self, address: str) -> str | None:
        """Which participant receives at this address, if any."""
        return self._owners.get(address)

    def entry(self, participant: str) -> DirectoryEntry | None:
        """The participant's entry, if admitted."""
        return self._entries.get(participant)

    def version_of(self, participant: str) -> int | None:
        """The version that admitted the participant, if any did."""
        return self._versions.get(participant)

    def __contains__(self, participant: str) -> bool:
        return participant in self._entries

    def __iter__(self) -> Iterator[DirectoryEntry]:
        return iter(self._entries.values())
