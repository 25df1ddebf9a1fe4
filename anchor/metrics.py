"""The anchor service's Prometheus metrics. Published target: lag below one interval and twice the time to finality."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

LAG_SECONDS: Final = Gauge("parley_anchor_lag_seconds", "Since the log outgrew its last final anchor")
LAG_ENTRIES: Final = Gauge("parley_anchor_lag_entries", "Log entries beyond the last final anchor")
FINAL_SIZE: Final = Gauge("parley_anchor_final_size", "Log size of the last final anchor")
HEIGHT: Final = Gauge("parley_anchor_chain_height", "Newest block seen")
EVENTS: Final = Counter("parley_anchor_events", "Events written to anchors", ["state"])
REFUSALS: Final = Counter("parley_anchor_refusals", "Transactions refused by node or contract", ["error"])
ALARMS: Final = Gauge("parley_anchor_alarm", "1 while a person must look", ["kind"])
CHECKPOINT_REFUSED: Final = Gauge(
    "parley_anchor_checkpoint_refused", "1 while the log's checkpoint is not usable"
)
CHAIN_UP: Final = Gauge("parley_anchor_chain_up", "1 while an endpoint answers")
CHAIN_FAILURES: Final = Counter("parley_anchor_chain_failures", "Looks at the chain that failed")
