"""``parley registrar``: the registrar's part, by which names are attested and participants admitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from parley.admission import attested_facts
from parley.cli.desk import change_in, hand_in, read_directory, read_request, rows, tell, write_request
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    Wait,
    profile_of,
    signatories_of,
)
from parley.cli.output import show
from parley.custody import Signatory
from parley.directory import Directory
from parley.entry import faults_of
from parley.envelope import countersign, verify_signatures
from parley.errors import DirectoryError
from parley.schemas import DirectoryEntry, Envelope, decode, encode

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="The registrar's part: attest names, and admit.", no_args_is_help=True)
    group.callback()(_keep_names)
    group.command()(admit)
    app.add_typer(group, name="registrar")


def _keep_names() -> None:
    """Keeps the command's name on the command line although it is the only one."""


def admit(
    request: Annotated[Path, typer.Argument(help="The request that a participant made with --output.")],
    output: Annotated[
        Path | None,
        typer.Option(help="Write the countersigned request to this file instead of submitting it."),
    ] = None,
    wait: Wait = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Check a participant's request, show what would be attested, ask, countersign it and submit it.

    Form and check digits of LEI and BIC, the country and the participant's own signatures are checked before anything is asked.
    That the names are true is for a person to check. The profile and the keystore are the registrar's.
    """
    settings = profile_of(profile)
    asked = read_request(request)
    envelope = decode(asked.change, Envelope)
    change = change_in(envelope)
    if not isinstance(change, DirectoryEntry):
        raise DirectoryError(
            f"{request} is no entry; a key is revoked by the registrar with `parley revoke KEY`"
        )
    for fault in faults_of(change):
        raise DirectoryError(fault)
    keys = signatories_of(settings, password_file)
    if output is None:
        directory = read_directory(settings)
        key = _registrars_key(keys, directory)
        envelope = countersign(envelope, key)
        directory.admit(envelope, 0)  # whatever admission would refuse is refused here
        facts = attested_facts(directory.entry(change.participant), change)
    else:
        # Away from the backbone, only the pinned key can be known, and only what the entry itself says.
        verify_signatures(envelope, change.signing_keys)
        key = keys[0]
        if key.public != settings.registrar:
            raise DirectoryError(
                f"the signing key is not the registrar's of {settings.path}; use the registrar's profile"
            )
        envelope = countersign(envelope, key)
        facts = attested_facts(None, change)
    if not yes:
        show([*rows(change), *((f"attests {name}", fact) for name, fact in facts.items())])
        typer.confirm("Have these been checked, and shall they be attested?", abort=True)
    asked = asked._replace(change=encode(envelope))
    if output is not None:
        write_request(output, asked)
        tell(change, {"request": str(output)}, json=json)
        return
    tell(change, {"directory_version": hand_in(settings, asked, wait)}, json=json)


def _registrars_key(keys: Sequence[Signatory], directory: Directory) -> Signatory:
    """The key that is a valid one of the registrar's now."""
    for key in keys:
        held = directory.speaker(key.id)
        if held is not None and held.participant == directory.registrar:
            return key
    raise DirectoryError("no key of ours is a valid one of the registrar's; use the registrar's profile")
