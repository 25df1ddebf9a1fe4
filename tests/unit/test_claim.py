"""A claim gives the proof of what was promised, evidence that a third party judges offline, or says that it is too early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from blockbuilder.core import cursor_of, seal_block
from parley.claim import Broken, Claimant, Kept, TooEarly, claim
from parley.errors import ProofError, RefusedError
from parley.evidence import Judgement, judge_evidence
from parley.firehose import event_digest
from parley.proof import verify_proof
from parley.receipts import PendingReceipt, issue_receipts, prove_promise
from parley.recorded import directory_in, prove_resent, receipt_in
from parley.schemas import (
    BareBlock,
    Breach,
    Envelope,
    Evidence,
    FirehoseEvent,
    Hash,
    MessageId,
    PlacedHeader,
    Reason,
    Receipt,
    Rejection,
    decode,
    encode,
)
from tests.fix_ledger import LOG, SealedLedger
from tests.lying_operator import GRACE, REGISTRAR, ROUTER, Operator, leaving_out, without
from tests.purging import purge, state, target
from tests.synthetic_ledger import signing_key

VKEY = str(LOG.verifier_key)


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def liar() -> Operator:
    """The same operator's second books."""
    return Operator()


def held_against(operator: Operator, receipt: Receipt) -> Kept | Broken | TooEarly:
    return claim(operator.store(), receipt, REGISTRAR)


def broken(operator: Operator, receipt: Receipt, breach: Breach) -> Judgement:
    """The judgement of a third party on the evidence that a claim makes, which is of this breach."""
    found = held_against(operator, receipt)
    assert isinstance(found, Broken)
    judgement = judge_evidence(found.evidence, VKEY, REGISTRAR)
    assert judgement == found.judgement
    assert judgement.breach == breach
    assert judgement.signer.operator.participant == "operator"
    assert judgement.receipt == receipt
    return judgement


