"""What docs/invariants.md promises of a whole record; each promise gives, in a sentence each, the places where it is broken.

What was accepted or refused is held against ingest record by record, by rules of its own; and the whole is held against the
real router run over the same ingest in memory, without a broker, commits or deaths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple, TypeVar

from parley.blocks import Block
from parley.errors import ParleyError
from parley.firehose import Follower, event_digest
from parley.identifiers import transaction_text
from parley.lifecycle import address_of
from parley.receipts import ReceiptVerifier
from parley.schemas import FirehoseEvent, Receipt, TransactionId, decode_any, encode
from router.core import Limits
from streams.catalogue import INGEST
from streams.handler import Record
from tests.memory_router import MemoryRouter, facts
from tests.trading import Life
from tests.whole_record import WholeRecord, delivery_of, message_of, said

__all__ = [
    "Due",
    "Place",
    "acknowledged",
    "as_uninterrupted",
    "chained",
    "delivered",
    "ended",
    "in_time",
    "judged_once",
    "read_once",
    "repetitions",
    "sealed",
    "sealings",
    "timeouts",
    "told",
]

T = TypeVar("T")

Place = tuple[int, int]
"""A partition and an offset, or a pipeline and a sequence."""


class Due(NamedTuple):
    """What was to be done once ``due_at`` had passed, and when it was done; in ms."""

    what: str
    due_at: int
    done_at: int


# Accepted once or refused once -------------------------------------------------------------------------------------------


def acknowledged(record: WholeRecord, written: Mapping[Place, bytes]) -> Iterator[str]:
    """What the broker acknowledged stands on ingest, where it said that it does."""
    there = {
        (pipeline, each.offset()): each.value()
        for pipeline in record.pipelines
        for each in record.ingest[pipeline]
    }
    for place, value in written.items():
        if there.get(place) != value:
            yield f"{_ingest(*place)}: was acknowledged, and is not there"


def judged_once(record: WholeRecord, *, told_twice: bool = False) -> Iterator[str]:
    """Every ingest record is accepted once, as it came, or rejected once (however often it was told), or a repetition."""
    for pipeline in record.pipelines:
        values = {each.offset() or 0: each.value() for each in record.ingest[pipeline]}
        accepted = [event for event in record.events(pipeline) if event.envelope is not None]
        for event in accepted:
            if values.get(event.ingest_offset) != event.envelope:
                yield f"{_event(event)}: is not what {_ingest(pipeline, event.ingest_offset)} holds"
        rejected = record.rejected(pipeline)
        answers = Counter(event.ingest_offset for event in accepted)
        answers.update(set(rejected) if told_twice else rejected)
        repeated = record.repeated(pipeline)
        for offset, value in values.items():
            count = answers.pop(offset, 0)
            if count > (value is not None):
                yield f"{_ingest(pipeline, offset)}: was answered {count} times"
            elif count == 0 and value is not None and offset not in repeated:
                yield f"{_ingest(pipeline, offset)}: was never answered"
        for offset in answers:
            yield f"{_ingest(pipeline, offset)}: was answered, and is not there"


def told(record: WholeRecord) -> Iterator[str]:
    """Whoever is known to have sent what was refused is told of it, once."""
    for rejection in record.rejections:
        entry = None if rejection.sender is None else record.directory.entry(rejection.sender)
        if entry is not None:
            address = entry.addresses[0]
            count = record.deliveries[rejection.pipeline].get(address, []).count(encode(rejection))
            if count != 1:
                where = _ingest(rejection.pipeline, rejection.ingest_offset)
                yield f"{where}: {address} was told {count} times that it is refused, {rejection.reason}"


def chained(record: WholeRecord) -> Iterator[str]:
    """Dense sequences, unbroken chains, and time that never runs backwards."""
    for pipeline in record.pipelines:
        follower, before = Follower(), 0
        for place, data in enumerate(record.firehose[pipeline]):
            try:
                event = follower.follow(data, place)
            except ParleyError as error:
                yield str(error)
                break
            if event is None:
                yield f"pipeline {pipeline}: what stands at place {place} stood before it already"
                break
            if event.at < before:
                yield f"{_event(event)}: was {before - event.at} ms before the event before it"
            before = event.at


def as_uninterrupted(record: WholeRecord, limits: Limits | None = None) -> Iterator[str]:
    """All is what one router that is never interrupted makes of the same ingest, to the byte but for receipts' trees."""
    router = MemoryRouter(record.directory, limits, pipelines=len(record.pipelines))
    for pipeline in record.pipelines:
        for each in record.ingest[pipeline]:
            if router.append(each.value(), each.timestamp()[1], pipeline) != each.offset():
                yield f"{_ingest(pipeline, each.offset() or 0)}: does not follow the record before it"
                return
    router.step()
    by_pipeline = sorted(record.rejections, key=lambda rejection: rejection.pipeline)
    yield from _difference("the rejections", router.rejections(), by_pipeline)
    for pipeline in record.pipelines:
        yield from _difference(f"firehose/{pipeline}", router.firehose(pipeline), record.firehose[pipeline])
        due: dict[str, list[NamedTuple]] = {}
        for address, value in router.deliveries(pipeline):
            due.setdefault(address, []).append(facts(value))
        is_so = record.deliveries[pipeline]
        for address in sorted(due.keys() | is_so.keys()):
            items = [facts(decode_any(item)) for item in is_so.get(address, [])]
            yield from _difference(f"deliveries/{pipeline} to {address}", due.get(address, []), items)


