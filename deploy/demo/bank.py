"""One bank as a process of its own: it opens the trades in which it pays, and answers what arrives in its inbox.

All that it says is private. With each bank that it trades with it shares a channel, which the first of the two by name opens
and closes; every trade goes under the channel's key, which the two hold, and grants the trade's own key to the regulator.

It knows its own orders and nothing else: what it says is the settlement workflow's affair, ``deploy.demo.conduct`` has the part
it plays, and how it gets there is ``parley.client``'s. Its log is one JSON object a line; its report is written when all its trades have ended.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic_settings import BaseSettings, SettingsConfigDict

import parley
from deploy.demo.conduct import PlayedOffice
from deploy.demo.orders import Order, Orders, Report, TradeReport, read, write
from deploy.demo.reference import Ending
from parley.channel import Channel
from parley.deal import Deal, Received, Unverified
from parley.errors import ParleyError
from parley.grants import CHANNEL_KIND
from parley.identifiers import transaction_text
from parley.keystore import Keystore
from parley.profile import read_password
from parley.workflows.settlement.counterparties import counterparty_of
from parley.workflows.settlement.desk import Desk
from parley.workflows.settlement.office import Ending as Ended
from parley.workflows.settlement.office import Practice, Settlement
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.steps import KIND, Word

__all__ = ["Bank", "main"]

CONNECTED: Final = "bank.connected"
ENDED: Final = "bank.trade.ended"
REFUSED: Final = "bank.message.refused"
UNVERIFIED: Final = "bank.inbox.unverified"
FAILED: Final = "bank.failed"
DONE: Final = "bank.done"

OPEN_AT_ONCE: Final = 8
"""Trades that a bank has opened and waits for. So a slow machine slows the opening of trades, and not the answers, and
every trade has its time; at 8, twelve banks keep two cores busy.
"""
_CHANNEL_LASTS: Final = timedelta(hours=12)
"""A trading day: no trade under a channel's key ends later."""
_ENDINGS: Final = {
    Ended.SETTLED: Ending.SETTLED,
    Ended.DISPUTED: Ending.MISMATCHED,
    Ended.UNMATCHED: Ending.MISMATCHED,
    Ended.REJECTED: Ending.DECLINED,
    Ended.TIMED_OUT: Ending.TIMED_OUT,
    Ended.REFUSED: Ending.REFUSED,
    Ended.NOT_INSTRUCTED: Ending.TIMED_OUT,
}


class Bank:
    """A bank with its orders, on a connection that is open."""

    def __init__(self, orders: Orders, me: parley.Participant, report: Path) -> None:
        """``report`` is where to write once all trades have ended."""
        self._orders = orders
        self._report = report
        self._me = me
        self._channels: dict[str, asyncio.Future[Channel]] = {}
        """By counterparty; awaited until one of the two has opened it."""
        self._settlements: dict[str, Settlement] = {}
        """By UTI."""
        self._unverified: list[str] = []

    def report(self) -> Report:
        """How all trades stand."""
        return Report(
            self._me.participant,
            tuple(_trade_report(order, self._settlements[order.uti]) for order in self._orders.orders),
            tuple(self._unverified),
        )

    async def trade(self) -> None:
        """Open, listen and answer until cancelled; report once every trade has ended.

        Raises:
            ParleyError: the backbone is gone, or what it says cannot be true.
        """
        async with asyncio.TaskGroup() as work:
            desk = self._desk(work)
            work.create_task(self._listen(desk))
            work.create_task(self._open_channels())
            desk.start()
            await desk.over()
            await self._close_channels()
            write(self._report, self.report())
            _log(DONE)

    def _desk(self, work: asyncio.TaskGroup) -> Desk:
        """The desk, with every order's instruction as its file has it."""
        orders, loop = self._orders, asyncio.get_running_loop()
        practice = Practice(
            deadline=timedelta(seconds=orders.deadline_seconds),
            day=lambda instruction: (
                instruction.trade_date
            ),  # the trades of several days are settled in one run
            readers=(orders.regulator,),
            at_once=OPEN_AT_ONCE,
            pause=orders.pause_seconds,
            refuse_unknown=True,
        )
        conducts = {order.uti: order.conduct for order in orders.orders}
        desk = Desk(self._me, work, practice, PlayedOffice(conducts, self._open, _log_end))
        for order in orders.orders:
            settlement = desk.instruct(read_instruction(order.instruction.read_bytes()))
            self._settlements[order.uti] = settlement
            counterparty = counterparty_of(self._me.directory, settlement.ours)
            self._channels.setdefault(counterparty, loop.create_future())
        return desk

    async def _open_channels(self) -> None:
        """Open the channels that this bank is to open: those with banks after it by name."""
        for counterparty, channel in self._channels.items():
            if self._me.participant < counterparty:
                name = f"{self._me.participant} and {counterparty}"
                opened = await self._me.create_channel(name, [counterparty], lasting=_CHANNEL_LASTS)
                channel.set_result(opened)

    async def _close_channels(self) -> None:
        """End the channels that this bank opened; what was said under their keys stays readable."""
        for channel in self._channels.values():
            if channel.done() and channel.result().opener == self._me.participant:
                await channel.result().deal.finish()

    async def _open(
        self, me: parley.Participant, settlement: Settlement, word: Word, readers: Sequence[str]
    ) -> Deal:
        counterparty = counterparty_of(me.directory, settlement.ours)
        return await me.open(
            [counterparty],
            kind=KIND,
            deadline=timedelta(seconds=self._orders.deadline_seconds),
            content=word.content,
            content_type=word.content_type,
            channel=await self._channels[counterparty],
            readers=readers,
            padded=True,
        )

    async def _listen(self, desk: Desk) -> None:
        async for event in self._me.inbox():
            if isinstance(event, Unverified):
                self._unverified.append(str(event.error))
                _log(UNVERIFIED, reason=str(event.error))
            elif not desk.take(event) and isinstance(event, Received) and event.deal.kind == CHANNEL_KIND:
                self._enter_channel(event)

    def _enter_channel(self, event: Received) -> None:
        """Speak on a channel from now on that a counterparty has opened."""
        awaited = self._channels.get(event.message.sender)
        channel = self._me.channel(event.deal.id)
        if channel is None:
            self._unverified.append(
                f"channel {transaction_text(event.deal.id)}: its key does not open what was said"
            )
        elif awaited is not None and not awaited.done():
            awaited.set_result(channel)


