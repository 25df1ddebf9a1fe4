"""``parley waiting``: our open transactions by deadline, and whom each waits on."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from parley.cli.messages import connection
from parley.cli.options import DEFAULT_PROFILE, Json, PasswordFile, ProfileFile
from parley.cli.output import moment, printable, show_json
from parley.cli.telling import due_row, due_text
from parley.identifiers import transaction_text
from parley.waiting import Waiting

__all__ = ["register"]

_COLUMNS = ("until", "since", "transaction", "kind", "waiting on")


def register(app: typer.Typer) -> None:
    app.command("waiting")(show_waiting)


def show_waiting(
    mine: Annotated[bool, typer.Option("--mine", help="Only what waits on us.")] = False,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """List our open transactions by deadline: who is due, since when, until when, and what they had said last."""

    async def look() -> tuple[Waiting, ...]:
        async with connection(profile, password_file) as me:
            return me.waiting()

    rows = [row for row in asyncio.run(look()) if row.mine or not mine]
    if json:
        for row in rows:
            show_json(_row(row))
        return
    for line in _table([_COLUMNS, *map(_cells, rows)] if rows else []):
        typer.echo(line)


def _row(row: Waiting) -> dict[str, object]:
    deal = row.deal
    return {
        "transaction": transaction_text(deal.id),
        "kind": deal.kind,
        "parties": list(deal.parties),
        "deadline": row.until,
        "since": row.since,
        "messages": len(deal.messages),
        "waiting_on": list(deal.waiting_on),
        "due": [due_row(due) for due in row.due],
        "mine": row.mine,
    }


def _cells(row: Waiting) -> tuple[str, ...]:
    return (
        moment(row.until),
        moment(row.since),
        transaction_text(row.deal.id),
        printable(row.deal.kind, 24),
        ", ".join(map(due_text, row.due)),
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
