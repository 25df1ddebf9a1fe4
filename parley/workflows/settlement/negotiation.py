"""One delivery versus payment as a state machine: what was said so far, and what our side says next; pure.

The state is folded from the messages of the deal (`heard`), so a desk that starts again knows where it was. What is said
next (`next_word`) follows from the state, the calendar and the tolerance alone; whether it is said is the desk's affair.
The cash is what the deliverer's instruction says: within the tolerance, the receiver pays that.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Final, NamedTuple

from parley.errors import SettlementError
from parley.workflows.settlement.advice import (
    NO_REFERENCE,
    Reason,
    Status,
    StatusAdvice,
    read_advice,
    reason_text,
    rejection_reasons,
    unmatched_reasons,
    write_advice,
    write_refusal,
)
from parley.workflows.settlement.checks import findings
from parley.workflows.settlement.confirmation import read_confirmation, write_confirmation
from parley.workflows.settlement.instruction import Movement, SettlementInstruction
from parley.workflows.settlement.matching import NO_TOLERANCE, Mismatches, Tolerance, match
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.steps import ADVICE_STEP, CONFIRMATION_STEP, INSTRUCTION_STEP, Word
from parley.workflows.settlement.writing import write_instruction

__all__ = ["CASH_CONFIRMED", "Negotiation", "Phase", "decline", "heard", "next_word", "refuse_unknown"]

CASH_CONFIRMED: Final = "AWSH"
"""The reason for which a matched instruction is pending when all that is awaited are the securities."""


class Phase(StrEnum):
    """How far a negotiation is."""

    NEW = "new"
    """Nothing was said."""
    INSTRUCTED = "instructed"
    """The receiver's instruction is there; the deliverer is due."""
    COMMITTED = "committed"
    """The deliverer's is there too; the receiver is due."""
    CASH_CONFIRMED = "cash confirmed"
    """The cash is blocked; the deliverer is due."""
    SETTLED = "settled"
    DISPUTED = "disputed"
    """Confirmed as settled, but otherwise than agreed."""
    UNMATCHED = "unmatched"
    """One side has the trade otherwise in its books, or not at all."""
    REJECTED = "rejected"
    """One side refuses; the reasons say why."""

    @property
    def ends(self) -> bool:
        """Whether nothing comes after it."""
        return self in _ENDINGS


_ENDINGS: Final = frozenset({Phase.SETTLED, Phase.DISPUTED, Phase.UNMATCHED, Phase.REJECTED})


class Negotiation(NamedTuple):
    """Where our side of a trade stands."""

    ours: SettlementInstruction
    phase: Phase = Phase.NEW
    theirs: SettlementInstruction | None = None
    """As they said it."""
    reasons: tuple[Reason, ...] = ()
    """Why it ended unmatched, rejected or disputed."""
    fault: str | None = None
    """What is wrong with what they said last; it calls for a refusal."""

    @property
    def receives(self) -> bool:
        """Whether ours is the side that receives the securities and pays."""
        return self.ours.movement is Movement.RECEIVE


def heard(
    before: Negotiation, content_type: str, content: bytes, *, own: bool, finishes: bool
) -> Negotiation:
    """The negotiation after one more message of the deal, ours (``own``) or theirs."""
    try:
        if content_type == ADVICE_STEP and finishes:
            return _refused(before, read_advice(content))
        by_receiver = own == before.receives
        if content_type == INSTRUCTION_STEP and not finishes:
            return _instructed(before, content, own=own, by_receiver=by_receiver)
        if content_type == ADVICE_STEP and before.phase is Phase.COMMITTED and by_receiver:
            return _cash_confirmed(before, content, own=own)
        delivered = before.phase is Phase.CASH_CONFIRMED and not by_receiver and finishes
        if content_type == CONFIRMATION_STEP and delivered:
            return _settled(before, content, own=own)
    except SettlementError as error:
        return _fault(before, str(error), finishes=finishes)
    verb = "finished with" if finishes else "said"
    return _fault(before, f"{content_type} was {verb} when the trade was {before.phase}", finishes=finishes)


def next_word(now: Negotiation, day: date, tolerance: Tolerance = NO_TOLERANCE) -> Word | None:
    """What our side says next, on this business day; None where it is not our turn, or nothing is left to say."""
    if now.phase.ends:
        return None
    if now.fault is not None:
        return _last(write_refusal(_their_reference(now), now.fault))
    if now.phase is Phase.NEW and now.receives:
        return Word(INSTRUCTION_STEP, write_instruction(now.ours))
    theirs = now.theirs
    if theirs is None:
        return None
    if now.phase is Phase.INSTRUCTED and not now.receives:
        return _objection(now.ours, theirs, day, tolerance) or Word(
            INSTRUCTION_STEP, write_instruction(now.ours)
        )
    if now.phase is Phase.COMMITTED and now.receives:
        return _objection(now.ours, theirs, day, tolerance) or Word(
            ADVICE_STEP, write_advice(theirs, Status.PENDING, [_blocked(theirs)])
        )
    if now.phase is Phase.CASH_CONFIRMED and not now.receives:
        return _last(write_confirmation(theirs, now.ours.settlement_date, now.ours.amount), CONFIRMATION_STEP)
    return None


