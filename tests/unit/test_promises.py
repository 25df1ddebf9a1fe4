"""What proves a whole record finds every fault put into one: each is told in a sentence, and an intact record in none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import pytest

from blockbuilder.core import Assembly
from parley.blocks import Block
from parley.identifiers import transaction_text
from parley.schemas import FirehoseEvent, decode, encode
from router.core import Limits
from streams.catalogue import DELIVERIES, DIRECTORY, FIREHOSE, INGEST, REJECTED
from streams.handler import Headers
from tests import promises
from tests.dialogue import Dialogue, sealed
from tests.memory_router import ROUTER_KEY, Logged, MemoryRouter
from tests.promises import Due
from tests.synthetic_ledger import Ledger
from tests.trading import Journal, Life
from tests.whole_record import Judged, WholeRecord, message_of, said

START = 1_800_000_000_000
BANKS = ("alice", "bob")
GRACE = Limits().block_grace


class Arrived(Logged):
    """An inbox record; its key says where it came from."""

    def headers(self) -> Headers | None:
        return [("delivery", self.with_key)]


@dataclass
class Evidence:
    """A whole record, and all that else is held against it."""

    record: WholeRecord
    written: dict[tuple[int, int], bytes]
    blocks: list[Block]
    lives: dict[str, list[Life]] = field(default_factory=dict)

    def faults(self) -> list[str]:
        record = self.record
        return list(
            chain(
                promises.acknowledged(record, self.written),
                promises.judged_once(record),
                promises.told(record),
                promises.chained(record),
                promises.as_uninterrupted(record),
                promises.delivered(record),
                *(promises.read_once(record, bank, self.lives[bank]) for bank in BANKS),
                promises.ended(record),
                promises.sealed(record, self.blocks, GRACE),
            )
        )

    def replace(self, pipeline: int, place: int, **changes: object) -> None:
        """Put another event in an event's place."""
        event = self.record.judged[pipeline][place].event._replace(**changes)  # type: ignore[arg-type]
        self.record.firehose[pipeline][place] = encode(event)
        self.record.judged[pipeline][place] = Judged(event, 0)


def arrived(record: WholeRecord, address: str) -> Iterator[Arrived]:
    """What delivery writes into an inbox."""
    for pipeline in record.pipelines:
        for place, item in enumerate(record.deliveries[pipeline].get(address, [])):
            yield Arrived("inbox", 0, 0, b"%d:%d" % (pipeline, place), item, 0)


def life(record: WholeRecord, bank: str) -> Life:
    """What an application that never dies is told."""
    life = Life([], [], {}, {}, [])
    for event in (event for pipeline in record.pipelines for event in record.events(pipeline)):
        if event.ended is not None and event.envelope is None:
            life.timed_out.append((transaction_text(event.transaction_id), event.ended.waiting_on))
        elif message_of(event).sender == bank:
            life.accepted[said(event.envelope).hex()] = event.pipeline, event.sequence
        else:
            life.taken.append((event.pipeline, event.sequence))
    return life


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    """For its directory."""
    ledger = Ledger(banks=0)
    ledger.admit("operator", "OPERATOR", (ROUTER_KEY,))
    for bank in BANKS:
        ledger.admit(bank)
    return ledger


@pytest.fixture
def evidence(ledger: Ledger) -> Evidence:
    """Of two pipelines with a deal that finishes, one that times out, a repetition, garbage, and a conflict on each."""
    router = MemoryRouter(ledger.directory, pipelines=2)
    for pipeline in (0, 1):
        good, late = (
            Dialogue.between(*BANKS, opened_at=START, lasting=lasting, pipeline=pipeline, seed=seed)
            for seed, lasting in (("good", 60_000), ("late", 100))
        )
        records: list[bytes | None] = [good.say("alice"), late.say("alice"), b"garbage"]
        records += [answer := good.say("bob"), answer, sealed(good.message("bob")._replace(sequence=1))]
        records += [good.say("alice"), good.say("bob", "FINISH"), None]
        for number, said_then in enumerate(records):
            router.append(said_then, START + (1_000 if said_then is None else number), pipeline)
    router.step()
    record = WholeRecord(ledger.registrar.public, 2, BANKS)
    assembly = Assembly(None)
    for offset, entry in enumerate(ledger.directory_records):
        record.take(DIRECTORY, Logged(DIRECTORY, 0, offset, None, entry, START))
        assembly.follow_directory(entry)
    for topic in (INGEST, FIREHOSE, DELIVERIES, REJECTED):
        for pipeline in record.pipelines:
            for each in router.topics.records(topic, pipeline):
                record.take(topic, each)
    for bank in BANKS:
        record.inboxes[bank] += arrived(record, bank)
    for pipeline in record.pipelines:
        for offset, event in enumerate(record.firehose[pipeline]):
            assembly.follow(event, pipeline, offset)
    block = assembly.next_block(None, START + 2_000)
    assert block is not None
    written = {
        (pipeline, each.offset() or 0): value
        for pipeline in record.pipelines
        for each in record.ingest[pipeline]
        if (value := each.value()) is not None
    }
    return Evidence(record, written, [block], {bank: [life(record, bank)] for bank in BANKS})


