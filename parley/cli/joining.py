"""``parley join`` and ``parley admit``: a participant's entry into the directory, from its own hand to the registrar's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    keystore_of,
    profile_of,
    read_file,
    signatory_of,
    write_file,
)
from parley.cli.output import complain, show, show_json
from parley.custody import Signatory
from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, countersign, seal, verify_signatures
from parley.errors import DirectoryError, ProfileError
from parley.kafka import DIRECTORY, TopicReader, submit_admission
from parley.keys import public_key
from parley.keystore import Keystore
from parley.profile import Profile
from parley.schemas import DirectoryEntry, Envelope, Role, decode, encode

__all__ = ["register"]

_ROLES: dict[str, Role] = {
    "bank": "BANK",
    "csd": "CSD",
    "regulator": "REGULATOR",
    "auditor": "AUDITOR",
    "operator": "OPERATOR",
}


def register(app: typer.Typer) -> None:
    app.command()(join)
    app.command()(admit)


def join(
    legal_name: Annotated[str | None, typer.Option(help="As registered.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166-1, two letters.")] = None,
    role: Annotated[str, typer.Option(help=f"One of {', '.join(_ROLES)}.")] = "bank",
    lei: Annotated[str | None, typer.Option(help="Legal entity identifier, ISO 17442.")] = None,
    bic: Annotated[str | None, typer.Option(help="ISO 9362.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the signed entry to this file for the registrar, and end.")
    ] = None,
    entry: Annotated[
        Path | None, typer.Option(help="Submit this file, which the registrar has countersigned.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for admission.")] = 60.0,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Ask to be admitted to the directory, and wait until we are.

    Signs an entry with our keys. With --output it goes to a file: send that to the registrar, who answers with a countersigned
    one (`parley admit`), and submit that with --entry. Without either it is submitted as it is.
    """
    settings = profile_of(profile)
    if entry is not None:
        envelope = _read_entry(entry)
    else:
        if legal_name is None or country is None:
            raise typer.BadParameter("--legal-name and --country are needed to make an entry")
        if role not in _ROLES:
            raise typer.BadParameter(f"--role is one of {', '.join(_ROLES)}")
        keys = keystore_of(settings, password_file)
        signing = signatory_of(settings, password_file, keys)
        envelope = _make_entry(settings, keys, signing, legal_name, country, _ROLES[role], lei, bic)
    if output is not None:
        write_file(output, encode(envelope))
        _tell(envelope, {"entry": str(output)}, json=json)
        return
    said = decode(envelope.payload, DirectoryEntry)
    submit_admission(settings.access(), said.participant, encode(envelope))
    version = _await(settings, envelope, said, wait)
    _tell(envelope, {"directory_version": version}, json=json)


def admit(
    request: Annotated[
        Path, typer.Argument(help="The entry that a participant made with `parley join --output`.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Write the countersigned entry to this file instead of submitting it.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for admission.")] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Countersign a participant's entry: the registrar attests its names. The profile and keystore are the registrar's."""
    settings = profile_of(profile)
    envelope = _read_entry(request)
    entry = decode(envelope.payload, DirectoryEntry)
    verify_signatures(envelope, entry.signing_keys)
    if not yes:
        _show_entry(entry)
        typer.confirm("Have these been checked, and shall they be attested?", abort=True)
    key = signatory_of(settings, password_file)
    if key.public != settings.registrar:
        raise DirectoryError(
            f"the signing key is not the registrar's of {settings.path}; use the registrar's profile"
        )
    envelope = countersign(envelope, key)
    if output is not None:
        write_file(output, encode(envelope))
        _tell(envelope, {"entry": str(output)}, json=json)
        return
    submit_admission(settings.access(), entry.participant, encode(envelope))
    _tell(envelope, {"directory_version": _await(settings, envelope, entry, wait)}, json=json)


def _make_entry(
    profile: Profile,
    keys: Keystore,
    signing: Signatory,
    legal_name: str,
    country: str,
    role: Role,
    lei: str | None,
    bic: str | None,
) -> Envelope:
    if keys.participant != profile.participant:
        raise ProfileError(
            f"the keystore is {keys.participant}'s and the profile {profile.participant}'s; make them agree"
        )
    encryption = keys.encryption_keys()[:1]
    entry = DirectoryEntry(
        participant=profile.participant,
        legal_name=legal_name,
        lei=lei,
        bic=bic,
        country=country.upper(),
        role=role,
        signing_keys=(public_key(signing.public),),
        encryption_keys=tuple(public_key(key.public) for key in encryption),
        addresses=(profile.address,),
    )
    return seal(DIRECTORY_ENTRY_TYPE, entry, signing)


def _read_entry(path: Path) -> Envelope:
    envelope = decode(read_file(path), Envelope)
    if envelope.payload_type != DIRECTORY_ENTRY_TYPE:
        raise DirectoryError(f"{path} is not a directory entry; make one with `parley join --output`")
    decode(envelope.payload, DirectoryEntry)
    return envelope


def _await(profile: Profile, envelope: Envelope, entry: DirectoryEntry, wait: float) -> int:
    """The version that admitted the entry; DirectoryError if none does in time."""
    directory = Directory(profile.registrar)
    until = time.monotonic() + wait
    if not any(signature.key_id == directory.root.key_id for signature in envelope.signatures):
        complain("the registrar has not signed this entry; it is admitted only after `parley admit`")
    with TopicReader(profile.access(), DIRECTORY) as reader:
        while time.monotonic() < until:
            for record in reader.poll(0.2):
                directory.apply(record.value)
            version = directory.version_of(entry.participant)
            if version is not None and directory.entry(entry.participant) == entry:
                return version
    raise DirectoryError(
        f"{entry.participant} was not admitted within {wait:g} s; ask the registrar, and wait again with a longer --wait"
    )


def _show_entry(entry: DirectoryEntry) -> None:
    show(
        [
            ("participant", entry.participant),
            ("legal name", entry.legal_name),
            ("LEI", entry.lei),
            ("BIC", entry.bic),
            ("country", entry.country),
            ("role", entry.role.lower()),
            ("addresses", ", ".join(entry.addresses)),
            *(("signing key", key.public_key.hex()) for key in entry.signing_keys),
        ]
    )


def _tell(envelope: Envelope, result: dict[str, str | int], *, json: bool) -> None:
    entry = decode(envelope.payload, DirectoryEntry)
    if json:
        show_json(
            {"participant": entry.participant, "legal_name": entry.legal_name, "role": entry.role, **result}
        )
        return
    _show_entry(entry)
    show([(name.replace("_", " "), value) for name, value in result.items()])