def decline(now: Negotiation, text: str) -> Word:
    """The last word of a side that does not want the trade any more, and says why."""
    if now.theirs is None:
        return _last(write_refusal(NO_REFERENCE, text))
    return _last(write_advice(now.theirs, Status.REJECTED, [Reason("OTHR", reason_text(text))]))


def refuse_unknown(theirs: SettlementInstruction) -> Word:
    """The answer to an opening that no instruction of ours belongs to."""
    reason = Reason("CMIS", "we have no instruction for this trade with you")
    return _last(write_advice(theirs, Status.UNMATCHED, [reason]))


def _instructed(before: Negotiation, content: bytes, *, own: bool, by_receiver: bool) -> Negotiation:
    expected, after = (Phase.NEW, Phase.INSTRUCTED) if by_receiver else (Phase.INSTRUCTED, Phase.COMMITTED)
    if before.phase is not expected:
        return _fault(before, f"an instruction came when the trade was {before.phase}")
    return before._replace(phase=after, theirs=before.theirs if own else read_instruction(content))


def _cash_confirmed(before: Negotiation, content: bytes, *, own: bool) -> Negotiation:
    if not own:
        advice, ours = read_advice(content), before.ours
        codes = [reason.code for reason in advice.reasons]
        if advice.status is not Status.PENDING or codes != [CASH_CONFIRMED]:
            return _fault(before, f"the advice is {advice.status}, {codes}, and confirms no cash")
        if (advice.transaction_id, advice.amount) != (ours.transaction_id, ours.amount):
            return _fault(before, f"the cash is confirmed for another trade or amount than {_money(ours)}")
    return before._replace(phase=Phase.CASH_CONFIRMED)


def _settled(before: Negotiation, content: bytes, *, own: bool) -> Negotiation:
    if own:
        return before._replace(phase=Phase.SETTLED)
    told, ours, theirs = read_confirmation(content), before.ours, before.theirs
    assert theirs is not None
    agreed = (ours.transaction_id, ours.movement, ours.isin, ours.quantity, theirs.amount)
    if (told.transaction_id, told.movement, told.isin, told.quantity, told.amount) != agreed:
        reason = Reason("OTHR", f"the confirmation says otherwise than {_money(theirs)} for this trade")
        return before._replace(phase=Phase.DISPUTED, reasons=(reason,))
    return before._replace(phase=Phase.SETTLED)


def _refused(before: Negotiation, advice: StatusAdvice) -> Negotiation:
    ending = Phase.UNMATCHED if advice.status is Status.UNMATCHED else Phase.REJECTED
    return before._replace(phase=ending, reasons=advice.reasons, fault=None)


def _fault(before: Negotiation, text: str, *, finishes: bool = False) -> Negotiation:
    if finishes:
        return before._replace(phase=Phase.REJECTED, reasons=(Reason("OTHR", text),))
    return before._replace(fault=text)


def _objection(
    ours: SettlementInstruction, theirs: SettlementInstruction, day: date, tolerance: Tolerance
) -> Word | None:
    """The last word about an instruction that cannot be settled: it is wrong by itself, or not ours seen from there."""
    wrong = findings(theirs, day)
    if wrong:
        return _last(write_advice(theirs, Status.REJECTED, rejection_reasons(wrong)))
    matching = match(ours, theirs, tolerance)
    if isinstance(matching, Mismatches):
        return _last(write_advice(theirs, Status.UNMATCHED, unmatched_reasons(matching)))
    return None


def _blocked(theirs: SettlementInstruction) -> Reason:
    account = "" if theirs.cash_account is None else f" for account {theirs.cash_account}"
    return Reason(CASH_CONFIRMED, f"{_money(theirs)} is blocked{account}, and is yours on delivery")


def _money(instruction: SettlementInstruction) -> str:
    return f"{instruction.amount.currency} {instruction.amount.amount:,f}"


def _their_reference(now: Negotiation) -> str:
    return NO_REFERENCE if now.theirs is None else now.theirs.transaction_id


def _last(content: bytes, content_type: str = ADVICE_STEP) -> Word:
    return Word(content_type, content, finishes=True)