def _trade_report(order: Order, settlement: Settlement) -> TradeReport:
    ours, deal = settlement.ours, settlement.deal
    return TradeReport(
        uti=order.uti,
        isin=ours.isin,
        currency=ours.amount.currency,
        settlement_amount=f"{ours.amount.amount:f}",
        side=order.side,
        transaction="" if deal is None else transaction_text(deal.id),
        ending=None if settlement.ending is None else _ENDINGS[settlement.ending],
        due=settlement.due,
        refused=tuple(error.reason for error in settlement.refused),
    )


def _log_end(settlement: Settlement) -> None:
    deal = settlement.deal
    for error in settlement.refused:
        _log(REFUSED, reason=error.reason, detail=error.detail)
    _log(ENDED, transaction="" if deal is None else transaction_text(deal.id))


def _log(event: str, **values: object) -> None:
    print(json.dumps({"event": event, "at": round(time.time(), 3), **values}), flush=True)  # noqa: T201 - the log


class BankSettings(BaseSettings):
    """Of one bank's process, from the environment: ``PARLEY_BANK_ORDERS`` and ``PARLEY_BANK_REPORT``."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PARLEY_BANK_")

    orders: Path
    report: Path
    """Written when all trades have ended; if the process is stopped sooner, then."""


async def run(settings: BankSettings) -> None:
    """Trade, report, and stay connected until SIGTERM comes.

    Raises:
        ParleyError: the backbone cannot be used.
    """
    orders = read(settings.orders, Orders)
    account = orders.account
    password = account.password_file.read_text(encoding="ascii").strip()
    keystore = Keystore.open(orders.keystore, read_password(orders.keystore_password_file))
    async with parley.connect(
        parley.KafkaTransport(parley.KafkaAccess(account.bootstrap, account.participant, password)),
        participant=account.participant,
        key=keystore.signing_key(),
        registrar=bytes.fromhex(account.registrar),
        decryptor=keystore,
    ) as me:
        _log(CONNECTED, participant=account.participant, trades=len(orders.orders))
        bank = Bank(orders, me, settings.report)
        trading = asyncio.create_task(bank.trade())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, trading.cancel)
        try:
            with suppress(asyncio.CancelledError):
                await trading
        finally:
            write(settings.report, bank.report())


def main() -> int:
    """Be the bank that the environment names; 0 after SIGTERM, 1 if the backbone cannot be used."""
    failed = False
    try:
        asyncio.run(run(BankSettings()))
    except* ParleyError as errors:
        failed = True
        for error in errors.exceptions:
            _log(FAILED, reason=str(error), kind=type(error).__name__)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
