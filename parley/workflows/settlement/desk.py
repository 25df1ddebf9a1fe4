"""A settlement desk: a participant's instructions, each negotiated with its counterparty until it ended; the thin shell around
`negotiation`.

What a bank does with its own books before each word, and how it opens a deal, is its `Office`: override what yours does
otherwise. A desk remembers nothing that the record does not: started again with the same instructions it finds the deals that
are open, folds what was said in them, and goes on where it is due.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from parley.client import Participant
from parley.deal import Deal, DealMessage, InboxEvent, Unverified
from parley.directory import Directory
from parley.errors import DirectoryError, EncryptionError, InstructionError, RefusedError, SettlementError
from parley.schemas import Terms
from parley.workflows.settlement.advice import NO_REFERENCE, write_refusal
from parley.workflows.settlement.checks import check
from parley.workflows.settlement.counterparties import speaks_for
from parley.workflows.settlement.instruction import SettlementInstruction
from parley.workflows.settlement.matching import Matched, match
from parley.workflows.settlement.negotiation import next_word, refuse_unknown
from parley.workflows.settlement.office import Ending, Office, Practice, Settlement
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.steps import ADVICE_STEP, INSTRUCTION_STEP, KIND, Word
from parley.workflows.settlement.writing import write_instruction

__all__ = ["Desk", "read_opening"]


class Desk:
    """The settlements of a connected participant. All that it does runs in ``work``; what is not its own it leaves to others."""

    def __init__(
        self,
        me: Participant,
        work: asyncio.TaskGroup,
        practice: Practice | None = None,
        office: Office | None = None,
    ) -> None:
        self._me = me
        self._work = work
        self._practice = practice or Practice()
        self._office = office or Office()
        self.settlements: list[Settlement] = []
        self._by_deal: dict[bytes, Settlement] = {}
        self._room = asyncio.Semaphore(self._practice.at_once)
        self._all_over = asyncio.Event()

    def instruct(self, instruction: SettlementInstruction) -> Settlement:
        """Take an instruction of ours; nothing is said before `start`.

        Raises:
            InstructionError: it contradicts itself, its identifiers or the calendar, or is not ours.

        """
        check(instruction, self._practice.day(instruction))
        if not speaks_for(self._me.directory, self._me.participant, instruction.own):
            raise InstructionError(
                f"{self._me.participant} is no party of the side that {instruction.transaction_id} instructs; "
                "have the directory list its LEI or BIC, or send it as who it names"
            )
        return self.resume(instruction)

    def resume(self, instruction: SettlementInstruction) -> Settlement:
        """Take an instruction that was negotiated before, without judging it anew."""
        settlement = Settlement(instruction)
        self.settlements.append(settlement)
        return settlement

    def forget(self, settlement: Settlement) -> None:
        """Leave a settlement alone that no deal was found for."""
        self.settlements.remove(settlement)

    def start(self) -> None:
        """Go on with the deals that are open, then open those in which we receive, in order."""
        for deal in self._me.deals:
            if deal.kind == KIND:
                self._look(deal)
        self._work.create_task(self._open_all())

    async def listen(self) -> None:
        """Take what comes to the inbox until cancelled; for who runs nothing else on the connection.

        Raises:
            VerificationError: what the backbone delivered does not verify; the error says what.

        """
        async for event in self._me.inbox():
            self._attend(event)

    async def catch_up(self) -> None:
        """Take what is in the inbox now, such as what ended while nobody was here; raises as :meth:`listen`."""
        async for event in self._me.inbox(follow=False):
            self._attend(event)

    def take(self, event: InboxEvent) -> bool:
        """Whether an event of the inbox was this desk's affair, which then is attended to."""
        if isinstance(event, Unverified) or event.deal.kind != KIND:
            return False
        self._look(event.deal)
        return True

    def _attend(self, event: InboxEvent) -> None:
        if isinstance(event, Unverified):
            raise event.error
        self.take(event)

    async def over(self, within: timedelta | None = None) -> None:
        """Wait until all has ended; what no counterparty opened ``within`` this time is given up."""
        self._look_around()
        try:
            async with asyncio.timeout(None if within is None else within.total_seconds()):
                await self._all_over.wait()
        except TimeoutError:
            for settlement in self.settlements:
                if settlement.deal is None and not settlement.negotiation.receives:
                    self._end(settlement, Ending.NOT_INSTRUCTED)
            await self._all_over.wait()

    # Listening ---------------------------------------------------------------------------------------------------------

    def _look(self, deal: Deal) -> None:
        settlement = self._by_deal.get(deal.id) or self._place(deal)
        if settlement is not None:
            self._advance(settlement)

    def _place(self, deal: Deal) -> Settlement | None:
        """The settlement that a deal is for, seen for the first time; one for no settlement of ours may be refused."""
        opening = deal.messages[0] if deal.messages else None
        if opening is None or opening.sequence != 0:
            return None
        own = opening.sender == self._me.participant
        longest = timedelta.max if own else self._practice.longest
        try:
            said = read_opening(opening, deal.terms, self._me.directory, longest)
        except SettlementError as error:
            if not own:
                self._refuse(deal, Word(ADVICE_STEP, write_refusal(NO_REFERENCE, str(error)), finishes=True))
            return None
        if own:
            found = self._own(said)
        else:
            found = self._matching(said, opening.sender)
            if found is not None and deal.outcome is not None and not self._committed(deal, found):
                return (
                    None  # what ended before our instruction was said in it leaves that free for another deal
                )
            if found is None and self._practice.refuse_unknown:
                self._refuse(deal, refuse_unknown(said))
        if found is not None:
            self._enter(found, deal)
        return found

    def _committed(self, deal: Deal, settlement: Settlement) -> bool:
        """Whether the instruction was said in a deal that the other side opened."""
        return any(
            message.content == write_instruction(settlement.ours)
            for message in deal.messages
            if message.sender == self._me.participant
        )

    def _own(self, said: SettlementInstruction) -> Settlement | None:
        """Whose opening this is; we made it in an earlier life, or a moment ago."""
        return next(
            (each for each in self.settlements if each.deal is None and each.ours == said),
            None,
        )

    def _matching(self, said: SettlementInstruction, sender: str) -> Settlement | None:
        """The delivery of ours that an opening is for: by the trade's reference, by the common one, or because all of it matches."""
        waiting = [
            each
            for each in self.settlements
            if each.deal is None and each.ending is None and not each.negotiation.receives
        ]
        tolerance = self._practice.tolerance
        for fits in (
            lambda ours: said.trade_id is not None and ours.trade_id == said.trade_id,
            lambda ours: said.common_id is not None and ours.common_id == said.common_id,
            lambda ours: isinstance(match(ours, said, tolerance), Matched),
        ):
            for each in waiting:
                if fits(each.ours) and speaks_for(self._me.directory, sender, each.ours.counterparty):
                    return each
        return None

    def _enter(self, settlement: Settlement, deal: Deal) -> None:
        settlement.deal = deal
        self._by_deal[deal.id] = settlement

    # Speaking ----------------------------------------------------------------------------------------------------------

    async def _open_all(self) -> None:
        for settlement in list(self.settlements):
            if settlement.negotiation.receives and settlement.deal is None and settlement.ending is None:
                await self._room.acquire()
                settlement.counts = True
                self._work.create_task(self._open(settlement))
                await asyncio.sleep(self._practice.pause)

    async def _open(self, settlement: Settlement) -> None:
        word = self._next_word(settlement)
        settlement.speaking = True
        try:
            approved = None if word is None else await self._office.approve(settlement, word)
            if approved is None:
                self._end(settlement, Ending.REJECTED, "we did not open it")
            elif approved.finishes:
                self._end(settlement, Ending.REJECTED, "we declined before it was opened")
            else:
                deal = await self._office.open(self._me, settlement, approved, self._practice)
                self._enter(settlement, deal)
        except (RefusedError, DirectoryError, EncryptionError) as error:
            if isinstance(error, RefusedError):
                settlement.refused.append(error)
            self._end(settlement, Ending.REFUSED, str(error))
        finally:
            settlement.speaking = False
        if settlement.deal is not None:
            self._advance(settlement)
        self._look_around()

    def _advance(self, settlement: Settlement) -> None:
        """Hear what is new, and say what is to be said."""
        settlement.catch_up(self._me.participant)
        deal, phase = settlement.deal, settlement.negotiation.phase
        assert deal is not None
        if phase.ends:
            self._end(settlement, Ending(phase.value))
        elif deal.outcome == "TIMED_OUT":
            self._end(settlement, Ending.TIMED_OUT)
        elif not settlement.speaking and settlement.spoke_at < settlement.messages:
            word = self._next_word(settlement)
            if word is not None:
                settlement.speaking, settlement.spoke_at = True, settlement.messages
                self._work.create_task(self._say(settlement, deal, word))

    def _next_word(self, settlement: Settlement) -> Word | None:
        practice = self._practice
        return next_word(settlement.negotiation, practice.day(settlement.ours), practice.tolerance)

    async def _say(self, settlement: Settlement, deal: Deal, word: Word) -> None:
        try:
            approved = await self._office.approve(settlement, word)
            if approved is not None:
                await _speak(deal, approved)
            else:
                self._make_room(settlement)
        except RefusedError as error:
            settlement.refused.append(error)
        finally:
            settlement.speaking = False
        self._advance(settlement)
        self._look_around()

    def _refuse(self, deal: Deal, word: Word) -> None:
        if deal.outcome is None and len(deal.messages) == 1:
            self._work.create_task(_speak_once(deal, word))

    # Ending ------------------------------------------------------------------------------------------------------------

    def _end(self, settlement: Settlement, ending: Ending, note: str = "") -> None:
        if settlement.ending is not None:
            return
        settlement.ending, settlement.note = ending, note
        self._make_room(settlement)
        self._office.ended(settlement)
        self._look_around()

    def _make_room(self, settlement: Settlement) -> None:
        if settlement.counts:
            settlement.counts = False
            self._room.release()

    def _look_around(self) -> None:
        if all(settlement.over for settlement in self.settlements):
            self._all_over.set()


def read_opening(
    opening: DealMessage, terms: Terms, directory: Directory, longest: timedelta
) -> SettlementInstruction:
    """The instruction that opens a settlement.

    Raises:
        SettlementError: it is none, its terms are none to settle on, or its sender is none of the parties that it is of.

    """
    if len(terms.parties) != 2 or terms.finish_rule != "ANY" or opening.content_type != INSTRUCTION_STEP:
        raise InstructionError(
            f"a settlement is opened between two parties, either of whom ends it, by {INSTRUCTION_STEP}"
        )
    if timedelta(milliseconds=terms.deadline - opening.at) > longest:
        raise InstructionError(f"the deadline is further off than the {longest} that we bind ourselves for")
    said = read_instruction(opening.content)
    if not speaks_for(directory, opening.sender, said.own):
        raise InstructionError(f"{opening.sender} is none of the parties that the instruction is of")
    return said


async def _speak(deal: Deal, word: Word) -> None:
    speak = deal.finish if word.finishes else deal.send
    await speak(word.content, content_type=word.content_type)


async def _speak_once(deal: Deal, word: Word) -> None:
    try:
        await _speak(deal, word)
    except RefusedError:
        return  # it ended meanwhile, which comes to the inbox
