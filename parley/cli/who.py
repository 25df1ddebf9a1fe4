"""``parley who``: whose a key, a name or an address is, or was at a version of the directory."""

from __future__ import annotations

from typing import Annotated

import typer

from parley.admission import Change
from parley.cli.desk import read_directory, rows
from parley.cli.options import DEFAULT_PROFILE, Json, ProfileFile, profile_of
from parley.cli.output import show, show_json
from parley.directory import Directory, HeldKey, PlacedEntry
from parley.errors import DirectoryError
from parley.schemas import DirectoryRevocation, KeyId, PublicKey

__all__ = ["find_key", "register"]

_SHORTEST = 8


def register(app: typer.Typer) -> None:
    app.command()(who)


def who(
    what: Annotated[
        str,
        typer.Argument(
            help="A key or its id (hexadecimal, the first digits will do), a name, or an address."
        ),
    ],
    at: Annotated[
        int | None, typer.Option(help="As of this version of the directory; now without it.")
    ] = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    json: Json = False,
) -> None:
    """Say who somebody is: legal name, LEI, role, valid keys, and how it came to that."""
    directory = read_directory(profile_of(profile))
    version = directory.version if at is None else at
    if not 0 <= version <= directory.version:
        raise DirectoryError(f"the directory has the versions 1 to {directory.version}; choose one of them")
    key = None
    name = what if what in directory else directory.reserved_for(what)
    if name is None:
        key = find_key(directory, what)
        held = directory.holder(key)
        assert held is not None
        name = held.participant
    placed = directory.entry_at(name, version)
    if placed is None:
        raise DirectoryError(f"{name} was not in the directory at version {version}")
    if json:
        show_json(_told(directory, placed, version, key))
        return
    _show(directory, placed, version, key)


def find_key(directory: Directory, digits: str) -> KeyId:
    """The id of the one key that begins so, or has an id that does.

    Raises:
        DirectoryError: there is none, or more than one.

    """
    wanted = digits.lower()
    found = {
        key.key_id
        for participant in directory
        for placed in directory.history(participant.participant)
        if not isinstance(placed.change, DirectoryRevocation)
        for key in placed.change.signing_keys + placed.change.encryption_keys
        if len(wanted) >= _SHORTEST
        and (key.key_id.hex().startswith(wanted) or key.public_key.hex().startswith(wanted))
    }
    if len(found) == 1:
        return found.pop()
    if found:
        raise DirectoryError(f"{len(found)} keys begin with {wanted}; give more digits")
    raise DirectoryError(
        f"{digits} is no name, address or key in the directory; a key is given by {_SHORTEST} hexadecimal digits or more"
    )


def _validity(key: KeyId, held: HeldKey, version: int) -> str:
    until = f", {held.ending}" if held.until is not None else ""
    now = "valid" if held.valid_at(version) else "not valid"
    kind = "signing" if held.signs else "encryption"
    return f"{key.hex()} ({kind}): {now} at version {version}; since version {held.since}{until}"


def _show(directory: Directory, placed: PlacedEntry, version: int, key: KeyId | None) -> None:
    name = placed.entry.participant
    valid = {one.key_id for one in _valid(directory, name, version)}
    listed = (
        row
        for row in rows(placed.entry)
        if not row[0].endswith(" key") or any(f"id {one.hex()}" in str(row[1]) for one in valid)
    )
    held = None if key is None else directory.holder(key)
    show(
        [
            *([] if key is None or held is None else [("key", _validity(key, held, version))]),
            *listed,
            ("entry of version", placed.version),
            *(
                (f"version {change.version}", _happened(change.change))
                for change in directory.history(name)
                if change.version <= version
            ),
        ]
    )


def _happened(change: Change) -> str:
    if isinstance(change, DirectoryRevocation):
        return f"key {change.key_id.hex()} revoked ({change.reason.lower()})"
    return "admitted" if change.previous is None else "new entry"


def _told(directory: Directory, placed: PlacedEntry, version: int, key: KeyId | None) -> dict[str, object]:
    entry = placed.entry
    held = None if key is None else directory.holder(key)
    return {
        "participant": entry.participant,
        "legal_name": entry.legal_name,
        "lei": entry.lei,
        "bic": entry.bic,
        "country": entry.country,
        "role": entry.role,
        "addresses": list(entry.addresses),
        "accounts": list(entry.accounts),
        "threshold": entry.threshold,
        "signing_keys": [one.public_key.hex() for one in directory.signing_keys(entry.participant, version)],
        "encryption_keys": [
            one.public_key.hex() for one in directory.encryption_keys(entry.participant, version)
        ],
        "directory_version": version,
        "entry_version": placed.version,
        "key": None
        if key is None or held is None
        else {
            "key_id": key.hex(),
            "signs": held.signs,
            "valid": held.valid_at(version),
            "since": held.since,
            "until": held.until,
            "revoked": held.revoked,
        },
        "history": [
            {"version": change.version, "what": _happened(change.change)}
            for change in directory.history(entry.participant)
            if change.version <= version
        ],
    }


def _valid(directory: Directory, name: str, version: int) -> tuple[PublicKey, ...]:
    return directory.signing_keys(name, version) + directory.encryption_keys(name, version)
