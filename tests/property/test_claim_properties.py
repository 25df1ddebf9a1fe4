"""Whichever lie an operator tells, a claim finds it; and nothing that an honest one signed can be turned against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import merkle
from parley.claim import Broken, Kept, TooEarly, claim
from parley.errors import ProofError
from parley.evidence import judge_evidence
from parley.proof import verify_proof
from parley.schemas import (
    BareBlock,
    Breach,
    Ending,
    Evidence,
    FirehoseEvent,
    Hash,
    PlacedHeader,
    Receipt,
    SealedRecord,
    TransactionId,
    decode,
    encode,
)
from tests.fix_ledger import LOG
from tests.lying_operator import REGISTRAR, Operator, Sealing, honestly, leaving_out, rewritten, without
from tests.synthetic_ledger import Deal

VKEY: Final = LOG.verifier_key
LIES: Final = ("drop", "swap", "insert", "replace", "never end", "stall", "leave out", "strike", "late")


class Story(NamedTuple):
    """What was said before the operator's books are made up, and whose receipt is claimed."""

    books: Operator
    deal: Deal
    receipt: Receipt
    rounds: int
    """In how many blocks, at least, it is sealed."""


@st.composite
def stories(draw: st.DrawFn) -> Story:
    books = Operator()
    deals = [
        books.ledger.open(pipeline)
        for pipeline in draw(st.lists(st.integers(0, 1), min_size=1, max_size=4), "pipelines")
    ]
    for number in draw(st.lists(st.integers(0, len(deals) - 1), max_size=8), "who speaks"):
        deals[number].say("bank-1")
    deal = draw(st.sampled_from(deals))
    for each in deals:
        if draw(st.booleans()):
            each.say("bank-0", "FINISH")
    receipt = draw(st.sampled_from(books.receipts(deal)))
    for each in deals:
        if each.state is not None and each.state.outcome is None:
            each.expire()
    return Story(books, deal, receipt, draw(st.integers(1, 4)))


def sequence_of(receipt: Receipt) -> int:
    return decode(receipt.event or b"", FirehoseEvent).sequence


def altered(events: list[FirehoseEvent], place: int, lie: str) -> list[FirehoseEvent]:
    """A pipeline's events after a lie about the one at a place."""
    before, event, after = events[:place], events[place], events[place + 1 :]
    match lie:
        case "drop":
            return [*before, *after]
        case "swap" if after:
            return [*before, after[0], event, *after[1:]]
        case "replace":
            return [*before, event._replace(at=event.at + 1), *after]
        case "never end":
            return [
                each for each in events if each.transaction_id != event.transaction_id or each.ended is None
            ]
    invented = event._replace(
        sequence=-1,
        transaction_id=TransactionId(bytes(16)),
        envelope=None,
        ended=Ending("TIMED_OUT", "invented", event.at, (), ()),
    )
    return [*before, invented, event, *after]


def told(story: Story, lie: str | None) -> Operator:
    """The operator's books as it publishes them, with a lie about the message whose receipt it gave."""
    pipeline, place = story.deal.pipeline, sequence_of(story.receipt)
    firehose = [list(events) for events in story.books.ledger.firehose]
    sealing: Sealing = honestly
    operator = Operator()
    match lie:
        case "drop" | "swap" | "insert" | "replace" | "never end":
            firehose[pipeline] = rewritten(firehose[pipeline], lambda events: altered(events, place, lie))
        case "stall":
            firehose[pipeline] = firehose[pipeline][:place]
        case "leave out":
            sealing = leaving_out(story.deal)
        case "strike":
            sealing = without(story.receipt)
        case "late":
            operator.ledger.now = story.receipt.block_by + 1
    operator.publish(firehose, story.rounds, sealing)
    return operator


@settings(max_examples=40, deadline=None)
@given(story=stories())
def test_an_honest_operators_promises_are_kept(story: Story) -> None:
    operator = told(story, None)
    for _ in range(2):
        kept = claim(operator.store(), story.receipt, REGISTRAR)
        assert isinstance(kept, Kept)
        assert verify_proof(kept.proof, VKEY).message_id == story.receipt.message_id
        operator.pass_promises()


