"""A file of agreed trades as settlement instructions of both sides, the first step of straight-through processing.

The files are CSV in UTF-8 with a header: trades by LEI, and the participants that the LEIs stand for, in the columns of
`COLUMNS` and `PARTICIPANT_COLUMNS`; further columns are left alone. Who sends the instructions is not decided here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from parley.errors import TradeFileError
from parley.workflows.settlement.instruction import (
    Chain,
    Measure,
    Money,
    Movement,
    Party,
    Quantity,
    SettlementInstruction,
)

__all__ = ["COLUMNS", "FACE_AMOUNT_CLASSES", "PARTICIPANT_COLUMNS", "Sides", "participants", "trades"]

COLUMNS: Final = (
    "uti",
    "deliverer_lei",
    "receiver_lei",
    "deliverer_securities_account",
    "receiver_securities_account",
    "deliverer_cash_account",
    "receiver_cash_account",
    "isin",
    "asset_class",
    "quantity",
    "currency",
    "settlement_amount",
    "trade_date",
    "settlement_date",
    "place_of_settlement_bic",
)
PARTICIPANT_COLUMNS: Final = ("lei", "bic")
FACE_AMOUNT_CLASSES: Final = frozenset({"BOND"})
"""Asset classes whose quantity is a face amount; all others count units."""
_LONGEST_NUMBER: Final = 40


class Sides(NamedTuple):
    """One trade as its two sides instruct it."""

    delivering: SettlementInstruction
    receiving: SettlementInstruction


def participants(data: bytes) -> dict[str, str]:
    """The BIC of each LEI. Raises TradeFileError, also where an LEI stands twice."""
    found: dict[str, str] = {}
    for line, row in _rows(data, PARTICIPANT_COLUMNS):
        if found.setdefault(row["lei"], row["bic"]) != row["bic"]:
            raise TradeFileError(
                f"line {line}, lei: {row['lei']} stands twice with different BICs; leave the right one"
            )
    return found


def trades(data: bytes, bics: Mapping[str, str]) -> Iterator[Sides]:
    """Each trade's two instructions, in the file's order; ``bics`` by LEI, as `participants` gives them.

    Either side's reference is ``D`` or ``R`` and the end of the UTI, which is unique within its generating party.
    Raises TradeFileError at the first row that cannot become instructions, naming line and column.
    """
    for line, row in _rows(data, COLUMNS):
        yield _sides(line, row, bics)


def _sides(line: int, row: Mapping[str, str], bics: Mapping[str, str]) -> Sides:
    def chain(side: str) -> Chain:
        lei = row[f"{side}_lei"]
        if lei not in bics:
            raise TradeFileError(f"line {line}, {side}_lei: {lei!r} is no participant; add it, with its BIC")
        party = Party(bics[lei], lei, row[f"{side}_securities_account"])
        return Chain(row["place_of_settlement_bic"], (party,))

    measure = Measure.FACE_AMOUNT if row["asset_class"] in FACE_AMOUNT_CLASSES else Measure.UNITS
    delivering, receiving = chain("deliverer"), chain("receiver")

    def instruction(movement: Movement, side: str) -> SettlementInstruction:
        return SettlementInstruction(
            transaction_id=f"{side[0].upper()}{row['uti'][-34:]}",
            trade_id=row["uti"],
            common_id=None,
            movement=movement,
            trade_date=_day(line, row, "trade_date"),
            settlement_date=_day(line, row, "settlement_date"),
            isin=row["isin"],
            quantity=Quantity(measure, _number(line, row, "quantity")),
            amount=Money(_number(line, row, "settlement_amount"), row["currency"]),
            safekeeping_account=row[f"{side}_securities_account"],
            cash_account=row[f"{side}_cash_account"],
            transaction_type="TRAD",
            delivering=delivering,
            receiving=receiving,
        )

    return Sides(instruction(Movement.DELIVER, "deliverer"), instruction(Movement.RECEIVE, "receiver"))


def _rows(data: bytes, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TradeFileError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise TradeFileError(
                f"line 1: the columns {', '.join(missing)} are missing; add them to the header"
            )
        for row in reader:
            for column in columns:
                if not row[column]:
                    raise TradeFileError(f"line {reader.line_num}, {column}: is empty; fill it in")
            yield reader.line_num, row
    except csv.Error as error:
        raise TradeFileError(f"after line {reader.line_num}: {error}; write it as CSV with commas") from None


def _number(line: int, row: Mapping[str, str], column: str) -> Decimal:
    text = row[column]
    try:
        number = Decimal(text) if len(text) <= _LONGEST_NUMBER else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number <= 0:
        raise TradeFileError(
            f"line {line}, {column}: {text[:40]!r} is no number above zero; write it as 1234.56"
        )
    return number


def _day(line: int, row: Mapping[str, str], column: str) -> date:
    try:
        return date.fromisoformat(row[column])
    except ValueError:
        raise TradeFileError(
            f"line {line}, {column}: {row[column][:40]!r} is no day; write it as YYYY-MM-DD"
        ) from None
