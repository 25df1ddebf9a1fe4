"""Which inbox records count as new, and what may be acknowledged, whatever is repeated and in whatever order it is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.acknowledgement import Acknowledgements, Arrival
from parley.errors import TransportError
from parley.transport import Delivery, InboxRecord, Standing

FRESH = Standing(0, "")


def inbox(*places: int, partition: int = 0) -> list[InboxRecord]:
    return [InboxRecord(offset, Delivery(partition, place), b"record") for offset, place in enumerate(places)]


@st.composite
def rewritten_inboxes(draw: st.DrawFn) -> list[InboxRecord]:
    """What the delivery stage writes when it starts over from earlier places now and then."""
    records: list[InboxRecord] = []
    heads = [0, 0]
    for _ in range(draw(st.integers(0, 30))):
        partition = draw(st.integers(0, 1))
        back = draw(st.integers(0, min(3, heads[partition])))
        start = heads[partition] - back
        for place in range(start, start + back + draw(st.integers(0, 2))):
            records.append(InboxRecord(len(records), Delivery(partition, place), b""))
            heads[partition] = max(heads[partition], place + 1)
    return records


@given(records=rewritten_inboxes())
def test_every_delivery_is_new_once_and_in_order(records: list[InboxRecord]) -> None:
    acknowledgements = Acknowledgements(FRESH)
    new = [record.delivery for record in records if acknowledgements.arrived(record) is not Arrival.REPEATED]
    for partition in (0, 1):
        places = [delivery.offset for delivery in new if delivery and delivery.partition == partition]
        assert places == list(range(len(places)))


@given(records=rewritten_inboxes(), data=st.data())
def test_over_any_number_of_lives_everything_is_offered_until_it_is_taken_and_never_after(
    records: list[InboxRecord], data: st.DataObject
) -> None:
    standing, taken = FRESH, list[Delivery]()
    for _ in range(data.draw(st.integers(1, 4))):
        acknowledgements = Acknowledgements(standing)
        offered: list[InboxRecord] = []
        written = data.draw(st.integers(standing.position, len(records)))
        for record in records[:written]:
            if acknowledgements.arrived(record) is Arrival.NEW:
                acknowledgements.offered(record.offset)
                offered.append(record)
        for record in offered:
            assert record.delivery is not None
            if data.draw(st.booleans()):
                acknowledgements.taken(record.offset)
                taken.append(record.delivery)
        standing = acknowledgements.advance() or standing
    # The last life takes everything: all has been taken, and only what was not acknowledged more than once.
    acknowledgements = Acknowledgements(standing)
    for record in records:
        if acknowledgements.arrived(record) is Arrival.NEW:
            assert record.delivery is not None
            assert record.offset >= standing.position
            taken.append(record.delivery)
    assert set(taken) == {record.delivery for record in records}


def test_the_position_waits_for_the_first_record_that_is_not_taken() -> None:
    acknowledgements = Acknowledgements(FRESH)
    for record in inbox(0, 1, 2):
        acknowledgements.arrived(record)
        acknowledgements.offered(record.offset)
    acknowledgements.taken(2)
    assert acknowledgements.advance() is None
    acknowledgements.taken(0)
    assert acknowledgements.advance() == Standing(1, "0:0")
    acknowledgements.taken(1)
    assert acknowledgements.advance() == Standing(3, "0:2")


def test_a_record_that_is_not_offered_counts_as_taken() -> None:
    acknowledgements = Acknowledgements(FRESH)
    acknowledgements.arrived(inbox(7)[0])
    assert acknowledgements.advance() == Standing(1, "0:7")


def test_a_repeat_after_the_replay_is_known_from_the_note_alone() -> None:
    """What the note's records were written as is no longer kept; only the note remembers them."""
    acknowledgements = Acknowledgements(Standing(10, "0:5,3:9"))
    late = [
        InboxRecord(10, Delivery(0, 5), b""),
        InboxRecord(11, Delivery(3, 9), b""),
        InboxRecord(12, Delivery(3, 10), b""),
    ]
    assert [acknowledgements.arrived(record) for record in late] == [
        Arrival.REPEATED,
        Arrival.REPEATED,
        Arrival.NEW,
    ]


def test_the_replay_is_not_dropped_by_the_note() -> None:
    acknowledgements = Acknowledgements(Standing(2, "0:1"))
    assert [acknowledgements.arrived(record) for record in inbox(0, 1, 2)] == [
        Arrival.REPLAYED,
        Arrival.REPLAYED,
        Arrival.NEW,
    ]


def test_records_without_a_delivery_are_all_new() -> None:
    acknowledgements = Acknowledgements(FRESH)
    record = InboxRecord(0, None, b"")
    assert acknowledgements.arrived(record) is Arrival.NEW
    assert acknowledgements.arrived(record._replace(offset=1)) is Arrival.NEW
    assert acknowledgements.advance() == Standing(2, "")


@pytest.mark.parametrize("note", ["x", "0:", "0:1,", ":", "0:1:2"])
def test_a_note_that_is_not_ours_is_told(note: str) -> None:
    with pytest.raises(TransportError, match="not ours"):
        Acknowledgements(Standing(1, note))
