"""From a bank's send to the other bank's inbox, message by message, at a steady rate: router, delivery and broker at work."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from parley.schemas import FirehoseEvent, decode, is_a
from streams.catalogue import INGEST, inbox_topic
from tests.bench.venue import BANKS, Sent, Venue, wait_until

__all__ = ["LEAD_SECONDS", "Latency", "inbox_latency"]

_STEP_SECONDS = 0.005
LEAD_SECONDS = 10
"""At the same rate, before what is counted: connections, caches and compiled code are then those of a service at work."""


class Latency(NamedTuple):
    """From send to inbox, in ms."""

    p50: float
    p99: float


class _Inboxes(threading.Thread):
    """Reads every bank's inbox, and notes when each record came; looks into them only when all have come."""

    def __init__(self, venue: Venue) -> None:
        super().__init__(daemon=True)
        self._came: list[tuple[float, bytes]] = []
        self._stopping = False
        self._reader = venue.reader
        self._begin = self._ends()
        self._consumer = Consumer(venue.kafka.admin.reading_consumer(end_wait_ms=20))
        self._consumer.assign([TopicPartition(topic, 0, end) for topic, end in self._begin.items()])

    def run(self) -> None:
        while not self._stopping:
            messages = self._consumer.consume(1, _STEP_SECONDS)
            if messages:
                messages += self._consumer.consume(1_000, 0)
                now = time.perf_counter()
                self._came += [
                    (now, value) for each in messages if each.error() is None and (value := each.value())
                ]
        self._consumer.close()

    def times(self) -> dict[bytes, float]:
        """When each envelope first came, of all that have been delivered by now."""
        count = sum(end - self._begin[topic] for topic, end in self._ends().items())
        wait_until(lambda: len(self._came) == count, "the inboxes to be read")
        self._stopping = True
        self.join()
        times: dict[bytes, float] = {}
        for at, value in self._came:
            if is_a(value, FirehoseEvent) and (envelope := decode(value, FirehoseEvent).envelope):
                times.setdefault(envelope, at)
        return times

    def _ends(self) -> dict[str, int]:
        topics = map(inbox_topic, BANKS)
        return {topic: self._reader.bounds(topic, 0)[1] for topic in topics}


def inbox_latency(venue: Venue, messages: Sequence[Sent], per_second: int) -> Latency:
    """Send the messages at this rate; every one must come. Those of the first LEAD_SECONDS are not counted."""
    inboxes = _Inboxes(venue)
    inboxes.start()
    producer = Producer(venue.kafka.admin.producer(linger_ms=5))
    sent: dict[bytes, float] = {}
    # What measures must not pause for what was measured before.
    gc.collect()
    gc.disable()
    begin = time.perf_counter()
    for number, (pipeline, record) in enumerate(messages):
        while time.perf_counter() - begin < number / per_second:
            producer.poll(_STEP_SECONDS)
        sent[record] = time.perf_counter()
        producer.produce(INGEST, record, None, pipeline)
    assert producer.flush(30) == 0
    gc.enable()
    venue.all_routed(messages)
    venue.deliveries_drained()
    came = inboxes.times()
    assert came.keys() >= sent.keys(), f"{len(sent.keys() - came.keys())} messages did not come"
    counted = [came[record] - at for record, at in sent.items() if at - begin > LEAD_SECONDS]
    cuts = statistics.quantiles(counted, n=100)
    return Latency(cuts[49] * 1_000, cuts[98] * 1_000)
