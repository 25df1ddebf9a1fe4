"""The delivery stage: from `deliveries` to each address's inbox, in a process of its own; it reads no record's content.

A transaction would write a marker to every inbox it touched; so inboxes are written outside one, at least once, and each
record names its place in `deliveries` (header ``delivery``: ``<partition>:<offset>``), by which readers drop repetitions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from router.settings import DeliverySettings
from streams.catalogue import DELIVERIES, inbox_topic
from streams.handler import Emit, Record
from streams.relay import Relay, RelayConfig
from streams.runtime import Stop, run_service

__all__ = ["deliver"]

SERVICE = "delivery"


def deliver(records: Sequence[Record]) -> Iterator[Emit]:
    """The inbox record of each delivery; its key is the address."""
    for record in records:
        place = f"{record.partition()}:{record.offset()}".encode()
        yield Emit(
            inbox_topic((record.key() or b"").decode()), 0, None, record.value(), [("delivery", place)]
        )


def run(settings: DeliverySettings, stop: Stop) -> None:
    """Deliver until asked to stop."""
    config = RelayConfig(SERVICE, settings.instance, DELIVERIES)
    Relay(config, settings.connection(), deliver).run(stop.is_set)


if __name__ == "__main__":
    sys.exit(run_service(SERVICE, DeliverySettings, run))
