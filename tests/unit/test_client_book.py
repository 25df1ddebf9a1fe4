"""What a participant makes of its inbox: an honest operator is always believed, a dishonest one is found out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import lifecycle
from parley.book import Ahead, Book, Doubtful, Expired, Said
from parley.directory import Directory
from parley.envelope import MESSAGE_TYPE, message_id, seal
from parley.firehose import event_digest
from parley.identifiers import new_transaction_id
from parley.schemas import (
    Action,
    Ending,
    EventReference,
    FinishRule,
    FirehoseEvent,
    Hash,
    Head,
    Message,
    Party,
    Receipt,
    Terms,
    decode,
    decode_any,
    encode,
)
from tests.memory_backbone import START, MemoryBackbone
from tests.synthetic_ledger import signing_key

NAMES = ("alpha", "beta", "gamma")
MINUTE = 60_000


class Talk:
    """One transaction of three parties, spoken message by message to whomever the speaker chooses."""

    def __init__(self, rule: FinishRule = "ANY") -> None:
        self.backbone = MemoryBackbone(*NAMES)
        self.id = new_transaction_id(START)
        self.terms = Terms(
            "talk",
            tuple(Party(name, name) for name in NAMES),
            START + MINUTE,
            START + MINUTE,
            rule,
        )
        self.head: Head | None = None
        self.say("alpha", ("beta", "gamma"), "OPEN")

    def say(self, sender: str, to: tuple[str, ...], action: Action = "CONTINUE") -> None:
        head = self.head
        message = Message(
            self.id,
            0,
            0 if head is None else head.sequence + 1,
            None if head is None else head.message_id,
            sender,
            to,
            START,
            action,
            self.terms if head is None else None,
            "text/plain",
            b"",
            None,
            (),
        )
        envelope = seal(MESSAGE_TYPE, message, signing_key(sender))
        self.head = Head(message.sequence, message_id(envelope.payload))
        self.backbone.submit(0, self.id, encode(envelope))

    @property
    def outcome(self) -> str | None:
        return self.backbone.pipelines[0].states[self.id].outcome

    def book(self, name: str) -> Book:
        return Book(name, self.backbone.directory)

    def read(self, name: str) -> list[object]:
        book = self.book(name)
        return [book.read(record.value) for record in self.backbone.inboxes[name]]


OTHERS = {name: tuple(other for other in NAMES if other != name) for name in NAMES}
SAYINGS = st.sampled_from(NAMES).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.lists(st.sampled_from(OTHERS[name]), min_size=1, unique=True).map(tuple),
        st.sampled_from(["CONTINUE", "CONTINUE", "FINISH"]),
    )
)


@given(sayings=st.lists(SAYINGS, max_size=8), rule=st.sampled_from(["ANY", "ALL"]))
def test_an_honest_operator_is_believed_by_everybody_whoever_was_told_what(
    sayings: list[tuple[str, tuple[str, ...], Action]], rule: FinishRule
) -> None:
    talk = Talk(rule)
    for sender, to, action in sayings:
        if talk.outcome is None:
            talk.say(sender, to, action)
    if talk.outcome is None:
        talk.backbone.pass_time(MINUTE + 1)
    for name in NAMES:
        facts = talk.read(name)
        assert not [fact for fact in facts if isinstance(fact, Doubtful)]
        views = [fact.view for fact in facts if isinstance(fact, Said | Expired)]
        assert len(views) == len(facts)
        if talk.outcome == "TIMED_OUT":
            assert views[-1].transaction.outcome == "TIMED_OUT"
            assert views[-1].transaction.due == talk.backbone.pipelines[0].states[talk.id].due
        said = lifecycle.message_count(talk.backbone.pipelines[0].states[talk.id])
        seen = lifecycle.message_count(views[-1].transaction)
        if views[-1].transaction.outcome is not None:
            assert views[-1].whole is (seen == said)


def test_what_is_said_behind_ones_back_leaves_the_view_in_part() -> None:
    talk = Talk()
    talk.say("alpha", ("beta",))
    talk.say("beta", ("alpha", "gamma"))
    last = talk.read("gamma")[-1]
    assert isinstance(last, Said)
    assert not last.view.whole
    assert last.view.head.sequence == 2


def test_a_last_word_that_was_not_for_us_shows_in_the_timeout() -> None:
    talk = Talk()
    talk.say("alpha", ("beta",))
    talk.backbone.pass_time(MINUTE + 1)
    fact = talk.read("gamma")[-1]
    assert isinstance(fact, Expired)
    assert not fact.view.whole
    assert fact.view.transaction.due == ("beta",)


def test_a_repeated_receipt_of_an_ended_transaction_does_not_bring_it_back() -> None:
    talk = Talk()
    talk.say("beta", ("alpha",), "FINISH")
    book = talk.book("alpha")
    records = [record.value for record in talk.backbone.inboxes["alpha"]]
    for record in records:
        assert isinstance(book.read(record), Said)
    assert book.read(records[0]) is None


def test_a_receipt_without_its_event_tells_nothing() -> None:
    talk = Talk()
    record = decode(talk.backbone.inboxes["alpha"][0].value, Receipt)
    assert talk.book("alpha").read(encode(record._replace(event=None))) is None


def test_a_record_judged_by_a_later_directory_must_wait_for_it() -> None:
    talk = Talk()
    record = talk.backbone.inboxes["beta"][0].value
    behind = Book("beta", Directory(talk.backbone.registrar.public))
    assert behind.read(record) == Ahead(talk.backbone.directory.version)
    assert isinstance(behind.read(record, impatient=True), Doubtful)


def test_somebody_elses_receipt_is_not_ours() -> None:
    talk = Talk()
    fact = talk.book("beta").read(talk.backbone.inboxes["alpha"][0].value)
    assert isinstance(fact, Doubtful)
    assert "a message by alpha" in str(fact.error)


def test_a_receipt_for_other_bytes_than_were_sent_is_not_believed() -> None:
    talk = Talk()
    record = talk.backbone.inboxes["alpha"][0].value
    sent = {decode(record, Receipt).message_id: b"what was really sent"}
    book = Book("alpha", talk.backbone.directory, sent)
    fact = book.read(record)
    assert isinstance(fact, Doubtful)
    assert "byte by byte" in str(fact.error)
    assert fact.message_id == decode(record, Receipt).message_id


Change = Callable[[FirehoseEvent], FirehoseEvent]


def ended(event: FirehoseEvent) -> Ending:
    assert event.ended is not None
    return event.ended


LIES: dict[str, Change] = {
    "another party was due": lambda event: event._replace(ended=ended(event)._replace(waiting_on=("alpha",))),
    "the deadline had not passed": lambda event: event._replace(at=START + MINUTE),
    "a message is left out": lambda event: event._replace(
        ended=ended(event)._replace(events=ended(event).events[:-1])
    ),
    "a message is another": lambda event: event._replace(
        ended=ended(event)._replace(
            events=(ended(event).events[0]._replace(digest=Hash(bytes(32))), *ended(event).events[1:])
        )
    ),
    "it opened at another time": lambda event: event._replace(
        ended=ended(event)._replace(opened_at=START - 1)
    ),
    "it is of another kind": lambda event: event._replace(ended=ended(event)._replace(kind="other")),
    "it finished": lambda event: event._replace(ended=ended(event)._replace(outcome="FINISHED")),
    "nothing happened": lambda event: event._replace(ended=None),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_timeout_that_lies_is_found_out(lie: str) -> None:
    talk = Talk()
    talk.say("beta", ("alpha", "gamma"))
    talk.backbone.pass_time(MINUTE + 1)
    book = talk.book("gamma")
    *before, last = [record.value for record in talk.backbone.inboxes["gamma"]]
    for record in before:
        assert isinstance(book.read(record), Said)
    lying = encode(LIES[lie](decode(last, FirehoseEvent)))
    assert isinstance(book.read(lying), Doubtful)
    assert isinstance(book.read(last), Expired)


def test_an_ending_that_the_finish_rule_does_not_give_is_found_out() -> None:
    talk = Talk("ALL")
    talk.say("beta", ("alpha", "gamma"), "FINISH")
    book = talk.book("gamma")
    opening, finish = (record.value for record in talk.backbone.inboxes["gamma"])
    book.read(opening)
    event = decode(finish, FirehoseEvent)
    reference = EventReference(0, event_digest(opening))
    early = Ending("FINISHED", "talk", decode(opening, FirehoseEvent).at, (), (reference,))
    assert isinstance(book.read(encode(event._replace(ended=early))), Doubtful)
    assert isinstance(book.read(finish), Said)


def test_an_event_delivered_again_with_other_bytes_is_found_out() -> None:
    talk = Talk()
    book = talk.book("beta")
    opening = talk.backbone.inboxes["beta"][0].value
    assert isinstance(book.read(opening), Said)
    assert book.read(opening) is None
    other = decode(opening, FirehoseEvent)._replace(ingest_offset=99)
    fact = book.read(encode(other))
    assert isinstance(fact, Doubtful)
    assert "other bytes" in str(fact.error)


@given(junk=st.binary(max_size=200))
def test_junk_is_doubted(junk: bytes) -> None:
    assert isinstance(Book("alpha", Directory(signing_key("registrar").public)).read(junk), Doubtful)


def test_a_record_of_another_kind_does_not_belong_there() -> None:
    talk = Talk()
    record = talk.backbone.directory_records[0]
    assert type(decode_any(record)).__name__ == "DirectoryRecord"
    fact = talk.book("alpha").read(record)
    assert isinstance(fact, Doubtful)
    assert "does not belong" in str(fact.error)
