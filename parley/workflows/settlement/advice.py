"""Status advices (sese.024.001.12): what is told to the sender of an instruction about where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from parley.errors import ElementError
from parley.workflows.settlement.checks import Finding
from parley.workflows.settlement.document import LIMITS, Limits
from parley.workflows.settlement.instruction import Money, SettlementInstruction
from parley.workflows.settlement.iso20022 import Content, Element, read, write
from parley.workflows.settlement.matching import Mismatches
from parley.workflows.settlement.models import STATUS_ADVICE
from parley.workflows.settlement.writing import (
    amount_content,
    day_content,
    quantity_content,
    type_content,
    without_none,
)

__all__ = [
    "NO_REFERENCE",
    "Reason",
    "Status",
    "StatusAdvice",
    "read_advice",
    "reason_text",
    "rejection_reasons",
    "unmatched_reasons",
    "write_advice",
    "write_refusal",
]

NO_REFERENCE: Final = "NONREF"
"""For an instruction whose reference cannot be read."""
_TEXT_LENGTH: Final = 210


class Status(StrEnum):
    """Where an instruction stands."""

    MATCHED = "matched"
    UNMATCHED = "unmatched"
    PENDING = "pending"
    """Matched, and waiting for what the reasons say."""
    REJECTED = "rejected"
    """Not processed: the instruction itself is wrong."""


class Reason(NamedTuple):
    """Why an instruction stands where it does."""

    code: str
    """Of UnmatchedReason11Code, PendingReason24Code or RejectionReason75Code."""
    text: str | None = None
    """For people, 1 to 210 characters."""


class StatusAdvice(NamedTuple):
    """What a status advice tells."""

    transaction_id: str
    """The reference of the instruction's sender."""
    status: Status
    reasons: tuple[Reason, ...]
    """None where matched, or where nobody says why."""
    amount: Money | None = None
    """Of the instruction, where the advice carries its details."""


_PLACES: Final = {
    Status.MATCHED: ("MtchgSts", "Mtchd"),
    Status.UNMATCHED: ("MtchgSts", "Umtchd"),
    Status.PENDING: ("SttlmSts", "Pdg"),
    Status.REJECTED: ("PrcgSts", "Rjctd"),
}


def write_advice(instruction: SettlementInstruction, status: Status, reasons: Iterable[Reason] = ()) -> bytes:
    """The advice to the instruction's sender, with the trade's details so that it can be read by itself.

    Raises ElementError for a reason whose code the status does not have, and for reasons of a matched instruction.
    """
    outer, inner = _PLACES[status]
    given = [_reason(reason) for reason in reasons]
    told: Content
    if status is Status.MATCHED:
        if given:
            raise ElementError(f"/Document/SctiesSttlmTxStsAdvc/{outer}/{inner}", "has no reasons; give none")
        told = {}
    else:
        told = {"Rsn": given} if given else {"NoSpcfdRsn": "NORE"}
    details = {
        "TradId": instruction.trade_id,
        "FinInstrmId": {"ISIN": instruction.isin},
        "SttlmQty": quantity_content(instruction.quantity),
        "SttlmAmt": amount_content(instruction.amount, instruction.movement),
        "SttlmDt": day_content(instruction.settlement_date),
        "TradDt": day_content(instruction.trade_date),
        "SctiesMvmntTp": instruction.movement,
        "Pmt": "APMT",
        "SttlmParams": type_content(instruction),
    }
    references = {"AcctOwnrTxId": instruction.transaction_id, "CmonId": instruction.common_id}
    content: Content = {
        "TxId": without_none({**references}),
        outer: {inner: told},
        "TxDtls": without_none({**details}),
    }
    return write(STATUS_ADVICE, {"SctiesSttlmTxStsAdvc": content})


def write_refusal(transaction_id: str, text: str) -> bytes:
    """The advice that rejects what is no instruction that could be described, saying why.

    ``transaction_id`` is its sender's reference, or `NO_REFERENCE`.
    """
    told: Content = {"Rjctd": {"Rsn": [_reason(Reason("OTHR", reason_text(text)))]}}
    content: Content = {"TxId": {"AcctOwnrTxId": transaction_id}, "PrcgSts": told}
    return write(STATUS_ADVICE, {"SctiesSttlmTxStsAdvc": content})


def read_advice(data: bytes, limits: Limits = LIMITS) -> StatusAdvice:
    """What an advice tells. Raises as `read_instruction` does, and ElementError for a status that is none of ours."""
    top = read(STATUS_ADVICE, data, limits)
    reference = top.need("TxId", "AcctOwnrTxId", why="it says whose instruction is meant").text()
    for status, (outer, inner) in _PLACES.items():
        found = top.at(outer, inner)
        if found is not None:
            return StatusAdvice(reference, status, tuple(_reasons(found, status)), _amount(top))
    raise ElementError(
        top.path, "tells no status that is known here: matched, unmatched, pending or rejected"
    )


def unmatched_reasons(mismatches: Mismatches) -> tuple[Reason, ...]:
    """The reasons of an unmatched instruction: one for each field that differs."""
    return tuple(Reason(field.reason, reason_text(str(field))) for field in mismatches.fields)


def rejection_reasons(findings: Iterable[Finding]) -> tuple[Reason, ...]:
    """The reasons of a rejected instruction: one for each finding."""
    return tuple(Reason(found.reason, reason_text(f"{found.path}: {found.says}")) for found in findings)


def _amount(top: Element) -> Money | None:
    stated = top.at("TxDtls", "SttlmAmt", "Amt")
    return None if stated is None else Money(stated.decimal(), stated.attribute("Ccy"))


def _reason(reason: Reason) -> Content:
    return without_none({"Cd": {"Cd": reason.code}, "AddtlRsnInf": reason.text})


def _reasons(found: Element, status: Status) -> list[Reason]:
    if status is Status.MATCHED:
        return []
    reasons = []
    for each in found.all("Rsn"):
        code = each.at("Cd", "Cd") or each.need("Cd", "Prtry", "Id", why="state the reason by its code")
        text = each.at("AddtlRsnInf")
        reasons.append(Reason(code.text(), None if text is None else text.text()))
    return reasons


def reason_text(text: str) -> str:
    """A text as a reason may have it: at most 210 printable characters, without the part of a path that all have."""
    short = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    short = short.replace("/Document/SctiesSttlmTxInstr/", "")
    return short if len(short) <= _TEXT_LENGTH else short[: _TEXT_LENGTH - 1] + "…"
