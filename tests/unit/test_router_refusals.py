"""Bad input, one kind at a time: one reason, told to nobody but a proven sender, and for the rest as if it had never come."""

from __future__ import annotations

import pytest

from parley.directory import HeldKey
from parley.envelope import MESSAGE_TYPE
from parley.keys import key_id
from parley.lifecycle import head_of
from parley.schemas import Envelope, Message, Rejection, Signature, decode, encode
from router.core import Limits
from tests.bad_records import BAD_RECORDS, SMALL_ORDER, BadRecord
from tests.dialogue import Dialogue, sealed
from tests.memory_router import MemoryRouter, facts, members

START = 1_800_000_000_000
MEMBERS = members("alice", "bob", "mallory")


def negotiate(bad: bytes | None, at: int, dialogue: Dialogue, router: MemoryRouter) -> None:
    """A dialogue of four messages with something else after the second; nothing else where that is ``None``."""
    router.append(dialogue.say("alice"), START)
    router.append(dialogue.say("bob"), START + 1)
    router.append(bad, at)
    router.append(dialogue.say("alice"), at)
    router.append(dialogue.say("bob", "FINISH"), at + 1)
    router.step()


def dialogue() -> Dialogue:
    return Dialogue.between("alice", "bob", opened_at=START)


def second_message(of: Dialogue) -> Dialogue:
    """The dialogue after its second message, whose records nobody needs."""
    of.say("alice")
    of.say("bob")
    return of


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
def test_a_bad_record_gets_one_reason_and_changes_nothing_else(bad: BadRecord) -> None:
    now = START + 2
    record = bad.make(second_message(dialogue()), now)
    met, spared = MemoryRouter(MEMBERS), MemoryRouter(MEMBERS)
    negotiate(record, now, dialogue(), met)
    negotiate(None, now, dialogue(), spared)

    (rejection,) = met.rejections()
    assert (rejection.reason, rejection.retriable) == (bad.reason, bad.retriable)
    assert (rejection.pipeline, rejection.ingest_offset, rejection.at) == (0, 2, now)
    assert rejection.directory_version == MEMBERS.version
    assert rejection.sender == bad.told, "only a signature proves a sender"
    assert 0 < len(rejection.detail) < 400

    told = [(address, value) for address, value in met.deliveries() if isinstance(value, Rejection)]
    assert told == ([] if bad.told is None else [(bad.told, rejection)])

    assert met.firehose() == spared.firehose()
    assert len(met.firehose()) == 4
    assert met.events()[-1].ended is not None
    assert met.transactions() == spared.transactions()
    assert met.position() == spared.position()
    others = [(to, facts(value)) for to, value in met.deliveries() if not isinstance(value, Rejection)]
    assert others == [(to, facts(value)) for to, value in spared.deliveries()]
    assert spared.rejections() == []


@pytest.mark.parametrize("length", range(1, len(sealed(dialogue().message("alice"))), 7))
def test_an_envelope_cut_anywhere_is_malformed(length: int) -> None:
    router = MemoryRouter(MEMBERS)
    router.append(sealed(dialogue().message("alice"))[:length], START)
    router.step()
    (rejection,) = router.rejections()
    assert rejection.reason == "MALFORMED"
    assert router.firehose() == []


def test_a_sequence_conflict_tells_the_head() -> None:
    router = MemoryRouter(MEMBERS)
    of = dialogue()
    router.append(of.say("alice"), START)
    slow = of.message("bob", content=b"the slower of two")
    router.append(of.say("bob", content=b"the faster of two"), START)
    router.append(sealed(slow), START)
    router.step()
    (rejection,) = router.rejections()
    assert rejection.reason == "SEQUENCE_CONFLICT"
    assert rejection.head == head_of(router.transactions()[of.id])
    assert rejection.head is not None
    assert rejection.head == (1, of.previous)


def test_a_wrong_pipeline_is_told_which_is_right() -> None:
    router = MemoryRouter(MEMBERS, pipelines=2)
    of = Dialogue.between("alice", "bob", opened_at=START, pipeline=1)
    opening = of.say("alice")
    router.append(opening, START, pipeline=0)
    router.append(opening, START, pipeline=1)
    router.step()
    (rejection,) = router.rejections()
    assert (rejection.reason, rejection.pipeline) == ("WRONG_PIPELINE", 0)
    assert "signed for 1" in rejection.detail
    assert router.firehose(0) == []
    assert len(router.firehose(1)) == 1


@pytest.mark.parametrize(
    ("end", "reason"), [("FINISH", "CLOSED"), ("deadline", "DEADLINE_PASSED")], ids=["finished", "timed out"]
)
def test_a_message_after_the_end_is_refused_with_how_it_ended(end: str, reason: str) -> None:
    router = MemoryRouter(MEMBERS)
    of = dialogue()
    router.append(of.say("alice"), START)
    at = START + 1
    if end == "FINISH":
        router.append(of.say("bob", "FINISH"), at)
    else:
        at = of.terms.deadline + 1
    before = of.message("alice" if end == "FINISH" else "bob")
    router.append(sealed(before), at)
    router.append(sealed(before._replace(sender="mallory")), at)
    router.step()
    assert [(each.reason, each.sender) for each in router.rejections()] == [
        (reason, before.sender),
        ("NOT_A_PARTY", "mallory"),
    ]
    assert len(router.firehose()) == 2


