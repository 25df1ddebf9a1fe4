"""A custodian's sese.023 as a `SettlementInstruction`; what the values mean to each other is `checks`' affair."""

from __future__ import annotations

from datetime import date
from typing import Final

from parley.errors import ElementError
from parley.workflows.settlement.checks import check_scale
from parley.workflows.settlement.document import LIMITS, Limits
from parley.workflows.settlement.instruction import (
    Chain,
    Measure,
    Money,
    Movement,
    Party,
    ProprietaryId,
    Quantity,
    SettlementInstruction,
)
from parley.workflows.settlement.iso20022 import Element, read
from parley.workflows.settlement.models import INSTRUCTION

__all__ = ["read_instruction"]

_LEVELS: Final = ("Pty1", "Pty2", "Pty3", "Pty4", "Pty5")
_BY_DAY: Final = "state the day itself"


def read_instruction(data: bytes, limits: Limits = LIMITS) -> SettlementInstruction:
    """The instruction in a document of sese.023.001.09, .10 or .11.

    Where the sender's own chain is left out, it is the account's owner; other things that are needed must be there. What
    else the standard allows may be there too, is checked against the standard, and has no part in the negotiation.

    Raises UnsafeXmlError, UnreadableXmlError, WrongDocumentError, ElementError or AmountError; the latter two name the path.
    """
    top = read(INSTRUCTION, data, limits)
    movement = _movement(top)
    delivering, receiving = _chains(top, movement)
    common = top.at("SttlmTpAndAddtlParams", "CmonId")
    trade = top.need("TradDtls", why="it names the trade")
    trade_id = trade.at("TradId")
    account = top.need(
        "QtyAndAcctDtls", "SfkpgAcct", "Id", why="state the account that the securities move on"
    )
    return SettlementInstruction(
        transaction_id=top.need("TxId", why="state your reference").text(),
        trade_id=None if trade_id is None else trade_id.text(),
        common_id=None if common is None else common.text(),
        movement=movement,
        trade_date=_day(trade, "TradDt"),
        settlement_date=_day(trade, "SttlmDt"),
        isin=top.need("FinInstrmId", "ISIN", why="state the security by its ISIN").text(),
        quantity=_quantity(top),
        amount=_amount(top, movement),
        safekeeping_account=account.text(),
        cash_account=_cash_account(top),
        transaction_type=_transaction_type(top),
        delivering=delivering,
        receiving=receiving,
    )


def _movement(top: Element) -> Movement:
    kind = top.need("SttlmTpAndAddtlParams", why="it says which way the securities go")
    payment = kind.need("Pmt", why="state APMT")
    if payment.text() != "APMT":
        raise ElementError(
            payment.path, f"is {payment.text()}; only settlement against payment (APMT) is negotiated here"
        )
    return Movement(kind.need("SctiesMvmntTp", why="state DELI or RECE").text())


def _day(trade: Element, name: str) -> date:
    stated = trade.need(name, why=_BY_DAY)
    day = stated.need("Dt", why=_BY_DAY)
    return (day.at("Dt") or day.need("DtTm", why=_BY_DAY)).date()


def _quantity(top: Element) -> Quantity:
    choice = top.need("QtyAndAcctDtls", "SttlmQty", why="state how much")
    quantity = choice.need(
        "Qty", why="state Unit or FaceAmt in it; original and current face are not negotiated here"
    )
    for measure in Measure:
        number = quantity.at(measure)
        if number is not None:
            return Quantity(measure, number.decimal())
    raise ElementError(
        f"{quantity.path}/{quantity.names()[0]}", "is not negotiated here; state Unit or FaceAmt"
    )


def _amount(top: Element, movement: Movement) -> Money:
    stated = top.need("SttlmAmt", why="state what is paid")
    element = stated.need("Amt", why="state what is paid")
    money = Money(element.decimal(), element.attribute("Ccy"))
    check_scale(money, element.path)
    direction = stated.need("CdtDbtInd", why="state CRDT or DBIT")
    expected = "CRDT" if movement is Movement.DELIVER else "DBIT"
    if direction.text() != expected:
        raise ElementError(
            direction.path,
            f"is {direction.text()}, and who {'delivers' if expected == 'CRDT' else 'receives'} against payment is "
            f"{'paid' if expected == 'CRDT' else 'the payer'}: state {expected}, or correct SctiesMvmntTp",
        )
    return money


def _cash_account(top: Element) -> str | None:
    stated = top.at("QtyAndAcctDtls", "CshAcct")
    account = stated and (stated.at("IBAN") or stated.at("Prtry"))
    return account.text() if account else None


def _transaction_type(top: Element) -> str:
    kind = top.need("SttlmParams", "SctiesTxTp", why="state TRAD")
    return kind.need("Cd", why="state a code such as TRAD; proprietary types are not negotiated here").text()


def _chains(top: Element, movement: Movement) -> tuple[Chain, Chain]:
    delivering = _chain(top, "DlvrgSttlmPties")
    receiving = _chain(top, "RcvgSttlmPties")
    own = delivering if movement is Movement.DELIVER else receiving
    if not own.parties:
        owner = top.at("QtyAndAcctDtls", "AcctOwnr")
        if owner is not None:
            own = Chain(own.depository, (_party(owner),))
    if movement is Movement.DELIVER:
        delivering = own
    else:
        receiving = own
    for name, chain in (("DlvrgSttlmPties", delivering), ("RcvgSttlmPties", receiving)):
        if not chain.parties:
            raise ElementError(
                f"{top.path}/{name}/Pty1", "is missing; state the depository's participant on this side"
            )
    if delivering.depository is None and receiving.depository is None:
        side = "RcvgSttlmPties" if movement is Movement.DELIVER else "DlvrgSttlmPties"
        raise ElementError(
            f"{top.path}/{side}/Dpstry", "is missing; state the place of settlement by its BIC"
        )
    return delivering, receiving


def _chain(top: Element, name: str) -> Chain:
    side = top.at(name)
    if side is None:
        return Chain(None, ())
    depository = side.at("Dpstry")
    bic = None
    if depository is not None:
        bic = depository.need("Id", "AnyBIC", why="state the depository by its BIC").text()
    stated = [side.at(level) for level in _LEVELS]
    parties = [_party(party) for party in stated if party is not None]
    if None in stated[: len(parties)]:
        missing = _LEVELS[stated.index(None)]
        raise ElementError(
            f"{side.path}/{missing}", "is missing, and a party behind it is stated; close the gap"
        )
    return Chain(bic, tuple(parties))


def _party(party: Element) -> Party:
    identified = party.need("Id", why="state who it is")
    bic = identified.at("AnyBIC")
    lei = party.at("LEI")
    # The owner of an account has none here: the account is the instruction's own.
    account = party.at("SfkpgAcct", "Id") if "SfkpgAcct" in party.names() else None
    return Party(
        id=_proprietary(identified) if bic is None else bic.text(),
        lei=None if lei is None else lei.text(),
        safekeeping_account=None if account is None else account.text(),
    )


def _proprietary(identified: Element) -> ProprietaryId:
    given = identified.need(
        "PrtryId", why="identify the party by AnyBIC or PrtryId; a name alone matches nothing"
    )
    scheme = given.at("SchmeNm")
    return ProprietaryId(
        given.need("Id", why="state it").text(),
        given.need("Issr", why="state it").text(),
        None if scheme is None else scheme.text(),
    )
