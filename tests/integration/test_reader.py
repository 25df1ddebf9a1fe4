"""Reading what is committed, to a known end or as it grows, on a real broker."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from deploy.kafka import Kafka
from streams.errors import FencedError, ProvisioningError, ReadError
from streams.handler import Write
from streams.reader import Follower, Reader
from streams.transaction import TransactionalProducer


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = f"read-{uuid.uuid4().hex[:8]}"
    admin = AdminClient(kafka.admin.client())
    for future in admin.create_topics([NewTopic(name, 2, 1)], operation_timeout=30).values():
        future.result()
    return name


@pytest.fixture
def open_transaction(kafka: Kafka, topic: str) -> Callable[[bytes], Producer]:
    """Writes a value in a transaction and leaves it open."""
    producers: list[Producer] = []

    def start(value: bytes) -> Producer:
        config = kafka.admin.transactional_producer(f"open-{topic}-{len(producers)}", linger_ms=0)
        producer = Producer(config)
        producers.append(producer)
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        assert producer.flush(30) == 0
        return producer

    return start


def write(kafka: Kafka, topic: str, *values: bytes, partition: int = 0) -> None:
    """Each value in a transaction of its own, so that a commit marker follows it."""
    producer = TransactionalProducer(kafka.admin.transactional_producer(f"write-{topic}"))
    for value in values:
        writes: list[Write] = [(topic, partition, None, value, None)]
        producer.commit(writes)
    producer.close()


def values(reader: Reader, topic: str, start: int = 0, end: int | None = None) -> list[bytes | None]:
    return [record.value() for record in reader.read_partition(topic, 0, start, end)]


def test_an_empty_partition_reads_as_nothing(kafka: Kafka, topic: str) -> None:
    reader = Reader(kafka.admin)
    assert values(reader, topic) == []
    assert reader.last_record(topic, 0) is None


def test_reading_steps_over_commit_markers(kafka: Kafka, topic: str) -> None:
    write(kafka, topic, b"a", b"b", b"c")
    reader = Reader(kafka.admin)
    assert reader.bounds(topic, 0) == (0, 6)
    assert values(reader, topic) == [b"a", b"b", b"c"]
    assert values(reader, topic, start=1) == [b"b", b"c"]
    assert values(reader, topic, start=2, end=4) == [b"b"]
    last = reader.last_record(topic, 0)
    assert last is not None
    assert (last.offset(), last.value()) == (4, b"c")


def test_what_was_rolled_back_is_never_read(
    kafka: Kafka, topic: str, open_transaction: Callable[[bytes], Producer]
) -> None:
    write(kafka, topic, b"kept")
    for _ in range(20):
        open_transaction(b"dropped").abort_transaction(30)
    reader = Reader(kafka.admin)
    assert values(reader, topic) == [b"kept"]
    last = reader.last_record(topic, 0)
    assert last is not None
    assert last.value() == b"kept"


def test_a_read_waits_for_a_transaction_that_is_open_before_its_end(
    kafka: Kafka, topic: str, open_transaction: Callable[[bytes], Producer]
) -> None:
    write(kafka, topic, b"a")
    producer = open_transaction(b"b")
    reading = Reader(kafka.admin).read_partition(topic, 0)
    first = next(reading)
    producer.commit_transaction(30)
    assert [first.value(), *(record.value() for record in reading)] == [b"a", b"b"]


def test_a_transaction_that_stays_open_is_told(
    kafka: Kafka, topic: str, open_transaction: Callable[[bytes], Producer]
) -> None:
    open_transaction(b"never")
    reader = Reader(kafka.admin, patience_s=0.5)
    with pytest.raises(ReadError, match="whether a transaction hangs"):
        values(reader, topic)


def test_a_missing_topic_is_told(kafka: Kafka) -> None:
    with pytest.raises(ProvisioningError, match="provision the topics first"):
        Reader(kafka.admin).partitions("nowhere")


def test_a_follower_goes_on_from_its_positions(kafka: Kafka, topic: str) -> None:
    def follow(follower: Follower, count: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        deadline = time.monotonic() + 30
        while len(found) < count or not follower.at_end:
            found += [record.value() for record in follower.poll(timeout_s=0.1)]
            assert time.monotonic() < deadline
        return found

    write(kafka, topic, b"a", b"b")
    write(kafka, topic, b"c", partition=1)
    with Follower(kafka.admin, topic, {0: 0, 1: 0}) as follower:
        assert sorted(follow(follower, 3), key=str) == [b"a", b"b", b"c"]
        positions = dict(follower.positions)
        assert positions == {0: 4, 1: 2}, "behind the commit markers"
        assert follower.poll() == []
    write(kafka, topic, b"d")
    with Follower(kafka.admin, topic, {0: positions[0]}) as follower:
        assert follow(follower, 1) == [b"d"]
        follower.add(1)
        assert follow(follower, 1) == [b"c"]


def test_one_writer_of_a_transactional_id_fences_the_one_before(kafka: Kafka, topic: str) -> None:
    config = kafka.admin.transactional_producer(f"single-{topic}")
    first = TransactionalProducer(config)
    first.commit([(topic, 0, None, b"first", None)])
    second = TransactionalProducer(config)
    with pytest.raises(FencedError, match="each instance name is used once"):
        first.commit([(topic, 0, None, b"late", None)])
    second.commit([(topic, 0, None, b"second", None)])
    assert values(Reader(kafka.admin), topic) == [b"first", b"second"]
    first.close()
    second.close()
