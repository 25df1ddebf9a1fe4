"""All that stands on a backbone's topics, as a value: taken record by record, and what it comes to; reads no broker.

What must hold of it is in `tests.promises`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from parley.directory import Directory
from parley.envelope import message_id
from parley.schemas import (
    DeliveryBatch,
    Envelope,
    FirehoseEvent,
    Message,
    Rejection,
    TransactionId,
    decode,
)
from streams.catalogue import DEAD_LETTER, DELIVERIES, DIRECTORY, FIREHOSE, INGEST, REJECTED
from streams.handler import Record

__all__ = ["Judged", "WholeRecord", "delivery_of", "message_of", "said"]


class Judged(NamedTuple):
    """An event and when its router wrote it, in ms."""

    event: FirehoseEvent
    written_at: int


class WholeRecord:
    """The records of every topic, by pipeline or by address, each in the order of its topic."""

    def __init__(self, registrar: bytes, pipelines: int, addresses: Iterable[str] = ()) -> None:
        self.pipelines = range(pipelines)
        self.ingest: list[list[Record]] = [[] for _ in self.pipelines]
        self.firehose: list[list[bytes]] = [[] for _ in self.pipelines]
        self.judged: list[list[Judged]] = [[] for _ in self.pipelines]
        self.rejections: list[Rejection] = []
        self.deliveries: list[dict[str, list[bytes]]] = [{} for _ in self.pipelines]
        self.inboxes: dict[str, list[Record]] = {address: [] for address in addresses}
        self.dead_letters: list[Record] = []
        self.directory = Directory(registrar)

    def take(self, topic: str, record: Record) -> None:
        """Add the next record of a topic."""
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

    def accepted(self, pipeline: int) -> set[int]:
        """Offsets of ingest records that stand on the firehose."""
        return {event.ingest_offset for event in self.events(pipeline) if event.envelope is not None}

    def rejected(self, pipeline: int) -> list[int]:
        """Offsets of ingest records that were refused, as often as they were."""
        return [each.ingest_offset for each in self.rejections if each.pipeline == pipeline]

    def repeated(self, pipeline: int) -> set[int]:
        """Offsets of records that say what an accepted record before them said."""
        accepted = {
            said(event.envelope): event.ingest_offset for event in self.events(pipeline) if event.envelope
        }
        repeated = set()
        for record in self.ingest[pipeline]:
            first = accepted.get(said(record.value()))
            if first is not None and first < (record.offset() or 0):
                repeated.add(record.offset() or 0)
        return repeated

    def open(self, pipeline: int) -> set[TransactionId]:
        """Transactions that have not ended."""
        events = self.events(pipeline)
        return {event.transaction_id for event in events} - {
            event.transaction_id for event in events if event.ended is not None
        }

    def unjudged(self) -> list[str]:
        """Where something remains to be said: ingest records without an answer, transactions without an end."""
        left = []
        for pipeline in self.pipelines:
            answered = self.accepted(pipeline) | set(self.rejected(pipeline)) | self.repeated(pipeline)
            left += [
                f"{INGEST}/{pipeline} {record.offset()}"
                for record in self.ingest[pipeline]
                if record.value() is not None and record.offset() not in answered
            ]
            left += [f"transaction {identity.hex()}" for identity in self.open(pipeline)]
        return left

    def delivered(self) -> bool:
        """Whether every inbox has all that is due to it, repeated or not."""
        return all(
            len({delivery_of(record) for record in records})
            == sum(len(self.deliveries[pipeline].get(address, [])) for pipeline in self.pipelines)
            for address, records in self.inboxes.items()
        )

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
def said(record: bytes | None) -> bytes:
    """The message id of a record, or its own bytes where it is no envelope."""
    try:
        return message_id(decode(record or b"", Envelope).payload)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no envelope
        return record or b""


def message_of(event: FirehoseEvent) -> Message:
    """What was said; of an event that is no timeout."""
    assert event.envelope is not None
    return decode(decode(event.envelope, Envelope).payload, Message)
