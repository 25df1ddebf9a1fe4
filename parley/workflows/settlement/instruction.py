"""What two banks negotiate a delivery versus payment by, as values; files, checks and matching are elsewhere.

Names follow ISO 20022's sese.023. An instruction is one side's: it says what its sender delivers or receives, against
payment always (APMT), and whom its sender believes to be on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

__all__ = [
    "Chain",
    "Measure",
    "Money",
    "Movement",
    "Party",
    "ProprietaryId",
    "Quantity",
    "SettlementInstruction",
]


class Movement(StrEnum):
    """Which way the securities go, seen by the instruction's sender."""

    DELIVER = "DELI"
    RECEIVE = "RECE"

    @property
    def mirror(self) -> Movement:
        """What the counterparty's instruction must say."""
        return Movement.RECEIVE if self is Movement.DELIVER else Movement.DELIVER


class Measure(StrEnum):
    """What a quantity counts."""

    UNITS = "Unit"
    FACE_AMOUNT = "FaceAmt"


@dataclass(frozen=True, slots=True)
class Quantity:
    """How much of the security: units of it, or its face amount in the currency of its denomination."""

    measure: Measure
    number: Decimal


@dataclass(frozen=True, slots=True)
class Money:
    """An amount, zero or more, and its ISO 4217 currency."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class ProprietaryId:
    """A party's identifier by an issuer's scheme, such as a depository's participant number."""

    id: str
    issuer: str
    scheme: str | None = None


@dataclass(frozen=True, slots=True)
class Party:
    """One party of a chain, identified by its BIC or by a depository's scheme."""

    id: str | ProprietaryId
    """BIC (ISO 9362), 8 or 11 characters, or a proprietary identifier."""
    lei: str | None = None
    """ISO 17442, 20 characters."""
    safekeeping_account: str | None = None
    """Of this party with the one before it in the chain; 1 to 35 characters."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One side's parties, from the depository on."""

    depository: str | None
    """BIC."""
    parties: tuple[Party, ...]
    """One to five (Pty1 to Pty5), the depository's participant first, then its client, and so on."""


@dataclass(frozen=True, slots=True)
class SettlementInstruction:
    """One side's instruction to settle a trade: securities against payment."""

    transaction_id: str
    """The sender's own reference, 1 to 35 characters; the counterparty's is another."""
    trade_id: str | None
    """The trade's, 1 to 52 characters: the UTI (ISO 23897) where there is one."""
    common_id: str | None
    """A reference that both sides agreed on, 1 to 35 characters."""
    movement: Movement
    trade_date: date
    settlement_date: date
    isin: str
    quantity: Quantity
    amount: Money
    safekeeping_account: str
    """Where the sender's securities come from or go to, 1 to 35 characters."""
    cash_account: str | None
    """Where the sender's cash comes from or goes to: an IBAN, or 1 to 34 characters of a bank's own."""
    transaction_type: str
    """A code of SecuritiesTransactionType23Code, as TRAD for a trade's settlement."""
    delivering: Chain
    receiving: Chain

    @property
    def own(self) -> Chain:
        """The sender's side."""
        return self.delivering if self.movement is Movement.DELIVER else self.receiving

    @property
    def counterparty(self) -> Chain:
        """The other side, as the sender believes it to be."""
        return self.receiving if self.movement is Movement.DELIVER else self.delivering

    @property
    def place_of_settlement(self) -> str | None:
        """BIC of the depository where the securities change hands: the counterparty's, or else the sender's own."""
        return self.counterparty.depository or self.own.depository
