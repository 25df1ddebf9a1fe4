"""The parts that banks play in their settlements: a regular office, and what silent, declining, late and forgetful ones do
otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from deploy.demo.orders import Conduct
from parley.client import Participant
from parley.deal import Deal
from parley.errors import RefusedError
from parley.workflows.settlement.negotiation import Phase, decline
from parley.workflows.settlement.office import Office, Practice, Settlement
from parley.workflows.settlement.steps import Word

__all__ = ["DECLINED", "Opening", "PlayedOffice"]

DECLINED: Final = "our client has withdrawn the purchase; we do not pay"
_LATE_SECONDS: Final = 0.5

Opening = Callable[[Participant, Settlement, Word, Sequence[str]], Awaitable[Deal]]
"""Opens the deal of a participant for a settlement with this word, its key granted to these readers."""


class PlayedOffice(Office):
    """An office that knows the part it plays in each trade, by UTI."""

    def __init__(
        self, conducts: Mapping[str, Conduct], opening: Opening, ended: Callable[[Settlement], None]
    ) -> None:
        self._conducts = conducts
        self._opening = opening
        self._ended = ended

    async def approve(self, settlement: Settlement, word: Word) -> Word | None:
        """What the part has the bank say instead."""
        conduct, phase = self._conduct(settlement), settlement.negotiation.phase
        if conduct is Conduct.SILENT and phase is not Phase.NEW:
            return None
        if conduct is Conduct.DECLINES and phase is Phase.COMMITTED:
            return decline(settlement.negotiation, DECLINED)
        if conduct is Conduct.LATE and phase is Phase.CASH_CONFIRMED and settlement.deal is not None:
            await asyncio.sleep(settlement.deal.deadline / 1_000 - time.time() + _LATE_SECONDS)
        return word

    async def open(self, me: Participant, settlement: Settlement, word: Word, practice: Practice) -> Deal:
        """Open the deal; again with the readers' grant where that was forgotten, and the backbone demands it."""
        if self._conduct(settlement) is Conduct.FORGETS:
            try:
                return await self._opening(me, settlement, word, ())
            except RefusedError as error:
                if error.reason != "GRANT_REQUIRED":
                    raise
                settlement.refused.append(error)
        return await self._opening(me, settlement, word, practice.readers)

    def ended(self, settlement: Settlement) -> None:
        """Pass it on."""
        self._ended(settlement)

    def _conduct(self, settlement: Settlement) -> Conduct:
        return self._conducts.get(settlement.ours.trade_id or "", Conduct.REGULAR)
