"""Which records of a share count as new and what may be saved, whatever is repeated, in whatever order it is taken, and whoever
takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.errors import TransportError
from parley.mailbox import Offer
from parley.share import LISTED, Arrival, Share
from parley.shares import Shares, pipeline_of
from parley.transport import Delivery, InboxRecord, Standing

FRESH = Standing(0, "")


def inbox(*places: int, pipeline: int = 0) -> list[InboxRecord]:
    return [InboxRecord(offset, Delivery(pipeline, place), b"record") for offset, place in enumerate(places)]


def offered(share: Share[str], *records: InboxRecord) -> list[Offer[str]]:
    """The share after these records have arrived, and what it offers of them."""
    offers = []
    for record in records:
        if share.arrived(record) is Arrival.NEW:
            offers.append(Offer(record.offset, f"event {record.offset}"))
            share.offered(offers[-1])
    return offers


@st.composite
def rewritten_inboxes(draw: st.DrawFn) -> list[InboxRecord]:
    """What the delivery stage writes when it starts over from earlier places now and then."""
    records: list[InboxRecord] = []
    heads = [0, 0]
    for _ in range(draw(st.integers(0, 30))):
        pipeline = draw(st.integers(0, 1))
        back = draw(st.integers(0, min(3, heads[pipeline])))
        start = heads[pipeline] - back
        for place in range(start, start + back + draw(st.integers(0, 2))):
            records.append(InboxRecord(len(records), Delivery(pipeline, place), b""))
            heads[pipeline] = max(heads[pipeline], place + 1)
    return records


@given(records=rewritten_inboxes())
def test_every_delivery_is_new_once_and_in_order(records: list[InboxRecord]) -> None:
    shares = Shares[str]({})
    new = [record.delivery for record in records if shares.arrived(record) is not Arrival.REPEATED]
    for pipeline in (0, 1):
        places = [delivery.offset for delivery in new if delivery and delivery.partition == pipeline]
        assert places == list(range(len(places)))


class Process:
    """One process of a consumer, which reads the inbox as far as it is told and takes what it is offered."""

    def __init__(self, records: list[InboxRecord], standings: Mapping[int, Standing]) -> None:
        self.shares = Shares[Delivery](standings)
        self.mail: list[Offer[Delivery]] = []
        self.taken: list[Delivery] = []
        self._records = records
        self._read = 0

    def read(self, until: int) -> None:
        for record in self._records[self._read : until]:
            assert record.delivery is not None
            if self.shares.arrived(record) is Arrival.NEW:
                offer = Offer(record.offset, record.delivery)
                if self.shares.offered(record.delivery.partition, offer):
                    self.mail.append(offer)
        self._read = max(self._read, until)

    def gain(self, standings: Mapping[int, Standing]) -> None:
        self.mail += self.shares.gained(standings)

    def take(self, chosen: Callable[[], bool]) -> None:
        for offer in self.mail:
            if offer.is_open and chosen():
                self.taken.append(offer.take())
                self.shares.taken(offer.offset)

    def let_go(self, pipeline: int) -> dict[int, Standing]:
        """What is saved as the share goes."""
        self.shares.leave([pipeline])
        assert self.shares.can_go
        standings = self.shares.advance()
        self.shares.lost([pipeline])
        return standings


def always() -> bool:
    return True


@given(records=rewritten_inboxes(), data=st.data())
def test_over_any_number_of_lives_everything_is_offered_until_it_is_taken_and_never_after(
    records: list[InboxRecord], data: st.DataObject
) -> None:
    standings = {0: FRESH, 1: FRESH}
    taken: list[Delivery] = []
    for _ in range(data.draw(st.integers(1, 4))):
        life = Process(records, standings)
        life.gain(standings)
        life.read(data.draw(st.integers(0, len(records))))
        life.take(lambda: data.draw(st.booleans()))
        standings = standings | life.shares.advance()
        taken += life.taken
    life = Process(records, standings)
    life.gain(standings)
    life.read(len(records))
    life.take(always)
    assert sorted([*taken, *life.taken]) == sorted({record.delivery for record in records if record.delivery})


@given(records=rewritten_inboxes(), data=st.data())
def test_between_processes_that_hand_over_nothing_is_taken_twice_or_lost(
    records: list[InboxRecord], data: st.DataObject
) -> None:
    """Two processes read one inbox, each as far as it is; who has which share changes again and again."""
    saved = {0: FRESH, 1: FRESH}
    processes = [Process(records, saved), Process(records, saved)]
    owner = {0: 0, 1: 0}
    processes[0].gain(saved)
    for _ in range(data.draw(st.integers(0, 12))):
        which, pipeline = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))
        process = processes[which]
        match data.draw(st.sampled_from(("read", "take", "save", "look", "move"))):
            case "read":
                process.read(data.draw(st.integers(0, len(records))))
            case "take":
                process.take(lambda: data.draw(st.booleans()))
            case "save":
                saved |= process.shares.advance()
            case "look":
                process.shares.moved({each: saved[each] for each in saved if owner[each] != which})
            case _:
                saved |= processes[owner[pipeline]].let_go(pipeline)
                owner[pipeline] = 1 - owner[pipeline]
                processes[owner[pipeline]].gain({pipeline: saved[pipeline]})
    for process in processes:
        process.read(len(records))
        process.take(always)
    taken = [delivery for process in processes for delivery in process.taken]
    assert sorted(taken) == sorted({record.delivery for record in records if record.delivery})


@given(records=rewritten_inboxes(), data=st.data())
def test_what_is_lost_without_warning_is_taken_again_at_most_and_saved_in_the_end(
    records: list[InboxRecord], data: st.DataObject
) -> None:
    saved = {0: FRESH, 1: FRESH}
    processes = [Process(records, saved), Process(records, saved)]
    processes[0].gain(saved)
    owner = 0
    for _ in range(data.draw(st.integers(0, 6))):
        process = processes[owner]
        process.read(data.draw(st.integers(0, len(records))))
        process.take(lambda: data.draw(st.booleans()))
        moved = process.shares.advance()
        if data.draw(st.booleans()):
            saved |= moved
        else:  # the others had given it up before it could save
            process.shares.lost((0, 1))
            owner = data.draw(st.integers(0, 1))
            processes[owner].gain(saved)
    processes[owner].read(len(records))
    processes[owner].take(always)
    saved |= processes[owner].shares.advance()
    taken = {delivery for process in processes for delivery in process.taken}
    assert taken == {record.delivery for record in records}
    for record in records:
        assert record.offset < saved[pipeline_of(record)].position


def test_the_position_waits_for_the_first_record_that_is_not_taken() -> None:
    share = Share[str](FRESH)
    offered(share, *inbox(0, 1, 2))
    share.taken(0)
    assert share.advance() == Standing(1, "0")
    assert share.advance() is None
    share.taken(1)
    share.taken(2)
    assert share.advance() == Standing(3, "2")


def test_what_was_dealt_with_after_the_position_stands_in_the_note() -> None:
    share = Share[str](FRESH)
    offered(share, *inbox(*range(8)))
    for offset in (2, 3, 6):
        share.taken(offset)
    standing = share.advance()
    assert standing == Standing(0, ";2.1.3")
    again = Share[str](standing)
    assert [offer.offset for offer in offered(again, *inbox(*range(8)))] == [0, 1, 4, 5, 7]
    assert again.advance() is None


def test_a_note_has_a_bound_beyond_which_records_come_again() -> None:
    share = Share[str](FRESH)
    offers = offered(share, *inbox(*range(2 * LISTED + 2)))
    for offer in offers[1:]:
        share.taken(offer.offset)
    standing = share.advance()
    assert standing is not None
    assert len(standing.note) < 4_096
    again = offered(Share[str](standing), *inbox(*range(2 * LISTED + 2)))
    assert [offer.offset for offer in again] == [0, *range(LISTED + 1, 2 * LISTED + 2)]


def test_a_record_that_is_not_offered_counts_as_taken() -> None:
    share = Share[str](FRESH)
    share.arrived(inbox(7)[0])
    assert share.advance() == Standing(1, "7")


def test_a_repeat_after_the_replay_is_known_from_the_note_alone() -> None:
    """What the note's records were written as is no longer kept; only the note remembers them."""
    share = Share[str](Standing(10, "5"))
    late = [InboxRecord(10, Delivery(0, 5), b""), InboxRecord(11, Delivery(0, 6), b"")]
    assert [share.arrived(record) for record in late] == [Arrival.REPEATED, Arrival.NEW]


