"""What is sealed when: transactions once they have ended, whole, and covered by cuts without gap or overlap."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockbuilder.core import Assembly, Limits, Wanted, merkle_root
from blockbuilder.errors import HistoryError
from parley import merkle
from parley.blocks import Block, encode_block, header_hash
from parley.errors import FirehoseError
from parley.firehose import chain_hash, event_digest
from parley.schemas import ZERO_HASH, FirehoseEvent, decode, encode
from tests.synthetic_ledger import Ledger


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def following(ledger: Ledger, limits: Limits | None = None) -> Assembly:
    """An assembly that has followed all that the ledger's topics have."""
    assembly = Assembly(None, limits)
    for record in ledger.directory_records:
        assembly.follow_directory(record)
    for pipeline, events in enumerate(ledger.firehose):
        for offset, event in enumerate(events):
            assembly.follow(event, pipeline, offset)
    return assembly


def seal(assembly: Assembly, previous: Block | None = None, now: int = 1) -> Block:
    block = assembly.next_block(None if previous is None else previous.encoded_header, now)
    assert block is not None
    assembly.sealed(block)
    return block


def recalled(ledger: Ledger, assembly: Assembly) -> dict[Wanted, bytes]:
    return {place: ledger.firehose[place.pipeline][place.sequence] for place in assembly.wanted()}


def test_nothing_to_seal_gives_no_block() -> None:
    assert Assembly(None).next_block(None, 1) is None


def test_an_open_transaction_is_in_no_block(ledger: Ledger) -> None:
    ledger.open()
    block = seal(following(ledger))
    assert block.transactions == ()
    assert len(block.entries) == 4


def test_a_finished_transaction_is_sealed_with_all_its_events(ledger: Ledger) -> None:
    deal = ledger.trade(1)
    (sealed,) = seal(following(ledger)).transactions
    assert sealed.events == tuple(ledger.firehose[1])
    assert sealed.record.transaction_id == deal.id
    assert sealed.record.outcome == "FINISHED"
    assert [listed.sequence for listed in sealed.record.events] == [0, 1, 2, 3]
    assert [listed.digest for listed in sealed.record.events] == [
        event_digest(event) for event in ledger.firehose[1]
    ]


def test_a_transaction_that_timed_out_names_who_was_due(ledger: Ledger) -> None:
    ledger.open().expire()
    block = seal(following(ledger))
    (sealed,) = block.transactions
    assert sealed.record.outcome == "TIMED_OUT"
    assert sealed.record.waiting_on == ("bank-1",)
    assert len(sealed.events) == 2
    assert block.header.messages == 1


def test_a_header_counts_links_and_covers(ledger: Ledger) -> None:
    assembly = following(ledger)
    first = seal(assembly, now=500)
    ledger.trade(0)
    ledger.trade(1)
    ledger.open(1)
    for pipeline, events in enumerate(ledger.firehose):
        for offset, event in enumerate(events):
            assembly.follow(event, pipeline, offset)
    second = seal(assembly, first, now=400)
    assert first.header.previous == ZERO_HASH
    assert first.header.cuts == ()
    assert first.header.directory_version == 4
    assert second.header.height == 1
    assert second.header.previous == header_hash(first.encoded_header)
    assert (second.header.transactions, second.header.directory_records) == (2, 0)
    assert second.header.messages == 8
    assert second.header.size_bytes == sum(map(len, ledger.firehose[0] + ledger.firehose[1][:4]))
    assert second.header.sealed_at == 500, "time in the log never runs backwards"
    assert [(cut.pipeline, cut.sequence) for cut in second.header.cuts] == [(0, 3), (1, 4)]
    assert [cut.chain for cut in second.header.cuts] == [at.chain for at in ledger.pipelines]
    assert (second.header.directory_version, second.header.directory_chain) == (
        ledger.directory.version,
        ledger.directory.chain,
    )


def test_within_a_block_transactions_stand_by_pipeline_and_end(ledger: Ledger) -> None:
    early, late = ledger.open(0), ledger.open(0)
    other = ledger.trade(1)
    late.say("bank-1", "FINISH")
    early.say("bank-1", "FINISH")
    block = seal(following(ledger))
    assert [one.record.transaction_id for one in block.transactions] == [late.id, early.id, other.id]


def test_a_block_that_could_not_be_committed_can_be_asked_for_again(ledger: Ledger) -> None:
    ledger.trade()
    assembly = following(ledger)
    assert assembly.next_block(None, 1) == assembly.next_block(None, 1) == seal(assembly)
    assert assembly.next_block(None, 1) is None


def test_what_does_not_fit_goes_to_the_next_block_and_the_cut_stands_before_it(ledger: Ledger) -> None:
    for _ in range(5):
        ledger.trade(0)
    assembly = following(ledger, Limits(transactions=2))
    blocks: list[Block] = []
    while block := assembly.next_block(blocks[-1].encoded_header if blocks else None, 1):
        assembly.sealed(block)
        blocks.append(block)
    assert [block.header.directory_records for block in blocks] == [2, 2, 0, 0]
    assert [block.header.transactions for block in blocks] == [0, 2, 2, 1]
    cuts = [[cut.sequence for cut in block.header.cuts] for block in blocks]
    assert cuts == [[2], [10], [18], [19]]
    for block in blocks:
        for cut in block.header.cuts:
            after = ledger.firehose[0][cut.sequence + 1 :]
            expected = decode(after[0], FirehoseEvent).chain if after else ledger.pipelines[0].chain
            assert cut.chain == expected


