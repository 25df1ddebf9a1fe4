"""An audit finds, from public data alone, whatever an operator could get wrong or do wrong on purpose."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blockbuilder.core import merkle_root, seal_block, sealed_transaction
from parley import lifecycle
from parley.audit import GRACE_MS, AuditReport, audit
from parley.blocks import Block, BlockStore, SealedTransaction, from_folder
from parley.envelope import MESSAGE_TYPE, seal
from parley.firehose import Position
from parley.schemas import (
    ZERO_HASH,
    Ending,
    Envelope,
    FirehoseEvent,
    Hash,
    Message,
    Outcome,
    PublicKey,
    decode,
    encode,
)
from tests.fix_ledger import LOG, SealedLedger
from tests.synthetic_ledger import HOUR, Deal, Ledger, signing_key

REGISTRAR = signing_key("registrar").public


def of(made: SealedLedger, *, firehose: bool = True) -> AuditReport:
    return audit(made.store(), REGISTRAR, dict(enumerate(made.ledger.firehose)) if firehose else None)


def only(report: AuditReport) -> str:
    """The one thing that is wrong."""
    assert len(report.violations) == 1, [str(violation) for violation in report.violations]
    return str(report.violations[0])


def test_an_honest_store_is_good_with_the_firehose_and_without(busy: SealedLedger) -> None:
    for report in (of(busy), of(busy, firehose=False)):
        assert report.good
        assert report.violations == ()
        assert (report.size, report.blocks) == (7, 7)
        assert (report.transactions, report.finished, report.timed_out) == (13, 11, 2)
        assert report.signatures == report.messages == 49
        assert report.directory_records == 5
        assert report.unsealed == 0
        assert report.root == busy.store().checkpoint.root
    assert of(busy).firehose_events == sum(map(len, busy.ledger.firehose))
    assert of(busy, firehose=False).firehose_events == 0


def test_threads_come_to_the_same_result(busy: SealedLedger) -> None:
    with ThreadPoolExecutor(2) as executor:
        assert audit(busy.store(), REGISTRAR, None, None, executor, 2) == of(busy, firehose=False)


def test_progress_is_told_block_by_block(busy: SealedLedger) -> None:
    told: list[tuple[int, int]] = []
    audit(busy.store(), REGISTRAR, progress=lambda done, of: told.append((done, of)))
    assert told == [(done, 7) for done in range(1, 8)]


def test_events_of_open_transactions_are_counted_as_unsealed(sealed: SealedLedger) -> None:
    sealed.ledger.open(0).say("bank-1")
    sealed.ledger.trade(0)
    sealed.seal()
    report = of(sealed)
    assert report.good
    assert report.unsealed == 2


class TestADirectoryServedToParticipants:
    def served(self, made: SealedLedger, change: Callable[[list[bytes]], list[bytes]]) -> AuditReport:
        return audit(made.store(), REGISTRAR, directory=change(list(made.ledger.directory_records)))

    def test_that_was_sealed_is_good_and_may_be_longer(self, busy: SealedLedger) -> None:
        assert self.served(busy, lambda records: records).good
        assert self.served(busy, lambda records: [*records, b"not sealed yet"]).good

    def test_that_holds_another_record_of_a_version_is_a_fork(self, busy: SealedLedger) -> None:
        def forked(records: list[bytes]) -> list[bytes]:
            return [*records[:2], records[2][:-1] + bytes([records[2][-1] ^ 1]), *records[3:]]

        report = self.served(busy, forked)
        assert "version 3 is sealed as another record than participants are served" in only(report)
        assert len(report.violations[0].evidence) == 3

    def test_that_lacks_what_was_sealed_is_told(self, busy: SealedLedger) -> None:
        assert "version 5 is sealed, and not served" in only(self.served(busy, lambda records: records[:-1]))


def test_the_store_of_another_registrar_is_not_trusted(busy: SealedLedger) -> None:
    report = audit(busy.store(), signing_key("another registrar").public)
    assert {violation.rule for violation in report.violations} == {"directory", "transaction"}


def test_a_missing_block_is_found_and_the_rest_is_audited_all_the_same(
    busy: SealedLedger, tmp_path: Path
) -> None:
    copy = shutil.copytree(busy.folder, tmp_path / "copy")
    (copy / "block/003").unlink()
    report = audit(BlockStore(from_folder(copy), LOG.verifier_key), REGISTRAR)
    assert str(report.violations[0]).startswith("block in block 3: block/003: missing")
    assert report.blocks == 6
    assert report.size == 7


def test_a_tile_that_was_changed_is_found(busy: SealedLedger, tmp_path: Path) -> None:
    copy = shutil.copytree(busy.folder, tmp_path / "copy")
    store = BlockStore(from_folder(copy), LOG.verifier_key)
    bundle = copy / "tile/entries/000.p/7"
    bundle.write_bytes(bundle.read_bytes()[:-1] + b"!")
    assert "entry 6 does not have the hash" in only(audit(store, REGISTRAR))


# What a dishonest router could put on the firehose --------------------------------------------------------------------


def ends(deal: Deal, outcome: Outcome, waiting_on: tuple[str, ...] = (), kind: str = "dvp") -> None:
    """End a transaction without a message, as the operator likes."""
    assert deal.state is not None
    ending = Ending(outcome, kind, deal.state.opened_at, waiting_on, lifecycle.events_of(deal.state))
    deal.ledger.append(deal.pipeline, deal.id, None, ending)


def test_a_timeout_before_the_deadline_is_found(sealed: SealedLedger) -> None:
    ends(sealed.ledger.open(), "TIMED_OUT", ("bank-1",))
    sealed.seal()
    assert "event 1 is a timeout at" in only(of(sealed))


def test_a_timeout_that_blames_the_wrong_party_is_found(sealed: SealedLedger) -> None:
    deal = sealed.ledger.open()
    sealed.ledger.now += HOUR
    ends(deal, "TIMED_OUT", ("bank-0",))
    sealed.seal()
    details = [violation.detail for violation in of(sealed).violations]
    assert details == [
        "event 1 ends the transaction with waiting_on other than the rules give",
        "the record's waiting_on is not what the messages give",
    ]


def test_a_transaction_declared_finished_without_its_parties_is_found(sealed: SealedLedger) -> None:
    deal = sealed.ledger.open()
    sealed.ledger.now += HOUR
    ends(deal, "FINISHED")
    sealed.seal()
    details = [violation.detail for violation in of(sealed).violations]
    assert "event 1 ends the transaction with outcome, waiting_on other than the rules give" in details


def message(deal: Deal, sender: str, **fields: object) -> Message:
    """The next message of a deal, with some fields as the test likes."""
    assert deal.state is not None
    head = lifecycle.head_of(deal.state)
    made = Message(
        deal.id, deal.pipeline, head.sequence + 1, head.message_id, sender, ("bank-0",), 0, "FINISH", None,
        "text/plain", b"", None, (),
    )  # fmt: skip
    return made._replace(**fields)  # type: ignore[arg-type]


def finished_by(deal: Deal, envelope: Envelope) -> None:
    """Accept an envelope as a finishing message, whatever it is."""
    assert deal.state is not None
    ending = Ending("FINISHED", "dvp", deal.state.opened_at, (), lifecycle.events_of(deal.state))
    deal.ledger.append(deal.pipeline, deal.id, encode(envelope), ending)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda deal: message(deal, "bank-2"), "should have been refused as NOT_A_PARTY"),
        (lambda deal: message(deal, "bank-1", sequence=7), "should have been refused as SEQUENCE_CONFLICT"),
        (
            lambda deal: message(deal, "bank-1", pipeline=1),
            "carries a message of another transaction or pipeline",
        ),
        (
            lambda deal: message(deal, "bank-1", action="CONTINUE"),
            "says that it ends the transaction, but by the rules it does not",
        ),
        (lambda deal: message(deal, "bank-1", recipients=()), "should have been refused as MALFORMED"),
    ],
)
def test_a_message_that_the_rules_refuse_is_found(
    sealed: SealedLedger, make: Callable[[Deal], Message], complaint: str
) -> None:
    deal = sealed.ledger.open()
    made = make(deal)
    finished_by(deal, seal(MESSAGE_TYPE, made, signing_key(made.sender)))
    sealed.seal()
    assert any(complaint in violation.detail for violation in of(sealed).violations)


def test_a_message_after_the_deadline_is_found(sealed: SealedLedger) -> None:
    deal = sealed.ledger.open()
    sealed.ledger.now += 2 * HOUR
    finished_by(deal, seal(MESSAGE_TYPE, message(deal, "bank-1"), signing_key("bank-1")))
    sealed.seal()
    assert any("refused as DEADLINE_PASSED" in found.detail for found in of(sealed).violations)


@pytest.mark.parametrize(
    ("signer", "complaint"),
    [
        ("bank-0", "which was not bank-1's"),
        ("nobody", "which was not bank-1's"),
        (None, "carries an envelope that is unsigned"),
    ],
)
def test_a_message_signed_by_somebody_else_or_nobody_is_found(
    sealed: SealedLedger, signer: str | None, complaint: str
) -> None:
    deal = sealed.ledger.open()
    keys = [signing_key(signer)] if signer else []
    finished_by(deal, seal(MESSAGE_TYPE, message(deal, "bank-1"), *keys))
    sealed.seal()
    assert complaint in only(of(sealed))


def test_a_forged_signature_is_found_with_its_evidence(sealed: SealedLedger) -> None:
    deal = sealed.ledger.open()
    envelope = seal(MESSAGE_TYPE, message(deal, "bank-1"), signing_key("bank-1"))
    forged = envelope._replace(signatures=(envelope.signatures[0]._replace(signature=bytes(64)),))
    finished_by(deal, forged)
    (block,) = sealed.seal()
    report = of(sealed)
    assert "event 1 has a signature that does not verify" in only(report)
    (violation,) = report.violations
    assert violation.transaction_id == deal.id
    assert violation.height == 0
    assert violation.evidence == (
        block.encoded_header,
        block.transactions[0].leaf,
        sealed.ledger.firehose[0][1],
    )


def test_a_message_judged_before_its_sender_was_admitted_is_found(sealed: SealedLedger) -> None:
    ledger = sealed.ledger
    sealed.seal()
    ledger.admit("bank-late")
    version, ledger.directory.version = ledger.directory.version, 2
    deal = ledger.open(0, ("bank-late", "bank-0"))
    ledger.directory.version = version
    deal.say("bank-0", "FINISH")
    sealed.seal()
    assert "which was not bank-late's at directory version 2" in only(of(sealed))


def test_an_event_that_follows_another_history_is_found(sealed: SealedLedger) -> None:
    ledger = sealed.ledger
    ledger.trade()
    sealed.seal()
    ledger.pipelines[0].chain = Hash(bytes(32))
    ledger.trade()
    events = ledger.firehose[0]
    one = sealed_transaction(decode(events[7], FirehoseEvent), events[7], events[4:7])
    cut = Position(8, ledger.pipelines[0].chain, 0)
    sealed.write(seal_block([one], [], sealed.headers[-1], {0: cut}, directory_of(ledger), ledger.now))
    report = of(sealed, firehose=False)
    assert {violation.rule for violation in report.violations} == {"chain"}


# What a dishonest block builder could seal ---------------------------------------------------------------------------


def directory_of(ledger: Ledger) -> tuple[int, Hash]:
    return ledger.directory.version, ledger.directory.chain


def honest(sealed: SealedLedger, trades: int = 2) -> Block:
    """A block that could be sealed next, not written yet."""
    for _ in range(trades):
        sealed.ledger.trade()
    sealed.follow()
    block = sealed.assembly.next_block(sealed.headers[-1] if sealed.headers else None, sealed.ledger.now)
    assert block is not None
    sealed.assembly.sealed(block)
    return block


def resealed(sealed: SealedLedger, block: Block, *transactions: SealedTransaction, **fields: object) -> Block:
    """The block with other transactions and header fields."""
    header = block.header
    cuts = {cut.pipeline: Position(cut.sequence + 1, cut.chain, 0) for cut in header.cuts}
    previous = sealed.headers[-1] if sealed.headers else None
    directory = (header.directory_version, header.directory_chain)
    made = seal_block(transactions, block.entries, previous, cuts, directory, header.sealed_at)
    changed = made.header._replace(**fields)  # type: ignore[arg-type]
    return made._replace(header=changed, encoded_header=encode(changed))


def test_a_transaction_left_out_is_found_by_the_firehose(sealed: SealedLedger) -> None:
    block = honest(sealed)
    sealed.write(resealed(sealed, block, block.transactions[0]))
    assert "transactions that ended at events [7] of pipeline 0 are not in the block" in only(of(sealed))
    assert of(sealed, firehose=False).unsealed == 4


def test_a_pipeline_that_is_never_sealed_is_found_once_it_is_overdue(sealed: SealedLedger) -> None:
    ledger = sealed.ledger
    ledger.trade(1)
    block = honest(sealed)
    kept = [one for one in block.transactions if one.record.pipeline == 0]
    cuts = block.header.cuts[:1]
    sealed.write(resealed(sealed, block, *kept, cuts=cuts, sealed_at=ledger.now + GRACE_MS - 10))
    assert of(sealed).good, "it may be in the next block"
    ledger.trade()
    ledger.now += GRACE_MS
    late = honest(sealed)
    sealed.write(resealed(sealed, late, *late.transactions, cuts=late.header.cuts[:1]))
    assert "transactions that ended at events [3] of pipeline 1 are in no block yet" in only(of(sealed))


def test_a_transaction_sealed_twice_is_found(sealed: SealedLedger) -> None:
    first = honest(sealed)
    sealed.write(first)
    second = honest(sealed)
    sealed.write(resealed(sealed, second, *first.transactions, *second.transactions))
    details = [violation.detail for violation in of(sealed, firehose=False).violations]
    assert details.count("event 0 is in a block already") == 2
    assert details.count("did not end within what its block covers") == 2
    assert details.count("was in a block before: it was opened twice") == 2


def test_a_record_that_tells_another_outcome_is_found(sealed: SealedLedger) -> None:
    block = honest(sealed, 1)
    (one,) = block.transactions
    record = one.record._replace(outcome="TIMED_OUT", waiting_on=("bank-0",))
    sealed.write(resealed(sealed, block, SealedTransaction(record, encode(record), one.events)))
    assert "the record's outcome, waiting_on is not what the messages give" in only(of(sealed))


def test_a_transaction_sealed_before_it_ended_is_found(sealed: SealedLedger) -> None:
    block = honest(sealed, 1)
    (one,) = block.transactions
    record = one.record._replace(events=one.record.events[:-1])
    sealed.write(resealed(sealed, block, SealedTransaction(record, encode(record), one.events[:-1])))
    details = [violation.detail for violation in of(sealed, firehose=False).violations]
    assert "the transaction is in a block, but had not ended" in details


def test_events_of_another_transaction_in_a_record_are_found(sealed: SealedLedger) -> None:
    block = honest(sealed, 2)
    one, other = block.transactions
    record = one.record._replace(
        events=(*one.record.events[:1], *other.record.events[1:]),
    )
    mixed = SealedTransaction(record, encode(record), (*one.events[:1], *other.events[1:]))
    sealed.write(resealed(sealed, block, mixed))
    details = [violation.detail for violation in of(sealed, firehose=False).violations]
    assert "event 1 belongs to another transaction or pipeline" in details


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (
            {"previous": Hash(bytes(31) + b"!")},
            "log in block 1: the header does not follow the one before it",
        ),
        ({"height": 5}, "log entry 1: its header says height 5"),
        ({"sealed_at": 0}, "log in block 1: the header was sealed before the one before it"),
        (
            {"directory_version": 9},
            "directory in block 1: the header covers version 9, its records lead to 4",
        ),
        ({"cuts": ()}, "cuts in block 1: the cut of pipeline 0 went back"),
    ],
)
def test_a_header_that_does_not_fit_the_log_is_found(
    sealed: SealedLedger, fields: dict[str, object], complaint: str
) -> None:
    sealed.write(honest(sealed))
    block = honest(sealed)
    sealed.write(resealed(sealed, block, *block.transactions, **fields))
    assert any(complaint in str(violation) for violation in of(sealed, firehose=False).violations)


def test_a_cut_that_commits_to_another_history_is_found_without_the_firehose(sealed: SealedLedger) -> None:
    block = honest(sealed)
    (cut,) = block.header.cuts
    sealed.write(resealed(sealed, block, *block.transactions, cuts=(cut._replace(chain=ZERO_HASH),)))
    found = [str(violation) for violation in of(sealed, firehose=False).violations]
    assert found == ["chain in block 0: the cut of pipeline 0 at event 7 is not on the history of its events"]


def test_a_cut_beyond_the_end_of_the_firehose_is_found(sealed: SealedLedger) -> None:
    block = honest(sealed)
    (cut,) = block.header.cuts
    sealed.write(resealed(sealed, block, *block.transactions, cuts=(cut._replace(sequence=8),)))
    assert "the cut of pipeline 0 at event 8 is not the firehose's, or beyond its end" in only(of(sealed))


def test_a_firehose_that_showed_something_else_than_was_sealed_is_found(sealed: SealedLedger) -> None:
    sealed.write(honest(sealed))
    shown = Ledger()
    shown.trade()
    shown.trade(0)
    other = decode(shown.firehose[0][0], FirehoseEvent)
    shown.firehose[0][0] = encode(other._replace(at=other.at - 1))
    report = audit(sealed.store(), REGISTRAR, {0: shown.firehose[0]})
    assert {violation.rule for violation in report.violations} == {"firehose"}


def test_a_directory_record_that_the_registrar_did_not_sign_is_found(sealed: SealedLedger) -> None:
    ledger = sealed.ledger
    ledger.registrar = signing_key("mallory")
    ledger.directory.root = PublicKey(ledger.registrar.id, ledger.registrar.public)
    ledger.directory.registrar = None
    ledger.admit("bank-of-mallory")
    sealed.seal()
    assert any("no signature by key" in violation.detail for violation in of(sealed).violations)


def test_transactions_out_of_order_are_found(sealed: SealedLedger) -> None:
    block = honest(sealed)
    swapped = block._replace(transactions=block.transactions[::-1])
    header = block.header._replace(root=merkle_root(swapped.leaves()))
    sealed.write(swapped._replace(header=header, encoded_header=encode(header)))
    assert any("out of order" in violation.detail for violation in of(sealed).violations)
