"""Provisioning on a real broker: what each user may do there, and that doing it twice changes nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]
from kafka.admin import KafkaAdminClient
from kafka.protocol.admin import DescribeClientQuotasRequest

from deploy.backbone import Backbone
from deploy.folder import StackFolder
from deploy.kafka import Kafka
from streams.catalogue import INGEST, TOPICS, Role, inbox_topic
from streams.client_quotas import CLIENT_QUOTAS, UNLIMITED, ClientQuota, Limit
from streams.connection import KafkaConnection
from streams.errors import ProvisioningError
from streams.outcome import kafka_error
from streams.provisioning import Provisioner, User
from streams.reader import Reader
from streams.transaction import TransactionalProducer
from tests.broker_log import wait_for

PIPELINES = 3
MIB = 1024 * 1024


@dataclass(frozen=True)
class Cluster:
    """A provisioned broker of this module's own: other tests make topics of the same names."""

    kafka: Kafka
    provisioner: Provisioner

    def add(self, role: Role, *addresses: str, name: str = "") -> KafkaConnection:
        """A new user's connection."""
        user = name or f"{role}-{uuid.uuid4().hex[:8]}"
        self.provisioner.provision_users([User(user, role, f"password of {user}", addresses)])
        return KafkaConnection(self.kafka.bootstrap, user, f"password of {user}")


def quotas_of(kafka: Kafka) -> dict[str | None, dict[str, float]]:
    """Each user's client quota as the broker has it; of None, everybody's who has none."""
    component = DescribeClientQuotasRequest.ComponentData
    both = [component(entity_type="user", match_type=2, match=None)]
    request = DescribeClientQuotasRequest(components=both, strict=True)
    admin = kafka.admin
    with KafkaAdminClient(  # type: ignore[no-untyped-call]
        bootstrap_servers=admin.bootstrap,
        security_protocol=admin.security,
        sasl_mechanism=admin.mechanism,
        sasl_plain_username=admin.username,
        sasl_plain_password=admin.password,
    ) as client:
        answer = client._manager.run(client._manager.send, request)
    return {each.entity[0].entity_name: {v.key: v.value for v in each.values} for each in answer.entries}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Kafka(StackFolder(tmp_path_factory.mktemp("provisioned"))) as kafka:
        provisioner = Provisioner(kafka.admin)
        provisioner.provision_topics(PIPELINES)
        yield Cluster(kafka, provisioner)


def write_error(connection: KafkaConnection, topic: str, value: bytes = b"x") -> int | None:
    """The code with which the broker refuses a write, None if it takes it."""
    producer = Producer(connection.producer(linger_ms=0))
    codes: list[int | None] = []
    try:
        producer.produce(
            topic,
            value,
            partition=0,
            on_delivery=lambda error, _: codes.append(None if error is None else error.code()),
        )
    except KafkaException as exception:
        return kafka_error(exception).code()
    try:
        assert producer.flush(30) == 0
    except KafkaException as exception:
        # Who may write nothing at all does not even get a producer's id.
        return kafka_error(exception).code()
    return codes[0]