# Read once by each recipient -----------------------------------------------------------------------------------------


def delivered(record: WholeRecord) -> Iterator[str]:
    """Every inbox holds what was due to it, each pipeline's in order, once what is repeated is dropped; receipts verify."""
    verifier = ReceiptVerifier(record.directory)
    for address, records in record.inboxes.items():
        arrived: list[list[bytes]] = [[] for _ in record.pipelines]
        for pipeline, value in _once(records):
            arrived[pipeline].append(value)
        for pipeline in record.pipelines:
            due = record.deliveries[pipeline].get(address, [])
            yield from _difference(f"what inbox {address} has of pipeline {pipeline}", due, arrived[pipeline])
        for item in (item for items in arrived for item in items):
            receipt = decode_any(item)
            if isinstance(receipt, Receipt):
                try:
                    verifier.verify(receipt)
                except ParleyError as error:
                    yield f"inbox {address}: the receipt of message {receipt.message_id.hex()}: {error}"


def repetitions(record: WholeRecord) -> int:
    """How many inbox records repeat one before them."""
    return sum(len(records) - sum(1 for _ in _once(records)) for records in record.inboxes.values())


def _once(records: Iterable[Record]) -> Iterator[tuple[int, bytes]]:
    """Pipeline and value of each inbox record that is further than all before it."""
    seen: dict[int, int] = {}
    for record in records:
        pipeline, place = delivery_of(record)
        if place > seen.get(pipeline, -1):
            seen[pipeline] = place
            yield pipeline, record.value() or b""


def read_once(record: WholeRecord, address: str, lives: Sequence[Life]) -> Iterator[str]:
    """A bank's application was told all that its inbox has, nothing twice in one life, and what receipts say stands there."""
    events = {
        (event.pipeline, event.sequence): event
        for pipeline in record.pipelines
        for item in record.deliveries[pipeline].get(address, [])
        if isinstance(event := decode_any(item), FirehoseEvent)
    }
    messages = {place for place, event in events.items() if event.envelope is not None}
    expired = {
        (transaction_text(event.transaction_id), event.ended.waiting_on)
        for event in events.values()
        if event.envelope is None and event.ended is not None
    }
    yield from _taken_once(f"{address}'s application: event", messages, [life.taken for life in lives])
    yield from _taken_once(
        f"{address}'s application: the timeout of", expired, [life.timed_out for life in lives]
    )
    for life in lives:
        for fault in life.unverified:
            yield f"{address}'s application: {fault}"
        for identity, (pipeline, sequence) in life.accepted.items():
            there = [said(event.envelope) for event in record.events(pipeline)[sequence : sequence + 1]]
            if there != [bytes.fromhex(identity)]:
                yield f"{address}'s receipt of message {identity}: it is not event {(pipeline, sequence)}"


def _taken_once(what: str, due: set[T], lives: Sequence[Sequence[T]]) -> Iterator[str]:
    for number, life in enumerate(lives):
        yield from (
            f"{what} {each}: taken {count} times in life {number}"
            for each, count in Counter(life).items()
            if count > 1
        )
    taken = {each for life in lives for each in life}
    yield from (f"{what} {each}: never taken" for each in due - taken)
    yield from (f"{what} {each}: taken, and not due to it" for each in taken - due)


# Every transaction ends --------------------------------------------------------------------------------------------------


def ended(record: WholeRecord) -> Iterator[str]:
    """Every transaction ended once, last and as its events say, all of which the end lists; a timeout names who was due."""
    for pipeline in record.pipelines:
        transactions: dict[TransactionId, list[FirehoseEvent]] = {}
        for event in record.events(pipeline):
            transactions.setdefault(event.transaction_id, []).append(event)
        for identity, events in transactions.items():
            for fault in _ending_faults(events):
                yield f"transaction {transaction_text(identity)} on pipeline {pipeline}: {fault}"


