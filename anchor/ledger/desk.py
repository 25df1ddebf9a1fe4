"""The ledger service at work on its deals: it listens, looks at the chain, and does what the core decides, for all deals at once.

What survives a crash is the record itself. An event counts as taken only when all that follows from it stands on the record: the
last consent until the receipt is open, and the open receipt, which holds the signed transactions, until the chain's word is in it.
Each step may be tried again: a message is linked to the head that it was decided by, a receipt has one id for its deal, and a
signed transaction broadcast twice is mined once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import structlog
from eth_utils.address import is_address, to_checksum_address

from anchor.errors import ChainError
from anchor.ledger import metrics
from anchor.ledger.chain import Chain
from anchor.ledger.checks import Slot, findings
from anchor.ledger.core import Next, attachments, next_step, objections, report_of
from anchor.ledger.receipts import Receipts
from anchor.ledger.watch import Watch, slots_of
from parley.client import Participant
from parley.deal import Deal, DealMessage, Unverified
from parley.errors import ParleyError, RefusedError, TransportError
from parley.identifiers import transaction_text
from parley.schemas import Head, TransactionId
from parley.workflows.ledger import Standing, standing
from parley.workflows.ledger_steps import (
    CHECK,
    DELIVERY_KIND,
    READY,
    RELEASE,
    Broadcast,
    Problem,
    Report,
    digest_of,
    read_broadcast,
    read_report,
    write_consent,
    write_report,
)
from streams.crashpoint import crash_point

__all__ = ["LedgerDesk", "Policy"]

WORD: Final = "ledger.word"
RELEASED: Final = "ledger.released"
REFUSED: Final = "ledger.refused"
FAILED: Final = "ledger.deal.failed"
UNVERIFIED: Final = "ledger.unverified"
CHAIN_AWAY: Final = "ledger.chain.away"
CHAIN_BACK: Final = "ledger.chain.back"

_AT_ONCE: Final = 16
"""Deals that are gone on with at the same time."""
_CATCHING_UP: Final = 5.0
"""Seconds to wait for a message that came first, after a conflict."""
_LOOKS_PER_CATCHING_UP: Final = 100
_AGAIN: Final = 5.0
"""Seconds before what the router refused for now is tried again."""

T = TypeVar("T")


class Policy(NamedTuple):
    """How to deliver to one chain."""

    chain: str
    """CAIP-2."""
    chain_id: int
    confirmations: int
    """Blocks that make an outcome final."""
    give_up_after: int
    """From the release to the moment by which a receipt says what there is to say, in ms."""
    poll: float
    """Seconds between looks at what is released, and before another look at a chain that does not answer."""


class LedgerDesk:
    """Serves every deal that has the connected participant as its ledger service."""

    def __init__(self, me: Participant, chain: Chain, policy: Policy, secret: bytes) -> None:
        """``secret`` is known to no one else and never changes: the receipts' ids come from it."""
        self._me = me
        self._chain = chain
        self._policy = policy
        self._receipts = Receipts(me, policy.chain, policy.give_up_after, secret)
        self._log = structlog.get_logger().bind(chain=policy.chain)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger chain")
        self._turns: WeakValueDictionary[TransactionId, asyncio.Lock] = WeakValueDictionary()
        self._taken: dict[Slot, TransactionId] = {}
        self._watch = Watch(me, chain, policy.confirmations, policy.poll, self._ask, self._settled)
        self._is_away = False

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ExceptionGroup: of TransportError where the connection is lost; connect again, and nothing is lost.

        """
        for receipt in filter(self._receipts.is_own, self._me.deals):
            self._reserved_by(receipt)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._inherit(tasks))
                for _ in range(_AT_ONCE):
                    tasks.create_task(self._listen())
                tasks.create_task(self._watch.run())
        finally:
            self._thread.shutdown(wait=False)

    async def _inherit(self, tasks: asyncio.TaskGroup) -> None:
        """Go on with the open deals of an earlier life, or of another process of the service that has left."""
        async for deal in self._me.inherited():
            tasks.create_task(self._go_on(deal))

    async def _listen(self) -> None:
        """Take event after event; one counts as taken when the next is asked for."""
        async for event in self._me.inbox():
            if isinstance(event, Unverified):
                self._log.error(UNVERIFIED, detail=str(event.error))
            else:
                await self._go_on(event.deal)

    async def _go_on(self, deal: Deal) -> None:
        """Do all that follows from what was said in a deal so far; no deal stops the others."""
        try:
            await self._follow_up(deal)
        except TransportError:
            raise
        except ParleyError as error:
            self._log.error(FAILED, deal=transaction_text(deal.id), detail=str(error))

    async def _follow_up(self, deal: Deal) -> None:
        if self._receipts.is_own(deal) and deal.outcome is None:
            await self._watch_over(deal)
        elif deal.kind == DELIVERY_KIND:
            async with self._turns.setdefault(deal.id, asyncio.Lock()):
                await self._advance(deal)
        elif self._receipts.is_own(deal):
            self._watch.forget(deal.id)
            if self._receipts.was_taken_away(deal):
                await self._watch_over(await self._receipts.reopen(deal))

    # A delivery --------------------------------------------------------------------------------------------------------------

    async def _advance(self, deal: Deal) -> None:
        """Do all that follows from what was said so far."""
        me = self._me.participant
        while deal.outcome is None:
            head = deal.head
            now = standing(deal.messages, me)
            problems = objections(deal, me, self._policy.chain)
            step = next_step(now, deal.parties, me, problems)
            if step is Next.WAIT:
                return
            try:
                await self._take(step, deal, head, now, problems)
            except ChainError:
                await asyncio.sleep(self._policy.poll)
            except RefusedError as error:
                if not await self._may_go_on(deal, head, error):
                    return
        if deal.outcome == "FINISHED" and standing(deal.messages, me).is_released:
            await self._watch_over(await self._receipts.open(deal))

    async def _take(
        self, step: Next, deal: Deal, head: Head, now: Standing, problems: tuple[Problem, ...]
    ) -> None:
        if step is Next.OBJECT:
            await self._say(
                deal, head, report_of(self._policy.chain, deal.parties, self._me.participant, (), problems)
            )
            return
        report = await self._judged(deal, now)
        ready = now.ready
        if step is Next.RELEASE and ready is not None and report == read_report(ready.content):
            await self._release(deal, head, ready, report)
        else:
            await self._say(deal, head, report)

    async def _judged(self, deal: Deal, now: Standing) -> Report:
        """What the chain says to all that is attached."""
        policy = self._policy
        attached = attachments(deal, now)
        transactions = [transaction for each in attached for transaction in each.transactions]
        look = await self._ask(
            lambda: self._chain.look(
                (transaction.account for transaction in transactions),
                (transaction.hash for transaction in transactions),
            )
        )

        def taken(slot: Slot) -> TransactionId | None:
            holder = self._taken.get(slot)
            return None if holder == deal.id else holder

        accounts = {each.party: self._accounts(each.party) for each in attached}
        found = findings(attached, accounts, policy.chain_id, look, taken)
        return report_of(policy.chain, deal.parties, self._me.participant, found)

    def _accounts(self, party: str) -> frozenset[str]:
        """The addresses on our chain that the registrar attests to a participant."""
        entry = self._me.directory.entry(party)
        prefix = f"{self._policy.chain}:"
        accounts = () if entry is None else entry.accounts
        addresses = (account.removeprefix(prefix) for account in accounts if account.startswith(prefix))
        return frozenset(to_checksum_address(address) for address in addresses if is_address(address))

    async def _say(self, deal: Deal, head: Head, report: Report) -> None:
        word = READY if report.is_good else CHECK
        await deal.send(write_report(report), content_type=word, after=head)
        reasons = sorted(
            problem.reason
            for problem in (*report.problems, *(each for one in report.findings for each in one.problems))
        )
        metrics.WORDS.labels("READY" if report.is_good else "CHECK").inc()
        for reason in reasons:
            metrics.PROBLEMS.labels(reason).inc()
        self._log.info(WORD, deal=transaction_text(deal.id), ready=report.is_good, problems=reasons)

    async def _release(self, deal: Deal, head: Head, ready: DealMessage, report: Report) -> None:
        """Say the last word; from here on no other deal gets the same places on the chain."""
        slots = [(each.account, each.nonce) for finding in report.findings for each in finding.promises]
        self._taken.update(dict.fromkeys(slots, deal.id))
        try:
            await deal.finish(write_consent(digest_of(ready.content)), content_type=RELEASE, after=head)
        except RefusedError:
            for slot in slots:
                self._taken.pop(slot, None)
            raise
        metrics.RELEASES.inc()
        self._log.info(RELEASED, deal=transaction_text(deal.id), transactions=len(slots))
        crash_point("ledger.released")

    async def _may_go_on(self, deal: Deal, head: Head, error: RefusedError) -> bool:
        """Whether to decide anew after a refusal: something came first, or it was too much for now."""
        metrics.REFUSALS.labels("router", error.reason).inc()
        if error.reason == "SEQUENCE_CONFLICT":
            for _ in range(_LOOKS_PER_CATCHING_UP):
                if deal.head != head:
                    return True
                await asyncio.sleep(_CATCHING_UP / _LOOKS_PER_CATCHING_UP)
            return False
        self._log.warning(REFUSED, deal=transaction_text(deal.id), reason=error.reason, detail=error.detail)
        if error.retriable:
            await asyncio.sleep(_AGAIN)
        return error.retriable

    # A receipt ---------------------------------------------------------------------------------------------------------------

    async def _watch_over(self, receipt: Deal | None) -> None:
        """Broadcast what a receipt opens with, and follow it; there is none where it was opened before and has ended."""
        if receipt is not None:
            await self._watch.begin(receipt, self._reserved_by(receipt))

    def _reserved_by(self, receipt: Deal) -> Broadcast:
        """What a receipt opens with, its places on the chain kept from other deals."""
        broadcast = read_broadcast(receipt.messages[0].content)
        if receipt.outcome is None:
            self._taken.update(dict.fromkeys(slots_of(broadcast), broadcast.deal))
        return broadcast

    def _settled(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            self._taken.pop(slot, None)

    async def _ask(self, question: Callable[[], T]) -> T:
        """The chain's answer; one question at a time. Raises ChainError, which is told once."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, question)
        except ChainError as error:
            metrics.CHAIN_UP.set(0)
            metrics.CHAIN_FAILURES.inc()
            if not self._is_away:
                self._log.error(CHAIN_AWAY, detail=str(error))
            self._is_away = True
            raise
        metrics.CHAIN_UP.set(1)
        if self._is_away:
            self._is_away = False
            self._log.info(CHAIN_BACK)
        return answer
