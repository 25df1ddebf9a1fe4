"""The ledger service's Prometheus metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

WORDS: Final = Counter("parley_ledger_words", "What was said about attachments", ["word"])
PROBLEMS: Final = Counter("parley_ledger_problems", "Faults found in attachments and deals", ["reason"])
RELEASES: Final = Counter("parley_ledger_releases", "Deals released")
UNSETTLED: Final = Gauge("parley_ledger_unsettled", "Released deals whose outcome is not final yet")
LANDINGS: Final = Counter(
    "parley_ledger_landings", "Released chain transactions, by what became of them", ["outcome"]
)
REFUSALS: Final = Counter("parley_ledger_refusals", "Refusals by node or router", ["by", "reason"])
CHAIN_UP: Final = Gauge("parley_ledger_chain_up", "1 while an endpoint answers")
CHAIN_FAILURES: Final = Counter("parley_ledger_chain_failures", "Looks at the chain that failed")
