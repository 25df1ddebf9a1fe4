"""A backbone to be measured: a warm broker, banks that have joined, router processes that come and go, and their load."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import AdminClient

from deploy.backbone import Backbone
from deploy.backbone import Participant as Joining
from deploy.compiled import compiled_root
from deploy.folder import StackFolder
from deploy.kafka import Kafka
from deploy.services import Service, Services
from deploy.stack import PIPELINES
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.keys import public_key
from parley.schemas import DirectoryEntry, FirehoseEvent, decode
from streams.catalogue import DELIVERIES, FIREHOSE, INGEST, Role
from streams.handler import Record
from streams.provisioning import Provisioner
from streams.reader import Reader
from tests.dialogue import Dialogue
from tests.synthetic_ledger import signing_key

__all__ = ["BANKS", "Sent", "Venue", "dialogues", "load", "wait_until"]

BANKS = tuple(f"bank-{number:02}" for number in range(12))
_CONTENT = b'{"text": "' + b"I have EUR 14,243.00 to pay for 25 LVMH. " * 6 + b'"}'
_HOUR = 3_600_000
_AT_ONCE = 200
"""Transactions of a pipeline that are under way together: their messages stand interleaved."""
PATIENCE_SECONDS = 120.0

Sent = tuple[int, bytes]
"""A pipeline, and a record for it."""


def dialogues(count: int, pipeline: int, seed: str) -> list[list[bytes]]:
    """So many finished negotiations of four messages of about 500 bytes between two random banks, signed and encoded."""
    choice = random.Random(f"{seed}{pipeline}")
    now = time.time_ns() // 1_000_000
    told = []
    for number in range(count):
        first, second = choice.sample(BANKS, 2)
        dialogue = Dialogue.between(
            first,
            second,
            opened_at=now,
            lasting=_HOUR,
            open_for=_HOUR,
            pipeline=pipeline,
            seed=f"{seed}-{number}",
        )
        said = [dialogue.say(speaker, None, _CONTENT) for speaker in (first, second, first)]
        told.append([*said, dialogue.say(second, "FINISH", _CONTENT)])
    return told


def load(messages: int, seed: str) -> list[Sent]:
    """(pipeline, record) of about so many messages over all pipelines, many transactions under way together."""
    each = messages // 4 // PIPELINES
    lanes = []
    for pipeline in range(PIPELINES):
        told = dialogues(each, pipeline, seed)
        groups = [told[start : start + _AT_ONCE] for start in range(0, each, _AT_ONCE)]
        lanes.append(
            [(pipeline, record) for group in groups for said in zip(*group, strict=True) for record in said]
        )
    return [entry for entries in zip_longest(*lanes) for entry in entries if entry is not None]


class Venue:
    """One broker and its backbone; ``durable`` can be switched while no router runs."""

    def __init__(self, folder: StackFolder, kafka: Kafka) -> None:
        self.folder = folder
        self.kafka = kafka
        self.backbone = Backbone(folder, kafka.admin, pipelines=PIPELINES, durable=False)
        self.reader = Reader(kafka.admin)
        self._sequences = dict.fromkeys(range(PIPELINES), 0)

    def provision(self) -> None:
        """Topics, users, and the banks admitted to the directory."""
        self.backbone.provision()
        self.backbone.join([_joining(name) for name in BANKS])
        with self.running(self.service("admission", 0)):
            self.backbone.await_admission(BANKS)

    def durable(self, value: bool) -> None:
        """Whether the broker flushes the record's topics to disk before it acknowledges."""
        Provisioner(self.kafka.admin, durable=value).provision_topics(PIPELINES)

    def service(self, kind: str, instance: int) -> Service:
        """A service of the router's package as a process to be."""
        module = "router" if kind == "router" else f"router.{kind}"
        told = {
            "KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "KAFKA_USERNAME": kind,
            "KAFKA_PASSWORD_FILE": str(self.folder.password_file(kind)),
            "INSTANCE": str(instance),
        }
        if kind != "delivery":
            told["REGISTRAR_KEY"] = self.backbone.registrar_key.public.hex()
        if kind == "admission":
            told["KEY_FILE"] = str(self.folder.secrets / "admission.x25519")
        if kind == "router":
            told["KEY"] = str(self.folder.secrets / "router.seed")
        prefix = f"PARLEY_{kind.upper()}_"
        return Service(
            f"{kind}-{instance}", module, {f"{prefix}{name}": value for name, value in told.items()}
        )

    @contextmanager
    def running(self, *services: Service) -> Iterator[None]:
        """These services, ready, while the context lasts."""
        with Services(self.folder, services, compiled_root()):
            yield

    @contextmanager
    def routers(self, count: int) -> Iterator[None]:
        """So many routers, each with its share of the pipelines."""
        with self.running(*(self.service("router", number) for number in range(count))):
            admin = AdminClient(self.kafka.admin.client())
            wait_until(
                lambda: _shares(admin, f"router/{INGEST}") == [PIPELINES // count] * count, "shared pipelines"
            )
            yield

    def routed_per_second(self, messages: Sequence[Sent]) -> float:
        """Produce the messages as fast as they go, and wait until the routers that run have put all on the firehose.

        The time is the broker's, from the first append to ingest to the last append to the firehose.
        """
        producer = Producer(self.kafka.admin.producer(linger_ms=20))
        ends = {pipeline: self.reader.bounds(INGEST, pipeline)[1] for pipeline, _ in messages[:PIPELINES]}
        for pipeline, record in messages:
            while True:
                try:
                    producer.produce(INGEST, record, None, pipeline)
                except BufferError:
                    producer.poll(0.01)
                    continue
                break
        assert producer.flush(PATIENCE_SECONDS) == 0
        last = self.all_routed(messages)
        first = min(
            next(self.reader.read_partition(INGEST, pipeline, end)).timestamp()[1]
            for pipeline, end in ends.items()
        )
        return len(messages) / (last - first) * 1_000

    def all_routed(self, messages: Sequence[Sent]) -> int:
        """Wait until these, too, are on the firehose; when the last event was written, in ms since the Unix epoch."""
        for pipeline, _ in messages:
            self._sequences[pipeline] += 1
        wait_until(self._caught_up, "everything to be routed")
        return max(tail.timestamp()[1] for tail in self._tails())

    def deliveries_drained(self) -> None:
        """Wait until the delivery stage has nothing left to deliver."""
        admin = AdminClient(self.kafka.admin.client())
        group = ConsumerGroupTopicPartitions(f"delivery/{DELIVERIES}")
        lanes = range(PIPELINES)

        def drained() -> bool:
            done = admin.list_consumer_group_offsets([group])[group.group_id].result().topic_partitions
            offsets = {place.partition: place.offset for place in done}
            tails = [self.reader.last_record(DELIVERIES, lane) for lane in lanes]
            return all(
                tail is None or offsets.get(lane, -1) > (tail.offset() or 0)
                for lane, tail in zip(lanes, tails, strict=True)
            )

        wait_until(drained, "the deliveries to be drained")

    def _tails(self) -> list[Record]:
        tails = [self.reader.last_record(FIREHOSE, pipeline) for pipeline in range(PIPELINES)]
        return [tail for tail in tails if tail is not None]

    def _caught_up(self) -> bool:
        ends = [self.reader.bounds(FIREHOSE, pipeline)[1] for pipeline in range(PIPELINES)]
        if any(end < self._sequences[pipeline] for pipeline, end in enumerate(ends)):
            return False
        events = [decode(tail.value() or b"", FirehoseEvent) for tail in self._tails()]
        return {event.pipeline: event.sequence + 1 for event in events} == self._sequences


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, for two minutes at most."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS:.0f} s for {what}"
        time.sleep(0.2)


def _shares(admin: AdminClient, group: str) -> list[int]:
    described = admin.describe_consumer_groups([group])[group].result()
    return [len(member.assignment.topic_partitions) for member in described.members]


def _joining(name: str) -> Joining:
    key = signing_key(name)
    entry = DirectoryEntry(name, name, None, None, "DE", "BANK", (public_key(key.public),), (), (name,))
    return Joining(
        name, f"password-of-{name}", Role.PARTICIPANT, (name,), seal(DIRECTORY_ENTRY_TYPE, entry, key)
    )
