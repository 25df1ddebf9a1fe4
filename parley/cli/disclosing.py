"""``parley disclose``: keys to what was said in private, given to a regulator on the record."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from parley.blocks import BlockStore, sealed_event
from parley.cli.messages import connection
from parley.cli.options import DEFAULT_PROFILE, Json, PasswordFile, ProfileFile
from parley.cli.output import moment, show, show_json
from parley.cli.transactions import Store, StoreKey, open_store
from parley.client import Participant
from parley.deal import Accepted, DealMessage
from parley.errors import ParleyError
from parley.events import read_spoken
from parley.history import learn, sealed_events
from parley.identifiers import parse_transaction_id, transaction_text
from parley.lookup import Lookup
from parley.schemas import FirehoseEvent, Scope, TransactionId

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command()(disclose)


def disclose(
    transaction: Annotated[str, typer.Argument(help="The transaction's id, or a channel epoch's.")],
    to: Annotated[str, typer.Option("--to", help="Who may read from now on, such as a regulator.")],
    message: Annotated[int | None, typer.Option("--message", help="Only this message of it, from 0.")] = None,
    epoch: Annotated[
        bool, typer.Option("--epoch", help="Everything said in the channel's epoch that it was opened under.")
    ] = False,
    statement: Annotated[str, typer.Option(help="Why; only the reader reads it.")] = "",
    store: Store = None,
    log_key: StoreKey = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Give somebody the key to one transaction, one message of it (--message), or one channel epoch (--epoch).

    What the inbox no longer keeps is read from a block store (--store). Returns once the disclosure itself is on the record.
    """
    if message is not None and epoch:
        raise typer.BadParameter("give either --message or --epoch")
    identity = parse_transaction_id(transaction)
    scope: Scope = "MESSAGE" if message is not None else "EPOCH" if epoch else "TRANSACTION"
    past = None if store is None else open_store(store, log_key)

    async def disclosed() -> Accepted:
        async with connection(profile, password_file) as me:
            if past is not None:
                learn(me.secrecy.reader, sealed_events(past))
            said = None if message is None else _message(me, past, identity, message)
            return await me.disclose(scope, identity, to=to, statement=statement, message=said)

    accepted = asyncio.run(disclosed())
    if json:
        show_json(
            {
                "disclosed": transaction_text(identity),
                "scope": scope,
                "to": to,
                "transaction": transaction_text(accepted.deal.id),
                "at": accepted.message.at,
            }
        )
        return
    show(
        [
            ("disclosed", f"{scope.lower()} of {transaction_text(identity)}"),
            ("to", to),
            ("on the record", f"transaction {transaction_text(accepted.deal.id)}"),
            ("at", moment(accepted.message.at)),
        ]
    )


def _message(me: Participant, past: BlockStore | None, identity: TransactionId, number: int) -> DealMessage:
    """The message with this number of the transaction, from the inbox or from the block store."""
    deal = me.deal(identity)
    if deal is not None:
        found = next((message for message in deal.messages if message.sequence == number), None)
    elif past is not None:
        place = Lookup(past).transaction(identity)
        events = past.block(place.height).transactions[place.leaf_index].events
        found = next(
            (message for data in events if (message := _sealed(data)) and message.sequence == number), None
        )
    else:
        raise ParleyError(
            f"transaction {transaction_text(identity)} is not open; name the block store that has it with --store"
        )
    if found is None:
        raise ParleyError(
            f"transaction {transaction_text(identity)} has no message {number} that we were sent"
        )
    return found


def _sealed(data: bytes) -> DealMessage | None:
    """A message of a block store as a deal has it; its content is not needed."""
    event = sealed_event(data)
    if not isinstance(event, FirehoseEvent) or (spoken := read_spoken(event)) is None:
        return None
    message = spoken.message
    return DealMessage(
        spoken.message_id,
        message.sequence,
        message.sender,
        message.action,
        message.content_type,
        b"",
        event.at,
        event.pipeline,
        event.sequence,
        sealed=message,
    )
