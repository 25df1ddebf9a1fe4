"""The block builder's Prometheus metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

TRANSACTIONS: Final = Counter("parley_blockbuilder_transactions", "Transactions sealed")
MESSAGES: Final = Counter("parley_blockbuilder_messages", "Messages sealed")
RECALLED: Final = Counter("parley_blockbuilder_events_read_back", "Events read back from the firehose")
LOG_SIZE: Final = Gauge("parley_blockbuilder_log_size", "Blocks in the log")
WAITING: Final = Gauge(
    "parley_blockbuilder_waiting", "Ended transactions and directory records in no block yet"
)
SEAL_SECONDS: Final = Histogram(
    "parley_blockbuilder_seal_seconds",
    "Making a block and publishing it",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
LAG_SECONDS: Final = Histogram(
    "parley_blockbuilder_lag_seconds",
    "From the end of a block's oldest transaction to its checkpoint",
    buckets=(0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 5, 10, 60),
)
