"""The projection's rows: what records become, where a batch may be cut, and what ends it."""

from __future__ import annotations

import json
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core import MAXIMUM_DEPTH, Batch, Place, Positions, Read, project
from gateway.errors import ProjectionError
from gateway.rows import EndingRow, OpeningRow, PurgeRow, RevocationRow
from parley.envelope import MESSAGE_TYPE, seal
from parley.errors import FirehoseError, VerificationError
from parley.firehose import Position
from parley.schemas import (
    ZERO_HASH,
    Encryption,
    Envelope,
    FirehoseEvent,
    Hash,
    Message,
    MessageId,
    Rejection,
    decode,
    encode,
)
from streams.catalogue import ANCHORS, BLOCKS, DIRECTORY, FIREHOSE, REJECTED
from tests.fix_ledger import SealedLedger
from tests.purging import admit_operator, state, target
from tests.synthetic_ledger import HOUR, Deal, Ledger, signing_key


class TradingLedger(Ledger):
    """A ledger on which everything said is declared as JSON."""

    content_type = "application/json"


@pytest.fixture
def ledger() -> TradingLedger:
    return TradingLedger()


def reads(topic: str, records: list[bytes], partition: int = 0) -> list[Read]:
    """As if written in transactions: offsets are not dense."""
    return [Read(topic, partition, 2 * index, record) for index, record in enumerate(records)]


def events(ledger: Ledger) -> list[Read]:
    return [
        read
        for pipeline, records in enumerate(ledger.firehose)
        for read in reads(FIREHOSE, records, pipeline)
    ]


def content_of(ledger: Ledger, deal: Deal) -> str | None:
    """What is projected of the last message's content."""
    batch = project({}, events(ledger))
    return [row for row in batch.rows.messages if row.transaction_id.bytes == deal.id][-1].content


def test_a_trade_is_an_opening_an_ending_and_its_messages(ledger: TradingLedger) -> None:
    began = ledger.now
    deal = ledger.trade(1)
    rows = project({}, events(ledger)).rows
    identity = UUID(bytes=deal.id)
    assert rows.openings == [
        OpeningRow(1, 0, identity, "dvp", ["bank-0", "bank-1"], began + 1, began + HOUR, began + HOUR, "ANY")
    ]
    assert rows.endings == [EndingRow(1, 0, 3, "FINISHED", ledger.now, [])]
    assert [(row.position, row.sequence, row.action) for row in rows.messages] == [
        (0, 0, "OPEN"),
        (1, 1, "CONTINUE"),
        (2, 2, "CONTINUE"),
        (3, 3, "FINISH"),
    ]
    assert {row.transaction_id for row in rows.messages} == {identity}
    assert rows.messages[1].recipients == ["bank-0"]


def test_a_rotation_is_the_participants_new_row_and_a_revocation_one_of_its_own(
    ledger: TradingLedger,
) -> None:
    newer = signing_key("bank-0's newer key")
    ledger.rotate("bank-0", [newer], signing_key("bank-0"))
    ledger.revoke("bank-0", newer)
    rows = project({}, reads(DIRECTORY, ledger.directory_records)).rows
    assert [(row.participant, row.version) for row in rows.participants][-1] == ("bank-0", 5)
    assert rows.participants[-1].signing_keys == [newer.public]
    assert rows.revocations == [RevocationRow(6, "bank-0", newer.id, "COMPROMISED", ledger.now)]


def test_a_timeout_is_an_ending_that_names_who_was_due_and_no_message(ledger: TradingLedger) -> None:
    ledger.open().expire()
    rows = project({}, events(ledger)).rows
    assert rows.endings == [EndingRow(0, 0, 1, "TIMED_OUT", ledger.now, ["bank-1"])]
    assert len(rows.messages) == 1


def test_an_id_that_is_opened_twice_is_two_transactions(ledger: TradingLedger) -> None:
    first = ledger.open(0)
    second = Deal(ledger, first.id, 1, first.terms)
    second.say("bank-0", "OPEN", b"{}")
    second.say("bank-1", "FINISH")
    rows = project({}, events(ledger)).rows
    assert [(row.pipeline, row.opening) for row in rows.openings] == [(0, 0), (1, 0)]
    assert [(row.pipeline, row.opening) for row in rows.endings] == [(1, 0)]


def test_an_ending_belongs_to_its_own_opening_among_others(ledger: TradingLedger) -> None:
    ledger.open()
    deal = ledger.open()
    ledger.open()
    deal.say("bank-1", "FINISH")
    assert [row.opening for row in project({}, events(ledger)).rows.endings] == [1]


