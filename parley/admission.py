"""The rules of the directory: which entries and revocations may stand in its log next; pure, and the same for every reader.

1. The first record is the registrar's own entry, with the key that everybody who reads the directory pins.
2. A participant is admitted once, by the registrar; later entries replace the one in force and name its version.
3. A key, an address and an account belong to one participant for ever. A key that was replaced or revoked never comes in
   again, for anybody; an address that was dropped is kept for whoever had it.
4. Every new signing key signs (proof of possession). Legal name, LEI, BIC, country and role, and every new address or
   account, are attested: as many of the registrar's valid keys sign as its entry demands.
5. A new entry is authorised by as many of the participant's valid keys as the entry in force demands of a message. Where
   fewer are left, all of these and the registrar; where none is, the registrar.
6. Where the entry in force has committed to a next key, keys, threshold and commitment change only in an entry that lists
   that key: nobody else can change them, whichever valid keys he has, and the valid keys are not needed.
7. A key is revoked by one valid key of its participant, or by the registrar; the registrar itself keeps as many as its
   entry demands.
8. Nobody else signs, and nobody twice: no signature stands in the log unverified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

from parley.entry import MAXIMUM_KEYS, faults_of
from parley.envelope import DIRECTORY_ENTRY_TYPE, DIRECTORY_REVOCATION_TYPE, signature_claim
from parley.errors import DirectoryError
from parley.keys import verify
from parley.schemas import DirectoryEntry, DirectoryRevocation, Envelope, KeyId, PublicKey, decode

if TYPE_CHECKING:
    from parley.directory import Directory

__all__ = ["Change", "attested_facts", "judge"]

_MAXIMUM_SIGNATURES: Final = 4 * MAXIMUM_KEYS

Change = DirectoryEntry | DirectoryRevocation


def judge(directory: Directory, envelope: Envelope) -> Change:
    """The change that an envelope holds, if it may stand in the log next.

    Raises:
        DirectoryError: it breaks a rule; the message says which, and what to do.
        WireError: the payload is not what its type says.

    """
    if envelope.payload_type == DIRECTORY_ENTRY_TYPE:
        entry = decode(envelope.payload, DirectoryEntry)
        for fault in _faults(directory, entry):
            raise DirectoryError(fault)
        _check_entry_signatures(directory, envelope, entry)
        return entry
    if envelope.payload_type == DIRECTORY_REVOCATION_TYPE:
        revocation = decode(envelope.payload, DirectoryRevocation)
        _check_revocation(directory, envelope, revocation)
        return revocation
    raise DirectoryError(
        f"the payload type is {envelope.payload_type!r}; it must be {DIRECTORY_ENTRY_TYPE} or {DIRECTORY_REVOCATION_TYPE}"
    )


def attested_facts(before: DirectoryEntry | None, entry: DirectoryEntry) -> dict[str, str]:
    """What of an entry the registrar has to attest, by name: of an admission all, of a later entry what is new."""
    facts = {
        "legal name": entry.legal_name,
        "LEI": entry.lei or "none",
        "BIC": entry.bic or "none",
        "country": entry.country,
        "role": entry.role,
    }
    addresses, accounts = set(entry.addresses), set(entry.accounts)
    if before is not None:
        old = (before.legal_name, before.lei or "none", before.bic or "none", before.country, before.role)
        facts = {name: fact for (name, fact), was in zip(facts.items(), old, strict=True) if fact != was}
        addresses -= set(before.addresses)
        accounts -= set(before.accounts)
    facts |= {"addresses": ", ".join(sorted(addresses))} if addresses else {}
    facts |= {"accounts": ", ".join(sorted(accounts))} if accounts else {}
    return facts


# What an entry says -----------------------------------------------------------------------------------------------------


def _faults(directory: Directory, entry: DirectoryEntry) -> Iterator[str]:
    yield from faults_of(entry)
    yield from _misplaced(directory, entry)
    yield from _used_up(directory, entry)
    yield from _taken(directory, entry)


def _misplaced(directory: Directory, entry: DirectoryEntry) -> Iterator[str]:
    """Whether an entry of this kind may come now, for this participant."""
    name, version = entry.participant, directory.version_of(entry.participant)
    if directory.version == 0 and (entry.role != "REGISTRAR" or directory.root not in entry.signing_keys):
        yield "the first entry must be the registrar's own, with the registrar's key"
    if entry.previous is not None and version is None:
        yield f"{name} is not admitted, so there is no entry to replace; leave the previous version out"
    if entry.previous is None and version is not None:
        yield f"{name} is admitted already; to change its entry, name the version that it replaces ({version})"
    if entry.previous != version:
        yield f"{name}'s entry in force is of version {version}, not {entry.previous}; make the change again, from that one"
    if (entry.role == "REGISTRAR") != (name == directory.registrar) and directory.version > 0:
        yield "the directory has a registrar already, and it stays the registrar"


def _used_up(directory: Directory, entry: DirectoryEntry) -> Iterator[str]:
    """Which of its keys cannot come in any more."""
    listed = [(key, True) for key in entry.signing_keys] + [(key, False) for key in entry.encryption_keys]
    for (key, _), signs in listed:
        held = directory.holder(key)
        if held is not None and (held.participant, held.signs) != (entry.participant, signs):
            yield "a key is in use by another participant, or for another purpose; make a new one"
        if held is not None and held.until is not None:
            yield f"key {key.hex()} was {held.ending}; a key never comes in again: make a new one"
    if entry.next_key is not None:
        committed = _committed(entry)
        if directory.holder(committed) is not None or any(key.key_id == committed for key, _ in listed):
            yield "the next key is one that has been used; commit to a new one, and keep it apart from the others"


def _taken(directory: Directory, entry: DirectoryEntry) -> Iterator[str]:
    """Which of its addresses and accounts are somebody else's."""
    for address in entry.addresses:
        if directory.reserved_for(address) not in {None, entry.participant}:
            yield f"the address {address} is {directory.reserved_for(address)}'s; choose another"
    for account in entry.accounts:
        if directory.account_holder(account) not in {None, entry.participant}:
            yield f"the account {account} is {directory.account_holder(account)}'s"


