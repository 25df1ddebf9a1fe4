"""Writing to many topics at once, on a real broker: one request, order in each partition, and what is not there said."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from aiokafka import client as driver
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from deploy.kafka import Kafka
from streams import fan_out
from streams.catalogue import Role
from streams.connection import KafkaConnection
from streams.errors import ProvisioningError, SessionLostError
from streams.fan_out import FanOut
from streams.handler import Emit
from streams.provisioning import Provisioner, User
from streams.reader import Reader

TOPICS = 30


@pytest.fixture
def topics(kafka: Kafka) -> list[str]:
    return make(kafka, *(f"fan-{uuid.uuid4().hex[:8]}" for _ in range(TOPICS)))


@pytest.fixture
def outputs(kafka: Kafka) -> Iterator[FanOut]:
    producer = FanOut(kafka.admin)
    yield producer
    producer.close()


def make(kafka: Kafka, *names: str, partitions: int = 1) -> list[str]:
    admin = AdminClient(kafka.admin.client())
    created = admin.create_topics([NewTopic(name, partitions, 1) for name in names], operation_timeout=30)
    for future in created.values():
        future.result()
    return list(names)


def drop(kafka: Kafka, topic: str) -> None:
    admin = AdminClient(kafka.admin.client())
    for future in admin.delete_topics([topic], operation_timeout=30).values():
        future.result()


def values(kafka: Kafka, topic: str, partition: int = 0) -> list[bytes | None]:
    return [record.value() for record in Reader(kafka.admin).read_partition(topic, partition)]


def test_records_for_many_topics_are_one_request(
    kafka: Kafka, topics: list[str], outputs: FanOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    # New topics are not ready for a moment, so that the first request may be sent again.
    outputs.write(Emit(topic, 0, None, b"first") for topic in topics)
    requests: Counter[str] = Counter()
    send = driver.AIOKafkaClient.send

    async def counted(self: driver.AIOKafkaClient, node: int, request: object, **options: object) -> object:
        requests[type(request).__name__] += 1
        return await send(self, node, request, **options)

    monkeypatch.setattr(driver.AIOKafkaClient, "send", counted)
    writes = [Emit(topic, 0, None, b"%d" % number) for number in range(5) for topic in topics]
    assert outputs.write(writes) == frozenset()
    assert requests == {"ProduceRequest": 1}
    assert all(values(kafka, topic) == [b"first", b"0", b"1", b"2", b"3", b"4"] for topic in topics)


def test_a_record_arrives_as_it_was_given(kafka: Kafka, topics: list[str], outputs: FanOut) -> None:
    (topic,) = make(kafka, f"{topics[0]}.two", partitions=2)
    outputs.write(
        [
            Emit(topic, 1, b"key", b"value", [("name", b"said"), ("name", None), ("é", b"")]),
            Emit(topic, 1, b"key", None),
            Emit(topic, 0, None, b""),
        ]
    )
    first, second = Reader(kafka.admin).read_partition(topic, 1)
    assert (first.key(), first.value()) == (b"key", b"value")
    assert first.headers() == [("name", b"said"), ("name", None), ("é", b"")]
    assert abs(first.timestamp()[1] - time.time() * 1_000) < 60_000
    assert (second.key(), second.value(), second.headers()) == (b"key", None, None)
    (other,) = Reader(kafka.admin).read_partition(topic, 0)
    assert (other.key(), other.value()) == (None, b"")


def test_order_is_kept_where_a_partition_gets_more_than_a_batch_holds(
    kafka: Kafka, topics: list[str], outputs: FanOut
) -> None:
    """And the largest record of all goes, which is larger than a batch."""
    (large,) = make(kafka, f"{topics[0]}.large")
    told = [b"%06d" % number + b"." * 10_000 for number in range(500)]
    outputs.write(Emit(topic, 0, None, value) for value in told for topic in (large, topics[1]))
    assert values(kafka, large) == told == values(kafka, topics[1])
    one = b"x" * (fan_out._BATCH_BYTES + 10_000)
    assert outputs.write([Emit(large, 0, None, one), Emit(large, 0, None, b"after")]) == frozenset()
    assert values(kafka, large)[-2:] == [one, b"after"]


class TestATopicThatIsNotThere:
    def test_is_named_and_the_others_are_written(
        self, kafka: Kafka, topics: list[str], outputs: FanOut
    ) -> None:
        gone = f"{topics[0]}.gone"
        assert outputs.write([Emit(gone, 0, None, b"x"), Emit(topics[0], 0, None, b"y")]) == {gone}
        assert values(kafka, topics[0]) == [b"y"]

    def test_holds_nobody_up_a_second_time(self, kafka: Kafka, topics: list[str], outputs: FanOut) -> None:
        gone = f"{topics[0]}.gone"
        outputs.write([Emit(gone, 0, None, b"x")])
        begin = time.monotonic()
        for _ in range(20):
            assert outputs.write([Emit(gone, 0, None, b"x"), Emit(topics[0], 0, None, b"y")]) == {gone}
        assert time.monotonic() - begin < fan_out._PROPAGATION_SECONDS

    def test_is_written_once_it_is_there(
        self, kafka: Kafka, topics: list[str], outputs: FanOut, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fan_out, "_LOOK_AGAIN_SECONDS", 0.5)
        late = f"{topics[0]}.late"
        assert outputs.write([Emit(late, 0, None, b"x")]) == {late}
        make(kafka, late)
        time.sleep(0.6)
        assert outputs.write([Emit(late, 0, None, b"y")]) == frozenset()
        assert values(kafka, late) == [b"y"]

    def test_is_noticed_when_it_was_there_before(
        self, kafka: Kafka, topics: list[str], outputs: FanOut, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Either at once, or by a loss of the session, after which it is asked for anew."""
        monkeypatch.setattr(fan_out, "_ACKNOWLEDGED_SECONDS", 2.0)
        outputs.write([Emit(topics[0], 0, None, b"x")])
        drop(kafka, topics[0])
        lost = [Emit(topics[0], 0, None, b"y"), Emit(topics[1], 0, None, b"z")]
        try:
            assert outputs.write(lost) == {topics[0]}
        except SessionLostError:
            again = FanOut(kafka.admin)
            assert again.write(lost) == {topics[0]}
            again.close()
        assert values(kafka, topics[1])[-1] == b"z"

    def test_nor_is_a_partition(self, kafka: Kafka, topics: list[str], outputs: FanOut) -> None:
        assert outputs.write([Emit(topics[0], 7, None, b"x")]) == {topics[0]}


