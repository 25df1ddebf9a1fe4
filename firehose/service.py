"""The monitor's loop: read, follow, count, save; stops at the first gap or changed chain hash, with what was good saved."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from prometheus_client import Counter, Gauge

from firehose.core import observe
from firehose.settings import MonitorSettings
from firehose.state import StateFile, Watched
from parley.firehose import Follower
from parley.kafka import TopicReader, TopicRecord
from streams.catalogue import FIREHOSE
from streams.runtime import Stop

__all__ = ["SERVICE", "Monitor", "run"]

SERVICE: Final = "monitor"
STARTED: Final = "monitor.started"
SAVED: Final = "monitor.figures.saved"

_WAIT_SECONDS: Final = 0.2

EVENTS: Final = Counter("parley_monitor_events", "Events followed, each with its chain hash checked")
FOLLOWED: Final = Gauge("parley_monitor_sequence", "Sequence of the next event to follow", ["pipeline"])
OPEN: Final = Gauge("parley_monitor_open_transactions", "Transactions opened and not ended")

log = structlog.get_logger()


class Source(Protocol):
    """Where firehose records come from."""

    def poll(self, timeout: float) -> Sequence[TopicRecord]: ...


class Monitor:
    """Follows from what the file says, and keeps the file up to date."""

    def __init__(self, file: StateFile, save_interval_s: float) -> None:
        self._file = file
        self._interval = save_interval_s
        self.watched: Watched = file.load()
        """What has been followed and counted; figures and cursor always belong together."""
        self._follower = Follower(self.watched.cursor)
        self._saved = self.watched
        self._saved_at = 0.0

    @property
    def positions(self) -> dict[int, int]:
        """The next offset to read, by pipeline."""
        return {pipeline: at.offset for pipeline, at in self.watched.cursor.items()}

    def take(self, records: Sequence[TopicRecord]) -> None:
        """Follow and count a batch.

        Raises:
            FirehoseError: events are missing, or the chain hash is another; nothing of the batch is counted.
            WireError: a record is no event.

        """
        followed = [self._follower.follow(record.value, record.offset) for record in records]
        events = [event for event in followed if event is not None]
        self.watched = Watched(observe(self.watched.figures, events), dict(self._follower.cursor))
        EVENTS.inc(len(events))

    def save(self, now_s: float, *, always: bool = False) -> None:
        """Save what is new, once an interval or ``always``."""
        if self.watched is self._saved or (not always and now_s - self._saved_at < self._interval):
            return
        self._file.save(self.watched)
        self._saved, self._saved_at = self.watched, now_s
        figures, cursor = self.watched
        OPEN.set(len(figures.open))
        for pipeline, at in cursor.items():
            FOLLOWED.labels(pipeline).set(at.sequence)
        log.info(SAVED, events=figures.events, open=len(figures.open), outcomes=dict(figures.outcomes))

    def follow(self, source: Source, stop: Stop) -> None:
        """Follow until asked to stop; what is good is saved whatever ends it."""
        try:
            while not stop.is_set():
                records = source.poll(_WAIT_SECONDS)
                if records:
                    self.take(records)
                self.save(time.monotonic())
        finally:
            self.save(time.monotonic(), always=True)


def run(settings: MonitorSettings, stop: Stop) -> None:
    """Monitor until asked to stop."""
    monitor = Monitor(StateFile(settings.state_file), settings.save_interval_ms / 1_000)
    with TopicReader(settings.access(), FIREHOSE, monitor.positions) as reader:
        log.info(STARTED, pipelines=reader.partitions, events=monitor.watched.figures.events)
        monitor.follow(reader, stop)
