"""``parley operator``: what an operator's desk does to its backbone; so far the dead letters, to see them and to put them back."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

import parley
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    profile_of,
    signatory_of,
    write_file,
)
from parley.cli.output import moment, printable, show, show_json
from parley.custody import Signatory
from parley.dead_letter_topic import DeadLetterTopic, PutBack, Redriver
from parley.dead_letters import DeadLetter, DeadLetters, Mark
from parley.deal import Deal
from parley.errors import RedriveError, WireError
from parley.identifiers import transaction_text
from parley.kafka import KafkaTransport
from parley.profile import Profile
from parley.redrive import (
    REDRIVE_KIND,
    REDRIVE_TYPE,
    REDRIVEN_TYPE,
    SOUND,
    fitting,
    headers_back,
    redrive_fault,
    target_of,
)
from parley.schemas import Redrive, Redriven, RedrivenLetter, decode_any, encode

__all__ = ["register"]

_DEADLINE = timedelta(minutes=10)
"""Within which a redrive is done, or was interrupted."""

Number = Annotated[int, typer.Argument(min=0, help="The letter's number, as `list` shows it.")]
OfTopic = Annotated[str | None, typer.Option("--topic", help="Only those that came from this topic.")]


def register(app: typer.Typer) -> None:
    operator = typer.Typer(no_args_is_help=True, help="What an operator does to its backbone.")
    letters = typer.Typer(no_args_is_help=True, help="Records that could not be processed.")
    letters.command("list")(list_letters)
    letters.command("show")(show_letter)
    letters.command("redrive")(redrive)
    operator.add_typer(letters, name="dead-letter")
    app.add_typer(operator, name="operator")


def list_letters(
    everything: Annotated[bool, typer.Option("--all", help="Those that were put back, too.")] = False,
    topic: OfTopic = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    json: Json = False,
) -> None:
    """List the dead letters that nobody has put back: what came from where, when, and why it could not be processed."""
    with DeadLetterTopic(profile_of(profile).access()) as source:
        letters = DeadLetters(source.read())
    for letter in letters if everything else letters.waiting():
        if topic is not None and (letter.origin is None or letter.origin.topic != topic):
            continue
        if json:
            show_json(_row(letter, letters))
        else:
            typer.echo(_line(letter, letters))


def show_letter(
    number: Number,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the record's value to this new file.")
    ] = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    json: Json = False,
) -> None:
    """Show one dead letter: its story with the stack, and what became of it."""
    with DeadLetterTopic(profile_of(profile).access()) as source:
        letters = DeadLetters(source.read())
        letter = letters.get(number)
        if letter is None:
            raise RedriveError(f"there is no dead letter {number}; `list --all` shows those that are kept")
        value = source.record(number).value or b""
    if output is not None:
        write_file(output, value)
    row = _row(letter, letters) | {"holds": _contract(value), "stack": letter.stack}
    if json:
        show_json(row)
        return
    means = None if letter.origin is None else SOUND.get(letter.origin.topic, "not possible")
    show(
        [
            ("letter", number),
            ("came from", _origin(letter)),
            ("became one", f"{moment(letter.at)}, by {letter.service}"),
            ("reason", letter.reason),
            ("missing topic", letter.destination),
            ("holds", f"{row['holds']}, {letter.size} bytes, SHA-256 {letter.digest.hex()}"),
            ("put back", _history(letter, letters) or "no"),
            ("if put back", means),
        ]
    )
    if letter.stack is not None:
        for line in letter.stack.splitlines():
            typer.echo(printable(line))


def redrive(
    reason: Annotated[
        str, typer.Option(help="What was mended, so that they can be processed now; public for ever.")
    ],
    witness: Annotated[
        str, typer.Option("--with", help="The other party of the statement, such as the regulator.")
    ],
    numbers: Annotated[list[int] | None, typer.Argument(help="The letters' numbers.")] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All that nobody has put back, as far as they fit one statement; of --topic alone, if given.",
        ),
    ] = False,
    topic: OfTopic = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was put back before, or has come back.")
    ] = False,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Put dead letters back where they came from, as they came, and state that on the record: signed by us, an operator.

    The statement comes first, then all letters go back at once or none, then the statement is finished with their new places.
    """
    if bool(numbers) == everything or (topic is not None and not everything):
        raise typer.BadParameter("give the letters' numbers, or --all, which --topic may limit")
    settings = profile_of(profile)
    key = signatory_of(settings, password_file)
    access = settings.access()
    redriver = Redriver(access)  # first, so that no other redrive comes between reading and writing
    with DeadLetterTopic(access) as source:
        letters = DeadLetters(source.read())
        waiting = _waiting(letters, topic) if everything else []
        wanted = fitting(waiting) if everything else dict.fromkeys(numbers or ())
        targets = tuple(target_of(number, letters, again=again) for number in sorted(wanted))
        statement = Redrive(targets, reason, again, time.time_ns() // 1_000_000)
        if fault := redrive_fault(statement):
            raise RedriveError(f"this cannot be stated: {fault}")
        records = [_back(source, letters[target.letter]) for target in targets]
    deal, offsets = asyncio.run(_carry_out(settings, key, witness, statement, redriver, records))
    placed = [
        {"letter": target.letter, "topic": target.topic, "partition": target.partition, "offset": offset}
        for target, offset in zip(targets, offsets, strict=True)
    ]
    left = len(waiting) - len(placed) if everything else 0
    if json:
        row = {"statement": transaction_text(deal.id), "outcome": deal.outcome, "put_back": placed}
        show_json(row | {"left": left})
        return
    show(
        [
            ("statement", transaction_text(deal.id)),
            *(
                (
                    "put back",
                    f"letter {at['letter']} at {at['topic']}/{at['partition']} offset {at['offset']}",
                )
                for at in placed
            ),
            ("left for another time", left or None),
        ]
    )


async def _carry_out(
    settings: Profile,
    key: Signatory,
    witness: str,
    statement: Redrive,
    redriver: Redriver,
    records: list[PutBack],
) -> tuple[Deal, list[int]]:
    """State the redrive, put the records back, and state where they are; gives the offsets."""
    connection = parley.connect(
        KafkaTransport(settings.access()),
        participant=settings.participant,
        key=key,
        registrar=settings.registrar,
        address=settings.address,
        consumer=None,
    )
    async with connection as me:
        entry = me.directory.entry(settings.participant)
        if entry is None or entry.role != "OPERATOR":
            raise RedriveError(
                f"{settings.participant} is not an operator in the directory; only one may put dead letters back"
            )
        deal = await me.open(
            [witness],
            kind=REDRIVE_KIND,
            deadline=_DEADLINE,
            content=encode(statement),
            content_type=REDRIVE_TYPE,
        )
        by, now = settings.participant, me.now()
        marks = [
            Mark(target.letter, target.digest, transaction_text(deal.id), by, now)
            for target in statement.targets
        ]
        try:
            offsets = await asyncio.to_thread(redriver.put_back, records, marks)
        except RedriveError:
            await deal.finish(encode(Redriven(())), content_type=REDRIVEN_TYPE)
            raise
        placed = (
            RedrivenLetter(target.letter, offset)
            for target, offset in zip(statement.targets, offsets, strict=True)
        )
        await deal.finish(encode(Redriven(tuple(placed))), content_type=REDRIVEN_TYPE)
        return deal, offsets


def _waiting(letters: DeadLetters, topic: str | None) -> list[DeadLetter]:
    """The letters that can be put back and neither were nor have come back."""
    found = [
        letter
        for letter in letters.waiting()
        if letter.origin is not None
        and letter.origin.topic in SOUND
        and topic in {None, letter.origin.topic}
        and letters.before(letter) is None
    ]
    if not found:
        raise RedriveError("no dead letter waits to be put back there; `parley operator dead-letter list`")
    return found


def _back(source: DeadLetterTopic, letter: DeadLetter) -> PutBack:
    assert letter.origin is not None
    value = source.record(letter.number).value
    assert value is not None
    return PutBack(letter.origin.topic, letter.origin.partition, letter.key, value, headers_back(letter))


def _row(letter: DeadLetter, letters: DeadLetters) -> dict[str, object]:
    origin = letter.origin
    return {
        "letter": letter.number,
        "at": letter.at,
        "topic": None if origin is None else origin.topic,
        "partition": None if origin is None else origin.partition,
        "offset": None if origin is None else origin.offset,
        "appended_at": None if origin is None else origin.at,
        "service": letter.service,
        "error": letter.error,
        "reason": letter.reason,
        "destination": letter.destination,
        "bytes": letter.size,
        "digest": letter.digest.hex(),
        "came_back": letters.before(letter),
        "put_back": [
            {"statement": mark.statement, "by": mark.by, "at": mark.at}
            for mark in letters.marks(letter.number)
        ],
    }


def _line(letter: DeadLetter, letters: DeadLetters) -> str:
    state = _history(letter, letters)
    return (
        f"{letter.number:>6}  {moment(letter.at)}  {_origin(letter)}  {printable(letter.service, 40)}: "
        f"{printable(letter.reason, 120)}" + (f"  [{state}]" if state else "")
    )


def _origin(letter: DeadLetter) -> str:
    origin = letter.origin
    return "not told" if origin is None else f"{origin.topic}/{origin.partition} offset {origin.offset}"


def _history(letter: DeadLetter, letters: DeadLetters) -> str:
    before = letters.before(letter)
    told = [] if before is None else [f"is letter {before}, put back and come here again"]
    told += [
        f"put back {moment(mark.at)} by {printable(mark.by, 60)}, transaction {printable(mark.statement, 40)}"
        for mark in letters.marks(letter.number)
    ]
    return "; ".join(told)


def _contract(value: bytes) -> str:
    """What the value is, if it is one of the wire's records."""
    try:
        return type(decode_any(value)).__name__
    except WireError as error:
        return f"nothing readable ({error})"
