"""Events are found on the firehose by their sequence, whatever the offsets are; hints only make it faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from blockbuilder.core import Wanted
from blockbuilder.recall import (
    HINTS_HEADER,
    Landmarks,
    decode_hints,
    encode_hints,
    read_back,
    start_offset,
)
from streams.handler import Headers, Record
from streams.reader import Reader
from tests.synthetic_ledger import Ledger

PIPELINE = 0


@dataclass
class Kept:
    """A record of a partition whose offsets have gaps."""

    place: int
    data: bytes = b""
    with_headers: Headers = field(default_factory=list)

    def offset(self) -> int:
        return self.place

    def value(self) -> bytes:
        return self.data

    def headers(self) -> Headers:
        return self.with_headers


class MemoryReader:
    """Reads a list as ``Reader`` reads a partition, and counts how much."""

    def __init__(self, records: list[Kept]) -> None:
        self.records = records
        self.read = 0

    def read_partition(self, topic: str, partition: int, start: int = 0) -> Iterator[Kept]:
        for record in self.records:
            if record.place >= start:
                self.read += 1
                yield record

    def first(self, topic: str, partition: int, reached: Callable[[Record], bool]) -> int:
        for record in self.records:
            if reached(cast(Record, record)):
                return record.place
        return self.records[-1].place + 1


@pytest.fixture(scope="module")
def events() -> list[bytes]:
    ledger = Ledger()
    for _ in range(10):
        ledger.trade(PIPELINE)
    return ledger.firehose[PIPELINE]


@pytest.fixture
def reader(events: list[bytes]) -> MemoryReader:
    """The events with a commit marker after every second."""
    return MemoryReader([Kept(sequence + sequence // 2, event) for sequence, event in enumerate(events)])


def offset_of(sequence: int) -> int:
    return sequence + sequence // 2


def test_events_are_read_back_in_one_pass_where_they_lie_close(
    reader: MemoryReader, events: list[bytes]
) -> None:
    wanted = [Wanted(PIPELINE, sequence) for sequence in (3, 4, 17, 30)]
    found = read_back(cast(Reader, reader), wanted, Landmarks())
    assert found == {place: events[place.sequence] for place in wanted}
    assert reader.read == 28


def test_a_landmark_spares_the_search(reader: MemoryReader, events: list[bytes]) -> None:
    landmarks = Landmarks()
    landmarks.note(PIPELINE, 20, offset_of(20))
    assert landmarks.before(PIPELINE, 19) is None
    assert landmarks.before(PIPELINE, 25) == offset_of(20)
    assert landmarks.before(1, 25) is None
    found = read_back(cast(Reader, reader), [Wanted(PIPELINE, 25)], landmarks)
    assert found == {Wanted(PIPELINE, 25): events[25]}
    assert reader.read == 6


def test_what_retention_removed_is_not_found(reader: MemoryReader, events: list[bytes]) -> None:
    reader.records = reader.records[10:]
    found = read_back(cast(Reader, reader), [Wanted(PIPELINE, 5), Wanted(PIPELINE, 12)], Landmarks())
    assert found == {}


def test_a_good_hint_is_followed(reader: MemoryReader) -> None:
    assert start_offset(cast(Reader, reader), PIPELINE, 30, offset_of(28)) == offset_of(28)
    assert start_offset(cast(Reader, reader), PIPELINE, 30, offset_of(30)) == offset_of(30)


@pytest.mark.parametrize("hint", [None, offset_of(31), 10_000])
def test_a_wrong_hint_or_none_leads_to_a_search(reader: MemoryReader, hint: int | None) -> None:
    assert start_offset(cast(Reader, reader), PIPELINE, 30, hint) == offset_of(30)


def test_hints_travel_in_a_records_header() -> None:
    hints = {0: 5, 12: 1 << 40}
    record = Kept(0, b"", [("other", b"x"), (HINTS_HEADER, encode_hints(hints))])
    assert decode_hints(cast(Record, record)) == hints


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{", b'{"a": 1}', b'{"1": null}', b"\xff"])
def test_hints_that_make_no_sense_are_none(garbage: bytes) -> None:
    assert decode_hints(cast(Record, Kept(0, b"", [(HINTS_HEADER, garbage)]))) == {}