def test_an_intact_record_keeps_every_promise(evidence: Evidence) -> None:
    assert evidence.record.unjudged() == []
    assert evidence.record.reasons() == {"MALFORMED": 2, "SEQUENCE_CONFLICT": 2}
    assert evidence.faults() == []


# Each damage does one thing; what tells of it, tells of nothing that was not damaged.


def lose_a_write(evidence: Evidence) -> None:
    evidence.written[0, 99] = b"acknowledged"


def lose_an_event(evidence: Evidence) -> None:
    del evidence.record.judged[0][2], evidence.record.firehose[0][2]


def double_an_event(evidence: Evidence) -> None:
    evidence.record.judged[1].insert(3, evidence.record.judged[1][2])
    evidence.record.firehose[1].insert(3, evidence.record.firehose[1][2])


def change_an_envelope(evidence: Evidence) -> None:
    evidence.replace(0, 1, envelope=evidence.record.judged[0][0].event.envelope)


def judge_a_tick(evidence: Evidence) -> None:
    evidence.replace(0, 4, ingest_offset=8)


def set_a_clock_back(evidence: Evidence) -> None:
    evidence.replace(0, 3, at=START - 5)


def refuse_what_was_accepted(evidence: Evidence) -> None:
    rejections = evidence.record.rejections
    rejections.append(rejections[0]._replace(ingest_offset=0))


def refuse_twice(evidence: Evidence) -> None:
    evidence.record.rejections.append(evidence.record.rejections[0])


def lose_a_rejection(evidence: Evidence) -> None:
    del evidence.record.rejections[0]


def keep_a_rejection_from_its_sender(evidence: Evidence) -> None:
    conflict = next(each for each in evidence.record.rejections if each.sender == "bob")
    evidence.record.deliveries[conflict.pipeline]["bob"].remove(encode(conflict))


def deliver_out_of_order(evidence: Evidence) -> None:
    inbox = evidence.record.inboxes["bob"]
    inbox[0], inbox[1] = inbox[1], inbox[0]


def lose_an_inbox_record(evidence: Evidence) -> None:
    del evidence.record.inboxes["alice"][-1]


def deliver_to_nobody(evidence: Evidence) -> None:
    del evidence.record.deliveries[1]["bob"][0]


def finish_late(evidence: Evidence) -> None:
    deadline = START + 60_000
    evidence.replace(0, 4, at=deadline + 7)


def time_out_early(evidence: Evidence) -> None:
    evidence.replace(0, 5, at=START + 100)


def wait_on_nobody(evidence: Evidence) -> None:
    ended = evidence.record.judged[0][5].event.ended
    assert ended is not None
    evidence.replace(0, 5, ended=ended._replace(waiting_on=()))


def wait_on_who_spoke_last(evidence: Evidence) -> None:
    ended = evidence.record.judged[0][5].event.ended
    assert ended is not None
    evidence.replace(0, 5, ended=ended._replace(waiting_on=("alice",)))


def list_an_event_less(evidence: Evidence) -> None:
    ended = evidence.record.judged[0][4].event.ended
    assert ended is not None
    evidence.replace(0, 4, ended=ended._replace(events=ended.events[1:]))


def never_end(evidence: Evidence) -> None:
    del evidence.record.judged[0][5], evidence.record.firehose[0][5]


def seal_a_transaction_twice(evidence: Evidence) -> None:
    (block,) = evidence.blocks
    evidence.blocks.append(block._replace(transactions=block.transactions[:1]))


def leave_a_transaction_out(evidence: Evidence) -> None:
    (block,) = evidence.blocks
    evidence.blocks[0] = block._replace(transactions=block.transactions[1:])


def seal_another_event(evidence: Evidence) -> None:
    (block,) = evidence.blocks
    first, *others = block.transactions
    changed = encode(decode(first.events[0], FirehoseEvent)._replace(at=START + 1))
    first = first._replace(events=(changed, *first.events[1:]))
    evidence.blocks[0] = block._replace(transactions=(first, *others))


def seal_late(evidence: Evidence) -> None:
    (block,) = evidence.blocks
    late = block.header._replace(sealed_at=START + 100 + GRACE + 1)
    evidence.blocks[0] = block._replace(header=late)


def take_twice(evidence: Evidence) -> None:
    evidence.lives["bob"][0].taken.append((0, 0))


def miss_a_message(evidence: Evidence) -> None:
    evidence.lives["bob"][0].taken.remove((0, 0))


def take_what_is_due_to_another(evidence: Evidence) -> None:
    evidence.lives["bob"][0].taken.append((0, 2))


def miss_a_timeout(evidence: Evidence) -> None:
    evidence.lives["alice"][0].timed_out.pop()


def promise_another_place(evidence: Evidence) -> None:
    accepted = evidence.lives["alice"][0].accepted
    accepted[next(iter(accepted))] = (1, 4)


