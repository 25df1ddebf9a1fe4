"""The relay on a real broker: nothing is lost when it is killed, order is kept, missing outputs do not block it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from deploy.kafka import Kafka
from streams.connection import KafkaConnection
from streams.handler import Emit, Record
from streams.reader import Reader
from streams.relay import Relay, RelayConfig
from streams.runtime import Stop

ROOT = Path(__file__).parents[2]
OUTPUTS = 10
PATIENCE_S = 60.0


class Sorting:
    """Sends each record to the output its key names, saying where it came from."""

    def __init__(self, topics: str) -> None:
        self._topics = topics

    def __call__(self, records: Sequence[Record]) -> Iterable[Emit]:
        for record in records:
            origin = f"{record.partition()}:{record.offset()}".encode()
            name = (record.key() or b"").decode()
            yield Emit(f"{self._topics}.{name}", 0, record.key(), record.value(), [("origin", origin)])


def config(topics: str) -> RelayConfig:
    return RelayConfig(
        "sorting", "1", f"{topics}.input", f"{topics}.dead", batch_records=50, session_timeout_ms=2_000
    )


def main() -> None:
    """The relay as a process to be killed."""
    bootstrap, username, password, topics = json.loads(os.environ["SORTING"])
    stop = Stop()
    stop.on_signals()
    Relay(config(topics), KafkaConnection(bootstrap, username, password), Sorting(topics)).run(stop.is_set)


@pytest.fixture
def topics(kafka: Kafka) -> str:
    name = f"relay-{uuid.uuid4().hex[:8]}"
    admin = AdminClient(kafka.admin.client())
    new = [NewTopic(f"{name}.{suffix}", 1, 1) for suffix in ("dead", *map(str, range(OUTPUTS)))]
    for future in admin.create_topics([NewTopic(f"{name}.input", 2, 1), *new], operation_timeout=30).values():
        future.result()
    return name


def send(kafka: Kafka, topics: str, count: int, key: bytes | None = None, start: int = 0) -> None:
    producer = Producer(kafka.admin.producer(linger_ms=5))
    for number in range(start, start + count):
        # An output's records all come from one input partition, so their order is told.
        output = number % OUTPUTS
        producer.produce(f"{topics}.input", b"%d" % number, key or b"%d" % output, output % 2)
    assert producer.flush(30) == 0


def outputs(reader: Reader, topics: str) -> list[list[Record]]:
    return [list(reader.read_partition(f"{topics}.{index}", 0)) for index in range(OUTPUTS)]


def await_all(reader: Reader, topics: str, count: int) -> list[list[Record]]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = outputs(reader, topics)
        if len({record.value() for records in found for record in records}) == count:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start(kafka: Kafka, topics: str, crash_at: str = "") -> subprocess.Popen[bytes]:
    arguments = json.dumps([kafka.bootstrap, kafka.admin.username, kafka.admin.password, topics])
    return subprocess.Popen(
        [sys.executable, "-c", "from tests.integration.test_relay import main; main()"],
        cwd=ROOT,
        env=os.environ | {"SORTING": arguments, "PARLEY_CRASH_AT": crash_at},
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("place", ["relay.written:3", "relay.committed:1"])
def test_a_killed_relay_loses_nothing_and_what_it_doubles_is_marked(
    kafka: Kafka, topics: str, place: str
) -> None:
    send(kafka, topics, 500)
    assert start(kafka, topics, place).wait(PATIENCE_S) == -9
    second = start(kafka, topics)
    try:
        found = await_all(Reader(kafka.admin), topics, 500)
    finally:
        second.terminate()
        assert second.wait(PATIENCE_S) == 0
    for index, records in enumerate(found):
        once = {dict(record.headers() or [])["origin"]: record.value() for record in records}
        assert list(once.values()) == [b"%d" % number for number in range(index, 500, OUTPUTS)]


@pytest.fixture
def load(kafka: Kafka, topics: str) -> Iterator[None]:
    """A hundred records a second to the input, until the test ends."""
    producer = Producer(kafka.admin.producer(linger_ms=5))
    over = threading.Event()

    def feed() -> None:
        for number in count():
            producer.produce(f"{topics}.input", b"%d" % number, b"%d" % (number % OUTPUTS), number % 2)
            producer.poll(0)
            if over.wait(0.01):
                return

    thread = threading.Thread(target=feed)
    thread.start()
    yield
    over.set()
    thread.join()
    assert producer.flush(30) == 0


def assert_it_goes_on(kafka: Kafka, topics: str, relay: subprocess.Popen[bytes]) -> None:
    """All that is in the input now comes out, and the relay has not ended."""
    reader = Reader(kafka.admin)
    inputs = [range(reader.bounds(f"{topics}.input", partition)[1]) for partition in range(2)]
    sent = {
        b"%d" % (2 * offset + partition) for partition, offsets in enumerate(inputs) for offset in offsets
    }
    deadline = time.monotonic() + PATIENCE_S
    while not sent <= {record.value() for records in outputs(reader, topics) for record in records}:
        assert relay.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert relay.poll() is None


def test_the_second_relay_of_one_name_ends_the_first_and_goes_on_from_there(
    kafka: Kafka, topics: str
) -> None:
    first = start(kafka, topics)
    send(kafka, topics, 200)
    await_all(Reader(kafka.admin), topics, 200)
    second = start(kafka, topics)
    try:
        assert first.wait(PATIENCE_S) == 1
        send(kafka, topics, 200, start=200)
        await_all(Reader(kafka.admin), topics, 400)
    finally:
        first.kill()
        second.terminate()
        assert second.wait(PATIENCE_S) == 0


@pytest.mark.usefixtures("load")
def test_a_relay_goes_on_where_the_second_of_its_name_dies_at_once(kafka: Kafka, topics: str) -> None:
    first = start(kafka, topics)
    try:
        time.sleep(2)
        assert_it_goes_on(kafka, topics, first)
        assert start(kafka, topics, "relay.written:1").wait(PATIENCE_S) == -9
        # Longer than it may take to learn of the second: its place expires 2 s after it has died.
        time.sleep(4)
        assert_it_goes_on(kafka, topics, first)
    finally:
        first.terminate()
        assert first.wait(PATIENCE_S) == 0


@pytest.mark.usefixtures("load")
def test_a_relay_that_was_suspended_for_almost_its_session_goes_on_by_itself(
    kafka: Kafka, topics: str
) -> None:
    """By the broker's clock its session lasts from the last commit, by its own only from the heartbeat before that."""
    relay = start(kafka, topics)
    try:
        for _ in range(3):
            time.sleep(2)
            assert relay.poll() is None
            relay.send_signal(signal.SIGSTOP)
            time.sleep(1.88)
            relay.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert_it_goes_on(kafka, topics, relay)
    finally:
        relay.terminate()
        assert relay.wait(PATIENCE_S) == 0


