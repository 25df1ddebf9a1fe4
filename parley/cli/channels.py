"""``parley channel``: named groups with a shared key."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from parley.channel import Channel
from parley.cli.messages import channel_of, connection, duration
from parley.cli.options import DEFAULT_PROFILE, Json, PasswordFile, ProfileFile
from parley.cli.output import moment, show, show_json
from parley.identifiers import transaction_text

__all__ = ["register"]

Identity = Annotated[
    str, typer.Argument(help="The channel's id; ID@OPENER where several participants claim it.")
]
Lasting = Annotated[str, typer.Option(help="How long the epoch lasts, such as 4h, 14d.")]
Members = Annotated[list[str], typer.Option("--member", help="A participant; may be repeated.")]


def register(app: typer.Typer) -> None:
    channel = typer.Typer(
        help="Make, change and list channels: groups that read what is said on them.", no_args_is_help=True
    )
    channel.command()(create)
    channel.command()(add)
    channel.command()(remove)
    channel.command()(renew)
    channel.command("show")(show_channels)
    app.add_typer(channel, name="channel")


def create(
    name: Annotated[str, typer.Argument(help="Its name, which only its members read.")],
    member: Members,
    reader: Annotated[
        list[str] | None,
        typer.Option(
            "--reader", help="Reads it without being a member, such as a regulator; may be repeated."
        ),
    ] = None,
    lasting: Lasting = "14d",
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Open a channel with these members besides ourselves."""
    lasts = duration(lasting)

    async def opened() -> Channel:
        async with connection(profile, password_file) as me:
            return await me.create_channel(name, member, readers=reader or (), lasting=lasts)

    _tell(asyncio.run(opened()), json=json)


def add(
    channel: Identity,
    member: Members,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Add members, who read what is new; a new epoch begins. Only for who opened the channel."""

    async def added() -> Channel:
        async with connection(profile, password_file) as me:
            found = channel_of(me, channel)
            await found.add(*member)
            return found

    _tell(asyncio.run(added()), json=json)


def remove(
    channel: Identity,
    member: Members,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Remove members, who read nothing new and keep what they could read; a new epoch begins. Only for who opened the channel."""

    async def removed() -> Channel:
        async with connection(profile, password_file) as me:
            found = channel_of(me, channel)
            await found.remove(*member)
            return found

    _tell(asyncio.run(removed()), json=json)


def renew(
    channel: Identity,
    lasting: Lasting = "14d",
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Begin a new epoch with the same members, before the old one ends. Only for who opened the channel."""
    lasts = duration(lasting)

    async def renewed() -> Channel:
        async with connection(profile, password_file) as me:
            found = channel_of(me, channel)
            await found.renew(lasting=lasts)
            return found

    _tell(asyncio.run(renewed()), json=json)


def show_channels(
    profile: ProfileFile = DEFAULT_PROFILE, password_file: PasswordFile = None, json: Json = False
) -> None:
    """List the channels that we read: name, members, and until when the epoch lasts."""

    async def found() -> tuple[Channel, ...]:
        async with connection(profile, password_file) as me:
            return me.channels

    for channel in asyncio.run(found()):
        _tell(channel, json=json)


def _tell(channel: Channel, *, json: bool) -> None:
    epoch = channel.epoch
    if json:
        show_json(
            {
                "channel": transaction_text(channel.id),
                "name": epoch.name,
                "opener": epoch.opener,
                "epoch": epoch.number,
                "members": list(epoch.members),
                "readers": list(epoch.readers),
                "transaction": transaction_text(epoch.transaction_id),
                "deadline": epoch.deadline,
            }
        )
        return
    show(
        [
            ("channel", transaction_text(channel.id)),
            ("name", epoch.name),
            ("opened by", epoch.opener),
            ("epoch", f"{epoch.number}, until {moment(epoch.deadline)}"),
            ("members", ", ".join(epoch.members)),
            ("readers", ", ".join(epoch.readers) or None),
        ]
    )