class TestAKeptPromise:
    def test_is_the_proof_of_each_message(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        for number, receipt in enumerate(operator.receipts(deal)):
            kept = held_against(operator, receipt)
            assert isinstance(kept, Kept)
            assert kept.message.message_id == receipt.message_id
            assert verify_proof(kept.proof, VKEY, REGISTRAR).message.sequence == number

    def test_stays_one_when_the_log_goes_on(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        operator.pass_promises()
        assert isinstance(held_against(operator, operator.receipts(deal)[1]), Kept)

    def test_is_too_early_to_tell_while_the_transaction_is_open(self, operator: Operator) -> None:
        deal = operator.ledger.open()
        (receipt,) = operator.receipts(deal)
        nothing = held_against(operator, receipt)
        assert nothing == TooEarly(deal.terms.deadline + GRACE, operator.ledger.now - 1, covered=False)
        operator.ledger.trade()
        operator.seal()
        open_yet = held_against(operator, receipt)
        assert isinstance(open_yet, TooEarly)
        assert open_yet.covered

    def test_is_too_early_to_tell_from_an_empty_log(self, operator: Operator, tmp_path: Path) -> None:
        deal = operator.ledger.trade()
        empty = SealedLedger(tmp_path / "empty")
        empty.write_empty()
        assert claim(empty.store(), operator.receipts(deal)[0]) == TooEarly(
            deal.terms.deadline + GRACE, None, covered=False
        )

    def test_covers_a_timeout_at_the_deadline(self, operator: Operator) -> None:
        deal = operator.ledger.open()
        deal.expire()
        operator.seal()
        kept = held_against(operator, operator.receipts(deal)[0])
        assert isinstance(kept, Kept)
        assert kept.message.transaction.outcome == "TIMED_OUT"


class TestABrokenPromise:
    def test_a_transaction_left_out_of_its_block_is_evidence_once_the_time_is_past(
        self, operator: Operator
    ) -> None:
        deal = operator.ledger.trade()
        operator.ledger.trade()
        operator.seal_otherwise(leaving_out(deal))
        receipt = operator.receipts(deal)[2]
        assert isinstance(held_against(operator, receipt), TooEarly)
        operator.pass_promises()
        judged = broken(operator, receipt, "ABSENT")
        assert "none of the 1 blocks that cover it" in judged.detail

    def test_a_transaction_that_is_never_ended_is_evidence_once_the_time_is_past(
        self, operator: Operator
    ) -> None:
        deal = operator.ledger.open()
        for _ in range(3):
            operator.ledger.trade()
            operator.seal()
        operator.pass_promises()
        judged = broken(operator, operator.receipts(deal)[0], "ABSENT")
        assert "none of the 3 blocks that cover it" in judged.detail

    def test_a_pipeline_that_is_sealed_no_further_is_evidence_once_the_time_is_past(
        self, operator: Operator, liar: Operator
    ) -> None:
        receipt = operator.receipts(operator.ledger.trade())[0]
        liar.pass_promises()
        judged = broken(liar, receipt, "ABSENT")
        assert "covers pipeline 0 up to event -1, and the message is event 0" in judged.detail

    def test_a_first_block_that_comes_too_late_is_evidence(self) -> None:
        operator = Operator(begun=False)
        deal = operator.ledger.open()
        operator.ledger.now += 2 * 3_600_000
        operator.ledger.trade()
        operator.seal()
        assert (
            "block 0, the first that covers it, was sealed"
            in broken(operator, operator.receipts(deal)[0], "ABSENT").detail
        )

    def test_a_block_that_comes_too_late_is_evidence_and_proof(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.ledger.now = deal.terms.deadline + GRACE + 1
        operator.seal()
        receipt = operator.receipts(deal)[3]
        assert "was sealed 1 ms after that" in broken(operator, receipt, "LATE").detail
        found = held_against(operator, receipt)
        assert isinstance(found, Broken)
        assert found.late is not None
        assert verify_proof(found.late.proof, VKEY).message_id == receipt.message_id

    def test_a_block_sealed_at_the_last_moment_is_in_time(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.ledger.now = deal.terms.deadline + GRACE
        operator.seal()
        assert isinstance(held_against(operator, operator.receipts(deal)[3]), Kept)

    def test_another_event_in_its_place_is_evidence_at_once(self, operator: Operator, liar: Operator) -> None:
        deal = operator.ledger.trade()
        other = liar.ledger.open(content=b"I have 2,000 EUR to pay")
        other.say("bank-1", "FINISH")
        liar.seal()
        judged = broken(liar, operator.receipts(deal)[0], "RECORD")
        assert "another event stands at place 0 of pipeline 0" in judged.detail

    def test_a_record_that_was_stripped_of_it_is_evidence_at_once(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        receipt = operator.receipts(deal)[1]
        operator.seal_otherwise(without(receipt))
        judged = broken(operator, receipt, "RECORD")
        assert "from event 0 to event 3, stands without it" in judged.detail

    def test_a_record_that_was_stripped_of_what_came_before_is_evidence_at_once(
        self, operator: Operator
    ) -> None:
        first, second, *_ = operator.receipts(operator.ledger.trade())
        operator.seal_otherwise(without(first))
        judged = broken(operator, second, "RECORD")
        assert "stands in a way that does not prove it" in judged.detail

    def test_an_event_after_it_with_another_history_is_evidence_at_once(
        self, operator: Operator, liar: Operator
    ) -> None:
        receipt = operator.receipts(operator.ledger.open())[0]
        liar.ledger.open(content=b"another opening, which stays open")
        liar.ledger.trade()
        liar.seal()
        judged = broken(liar, receipt, "HISTORY")
        assert "event 1 of pipeline 0 commits to another history up to event 0" in judged.detail

    def test_an_event_before_it_with_another_history_is_evidence_at_once(
        self, operator: Operator, liar: Operator
    ) -> None:
        for one, content in ((operator, b"what was said"), (liar, b"what was said instead")):
            one.ledger.open(content=content).say("bank-1", "FINISH")
        receipt = operator.receipts(operator.ledger.open())[0]
        liar.ledger.open(content=b"another opening, which stays open")
        liar.ledger.open(content=b"and one")
        liar.seal()
        judged = broken(liar, receipt, "HISTORY")
        assert "commits to another history up to event" in judged.detail

    @pytest.mark.parametrize("place", [0, 1])
    def test_a_cut_with_another_history_is_evidence_at_once(
        self, operator: Operator, liar: Operator, place: int
    ) -> None:
        """The cut stands at the event, or just before it."""
        deals = [operator.ledger.open(), operator.ledger.open()]
        receipt = operator.receipts(deals[place])[0]
        liar.ledger.open(content=b"another opening, which stays open")
        liar.ledger.trade(1)
        liar.seal()
        if place:
            liar.ledger.open()
            liar.ledger.trade(1)
            liar.seal()
        judged = broken(liar, receipt, "HISTORY")
        assert "the cut of block 1 commits to another history up to event 0" in judged.detail

    def test_what_a_header_shows_is_evidence_though_its_block_is_withheld(
        self, operator: Operator, liar: Operator
    ) -> None:
        receipt = operator.receipts(operator.ledger.open())[0]
        liar.ledger.open(content=b"another opening, which stays open")
        liar.ledger.trade(1)
        liar.seal()
        assert liar.files is not None
        del liar.files["block/001"]
        broken(liar, receipt, "HISTORY")

    def test_a_header_that_commits_to_no_directory_hides_nothing(self, operator: Operator) -> None:
        kept = operator.ledger.trade()
        operator.seal()
        left_out = operator.ledger.trade()
        operator.seal_otherwise(leaving_out(left_out))
        operator.pass_promises()
        header = operator.store().header(len(operator.store()) - 1)
        nonsense = (header.directory_version, Hash(bytes(32)))
        later = cursor_of(header)
        operator.write(seal_block([], [], operator.headers[-1], later, nonsense, header.sealed_at))
        assert isinstance(held_against(operator, operator.receipts(kept)[0]), Kept)
        broken(operator, operator.receipts(left_out)[0], "ABSENT")

    def test_a_block_that_commits_to_another_directory_is_evidence(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.follow()
        block = operator.assembly.next_block(operator.headers[-1], operator.ledger.now)
        assert block is not None
        nonsense = (block.header.directory_version, Hash(bytes(32)))
        cuts = cursor_of(block.header)
        operator.write(
            seal_block(block.transactions, [], operator.headers[-1], cuts, nonsense, operator.ledger.now)
        )
        operator.assembly.sealed(block)
        operator.pass_promises()
        judged = broken(operator, operator.receipts(deal)[0], "RECORD")
        assert "block 1 holds it, and commits to another directory" in judged.detail

    def test_a_header_whose_cuts_went_back_hides_nothing(self, operator: Operator) -> None:
        deals = [operator.ledger.trade() for _ in range(2)]
        operator.seal_otherwise(leaving_out(deals[1]))
        operator.pass_promises()
        header = operator.store().header(len(operator.store()) - 1)
        directory = (header.directory_version, header.directory_chain)
        operator.write(seal_block([], [], operator.headers[-1], {}, directory, header.sealed_at))
        assert isinstance(held_against(operator, operator.receipts(deals[0])[0]), Kept)
        broken(operator, operator.receipts(deals[1])[0], "ABSENT")

    def test_a_log_that_never_commits_to_a_directory_is_told_to_be_audited(self) -> None:
        operator = Operator(begun=False)
        deal = operator.ledger.trade()
        operator.write(seal_block([], [], None, {}, (3, Hash(bytes(32))), operator.ledger.now))
        with pytest.raises(ProofError, match="no directory that a header commits to; audit the store"):
            held_against(operator, operator.receipts(deal)[0])

    def test_evidence_too_large_for_a_file_is_judged_with_the_blocks(self, operator: Operator) -> None:
        deal = operator.ledger.open()
        for _ in range(3):
            operator.ledger.trade()
            operator.seal()
        operator.pass_promises()
        receipt = operator.receipts(deal)[0]
        found = Claimant(operator.store(), enclosed_bytes=300).claim(receipt)
        assert isinstance(found, Broken)
        assert decode(found.evidence, Evidence).blocks == ()
        with pytest.raises(ProofError, match=r"^absent: the blocks .* are too large for the file; give"):
            judge_evidence(found.evidence, VKEY)
        assert judge_evidence(found.evidence, VKEY, store=operator.store()) == found.judgement

    def test_a_key_that_was_revoked_since_still_binds_whoever_signed(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        receipt = operator.receipts(deal)[0]
        operator.ledger.revoke("operator", ROUTER, operator.ledger.registrar)
        operator.seal_otherwise(leaving_out(deal))
        operator.pass_promises()
        judged = broken(operator, receipt, "ABSENT")
        assert judged.signer.key.revoked == "COMPROMISED"


class TestEvidenceThatIsNone:
    """An accuser chooses what to show; the judge does not fall for it."""

    def evidence(self, operator: Operator, receipt: Receipt) -> Evidence:
        """That a receipt contradicts itself, which it does not."""
        store = operator.store()
        newest = PlacedHeader(
            store.encoded_header(len(store) - 1),
            tuple(map(Hash, store.log.inclusion_path(len(store) - 1))),
        )
        return Evidence(
            "RECEIPT",
            encode(receipt._replace(event=None)),
            receipt.event or b"",
            newest,
            None,
            None,
            (),
            store.note,
            newest,
            tuple(operator.ledger.directory_records),
        )

    def judge(self, evidence: Evidence) -> Judgement:
        return judge_evidence(encode(evidence), VKEY, REGISTRAR)

    def test_because_the_receipt_is_good(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        with pytest.raises(ProofError, match="accused of nothing"):
            self.judge(self.evidence(operator, operator.receipts(deal)[0]))

    def test_because_its_directory_ends_before_the_sender_joined(self, operator: Operator) -> None:
        operator.ledger.admit("bank-late")
        deal = operator.ledger.open(0, ("bank-late", "bank-0"))
        deal.say("bank-0", "FINISH")
        operator.seal()
        evidence, store = self.evidence(operator, operator.receipts(deal)[0]), operator.store()
        older = PlacedHeader(store.encoded_header(0), tuple(map(Hash, store.log.inclusion_path(0))))
        with pytest.raises(ProofError, match="the directory here does not reach as far"):
            self.judge(evidence._replace(directory_of=older, directory=evidence.directory[:5]))
        with pytest.raises(
            ProofError, match=r"its records lead to version 5, but not to what block 1 states"
        ):
            self.judge(evidence._replace(directory=evidence.directory[:5]))

    def test_because_it_holds_more_or_less_than_its_breach_needs(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        receipt = operator.receipts(deal)[0]
        good = self.evidence(operator, receipt)
        for wrong in (
            good._replace(neighbour=b"x"),
            good._replace(breach="RECORD"),
            good._replace(breach="LATE"),
            good._replace(breach="HISTORY", blocks=(BareBlock(b"", ()),)),
        ):
            with pytest.raises(ProofError, match="does not hold what shows such a breach, or holds more"):
                self.judge(wrong)
        with pytest.raises(ProofError, match="holds its event twice"):
            self.judge(good._replace(receipt=encode(receipt)))

    def test_because_the_log_is_another_operators(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.ledger.admit("other-operator", "OPERATOR", (signing_key("log"),))
        operator.ledger.now += 2 * 3_600_000
        operator.seal()
        with pytest.raises(ProofError, match="given by operator, and the log is other-operator's"):
            held_against(operator, operator.receipts(deal)[0])

    def test_because_the_store_beside_it_is_of_another_log(self, operator: Operator, liar: Operator) -> None:
        deal = operator.ledger.open()
        operator.ledger.trade()
        operator.seal()
        operator.pass_promises()
        found = Claimant(operator.store(), enclosed_bytes=0).claim(operator.receipts(deal)[0])
        assert isinstance(found, Broken)
        liar.ledger.trade(1)
        for _ in range(2):
            liar.pass_promises(0)
        with pytest.raises(ProofError, match="the block store has another block 2"):
            judge_evidence(found.evidence, VKEY, store=liar.store())


class TestAReceiptThatContradictsItself:
    @pytest.fixture
    def promised(self, operator: Operator) -> Callable[[MessageId, bytes], Receipt]:
        operator.ledger.trade()
        operator.seal()

        def promise(identity: MessageId, event: bytes) -> Receipt:
            pending = PendingReceipt(identity, event_digest(event), event, operator.ledger.now + GRACE)
            return issue_receipts([pending], ROUTER)[0]

        return promise

    def test_by_the_event_of_another_message(
        self, operator: Operator, promised: Callable[[MessageId, bytes], Receipt]
    ) -> None:
        event = operator.ledger.firehose[0][0]
        judged = broken(operator, promised(MessageId(bytes(32)), event), "RECEIPT")
        assert "another one" in judged.detail

    @pytest.mark.parametrize("event", [b"", b"no event", encode(Envelope("", b"", ()))], ids=repr)
    def test_by_what_is_no_event(
        self, operator: Operator, promised: Callable[[MessageId, bytes], Receipt], event: bytes
    ) -> None:
        judged = broken(operator, promised(MessageId(bytes(32)), event), "RECEIPT")
        assert "none that a router may accept" in judged.detail

    def test_by_a_timeout(self, operator: Operator, promised: Callable[[MessageId, bytes], Receipt]) -> None:
        operator.ledger.open().expire()
        event = operator.ledger.firehose[0][-1]
        judged = broken(operator, promised(MessageId(bytes(32)), event), "RECEIPT")
        assert "a timeout" in judged.detail

    def test_by_a_place_that_there_is_not(
        self, operator: Operator, promised: Callable[[MessageId, bytes], Receipt]
    ) -> None:
        deal = operator.ledger.trade()
        (receipt, *_) = operator.receipts(deal)
        event = decode(receipt.event or b"", FirehoseEvent)
        for wrong in (event._replace(sequence=-1), event._replace(sequence=0)):
            judged = broken(operator, promised(receipt.message_id, encode(wrong)), "RECEIPT")
            assert "stands on no place that there is" in judged.detail

    def test_by_words_that_nobody_signed(
        self, operator: Operator, promised: Callable[[MessageId, bytes], Receipt]
    ) -> None:
        (receipt, *_) = operator.receipts(operator.ledger.trade())
        event = decode(receipt.event or b"", FirehoseEvent)
        envelope = decode(event.envelope or b"", Envelope)
        signature = envelope.signatures[0]._replace(signature=signing_key("bank-0").sign(b"something else"))
        forged = encode(event._replace(envelope=encode(envelope._replace(signatures=(signature,)))))
        judged = broken(operator, promised(receipt.message_id, forged), "RECEIPT")
        assert "a signature by bank-0 that does not verify" in judged.detail

    def test_and_verifying_it_says_so(
        self, operator: Operator, promised: Callable[[MessageId, bytes], Receipt]
    ) -> None:
        receipt = promised(MessageId(bytes(32)), operator.ledger.firehose[0][0])
        with pytest.raises(ProofError, match="the receipt is Operator plc's, but contradicts itself"):
            prove_promise(receipt, operator.ledger.directory)


class TestWhatIsNoReceiptOfThisLog:
    def test_one_by_another_backbone(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        receipt = operator.receipts(deal)[0]
        other = issue_receipts(
            [PendingReceipt(receipt.message_id, receipt.event_digest, receipt.event, receipt.block_by)],
            signing_key("another router"),
        )[0]
        with pytest.raises(ProofError, match="no operator's in this directory at version 5"):
            held_against(operator, other)

    def test_one_by_a_participant(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        receipt = operator.receipts(deal)[0]
        other = issue_receipts(
            [PendingReceipt(receipt.message_id, receipt.event_digest, receipt.event, receipt.block_by)],
            signing_key("bank-1"),
        )[0]
        with pytest.raises(ProofError, match="no operator's"):
            held_against(operator, other)

    def test_one_by_a_key_that_had_ended(self, operator: Operator) -> None:
        operator.ledger.rotate("operator", [signing_key("new router")], ROUTER, operator.ledger.registrar)
        deal = operator.ledger.trade()
        operator.seal()
        with pytest.raises(ProofError, match="no operator's in this directory at version 6"):
            held_against(operator, operator.receipts(deal)[0])

    def test_one_that_was_changed(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        receipt = operator.receipts(deal)[0]
        with pytest.raises(ProofError, match="not the router's"):
            held_against(operator, receipt._replace(block_by=0))

    def test_another_registrar(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        with pytest.raises(ProofError, match=r"^directory: Registrar plc does not have the registrar's key"):
            claim(operator.store(), operator.receipts(deal)[0], signing_key("stranger").public)


class TestARepeatedReceipt:
    """A message that was sent again is answered without its event, by the key of that day."""

    @pytest.fixture
    def first(self, operator: Operator) -> Receipt:
        deal = operator.ledger.trade()
        operator.seal()
        return operator.receipts(deal)[1]

    @pytest.fixture
    def repeated(self, operator: Operator, first: Receipt) -> bytes:
        later = signing_key("later router")
        operator.ledger.rotate("operator", [later], ROUTER, operator.ledger.registrar)
        operator.seal()
        pending = PendingReceipt(first.message_id, first.event_digest, None, first.block_by)
        return encode(issue_receipts([pending], later)[0])

    def test_finds_its_event_in_the_store(self, operator: Operator, repeated: bytes) -> None:
        receipt = receipt_in(repeated, store=operator.store())
        assert isinstance(held_against(operator, receipt), Kept)

    def test_takes_its_event_from_a_copy(self, operator: Operator, first: Receipt, repeated: bytes) -> None:
        for copy in (encode(first), first.event or b""):
            assert receipt_in(repeated, copy).event == first.event

    def test_needs_one(self, operator: Operator, repeated: bytes, liar: Operator) -> None:
        with pytest.raises(ProofError, match="give the first receipt"):
            receipt_in(repeated)
        with pytest.raises(ProofError, match=r"in none of the 1 blocks.*give the first receipt"):
            receipt_in(repeated, store=liar.store())
        with pytest.raises(ProofError, match="not the one that it promises"):
            receipt_in(repeated, operator.ledger.firehose[0][0])

    def test_is_evidence_as_the_first_one(
        self, operator: Operator, liar: Operator, first: Receipt, repeated: bytes
    ) -> None:
        liar.ledger.rotate("operator", [signing_key("later router")], ROUTER, liar.ledger.registrar)
        liar.pass_promises()
        broken(liar, receipt_in(repeated, encode(first)), "ABSENT")


class TestAMissingBlock:
    def test_is_told_by_its_name(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        assert operator.files is not None
        del operator.files["block/001"]
        with pytest.raises(ProofError, match=r"block/001: missing from the block store"):
            held_against(operator, operator.receipts(deal)[0])


def test_a_purged_message_is_proved_by_the_receipts_own_event(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "log")
    operator.ledger.admit("regulator", "REGULATOR")
    deal = operator.ledger.trade()
    operator.seal()
    state(operator, target(operator, deal))
    operator.seal()
    assert purge(operator) == 0
    for receipt in operator.receipts(deal):
        kept = held_against(operator, receipt)
        assert isinstance(kept, Kept)
        assert kept.message.message_id == receipt.message_id


class TestAMessageThatIsSentAgainAndRefused:
    def refusal(self, identity: MessageId, reason: Reason = "UNKNOWN_TRANSACTION") -> RefusedError:
        return RefusedError(Rejection(0, 0, 0, 1, identity, None, "bank-0", reason, False, "detail", None))

    def test_is_proved_where_it_is_on_the_record(self, operator: Operator) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        receipt = operator.receipts(deal)[2]
        proof = prove_resent(self.refusal(receipt.message_id), operator.store())
        assert verify_proof(proof, VKEY).message.sequence == 2

    def test_stays_refused_where_it_is_not(self, operator: Operator) -> None:
        with pytest.raises(ProofError, match="in none of the 1 blocks") as raised:
            prove_resent(refused := self.refusal(MessageId(bytes(32))), operator.store())
        assert raised.value.__cause__ is refused

    def test_stays_refused_for_whatever_else_is_wrong(self, operator: Operator) -> None:
        with pytest.raises(RefusedError, match="BAD_SIGNATURE"):
            prove_resent(self.refusal(MessageId(bytes(32)), "BAD_SIGNATURE"), operator.store())


def test_the_directory_of_a_log_begins_with_the_registrar(operator: Operator) -> None:
    for sealed in (directory_in(operator.store()), directory_in(operator.store(), REGISTRAR)):
        assert sealed.directory.registrar == "registrar"
        assert sealed.records == tuple(operator.ledger.directory_records)
