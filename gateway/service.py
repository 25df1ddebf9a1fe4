"""The loop that keeps PostgreSQL up to date with the topics: read, project, apply; it stops at what does not follow.

A crash at any moment neither loses nor doubles: a life begins at the positions that its database has, and those moved
with the rows.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

import structlog

from gateway import metrics
from gateway.core import TOPICS, Batch, Read, project
from gateway.database import Database
from gateway.errors import DatabaseAwayError
from gateway.settings import GatewaySettings
from streams.catalogue import FIREHOSE
from streams.connection import KafkaConnection
from streams.errors import ReadError
from streams.handler import Record
from streams.processor import READY
from streams.reader import Follower, Reader
from streams.runtime import Stop

__all__ = ["PROJECTED", "SERVICE", "run"]

SERVICE: Final = "gateway"
DROPPED: Final = "gateway.projection.dropped"
PROJECTED: Final = "gateway.batch.projected"
AWAY: Final = "gateway.away"

_POLL_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 5.0
"""Between two looks for new pipelines and at the ends of the topics."""

log = structlog.get_logger()


def run(settings: GatewaySettings, stop: Stop, *, rebuild: bool = False) -> None:
    """Project until asked to stop; with ``rebuild``, everything again from the beginning of the topics.

    Raises:
        ProjectionError, FirehoseError: what was read does not continue what the database has.
        StreamError: records were deleted before they were projected, or the broker refuses this user.
        DatabaseError: the database refuses what is asked of it.

    """
    ready = False
    while not stop.is_set():
        try:
            with Life(settings, rebuild=rebuild) as life:
                ready, rebuild = True, False
                log.info(READY, records=life.records)
                life.follow(stop)
        except (DatabaseAwayError, ReadError) as error:
            if not ready:
                raise
            log.warning(AWAY, reason=str(error))
            stop.wait(_PAUSE_SECONDS)


class Life:
    """From what the database has to losing it, or the broker: the connections, and the positions in memory."""

    def __init__(self, settings: GatewaySettings, *, rebuild: bool) -> None:
        self._limit = settings.batch_records
        connection = settings.connection()
        with ExitStack() as opened:
            self._database = opened.enter_context(Database(settings.dsn, settings.db_schema))
            if rebuild:
                self._database.drop()
                log.info(DROPPED, schema=settings.db_schema)
            self._database.migrate()
            self._positions = self._database.positions()
            self._reader = Reader(connection)
            self._followers = {
                topic: opened.enter_context(self._follower(connection, topic)) for topic in TOPICS
            }
            self._opened = opened.pop_all()
        self._look_at = 0.0

    @property
    def records(self) -> int:
        """How many records are projected."""
        return sum(at.sequence for at in self._positions.values())

    def _follower(self, connection: KafkaConnection, topic: str) -> Follower:
        offsets = dict.fromkeys(range(self._reader.partitions(topic)), 0)
        known = {partition: at.offset for (name, partition), at in self._positions.items() if name == topic}
        return Follower(connection, topic, offsets | known)

    def follow(self, stop: Stop) -> None:
        """Project what comes, until asked to stop."""
        while not stop.is_set():
            if records := self._read():
                self._project(records)
            if time.monotonic() >= self._look_at:
                self._look()

    def _read(self) -> list[Read]:
        """What there is, up to the limit of each topic; waits a moment if there is nothing."""
        records: list[Read] = []
        for topic, follower in self._followers.items():
            wait = _POLL_SECONDS if topic == FIREHOSE and not records else 0.0
            records += map(_read, follower.poll(self._limit, wait))
        return records

    def _project(self, records: list[Read]) -> None:
        started = time.monotonic()
        batch = project(self._positions, records)
        projected = time.monotonic()
        self._database.apply(batch)
        self._positions |= batch.positions
        _observe(batch, len(records), time.monotonic() - projected, time.monotonic() - started)
        self._measure_age(batch)

    def _measure_age(self, batch: Batch) -> None:
        if self._followers[FIREHOSE].at_end:
            metrics.LAG_SECONDS.set(0)
        elif messages := batch.rows.messages:
            metrics.LAG_SECONDS.set(max(time.time() - messages[-1].at / 1_000, 0))

    def _look(self) -> None:
        """Follow pipelines that are new, and measure how far behind each partition is."""
        self._look_at = time.monotonic() + _LOOK_SECONDS
        for topic, follower in self._followers.items():
            for partition in range(len(follower.positions), self._reader.partitions(topic)):
                follower.add(partition)
            for partition, position in follower.positions.items():
                _, end = self._reader.bounds(topic, partition)
                metrics.LAG_RECORDS.labels(topic, partition).set(max(end - position, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def _read(record: Record) -> Read:
    return Read(record.topic() or "", record.partition() or 0, record.offset() or 0, record.value() or b"")


def _observe(batch: Batch, records: int, apply_seconds: float, seconds: float) -> None:
    rows = {name: len(rows) for name, rows in batch.rows.named() if rows}
    for name, count in rows.items():
        metrics.ROWS.labels(name).inc(count)
    metrics.BATCHES.inc()
    metrics.APPLY_SECONDS.observe(apply_seconds)
    log.info(PROJECTED, records=records, rows=rows, seconds=round(seconds, 4))
