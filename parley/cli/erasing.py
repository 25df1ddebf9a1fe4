"""``parley erase``: an operator states on the record that bodies are to be purged; block stores are purged by that statement."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

import parley
from parley.blocks import BlockStore, from_folder
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    LogKey,
    PasswordFile,
    ProfileFile,
    profile_of,
    read_log_key,
    signatory_of,
)
from parley.cli.output import show, show_json
from parley.deal import Deal
from parley.envelope import seal
from parley.erasure import ERASURE_KIND, PURGE_TYPE, purge_fault, target_of
from parley.errors import ErasureError, ParleyError
from parley.identifiers import parse_transaction_id, transaction_text
from parley.kafka import KafkaTransport
from parley.lookup import Lookup
from parley.schemas import Purge, encode

__all__ = ["register"]

_DEADLINE = timedelta(days=30)


def register(app: typer.Typer) -> None:
    app.command()(erase)


def erase(
    transactions: Annotated[list[str], typer.Argument(help="The transactions whose bodies are to go.")],
    store: Annotated[Path, typer.Option("--store", help="The block store's folder.")],
    log_key: LogKey,
    reason: Annotated[str, typer.Option(help="The law or order that demands it; public for ever.")],
    requested_by: Annotated[
        str, typer.Option(help="Who asked for it, such as an authority and its case number; public for ever.")
    ],
    witness: Annotated[
        str, typer.Option("--with", help="The other party of the erasure, such as the regulator.")
    ],
    message: Annotated[
        list[int] | None,
        typer.Option(help="Only this message, from 0, of the one transaction named; may be repeated."),
    ] = None,
    consent: Annotated[
        bool, typer.Option("--consent", help="It counts only once the other party has finished it, too.")
    ] = False,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """State that the bodies of sealed messages are purged: signed by us, an operator, as a transaction on the record.

    Purges nothing by itself: `python -m blockbuilder.purge` does, once the statement stands in a block.
    """
    if message and len(transactions) != 1:
        raise typer.BadParameter("--message needs exactly one transaction")
    if not store.is_dir():
        raise ParleyError(f"{store} is not a folder; name the block store")
    lookup = Lookup(BlockStore(from_folder(store), read_log_key(log_key)))
    targets = []
    for identity in map(parse_transaction_id, transactions):
        place = lookup.transaction(identity)
        sealed = lookup.store.block(place.height).transactions[place.leaf_index]
        targets.append(target_of(sealed, tuple(message or ())))
    purge = Purge(tuple(targets), reason, requested_by, time.time_ns() // 1_000_000)
    if fault := purge_fault(purge):
        raise ErasureError(f"this cannot be stated: {fault}")
    settings = profile_of(profile)
    key = signatory_of(settings, password_file)

    async def state() -> Deal:
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
                raise ErasureError(
                    f"{settings.participant} is not an operator in the directory; only one may purge"
                )
            deal = await me.open(
                [witness],
                kind=ERASURE_KIND,
                deadline=_DEADLINE,
                content=encode(seal(PURGE_TYPE, purge, key)),
                content_type=PURGE_TYPE,
                finish_rule="ALL" if consent else "ANY",
            )
            return (await deal.finish("")).deal

    deal = asyncio.run(state())
    events = sum(len(target.events) for target in purge.targets)
    result = {
        "statement": transaction_text(deal.id),
        "transactions": len(purge.targets),
        "messages": events,
        "outcome": deal.outcome,
        "waiting_on": list(deal.waiting_on),
    }
    if json:
        show_json(result)
        return
    show(
        [
            ("statement", transaction_text(deal.id)),
            ("names", f"{events} messages of {len(purge.targets)} transactions"),
            ("outcome", None if deal.outcome is None else deal.outcome.lower()),
            ("waiting on", ", ".join(deal.waiting_on) or None),
            ("next", "when it stands in a block: python -m blockbuilder.purge"),
        ]
    )