def _ending_faults(events: Sequence[FirehoseEvent]) -> Iterator[str]:
    endings = [place for place, event in enumerate(events) if event.ended is not None]
    if endings != [len(events) - 1]:
        yield f"of its {len(events)} events, these end it: {endings}"
        return
    last, ending = events[-1], events[-1].ended
    assert ending is not None
    terms = message_of(events[0]).terms
    assert terms is not None
    if [each.sequence for each in ending.events] != [each.sequence for each in events[:-1]]:
        yield "its end does not list its events"
    if ending.outcome == "FINISHED":
        if last.at > terms.deadline:
            yield f"finished {last.at - terms.deadline} ms after its deadline"
        return
    if last.at <= terms.deadline:
        yield f"timed out {terms.deadline - last.at} ms before its deadline"
    head = message_of(events[-2])
    if head.sender in ending.waiting_on and len(terms.parties) > len(ending.waiting_on):
        yield f"timed out waiting on {head.sender}, who had spoken last"
    if not ending.waiting_on or any(address_of(terms, name) is None for name in ending.waiting_on):
        yield f"timed out waiting on {ending.waiting_on or 'nobody'}"


def timeouts(record: WholeRecord) -> Iterator[Due]:
    """Each timeout, due at its transaction's deadline and done when it was written."""
    deadlines: dict[tuple[int, TransactionId], int] = {}
    for pipeline in record.pipelines:
        for event, written_at in record.judged[pipeline]:
            key = (pipeline, event.transaction_id)
            if event.envelope is None:
                yield Due(f"the timeout {_event(event)}", deadlines[key], written_at)
            elif key not in deadlines and (terms := message_of(event).terms) is not None:
                deadlines[key] = terms.deadline


def in_time(all_of_them: Iterable[Due], within: int, deaths: Sequence[int], failover: int) -> Iterator[str]:
    """Each was done ``within`` ms; whatever died meanwhile, or shortly before, adds at most ``failover`` ms from its death."""
    for what, due_at, done_at in all_of_them:
        limit = due_at + within
        for death in sorted(deaths):
            if due_at - failover <= death <= limit:
                limit = max(limit, death + failover + within)
        if done_at > limit:
            met = sum(due_at - failover <= death <= done_at for death in deaths)
            yield f"{what}: was done {done_at - due_at} ms after it was due, with {met} deaths about that time"


# In exactly one block --------------------------------------------------------------------------------------------------


def sealed(record: WholeRecord, blocks: Sequence[Block], block_grace: int) -> Iterator[str]:
    """Every event of an ended transaction is in exactly one block, as it stands on the firehose, by when receipts promise."""
    places = Counter[Place]()
    for block in blocks:
        for transaction in block.transactions:
            pipeline = transaction.record.pipeline
            for reference, data in zip(transaction.record.events, transaction.events, strict=True):
                place = pipeline, reference.sequence
                places[place] += 1
                there = record.firehose[pipeline][place[1] : place[1] + 1]
                if there != [data] or event_digest(data) != reference.digest:
                    yield f"block {block.header.height}: event {place} is not what the firehose has there"
            terms = message_of(_decoded(transaction.events[0])).terms
            late = block.header.sealed_at - (0 if terms is None else terms.deadline) - block_grace
            if late > 0:
                yield f"block {block.header.height}: was sealed {late} ms after what receipts for it promise"
    for pipeline in record.pipelines:
        waiting = record.open(pipeline)
        for event in record.events(pipeline):
            count = places.pop((pipeline, event.sequence), 0)
            if count != (event.transaction_id not in waiting):
                yield f"{_event(event)}: is in {count} blocks"
    for place in places:
        yield f"event {place}: is in a block, and not on the firehose"


def sealings(record: WholeRecord, blocks: Sequence[Block], written: Sequence[int]) -> Iterator[Due]:
    """Each end, due to be in a block once it was written, and done when that block's header was; ``written`` by height."""
    for block in blocks:
        for transaction in block.transactions:
            pipeline, sequence = transaction.record.pipeline, transaction.ending_sequence
            event, at = record.judged[pipeline][sequence]
            yield Due(f"the block of the end {_event(event)}", at, written[block.header.height])


def _decoded(data: bytes) -> FirehoseEvent:
    """The event in a block, which is as it was."""
    event = decode_any(data)
    assert isinstance(event, FirehoseEvent)
    return event


# Telling ---------------------------------------------------------------------------------------------------------------


def _difference(what: str, due: Sequence[object], is_so: Sequence[object]) -> Iterator[str]:
    """One sentence for the first place where the two differ."""
    if due == is_so:
        return
    place = next(
        place for place, (one, other) in enumerate(zip_longest(due, is_so, fillvalue=None)) if one != other
    )
    yield (
        f"{what}: {len(is_so)}, due are {len(due)}; they differ from number {place} on, which is"
        f" {_short(is_so, place)}, due is {_short(due, place)}"
    )


def _short(values: Sequence[object], place: int) -> str:
    if place >= len(values):
        return "nothing"
    value = values[place]
    text = repr(decode_any(value) if isinstance(value, bytes) else value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _ingest(pipeline: int, offset: int) -> str:
    return f"{INGEST}/{pipeline} record {offset}"


def _event(event: FirehoseEvent) -> str:
    return f"event {event.sequence} of pipeline {event.pipeline}"
