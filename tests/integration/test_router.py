"""The router on a real broker: a negotiation from ingest to inbox, every kind of bad input, and state that was lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from parley.errors import RefusedError
from parley.schemas import FirehoseEvent, Receipt, Rejection, TransactionId, decode_any
from streams.catalogue import INGEST, ROUTER_STATE
from streams.connection import KafkaConnection
from streams.handler import Record
from streams.writer import write
from tests.bad_records import BAD_RECORDS
from tests.broker_log import BrokerLog, tell, wait_for
from tests.dialogue import Dialogue, sealed
from tests.fix_backbone import RunningBackbone
from tests.load import Load

pytestmark = pytest.mark.timeout(120)

MEMBERS = ("alice", "bob", "mallory")


@pytest.fixture(scope="module")
def joined(running_backbone: RunningBackbone) -> RunningBackbone:
    running_backbone.join(*MEMBERS)
    return running_backbone


@pytest.fixture
def log(joined: RunningBackbone) -> Iterator[BrokerLog]:
    with BrokerLog(joined, MEMBERS) as log:
        yield log


def user(running: RunningBackbone, name: str) -> KafkaConnection:
    return KafkaConnection(running.backbone.admin.bootstrap, name, f"password-of-{name}")


def now() -> int:
    return time.time_ns() // 1_000_000


def between(*parties: str, lasting: int = 60_000, seed: str, pipeline: int = 0) -> Dialogue:
    return Dialogue.between(*parties, opened_at=now(), lasting=lasting, seed=seed, pipeline=pipeline)


def await_events(log: BrokerLog, of: TransactionId, count: int) -> list[FirehoseEvent]:
    """The transaction's events, once there are so many."""

    def events() -> list[FirehoseEvent]:
        return [event for index in log.pipelines for event in log.events(index) if event.transaction_id == of]

    def enough() -> bool:
        log.refresh()
        return len(events()) >= count

    wait_for(enough, lambda: f"{count} events, there are {len(events())}: {log.reasons()}")
    return events()


def received(log: BrokerLog, address: str, of: TransactionId) -> list[object]:
    """What an inbox holds of a transaction: events and receipts for them."""
    values = [decode_any(record.value() or b"") for record in log.inboxes[address]]
    events = [value for value in values if isinstance(value, FirehoseEvent)]
    receipts = [value for value in values if isinstance(value, Receipt)]
    told: list[object] = [event for event in events if event.transaction_id == of]
    told += [
        receipt
        for receipt in receipts
        if isinstance(event := decode_any(receipt.event or b""), FirehoseEvent) and event.transaction_id == of
    ]
    return told


# A negotiation -------------------------------------------------------------------------------------------------------


def test_a_negotiation_goes_from_ingest_to_firehose_and_inboxes(
    joined: RunningBackbone, log: BrokerLog
) -> None:
    deal = between("alice", "bob", seed="negotiation", pipeline=1)
    said = [deal.say("alice"), deal.say("bob"), deal.say("alice"), deal.say("bob", "FINISH")]
    for record, sender in zip(said, ("alice", "bob", "alice", "bob"), strict=True):
        write(user(joined, sender), INGEST, record, partition=1)
    events = await_events(log, deal.id, 4)
    assert [event.envelope for event in events] == said
    assert events[-1].ended is not None
    assert events[-1].ended.outcome == "FINISHED"
    log.await_delivery()
    log.assert_firehose_whole()
    log.assert_delivered()
    for address in ("alice", "bob"):
        told = received(log, address, deal.id)
        assert [type(value).__name__ for value in told] == ["FirehoseEvent"] * 2 + ["Receipt"] * 2
    assert received(log, "mallory", deal.id) == []


def test_a_silent_party_times_the_transaction_out_within_a_second(
    joined: RunningBackbone, log: BrokerLog
) -> None:
    deal = between("alice", "bob", seed="silent", lasting=3_000)
    write(user(joined, "alice"), INGEST, deal.say("alice"))
    _, timeout = await_events(log, deal.id, 2)
    assert timeout.ended is not None
    assert timeout.ended.waiting_on == ("bob",)
    (written_at,) = (at for event, at in log.judged[0] if event == timeout)
    tell(f"timed out {written_at - deal.terms.deadline} ms after the deadline")
    assert 0 < written_at - deal.terms.deadline <= 1_000
    log.await_delivery()
    for address in ("alice", "bob"):
        assert timeout in received(log, address, deal.id)


# Bad input -----------------------------------------------------------------------------------------------------------


def test_every_bad_record_is_refused_with_its_reason_and_the_pipeline_goes_on(
    joined: RunningBackbone, log: BrokerLog
) -> None:
    deal = between("alice", "bob", seed="bad input")
    connection = user(joined, "mallory")
    write(connection, INGEST, deal.say("alice"), deal.say("bob"))
    await_events(log, deal.id, 2)
    first = len(log.ingest[0])
    records = {name: bad.make(deal, now()) for name, bad in BAD_RECORDS.items()}
    write(connection, INGEST, *records.values())
    write(connection, INGEST, deal.say("alice"), deal.say("bob", "FINISH"))
    events = await_events(log, deal.id, 4)
    assert events[-1].ended is not None

    log.refresh()
    offsets = {record.value(): record.offset() for record in log.ingest[0][first:]}
    answers = {each.ingest_offset: each for each in log.rejections if each.pipeline == 0}
    assert {name: answers[offsets[record] or 0].reason for name, record in records.items()} == {
        name: bad.reason for name, bad in BAD_RECORDS.items()
    }
    log.await_delivery()
    for name, bad in BAD_RECORDS.items():
        answer = answers[offsets[records[name]] or 0]
        told = {address for address in MEMBERS if answer in rejections_in(log.inboxes[address])}
        assert told == (set() if bad.told is None else {bad.told}), name
    log.assert_firehose_whole()
    log.assert_delivered()


