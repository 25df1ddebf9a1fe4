"""What may be put back from the dead letters, and what a redrive says of itself."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.cli import main
from parley.dead_letters import (
    REASON,
    REDRIVEN,
    DeadLetter,
    DeadLetters,
    Header,
    Mark,
    StoredRecord,
    read_record,
    write_mark,
)
from parley.errors import MalformedError, RedriveError
from parley.redrive import (
    MAXIMUM_BYTES,
    MAXIMUM_LETTERS,
    REDRIVE_TYPE,
    REDRIVEN_TYPE,
    SOUND,
    fitting,
    headers_back,
    read_redrive,
    redrive_fault,
    target_of,
    told,
    told_in_words,
)
from parley.schemas import Hash, Message, Redrive, Redriven, RedrivenLetter, encode
from streams.catalogue import TOPICS, Role
from tests.dialogue import Dialogue


def stored(number: int, topic: str = "ingest", *own: Header, value: bytes = b"value") -> StoredRecord:
    story = {
        REASON: "PoisonError: why",
        "dead-letter.error": "PoisonError",
        "dead-letter.service": "router-1",
        "dead-letter.topic": topic,
        "dead-letter.partition": "2",
        "dead-letter.offset": "10",
        "dead-letter.timestamp": "77",
    }
    headers = (*own, *((name, text.encode()) for name, text in story.items()))
    return StoredRecord(number, 99, b"key", value, headers)


def marked(number: int, letter: int, value: bytes = b"value") -> StoredRecord:
    mark = Mark(letter, Hash(sha256(value).digest()), "statement", "desk", 0)
    return StoredRecord(number, 100, None, None, tuple(write_mark(mark)))


def message(content: bytes, content_type: str) -> Message:
    dialogue = Dialogue.between("desk", "watchdog", opened_at=0)
    return dialogue.message("desk", content=content)._replace(content_type=content_type)


def statement(*numbers: int, reason: str = "the defect is mended") -> Redrive:
    letters = DeadLetters(stored(number) for number in numbers)
    return Redrive(tuple(target_of(number, letters) for number in numbers), reason, again=False, at=5)


@pytest.mark.parametrize("topic", sorted(SOUND))
def test_a_letter_goes_back_to_where_it_came_from(topic: str) -> None:
    target = target_of(4, DeadLetters([stored(4, topic)]))
    assert (target.letter, target.topic, target.partition, target.offset, target.at) == (4, topic, 2, 10, 77)
    assert (target.digest, target.error) == (sha256(b"value").digest(), "PoisonError")


@pytest.mark.parametrize(
    "topic", [*sorted({topic.name for topic in TOPICS} - SOUND.keys()), "inbox.bank", "x"]
)
def test_nothing_goes_back_to_a_topic_whose_readers_rely_on_every_record(topic: str) -> None:
    with pytest.raises(RedriveError, match=f"came from {topic}, where others rely on"):
        target_of(4, DeadLetters([stored(4, topic)]), again=True)


def test_only_topics_that_a_service_judges_anew_are_sound() -> None:
    writable = {topic.name for topic in TOPICS if Role.OPERATOR in topic.written_by}
    assert writable == {*SOUND, "dead-letter"}


def test_there_must_be_such_a_letter_and_it_must_say_where_it_came_from() -> None:
    silent = StoredRecord(4, 0, None, b"value", ((REASON, b"UNKNOWN: missing"),))
    with pytest.raises(RedriveError, match="does not say where it came from"):
        target_of(4, DeadLetters([silent]))
    with pytest.raises(RedriveError, match="there is no dead letter 5"):
        target_of(5, DeadLetters([stored(4), marked(5, 4)]))


def test_a_letter_goes_back_once_unless_that_is_meant() -> None:
    letters = DeadLetters([stored(4), marked(5, 4)])
    with pytest.raises(
        RedriveError, match=r"put back before, by desk \(transaction statement\); if .* --again"
    ):
        target_of(4, letters)
    assert target_of(4, letters, again=True).letter == 4


def test_a_letter_that_came_back_goes_back_only_where_that_is_meant() -> None:
    letters = DeadLetters([stored(4), marked(5, 4), stored(6, "ingest", (REDRIVEN, b"4"))])
    with pytest.raises(RedriveError, match="dead letter 6 is letter 4, which was put back and has come here"):
        target_of(6, letters)
    assert target_of(6, letters, again=True).letter == 6


def test_that_a_sender_claims_its_record_was_put_back_hinders_nobody() -> None:
    forged = DeadLetters(
        [stored(4, value=b"another"), marked(5, 4, b"another"), stored(6, "ingest", (REDRIVEN, b"4"))]
    )
    assert target_of(6, forged).letter == 6


@given(own=st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5) | st.none()), max_size=4))
def test_a_record_goes_back_with_its_headers_and_the_letter_that_it_was(own: list[Header]) -> None:
    first = read_record(stored(4, "ingest", *own))
    assert isinstance(first, DeadLetter)
    back = headers_back(first)
    assert back == [*own, (REDRIVEN, b"4")]
    second = read_record(stored(9, "ingest", *back))
    assert isinstance(second, DeadLetter)
    assert headers_back(second) == [*own, (REDRIVEN, b"9")], "and of an earlier time nothing is left"


def test_a_redrive_is_read_from_the_record_by_programs_and_people() -> None:
    opening = message(encode(statement(4, 6)), REDRIVE_TYPE)
    assert read_redrive(opening) == statement(4, 6)
    rows = told(opening)["redrives"]
    assert isinstance(rows, list)
    assert [row["letter"] for row in rows] == [4, 6]
    assert rows[0]["digest"] == sha256(b"value").hexdigest()
    words = told_in_words(opening) or ""
    assert words.startswith(
        "puts back, because the defect is mended: dead letters 4 (ingest/2 offset 10, SHA-256 "
    )
    done = message(encode(Redriven((RedrivenLetter(4, 11),))), REDRIVEN_TYPE)
    assert told(done) == {"redriven": [{"letter": 4, "offset": 11}]}
    assert told_in_words(done) == "put back: 4 at offset 11"
    assert told_in_words(message(encode(Redriven(())), REDRIVEN_TYPE)) == "nothing was put back"


def test_a_message_about_something_else_tells_of_no_redrive() -> None:
    other = message(b"hello", "text/plain")
    assert (read_redrive(other), told(other), told_in_words(other)) == (None, {}, None)


@pytest.mark.parametrize(
    ("redrive", "fault"),
    [
        (statement(4, reason=" "), "its reason is not one line"),
        (statement(4, reason="a\nb"), "its reason is not one line"),
        (statement(4, reason="x" * 1_001), "its reason is not one line"),
        (statement(4)._replace(targets=()), "names 0 letters, and may name 1 to"),
        (statement(*range(MAXIMUM_LETTERS + 1)), "and may name 1 to"),
        (statement(4)._replace(targets=statement(4).targets * 2), "names a letter twice"),
        (
            statement(4)._replace(targets=(statement(4).targets[0]._replace(topic="firehose"),)),
            "nothing may be put back to firehose",
        ),
    ],
)
def test_a_redrive_that_cannot_be_stated_says_why(redrive: Redrive, fault: str) -> None:
    assert fault in (redrive_fault(redrive) or "")
    with pytest.raises(MalformedError, match="a redrive that does not count"):
        read_redrive(message(encode(redrive), REDRIVE_TYPE))


def test_what_claims_to_be_a_redrive_and_is_not_readable_is_told_as_that() -> None:
    broken = message(b"nonsense", REDRIVE_TYPE)
    assert told(broken).keys() == {"redrive_fault"}
    assert told_in_words(broken)


def test_all_that_wait_go_back_as_far_as_they_fit_and_the_first_one_always_does() -> None:
    many = list(DeadLetters(stored(number) for number in range(MAXIMUM_LETTERS + 5)))
    assert fitting(many) == list(range(MAXIMUM_LETTERS))
    large = [letter._replace(size=MAXIMUM_BYTES // 2) for letter in many]
    assert fitting(large) == [0, 1]
    assert fitting([many[0]._replace(size=MAXIMUM_BYTES + 1), many[1]]) == [0]
    assert fitting([]) == []


@pytest.mark.parametrize("which", [[], ["4", "--all"], ["4", "--topic", "ingest"], ["--topic", "ingest"]])
def test_a_redrive_without_knowing_which_letters_is_no_command(which: list[str]) -> None:
    assert main(["operator", "dead-letter", "redrive", *which, "--with", "watchdog", "--reason", "why"]) == 2
