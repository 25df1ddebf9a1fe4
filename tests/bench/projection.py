"""How fast the gateway projects a record into PostgreSQL, beside what a bare COPY of the same messages takes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psycopg

from deploy.folder import StackFolder
from deploy.postgres import Postgres
from gateway.core import Batch, Place, Read, project
from gateway.database import Database
from parley.firehose import Position
from streams.catalogue import FIREHOSE
from tests.synthetic_ledger import Ledger

__all__ = ["Projected", "projected"]

_BATCH = 5_000
_TYPES = [
    "int4",
    "int8",
    "uuid",
    "int4",
    "bytea",
    "text",
    "text[]",
    "text",
    "int8",
    "int8",
    "int8",
    "text",
    "text",
    "bool",
    "int4",
    "int4",
]


class Projected(NamedTuple):
    """Rates a second, one process and one database."""

    events: float
    """Firehose events, from their bytes to rows that are committed."""
    rows: float
    """Rows committed."""
    copied: float
    """The floor: message rows by binary COPY into a bare table."""


def projected(transactions: int = 5_000) -> Projected:
    """Project so many trades of four messages from memory into a database of its own."""
    records = _records(transactions)
    batches: list[Batch] = []
    with (
        tempfile.TemporaryDirectory(prefix="parley-bench-") as folder,
        Postgres(StackFolder(Path(folder))) as postgres,
    ):
        with Database(postgres.dsn, "parley") as database:
            database.migrate()
            positions: dict[Place, Position] = {}
            started = time.perf_counter()
            for start in range(0, len(records), _BATCH):
                batch = project(positions, records[start : start + _BATCH])
                database.apply(batch)
                positions |= batch.positions
                batches.append(batch)
            seconds = time.perf_counter() - started
        copied = _copied(postgres.dsn, batches)
    rows = sum(len(rows) for batch in batches for _, rows in batch.rows.named())
    return Projected(len(records) / seconds, rows / seconds, copied)


def _records(transactions: int) -> list[Read]:
    ledger = Ledger(pipelines=1)
    ledger.content_type = "application/json"
    for number in range(transactions):
        opening = b'{"isin": "FR0000121014", "currency": "EUR", "settlement_amount": "%d.50"}' % number
        deal = ledger.open(content=opening)
        deal.say("bank-1", content=b'{"text": "I commit to deliver on confirmation of the cash"}')
        deal.say("bank-0", content=b'{"text": "Cash confirmed"}')
        deal.say("bank-1", "FINISH", b'{"text": "Delivered", "status": "settled"}')
    return [Read(FIREHOSE, 0, offset, event) for offset, event in enumerate(ledger.firehose[0])]


def _copied(dsn: str, batches: list[Batch]) -> float:
    columns = ", ".join(f"c{index} {name}" for index, name in enumerate(_TYPES))
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"create table bare ({columns})".encode())
        started = time.perf_counter()
        for batch in batches:
            with cursor.copy("copy bare from stdin (format binary)") as copy:
                copy.set_types(_TYPES)
                for row in batch.rows.messages:
                    copy.write_row(row)
        connection.commit()
        seconds = time.perf_counter() - started
    return sum(len(batch.rows.messages) for batch in batches) / seconds


if __name__ == "__main__":
    found = projected()
    print(f"projected: {found.events:,.0f} events a second, {found.rows:,.0f} rows a second")  # noqa: T201
    print(f"bare COPY of the messages alone: {found.copied:,.0f} rows a second")  # noqa: T201
