"""What is said in a delivery versus payment, in a sentence for people; the documents themselves are the record."""

from __future__ import annotations

from parley.errors import SettlementError
from parley.workflows.settlement.advice import Status, StatusAdvice, read_advice
from parley.workflows.settlement.confirmation import Confirmation, read_confirmation
from parley.workflows.settlement.instruction import Measure, Money, Movement, Quantity, SettlementInstruction
from parley.workflows.settlement.negotiation import CASH_CONFIRMED
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.steps import ADVICE_STEP, CONFIRMATION_STEP, INSTRUCTION_STEP

__all__ = ["in_words"]


def in_words(content_type: str, content: bytes) -> str:
    """A step in a sentence; what is none, or cannot be read, in a sentence that says so."""
    try:
        if content_type == INSTRUCTION_STEP:
            return _instruction(read_instruction(content))
        if content_type == ADVICE_STEP:
            return _advice(read_advice(content))
        if content_type == CONFIRMATION_STEP:
            return _confirmation(read_confirmation(content))
    except SettlementError as error:
        return f"Not readable as {content_type}: {error}"
    return f"{len(content):,} bytes of {content_type}."


def _instruction(said: SettlementInstruction) -> str:
    what = f"{_securities(said.quantity, said.isin)} against {_cash(said.amount)}"
    place = "" if said.place_of_settlement is None else f" in {said.place_of_settlement}"
    when = f"on {said.settlement_date}{place}"
    if said.movement is Movement.RECEIVE:
        return f"We receive {what}, {when}, on our account {said.safekeeping_account}."
    return f"We commit to deliver {what}, {when}, from our account {said.safekeeping_account}."


def _advice(said: StatusAdvice) -> str:
    reasons = "; ".join(reason.text or reason.code for reason in said.reasons)
    if said.status is Status.PENDING and [reason.code for reason in said.reasons] == [CASH_CONFIRMED]:
        return f"Matched. {reasons}."
    known = {
        Status.MATCHED: "Matched.",
        Status.UNMATCHED: "Not matched",
        Status.PENDING: "Matched, and pending",
        Status.REJECTED: "We decline",
    }[said.status]
    return f"{known}: {reasons}." if reasons else f"{known.rstrip('.')}."


def _confirmation(said: Confirmation) -> str:
    return (
        f"Delivered: {_securities(said.quantity, said.isin)}. {_cash(said.amount)} received. "
        f"Settled on {said.settled_on}."
    )


def _securities(quantity: Quantity, isin: str) -> str:
    face = "" if quantity.measure is Measure.UNITS else "nominal of "
    return f"{quantity.number:,f} {face}{isin}"


def _cash(money: Money) -> str:
    return f"{money.currency} {money.amount:,f}"
