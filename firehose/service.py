"""The monitor's loop: read, follow, decrypt, count, save; stops at the first gap or changed chain hash, what was good saved."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from firehose import metrics
from firehose.core import observe
from firehose.granting import Granting
from firehose.settings import MonitorSettings
from firehose.state import StateFile, Watched
from parley.firehose import Follower
from parley.history import learn
from parley.kafka import TopicReader, TopicRecord
from parley.reading import Reader
from parley.schemas import FirehoseEvent, decode
from streams.catalogue import FIREHOSE
from streams.runtime import Stop

__all__ = ["SERVICE", "Monitor", "run"]

SERVICE: Final = "monitor"
STARTED: Final = "monitor.started"
SAVED: Final = "monitor.figures.saved"

_WAIT_SECONDS: Final = 0.2

log = structlog.get_logger()


class Source(Protocol):
    """Where firehose records come from."""

    def poll(self, timeout: float) -> Sequence[TopicRecord]: ...


class Monitor:
    """Follows from what the file says, and keeps the file up to date."""

    def __init__(self, file: StateFile, save_interval_s: float, reader: Reader | None = None) -> None:
        """``reader`` holds the keys by which what is private is read; without it that stays unread."""
        self._file = file
        self._reader = reader
        self._granting = None if reader is None else Granting(reader.participant)
        self._interval = save_interval_s
        self.watched: Watched = file.load()
        """What has been followed and counted; figures and cursor always belong together."""
        metrics.WAITING.figures = self.watched.figures
        self._follower = Follower(self.watched.cursor)
        self._relearning = dict(self.watched.keys_from)
        """Pipelines on which the keys that a restart needs may not all be learnt again yet."""
        self._saved = self.watched
        self._saved_at = 0.0

    @property
    def positions(self) -> dict[int, int]:
        """The next offset to read, by pipeline: so far back that the keys still needed are learnt again."""
        keys_from = {} if self._reader is None else self.watched.keys_from
        return {
            pipeline: min(at.offset, keys_from.get(pipeline, at.offset))
            for pipeline, at in self.watched.cursor.items()
        }

    def take(self, records: Sequence[TopicRecord]) -> None:
        """Follow and count a batch.

        Raises:
            FirehoseError: events are missing, or the chain hash is another; nothing of the batch is counted.
            WireError: a record is no event.

        """
        events: list[FirehoseEvent] = []
        for record in records:
            event = self._follower.follow(record.value, record.offset)
            if event is not None:
                events.append(event)
                self._relearning.pop(record.partition, None)
            if self._granting is not None:
                self._granting.note(event or self._learn(record), record.offset)
        figures = observe(self.watched.figures, events, self._reader)
        granted = {} if self._granting is None else self._granting.oldest()
        keys_from = {**granted, **self._relearning}
        self.watched = Watched(figures, dict(self._follower.cursor), keys_from)
        metrics.EVENTS.inc(len(events))
        metrics.WAITING.figures = figures

    def _learn(self, record: TopicRecord) -> FirehoseEvent:
        """An event that was counted before a restart, shown to the reader for the keys it may have granted."""
        event = decode(record.value, FirehoseEvent)
        if self._reader is not None:
            learn(self._reader, [event])
        return event

    def save(self, now_s: float, *, always: bool = False) -> None:
        """Save what is new, once an interval or ``always``."""
        if self.watched is self._saved or (not always and now_s - self._saved_at < self._interval):
            return
        self._file.save(self.watched)
        self._saved, self._saved_at = self.watched, now_s
        figures, cursor, _ = self.watched
        metrics.OPEN.set(len(figures.open))
        for pipeline, at in cursor.items():
            metrics.FOLLOWED.labels(pipeline).set(at.sequence)
        log.info(
            SAVED,
            events=figures.events,
            open=len(figures.open),
            outcomes=dict(figures.outcomes),
            private=figures.private,
            unread=dict(figures.unread),
        )

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
    monitor = Monitor(StateFile(settings.state_file), settings.save_interval_ms / 1_000, settings.reader())
    with TopicReader(settings.access(), FIREHOSE, monitor.positions) as reader:
        log.info(STARTED, pipelines=reader.partitions, events=monitor.watched.figures.events)
        monitor.follow(reader, stop)
