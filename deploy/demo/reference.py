"""The reference data as values: institutions, trades, and how each trade is meant to go; reads files and nothing else."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from deploy.errors import SetupError
from parley.workflows.settlement.trades import Sides, participants
from parley.workflows.settlement.trades import trades as settlement_trades

__all__ = [
    "DATA",
    "EXPECTED",
    "Ending",
    "Institution",
    "Scenario",
    "Trade",
    "institutions",
    "pairs",
    "select",
    "sides",
    "trades",
    "ungranted",
]

T = TypeVar("T")

DATA: Final = Path(__file__).resolve().parent.parent / "data"


class Scenario(StrEnum):
    """How a trade's negotiation is meant to go. Each bank knows only its own part."""

    SETTLES = "settles"
    RECEIVER_SILENT = "receiver_silent"
    DELIVERER_SILENT = "deliverer_silent"
    DECLINED = "declined"
    LATE_FINISH = "late_finish"


class Ending(StrEnum):
    """How a trade ended, as its two banks see it."""

    SETTLED = "settled"
    DECLINED = "declined"
    TIMED_OUT = "timed_out"
    MISMATCHED = "mismatched"
    """One bank asked for something else than the other has in its books."""
    REFUSED = "refused"
    """The backbone refused the opening."""


EXPECTED: Final = {
    Scenario.SETTLES: Ending.SETTLED,
    Scenario.RECEIVER_SILENT: Ending.TIMED_OUT,
    Scenario.DELIVERER_SILENT: Ending.TIMED_OUT,
    Scenario.DECLINED: Ending.DECLINED,
    Scenario.LATE_FINISH: Ending.TIMED_OUT,
}


@dataclass(frozen=True, slots=True)
class Institution:
    """A legal entity of the reference data."""

    lei: str
    bic: str
    legal_name: str
    country: str
    role: str
    """bank, regulator or csd."""

    @property
    def participant(self) -> str:
        """Its name on the backbone, which is also its address and its Kafka user: the BIC in lower case."""
        return self.bic.lower()


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade that both banks have agreed elsewhere and now settle: securities against cash."""

    uti: str
    deliverer_lei: str
    receiver_lei: str
    deliverer_securities_account: str
    receiver_securities_account: str
    deliverer_cash_account: str
    receiver_cash_account: str
    isin: str
    security_name: str
    asset_class: str
    quantity: str
    """Units, or nominal for bonds; as all numbers, in decimal digits as they were given."""
    price: str
    currency: str
    settlement_amount: str
    trade_date: str
    settlement_date: str
    place_of_settlement_bic: str
    scenario: Scenario

    @property
    def amount(self) -> Decimal:
        return Decimal(self.settlement_amount)

    @property
    def due(self) -> str | None:
        """The LEI of the bank that a timeout must name."""
        if self.scenario is Scenario.RECEIVER_SILENT:
            return self.receiver_lei
        if self.scenario in {Scenario.DELIVERER_SILENT, Scenario.LATE_FINISH}:
            return self.deliverer_lei
        return None

    @property
    def messages(self) -> int:
        """How many messages the backbone must accept."""
        return {
            Scenario.SETTLES: 4,
            Scenario.DECLINED: 3,
            Scenario.LATE_FINISH: 3,
            Scenario.RECEIVER_SILENT: 2,
            Scenario.DELIVERER_SILENT: 1,
        }[self.scenario]


def institutions(folder: Path = DATA) -> list[Institution]:
    """Everybody in the reference data. Raises SetupError if the file is not what it must be."""
    return [_read(Institution, row, "participants.csv") for row in _rows(folder / "participants.csv")]


def trades(folder: Path = DATA) -> list[Trade]:
    """Every trade, in the file's order. Raises SetupError if the file is not what it must be."""
    found = []
    for row in _rows(folder / "settlements.csv"):
        try:
            scenario = Scenario(row.pop("scenario", ""))
            Decimal(row.get("settlement_amount", ""))
        except (ValueError, InvalidOperation) as error:
            raise SetupError(f"settlements.csv, trade {row.get('uti')}: {error}; restore the file") from error
        found.append(_read(Trade, row | {"scenario": scenario}, "settlements.csv"))
    return found


def sides(folder: Path = DATA) -> dict[str, Sides]:
    """The settlement instructions of both sides of every trade, by UTI. Raises ParleyError if a file is not what it must be."""
    bics = participants((folder / "participants.csv").read_bytes())
    found = settlement_trades((folder / "settlements.csv").read_bytes(), bics)
    return {each.delivering.trade_id: each for each in found if each.delivering.trade_id is not None}


def select(everything: Sequence[Trade], count: int) -> list[Trade]:
    """``count`` trades in the file's order, among them one of each scenario if there is room for it."""
    first_of_each = {trade.scenario: trade for trade in reversed(everything)}
    chosen = sorted(first_of_each.values(), key=everything.index)[:count]
    for trade in everything:
        if len(chosen) >= count:
            break
        if trade not in chosen:
            chosen.append(trade)
    wanted = {trade.uti for trade in chosen}
    return [trade for trade in everything if trade.uti in wanted]


def pairs(chosen: Sequence[Trade]) -> set[frozenset[str]]:
    """The banks, by LEI, that trade with each other; each two have a channel of their own."""
    return {frozenset((trade.deliverer_lei, trade.receiver_lei)) for trade in chosen}


def ungranted(chosen: Sequence[Trade]) -> str | None:
    """The UTI of the one trade that is first proposed without the regulator's grant, which the backbone must refuse."""
    return next((trade.uti for trade in chosen if trade.scenario is Scenario.SETTLES), None)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be read ({error.strerror}); restore it from the repository"
        ) from error


def _read(contract: type[T], row: dict[str, str], file: str) -> T:
    try:
        return contract(**row)
    except TypeError as error:
        raise SetupError(f"{file} does not have the columns it must have ({error}); restore it") from error