# Who has to sign --------------------------------------------------------------------------------------------------------


def _check_entry_signatures(directory: Directory, envelope: Envelope, entry: DirectoryEntry) -> None:
    before = directory.entry(entry.participant)
    current = directory.signing_keys(entry.participant)
    allowed = (*entry.signing_keys, *current, *_registrars(directory))
    signed = _signed(envelope, allowed, entry.participant)
    for key in entry.signing_keys:
        if key not in current:
            _demand(signed, (key,), 1, entry.participant, "a new key signs, to prove that it is held")
    if before is None or attested_facts(before, entry):
        _demand_registrar(directory, signed, entry.participant)
    if before is not None:
        _demand_authority(directory, signed, before, entry)
    _demand_nobody_else(envelope, signed, entry.participant)


def _demand_authority(
    directory: Directory, signed: AbstractSet[KeyId], before: DirectoryEntry, entry: DirectoryEntry
) -> None:
    """Demand what rules 5 and 6 say."""
    current = directory.signing_keys(entry.participant)
    if before.next_key is not None and _rekeyed(directory, before, entry):
        if _committed(before) in {key.key_id for key in entry.signing_keys}:
            return
        if current:
            raise DirectoryError(
                f"{entry.participant} has committed to its next key, and only an entry with that key changes keys, threshold"
                " or commitment; rotate to the committed key"
            )
    _demand(
        signed, current, min(before.threshold, len(current)), entry.participant, "its valid keys authorise"
    )
    if len(current) < before.threshold:
        _demand_registrar(directory, signed, entry.participant)


