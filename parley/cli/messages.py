"""``parley send`` and ``inbox``: a participant's own negotiations."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

import parley
from parley.channel import Channel
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
from parley.cli.output import moment, printable, show, show_json
from parley.cli.telling import due_row, due_text, said_of
from parley.client import Participant
from parley.deal import Accepted, Deal, DealMessage, InboxEvent, Received, TimedOut
from parley.errors import ParleyError
from parley.identifiers import parse_transaction_id, shown_name, transaction_text
from parley.kafka import KafkaTransport
from parley.schemas import MessageId
from parley.sealed_address import Hidden

__all__ = ["channel_of", "connection", "duration", "register"]

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TYPES = {".json": "application/json", ".txt": "text/plain; charset=utf-8", ".xml": "application/xml"}


def register(app: typer.Typer) -> None:
    app.command()(send)
    app.command()(inbox)


def send(
    text: Annotated[str | None, typer.Argument(help="What to say; or use --file.")] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="Open a transaction with this participant; may be repeated."),
    ] = None,
    hidden: Annotated[
        list[str] | None,
        typer.Option(
            "--hidden",
            help="Open a transaction with this participant, named to nobody until it speaks; may be repeated.",
        ),
    ] = None,
    deal: Annotated[str | None, typer.Option("--deal", help="Go on in the transaction with this id.")] = None,
    finish: Annotated[bool, typer.Option("--finish", help="This is our last word: finish.")] = False,
    kind: Annotated[str, typer.Option(help="Kind of the transaction that is opened.")] = "negotiation",
    deadline: Annotated[str, typer.Option(help="How long it may take, such as 90s, 15m, 4h, 2d.")] = "1h",
    every_party: Annotated[
        bool, typer.Option("--every-party", help="It ends when every party finishes, not when any does.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Only the parties, and each --reader, can read it.")
    ] = False,
    reader: Annotated[
        list[str] | None,
        typer.Option(
            "--reader",
            help="With --to: reads the deal besides its parties, such as a regulator. "
            "With --deal: only these read this message. May be repeated.",
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option("--channel", help="Post on the channel with this id; with --to, open a deal on it."),
    ] = None,
    padded: Annotated[
        bool, typer.Option("--padded", help="Hide how long messages are: each is a power of two bytes.")
    ] = False,
    want_acknowledgement: Annotated[
        bool,
        typer.Option(
            "--want-acknowledgement",
            help="Ask each recipient to sign for it; `parley tx show` tells who did.",
        ),
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="Send this file's content; - is standard input.")
    ] = None,
    content_type: Annotated[str | None, typer.Option(help="Media type of the content.")] = None,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", help="Write the operator's receipt to this file, for `parley receipt`."),
    ] = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Say something: open a transaction (--to, --hidden), go on in one (--deal), finish it (--deal … --finish), or post on a --channel.

    Goes on in private where the transaction was opened so. Returns once the operator's signed receipt is in and verified.
    """
    others = [*(to or ()), *map(Hidden, hidden or ())]
    _check_aims(
        deal,
        channel,
        opens=bool(others),
        finish=finish,
        opening_options=private or padded,
        readers=reader,
        want_acknowledgement=want_acknowledgement,
    )
    content, media_type = _content(text, file, content_type)
    within = duration(deadline)

    receipts: dict[MessageId, bytes] = {}
    if receipt is not None and receipt.exists():
        raise ParleyError(f"{receipt} exists already; choose another name for the receipt")

    async def say() -> Accepted | Deal:
        async with connection(profile, password_file, keep=receipts.__setitem__) as me:
            group = None if channel is None else channel_of(me, channel)
            if others:
                return await me.open(
                    others,
                    kind=kind,
                    deadline=within,
                    content=content,
                    content_type=media_type,
                    finish_rule="ALL" if every_party else "ANY",
                    private=private,
                    readers=reader or (),
                    channel=group,
                    padded=padded,
                    want_acknowledgement=want_acknowledgement,
                )
            if group is not None:
                return await group.post(content, content_type=media_type)
            identity = parse_transaction_id(deal or "")
            found = me.deal(identity)
            if found is None:
                raise ParleyError(
                    f"transaction {transaction_text(identity)} is not open in the inbox of {me.address}; "
                    "`parley waiting` lists those that are"
                )
            speak = found.finish if finish else found.send
            return await speak(
                content, content_type=media_type, readers=reader, want_acknowledgement=want_acknowledgement
            )

    done = asyncio.run(say())
    said = done if isinstance(done, Deal) else done.deal
    message = said.messages[-1]
    if receipt is not None:
        ours = done.message if isinstance(done, Accepted) else said.messages[0]
        write_file(receipt, receipts[ours.message_id])
    result = {**_message_row(said, message), "outcome": said.outcome, "waiting_on": list(said.waiting_on)}
    if isinstance(done, Accepted):
        result["block_by"] = done.block_by
    if json:
        show_json(result)
        return
    show(
        [
            ("transaction", transaction_text(said.id)),
            ("accepted", f"message {message.sequence} at {moment(message.at)}"),
            ("on the firehose", f"pipeline {message.pipeline}, event {message.firehose_sequence}"),
            ("deadline", moment(said.deadline)),
            ("outcome", None if said.outcome is None else said.outcome.lower()),
            ("waiting on", ", ".join(map(shown_name, said.waiting_on)) or None),
        ]
    )


