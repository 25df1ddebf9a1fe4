"""Settlement confirmations (sese.025.001.11): what was delivered and paid, and on which day."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from parley.errors import ElementError
from parley.workflows.settlement.document import LIMITS, Limits
from parley.workflows.settlement.instruction import Measure, Money, Movement, Quantity, SettlementInstruction
from parley.workflows.settlement.iso20022 import Content, read, write
from parley.workflows.settlement.models import CONFIRMATION
from parley.workflows.settlement.writing import (
    amount_content,
    cash_account_content,
    chain_content,
    day_content,
    quantity_content,
    type_content,
    without_none,
)

__all__ = ["Confirmation", "read_confirmation", "write_confirmation"]


class Confirmation(NamedTuple):
    """What a confirmation tells."""

    transaction_id: str
    """The reference of the instruction's sender."""
    movement: Movement
    settled_on: date
    isin: str
    quantity: Quantity
    amount: Money


def write_confirmation(
    instruction: SettlementInstruction, settled_on: date, amount: Money | None = None
) -> bytes:
    """The confirmation that an instruction was settled in full on a day.

    ``amount`` is what was paid, where a tolerance let it be another than the instruction's.
    Raises ElementError or AmountError where a value is not what the standard lets it be.
    """
    trade: dict[str, Content | None] = {
        "TradId": instruction.trade_id,
        "TradDt": day_content(instruction.trade_date),
        "SttlmDt": day_content(instruction.settlement_date),
        "FctvSttlmDt": day_content(settled_on),
    }
    accounts: dict[str, Content | None] = {
        "SttldQty": quantity_content(instruction.quantity),
        "SfkpgAcct": {"Id": instruction.safekeeping_account},
        "CshAcct": cash_account_content(instruction.cash_account),
    }
    references: dict[str, Content | None] = {
        "AcctOwnrTxId": instruction.transaction_id,
        "SctiesMvmntTp": instruction.movement,
        "Pmt": "APMT",
        "CmonId": instruction.common_id,
    }
    content: Content = {
        "TxIdDtls": without_none(references),
        "TradDtls": without_none(trade),
        "FinInstrmId": {"ISIN": instruction.isin},
        "QtyAndAcctDtls": without_none(accounts),
        "SttlmParams": type_content(instruction),
        "DlvrgSttlmPties": chain_content(instruction.delivering),
        "RcvgSttlmPties": chain_content(instruction.receiving),
        "SttldAmt": amount_content(amount or instruction.amount, instruction.movement),
    }
    return write(CONFIRMATION, {"SctiesSttlmTxConf": content})


def read_confirmation(data: bytes, limits: Limits = LIMITS) -> Confirmation:
    """What a confirmation tells. Raises as `read_instruction` does."""
    top = read(CONFIRMATION, data, limits)
    day = top.need("TradDtls", "FctvSttlmDt", "Dt", why="state the day of settlement")
    quantity = top.need(
        "QtyAndAcctDtls", "SttldQty", "Qty", why="state what was delivered in units or face amount"
    )
    measure = next((each for each in Measure if quantity.at(each)), None)
    if measure is None:
        raise ElementError(
            quantity.path, "states neither Unit nor FaceAmt; other measures are not negotiated here"
        )
    amount = top.need("SttldAmt", "Amt", why="state what was paid")
    return Confirmation(
        transaction_id=top.need("TxIdDtls", "AcctOwnrTxId", why="it says whose instruction is meant").text(),
        movement=Movement(top.need("TxIdDtls", "SctiesMvmntTp", why="state DELI or RECE").text()),
        settled_on=(day.at("Dt") or day.need("DtTm", why="state the day")).date(),
        isin=top.need("FinInstrmId", "ISIN", why="state the security").text(),
        quantity=Quantity(measure, quantity.need(measure, why="state how much").decimal()),
        amount=Money(amount.decimal(), amount.attribute("Ccy")),
    )
