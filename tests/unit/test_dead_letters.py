"""A dead letter tells what came, where from and why, whatever a sender wrote into its headers, and whether it was put back."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.dead_letters import (
    REASON,
    REDRIVEN,
    DeadLetter,
    DeadLetters,
    Header,
    Mark,
    Origin,
    StoredRecord,
    read_record,
    write_mark,
)
from parley.schemas import Hash
from streams import metrics
from streams.dead_letter import Story, bury, failure
from streams.errors import PoisonError
from streams.handler import Headers

NAMES = st.one_of(
    st.sampled_from([REASON, "dead-letter.topic", "dead-letter.stack", REDRIVEN]), st.text(max_size=8)
)
HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=8) | st.none()), max_size=5)
ORIGIN = Origin("ingest", 2, 10, 1_700_000_000_000)


class Came:
    """A record as a service reads it."""

    def __init__(self, value: bytes = b"value", headers: Headers | None = None) -> None:
        self._value, self._headers = value, headers

    def topic(self) -> str:
        return ORIGIN.topic

    def partition(self) -> int:
        return ORIGIN.partition

    def offset(self) -> int:
        return ORIGIN.offset

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 1, ORIGIN.at

    def headers(self) -> Headers | None:
        return self._headers


def stored(record: Came, story: Story, number: int = 7) -> StoredRecord:
    """The record as it stands in the topic once it is buried."""
    _, _, key, value, headers = bury("dead-letter", "router-1", record, story)
    kept: list[Header] = [(name, text) for name, text in headers or () if not isinstance(text, str)]
    return StoredRecord(number, 5, key, value, tuple(kept))


def letter(record: Came, story: Story | None = None, number: int = 7) -> DeadLetter:
    found = read_record(stored(record, story or Story("E", "E: why"), number))
    assert isinstance(found, DeadLetter)
    return found


def marked(number: int, of: DeadLetter, at: int = 9) -> StoredRecord:
    mark = Mark(of.number, of.digest, "statement", "desk", at)
    return StoredRecord(number, at, b"7", None, tuple(write_mark(mark)))


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


@given(headers=HEADERS, value=st.binary(max_size=20), reason=st.text(max_size=30))
def test_a_letter_has_the_record_as_it_came_whatever_its_sender_wrote_into_it(
    headers: list[Header], value: bytes, reason: str
) -> None:
    told = letter(Came(value, list(headers)), Story("E", reason, destination="inbox.a"))
    assert told.headers == tuple(headers)
    assert (told.key, told.digest, told.size) == (b"key", sha256(value).digest(), len(value))
    assert (told.origin, told.service, told.error, told.destination) == (ORIGIN, "router-1", "E", "inbox.a")
    assert told.reason == reason.encode("utf-8", "replace").decode()
    assert told.stack is None


def test_reason_and_stack_are_bounded_and_the_stack_keeps_its_end() -> None:
    told = letter(Came(), failure(raised(ValueError("é" * 5_000 + "end"))))
    assert told.error == "ValueError"
    assert len(told.reason.encode()) <= 1_000
    assert told.stack is not None
    assert len(told.stack.encode()) <= 4_000
    assert told.stack.endswith("end\n")


def test_letters_are_counted_by_topic_and_kind_of_error_and_apart_where_they_had_been_put_back() -> None:
    counter = metrics.DEAD_LETTERS.labels("ingest", "PoisonError")
    again = metrics.DEAD_LETTERS_AGAIN.labels("ingest")
    before = counter._value.get(), again._value.get()
    letter(Came(), failure(PoisonError("no")))
    letter(Came(headers=[(REDRIVEN, b"3")]), failure(PoisonError("no")))
    assert (counter._value.get(), again._value.get()) == (before[0] + 2, before[1] + 1)


def test_a_letter_waits_until_it_is_marked_as_put_back() -> None:
    first, second = letter(Came(), number=1), letter(Came(), number=2)
    records = [stored(Came(), Story("E", "why"), n) for n in (1, 2)]
    assert list(DeadLetters(records).waiting()) == [
        first._replace(reason="why"),
        second._replace(reason="why"),
    ]
    found = DeadLetters([*records, marked(3, first)])
    assert [each.number for each in found.waiting()] == [2]
    assert found.marks(1) == [Mark(1, first.digest, "statement", "desk", 9)]


def test_a_letter_that_came_back_names_the_one_that_it_was() -> None:
    was = stored(Came(), Story("E", "why"), 1)
    back = stored(Came(headers=[(REDRIVEN, b"1")]), Story("E", "why"), 3)
    found = DeadLetters([was, marked(2, letter(Came(), number=1)), back])
    assert found.before(found[3]) == 1
    assert found.before(found[1]) is None


@pytest.mark.parametrize("claim", [b"1", b"3", b"9", b"x", b"", b"9" * 30])
def test_that_a_record_claims_to_have_been_put_back_counts_for_nothing(claim: bytes) -> None:
    forged = stored(Came(b"another", [(REDRIVEN, claim)]), Story("E", "why"), 3)
    found = DeadLetters([stored(Came(), Story("E", "why"), 1), marked(2, letter(Came(), number=1)), forged])
    assert found.before(found[3]) is None


@given(headers=HEADERS, value=st.binary(max_size=5) | st.none())
def test_what_is_neither_letter_nor_mark_is_passed_over(headers: list[Header], value: bytes | None) -> None:
    others = tuple((name, text) for name, text in headers if name != REASON)
    assert read_record(StoredRecord(0, 0, None, value, others)) is None


def test_a_letter_that_does_not_say_where_it_came_from_has_no_origin() -> None:
    old = StoredRecord(0, 0, None, b"v", ((REASON, b"UNKNOWN: no such topic"), ("dead-letter.topic", b"x")))
    found = read_record(old)
    assert isinstance(found, DeadLetter)
    assert found.origin is None
    assert found.error == "UNKNOWN"
    assert found.digest == Hash(sha256(b"v").digest())
