"""``parley account``: the accounts on chains that our entry lists; the registrar attests that they are ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parley.cli.changing import Output, amended, entry_request, present_entry, speaking, submit
from parley.cli.desk import read_directory, tell, write_request
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    Wait,
    profile_of,
    signatories_of,
)
from parley.errors import DirectoryError
from parley.legal_identity import is_account

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Our accounts on chains, whose transactions a ledger service takes from us.",
        no_args_is_help=True,
    )
    group.command()(add)
    group.command()(drop)
    app.add_typer(group, name="account")


def add(
    account: Annotated[str, typer.Argument(help="The account, CAIP-10, such as eip155:1:0x… for Ethereum.")],
    output: Annotated[
        Path, typer.Option(help="Write the signed request to this file; the registrar attests the account.")
    ],
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Ask for one more account; the registrar submits the request (`parley registrar admit`)."""
    if not is_account(account):
        raise typer.BadParameter("an account is written chain and address, such as eip155:1:0x… (CAIP-10)")
    settings = profile_of(profile)
    directory = read_directory(settings)
    before = present_entry(directory, settings.participant)
    if account in before.accounts:
        raise DirectoryError(f"{account} is an account of {settings.participant} already")
    entry = amended(directory, before, before.addresses)._replace(accounts=(*before.accounts, account))
    keys = signatories_of(settings, password_file)
    write_request(output, entry_request(entry, speaking(keys, directory, settings.participant)))
    tell(entry, {"request": str(output)}, json=json)


def drop(
    account: Annotated[str, typer.Argument(help="One of our accounts.")],
    output: Output = None,
    wait: Wait = 60.0,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Give an account up: from then on no ledger service takes its transactions from us."""
    settings = profile_of(profile)
    directory = read_directory(settings)
    before = present_entry(directory, settings.participant)
    if account not in before.accounts:
        raise DirectoryError(f"{account} is no account of {settings.participant}'s; see `parley who`")
    kept = tuple(each for each in before.accounts if each != account)
    entry = amended(directory, before, before.addresses)._replace(accounts=kept)
    keys = signatories_of(settings, password_file)
    asked = entry_request(entry, speaking(keys, directory, settings.participant))
    if output is not None:
        write_request(output, asked)
        tell(entry, {"request": str(output)}, json=json)
        return
    tell(entry, {"directory_version": submit(settings, directory, asked, wait)}, json=json)
