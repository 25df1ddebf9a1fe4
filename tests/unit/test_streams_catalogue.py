"""Who may do what, and how topics are kept, as the catalogue and the permissions made from it say."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    ResourcePatternType,
    ResourceType,
)
from hypothesis import given
from hypothesis import strategies as st

from parley.redrive import SOUND
from streams import catalogue
from streams.catalogue import SERVICES, TOPICS, Role, inbox_topic
from streams.connection import KafkaConnection
from streams.errors import ProvisioningError
from streams.provisioning import Provisioner, User, permissions

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)


def covers(rule: AclBinding, kind: ResourceType, name: str, operation: AclOperation) -> bool:
    if rule.restype != kind or rule.operation != operation:
        return False
    if rule.resource_pattern_type == ResourcePatternType.PREFIXED:
        return name.startswith(rule.name)
    return bool(rule.name == name)


def may(user: User, operation: AclOperation, name: str, kind: ResourceType = ResourceType.TOPIC) -> bool:
    return any(covers(rule, kind, name, operation) for rule in permissions(user))


def user(role: Role, name: str = "somebody", *addresses: str) -> User:
    return User(name, role, "secret", addresses)


def test_a_participant_writes_ingest_and_admissions_and_reads_what_is_public_and_its_own_inboxes() -> None:
    bank = user(Role.PARTICIPANT, "bank", "bank.settlements")
    readable = {topic.name for topic in TOPICS if may(bank, AclOperation.READ, topic.name)}
    writable = {topic.name for topic in TOPICS if may(bank, AclOperation.WRITE, topic.name)}
    assert readable == {"directory", "blocks", "anchors", "refusals", "shares"}
    assert writable == {"ingest", "admissions"}
    assert may(bank, AclOperation.READ, inbox_topic("bank.settlements"))
    assert not may(bank, AclOperation.WRITE, inbox_topic("bank.settlements"))
    assert not may(bank, AclOperation.READ, inbox_topic("bank.settlements.other"))
    assert not may(bank, AclOperation.WRITE, "bank/1", ResourceType.TRANSACTIONAL_ID)


def test_a_regulator_reads_the_firehose_and_what_is_public_and_writes_nothing() -> None:
    regulator = user(Role.REGULATOR)
    readable = {topic.name for topic in TOPICS if may(regulator, AclOperation.READ, topic.name)}
    assert readable == {"firehose", "directory", "blocks", "anchors", "refusals", "rejected", "shares"}
    assert not any(rule.operation == AclOperation.WRITE for rule in permissions(regulator))
    assert not may(regulator, AclOperation.READ, inbox_topic("bank"))


def test_a_monitor_reads_the_firehose_and_nothing_else() -> None:
    monitor = user(Role.MONITOR)
    assert {topic.name for topic in TOPICS if may(monitor, AclOperation.READ, topic.name)} == {"firehose"}
    assert not any(rule.operation == AclOperation.WRITE for rule in permissions(monitor))
    assert not may(monitor, AclOperation.READ, inbox_topic("bank"))


def test_the_ledger_service_speaks_as_a_participant_does_and_admits_nobody() -> None:
    ledger = user(Role.LEDGER, "ledger", "ledger")
    assert {topic.name for topic in TOPICS if may(ledger, AclOperation.WRITE, topic.name)} == {"ingest"}
    assert not may(ledger, AclOperation.READ, "firehose")
    assert may(ledger, AclOperation.READ, inbox_topic("ledger"))
    assert not may(ledger, AclOperation.READ, inbox_topic("bank"))


@pytest.mark.parametrize(
    ("topic", "writers"),
    [
        ("firehose", {Role.ROUTER}),
        ("router-state", {Role.ROUTER}),
        ("directory", {Role.ADMISSION}),
        ("refusals", {Role.ADMISSION}),
        ("blocks", {Role.BLOCKBUILDER}),
        ("anchors", {Role.ANCHOR}),
        (inbox_topic("bank"), {Role.DELIVERY}),
    ],
)
def test_what_is_relied_on_has_one_writer(topic: str, writers: set[Role]) -> None:
    assert {role for role in Role if may(user(role), AclOperation.WRITE, topic)} == writers


@pytest.mark.parametrize("role", sorted(SERVICES))
def test_every_service_may_write_dead_letters_and_use_its_own_transactional_ids(role: Role) -> None:
    service = user(role, "service")
    assert may(service, AclOperation.WRITE, "dead-letter")
    assert may(service, AclOperation.WRITE, "service/router-1", ResourceType.TRANSACTIONAL_ID)


def test_an_operator_writes_only_where_a_dead_letter_may_go_back_and_to_admission() -> None:
    operator = user(Role.OPERATOR, "operator")
    writable = {topic.name for topic in TOPICS if may(operator, AclOperation.WRITE, topic.name)}
    assert writable == {*SOUND, "dead-letter"}
    assert not may(operator, AclOperation.WRITE, inbox_topic("bank"))
    assert may(operator, AclOperation.WRITE, "operator/redrive", ResourceType.TRANSACTIONAL_ID)
    assert not may(operator, AclOperation.WRITE, "router/router-1", ResourceType.TRANSACTIONAL_ID)


def test_admission_makes_users_and_inboxes_and_no_other_topic() -> None:
    admission = user(Role.ADMISSION, "admission")
    for operation in (AclOperation.ALTER, AclOperation.DESCRIBE, AclOperation.ALTER_CONFIGS):
        assert may(admission, operation, "kafka-cluster", ResourceType.BROKER)
    assert may(admission, AclOperation.CREATE, inbox_topic("bank"))
    assert not may(admission, AclOperation.READ, inbox_topic("bank"))
    assert not may(admission, AclOperation.WRITE, inbox_topic("bank"))
    assert not any(may(admission, AclOperation.CREATE, topic.name) for topic in TOPICS)


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.ADMISSION}))
def test_nobody_else_makes_users_or_permissions(role: Role) -> None:
    assert not any(rule.restype == ResourceType.BROKER for rule in permissions(user(role)))


@given(ours=NAMES, theirs=NAMES, rest=st.text(max_size=10))
def test_no_user_owns_anothers_groups(ours: str, theirs: str, rest: str) -> None:
    mine = user(Role.PARTICIPANT, ours)
    group = KafkaConnection("localhost:1", theirs, "").owned(rest)
    assert may(mine, AclOperation.READ, group, ResourceType.GROUP) == (ours == theirs)


def test_pipeline_topics_have_a_partition_for_each_pipeline_and_the_rest_one() -> None:
    counts = {topic.name: topic.partitions(6) for topic in TOPICS}
    assert {name for name, count in counts.items() if count == 6} == {
        "ingest",
        "firehose",
        "deliveries",
        "router-state",
        "shares",
    }
    assert all(count in (1, 6) for count in counts.values())


def test_ingest_is_made_after_the_topics_its_records_lead_to() -> None:
    order = [topic.name for topic in TOPICS]
    assert all(
        order.index(name) < order.index("ingest") for name in ("firehose", "deliveries", "router-state")
    )


def test_only_topics_that_are_the_record_are_flushed_and_only_where_asked() -> None:
    flushed = {topic.name for topic in TOPICS if topic.config(durable=True)["flush.messages"] == "1"}
    assert flushed == {"ingest", "firehose", "directory", "blocks"}
    assert all(topic.config(durable=False)["flush.messages"] != "1" for topic in TOPICS)


def test_time_is_the_brokers_where_deadlines_are_judged() -> None:
    assert catalogue.topic("ingest").config(durable=True)["message.timestamp.type"] == "LogAppendTime"


def test_what_proofs_rest_on_is_kept_for_ever() -> None:
    assert all(
        catalogue.topic(name).config(durable=True)["retention.ms"] == "-1"
        for name in ("directory", "blocks", "anchors")
    )


@pytest.mark.parametrize("name", ["", "Bank", "bank/1", "-bank", "bank.", "a" * 129, "bank one", "bänk"])
def test_a_name_that_could_reach_beyond_its_own_is_refused(name: str) -> None:
    provisioner = Provisioner(KafkaConnection("localhost:1", "admin", "secret"))
    with pytest.raises(ProvisioningError, match="no user or address"):
        provisioner.provision_users([user(Role.PARTICIPANT, name)])


def test_a_service_has_no_inbox() -> None:
    provisioner = Provisioner(KafkaConnection("localhost:1", "admin", "secret"))
    with pytest.raises(ProvisioningError, match="only participants"):
        provisioner.provision_users([user(Role.ROUTER, "router", "bank")])


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(user(Role.ROUTER))
    assert "secret" not in repr(KafkaConnection("localhost:1", "admin", "secret"))
