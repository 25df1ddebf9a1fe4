"""Released transactions until the chain has spoken: broadcast, looked for, and told of; one round for all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import structlog

from anchor.errors import ChainError, TransactionError
from anchor.ledger import metrics
from anchor.ledger.chain import Chain
from anchor.ledger.checks import Slot
from anchor.ledger.core import Outcome, landings, unseen
from anchor.ledger.transactions import ChainTransaction, read_transaction
from parley.client import Participant
from parley.deal import Deal
from parley.errors import ElsewhereError, EncryptionError, RefusedError, VerificationError
from parley.identifiers import transaction_text
from parley.schemas import Head, TransactionId
from parley.workflows.ledger_steps import (
    RECEIPT,
    Broadcast,
    ChainReceipt,
    Landing,
    Released,
    write_receipt,
)
from streams.crashpoint import crash_point

__all__ = ["Watch", "slots_of"]

BROADCAST: Final = "ledger.broadcast"
NODE_REFUSED: Final = "ledger.broadcast.refused"
RECEIPT_SAID: Final = "ledger.receipt"
RECEIPT_REFUSED: Final = "ledger.receipt.refused"

_LAST_MOMENT: Final = 60_000
"""Ms before a receipt's deadline at which it says what there is to say; a tenth of its time where that is less."""

T = TypeVar("T")


class Ask(Protocol):
    """Puts a question to the chain, outside the event loop."""

    def __call__(self, question: Callable[[], T]) -> Coroutine[Any, Any, T]: ...


class _Watched(NamedTuple):
    receipt: Deal
    broadcast: Broadcast
    transactions: tuple[ChainTransaction, ...]


class Watch:
    """The receipts that are open."""

    def __init__(
        self,
        me: Participant,
        chain: Chain,
        confirmations: int,
        poll: float,
        ask: Ask,
        settled: Callable[[Sequence[Slot]], None],
    ) -> None:
        """``settled`` is told which places on the chain a receipt took, when it has ended."""
        self._me = me
        self._chain = chain
        self._confirmations = confirmations
        self._poll = poll
        self._ask = ask
        self._settled = settled
        self._watched: dict[TransactionId, _Watched] = {}
        self._refused: dict[bytes, str] = {}
        """What a node said to a signed transaction that it did not take."""
        self._log = structlog.get_logger()

    async def begin(self, receipt: Deal, broadcast: Broadcast) -> None:
        """Broadcast what a receipt opens with, now and until the chain knows it; that it is begun before changes nothing."""
        if receipt.id in self._watched or receipt.outcome is not None:
            return
        transactions = tuple(read_transaction(each.raw) for each in broadcast.transactions)
        watched = self._watched[receipt.id] = _Watched(receipt, broadcast, transactions)
        metrics.UNSETTLED.set(len(self._watched))
        await self._round([watched])

    def forget(self, receipt: TransactionId) -> None:
        """The transaction has ended, however it did."""
        watched = self._watched.pop(receipt, None)
        metrics.UNSETTLED.set(len(self._watched))
        if watched is not None:
            self._settled(slots_of(watched.broadcast))

    async def run(self) -> None:
        """Look at everything that is released, again and again."""
        while True:
            await asyncio.sleep(self._poll)
            if self._watched:
                await self._round(list(self._watched.values()))

    async def _round(self, watched: Sequence[_Watched]) -> None:
        every = [transaction for each in watched for transaction in each.transactions]
        try:
            look = await self._ask(
                lambda: self._chain.look([each.account for each in every], [each.hash for each in every])
            )
            standings = [landings(each.broadcast.transactions, look, self._confirmations) for each in watched]
            for each, outcome in zip(watched, standings, strict=True):
                await self._broadcast(each, outcome)
        except ChainError:  # the next round looks again, where there is time
            standings = [unseen(each.broadcast.transactions) for each in watched]
        async with asyncio.TaskGroup() as tellings:
            for each, outcome in zip(watched, standings, strict=True):
                if outcome.is_settled or self._is_overdue(each.receipt):
                    tellings.create_task(self._tell(each, outcome))

    async def _broadcast(self, watched: _Watched, outcome: Outcome) -> None:
        """All that the chain does not know; what a node refuses is tried again in the next round."""
        for raw in outcome.unseen:
            try:
                await self._ask(partial(self._chain.broadcast, raw))
            except TransactionError as error:
                metrics.REFUSALS.labels("node", type(error).__name__).inc()
                if raw not in self._refused:
                    self._refused[raw] = str(error)
                    self._log.error(
                        NODE_REFUSED, deal=transaction_text(watched.broadcast.deal), detail=str(error)
                    )
        if outcome.unseen:
            self._log.info(
                BROADCAST, deal=transaction_text(watched.broadcast.deal), transactions=len(outcome.unseen)
            )
            crash_point("ledger.broadcast")

    def _is_overdue(self, receipt: Deal) -> bool:
        margin = min(_LAST_MOMENT, (receipt.deadline - receipt.opened_at) // 10)
        return self._me.now() > receipt.deadline - margin

    async def _tell(self, watched: _Watched, outcome: Outcome) -> None:
        """Finish the receipt with the chain's word; where that fails, the next round tries again."""
        receipt, broadcast, _ = watched
        if receipt.outcome is not None:
            return
        landings = tuple(map(self._explained, broadcast.transactions, outcome.landings))
        content = write_receipt(ChainReceipt(broadcast.deal, broadcast.chain, landings))
        head: Head | None = None
        while True:
            try:
                await receipt.finish(content, content_type=RECEIPT, after=head)
            except RefusedError as error:
                metrics.REFUSALS.labels("router", error.reason).inc()
                if error.reason != "SEQUENCE_CONFLICT":
                    self._log.warning(
                        RECEIPT_REFUSED, receipt=transaction_text(receipt.id), detail=str(error)
                    )
                    return
                head = error.head
            except ElsewhereError:  # another process of the service goes on with it
                self.forget(receipt.id)
                return
            except (EncryptionError, VerificationError) as error:
                self._log.error(RECEIPT_REFUSED, receipt=transaction_text(receipt.id), detail=str(error))
                return
            else:
                break
        for landing in outcome.landings:
            metrics.LANDINGS.labels(landing.outcome).inc()
        for each in broadcast.transactions:
            self._refused.pop(each.raw, None)
        self.forget(receipt.id)
        self._log.info(
            RECEIPT_SAID,
            deal=transaction_text(broadcast.deal),
            outcomes=[landing.outcome for landing in outcome.landings],
        )

    def _explained(self, released: Released, landing: Landing) -> Landing:
        """With what a node said, where that is why no block holds it."""
        told = self._refused.get(released.raw)
        if told is None or landing.outcome != "NOT_MINED":
            return landing
        return landing._replace(detail=f"{landing.detail}; {told}")


def slots_of(broadcast: Broadcast) -> list[Slot]:
    """The places on the chain that are taken by what was broadcast."""
    read = (read_transaction(each.raw) for each in broadcast.transactions)
    return [(transaction.account, transaction.nonce) for transaction in read]
