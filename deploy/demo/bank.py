"""One bank as a process of its own: it opens the trades in which it pays, and answers what arrives in its inbox.

It knows its own orders and nothing else: what it says is ``deploy.demo.dialogue``'s affair, how it gets there
``parley.client``'s. Its log is one JSON object a line; its report is written when all its trades have ended.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic_settings import BaseSettings, SettingsConfigDict

import parley
from deploy.demo import dialogue
from deploy.demo.orders import Order, Orders, Report, Side, TradeReport, read, write
from deploy.demo.reference import Ending
from deploy.errors import DeployError
from parley.deal import Deal, DealMessage, InboxEvent, Received, TimedOut, Unverified
from parley.errors import ParleyError, RefusedError
from parley.identifiers import transaction_text
from parley.private_files import read_private

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
_LATE_SECONDS: Final = 0.5


class _Trade:
    """One order, and how far it is."""

    __slots__ = ("counts", "deal", "ending", "order", "refused", "waits_for")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.deal: Deal | None = None
        self.ending: Ending | None = None
        self.refused: list[str] = []
        self.counts = False
        """Whether it is among those opened and waited for."""
        self.waits_for = 0
        """Own messages on their way."""

    @property
    def over(self) -> bool:
        return self.ending is not None and self.waits_for == 0

    def report(self) -> TradeReport:
        order, deal = self.order, self.deal
        return TradeReport(
            uti=order.uti,
            isin=order.isin,
            currency=order.currency,
            settlement_amount=order.settlement_amount,
            side=order.side,
            transaction="" if deal is None else transaction_text(deal.id),
            ending=self.ending,
            due=() if deal is None or self.ending is not Ending.TIMED_OUT else deal.waiting_on,
            refused=tuple(self.refused),
        )


class Bank:
    """A bank with its orders, on a connection that is open."""

    def __init__(self, orders: Orders, me: parley.Participant, report: Path) -> None:
        """``report`` is where to write once all trades have ended."""
        self._orders = orders
        self._report = report
        self._me = me
        self._trades = {order.uti: _Trade(order) for order in orders.orders}
        self._by_deal: dict[bytes, _Trade] = {}
        self._unverified: list[str] = []
        self._room = asyncio.Semaphore(OPEN_AT_ONCE)
        self._done = asyncio.Event()

    def report(self) -> Report:
        """How all trades stand."""
        return Report(
            self._me.participant,
            tuple(trade.report() for trade in self._trades.values()),
            tuple(self._unverified),
        )

    async def trade(self) -> None:
        """Open, listen and answer until cancelled; report once every trade has ended.

        Raises:
            ParleyError: the backbone is gone, or what it says cannot be true.
        """
        self._look_around()
        async with asyncio.TaskGroup() as work:
            work.create_task(self._listen(work))
            work.create_task(self._open_all(work))
            await self._done.wait()
            write(self._report, self.report())
            _log(DONE)

    async def _open_all(self, work: asyncio.TaskGroup) -> None:
        """Open the trades in which this bank pays, one after the other."""
        for trade in self._trades.values():
            if trade.order.side is Side.RECEIVE:
                await self._room.acquire()
                trade.counts = True
                work.create_task(self._open(trade))
                await asyncio.sleep(self._orders.pause_seconds)

    async def _open(self, trade: _Trade) -> None:
        order = trade.order
        trade.waits_for += 1
        try:
            deal = await self._me.open(
                [self._participant(order.counterparty_lei)],
                kind=dialogue.KIND,
                deadline=timedelta(seconds=self._orders.deadline_seconds),
                content=dialogue.proposal(order, self._orders.lei),
            )
        except RefusedError as error:
            self._note_refusal(trade, error)
            self._end(trade, Ending.REFUSED)
        else:
            self._enter(trade, deal)
        finally:
            trade.waits_for -= 1
        self._look_around()

    def _participant(self, lei: str) -> str:
        """The counterparty's name on the backbone, found by its LEI in the directory."""
        for entry in self._me.directory:
            if entry.lei == lei:
                return entry.participant
        raise DeployError(
            f"no participant with LEI {lei} is in the directory; it must join before it can trade"
        )

    async def _listen(self, work: asyncio.TaskGroup) -> None:
        async for event in self._me.inbox():
            self._take(event, work)

    def _take(self, event: InboxEvent, work: asyncio.TaskGroup) -> None:
        if isinstance(event, Unverified):
            self._unverified.append(str(event.error))
            _log(UNVERIFIED, reason=str(event.error))
            return
        if isinstance(event, TimedOut):
            trade = self._by_deal.get(event.deal.id)
            if trade is not None:
                self._end(trade, Ending.TIMED_OUT)
            return
        self._hear(event, work)

    def _hear(self, event: Received, work: asyncio.TaskGroup) -> None:
        said = _content(event.message)
        trade = self._by_deal.get(event.deal.id)
        if trade is None:
            trade = self._trades.get(str(said.get("uti"))) if event.message.sequence == 0 else None
            if trade is None or not self._is_counterparty(trade.order, event.message.sender):
                work.create_task(self._refuse_unknown(event.deal, said))
                return
            self._enter(trade, event.deal)
        if event.message.action == "FINISH":
            self._end(trade, _ending(said))
            return
        answer = dialogue.reply(trade.order, said)
        if answer is None:
            self._wait_no_more(trade)
        else:
            trade.waits_for += 1
            work.create_task(self._say(trade, event.deal, answer))

    def _is_counterparty(self, order: Order, sender: str) -> bool:
        entry = self._me.directory.entry(sender)
        return entry is not None and entry.lei == order.counterparty_lei and order.side is Side.DELIVER

    async def _refuse_unknown(self, deal: Deal, said: Mapping[str, object]) -> None:
        with suppress(RefusedError):
            await deal.finish(dialogue.unknown_trade(said).content)

    async def _say(self, trade: _Trade, deal: Deal, answer: dialogue.Reply) -> None:
        if answer.late:
            await asyncio.sleep(deal.deadline / 1_000 - time.time() + _LATE_SECONDS)
        try:
            if answer.finishes:
                await deal.finish(answer.content)
            else:
                await deal.send(answer.content)
        except RefusedError as error:
            self._note_refusal(trade, error)
        finally:
            trade.waits_for -= 1
        if deal.outcome == "FINISHED":
            self._end(trade, _ending(answer.content))
        self._look_around()

    def _note_refusal(self, trade: _Trade, error: RefusedError) -> None:
        trade.refused.append(error.reason)
        _log(REFUSED, uti=trade.order.uti, reason=error.reason, detail=error.detail)

    def _enter(self, trade: _Trade, deal: Deal) -> None:
        trade.deal = deal
        self._by_deal[deal.id] = trade

    def _end(self, trade: _Trade, ending: Ending) -> None:
        if trade.ending is not None:
            return
        trade.ending = ending
        self._wait_no_more(trade)
        _log(ENDED, uti=trade.order.uti, ending=ending)
        self._look_around()

    def _wait_no_more(self, trade: _Trade) -> None:
        if trade.counts:
            trade.counts = False
            self._room.release()

    def _look_around(self) -> None:
        if all(trade.over for trade in self._trades.values()):
            self._done.set()


def _content(message: DealMessage) -> Mapping[str, object]:
    """A message's JSON object; what is none says nothing to a bank."""
    try:
        value = message.json()
    except ParleyError:
        return {}
    return value if isinstance(value, dict) else {}


def _ending(said: Mapping[str, object]) -> Ending:
    """How a trade ended whose last message says this."""
    status = said.get("status")
    return next((each for each in (Ending.SETTLED, Ending.DECLINED) if each == status), Ending.MISMATCHED)


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
    async with parley.connect(
        parley.KafkaTransport(parley.KafkaAccess(account.bootstrap, account.participant, password)),
        participant=account.participant,
        key=parley.SigningKey(read_private(orders.key_file)),
        registrar=bytes.fromhex(account.registrar),
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
