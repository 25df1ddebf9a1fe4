"""One bank as a process of its own: it opens the trades in which it pays, and answers what arrives in its inbox.

All that it says is private. With each bank that it trades with it shares a channel, which the first of the two by name opens
and closes; every trade goes under the channel's key, which the two hold, and grants the trade's own key to the regulator.

It knows its own orders and nothing else: what it says is ``deploy.demo.dialogue``'s affair, how it gets there
``parley.client``'s. Its log is one JSON object a line; its report is written when all its trades have ended.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic_settings import BaseSettings, SettingsConfigDict

import parley
from deploy.demo import dialogue
from deploy.demo.orders import Conduct, Order, Orders, Report, Side, TradeReport, read, write
from deploy.demo.reference import Ending
from deploy.errors import DeployError
from parley.channel import Channel
from parley.deal import Deal, DealMessage, InboxEvent, Received, TimedOut, Unverified
from parley.errors import ParleyError, RefusedError
from parley.grants import CHANNEL_KIND
from parley.identifiers import transaction_text
from parley.keystore import Keystore
from parley.profile import read_password

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
_CHANNEL_LASTS: Final = timedelta(hours=12)
"""A trading day: no trade under a channel's key ends later."""


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
        self._channels: dict[str, asyncio.Future[Channel]] = {}
        """By counterparty; awaited until one of the two has opened it."""
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
        loop = asyncio.get_running_loop()
        for trade in self._trades.values():
            self._channels.setdefault(self._counterparty(trade.order), loop.create_future())
        self._look_around()
        async with asyncio.TaskGroup() as work:
            work.create_task(self._listen(work))
            work.create_task(self._open_channels())
            work.create_task(self._open_all(work))
            await self._done.wait()
            await self._close_channels()
            write(self._report, self.report())
            _log(DONE)

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

    async def _open_all(self, work: asyncio.TaskGroup) -> None:
        """Open the trades in which this bank pays, one after the other."""
        for trade in self._trades.values():
            if trade.order.side is Side.RECEIVE:
                await self._channels[self._counterparty(trade.order)]
                await self._room.acquire()
                trade.counts = True
                work.create_task(self._open(trade))
                await asyncio.sleep(self._orders.pause_seconds)

    async def _open(self, trade: _Trade) -> None:
        trade.waits_for += 1
        try:
            deal = await self._propose(trade)
        except RefusedError as error:
            self._note_refusal(trade, error)
            self._end(trade, Ending.REFUSED)
        else:
            self._enter(trade, deal)
        finally:
            trade.waits_for -= 1
        self._look_around()

    async def _propose(self, trade: _Trade) -> Deal:
        """Open the trade; again with the regulator's grant where that was forgotten, and the backbone demands it."""
        if trade.order.conduct is Conduct.FORGETS:
            try:
                return await self._open_granting(trade.order, [])
            except RefusedError as error:
                if error.reason != "GRANT_REQUIRED":
                    raise
                self._note_refusal(trade, error)
        return await self._open_granting(trade.order, [self._orders.regulator])

    async def _open_granting(self, order: Order, readers: Sequence[str]) -> Deal:
        counterparty = self._counterparty(order)
        return await self._me.open(
            [counterparty],
            kind=dialogue.KIND,
            deadline=timedelta(seconds=self._orders.deadline_seconds),
            content=dialogue.proposal(order, self._orders.lei),
            channel=await self._channels[counterparty],
            readers=readers,
            padded=True,
        )

    def _counterparty(self, order: Order) -> str:
        """The counterparty's name on the backbone, found by its LEI in the directory."""
        for entry in self._me.directory:
            if entry.lei == order.counterparty_lei:
                return entry.participant
        raise DeployError(
            f"no participant with LEI {order.counterparty_lei} is in the directory; it must join before it can trade"
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
        if event.deal.kind == CHANNEL_KIND:
            self._enter_channel(event)
            return
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
        _log(REFUSED, reason=error.reason, detail=error.detail)

    def _enter(self, trade: _Trade, deal: Deal) -> None:
        trade.deal = deal
        self._by_deal[deal.id] = trade

    def _end(self, trade: _Trade, ending: Ending) -> None:
        if trade.ending is not None:
            return
        trade.ending = ending
        self._wait_no_more(trade)
        _log(ENDED, transaction="" if trade.deal is None else transaction_text(trade.deal.id))
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
