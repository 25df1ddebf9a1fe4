"""What one bank is told, its own side of its own trades and how to reach the backbone, and what it reports at the end.

Both are JSON files between the demonstration and a bank's process. Nothing of another bank's stands in them but what the
two agreed when they traded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from deploy.demo.reference import Ending, Scenario, Trade, ungranted
from deploy.errors import DeployError
from deploy.folder import write_private
from parley.workflows.settlement.trades import Sides
from parley.workflows.settlement.writing import write_instruction

__all__ = [
    "Account",
    "Conduct",
    "Order",
    "Orders",
    "Report",
    "Side",
    "TradeReport",
    "orders_for",
    "read",
    "write",
    "write_instructions",
]

T = TypeVar("T")


class Side(StrEnum):
    """What the bank does in a trade."""

    DELIVER = "deliver"
    RECEIVE = "receive"


class Conduct(StrEnum):
    """The part that a bank plays in a trade, so that the demonstration has something to show."""

    REGULAR = "regular"
    SILENT = "silent"
    """It does not answer what it is told."""
    DECLINES = "declines"
    """It refuses in words, and finishes."""
    LATE = "late"
    """It confirms the delivery after the deadline."""
    FORGETS = "forgets"
    """It first proposes the trade without granting the regulator its key."""


_CONDUCT: Final = {
    (Scenario.RECEIVER_SILENT, Side.RECEIVE): Conduct.SILENT,
    (Scenario.DELIVERER_SILENT, Side.DELIVER): Conduct.SILENT,
    (Scenario.DECLINED, Side.RECEIVE): Conduct.DECLINES,
    (Scenario.LATE_FINISH, Side.DELIVER): Conduct.LATE,
}


@dataclass(frozen=True, slots=True)
class Order:
    """One bank's side of one trade."""

    uti: str
    side: Side
    conduct: Conduct
    counterparty_lei: str
    instruction: Path
    """A file of sese.023."""


@dataclass(frozen=True, slots=True)
class Account:
    """How a reader or a bank reaches the backbone."""

    participant: str
    """Its name, which is its Kafka user and its address too."""
    bootstrap: str
    password_file: Path
    registrar: str
    """The registrar's public key, in hexadecimal: the root of trust."""


@dataclass(frozen=True, slots=True)
class Orders:
    """Everything that one bank's process is told."""

    account: Account
    keystore: Path
    """Its signing key and its encryption key."""
    keystore_password_file: Path
    regulator: str
    """The participant who must be granted the key to every trade."""
    orders: tuple[Order, ...]
    deadline_seconds: float
    """From each opening; the same for all trades."""
    pause_seconds: float
    """Between two openings of this bank."""


@dataclass(frozen=True, slots=True)
class TradeReport:
    """How a trade ended, as one of its banks saw it."""

    uti: str
    isin: str
    currency: str
    settlement_amount: str
    side: Side
    transaction: str
    """The transaction's id; empty where it was never opened."""
    ending: Ending | None
    """``None`` where it has not ended."""
    due: tuple[str, ...]
    """Who a timeout named."""
    refused: tuple[str, ...]
    """The reasons for which messages of this bank's were refused."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one bank reports."""

    participant: str
    trades: tuple[TradeReport, ...]
    unverified: tuple[str, ...]
    """What came to its inbox and did not verify."""


def write(path: Path, value: object) -> None:
    """Write a value of this package's as JSON, for its owner's eyes alone."""
    write_private(path, TypeAdapter(type(value)).dump_json(value).decode())


def read(path: Path, contract: type[T]) -> T:
    """Read what :func:`write` wrote. Raises DeployError if the file is not there or not that."""
    try:
        return TypeAdapter(contract).validate_json(path.read_bytes())
    except OSError as error:
        raise DeployError(f"{path} cannot be read ({error.strerror}); run the demonstration again") from error
    except ValidationError as error:
        raise DeployError(f"{path} is no {contract.__name__}: {error}") from error


def orders_for(lei: str, trades: Sequence[Trade], folder: Path) -> tuple[Order, ...]:
    """A bank's own side of its own trades; ``folder`` holds its instructions, as `write_instructions` names them."""
    forgotten = ungranted(trades)
    return tuple(
        _order(trade, side, folder, forgets=trade.uti == forgotten and side is Side.RECEIVE)
        for trade in trades
        for side, party in ((Side.DELIVER, trade.deliverer_lei), (Side.RECEIVE, trade.receiver_lei))
        if party == lei
    )


def write_instructions(orders: Sequence[Order], sides: Mapping[str, Sides]) -> None:
    """Write the file of each order, as a custodian hands it over; ``sides`` are the trades' instructions by UTI."""
    for order in orders:
        pair = sides[order.uti]
        instruction = pair.delivering if order.side is Side.DELIVER else pair.receiving
        order.instruction.parent.mkdir(mode=0o700, exist_ok=True)
        order.instruction.write_bytes(write_instruction(instruction))


def _order(trade: Trade, side: Side, folder: Path, *, forgets: bool) -> Order:
    return Order(
        uti=trade.uti,
        side=side,
        conduct=Conduct.FORGETS if forgets else _CONDUCT.get((trade.scenario, side), Conduct.REGULAR),
        counterparty_lei=trade.receiver_lei if side is Side.DELIVER else trade.deliverer_lei,
        instruction=folder / f"{trade.uti}.xml",
    )
