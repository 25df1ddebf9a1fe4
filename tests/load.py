"""A load of dialogues on a real broker at a bounded rate; remembers what the broker acknowledged and judges nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaRecord

from streams.catalogue import INGEST
from streams.connection import KafkaConnection
from tests.dialogue import Dialogue
from tests.fix_backbone import RunningBackbone

__all__ = ["Load"]


class Line(NamedTuple):
    pipeline: int
    record: bytes


class Load:
    """Produces, in a thread of its own, dialogues of four messages between two banks over all pipelines.

    Of twenty dialogues one is left open to time out, one has a message repeated, and one garbage in between.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        banks: tuple[str, str],
        pipelines: int,
        *,
        messages: int,
        rate: int,
        seed: str,
    ) -> None:
        """``messages`` is how many there are at least, ``rate`` how many a second at most."""
        self.began_at = time.time_ns() // 1_000_000
        self.least = messages
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self._finishing = threading.Event()
        self._failures: list[KafkaError] = []
        self._banks, self._pipelines, self._rate = banks, pipelines, rate
        self._random = random.Random(seed)
        self._seed = seed
        self._producer = Producer(connection.producer(linger_ms=5))
        self._thread = threading.Thread(target=self._run, daemon=True)

    @classmethod
    def of(cls, running: RunningBackbone, *, messages: int, rate: int, seed: str = "first") -> Self:
        """A load that alice and bob, who have joined, put on a backbone; it has begun, and goes on until `finish`."""
        connection = KafkaConnection(running.backbone.admin.bootstrap, "alice", "password-of-alice")
        pipelines = running.backbone.pipelines
        load = cls(connection, ("alice", "bob"), pipelines, messages=messages, rate=rate, seed=seed)
        load._thread.start()
        return load

    def finish(self) -> Mapping[tuple[int, int], bytes]:
        """Open no more dialogues and wait until all is written; what the broker acknowledged, by pipeline and offset: all."""
        self._finishing.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        assert self._failures == []
        return self.acknowledged

    def _run(self) -> None:
        began = time.monotonic()
        for number, (pipeline, record) in enumerate(self._lines()):
            self._producer.produce(INGEST, record, None, pipeline, on_delivery=partial(self._report, record))
            self._producer.poll(0)
            ahead = number / self._rate - (time.monotonic() - began)
            if ahead > 0.005:
                time.sleep(ahead)
        self._producer.flush(60)

    def _report(self, value: bytes, error: KafkaError | None, record: KafkaRecord) -> None:
        if error is None:
            self.acknowledged[record.partition() or 0, record.offset() or 0] = value
        else:
            self._failures.append(error)

    def _lines(self) -> Iterator[Line]:
        """Sixteen dialogues under way at any time, interleaved at random; those begun are brought to their end."""
        begun = written = 0
        under_way: list[Iterator[Line]] = []
        while under_way or self._opens(written):
            while len(under_way) < 16 and self._opens(written):
                under_way.append(self._dialogue(begun))
                begun += 1
            talk = self._random.choice(under_way)
            line = next(talk, None)
            if line is None:
                under_way.remove(talk)
            else:
                written += 1
                yield line

    def _opens(self, written: int) -> bool:
        return written < self.least or not self._finishing.is_set()

    def _dialogue(self, serial: int) -> Iterator[Line]:
        a, b = self._banks
        pipeline = self._random.randrange(self._pipelines)
        kind = serial % 20
        lasting = self._random.randrange(300, 3_000) if kind == 0 else 120_000
        deal = Dialogue.between(
            a,
            b,
            opened_at=time.time_ns() // 1_000_000,
            lasting=lasting,
            pipeline=pipeline,
            seed=f"{self._seed}/{serial}",
        )
        yield Line(pipeline, deal.say(a))
        yield Line(pipeline, answer := deal.say(b))
        if kind == 0:
            return
        if kind == 1:
            yield Line(pipeline, answer)
        if kind == 2:
            yield Line(pipeline, b"garbage %d" % serial)
        yield Line(pipeline, deal.say(a))
        yield Line(pipeline, deal.say(b, "FINISH"))
