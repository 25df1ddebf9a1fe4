"""The transactions in which the service puts on the record what it broadcasts; each is opened once, however often it is tried."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from anchor.ledger.core import attachments, derived_id
from parley.client import Participant
from parley.deal import Deal
from parley.errors import RefusedError
from parley.identifiers import transaction_text
from parley.schemas import ChannelEpoch, Party, Reference
from parley.workflows.ledger import standing
from parley.workflows.ledger_steps import (
    BROADCAST,
    RECEIPT_KIND,
    Broadcast,
    Released,
    digest_of,
    read_broadcast,
    write_broadcast,
)
from streams.crashpoint import crash_point

__all__ = ["Receipts"]

NOT_OPENED: Final = "ledger.receipt.not_opened"
TAKEN_AWAY: Final = "ledger.receipt.taken_away"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPENED_BEFORE: Final = frozenset({"SEQUENCE_CONFLICT", "CLOSED"})


class Receipts:
    """Opens receipts for released deals."""

    def __init__(self, me: Participant, chain: str, lasting: int, secret: bytes) -> None:
        """A receipt for a deal on ``chain`` (CAIP-2) may last so many ms; its id follows from the deal's and the secret."""
        self._me = me
        self._chain = chain
        self._lasting = lasting
        self._secret = secret
        self._log = structlog.get_logger()

    def is_own(self, deal: Deal) -> bool:
        """Whether the deal is a receipt that we opened."""
        return deal.kind == RECEIPT_KIND and deal.messages[0].sender == self._me.participant

    def was_taken_away(self, deal: Deal) -> bool:
        """Whether somebody else said the last word in a receipt of ours."""
        return (
            self.is_own(deal)
            and deal.outcome == "FINISHED"
            and deal.messages[-1].sender != self._me.participant
        )

    async def open(self, deal: Deal) -> Deal | None:
        """The receipt of a released deal, open with its signed transactions; ``None`` if it was opened before and has ended."""
        now = standing(deal.messages, self._me.participant)
        assert now.word is not None
        released = tuple(
            Released(each.party, transaction.hash, transaction.raw)
            for each in attachments(deal, now)
            for transaction in each.transactions
        )
        broadcast = Broadcast(deal.id, self._chain, digest_of(now.word.content), released)
        return await self._open(deal, broadcast, self._others(deal))

    async def reopen(self, receipt: Deal) -> Deal | None:
        """Another receipt, without the party who ended this one that was ours to end; ``None`` where nobody is left."""
        ended_by = receipt.messages[-1].sender
        self._log.warning(TAKEN_AWAY, receipt=transaction_text(receipt.id), by=ended_by)
        others = [party for party in self._others(receipt) if party.participant != ended_by]
        broadcast = read_broadcast(receipt.messages[0].content)
        return await self._open(receipt, broadcast, others) if others else None

    async def _open(self, origin: Deal, broadcast: Broadcast, others: Iterable[Party]) -> Deal | None:
        identity = derived_id(origin.id, self._secret)
        if (opened := self._me.deal(identity)) is not None:
            return opened
        ends = _EPOCH + timedelta(milliseconds=origin.messages[-1].at + self._lasting)
        message = self._me.opening(
            others,
            kind=RECEIPT_KIND,
            deadline=ends,
            open_until=ends,
            content=write_broadcast(broadcast),
            content_type=BROADCAST,
            references=(Reference("delivers", broadcast.deal, None, None, None),),
            pipeline=origin.pipeline,
        )._replace(transaction_id=identity)
        sealed = origin.messages[0].sealed
        if sealed is not None and sealed.encryption is not None:
            readers = [grant.reader for grant in sealed.encryption.grants]
            message = self._me.secrecy.open_epoch(message, ChannelEpoch(identity, 0), readers)
        try:
            accepted = await self._me.submit(message)
        except RefusedError as error:
            if error.reason not in _OPENED_BEFORE:
                self._log.error(
                    NOT_OPENED,
                    deal=transaction_text(broadcast.deal),
                    reason=error.reason,
                    detail=error.detail,
                )
            return None
        crash_point("ledger.opened")
        return accepted.deal

    def _others(self, deal: Deal) -> list[Party]:
        return [party for party in deal.terms.parties if party.participant != self._me.participant]
