"""What a settlement desk works by: how it does things, what it keeps of each instruction, and what a bank does besides talking."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from parley.client import Participant
from parley.deal import Deal
from parley.errors import RefusedError
from parley.workflows.settlement.counterparties import counterparty_of
from parley.workflows.settlement.instruction import SettlementInstruction
from parley.workflows.settlement.matching import NO_TOLERANCE, Tolerance
from parley.workflows.settlement.negotiation import Negotiation, Phase, heard
from parley.workflows.settlement.steps import KIND, Word

__all__ = ["Ending", "Office", "Practice", "Settlement"]


_LAST_SAID: Final = {
    Phase.NEW: "nothing was said",
    Phase.INSTRUCTED: "after the receiver's instruction",
    Phase.COMMITTED: "after the deliverer's commitment",
    Phase.CASH_CONFIRMED: "after the cash was confirmed",
}


class Ending(StrEnum):
    """What became of an instruction."""

    SETTLED = "settled"
    DISPUTED = "disputed"
    UNMATCHED = "unmatched"
    REJECTED = "rejected"
    TIMED_OUT = "timed out"
    REFUSED = "refused"
    """The backbone refused the opening, or there is nobody to open it with."""
    NOT_INSTRUCTED = "not instructed"
    """The counterparty opened nothing as long as we waited."""


class Practice(NamedTuple):
    """How a desk works."""

    tolerance: Tolerance = NO_TOLERANCE
    deadline: timedelta = timedelta(hours=1)
    """From each opening of ours."""
    longest: timedelta = timedelta(days=7)
    """Of a deadline that a counterparty sets: who has committed to deliver is bound until then."""
    day: Callable[[SettlementInstruction], date] = lambda _: datetime.now(UTC).date()
    """The business day on which an instruction is judged."""
    readers: tuple[str, ...] = ()
    """Who reads each deal besides its parties, such as a regulator."""
    at_once: int = 64
    """Openings that wait for their end; so a slow counterparty slows the opening of deals, and each has its time."""
    pause: float = 0.0
    """Seconds between two openings."""
    refuse_unknown: bool = False
    """Whether an opening that no instruction of ours belongs to is refused at once; else it waits until its deadline."""


class Settlement:
    """One instruction of ours, and how far it is."""

    def __init__(self, ours: SettlementInstruction) -> None:
        self.negotiation = Negotiation(ours)
        self.deal: Deal | None = None
        self.ending: Ending | None = None
        self.refused: list[RefusedError] = []
        """What of ours the backbone refused."""
        self.note = ""
        """Why it ended, where the negotiation's reasons do not say."""
        self.messages = 0
        """Of the deal, heard so far."""
        self.spoke_at = -1
        """How many had been heard when we spoke last: what was refused is not said again until something else is said."""
        self.speaking = False
        self.counts = False
        """Whether it is among the openings that wait for their end."""

    @property
    def ours(self) -> SettlementInstruction:
        return self.negotiation.ours

    @property
    def over(self) -> bool:
        """Whether it ended, and nothing of ours is on its way."""
        return self.ending is not None and not self.speaking

    @property
    def due(self) -> tuple[str, ...]:
        """Who let it time out."""
        return self.deal.waiting_on if self.deal is not None and self.ending is Ending.TIMED_OUT else ()

    @property
    def why(self) -> str:
        """Why it ended so, in words: what the other side or the backbone said, and who was due."""
        reasons = [reason.text or reason.code for reason in self.negotiation.reasons]
        refused = [str(error) for error in self.refused if str(error) != self.note]
        waited = (
            [f"waited for {' and '.join(self.due)}, {_LAST_SAID[self.negotiation.phase]}"] if self.due else []
        )
        return "; ".join(each for each in (self.note, *reasons, *waited, *refused) if each)

    def catch_up(self, me: str) -> None:
        """Hear what was said in the deal and not heard yet."""
        assert self.deal is not None
        for message in self.deal.messages[self.messages :]:
            self.messages += 1
            self.negotiation = heard(
                self.negotiation,
                message.content_type,
                message.content,
                own=message.sender == me,
                finishes=message.action == "FINISH",
            )


class Office:
    """What a bank does besides talking: its books, its cash, its way to open a deal. This one agrees to everything."""

    async def approve(self, settlement: Settlement, word: Word) -> Word | None:  # noqa: ARG002  for those who override it
        """What is said instead of ``word``; None to stay silent.

        Before a commitment the securities are reserved here, before a cash confirmation the cash is blocked, before the settlement's
        confirmation both are booked; where that fails, `negotiation.decline` gives the word for it.
        """
        return word

    async def open(self, me: Participant, settlement: Settlement, word: Word, practice: Practice) -> Deal:
        """Open the deal for an instruction: private, with the counterparty and the practice's readers.

        Raises:
            RefusedError, DirectoryError, EncryptionError: it cannot be opened so.

        """
        return await me.open(
            [counterparty_of(me.directory, settlement.ours)],
            kind=KIND,
            deadline=practice.deadline,
            content=word.content,
            content_type=word.content_type,
            private=True,
            readers=practice.readers,
        )

    def ended(self, settlement: Settlement) -> None:
        """Take note that a settlement has ended."""
