"""The projection in PostgreSQL: its schema, its positions, and batches applied whole; what rows mean is the core's affair.

Rows and positions move in one database transaction. So commits need not reach the disk before they are acknowledged: what
a power cut takes is whole batches from the end, positions included, and they are read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from gateway.core import Batch, Place
from gateway.errors import DatabaseAwayError, DatabaseError
from gateway.rows import Rows
from parley.firehose import Position
from parley.schemas import Hash
from streams.crashpoint import crash_point

__all__ = ["Database", "Migration", "migrations"]

_HERE: Final = Path(__file__).parent
_MIGRATION: Final = re.compile(r"([0-9]{4})-[a-z-]+\.sql")
_LOCK_CLASS: Final = 0x7061726C  # "parl": our corner of the server's advisory locks
_CONNECT_SECONDS: Final = 10
_LOCK_TIMEOUT: Final = "5s"
"""How long the server may take to notice that the process before this one is dead."""
_STAGING: Final = (_HERE / "staging.sql").read_bytes()
_MERGE: Final = (_HERE / "merge.sql").read_bytes()
_POSITIONS: Final = "positions"
_TYPES: Final = """
    select format_type(atttypid, atttypmod) from pg_attribute where attrelid = to_regclass(%s) and attnum > 0
    order by attnum
"""


class Migration(NamedTuple):
    """One step of the schema; once released, it never changes."""

    version: int
    text: str


def migrations() -> list[Migration]:
    """All steps, from 1 without gap."""
    paths = sorted((_HERE / "migrations").glob("*.sql"))
    names = [_MIGRATION.fullmatch(path.name) for path in paths]
    versions = [int(name[1]) for name in names if name is not None]
    assert versions == list(range(1, len(paths) + 1)), "migrations are named 0001-what.sql and so on"
    return [Migration(version, path.read_text()) for version, path in zip(versions, paths, strict=True)]


class Database:
    """The one writer of one schema. Errors of every method: DatabaseAwayError, or DatabaseError if trying again is no use."""

    def __init__(self, dsn: str, schema: str) -> None:
        """Connect, and keep every other projection off this schema for as long as the connection lives."""
        self._schema = sql.Identifier(schema)
        self._types: dict[str, list[str]] = {}
        with _told("connecting to the database"):
            self._connection = psycopg.connect(
                dsn, autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name="parley-gateway"
            )
        try:
            self._take(schema)
        except BaseException:
            self.close()
            raise

    def _take(self, schema: str) -> None:
        with _told(f"taking the schema {schema}"):
            self._connection.execute(
                sql.SQL(
                    "set search_path to {}; set synchronous_commit to off; set jit to off; set lock_timeout to {}"
                ).format(self._schema, _LOCK_TIMEOUT)
            )
            try:
                self._connection.execute("select pg_advisory_lock(%s, hashtext(%s))", (_LOCK_CLASS, schema))
            except psycopg.errors.LockNotAvailable as error:
                raise DatabaseError(
                    f"another gateway projects into the schema {schema}; stop it, or choose another schema"
                ) from error

    def migrate(self) -> None:
        """Make the schema, or bring it up to date; then nothing but rows is left to be written."""
        with _told("preparing the schema"):
            with self._connection.transaction():
                self._migrate()
            self._connection.execute(_STAGING)
            for name in (*Rows._fields, _POSITIONS):
                found = self._connection.execute(_TYPES, (f"staged_{name}",)).fetchall()
                self._types[name] = [str(row[0]) for row in found]

    def _migrate(self) -> None:
        execute = self._connection.execute
        execute(sql.SQL("create schema if not exists {}").format(self._schema))
        execute(
            "create table if not exists migrations (version int primary key, at timestamptz not null default now())"
        )
        row = execute("select coalesce(max(version), 0) from migrations").fetchone()
        steps = migrations()
        done = 0 if row is None else int(row[0])
        if done > len(steps):
            raise DatabaseError(
                f"the schema has version {done} and this software makes {len(steps)}; upgrade it, or rebuild the projection"
                " with `python -m gateway --rebuild`"
            )
        for version, text in steps[done:]:
            execute(text.encode())
            execute("insert into migrations (version) values (%s)", (version,))

    def drop(self) -> None:
        """Remove the schema and all that is in it, so that everything is projected again."""
        with _told("dropping the schema"):
            self._connection.execute(sql.SQL("drop schema if exists {} cascade").format(self._schema))

    def positions(self) -> dict[Place, Position]:
        """Up to where each topic's partitions are projected."""
        with _told("reading the positions"):
            rows = self._connection.execute(
                "select topic, partition, sequence, chain, next_offset from positions"
            ).fetchall()
        return {
            (topic, partition): Position(sequence, Hash(bytes(chain)), offset)
            for topic, partition, sequence, chain, offset in rows
        }

    def apply(self, batch: Batch) -> None:
        """Write a batch's rows and positions, all or none."""
        positions = [
            (topic, partition, at.sequence, at.chain, at.offset)
            for (topic, partition), at in batch.positions.items()
        ]
        with _told("writing a batch"):
            with self._connection.transaction(), self._connection.cursor() as cursor:
                for name, rows in batch.rows.named():
                    self._stage(cursor, name, rows)
                self._stage(cursor, _POSITIONS, positions)
                crash_point("gateway.staged")
                cursor.execute(_MERGE)
                crash_point("gateway.merged")
            crash_point("gateway.committed")

    def _stage(self, cursor: psycopg.Cursor[TupleRow], name: str, rows: Sequence[tuple[object, ...]]) -> None:
        if not rows:
            return
        statement = sql.SQL("copy {} from stdin (format binary)").format(sql.Identifier(f"staged_{name}"))
        with cursor.copy(statement) as copy:
            copy.set_types(self._types[name])
            for row in rows:
                copy.write_row(row)

    def close(self) -> None:
        """Leave."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """The driver's errors as ours."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseAwayError(f"{str(error).strip()} while {doing}; see that the server runs") from error
    except psycopg.Error as error:
        raise DatabaseError(
            f"{str(error).strip()} while {doing}; if somebody changed the tables, rebuild them with `python -m gateway"
            " --rebuild`"
        ) from error
