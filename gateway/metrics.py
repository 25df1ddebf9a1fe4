"""The gateway's Prometheus metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ROWS: Final = Counter("parley_gateway_rows", "Rows written to the projection", ["table"])
BATCHES: Final = Counter("parley_gateway_batches", "Database transactions that moved rows and positions")
LAG_RECORDS: Final = Gauge(
    "parley_gateway_lag_records", "Records appended and not yet projected", ["topic", "partition"]
)
LAG_SECONDS: Final = Gauge(
    "parley_gateway_lag_seconds", "Age of the last message projected; 0 when nothing is unread"
)
APPLY_SECONDS: Final = Histogram(
    "parley_gateway_apply_seconds",
    "Writing one batch to the database",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
