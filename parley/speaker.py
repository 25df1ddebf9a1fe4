"""What a deal needs of whoever speaks for its participant: the client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from parley.acknowledgement import Acknowledgement
from parley.heard import Accepted, DealMessage, InboxEvent
from parley.schemas import Message, Scope, TransactionId

__all__ = ["Speaker"]


class Speaker(Protocol):
    """What a deal needs of its client."""

    participant: str

    async def submit(self, message: Message) -> Accepted: ...
    def conceal(
        self,
        message: Message,
        parties: Iterable[str],
        readers: Iterable[str] | None,
        hidden: Mapping[str, str],
    ) -> Message: ...
    async def disclose(
        self,
        scope: Scope,
        transaction_id: TransactionId,
        *,
        to: str,
        statement: str,
        message: DealMessage | None = None,
    ) -> Accepted: ...
    def check_ours(self, pipeline: int) -> None: ...
    def acknowledge(self, offset: int) -> None: ...
    def claim(self, offset: int, event: InboxEvent) -> None: ...
    def acknowledgements(self, message: DealMessage, deal: TransactionId) -> Sequence[Acknowledgement]: ...
    def now(self) -> int: ...