def test_a_topic_that_this_user_may_not_write_is_told(kafka: Kafka, topics: list[str]) -> None:
    Provisioner(kafka.admin).provision_users([User("fanning", Role.DELIVERY, "its password", ())])
    outputs = FanOut(KafkaConnection(kafka.bootstrap, "fanning", "its password"))
    with pytest.raises(ProvisioningError, match="permissions"):
        outputs.write([Emit(topics[0], 0, None, b"x")])
    outputs.close()


def test_a_broker_that_is_away_is_told(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "_ACKNOWLEDGED_SECONDS", 1.0)
    outputs = FanOut(KafkaConnection("127.0.0.1:9", "delivery", "the-password"))
    with pytest.raises(SessionLostError) as told:
        outputs.write([Emit("anything", 0, None, b"x")])
    assert "the-password" not in str(told.value)
    outputs.close()
    wrong = FanOut(KafkaConnection(kafka.bootstrap, "delivery", "the-password"))
    with pytest.raises((SessionLostError, ProvisioningError)) as refused:
        wrong.write([Emit("anything", 0, None, b"x")])
    assert "the-password" not in str(refused.value)
    wrong.close()


@pytest.mark.parametrize("never", ["force_metadata_update", "send"])
def test_a_driver_that_waits_for_ever_is_given_up(
    kafka: Kafka, topics: list[str], monkeypatch: pytest.MonkeyPatch, never: str
) -> None:
    monkeypatch.setattr(fan_out, "_GIVEN_UP_SECONDS", 1.0)
    monkeypatch.setattr(fan_out, "_CLOSE_SECONDS", 1.0)
    outputs = FanOut(kafka.admin)
    outputs.write([Emit(topics[0], 0, None, b"x")])
    monkeypatch.setattr(
        driver.AIOKafkaClient, never, lambda *_, **__: asyncio.get_running_loop().create_future()
    )
    begin = time.monotonic()
    with pytest.raises(SessionLostError, match="no answer in time"):
        outputs.write([Emit(topic, 0, None, b"y") for topic in topics[:2]])
    outputs.close()
    assert time.monotonic() - begin < 5