def test_a_replayed_opening_never_opens_twice() -> None:
    """While remembered it is a duplicate; when it is forgotten, it does not count any more."""
    router = MemoryRouter(MEMBERS, Limits(remembered=0))
    of = dialogue()
    opening = of.say("alice")
    router.append(opening, START)
    router.append(of.say("bob", "FINISH"), START + 1)
    for at in (START + 2, of.terms.open_until, of.terms.open_until + 1, of.terms.deadline + 1):
        router.append(opening, at)
        router.step()
    assert len(router.firehose()) == 2
    assert [rejection.reason for rejection in router.rejections()] == ["OPENING_EXPIRED"] * 2
    assert router.transactions() == {}


def test_a_small_order_key_proves_nothing_even_if_it_stood_in_the_directory() -> None:
    directory = members("alice", "bob")
    directory._speakers[key_id(SMALL_ORDER)] = HeldKey("alice", SMALL_ORDER, signs=True, since=1)
    router = MemoryRouter(directory)
    for content in range(16):  # such a signature holds for about every second message where it is not refused
        payload = encode(dialogue().message("alice", content=bytes([content])))
        forged = Signature(key_id(SMALL_ORDER), SMALL_ORDER + bytes(32))
        router.append(encode(Envelope(MESSAGE_TYPE, payload, (forged,))), START)
    router.step()
    assert [rejection.reason for rejection in router.rejections()] == ["BAD_SIGNATURE"] * 16


def test_a_transaction_with_as_many_messages_as_allowed_takes_no_more() -> None:
    router = MemoryRouter(MEMBERS, Limits(messages=3))
    of = dialogue()
    for sender in ("alice", "bob", "alice", "bob"):
        router.append(of.say(sender), START)
    router.step()
    (rejection,) = router.rejections()
    assert (rejection.reason, rejection.sender) == ("TOO_LARGE", "bob")
    assert len(router.firehose()) == 3


def test_a_transaction_that_is_full_can_still_be_finished() -> None:
    router = MemoryRouter(MEMBERS, Limits(messages=3))
    of = dialogue()
    for sender in ("alice", "bob", "alice"):
        router.append(of.say(sender), START)
    router.append(of.say("bob", "FINISH"), START)
    router.step()
    assert router.rejections() == []
    assert [event.ended is not None for event in router.events()] == [False, False, False, True]


def test_a_message_whose_copies_are_too_large_is_refused() -> None:
    message = dialogue().message("alice", content=bytes(1_000), recipients=("bob", "alice"))
    router = MemoryRouter(MEMBERS, Limits(delivered_bytes=2 * len(sealed(message)) - 1))
    router.append(sealed(message), START)
    router.append(sealed(message._replace(recipients=("bob",))), START)
    router.step()
    assert [rejection.reason for rejection in router.rejections()] == ["TOO_LARGE"]
    assert len(router.firehose()) == 1


def test_the_size_limit_counts_the_whole_record() -> None:
    fits = sealed(dialogue().message("alice", content=bytes(1_000)))
    router = MemoryRouter(MEMBERS, Limits(record_bytes=len(fits)))
    router.append(sealed(dialogue().message("alice", content=bytes(1_001))), START)
    router.append(fits, START)
    router.step()
    assert [rejection.reason for rejection in router.rejections()] == ["TOO_LARGE"]
    assert len(router.firehose()) == 1


def test_bad_records_among_good_ones_are_judged_each_by_itself() -> None:
    """One batch of them all: what one is refused for is never another's."""
    router = MemoryRouter(MEMBERS)
    of = second_message(dialogue())
    opened = dialogue()
    router.append(opened.say("alice"), START)
    router.append(opened.say("bob"), START + 1)
    expected = []
    for name, bad in BAD_RECORDS.items():
        router.append(bad.make(of, START + 2), START + 2)
        router.append(sealed(another(name).message("alice")), START + 2)
        expected.append(bad.reason)
    router.step()
    assert [rejection.reason for rejection in router.rejections()] == expected
    assert len(router.firehose()) == 2 + len(expected)


def another(name: str) -> Dialogue:
    return Dialogue.between("alice", "bob", opened_at=START, seed=name)


def test_the_firehose_holds_the_bytes_as_they_came() -> None:
    router = MemoryRouter(MEMBERS)
    record = sealed(dialogue().message("alice"))
    router.append(record, START)
    router.step()
    (event,) = router.events()
    assert event.envelope == record
    assert isinstance(decode(decode(record, Envelope).payload, Message), Message)
