"""What a router process counts, for Prometheus; numbers that every processor has stand in `streams.metrics`."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["EVENTS", "REJECTIONS"]

EVENTS = Counter(
    "parley_router_events_total", "Events written to the firehose: accepted messages and timeouts"
)
REJECTIONS = Counter("parley_router_rejections_total", "Ingest records refused")
