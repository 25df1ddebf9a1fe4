"""`make bench`: every figure measured on real servers, as a table for people and as JSON for machines."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

from deploy.folder import CHECKOUT, StackFolder
from deploy.kafka import Kafka
from tests.bench.floor import verifications_per_second
from tests.bench.latency import LEAD_SECONDS, Latency, inbox_latency
from tests.bench.privacy import private_costs
from tests.bench.projection import projected
from tests.bench.sealing import merkle_leaves_per_second, sealed_per_second
from tests.bench.state import bytes_per_open_transaction, restored
from tests.bench.venue import Venue, load

RESULT = CHECKOUT / ".parley" / "bench" / "latest.json"
STEADY_PER_SECOND = 2_000
TURNS = 3
"""The floor and the routers by turns: within minutes, either moves by a third with the machine."""
STEADY_SECONDS = 60
"""Of which the latency is told."""
TARGETS = {
    "router_ratio": "0.5 or more",
    "router_ratio_flushed": "0.33 or more",
    "inbox_p99_ms": "under 100",
    "bytes_per_open_transaction": "600 or less",
    "bytes_per_restored_transaction": "600 or less of a million",
    "restore_seconds_per_million": "60 or less",
    "private_client_ratio": "1.3 or less",
    "private_router_ratio": "1.0",
}
MEANINGS = {
    "floor_per_second": "Ed25519 verifications a second, libsodium, all cores (the floor)",
    "router_per_second": "routed messages a second, two routers",
    "router_ratio": "  as a ratio to the floor",
    "router_one_per_second": "routed messages a second, one router",
    "router_one_ratio": "  as a ratio to the floor",
    "router_flushed_per_second": "routed a second, two routers, every append flushed to disk",
    "router_ratio_flushed": "  as a ratio to the floor",
    "inbox_p50_ms": f"send to inbox at {STEADY_PER_SECOND:,} messages a second, median, ms",
    "inbox_p99_ms": "  99th percentile, ms",
    "sealed_per_second": "messages sealed into blocks a second",
    "merkle_leaves_per_second": "Merkle leaves a second",
    "projected_per_second": "events projected into PostgreSQL a second",
    "bytes_per_open_transaction": "router's memory for an open transaction, bytes",
    "bytes_per_restored_transaction": "  for one that it came back with, buffers of reading included",
    "restore_seconds_per_million": "router's time to come back with a million, seconds",
    "private_client_us": "a private message at both clients, µs of one core",
    "private_client_ratio": "  as a ratio to the same in clear",
    "private_router_us": "  at the router",
    "private_router_ratio": "  as a ratio to the same in clear",
}


def measure(
    messages: int, warm_up: int, steady_warm_up: int, open_transactions: int, say: Callable[[str], None]
) -> dict[str, float]:
    """All figures.

    The routers' speed is measured in turns of ``messages``, after ``warm_up`` of them and so many seconds of a steady rate to get the
    broker's code compiled, and their memory with so many open transactions.
    """
    found: dict[str, float] = {"open_transactions": open_transactions}
    say("memory and trees")
    found["bytes_per_open_transaction"] = bytes_per_open_transaction(open_transactions)
    found["merkle_leaves_per_second"] = merkle_leaves_per_second()
    say("private messages")
    clear, private = private_costs()
    found["private_client_us"], found["private_router_us"] = private
    found["private_client_ratio"] = private.client / clear.client
    found["private_router_ratio"] = private.router / clear.router
    say("projecting into PostgreSQL")
    found["projected_per_second"] = projected().events
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        stack = StackFolder(Path(folder))
        say("starting the broker")
        with Kafka(stack, optimised=True) as kafka:
            venue = Venue(stack, kafka)
            venue.provision()
            sent = _routing(venue, messages, warm_up, steady_warm_up, found, say)
            say("sealing")
            found["sealed_per_second"] = sealed_per_second(venue, sent)
            say("restoring")
            back = restored(venue, open_transactions)
            found["bytes_per_restored_transaction"] = back.bytes_each
            found["restore_seconds_per_million"] = back.seconds_per_million
    return found


def _routing(
    venue: Venue,
    messages: int,
    warm_up: int,
    steady_warm_up: int,
    found: dict[str, float],
    say: Callable[[str], None],
) -> int:
    """The routers' figures; returns how many messages there were in all."""
    sent = 0
    floors: list[float] = []

    def routed(name: str, ratio: str, seed: str) -> None:
        nonlocal sent
        floor, speeds = [verifications_per_second()], list[float]()
        for turn in range(TURNS):
            prepared = load(messages, f"{seed}-{turn}")
            sent += len(prepared)
            speeds.append(venue.routed_per_second(prepared))
            floor.append(verifications_per_second())
        floors.append(mean(floor))
        found[name] = mean(speeds)
        found[ratio] = found[name] / floors[-1]

    def latency(seconds: int, seed: str) -> Latency:
        nonlocal sent
        prepared = load(STEADY_PER_SECOND * (LEAD_SECONDS + seconds), seed)
        sent += len(prepared)
        with venue.running(venue.service("delivery", 0)):
            venue.deliveries_drained()
            return inbox_latency(venue, prepared, STEADY_PER_SECOND)

    with venue.routers(2):
        say("warming up")
        for part in range(3):
            prepared = load(warm_up // 3, f"warm-up-{part}")
            sent += len(prepared)
            venue.routed_per_second(prepared)
        latency(steady_warm_up, "warm-up-steady")
        say("two routers")
        routed("router_per_second", "router_ratio", "two")
        say("two routers, every append flushed")
        venue.durable(True)
        routed("router_flushed_per_second", "router_ratio_flushed", "flushed")
        venue.durable(False)
        say("latency at a steady rate")
        found["inbox_p50_ms"], found["inbox_p99_ms"] = latency(STEADY_SECONDS, "steady")
    say("one router")
    with venue.routers(1):
        routed("router_one_per_second", "router_one_ratio", "one")
    found["floor_per_second"] = sum(floors) / len(floors)
    return sent


def main() -> None:
    """Measure, tell people, and write the result for machines."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="messages of each turn of routing")
    parser.add_argument("--warm-up", type=int, default=120_000, help="messages before the first")
    parser.add_argument(
        "--steady-warm-up",
        type=int,
        default=150,
        help="seconds of the steady rate before the first: a broker's code is compiled through after some minutes",
    )
    parser.add_argument(
        "--open", type=int, default=200_000, help="open transactions whose memory and restoring are measured"
    )
    chosen = parser.parse_args()
    console = Console()
    with console.status("starting") as status:
        begin = time.monotonic()
        found = measure(
            chosen.messages,
            chosen.warm_up,
            chosen.steady_warm_up,
            chosen.open,
            lambda what: status.update(f"measuring: {what}"),
        )
    table = Table(title=f"Parley on {os.cpu_count()} cores, broker, load and routers together")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("target")
    for key, meaning in MEANINGS.items():
        value = found[key]
        table.add_row(meaning, f"{value:,.2f}" if value < 100 else f"{value:,.0f}", TARGETS.get(key, ""))
    console.print(table)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    found["seconds"] = time.monotonic() - begin
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {RESULT.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main()