def test_a_block_is_bounded_in_bytes_but_never_splits_a_transaction(ledger: Ledger) -> None:
    ledger.trade()
    ledger.trade()
    assembly = following(ledger, Limits(size_bytes=10))
    first = seal(assembly)
    assert first.header.transactions == 1
    assert seal(assembly, first).header.transactions == 1


def test_no_transaction_is_sealed_before_the_directory_it_was_judged_by(ledger: Ledger) -> None:
    ledger.trade()
    assembly = Assembly(None)
    for record in ledger.directory_records[:3]:
        assembly.follow_directory(record)
    for offset, event in enumerate(ledger.firehose[0]):
        assembly.follow(event, 0, offset)
    first = seal(assembly)
    assert (first.header.transactions, first.header.directory_records) == (0, 3)
    assert [cut.sequence for cut in first.header.cuts] == [2]
    assert assembly.next_block(first.encoded_header, 1) is None
    assembly.follow_directory(ledger.directory_records[3])
    second = seal(assembly, first)
    assert (second.header.transactions, second.header.directory_records) == (1, 1)


def test_what_the_cache_no_longer_holds_is_asked_for_and_sealed_all_the_same(ledger: Ledger) -> None:
    ledger.trade(0)
    ledger.open(0)
    ledger.trade(1)
    assembly = following(ledger, Limits(cache_bytes=0))
    assert assembly.wanted() == [Wanted(pipeline, sequence) for pipeline in (0, 1) for sequence in range(3)]
    assembly.supply(recalled(ledger, assembly))
    assert assembly.wanted() == []
    assert seal(assembly) == seal(following(ledger))


def test_a_builder_that_restarts_between_opening_and_end_seals_the_same(ledger: Ledger) -> None:
    deal = ledger.open()
    ledger.trade(1)
    first = seal(following(ledger))
    deal.say("bank-1", "FINISH")
    restarted = Assembly(first.header)
    for record in ledger.directory_records:
        restarted.follow_directory(record)
    for pipeline, events in enumerate(ledger.firehose):
        for offset, event in enumerate(events):
            restarted.follow(event, pipeline, offset)
    assert restarted.wanted() == [Wanted(0, 0)]
    restarted.supply(recalled(ledger, restarted))
    (sealed,) = seal(restarted, first).transactions
    assert sealed.record.transaction_id == deal.id
    assert sealed.events == tuple(ledger.firehose[0])


def test_an_event_that_is_no_longer_on_the_firehose_stops_the_builder(ledger: Ledger) -> None:
    ledger.trade()
    assembly = following(ledger, Limits(cache_bytes=0))
    with pytest.raises(HistoryError, match="no longer on the firehose"):
        assembly.supply({})


def test_an_event_read_back_that_is_another_stops_the_builder(ledger: Ledger) -> None:
    ledger.trade()
    assembly = following(ledger, Limits(cache_bytes=0))
    found = recalled(ledger, assembly)
    found[Wanted(0, 1)] = found[Wanted(0, 2)]
    with pytest.raises(HistoryError, match="event 1 of pipeline 0 is not the one that event 3 lists"):
        assembly.supply(found)


def test_a_gap_in_the_firehose_stops_the_builder(ledger: Ledger) -> None:
    ledger.trade()
    assembly = Assembly(None)
    assembly.follow(ledger.firehose[0][0], 0, 0)
    with pytest.raises(FirehoseError, match="events 1 to 1 are missing"):
        assembly.follow(ledger.firehose[0][2], 0, 2)


def test_an_event_on_the_wrong_pipeline_stops_the_builder(ledger: Ledger) -> None:
    ledger.trade(1)
    with pytest.raises(HistoryError, match="an event of pipeline 1 stands on pipeline 0"):
        Assembly(None).follow(ledger.firehose[1][0], 0, 0)


def test_another_history_than_the_one_sealed_stops_the_builder(ledger: Ledger) -> None:
    ledger.trade()
    first = seal(following(ledger))
    ledger.trade()
    other = decode(ledger.firehose[0][4], FirehoseEvent)
    forged = encode(other._replace(chain=chain_hash(other.chain, event_digest(b"another event"))))
    with pytest.raises(FirehoseError, match="another history"):
        Assembly(first.header).follow(forged, 0, 4)


def test_a_directory_record_out_of_order_stops_the_builder(ledger: Ledger) -> None:
    assembly = Assembly(None)
    assembly.follow_directory(ledger.directory_records[0])
    assembly.follow_directory(ledger.directory_records[0])
    with pytest.raises(HistoryError, match="directory record 3 does not follow record 1"):
        assembly.follow_directory(ledger.directory_records[2])


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_merkletools_with_the_rfcs_hashes_agrees_with_our_own_rfc_6962(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == merkle.root([sha256(b"\0" + leaf).digest() for leaf in leaves])


def test_the_file_of_a_block_is_the_same_whenever_it_is_made(ledger: Ledger) -> None:
    ledger.trade()
    assert encode_block(seal(following(ledger))) == encode_block(seal(following(ledger)))
