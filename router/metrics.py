"""What a router process counts, for Prometheus; numbers that every processor has stand in `streams.metrics`.

What belongs to a pipeline is read when it is asked for, and is gone with the pipeline when another router has it.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Iterator
from typing import Final
from weakref import ref

from prometheus_client import REGISTRY, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from router.counting import open_by_kind
from streams.state import NEVER
from streams.tally import Tally

__all__ = ["EVENTS", "OPEN", "REJECTIONS", "OpenTransactions"]

EVENTS = Counter(
    "parley_router_events_total", "Events written to the firehose: accepted messages and timeouts"
)
REJECTIONS = Counter("parley_router_rejections_total", "Ingest records refused")

_KINDS_SHOWN: Final = 50
"""Participants choose kinds, so there may be any number; the rarest are shown as one."""
_OTHERS: Final = "(others)"


class OpenTransactions(Collector):
    """Open transactions by kind, and when time next changes one, on the pipelines that the process owns."""

    def __init__(self) -> None:
        self._pipelines: dict[int, tuple[ref[Tally], int]] = {}

    def observe(self, pipeline: int, tally: Tally, next_due: int) -> None:
        """Take note of a pipeline as it was committed; ``next_due`` in ms since the Unix epoch."""
        self._pipelines[pipeline] = (ref(tally), next_due)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges of now; called by another thread than observes."""
        kinds: Counts[str] = Counts()
        due = GaugeMetricFamily(
            "parley_router_next_due_timestamp_seconds",
            "When time alone next changes a transaction: its deadline, or when it may be forgotten; far in the past, the"
            " router is stuck",
            labels=["pipeline"],
        )
        for pipeline, (tally, next_due) in list(self._pipelines.items()):
            if (numbers := tally()) is not None:
                kinds.update(dict(open_by_kind(numbers)))
                if next_due < NEVER:
                    due.add_metric([str(pipeline)], next_due / 1_000)
        opened = GaugeMetricFamily(
            "parley_router_open_transactions", "Transactions that have not ended", labels=["kind"]
        )
        for kind, number in _shown(kinds):
            opened.add_metric([kind], number)
        return [opened, due]


def _shown(kinds: Counts[str]) -> Iterator[tuple[str, int]]:
    ranked = kinds.most_common()
    yield from ranked[:_KINDS_SHOWN]
    if rest := sum(number for _, number in ranked[_KINDS_SHOWN:]):
        yield _OTHERS, rest


OPEN: Final = OpenTransactions()
REGISTRY.register(OPEN)
