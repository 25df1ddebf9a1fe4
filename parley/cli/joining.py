"""``parley join``: a participant's entry into the directory, from its own hand; the registrar's part is ``parley registrar``."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from parley.cli.desk import change_in, hand_in, read_request, tell, write_request
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    Wait,
    keystore_of,
    profile_of,
    signatory_of,
)
from parley.cli.output import complain
from parley.credentials import seal_credentials
from parley.custody import Signatory
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.errors import ProfileError
from parley.keys import public_key
from parley.keystore import Keystore
from parley.private_files import write_new
from parley.profile import Profile, read_password
from parley.schemas import AdmissionRequest, DirectoryEntry, Envelope, Hash, Role, decode, encode

__all__ = ["NextKey", "commitment", "register"]

_ROLES: dict[str, Role] = {
    "bank": "BANK",
    "csd": "CSD",
    "regulator": "REGULATOR",
    "auditor": "AUDITOR",
    "operator": "OPERATOR",
}


NextKey = Annotated[
    str | None,
    typer.Option(
        help="Public signing key (hexadecimal) of a keystore kept apart: only it can change our keys later."
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(join)


def join(
    legal_name: Annotated[str | None, typer.Option(help="As registered.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166-1, two letters.")] = None,
    role: Annotated[str, typer.Option(help=f"One of {', '.join(_ROLES)}.")] = "bank",
    lei: Annotated[str | None, typer.Option(help="Legal entity identifier, ISO 17442.")] = None,
    bic: Annotated[str | None, typer.Option(help="ISO 9362.")] = None,
    threshold: Annotated[
        int,
        typer.Option(
            help="How many of our signing keys must sign each message; all in the keystore are entered."
        ),
    ] = 1,
    next_key: NextKey = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the signed request to this file for the registrar, and end.")
    ] = None,
    request: Annotated[
        Path | None, typer.Option(help="Submit this file, which the registrar has countersigned.")
    ] = None,
    wait: Wait = 60.0,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Ask to be admitted to the directory.

    Signs an entry with our keys. With --output it goes to a file: give that to the registrar, who checks and submits it (`parley
    registrar admit`). Where the profile names admission's key, the file also holds the password that our Kafka user is to
    have, sealed to that key. With --request a countersigned file is submitted, and we wait until it stands in the directory.
    """
    settings = profile_of(profile)
    if request is not None:
        asked = read_request(request)
    else:
        if legal_name is None or country is None:
            raise typer.BadParameter("--legal-name and --country are needed to make an entry")
        if role not in _ROLES:
            raise typer.BadParameter(f"--role is one of {', '.join(_ROLES)}")
        keys = keystore_of(settings, password_file)
        signing = (
            keys.signing_keys()
            if settings.signing_key is None
            else (signatory_of(settings, password_file, keys),)
        )
        entry = _entry(settings, keys, signing, threshold, next_key)._replace(
            legal_name=legal_name, lei=lei, bic=bic, country=country.upper(), role=_ROLES[role]
        )
        asked = _request(settings, signing, entry)
    change = change_in(decode(asked.change, Envelope))
    if output is not None:
        write_request(output, asked)
        tell(change, {"request": str(output)}, json=json)
        return
    tell(change, {"directory_version": hand_in(settings, asked, wait)}, json=json)


def _entry(
    profile: Profile, keys: Keystore, signing: Sequence[Signatory], threshold: int, next_key: str | None
) -> DirectoryEntry:
    """Our entry without what the registrar attests."""
    if keys.participant != profile.participant:
        raise ProfileError(
            f"the keystore is {keys.participant}'s and the profile {profile.participant}'s; make them agree"
        )
    if not signing:
        keys.signing_key()  # says what to do where there is none
    return DirectoryEntry(
        participant=profile.participant,
        legal_name="",
        lei=None,
        bic=None,
        country="",
        role="BANK",
        signing_keys=tuple(public_key(key.public) for key in signing),
        encryption_keys=tuple(public_key(key.public) for key in keys.encryption_keys()[:1]),
        addresses=(profile.address,),
        threshold=threshold,
        next_key=commitment(next_key),
    )


def commitment(digits: str | None) -> Hash | None:
    """SHA-256 of the public key that ``--next-key`` gives; raises BadParameter."""
    if digits is None:
        return None
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise typer.BadParameter(
            "--next-key is a public key of 64 hexadecimal digits, as `parley keygen` shows it"
        )
    return Hash(sha256(key).digest())


def _request(profile: Profile, signing: Sequence[Signatory], entry: DirectoryEntry) -> AdmissionRequest:
    change = seal(DIRECTORY_ENTRY_TYPE, entry, *signing)
    credentials = None
    if profile.admission is not None:
        sealed = seal_credentials(
            _kafka_password(profile),
            change,
            public_key(profile.admission),
            *signing,
        )
        credentials = encode(sealed)
    else:
        complain(
            "the profile names no key of admission's (admission = …), so no Kafka user is asked for; the operator has to make it"
        )
    return AdmissionRequest(encode(change), credentials)


def _kafka_password(profile: Profile) -> str:
    """The password in the profile's file; a random one is written there if there is no file yet."""
    if profile.password_file is None:
        raise ProfileError(
            f"{profile.path} names no password_file; name one for the Kafka user: it is made if it is not there"
        )
    if not profile.password_file.exists():
        write_new(profile.password_file, f"{secrets.token_urlsafe(24)}\n".encode())
    return read_password(profile.password_file)