def _check_aims(
    deal: str | None,
    channel: str | None,
    *,
    opens: bool,
    finish: bool,
    opening_options: bool,
    readers: list[str] | None,
    want_acknowledgement: bool,
) -> None:
    if want_acknowledgement and not opens and deal is None:
        raise typer.BadParameter(
            "what is posted on a channel is not signed for; --want-acknowledgement needs --to or --deal"
        )
    if (deal is None) == (not opens and channel is None):
        raise typer.BadParameter("give --to or --hidden (open), --deal (go on) or --channel (post)")
    if finish and deal is None:
        raise typer.BadParameter("--finish needs --deal")
    if opening_options and not opens:
        raise typer.BadParameter("--private and --padded are decided when a transaction is opened, with --to")
    if readers and not opens and deal is None:
        raise typer.BadParameter(
            "all members read what is posted on a channel; --reader needs --to or --deal"
        )


def inbox(
    once: Annotated[bool, typer.Option("--once", help="Show what is there and end.")] = False,
    consumer: Annotated[
        str,
        typer.Option(help="Each name has its own place in the inbox; whoever gives the same shares it."),
    ] = "terminal",
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Sign for what was shown, where its sender asks for that.")
    ] = False,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Show what comes to us, each event once: what was shown is acknowledged."""

    async def listen() -> None:
        async with connection(profile, password_file, consumer, acknowledges=acknowledge) as me:
            async for event in me.inbox(follow=not once):
                if json:
                    show_json(_event_row(event))
                else:
                    typer.echo(_event_line(me, event))
                sys.stdout.flush()

    try:
        asyncio.run(listen())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def connection(
    profile: Path,
    password_file: Path | None,
    consumer: str | None = None,
    *,
    acknowledges: bool = False,
    keep: Callable[[MessageId, bytes], None] | None = None,
) -> Participant:
    """The profile's participant, to be connected with ``async with``; raises as `parley.cli.options.keystore_of`.

    Without a consumer's name it takes nothing from the inbox that another process would miss.
    """
    settings = profile_of(profile)
    keys = None if settings.keystore is None else keystore_of(settings, password_file)
    return parley.connect(
        KafkaTransport(settings.access()),
        participant=settings.participant,
        key=signatory_of(settings, password_file, keys),
        decryptor=keys,
        registrar=settings.registrar,
        address=settings.address,
        keep=keep,
        consumer=consumer,
        acknowledges=acknowledges,
    )


def channel_of(me: Participant, identity: str) -> Channel:
    """The channel with this id (``id@opener`` where several claim it) among those that we read; raises ParleyError where there is none."""
    number, _, opener = identity.partition("@")
    found = me.channel(parse_transaction_id(number), opener or None)
    if found is None:
        raise ParleyError(
            f"no key to channel {identity} is in the inbox of {me.address}; `parley channel show` lists our channels"
        )
    return found


def _content(text: str | None, file: Path | None, content_type: str | None) -> tuple[bytes, str]:
    if (text is None) == (file is None):
        raise typer.BadParameter("give what to say, either as text or with --file")
    if text is not None:
        return text.encode("utf-8", "surrogateescape"), content_type or _TYPES[".txt"]
    assert file is not None
    data = sys.stdin.buffer.read() if str(file) == "-" else read_file(file)
    return data, content_type or _TYPES.get(file.suffix.lower(), "application/octet-stream")


def duration(text: str) -> timedelta:
    """How long an option says, such as 15m; raises typer.BadParameter."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise typer.BadParameter("a duration is a number and s, m, h or d, such as 15m")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _message_row(deal: Deal, message: DealMessage) -> dict[str, object]:
    return {
        "transaction": transaction_text(deal.id),
        "kind": deal.kind,
        "message_id": message.message_id.hex(),
        "sequence": message.sequence,
        "sender": message.sender,
        "action": message.action,
        "at": message.at,
        "pipeline": message.pipeline,
        "firehose_sequence": message.firehose_sequence,
        "content_type": message.content_type,
        "access": message.access,
        "content": message.text if message.is_readable else None,
    }


def _event_row(event: InboxEvent) -> dict[str, object]:
    if isinstance(event, Received):
        row = _message_row(event.deal, event.message)
        return {"event": "message", **row, "deadline": event.deal.deadline, "outcome": event.deal.outcome}
    if isinstance(event, TimedOut):
        return {
            "event": "timeout",
            "transaction": transaction_text(event.deal.id),
            "kind": event.deal.kind,
            "at": event.at,
            "waiting_on": list(event.waiting_on),
            "due": [due_row(due) for due in event.due],
        }
    return {
        "event": "unverified",
        "transaction": None if event.deal is None else transaction_text(event.deal.id),
        "reason": str(event.error),
        "record": event.record.hex(),
    }


def _event_line(me: Participant, event: InboxEvent) -> str:
    if isinstance(event, Received):
        message = event.message
        entry = me.directory.entry(message.sender)
        name = message.sender if entry is None else f"{entry.legal_name} ({message.sender})"
        verb = {"OPEN": "opens", "CONTINUE": "says", "FINISH": "finishes"}[message.action]
        return (
            f"{moment(message.at)}  {transaction_text(event.deal.id)}  {printable(name, 60)} {verb}: "
            f"{said_of(message)}"
        )
    if isinstance(event, TimedOut):
        return f"{moment(event.at)}  {transaction_text(event.deal.id)}  timed out, waiting on {', '.join(map(due_text, event.due))}"
    return f"NOT VERIFIED  {printable(str(event.error))}"
