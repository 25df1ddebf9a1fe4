"""The delivery stage on a real broker: what cannot be delivered stands aside, and a repetition says that it is one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from parley.schemas import DeliveryBatch, FirehoseEvent, decode
from streams.catalogue import DELIVERIES, INGEST, inbox_topic
from streams.connection import KafkaConnection
from streams.writer import write
from tests.broker_log import BrokerLog, delivery_of, wait_for
from tests.dialogue import Dialogue
from tests.fix_backbone import RunningBackbone

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def working(own_backbone: RunningBackbone) -> Iterator[RunningBackbone]:
    """A router and delivery at work."""
    own_backbone.start("router", "1")
    own_backbone.start("delivery", "1")
    yield own_backbone
    for name in ("router-1", "delivery-1"):
        own_backbone.processes.pop(name).stop()


def open_deal(running: RunningBackbone, *parties: str, seed: str) -> Dialogue:
    """Alice opens a transaction with the others."""
    now = time.time_ns() // 1_000_000
    deal = Dialogue.between("alice", *parties, opened_at=now, lasting=3_000, seed=f"{seed} {now}")
    alice = KafkaConnection(running.backbone.admin.bootstrap, "alice", "password-of-alice")
    write(alice, INGEST, deal.say("alice"))
    return deal


def test_a_missing_inbox_holds_up_nobody_else(working: RunningBackbone) -> None:
    working.join("homeless")
    admin = AdminClient(working.backbone.admin.client())
    for future in admin.delete_topics([inbox_topic("homeless")], operation_timeout=30).values():
        future.result()
    deal = open_deal(working, "homeless", "bob", seed="homeless")
    with BrokerLog(working, ["alice", "bob"]) as log:
        log.await_judgement()
        log.await_delivery()

        def buried() -> bool:
            log.refresh()
            return len(log.dead_letters_of("delivery")) >= 2

        wait_for(buried, lambda: "two dead letters")
        log.assert_delivered()
        opening, timeout = (event for event in log.events(0) if event.transaction_id == deal.id)
        letters = log.dead_letters_of("delivery")
        batches = [decode(each.value() or b"", DeliveryBatch) for each in letters]
        assert [decode(item, FirehoseEvent) for batch in batches for item in batch.items] == [
            opening,
            timeout,
        ]
        assert [each.key() for each in letters] == [b"homeless"] * 2
        headers = dict(letters[0].headers() or [])
        assert headers["dead-letter.destination"] == b"inbox.homeless"
        assert headers["dead-letter.topic"] == b"deliveries", "where to put it back"
        assert headers["dead-letter.partition"] == b"0"
        assert headers["dead-letter.service"] == b"delivery-1"
        assert b"UNKNOWN" in bytes(headers["dead-letter.reason"] or b"")  # type: ignore[arg-type]


def test_each_inbox_record_names_the_place_that_it_comes_from(working: RunningBackbone) -> None:
    deal = open_deal(working, "bob", seed="place")
    with BrokerLog(working, ["bob"]) as log:
        log.await_judgement()
        log.await_delivery()
        batches = {record.offset() for record in working.reader().read_partition(DELIVERIES, 0)}
        for record in log.inboxes["bob"]:
            pipeline, place = delivery_of(record)
            assert pipeline != 0 or place // 65_536 in batches
        values = [decode(record.value() or b"", FirehoseEvent) for record in log.inboxes["bob"][-2:]]
        assert [event.transaction_id for event in values] == [deal.id] * 2
        assert [event.ended is None for event in values] == [True, False]


def test_what_delivery_writes_again_after_a_kill_has_the_same_place(working: RunningBackbone) -> None:
    working.processes["delivery-1"].kill()
    working.launch("delivery", "1", crash_at="relay.written")
    dying = working.processes["delivery-1"]
    open_deal(working, "bob", seed="again")
    wait_for(lambda: dying.exit_code is not None, lambda: "delivery to die after writing")
    working.start("delivery", "1")
    with BrokerLog(working, ["alice", "bob"]) as log:
        log.await_judgement()
        log.await_delivery()
        assert log.assert_delivered() > 0
        for records in log.inboxes.values():
            said: dict[tuple[int, int], set[bytes]] = {}
            for record in records:
                said.setdefault(delivery_of(record), set()).add(record.value() or b"")
            assert Counter(map(len, said.values())).keys() == {1}
