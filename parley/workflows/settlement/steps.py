"""The steps of a delivery versus payment, by the names that the record shows; what the documents hold is the others' affair.

    receiver   opens      sese.023 (RECE)                "we receive these securities against this payment"
    deliverer  goes on    sese.023 (DELI)                its own side, which matches: a commitment to deliver against the cash
    receiver   goes on    sese.024 (pending, AWSH)       the cash is blocked for the deliverer, the securities are awaited
    deliverer  finishes   sese.025                       delivered and paid

Whoever is due may instead finish with sese.024: unmatched, naming the fields, or rejected, saying why. There are two parties,
and the finish rule is ANY. All documents are written in one version, whatever the files they came from were.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parley.workflows.settlement.models import CONFIRMATION, INSTRUCTION, STATUS_ADVICE, MessageType

__all__ = ["ADVICE_STEP", "CONFIRMATION_STEP", "INSTRUCTION_STEP", "KIND", "Word"]


def _media_type(message: MessageType) -> str:
    return f"application/vnd.iso20022.{message.name}+xml"


KIND: Final = "delivery-versus-payment"
INSTRUCTION_STEP: Final = _media_type(INSTRUCTION)
ADVICE_STEP: Final = _media_type(STATUS_ADVICE)
CONFIRMATION_STEP: Final = _media_type(CONFIRMATION)


class Word(NamedTuple):
    """What one side says next."""

    content_type: str
    """The step."""
    content: bytes
    """An ISO 20022 document."""
    finishes: bool = False