def read_error(connection: KafkaConnection, topic: str, group: str = "") -> int | None:
    """The code with which the broker refuses to let a topic be read (in a group, or in none), None if it lets it."""
    config = connection.reading_consumer(end_wait_ms=10) | {"auto.offset.reset": "earliest"}
    consumer = Consumer(config | ({"group.id": group} if group else {}))
    try:
        # Of a topic it may not even see, the driver says nothing more than this.
        unseen = consumer.list_topics(topic, timeout=30).topics[topic].error
        if unseen is not None:
            return int(unseen.code())
        if group:
            consumer.subscribe([topic])
        else:
            consumer.assign([TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is not None:
                error = message.error()
                return None if error is None or error.code() == KafkaError._PARTITION_EOF else error.code()
        raise AssertionError("neither a record nor an error for 30 s")
    finally:
        consumer.close()


DENIED = KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_participant_writes_to_ingest_and_reads_its_own_inbox_and_nobody_elses(cluster: Cluster) -> None:
    bank = cluster.add(Role.PARTICIPANT, "bank-a")
    cluster.add(Role.PARTICIPANT, "bank-b")
    assert write_error(bank, "ingest") is None
    assert write_error(bank, "admissions") is None
    assert read_error(bank, inbox_topic("bank-a")) is None
    assert read_error(bank, inbox_topic("bank-b")) == DENIED
    assert read_error(bank, "directory") is None


@pytest.mark.parametrize(
    "topic", ["ingest", "firehose", "deliveries", "rejected", "router-state", "dead-letter"]
)
def test_a_participant_does_not_read_what_is_not_its_own(cluster: Cluster, topic: str) -> None:
    assert read_error(cluster.add(Role.PARTICIPANT, name="reading-bank"), topic) == DENIED


@pytest.mark.parametrize("topic", ["firehose", "directory", "blocks", "anchors", "inbox.writing-bank"])
def test_a_participant_does_not_write_what_others_rely_on(cluster: Cluster, topic: str) -> None:
    assert write_error(cluster.add(Role.PARTICIPANT, "writing-bank", name="writing-bank"), topic) == DENIED


def test_a_group_belongs_to_its_user(cluster: Cluster) -> None:
    bank = cluster.add(Role.PARTICIPANT, "bank-c", name="bank-c")
    longer = cluster.add(Role.PARTICIPANT, "bank-c.x", name="bank-c.x")
    assert write_error(cluster.add(Role.DELIVERY), inbox_topic("bank-c")) is None
    assert read_error(bank, inbox_topic("bank-c"), bank.owned("client")) is None
    for group in (longer.owned("client"), "client", "bank-c"):
        assert read_error(bank, inbox_topic("bank-c"), group) == KafkaError.GROUP_AUTHORIZATION_FAILED


def test_a_regulator_reads_the_firehose_and_writes_nothing(cluster: Cluster) -> None:
    regulator = cluster.add(Role.REGULATOR)
    assert [read_error(regulator, topic) for topic in ("firehose", "blocks", "rejected")] == [None] * 3
    assert [read_error(regulator, topic) for topic in ("ingest", "deliveries")] == [DENIED] * 2
    refusals = {write_error(regulator, topic.name) for topic in TOPICS}
    assert refusals <= {DENIED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


def test_a_service_uses_its_own_transactional_ids_only(cluster: Cluster) -> None:
    router = cluster.add(Role.ROUTER, name="router")
    producer = TransactionalProducer(router.transactional_producer(router.owned("router-1")))
    producer.commit([("firehose", 0, b"k", b"v", None), ("deliveries", 0, b"k", b"v", None)])
    producer.close()
    with pytest.raises(ProvisioningError, match="check its password and its permissions"):
        TransactionalProducer(router.transactional_producer("admission/admission-1"))
    bank = cluster.add(Role.PARTICIPANT)
    with pytest.raises(ProvisioningError):
        TransactionalProducer(bank.transactional_producer(bank.owned("bank-1")))


def test_a_transaction_beyond_the_users_permissions_is_told(cluster: Cluster) -> None:
    anchor = cluster.add(Role.ANCHOR, name="anchor")
    producer = TransactionalProducer(anchor.transactional_producer(anchor.owned("anchor-1")))
    with pytest.raises(ProvisioningError, match="check its password and its permissions"):
        producer.commit([("blocks", 0, b"k", b"v", None)])
    producer.close()


def test_a_stranger_is_not_let_in(cluster: Cluster) -> None:
    stranger = KafkaConnection(cluster.kafka.bootstrap, "stranger", "guess")
    with pytest.raises(ProvisioningError, match="check its password"):
        TransactionalProducer(stranger.transactional_producer("stranger/1"))


def test_a_message_of_two_megabytes_reaches_ingest_to_be_refused_there(cluster: Cluster) -> None:
    bank = cluster.add(Role.PARTICIPANT)
    assert write_error(bank, "ingest", bytes(2 * MIB)) is None
    # Bytes that cannot be compressed, or five megabytes would fit.
    assert write_error(bank, "ingest", uuid.uuid4().bytes * (5 * MIB // 16)) in {
        None,
        KafkaError.MSG_SIZE_TOO_LARGE,
    }


def test_ingest_carries_the_brokers_time_and_is_flushed(cluster: Cluster) -> None:
    admin = AdminClient(cluster.kafka.admin.client())
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, "ingest")]).values()
    config = {name: entry.value for name, entry in future.result().items()}
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert config["flush.messages"] == "1"
    assert config["max.message.bytes"] == str(4 * MIB)


def test_provisioning_again_changes_nothing_and_a_new_password_takes_effect(cluster: Cluster) -> None:
    user = User("twice", Role.PARTICIPANT, "one", ("twice",))
    for password in ("one", "one", "two"):
        cluster.provisioner.provision_topics(PIPELINES)
        cluster.provisioner.provision_users([User(user.name, user.role, password, user.addresses)])
        assert write_error(KafkaConnection(cluster.kafka.bootstrap, "twice", password), "ingest") is None


def test_settings_that_were_changed_by_hand_are_put_right(cluster: Cluster) -> None:
    Provisioner(cluster.kafka.admin, durable=False).provision_topics(PIPELINES)
    cluster.provisioner.provision_topics(PIPELINES)
    test_ingest_carries_the_brokers_time_and_is_flushed(cluster)


def test_each_role_has_its_quota_and_everybody_without_one_that_of_a_participant(cluster: Cluster) -> None:
    roles = (Role.PARTICIPANT, Role.REGULATOR, Role.ROUTER, Role.ADMISSION)
    limited = Provisioner(cluster.kafka.admin, quotas=CLIENT_QUOTAS)
    limited.provision_default_quota()
    limited.provision_users([User(f"quota-{role}", role, "secret") for role in roles])
    admission = KafkaConnection(cluster.kafka.bootstrap, "quota-admission", "secret")
    admitted = [User(f"joined-{role}", role, "secret") for role in (Role.PARTICIPANT, Role.AUDITOR)]
    Provisioner(admission, quotas=CLIENT_QUOTAS).provision_users(admitted)
    expected = {
        limit.user: limit.values()
        for limit in (
            Limit(None, CLIENT_QUOTAS[Role.PARTICIPANT]),
            Limit("quota-regulator", CLIENT_QUOTAS[Role.REGULATOR]),
            Limit("joined-auditor", CLIENT_QUOTAS[Role.AUDITOR]),
            Limit("quota-router", UNLIMITED),
            Limit("quota-admission", UNLIMITED),
            Limit("admin", UNLIMITED),
        )
    }

    def set_so() -> bool:
        return quotas_of(cluster.kafka) == expected

    wait_for(set_so, lambda: f"{expected}; there is {quotas_of(cluster.kafka)}")
    Provisioner(cluster.kafka.admin, quotas={}).provision_default_quota()
    wait_for(lambda: None not in quotas_of(cluster.kafka), lambda: "the limit of everybody to go")


def test_who_writes_more_than_its_quota_is_slowed_and_loses_nothing(cluster: Cluster) -> None:
    quotas = {Role.REGISTRAR: ClientQuota(producer_bytes=MIB / 4)}
    hasty = User("hasty", Role.REGISTRAR, "password of hasty")
    Provisioner(cluster.kafka.admin, quotas=quotas).provision_users([hasty])
    wait_for(lambda: hasty.name in quotas_of(cluster.kafka), lambda: "the quota")
    connection = KafkaConnection(cluster.kafka.bootstrap, hasty.name, "password of hasty")
    waits: list[float] = []
    producer = Producer(
        connection.producer(linger_ms=0)
        | {"throttle_cb": lambda event: waits.append(event.throttle_time), "compression.type": "none"}
    )
    before = Reader(cluster.kafka.admin).bounds("admissions", 0)[1]
    for _ in range(4):
        producer.produce("admissions", bytes(MIB), partition=0)
        assert producer.flush(60) == 0
    assert max(waits, default=0) > 0
    assert Reader(cluster.kafka.admin).bounds("admissions", 0)[1] == before + 4


def test_a_hundred_participants_take_seconds(cluster: Cluster) -> None:
    users = [
        User(f"many-{n}", Role.PARTICIPANT, f"password {n}", (f"many-{n}", f"many-{n}.desk"))
        for n in range(100)
    ]
    started = time.monotonic()
    cluster.provisioner.provision_users(users)
    assert time.monotonic() - started < 30
    last = KafkaConnection(cluster.kafka.bootstrap, "many-99", "password 99")
    assert read_error(last, inbox_topic("many-99.desk")) is None


def test_pipelines_are_added_to_every_pipeline_topic_and_never_taken_away(cluster: Cluster) -> None:
    assert cluster.provisioner.pipelines() == PIPELINES
    cluster.provisioner.provision_topics(PIPELINES + 2)
    assert cluster.provisioner.pipelines() == PIPELINES + 2
    reader = Reader(cluster.kafka.admin)
    for topic in TOPICS:
        assert reader.partitions(topic.name) == topic.partitions(PIPELINES + 2)
    with pytest.raises(ProvisioningError, match="ask for 5 or more"):
        cluster.provisioner.provision_topics(PIPELINES)


def test_a_backbone_keeps_the_pipelines_that_it_has(cluster: Cluster) -> None:
    cluster.provisioner.provision_topics(PIPELINES + 2)
    backbone = Backbone(cluster.kafka._folder, cluster.kafka.admin, pipelines=1, durable=False)
    backbone.provision()
    assert backbone.pipelines == PIPELINES + 2
    assert Reader(cluster.kafka.admin).partitions(INGEST) == PIPELINES + 2
