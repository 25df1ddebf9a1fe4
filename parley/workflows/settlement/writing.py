"""A `SettlementInstruction` as sese.023.001.11, and the parts that other messages about it share."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from parley.workflows.settlement.instruction import (
    Chain,
    Money,
    Movement,
    Party,
    Quantity,
    SettlementInstruction,
)
from parley.workflows.settlement.iso20022 import Content, write
from parley.workflows.settlement.models import INSTRUCTION

__all__ = [
    "amount_content",
    "cash_account_content",
    "chain_content",
    "day_content",
    "direction",
    "quantity_content",
    "type_content",
    "without_none",
    "write_instruction",
]

_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Za-z0-9]{1,30}")


def write_instruction(instruction: SettlementInstruction) -> bytes:
    """The document; `read_instruction` gives the same instruction back.

    Raises ElementError or AmountError where a value is not what the standard lets it be.
    """
    content = without_none(
        {
            "TxId": instruction.transaction_id,
            "SttlmTpAndAddtlParams": without_none(
                {"SctiesMvmntTp": instruction.movement, "Pmt": "APMT", "CmonId": instruction.common_id}
            ),
            "TradDtls": without_none(
                {
                    "TradId": instruction.trade_id,
                    "TradDt": day_content(instruction.trade_date),
                    "SttlmDt": day_content(instruction.settlement_date),
                }
            ),
            "FinInstrmId": {"ISIN": instruction.isin},
            "QtyAndAcctDtls": without_none(
                {
                    "SttlmQty": quantity_content(instruction.quantity),
                    "SfkpgAcct": {"Id": instruction.safekeeping_account},
                    "CshAcct": cash_account_content(instruction.cash_account),
                }
            ),
            "SttlmParams": type_content(instruction),
            "DlvrgSttlmPties": chain_content(instruction.delivering),
            "RcvgSttlmPties": chain_content(instruction.receiving),
            "SttlmAmt": amount_content(instruction.amount, instruction.movement),
        }
    )
    return write(INSTRUCTION, {"SctiesSttlmTxInstr": content})


def without_none(content: dict[str, Content | None]) -> dict[str, Content]:
    """The content that there is."""
    return {name: inner for name, inner in content.items() if inner is not None}


def cash_account_content(account: str | None) -> Content | None:
    """A cash account, as an IBAN where it has that form."""
    if account is None:
        return None
    return {"IBAN" if _IBAN.fullmatch(account) else "Prtry": account}


def day_content(day: date) -> Content:
    """A calendar day as the choices of dates want it."""
    return {"Dt": {"Dt": day}}


def quantity_content(quantity: Quantity) -> Content:
    """A quantity as the choices of quantities want it."""
    return {"Qty": {quantity.measure: quantity.number}}


def direction(movement: Movement) -> str:
    """Whether the sender is paid (CRDT) or pays (DBIT)."""
    return "CRDT" if movement is Movement.DELIVER else "DBIT"


def amount_content(money: Money, movement: Movement) -> Content:
    """An amount with its currency and direction."""
    return {"Amt": {"": money.amount, "@Ccy": money.currency}, "CdtDbtInd": direction(movement)}


def type_content(instruction: SettlementInstruction) -> Content:
    """The settlement's parameters: the kind of transaction."""
    return {"SctiesTxTp": {"Cd": instruction.transaction_type}}


def chain_content(chain: Chain) -> Content:
    """One side's depository and parties."""
    depository: Content | None = None if chain.depository is None else {"Id": {"AnyBIC": chain.depository}}
    parties: dict[str, Content | None] = {
        f"Pty{n}": _party(party) for n, party in enumerate(chain.parties, 1)
    }
    return without_none({"Dpstry": depository, **parties})


def _party(party: Party) -> Content:
    identified: Content
    if isinstance(party.id, str):
        identified = {"AnyBIC": party.id}
    else:
        proprietary = {"Id": party.id.id, "Issr": party.id.issuer, "SchmeNm": party.id.scheme}
        identified = {"PrtryId": without_none({**proprietary})}
    account = party.safekeeping_account
    return without_none(
        {"Id": identified, "LEI": party.lei, "SfkpgAcct": None if account is None else {"Id": account}}
    )
