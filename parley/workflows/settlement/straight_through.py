"""Straight-through processing: instructions in, every negotiation started and followed to its end, a report of what failed out.

No person is asked. A trade file becomes our own side's instructions (`own_side`); an instruction that is wrong by itself
fails alone, and the others go on. With a journal, a run that was killed is taken up by running it again.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final, NamedTuple

from parley.client import Participant
from parley.directory import Directory
from parley.errors import InstructionError
from parley.identifiers import transaction_text
from parley.workflows.settlement.desk import Desk
from parley.workflows.settlement.instruction import SettlementInstruction
from parley.workflows.settlement.journal import Entry, Journal, JournalledOffice
from parley.workflows.settlement.office import Ending, Office, Practice, Settlement
from parley.workflows.settlement.trades import trades

__all__ = ["REPORT_COLUMNS", "Outcome", "own_side", "settle_all", "write_report"]

REPORT_COLUMNS: Final = (
    "reference",
    "trade",
    "side",
    "isin",
    "amount",
    "ending",
    "transaction",
    "due",
    "why",
)


class Outcome(NamedTuple):
    """What became of an instruction."""

    instruction: SettlementInstruction
    ending: Ending
    transaction: str
    """The deal's id; empty where none was opened."""
    due: tuple[str, ...]
    """Who let it time out."""
    why: str

    @property
    def failed(self) -> bool:
        """Whether it did not settle as instructed."""
        return self.ending is not Ending.SETTLED

    @property
    def row(self) -> dict[str, str]:
        """As the report has it."""
        ours = self.instruction
        return {
            "reference": ours.transaction_id,
            "trade": ours.trade_id or "",
            "side": ours.movement.name.lower(),
            "isin": ours.isin,
            "amount": f"{ours.amount.currency} {ours.amount.amount:f}",
            "ending": self.ending,
            "transaction": self.transaction,
            "due": " ".join(self.due),
            "why": self.why,
        }


def own_side(data: bytes, directory: Directory, participant: str) -> Iterator[SettlementInstruction]:
    """A participant's own instructions for the trades of a file, in its order; trades between others are left out.

    BICs are those of the directory.

    Raises:
        TradeFileError: a row cannot become instructions; the message names the first.
        InstructionError: the participant has no LEI in the directory.

    """
    bics = {entry.lei: entry.bic for entry in directory if entry.lei and entry.bic}
    own = directory.entry(participant)
    lei = None if own is None else own.lei
    if lei is None:
        raise InstructionError(
            f"{participant} has no LEI in the directory, so no trade is known as its own; have the registrar attest it"
        )
    for sides in trades(data, bics):
        for side in sides:
            if side.own.parties[0].lei == lei:
                yield side


async def settle_all(
    me: Participant,
    instructions: Iterable[SettlementInstruction],
    practice: Practice,
    *,
    within: timedelta,
    office: Office | None = None,
    journal: Journal | None = None,
) -> tuple[Outcome, ...]:
    """Follow every instruction to its end, and say what became of each, in their order.

    ``within`` is how long a delivery waits for its counterparty's opening.

    Raises:
        ParleyError: the backbone is gone, or what it says cannot be true; with a journal, run it again.
        VerificationError: what the backbone delivered does not verify.
        JournalError: the journal cannot be written.

    """
    office = office or Office()
    run = _Run(tuple(instructions), journal)
    try:
        async with asyncio.TaskGroup() as work:
            desk = Desk(me, work, practice, office if journal is None else JournalledOffice(office, journal))
            run.instruct(desk, frozenset(transaction_text(deal.id) for deal in me.deals))
            await desk.catch_up()
            run.conclude(desk)
            listening = work.create_task(desk.listen())
            desk.start()
            await desk.over(within)
            listening.cancel()
    except BaseExceptionGroup as group:
        raise _first(group) from None
    return run.outcomes()


def write_report(outcomes: Iterable[Outcome]) -> bytes:
    """The report of what failed: CSV in UTF-8 with `REPORT_COLUMNS`."""
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, REPORT_COLUMNS)
    writer.writeheader()
    writer.writerows(outcome.row for outcome in outcomes if outcome.failed)
    return written.getvalue().encode()


class _Run:
    """Which instructions are followed, which have ended already, and which of them nobody knows yet."""

    def __init__(self, instructions: tuple[SettlementInstruction, ...], journal: Journal | None) -> None:
        self._instructions = instructions
        self._journal = journal
        self._found: dict[str, Settlement | Outcome] = {}
        self._uncertain: list[tuple[Settlement, Entry]] = []
        """Of which we were about to say the last word when an earlier run was killed, and whose deal is not open any more."""

    def instruct(self, desk: Desk, open_deals: frozenset[str]) -> None:
        """Hand the desk what is to be followed; what is wrong by itself ends here."""
        for instruction in self._instructions:
            reference = instruction.transaction_id
            if reference in self._found:
                raise InstructionError(f"{reference} stands there twice; a reference is one instruction's")
            known = None if self._journal is None else self._journal.entry(reference)
            self._found[reference] = self._take(desk, instruction, known, open_deals)

    def _take(
        self, desk: Desk, instruction: SettlementInstruction, known: Entry | None, open_deals: frozenset[str]
    ) -> Settlement | Outcome:
        if known is None:
            try:
                return desk.instruct(instruction)
            except InstructionError as error:
                return Outcome(instruction, Ending.REJECTED, "", (), str(error))
        if known.ended:
            return Outcome(instruction, known.ending, known.transaction, (), known.why)
        settlement = desk.resume(instruction)
        if known.transaction not in open_deals:
            self._uncertain.append((settlement, known))
        return settlement

    def conclude(self, desk: Desk) -> None:
        """Where the inbox tells of no other end, the last word that was about to be said was heard."""
        for settlement, known in self._uncertain:
            if settlement.deal is None and self._journal is not None:
                desk.forget(settlement)
                self._journal.note(known._replace(ended=True))
                self._found[known.reference] = Outcome(
                    settlement.ours, known.ending, known.transaction, (), known.why
                )

    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each."""
        found = (self._found[instruction.transaction_id] for instruction in self._instructions)
        return tuple(_outcome(each) if isinstance(each, Settlement) else each for each in found)


def _outcome(settlement: Settlement) -> Outcome:
    assert settlement.ending is not None
    deal = settlement.deal
    transaction = "" if deal is None else transaction_text(deal.id)
    return Outcome(settlement.ours, settlement.ending, transaction, settlement.due, settlement.why)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that made the others: of several, the first that is no group."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