def doubt_a_record(evidence: Evidence) -> None:
    evidence.lives["alice"][0].unverified.append("a receipt does not verify")


DAMAGES: dict[Callable[[Evidence], None], str] = {
    lose_a_write: "ingest/0 record 99: was acknowledged, and is not there",
    lose_an_event: "ingest/0 record 3: was never answered",
    double_an_event: "ingest/1 record 3: was answered 2 times",
    change_an_envelope: "event 1 of pipeline 0: is not what ingest/0 record 1 holds",
    judge_a_tick: "ingest/0 record 8: was answered 1 times",
    set_a_clock_back: "event 3 of pipeline 0: was 8 ms before the event before it",
    refuse_what_was_accepted: "ingest/0 record 0: was answered 2 times",
    refuse_twice: "ingest/0 record 2: was answered 2 times",
    lose_a_rejection: "ingest/0 record 2: was never answered",
    keep_a_rejection_from_its_sender: "bob was told 0 times that it is refused, SEQUENCE_CONFLICT",
    deliver_out_of_order: "what inbox bob has of pipeline 0: ",
    lose_an_inbox_record: "what inbox alice has of pipeline 1: ",
    deliver_to_nobody: "deliveries/1 to bob: ",
    finish_late: "finished 7 ms after its deadline",
    time_out_early: "timed out 0 ms before its deadline",
    wait_on_nobody: "timed out waiting on nobody",
    wait_on_who_spoke_last: "timed out waiting on alice, who had spoken last",
    list_an_event_less: "its end does not list its events",
    never_end: "of its 1 events, these end it: []",
    seal_a_transaction_twice: "event 0 of pipeline 0: is in 2 blocks",
    leave_a_transaction_out: "event 0 of pipeline 0: is in 0 blocks",
    seal_another_event: "block 0: event (0, 0) is not what the firehose has there",
    seal_late: "block 0: was sealed 1 ms after what receipts for it promise",
    take_twice: "bob's application: event (0, 0): taken 2 times in life 0",
    miss_a_message: "bob's application: event (0, 0): never taken",
    take_what_is_due_to_another: "bob's application: event (0, 2): taken, and not due to it",
    miss_a_timeout: "alice's application: the timeout of",
    promise_another_place: "it is not event (1, 4)",
    doubt_a_record: "alice's application: a receipt does not verify",
}


@pytest.mark.parametrize(("damage", "told"), DAMAGES.items(), ids=[damage.__name__ for damage in DAMAGES])
def test_every_fault_is_told(evidence: Evidence, damage: Callable[[Evidence], None], told: str) -> None:
    damage(evidence)
    faults = evidence.faults()
    assert [fault for fault in faults if told in fault], faults
    assert max(map(len, faults)) < 1_000, "the least that is needed"


# Time ----------------------------------------------------------------------------------------------------------------


def late(done_at: int, *deaths: int) -> list[str]:
    """What is told of something due at 100,000, within a second."""
    return list(promises.in_time([Due("it", 100_000, done_at)], 1_000, deaths, 10_000))


def test_nothing_excuses_what_is_late_while_nothing_dies() -> None:
    assert late(101_000) == []
    assert late(101_001) == ["it: was done 1001 ms after it was due, with 0 deaths about that time"]
    assert late(101_001, 89_999, 101_001)


@pytest.mark.parametrize("death", [90_000, 95_000, 100_500, 101_000])
def test_a_death_excuses_what_follows_within_a_failover(death: int) -> None:
    assert late(death + 11_000, death) == []
    assert late(death + 11_001, death)


def test_deaths_one_upon_the_other_excuse_until_the_last_is_over() -> None:
    assert late(118_000, 99_000, 107_000) == []
    assert late(118_001, 99_000, 107_000)
    assert late(118_000, 95_000, 107_000), "the first was over before the second"


def test_a_timeout_is_due_at_its_deadline(evidence: Evidence) -> None:
    assert {due_at for _, due_at, _ in promises.timeouts(evidence.record)} == {START + 100}


def test_a_sealing_is_due_once_the_end_is_written(evidence: Evidence) -> None:
    sealings = list(promises.sealings(evidence.record, evidence.blocks, [START + 9]))
    assert len(sealings) == 4
    assert {(due_at, done_at) for _, due_at, done_at in sealings} == {(0, START + 9)}


# Journals --------------------------------------------------------------------------------------------------------------


def test_a_journal_gives_back_life_by_life_what_was_written(tmp_path: object) -> None:
    journal = Journal(f"{tmp_path}/journal")
    assert journal.lives() == []
    journal.begin()
    journal.write("taken", 1, 7)
    journal.write("accepted", "ab", 0, 3)
    journal.begin()
    journal.write("timed out", "cd", ["bob"])
    journal.write("refused", "ef", "CLOSED")
    journal.write("unverified", "a receipt")
    assert journal.lives() == [
        Life([(1, 7)], [], {"ab": (0, 3)}, {}, []),
        Life([], [("cd", ("bob",))], {}, {"ef": "CLOSED"}, ["a receipt"]),
    ]
