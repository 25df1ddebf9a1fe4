"""``parley otc``: trades agreed by phone or e-mail, captured, affirmed, amended and cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parley.cli.messages import connection, duration
from parley.cli.options import DEFAULT_PROFILE, Json, PasswordFile, ProfileFile, read_file
from parley.cli.output import moment, printable, show, show_json
from parley.errors import OtcError
from parley.identifiers import parse_transaction_id, transaction_text
from parley.workflows import otc
from parley.workflows.otc_form import Agreed, read_call, read_email
from parley.workflows.otc_trade import Trade, trade_row

if TYPE_CHECKING:
    from parley.client import Participant
    from parley.deal import Deal

__all__ = ["register"]

Form = Annotated[
    Path, typer.Argument(help="The notes of the call (lines of name: value), or the e-mail (.eml).")
]
Transaction = Annotated[str, typer.Argument(help="The transaction's id.")]
Reason = Annotated[str, typer.Option(help="Why, in words; it stands on the record.")]
Deadline = Annotated[str, typer.Option(help="How long the other party has, such as 4h, 2d.")]
Readers = Annotated[
    list[str] | None, typer.Option("--reader", help="Reads it too, such as a regulator; may be repeated.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Capture and affirm OTC trades.", no_args_is_help=True)
    group.command()(capture)
    group.command("list")(list_trades)
    group.command()(affirm)
    group.command()(amend)
    group.command()(cancel)
    app.add_typer(group, name="otc")


def capture(
    form: Form,
    deadline: Deadline = "1d",
    reader: Readers = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Put a trade on record as it was agreed, for the counterparty to affirm."""
    within = duration(deadline)

    async def captured() -> Deal:
        async with connection(profile, password_file) as me:
            party, trade, record = _agreed(form, me.participant)
            return await otc.capture(me, party, trade, record, deadline=within, readers=reader or ())

    _tell(asyncio.run(captured()), json=json)


def list_trades(
    profile: ProfileFile = DEFAULT_PROFILE, password_file: PasswordFile = None, json: Json = False
) -> None:
    """List the OTC trades that are open, and who must affirm them."""

    async def found() -> list[Deal]:
        async with connection(profile, password_file) as me:
            return [deal for deal in me.deals if deal.kind == otc.KIND]

    for deal in asyncio.run(found()):
        _tell(deal, json=json)


def affirm(
    transaction: Transaction,
    form: Annotated[
        Path | None, typer.Option("--form", help="Our own record: affirm only if it is the same trade.")
    ] = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Affirm what the other party said last."""

    async def affirmed() -> Deal:
        async with connection(profile, password_file) as me:
            seen = None if form is None else _agreed(form, me.participant).trade
            return (await otc.affirm(_open_deal(me, transaction), seen)).deal

    _tell(asyncio.run(affirmed()), json=json)


def amend(
    transaction: Transaction,
    form: Form,
    reason: Reason,
    deadline: Deadline = "1d",
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Say how a trade should read instead. One that is affirmed already is amended by a transaction of its own."""
    identity, within = parse_transaction_id(transaction), duration(deadline)

    async def amended() -> Deal:
        async with connection(profile, password_file) as me:
            party, trade, _ = _agreed(form, me.participant)
            deal = me.deal(identity)
            if deal is not None:
                return (await otc.amend(deal, trade, reason)).deal
            return await otc.amend_later(me, party, identity, trade, reason, deadline=within)

    _tell(asyncio.run(amended()), json=json)


def cancel(
    transaction: Transaction,
    reason: Reason,
    counterparty: Annotated[
        str | None,
        typer.Option("--with", help="Of a trade that is affirmed already: who must agree to undo it."),
    ] = None,
    deadline: Deadline = "1d",
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """End a trade that is not affirmed, or ask to undo one that is."""
    identity, within = parse_transaction_id(transaction), duration(deadline)

    async def cancelled() -> Deal:
        async with connection(profile, password_file) as me:
            if counterparty is None:
                return (await otc.cancel(_open_deal(me, transaction), reason)).deal
            return await otc.cancel_later(me, counterparty, identity, reason, deadline=within)

    _tell(asyncio.run(cancelled()), json=json)


def _agreed(form: Path, own: str) -> Agreed:
    data = read_file(form)
    if form.suffix.lower() == ".eml":
        return read_email(data, own)
    return read_call(data.decode("utf-8", "replace"), own)


def _open_deal(me: Participant, transaction: str) -> Deal:
    deal = me.deal(parse_transaction_id(transaction))
    if deal is None or deal.kind != otc.KIND:
        raise OtcError(
            f"{transaction} is no OTC trade that is open; `parley otc list` lists those, and an affirmed one is cancelled --with"
            " the counterparty"
        )
    return deal


def _tell(deal: Deal, *, json: bool) -> None:
    try:
        now = otc.standing(deal.messages)
    except OtcError as error:
        if json:
            show_json({"transaction": transaction_text(deal.id), "fault": str(error)})
        else:
            show([("transaction", transaction_text(deal.id)), ("not understood", str(error))])
        return
    step = {
        otc.CAPTURE_STEP: "capture",
        otc.AMENDMENT_STEP: "amendment",
        otc.CANCELLATION_STEP: "cancellation",
    }
    changes = None if now.changes is None else transaction_text(now.changes)
    if json:
        show_json(
            {
                "transaction": transaction_text(deal.id),
                "phase": now.phase,
                "step": step[now.step],
                "trade": None if now.trade is None else trade_row(now.trade),
                "by": now.by,
                "changes": changes,
                "reason": now.reason,
                "waiting_on": list(deal.waiting_on),
                "deadline": deal.deadline,
            }
        )
        return
    show(
        [
            ("transaction", transaction_text(deal.id)),
            ("trade", None if now.trade is None else _in_words(now.trade)),
            ("stands as", f"{step[now.step]} by {now.by}, {now.phase}"),
            ("changes", changes),
            ("reason", now.reason or None),
            ("waiting on", " and ".join(deal.waiting_on) or None),
            ("deadline", moment(deal.deadline) if deal.outcome is None else None),
        ]
    )


def _in_words(trade: Trade) -> str:
    price = f"{trade.price:f} %" if trade.price_in == "percent" else f"{trade.currency} {trade.price:,f}"
    return printable(
        f"{trade.buyer} buys {trade.quantity:,f} {trade.isin} from {trade.seller} at {price}, "
        f"{trade.currency}, traded {trade.trade_date}, settles {trade.settlement_date}"
    )