def rejections_in(inbox: list[Record]) -> list[Rejection]:
    values = [decode_any(record.value() or b"") for record in inbox]
    return [value for value in values if isinstance(value, Rejection)]


def test_two_megabytes_that_do_not_compress_are_refused_and_what_fits_is_taken(
    joined: RunningBackbone, log: BrokerLog
) -> None:
    noise = random.Random(2).randbytes(2_000_000)
    deal = between("alice", "bob", seed="large")
    too_large = sealed(deal.message("alice", content=noise))
    write(
        user(joined, "alice"), INGEST, too_large, deal.send(deal.message("alice", content=noise[:1_000_000]))
    )
    (event,) = await_events(log, deal.id, 1)
    assert len(event.envelope or b"") > 1_000_000
    assert [rejection.reason for rejection in log.rejections][-1] == "TOO_LARGE"
    log.await_delivery()
    assert event in received(log, "bob", deal.id)


# What was lost -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(own_backbone: RunningBackbone) -> Iterator[RunningBackbone]:
    """A backbone with something on every topic and one router, which has stopped in good order."""
    own_backbone.start("router", "1")
    own_backbone.launch("delivery", "1")
    load = Load.of(own_backbone, messages=200, rate=500, seed=f"lost {now()}")
    load.finish()
    with BrokerLog(own_backbone) as log:
        log.await_judgement()
    own_backbone.processes.pop("router-1").stop()
    yield own_backbone
    for name in ("router-1", "delivery-1"):
        own_backbone.processes.pop(name).stop()


def lose_state(running: RunningBackbone) -> None:
    admin = AdminClient(running.backbone.admin.client())
    for future in admin.delete_topics([ROUTER_STATE], operation_timeout=30).values():
        future.result()
    running.backbone._provisioner.provision_topics(running.backbone.pipelines)


def lose_offsets(running: RunningBackbone) -> None:
    admin = AdminClient(running.backbone.admin.client())
    once_empty(lambda: [future.result() for future in admin.delete_consumer_groups([GROUP]).values()])


def move_offsets(running: RunningBackbone, by: int) -> None:
    """Set the offsets to so far after the ends of ingest (negative: before)."""
    admin, reader = AdminClient(running.backbone.admin.client()), running.reader()
    ends = [reader.bounds(INGEST, pipeline)[1] for pipeline in range(running.backbone.pipelines)]
    moved = [TopicPartition(INGEST, pipeline, max(end + by, 0)) for pipeline, end in enumerate(ends)]
    request = [ConsumerGroupTopicPartitions(GROUP, moved)]
    once_empty(lambda: [future.result() for future in admin.alter_consumer_group_offsets(request).values()])


def once_empty(change: Callable[[], object]) -> None:
    """Change a group's offsets, which the broker allows when the session of its last member has run out."""

    def changed() -> bool:
        try:
            change()
        except KafkaException:
            return False
        return True

    wait_for(changed, lambda: "the group to be empty")


GROUP = "router/ingest"
LOSSES: dict[str, Callable[[RunningBackbone], None]] = {
    "router-state": lose_state,
    "the offsets": lose_offsets,
    "the offsets of the last records": lambda running: move_offsets(running, -80),
    "what is not processed yet, by offsets set ahead": lambda running: move_offsets(running, 0),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_the_firehose_heals_what_was_lost(
    stopped: RunningBackbone, loss: Callable[[RunningBackbone], None]
) -> None:
    """What had come but was not processed is, and nothing is processed again."""
    load = Load.of(stopped, messages=100, rate=1_000, seed=f"unprocessed {now()}")
    load.finish()
    loss(stopped)
    stopped.start("router", "1")
    again = Load.of(stopped, messages=100, rate=500, seed=f"after {now()}")
    again.finish()
    with BrokerLog(stopped, ["alice", "bob"]) as log:
        log.await_judgement()
        log.await_delivery()
        log.assert_each_record_judged_once()
        log.assert_firehose_whole()
        log.assert_ended()
        log.assert_as_uninterrupted()
        log.assert_delivered()
        tell(log.counts())


async def test_a_client_over_its_rate_sends_again_when_it_was_told_to(joined: RunningBackbone) -> None:
    """And a step that its kind does not admit is refused on the way, which costs nothing of the rate."""
    joined.join("quick-a", "quick-b")
    joined.processes.pop("router-1").stop()
    joined.start("router", "1", sender_messages_per_second="4", sender_allowance_ms="1")
    minute = timedelta(minutes=1)
    async with joined.connect("quick-a") as me:
        with pytest.raises(RefusedError, match="STEP_NOT_ALLOWED"):
            await me.open(["quick-b"], kind="agreement", deadline=minute, content="agreed?", pipeline=0)
        began = time.monotonic()
        async with asyncio.TaskGroup() as opening:
            for _ in range(5):
                opening.create_task(
                    me.open(["quick-b"], kind="otc", deadline=minute, content="who bids?", pipeline=0)
                )
        assert time.monotonic() - began >= 0.99
    with BrokerLog(joined, MEMBERS) as log:
        log.refresh()
        late = [each for each in log.rejections if each.sender == "quick-a" and each.reason == "RATE_LIMITED"]
        assert late
        assert all(each.retry_at is not None and 0 < each.retry_at - each.at <= 250 for each in late)