def test_sealed_content_is_not_in_the_rows(ledger: TradingLedger) -> None:
    ledger.trade()
    event = decode(ledger.firehose[0][0], FirehoseEvent)
    assert event.envelope is not None
    message = decode(decode(event.envelope, Envelope).payload, Message)
    sealed = message._replace(
        content=b'{"isin": 1}', encryption=Encryption("XChaCha20-Poly1305", bytes(24), ())
    )
    envelope = encode(seal(MESSAGE_TYPE, sealed, signing_key("bank-0")))
    record = encode(event._replace(envelope=envelope))
    (row,) = project({}, [Read(FIREHOSE, 0, 0, record)]).rows.messages
    assert (row.sealed, row.content, row.content_bytes) == (True, None, 11)


json_values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_values, st.integers(0, MAXIMUM_DEPTH - 30))
def test_clear_json_is_kept_as_it_was_said(value: object, nested: int) -> None:
    for _ in range(nested):
        value = [value]
    text = json.dumps(value, ensure_ascii=False)
    ledger = TradingLedger(banks=2, pipelines=1)
    assert content_of(ledger, ledger.open(content=text.encode())) == text


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b'"\0"',
        b"[" * (MAXIMUM_DEPTH + 1),
        b'["]]]]", ' * (MAXIMUM_DEPTH + 1),
        b'{"\\"}": ' * (MAXIMUM_DEPTH + 1),
    ],
)
def test_content_that_the_database_cannot_take_is_left_out(ledger: TradingLedger, content: bytes) -> None:
    assert content_of(ledger, ledger.open(content=content)) is None


@pytest.mark.parametrize("content", [b"[]" * 10_000, b'"' + b"[" * 10_000 + b'"', b'"' + b'\\"[' * 100_000])
def test_brackets_side_by_side_or_within_a_string_are_not_depth(
    ledger: TradingLedger, content: bytes
) -> None:
    assert content_of(ledger, ledger.open(content=content)) == content.decode()


def test_content_that_does_not_say_it_is_json_is_left_out(ledger: TradingLedger) -> None:
    ledger.content_type = "text/plain"
    assert content_of(ledger, ledger.open(content=b"{}")) is None


def test_no_text_holds_a_nul(ledger: TradingLedger) -> None:
    ledger.content_type = "text/\0"
    ledger.trade()
    rejection = Rejection(0, 7, 1, 1, MessageId(bytes(32)), None, None, "MALFORMED", False, "a\0b", None)
    rows = project({}, [*events(ledger), *reads(REJECTED, [encode(rejection)])]).rows
    assert rows.messages[0].content_type == "text/\N{REPLACEMENT CHARACTER}"
    assert rows.rejections[0].detail == "a\N{REPLACEMENT CHARACTER}b"


# Where a batch may be cut -----------------------------------------------------------------------------------------------


def everything(busy: SealedLedger) -> list[Read]:
    return [
        *reads(DIRECTORY, busy.ledger.directory_records),
        *reads(BLOCKS, busy.headers),
        *events(busy.ledger),
    ]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(0, 200), max_size=20))
def test_the_rows_are_the_same_wherever_the_batches_are_cut(busy: SealedLedger, cuts: list[int]) -> None:
    records = everything(busy)
    whole = project({}, records)
    positions: dict[Place, Position] = {}
    parts: list[Batch] = []
    places = sorted({0, len(records), *(cut % len(records) for cut in cuts)})
    for start, end in pairwise(places):
        parts.append(project(positions, records[start:end]))
        positions |= parts[-1].positions
    assert positions == whole.positions
    for name, rows in whole.rows.named():
        assert [row for part in parts for row in dict(part.rows.named())[name]] == rows


def test_positions_are_the_last_blocks_cuts(busy: SealedLedger) -> None:
    batch = project({}, everything(busy))
    last = batch.rows.blocks[-1]
    for cut in [cut for cut in batch.rows.cuts if cut.height == last.height]:
        assert batch.positions[FIREHOSE, cut.pipeline][:2] == (cut.sequence + 1, cut.chain)
    assert batch.positions[BLOCKS, 0][:2] == (last.height + 1, last.hash)


# What ends it -----------------------------------------------------------------------------------------------------------


def event_in(record: Read) -> FirehoseEvent:
    return decode(record.value, FirehoseEvent)


