"""The monitor's Prometheus metrics; what waits on whom is worked out when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from firehose.core import Figures, waiting

__all__ = ["EVENTS", "FOLLOWED", "OPEN", "WAITING", "Waiting"]

EVENTS: Final = Counter("parley_monitor_events", "Events followed, each with its chain hash checked")
FOLLOWED: Final = Gauge("parley_monitor_sequence", "Sequence of the next event to follow", ["pipeline"])
OPEN: Final = Gauge("parley_monitor_open_transactions", "Transactions opened and not ended")


class Waiting(Collector):
    """By each participant who is due: how many transactions wait on it, since when at most, and until when at least."""

    def __init__(self) -> None:
        self.figures = Figures()
        """Those of now; a scrape is another thread, and they never change."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges of now."""
        transactions = _gauge("transactions", "Open transactions in which the participant is due")
        since = _gauge("since_timestamp_seconds", "When it became due in that which has waited longest")
        until = _gauge("until_timestamp_seconds", "The first deadline of those in which it is due")
        for participant, held in waiting(self.figures).items():
            transactions.add_metric([participant], held.transactions)
            since.add_metric([participant], held.since / 1_000)
            until.add_metric([participant], held.until / 1_000)
        return [transactions, since, until]


def _gauge(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"parley_monitor_waiting_{name}", documentation, labels=["participant"])


WAITING: Final = Waiting()
REGISTRY.register(WAITING)