def test_the_replay_is_not_dropped_by_the_note() -> None:
    share = Share[str](Standing(2, "1"))
    assert [share.arrived(record) for record in inbox(0, 1, 2)] == [
        Arrival.REPLAYED,
        Arrival.REPLAYED,
        Arrival.NEW,
    ]


def test_records_without_a_delivery_are_all_new() -> None:
    share = Share[str](FRESH)
    record = InboxRecord(0, None, b"")
    assert pipeline_of(record) == 0
    assert share.arrived(record) is Arrival.NEW
    assert share.arrived(record._replace(offset=1)) is Arrival.NEW
    assert share.advance() == Standing(2, "")


def test_what_another_process_has_dealt_with_is_kept_no_longer() -> None:
    shares = Shares[str]({})
    for record in inbox(0, 1, 2):
        shares.arrived(record)
        assert not shares.offered(0, Offer(record.offset, f"event {record.offset}"))
    shares.moved({0: Standing(2, "1")})
    assert [offer.event for offer in shares.gained({0: Standing(2, "1")})] == ["event 2"]


def test_what_is_in_hand_holds_a_share_until_it_is_dealt_with() -> None:
    shares = Shares[str]({})
    shares.gained({0: FRESH})
    offers = [Offer(record.offset, "event") for record in inbox(0, 1)]
    for record, offer in zip(inbox(0, 1), offers, strict=True):
        shares.arrived(record)
        shares.offered(0, offer)
    offers[0].take()
    shares.leave([0])
    assert not shares.can_go
    assert not offers[1].is_open
    assert shares.has(0)
    assert shares.ours == ()
    shares.taken(0)
    assert shares.can_go
    assert shares.advance() == {0: Standing(1, "0")}


@pytest.mark.parametrize("note", ["x", "0:", "-1", "0,1", "٣", "1;x", ";", "1;2..1"])
def test_a_note_that_is_not_ours_is_told(note: str) -> None:
    with pytest.raises(TransportError, match="not ours"):
        Share[str](Standing(1, note))