def _rekeyed(directory: Directory, before: DirectoryEntry, entry: DirectoryEntry) -> bool:
    """Whether the entry changes who can speak, read or change for the participant."""
    name = entry.participant
    return (
        set(entry.signing_keys) != set(directory.signing_keys(name))
        or set(entry.encryption_keys) != set(directory.encryption_keys(name))
        or (entry.threshold, entry.next_key) != (before.threshold, before.next_key)
    )


def _check_revocation(directory: Directory, envelope: Envelope, revocation: DirectoryRevocation) -> None:
    name, key = revocation.participant, revocation.key_id
    held = directory.holder(key)
    if held is None or held.participant != name:
        raise DirectoryError(f"key {key.hex()} is not {name}'s; look it up with `parley who`")
    if held.until is not None:
        raise DirectoryError(f"key {key.hex()} was {held.ending} already; there is nothing to revoke")
    placed = directory.entry_at(name, min(max(revocation.entry_version, 0), directory.version))
    if (
        placed is None
        or placed.version != revocation.entry_version
        or all(key != listed for listed, _ in placed.entry.signing_keys + placed.entry.encryption_keys)
    ):
        raise DirectoryError(
            f"version {revocation.entry_version} is no entry of {name}'s that lists key {key.hex()}; name the one that does"
        )
    current = directory.signing_keys(name)
    present = directory.entry(name)
    assert present is not None
    if name == directory.registrar and held.signs and len(current) <= present.threshold:
        raise DirectoryError(
            "without this key the registrar could admit nobody; rotate to a new key, which replaces it"
        )
    signed = _signed(envelope, (*current, *_registrars(directory)), name)
    if not any(own.key_id in signed for own in current):
        _demand_registrar(directory, signed, name)
    _demand_nobody_else(envelope, signed, name)


def _signed(envelope: Envelope, allowed: Iterable[PublicKey], participant: str) -> AbstractSet[KeyId]:
    """Those of the allowed keys that signed, every signature of theirs verified."""
    keys = dict(allowed)
    if len(envelope.signatures) > _MAXIMUM_SIGNATURES:
        raise DirectoryError(
            f"{participant}: more than {_MAXIMUM_SIGNATURES} signatures; leave only those needed"
        )
    for signature in envelope.signatures:
        public = keys.get(signature.key_id)
        if public is not None and not verify(*signature_claim(envelope, signature, public)):
            raise DirectoryError(
                f"{participant}: the signature by key {signature.key_id.hex()} does not verify;"
                " the bytes or the key are not the signer's"
            )
    return {signature.key_id for signature in envelope.signatures} & keys.keys()


def _demand_nobody_else(envelope: Envelope, signed: AbstractSet[KeyId], participant: str) -> None:
    if len(signed) != len(envelope.signatures):
        raise DirectoryError(
            f"{participant}: only its own valid keys and the registrar's sign, each once; remove the rest"
        )


def _demand(
    signed: AbstractSet[KeyId], keys: Sequence[PublicKey], count: int, participant: str, why: str
) -> None:
    missing = [key.key_id.hex() for key in keys if key.key_id not in signed]
    found = sum(key.key_id in signed for key in keys)
    if found < count:
        some = f"{count - found} of " if count - found < len(missing) else ""
        raise DirectoryError(f"{participant}: no signature by {some}key {', '.join(missing)}; {why}")


def _demand_registrar(directory: Directory, signed: AbstractSet[KeyId], participant: str) -> None:
    entry = None if directory.registrar is None else directory.entry(directory.registrar)
    _demand(
        signed,
        _registrars(directory),
        1 if entry is None else entry.threshold,
        participant,
        "the registrar attests it: have it countersigned",
    )


def _registrars(directory: Directory) -> tuple[PublicKey, ...]:
    """The registrar's valid keys."""
    return (directory.root,) if directory.registrar is None else directory.signing_keys(directory.registrar)


def _committed(entry: DirectoryEntry) -> KeyId:
    """The id of the key that an entry commits to: an id is the beginning of the same hash."""
    assert entry.next_key is not None
    return KeyId(entry.next_key[:16])
