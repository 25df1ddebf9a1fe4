"""The processor's Prometheus metrics; each service adds its own beside them."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECORDS: Final = Counter("parley_stream_records", "Records processed and committed", ["topic"])
COMMITS: Final = Counter("parley_stream_commits", "Transactions committed", ["topic"])
ABORTS: Final = Counter("parley_stream_aborts", "Transactions rolled back and run again", ["topic"])
SESSIONS_LOST: Final = Counter(
    "parley_stream_sessions_lost", "Starts over from the committed offsets", ["topic"]
)
DEAD_LETTERS: Final = Counter(
    "parley_stream_dead_letters",
    "Records written to dead-letter, by kind of error: PoisonError is a decision, anything else a defect or a missing topic",
    ["topic", "error"],
)
DEAD_LETTERS_AGAIN: Final = Counter(
    "parley_stream_dead_letters_again", "Records in dead-letter once more after they were put back", ["topic"]
)
TICKS: Final = Counter("parley_stream_ticks", "Ticks appended to wake timers on idle partitions", ["topic"])
LAG: Final = Gauge(
    "parley_stream_lag_records", "Records appended and not yet processed", ["topic", "partition"]
)
COMMIT_SECONDS: Final = Histogram(
    "parley_stream_commit_seconds",
    "From the first write of a transaction to its commit",
    ["topic"],
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
RESTORE_SECONDS: Final = Histogram(
    "parley_stream_restore_seconds",
    "Restoring the state of one partition on assignment",
    ["topic"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
