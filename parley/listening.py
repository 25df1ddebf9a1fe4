"""A participant's listening side: its deals, what comes to it, and what it is done with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from parley.acknowledgement import Acknowledgement
from parley.acknowledging import Acknowledger
from parley.deal import Deal
from parley.heard import DealMessage, InboxEvent
from parley.reception import Reception
from parley.schemas import TransactionId
from parley.taking import Taking, deal_of
from parley.waiting import Waiting, waiting

__all__ = ["Listening"]


class Listening:
    """What a client gives of its reception to the application."""

    _reception: Reception
    _acknowledger: Acknowledger

    @property
    def deals(self) -> tuple[Deal, ...]:
        """The deals that are open and this process's, those of earlier lives included."""
        reception = self._reception
        return tuple(
            deal
            for deal in reception.deals.values()
            if reception.division.shares.has(deal.pipeline) and not deal.is_acknowledgement
        )

    def deal(self, transaction_id: TransactionId) -> Deal | None:
        """The open deal with this id, also where it is another process's."""
        return self._reception.deals.get(transaction_id)

    def waiting(self) -> tuple[Waiting, ...]:
        """What each open deal waits on, that with the earliest deadline first."""
        return waiting(self.deals)

    def inbox(self, *, follow: bool = True) -> AsyncIterator[InboxEvent]:
        """Everything that comes, in order, as far as nobody else takes it first; without ``follow``, what is there now."""
        return Taking(self, self._reception.division.inbox, lambda event: event, follow=follow)

    def opened(self) -> AsyncIterator[Deal]:
        """The deals that others open; raises VerificationError for a record that verifies for no deal."""
        return Taking(self, self._reception.division.opened, deal_of)

    async def inherited(self) -> AsyncIterator[Deal]:
        """Open deals to go on with that neither :meth:`opened` gives nor :meth:`open` gave here: those of an earlier life, and
        as processes of this consumer come and go those of another.
        """
        while (deal := await self._reception.division.inherited()) is not None:
            yield deal

    def check_ours(self, pipeline: int) -> None:
        """Return if the deals of a pipeline are this process's; raises ElsewhereError if not."""
        self._reception.division.check_ours(pipeline)

    def claim(self, offset: int, event: InboxEvent) -> None:
        """Note that the application has the event that came at ``offset``, but may not be done with it."""
        self._reception.claimed[offset] = event

    def acknowledge(self, offset: int) -> None:
        """The application is done with the event that came at ``offset``."""
        self._acknowledger.dealt_with(offset, self._reception.claimed.pop(offset, None))

    def acknowledgements(self, message: DealMessage, deal: TransactionId) -> Sequence[Acknowledgement]:
        """Who has signed for a message, as far as that was for us."""
        return self._reception.acknowledgements.of(message.message_id, deal)
