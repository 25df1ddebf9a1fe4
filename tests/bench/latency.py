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
from tests.bench.venue import BANKS, Sent, Venue

__all__ = ["LEAD_SECONDS", "Latency", "inbox_latency"]

_STEP_SECONDS = 0.005
LEAD_SECONDS = 10
"""At the same rate, before what is counted: connections, caches and compiled code are then those of a service at work."""


class Latency(NamedTuple):
    """From send to inbox, in ms."""

    p50: float
    p99: float


class _Inboxes(threading.Thread):
    """Reads every bank's inbox, and notes when each envelope came."""

    def __init__(self, venue: Venue) -> None:
        super().__init__(daemon=True)
        self.came: dict[bytes, float] = {}
        self._stopping = False
        self._consumer = Consumer(venue.kafka.admin.reading_consumer(end_wait_ms=20))
        topics = [inbox_topic(bank) for bank in BANKS]
        ends = [venue.reader.bounds(topic, 0)[1] for topic in topics]
        self._consumer.assign(
            [TopicPartition(topic, 0, end) for topic, end in zip(topics, ends, strict=True)]
        )

    def run(self) -> None:
        while not self._stopping:
            for message in self._consumer.consume(1_000, 0.005):
                now, value = time.perf_counter(), message.value()
                if message.error() is None and value is not None and is_a(value, FirehoseEvent):
                    envelope = decode(value, FirehoseEvent).envelope
                    if envelope is not None:
                        self.came.setdefault(envelope, now)
        self._consumer.close()

    def stop(self) -> None:
        self._stopping = True
        self.join()


def inbox_latency(venue: Venue, messages: Sequence[Sent], per_second: int) -> Latency:
    """Send the messages at this rate; every one must come. Those of the first LEAD_SECONDS are not counted."""
    # What measures must not pause for what was measured before.
    gc.collect()
    gc.freeze()
    inboxes = _Inboxes(venue)
    inboxes.start()
    producer = Producer(venue.kafka.admin.producer(linger_ms=5))
    sent: dict[bytes, float] = {}
    begin = time.perf_counter()
    for number, (pipeline, record) in enumerate(messages):
        while time.perf_counter() - begin < number / per_second:
            producer.poll(_STEP_SECONDS)
        sent[record] = time.perf_counter()
        producer.produce(INGEST, record, None, pipeline)
    assert producer.flush(30) == 0
    venue.all_routed(messages)
    deadline = time.monotonic() + 30
    while len(inboxes.came) < len(sent) and time.monotonic() < deadline:
        time.sleep(_STEP_SECONDS)
    inboxes.stop()
    assert len(inboxes.came) == len(sent), f"{len(sent) - len(inboxes.came)} messages did not come"
    counted = [inboxes.came[record] - at for record, at in sent.items() if at - begin > LEAD_SECONDS]
    cuts = statistics.quantiles(counted, n=100)
    return Latency(cuts[49] * 1_000, cuts[98] * 1_000)
