"""Everything on a broker's topics, and whether it is what docs/invariants.md promises; writes nothing.

What was accepted or refused is held against ingest record by record, by rules of its own; and the whole is held against the
real router run over the same ingest in memory, without a broker, commits or deaths.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import lru_cache
from typing import NamedTuple, Self

from parley.directory import Directory
from parley.envelope import message_id
from parley.firehose import Follower as FirehoseFollower
from parley.receipts import ReceiptVerifier
from parley.schemas import (
    DeliveryBatch,
    Envelope,
    FirehoseEvent,
    Message,
    Receipt,
    Rejection,
    TransactionId,
    decode,
    decode_any,
)
from router.core import Limits
from streams.catalogue import DEAD_LETTER, DELIVERIES, DIRECTORY, FIREHOSE, INGEST, REJECTED, inbox_topic
from streams.handler import Record
from streams.reader import Follower
from tests.fix_backbone import RunningBackbone
from tests.memory_router import MemoryRouter, facts

__all__ = ["BrokerLog", "tell", "wait_for"]

PATIENCE_S = 60.0


def wait_for(condition: Callable[[], bool], what: Callable[[], str], patience_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fail, saying what was waited for, where it does not in time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s: {what()}"
        time.sleep(0.1)


def tell(text: str) -> None:
    """Print a figure; pytest shows it with ``-s``, and where a test fails."""
    print(f"\n{text}")  # noqa: T201 - what was compared is worth knowing


class Judged(NamedTuple):
    """An event and when its router wrote it, in ms."""

    event: FirehoseEvent
    written_at: int


class BrokerLog:
    """The topics of a backbone as far as they were read; `refresh` reads on."""

    def __init__(self, running: RunningBackbone, addresses: Iterable[str] = ()) -> None:
        backbone = running.backbone
        self.pipelines = range(backbone.pipelines)
        self.ingest: list[list[Record]] = [[] for _ in self.pipelines]
        self.firehose: list[list[bytes]] = [[] for _ in self.pipelines]
        self.judged: list[list[Judged]] = [[] for _ in self.pipelines]
        self.rejections: list[Rejection] = []
        self.deliveries: list[dict[str, list[bytes]]] = [{} for _ in self.pipelines]
        self.inboxes: dict[str, list[Record]] = {address: [] for address in addresses}
        self.dead_letters: list[Record] = []
        self.directory = Directory(running.registrar)
        each = dict.fromkeys(self.pipelines, 0)
        whole: dict[str, dict[int, int]] = {
            **dict.fromkeys((INGEST, FIREHOSE, DELIVERIES), each),
            **{topic: {0: 0} for topic in (REJECTED, DEAD_LETTER, DIRECTORY)},
            **{inbox_topic(address): {0: 0} for address in self.inboxes},
        }
        self._stack = ExitStack()
        self._followers = {
            topic: self._stack.enter_context(Follower(backbone.admin, topic, positions))
            for topic, positions in whole.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def refresh(self) -> None:
        """Read every topic on to its present end."""
        for topic, follower in self._followers.items():
            while True:
                for record in follower.poll(timeout_s=0.02):
                    self._take(topic, record)
                if follower.at_end:
                    break

    def _take(self, topic: str, record: Record) -> None:
        partition, value = record.partition() or 0, record.value() or b""
        if topic == INGEST:
            self.ingest[partition].append(record)
        elif topic == FIREHOSE:
            self.firehose[partition].append(value)
            self.judged[partition].append(Judged(decode(value, FirehoseEvent), record.timestamp()[1]))
        elif topic == DELIVERIES:
            items = self.deliveries[partition].setdefault((record.key() or b"").decode(), [])
            items += decode(value, DeliveryBatch).items
        elif topic == REJECTED:
            self.rejections.append(decode(value, Rejection))
        elif topic == DEAD_LETTER:
            self.dead_letters.append(record)
        elif topic == DIRECTORY:
            self.directory.apply(value)
        else:
            self.inboxes[topic.removeprefix("inbox.")].append(record)

    # What it comes to ----------------------------------------------------------------------------------------------

    def events(self, pipeline: int) -> list[FirehoseEvent]:
        return [event for event, _ in self.judged[pipeline]]

    def unjudged(self) -> list[str]:
        """Where something remains to be said: ingest records without an answer, transactions without an end."""
        left = []
        for pipeline in self.pipelines:
            answered = self._accepted(pipeline) | self._rejected(pipeline)
            repeated = self._repeated(pipeline)
            left += [
                f"{INGEST}/{pipeline} {record.offset()}"
                for record in self.ingest[pipeline]
                if record.value() is not None and not {record.offset()} & (answered | repeated)
            ]
            left += [f"transaction {identity.hex()}" for identity in self._open(pipeline)]
        return left

    def _accepted(self, pipeline: int) -> set[int]:
        return {event.ingest_offset for event in self.events(pipeline) if event.envelope is not None}

    def _rejected(self, pipeline: int) -> set[int]:
        return {each.ingest_offset for each in self.rejections if each.pipeline == pipeline}

    def _repeated(self, pipeline: int) -> set[int]:
        """Records that say what an accepted record before them said."""
        said = {
            _said(event.envelope): event.ingest_offset for event in self.events(pipeline) if event.envelope
        }
        repeated = set()
        for record in self.ingest[pipeline]:
            first = said.get(_said(record.value()))
            if first is not None and first < (record.offset() or 0):
                repeated.add(record.offset() or 0)
        return repeated

    def _open(self, pipeline: int) -> set[TransactionId]:
        events = self.events(pipeline)
        return {event.transaction_id for event in events} - {
            event.transaction_id for event in events if event.ended is not None
        }

    def await_judgement(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until every ingest record is answered and every transaction has ended."""

        def judged() -> bool:
            self.refresh()
            return not self.unjudged()

        def what() -> str:
            left = self.unjudged()
            return f"{len(left)} left, such as {left[:5]}; {self.counts()}: {self.reasons()}"

        wait_for(judged, what, patience_s)

    # What was promised -----------------------------------------------------------------------------------------------

    def assert_each_record_judged_once(self, *, told_twice: bool = False) -> None:
        """Every acknowledged record is accepted once, or rejected once (however often it was told), or a repetition."""
        for pipeline in self.pipelines:
            accepted = [event for event in self.events(pipeline) if event.envelope is not None]
            rejected = [each.ingest_offset for each in self.rejections if each.pipeline == pipeline]
            values = {record.offset(): record.value() for record in self.ingest[pipeline]}
            assert all(values[event.ingest_offset] == event.envelope for event in accepted), "as it came"
            counts = Counter([event.ingest_offset for event in accepted])
            counts.update(set(rejected) if told_twice else rejected)
            assert {offset for offset, count in counts.items() if count != 1} == set()
            answered = set(counts) | self._repeated(pipeline)
            assert answered == {offset for offset, value in values.items() if value is not None}

    def assert_firehose_whole(self) -> None:
        """Dense sequences, unbroken chains, and time that never runs backwards."""
        follower = FirehoseFollower()
        for pipeline in self.pipelines:
            for offset, record in enumerate(self.firehose[pipeline]):
                assert follower.follow(record, offset) is not None, "none twice"
            times = [event.at for event in self.events(pipeline)]
            assert times == sorted(times)

    def assert_ended(self, since: int = 0) -> int:
        """Every transaction ended once and as its events say, all of which the end lists.

        Gives how late the latest timeout was written of those with a deadline after ``since``, in ms.
        """
        latest = 0
        for pipeline in self.pipelines:
            told: dict[bytes, list[FirehoseEvent]] = {}
            for event, written_at in self.judged[pipeline]:
                before = told.setdefault(event.transaction_id, [])
                before.append(event)
                if event.ended is None:
                    continue
                opening = _message(before[0])
                assert opening.terms is not None
                listed = [reference.sequence for reference in event.ended.events]
                assert listed == [each.sequence for each in before[:-1]]
                if event.ended.outcome == "TIMED_OUT":
                    assert event.at > opening.terms.deadline
                    assert event.ended.waiting_on
                    if opening.terms.deadline > since:
                        latest = max(latest, written_at - opening.terms.deadline)
                else:
                    assert event.at <= opening.terms.deadline
            assert all(
                [event.ended is not None for event in each].index(True) == len(each) - 1
                for each in told.values()
            )
        return latest

    def assert_as_uninterrupted(self, limits: Limits | None = None) -> None:
        """What one router that is never interrupted makes of the same ingest, to the byte but for receipts' trees."""
        router = MemoryRouter(self.directory, limits, pipelines=len(self.pipelines))
        for pipeline in self.pipelines:
            for record in self.ingest[pipeline]:
                assert router.append(record.value(), record.timestamp()[1], pipeline) == record.offset()
        router.step()
        by_pipeline = sorted(self.rejections, key=lambda rejection: rejection.pipeline)
        assert router.rejections() == by_pipeline
        for pipeline in self.pipelines:
            assert router.firehose(pipeline) == self.firehose[pipeline]
            for address, items in self.deliveries[pipeline].items():
                delivered = [facts(decode_any(item)) for item in items]
                assert delivered == [facts(value) for value in router.delivered_to(address, pipeline)]

    def assert_delivered(self) -> int:
        """Every inbox holds what was due to it, each pipeline's in order, once what is repeated is dropped.

        Gives how many repetitions there were.
        """
        repetitions = 0
        verifier = ReceiptVerifier(self.directory)
        for address, records in self.inboxes.items():
            arrived: list[list[bytes]] = [[] for _ in self.pipelines]
            seen = dict.fromkeys(self.pipelines, -1)
            for record in records:
                pipeline, place = delivery_of(record)
                if place <= seen[pipeline]:
                    repetitions += 1
                    continue
                seen[pipeline] = place
                arrived[pipeline].append(record.value() or b"")
            assert arrived == [self.deliveries[pipeline].get(address, []) for pipeline in self.pipelines]
            for item in (item for items in arrived for item in items):
                value = decode_any(item)
                if isinstance(value, Receipt):
                    verifier.verify(value)
        return repetitions

    def delivered(self) -> bool:
        """Whether every inbox has all that is due to it, repeated or not."""
        return all(
            len({delivery_of(record) for record in records})
            == sum(len(self.deliveries[pipeline].get(address, [])) for pipeline in self.pipelines)
            for address, records in self.inboxes.items()
        )

    def await_delivery(self) -> None:
        def delivered() -> bool:
            self.refresh()
            return self.delivered()

        wait_for(delivered, lambda: "inboxes without all that is due to them")

    def count(self) -> int:
        """Events of all pipelines."""
        return sum(map(len, self.firehose))

    def records(self) -> int:
        """Ingest records, ticks left out."""
        return sum(record.value() is not None for records in self.ingest for record in records)

    def dead_letters_of(self, service: str) -> list[Record]:
        """What the instances of a service could not deal with."""
        return [
            record
            for record in self.dead_letters
            if (
                bytes(dict(record.headers() or []).get("dead-letter.service") or b"").startswith(  # type: ignore[arg-type]
                    service.encode()
                )
            )
        ]

    def reasons(self) -> dict[str, int]:
        """How often each reason was given."""
        return dict(Counter(rejection.reason for rejection in self.rejections))

    def counts(self) -> str:
        """For people."""
        records, events = self.records(), self.count()
        timeouts = sum(
            event.envelope is None for pipeline in self.pipelines for event in self.events(pipeline)
        )
        items = sum(len(items) for by_address in self.deliveries for items in by_address.values())
        arrived = sum(map(len, self.inboxes.values()))
        return (
            f"{records} ingest records, {events} events ({timeouts} timeouts), {len(self.rejections)} rejections,"
            f" {items} deliveries, {arrived} inbox records"
        )


def delivery_of(record: Record) -> tuple[int, int]:
    """Pipeline and place of an inbox record, from its header."""
    header = dict(record.headers() or [])["delivery"]
    assert isinstance(header, bytes)
    pipeline, _, place = header.decode().partition(":")
    return int(pipeline), int(place)


@lru_cache(maxsize=100_000)
def _said(record: bytes | None) -> bytes:
    """The message id of a record, or its own bytes where it is no envelope."""
    try:
        return message_id(decode(record or b"", Envelope).payload)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no envelope
        return record or b""


def _message(event: FirehoseEvent) -> Message:
    assert event.envelope is not None
    return decode(decode(event.envelope, Envelope).payload, Message)