def altered(record: Read, event: FirehoseEvent) -> Read:
    """The record with another event in it."""
    return record._replace(value=encode(event))


def test_a_gap_in_the_firehose_is_told(ledger: TradingLedger) -> None:
    ledger.trade()
    first, _, *rest = events(ledger)
    with pytest.raises(FirehoseError, match="events 1 to 1 are missing"):
        project({}, [first, *rest])


def test_a_changed_event_is_told_by_the_next(ledger: TradingLedger) -> None:
    ledger.trade()
    first, *rest = events(ledger)
    with pytest.raises(FirehoseError, match="another history"):
        project({}, [altered(first, event_in(first)._replace(at=0)), *rest])


def test_an_event_that_comes_again_is_another_history(ledger: TradingLedger) -> None:
    ledger.trade()
    records = events(ledger)
    with pytest.raises(ProjectionError, match="firehose/0, offset 2 repeats an event"):
        project(project({}, records).positions, records[1:])


def test_an_event_on_another_pipelines_partition_is_told(ledger: TradingLedger) -> None:
    ledger.trade(1)
    record = events(ledger)[0]._replace(partition=0)
    with pytest.raises(ProjectionError, match="firehose/0, offset 0 holds an event of pipeline 1"):
        project({}, [record])


def test_an_event_without_its_message_is_told(ledger: TradingLedger) -> None:
    ledger.trade()
    (first, *_) = events(ledger)
    with pytest.raises(VerificationError, match="carries something else than a message"):
        project({}, [altered(first, event_in(first)._replace(envelope=b"nonsense"))])


def test_an_ending_of_nothing_is_told(ledger: TradingLedger) -> None:
    ledger.open().expire()
    first, last = events(ledger)
    event = event_in(last)
    assert event.ended is not None
    of_nothing = event._replace(ended=event.ended._replace(events=()))
    with pytest.raises(ProjectionError, match="ends a transaction that nothing opened"):
        project({}, [first, altered(last, of_nothing)])


@pytest.mark.parametrize("topic", [DIRECTORY, BLOCKS])
def test_a_gap_in_directory_or_blocks_is_told(busy: SealedLedger, topic: str) -> None:
    records = [read for read in everything(busy) if read.topic == topic]
    with pytest.raises(ProjectionError, match=f"{topic}: record . does not follow"):
        project({}, [records[0], *records[2:]])


@pytest.mark.parametrize("topic", [DIRECTORY, BLOCKS])
def test_another_history_of_directory_or_blocks_is_told(busy: SealedLedger, topic: str) -> None:
    first, second, *_ = [read for read in everything(busy) if read.topic == topic]
    (position,) = project({}, [first]).positions.values()
    other: Positions = {(topic, 0): position._replace(chain=Hash(bytes([1]) * 32))}
    assert project({(topic, 0): position}, [second])
    with pytest.raises(ProjectionError, match="keep both as evidence"):
        project(other, [second])


@pytest.mark.parametrize("topic", [FIREHOSE, DIRECTORY, BLOCKS, REJECTED, ANCHORS])
def test_what_is_no_record_of_its_topic_is_told_with_its_place(topic: str) -> None:
    with pytest.raises(ProjectionError, match=f"{topic}/0, offset 12 holds what that topic never does"):
        project({(topic, 0): Position(0, ZERO_HASH, 12)}, [Read(topic, 0, 12, b"nonsense")])


class TestAnErasure:
    @pytest.fixture
    def made(self, sealed: SealedLedger) -> SealedLedger:
        admit_operator(sealed)
        sealed.ledger.trade(0)
        sealed.seal()
        return sealed

    def test_names_the_messages_whose_content_goes(self, made: SealedLedger) -> None:
        deal = made.ledger.trade(0)
        made.seal()
        state(made, target(made, deal, 1, 3))
        batch = project({}, events(made.ledger))
        assert batch.rows.purges == [PurgeRow(0, 5, 1, 0), PurgeRow(0, 7, 1, 0)]

    @pytest.mark.parametrize(
        "changes", [{"content": b"nothing"}, {"content_type": "text/plain"}, {"kind": "agreement"}]
    )
    def test_that_makes_no_statement_names_nothing_and_stops_nothing(
        self, made: SealedLedger, changes: dict[str, object]
    ) -> None:
        deal = made.ledger.trade(0)
        made.seal()
        state(made, target(made, deal), **changes)  # type: ignore[arg-type]
        assert project({}, events(made.ledger)).rows.purges == []
