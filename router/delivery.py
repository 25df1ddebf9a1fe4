"""The delivery stage: from `deliveries` to each address's inbox, in a process of its own; it reads no record's content.

A transaction would write a marker to every inbox it touched; so inboxes are written outside one, at least once, and each
record names where it comes from, by which readers drop repetitions: header ``delivery``, ``<partition>:<place>``, where
the place is the offset in `deliveries` times 65,536 plus the item's index in its batch, and so only grows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from parley.schemas import DeliveryBatch, decode
from router.settings import DeliverySettings
from streams.catalogue import DELIVERIES, inbox_topic
from streams.handler import Emit, Record
from streams.relay import Relay, RelayConfig
from streams.runtime import Stop, run_service

__all__ = ["deliver"]

SERVICE = "delivery"
PLACES = 65_536
"""Items a batch has room for in the places of a delivery."""


def deliver(records: Sequence[Record]) -> Iterator[Emit]:
    """The inbox records of some delivery batches; a batch's key is its address."""
    for record in records:
        address, value, offset = record.key(), record.value(), record.offset()
        assert address is not None
        assert value is not None
        assert offset is not None
        topic, first = inbox_topic(address.decode()), offset * PLACES
        for place, item in enumerate(decode(value, DeliveryBatch).items, first):
            yield Emit(topic, 0, None, item, [("delivery", f"{record.partition()}:{place}".encode())])


def run(settings: DeliverySettings, stop: Stop) -> None:
    """Deliver until asked to stop."""
    config = RelayConfig(SERVICE, settings.instance, DELIVERIES)
    Relay(config, settings.connection(), deliver).run(stop.is_set)


if __name__ == "__main__":
    sys.exit(run_service(SERVICE, DeliverySettings, run))