def test_a_missing_output_is_a_dead_letter_and_the_rest_goes_on(kafka: Kafka, topics: str) -> None:
    send(kafka, topics, 2, key=b"nowhere")
    send(kafka, topics, 100)
    stopped = threading.Event()
    thread = threading.Thread(
        target=Relay(config(topics), kafka.admin, Sorting(topics)).run, args=(stopped.is_set,)
    )
    thread.start()
    try:
        reader = Reader(kafka.admin)
        await_all(reader, topics, 100)
        dead = list(reader.read_partition(f"{topics}.dead", 0))
    finally:
        stopped.set()
        thread.join(PATIENCE_S)
    assert sorted(record.value() or b"" for record in dead) == [b"0", b"1"]
    headers = dict(dead[0].headers() or [])
    assert headers["dead-letter.destination"] == f"{topics}.nowhere".encode()
    assert headers["dead-letter.topic"] == f"{topics}.input".encode()
    assert headers["dead-letter.offset"]
    assert "dead-letter.stack" not in headers


def test_a_record_that_cannot_be_routed_is_a_dead_letter_and_the_rest_goes_on(
    kafka: Kafka, topics: str
) -> None:
    send(kafka, topics, 1, key=b"\xff")
    send(kafka, topics, 100)
    stopped = threading.Event()
    thread = threading.Thread(
        target=Relay(config(topics), kafka.admin, Sorting(topics)).run, args=(stopped.is_set,)
    )
    thread.start()
    try:
        reader = Reader(kafka.admin)
        await_all(reader, topics, 100)
        (dead,) = reader.read_partition(f"{topics}.dead", 0)
    finally:
        stopped.set()
        thread.join(PATIENCE_S)
    assert dead.key() == b"\xff"
    headers = dict(dead.headers() or [])
    assert headers["dead-letter.error"] == b"UnicodeDecodeError"
    assert b"Traceback" in (headers["dead-letter.stack"] or b"")
