"""Disclosing in a participant's hands: the keys that it holds go to a reader, in a transaction of their own."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Protocol

from parley.deal import Accepted, DealMessage
from parley.disclosure import DISCLOSURE_KIND, DISCLOSURE_TYPE, write_disclosure
from parley.schemas import ChannelEpoch, Message, Scope, TransactionId
from parley.secrecy import Secrecy

__all__ = ["disclose"]

_LASTS: Final = timedelta(hours=1)
"""How long the two messages of a disclosure may take."""


class Discloser(Protocol):
    """What disclosing needs of its client."""

    secrecy: Secrecy

    def opening(
        self, parties: list[str], *, kind: str, deadline: timedelta, content: bytes, content_type: str
    ) -> Message: ...
    async def submit(self, message: Message) -> Accepted: ...


async def disclose(
    host: Discloser,
    scope: Scope,
    transaction_id: TransactionId,
    *,
    to: str,
    statement: str,
    message: DealMessage | None,
) -> Accepted:
    """Disclose what the client can read of a transaction; errors as for ``Deal.disclose``."""
    reader = host.secrecy.reader
    if scope == "EPOCH":
        keys = reader.epoch_keys(transaction_id)
    elif message is None or message.sealed is None:
        keys = reader.transaction_keys(transaction_id) if scope == "TRANSACTION" else iter(())
    else:
        keys = reader.message_keys(message.sealed, message.message_id)
    opening = host.opening(
        [to],
        kind=DISCLOSURE_KIND,
        deadline=_LASTS,
        content=write_disclosure(to, statement, keys),
        content_type=DISCLOSURE_TYPE,
    )
    own = ChannelEpoch(opening.transaction_id, 0)
    accepted = await host.submit(host.secrecy.open_epoch(opening, own))
    await accepted.deal.finish()
    return accepted