@pytest.mark.parametrize("lie", LIES)
@settings(max_examples=15, deadline=None)
@given(story=stories())
def test_every_lie_is_found_and_judged_offline(lie: str, story: Story) -> None:
    operator = told(story, lie)
    early = claim(operator.store(), story.receipt, REGISTRAR)
    assert isinstance(early, Broken if lie == "late" else Broken | TooEarly)
    operator.pass_promises(1 - story.deal.pipeline)
    found = claim(operator.store(), story.receipt, REGISTRAR)
    assert isinstance(found, Broken)
    judged = judge_evidence(found.evidence, VKEY, REGISTRAR)
    assert judged == found.judgement
    assert judged.receipt == story.receipt
    assert (judged.breach == "LATE") is (found.late is not None) is (lie == "late")


def accusations(operator: Operator, receipt: Receipt) -> Iterator[Evidence]:
    """Everything that could be written against the operator from what it published: each breach, shown by each part."""
    store = operator.store()
    blocks = list(store.blocks())

    def logged(height: int) -> PlacedHeader:
        return PlacedHeader(store.encoded_header(height), tuple(map(Hash, store.log.inclusion_path(height))))

    def accuse(
        breach: Breach,
        height: int,
        record: SealedRecord | None = None,
        neighbour: bytes | None = None,
        bare: tuple[BareBlock, ...] = (),
    ) -> Evidence:
        return Evidence(
            breach,
            encode(receipt._replace(event=None)),
            receipt.event or b"",
            logged(height),
            record,
            neighbour,
            bare,
            store.note,
            logged(len(store) - 1),
            tuple(operator.ledger.directory_records),
        )

    for block in blocks:
        height = block.header.height
        yield accuse("RECEIPT", height)
        yield accuse("HISTORY", height)
        yield accuse("ABSENT", height)
        for start in range(height):
            whole = [BareBlock(one.encoded_header, tuple(one.leaves())) for one in blocks[start:height]]
            yield accuse("ABSENT", height, bare=tuple(whole))
            yield accuse("ABSENT", height, bare=(whole[0]._replace(leaves=()), *whole[1:]))
        for leaf_index, sealed in enumerate(block.transactions):
            path = merkle.inclusion_path(block.leaf_hashes(), leaf_index)
            record = SealedRecord(sealed.leaf, leaf_index, tuple(map(Hash, path)))
            yield accuse("RECORD", height, record)
            yield accuse("LATE", height, record)
            for event in sealed.events:
                yield accuse("HISTORY", height, record, event)


@settings(max_examples=8, deadline=None)
@given(story=stories())
def test_an_honest_operator_cannot_be_accused(story: Story) -> None:
    operator = told(story, None)
    operator.pass_promises()
    accused = 0
    for evidence in accusations(operator, story.receipt):
        accused += 1
        with pytest.raises(ProofError):
            judge_evidence(encode(evidence), VKEY, REGISTRAR, operator.store())
    assert accused > 20


@pytest.fixture(scope="module")
def evidence() -> list[bytes]:
    """A file of each breach but RECEIPT, and of HISTORY both by a neighbour and by a cut."""
    books = Operator()
    told_of = [books.ledger.open(1), books.ledger.trade(0), books.ledger.trade(1), books.ledger.open(1)]
    files: dict[tuple[Breach, bool], bytes] = {}
    for deal in told_of:
        receipt = books.receipts(deal)[0]
        for lie in LIES:
            operator = told(Story(books, deal, receipt, 1), lie)
            operator.pass_promises(0)
            found = claim(operator.store(), receipt)
            if isinstance(found, Broken):
                neighbour = decode(found.evidence, Evidence).neighbour
                files[found.judgement.breach, neighbour is not None] = found.evidence
    by_neighbour = [(breach, breach == "HISTORY") for breach in ("RECORD", "HISTORY", "LATE", "ABSENT")]
    assert set(files) == {*by_neighbour, ("HISTORY", False)}
    return list(files.values())


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_changed_byte_of_evidence_is_refused(data: st.DataObject, evidence: list[bytes]) -> None:
    file = data.draw(st.sampled_from(evidence))
    position = data.draw(st.integers(0, len(file) - 1))
    changed = bytearray(file)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProofError):
        judge_evidence(bytes(changed), VKEY, REGISTRAR)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_evidence_that_was_cut_or_extended_is_refused(data: st.DataObject, evidence: list[bytes]) -> None:
    file = data.draw(st.sampled_from(evidence))
    cut = data.draw(st.integers(0, len(file) - 1))
    for other in (file[:cut], file + data.draw(st.binary(min_size=1, max_size=8))):
        with pytest.raises(ProofError):
            judge_evidence(other, VKEY)
