"""A key counts by its place in the directory, everywhere: no date, no operator and no leaving out brings an old one back."""

from __future__ import annotations

import pytest

from parley.audit import audit
from parley.errors import ProofError, VerificationError
from parley.events import prove_spoken, read_spoken
from parley.lookup import Lookup
from parley.proof import make_proof, verify_proof
from parley.receipts import PendingReceipt, ReceiptVerifier, issue_receipts
from parley.schemas import Envelope, FirehoseEvent, Hash, MessageId, Proof, decode, encode
from router.core import Limits, Refused, Submission, read_submission
from tests.dialogue import Dialogue
from tests.dialogue import sealed as signed
from tests.fix_ledger import LOG, SealedLedger
from tests.synthetic_ledger import START, Deal, Ledger, signing_key

OLD, NEW, SPARE = signing_key("bank-0"), signing_key("bank-0's new key"), signing_key("bank-0's spare key")
VKEY = str(LOG.verifier_key)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def judged(ledger: Ledger, *keys: object) -> Submission | Refused:
    """What the router makes of an opening by bank-0, signed by these keys."""
    message = Dialogue.between("bank-0", "bank-1", opened_at=START).message("bank-0")
    return read_submission(signed(message, *keys), ledger.directory, Limits())  # type: ignore[arg-type]


def reason(outcome: Submission | Refused) -> str:
    assert isinstance(outcome, Refused)
    return outcome.refusal.reason


class TestTheRouter:
    def test_takes_the_new_key_after_a_rotation_and_refuses_the_old_one(self, ledger: Ledger) -> None:
        ledger.rotate("bank-0", [NEW], OLD)
        assert isinstance(judged(ledger, NEW), Submission)
        refused = judged(ledger, OLD)
        assert reason(refused) == "KEY_NOT_VALID"
        assert isinstance(refused, Refused)
        assert (
            "was replaced at directory version 5; sign with a key that is valid now" in refused.refusal.detail
        )

    def test_tells_the_participant_when_an_old_key_of_its_own_is_used_and_names_no_sender(
        self, ledger: Ledger
    ) -> None:
        ledger.rotate("bank-0", [NEW], OLD)
        refused = judged(ledger, OLD)
        assert isinstance(refused, Refused)
        assert (refused.sender, refused.address) == (None, "bank-0")

    def test_tells_nobody_where_even_the_old_key_did_not_sign(self, ledger: Ledger) -> None:
        ledger.rotate("bank-0", [NEW], OLD)
        message = Dialogue.between("bank-0", "bank-1", opened_at=START).message("bank-0")
        envelope = decode(signed(message, OLD), Envelope)
        forged = envelope._replace(signatures=(envelope.signatures[0]._replace(signature=bytes(64)),))
        refused = read_submission(encode(forged), ledger.directory, Limits())
        assert reason(refused) == "KEY_NOT_VALID"
        assert isinstance(refused, Refused)
        assert refused.address is None

    def test_refuses_a_revoked_key(self, ledger: Ledger) -> None:
        ledger.revoke("bank-0", OLD)
        refused = judged(ledger, OLD)
        assert reason(refused) == "KEY_NOT_VALID"
        assert isinstance(refused, Refused)
        assert "was revoked at directory version 5" in refused.refusal.detail

    def test_refuses_a_message_one_of_whose_keys_is_no_more_valid(self, ledger: Ledger) -> None:
        ledger.rotate("bank-0", [NEW], OLD)
        assert reason(judged(ledger, NEW, OLD)) == "KEY_NOT_VALID"

    def test_demands_as_many_keys_as_the_entry_says(self, ledger: Ledger) -> None:
        ledger.admit("bank-4", keys=(NEW, SPARE), threshold=2)
        message = Dialogue.between("bank-4", "bank-1", opened_at=START).message("bank-4")
        one, two = signed(message, NEW), signed(message, NEW, SPARE)
        refused = read_submission(one, ledger.directory, Limits())
        assert reason(refused) == "SIGNATURES_MISSING"
        assert isinstance(refused, Refused)
        assert (refused.sender, refused.address) == ("bank-4", "bank-4")
        assert isinstance(read_submission(two, ledger.directory, Limits()), Submission)

    def test_counts_a_key_that_signs_twice_once(self, ledger: Ledger) -> None:
        ledger.admit("bank-4", keys=(NEW, SPARE), threshold=2)
        message = Dialogue.between("bank-4", "bank-1", opened_at=START).message("bank-4")
        assert (
            reason(read_submission(signed(message, NEW, NEW), ledger.directory, Limits()))
            == "SIGNATURES_MISSING"
        )

    def test_knows_no_key_that_only_reads(self, ledger: Ledger) -> None:
        assert reason(judged(ledger, signing_key("never admitted"))) == "UNKNOWN_KEY"


def finished(sealed: SealedLedger, deal: Deal) -> bytes:
    """The proof of a deal's opening, once it is finished and sealed."""
    deal.say("bank-1", "FINISH")
    sealed.seal()
    lookup = Lookup(sealed.store())
    return make_proof(lookup, lookup.transaction(deal.id)._replace(event_index=0))


class TestWhatWasSaidBefore:
    @pytest.mark.parametrize("how", ["rotated", "revoked"])
    def test_stays_good_in_proof_audit_and_replay(self, sealed: SealedLedger, how: str) -> None:
        deal = sealed.ledger.open()
        if how == "rotated":
            sealed.ledger.rotate("bank-0", [NEW], OLD)
        else:
            sealed.ledger.revoke("bank-0", OLD)
        proof = finished(sealed, deal)
        report = audit(
            sealed.store(), sealed.ledger.registrar.public, dict(enumerate(sealed.ledger.firehose))
        )
        assert report.good
        assert report.directory_records == 5
        told = verify_proof(proof, VKEY)
        assert (told.sender.participant, told.sender_version) == ("bank-0", 2)
        event = decode(sealed.ledger.firehose[0][0], FirehoseEvent)
        spoken = read_spoken(event)
        assert spoken is not None
        prove_spoken(event, spoken, sealed.ledger.directory)


class TestAnOldKeyInThievesHands:
    """The operator helps: it puts on the firehose what an honest router refuses."""

    @pytest.fixture(params=["rotated", "revoked"])
    def stolen(self, sealed: SealedLedger, request: pytest.FixtureRequest) -> SealedLedger:
        if request.param == "rotated":
            sealed.ledger.rotate("bank-0", [NEW], OLD)
        else:
            sealed.ledger.revoke("bank-0", OLD)
        return sealed

    def test_is_refused_by_the_client_whatever_date_the_message_claims(self, stolen: SealedLedger) -> None:
        stolen.ledger.now = START - 86_400_000
        stolen.ledger.open(keys=(OLD,))
        event = decode(stolen.ledger.firehose[0][0], FirehoseEvent)
        spoken = read_spoken(event)
        assert spoken is not None
        with pytest.raises(VerificationError, match="which was not bank-0's at directory version 5"):
            prove_spoken(event, spoken, stolen.ledger.directory)

    def test_is_found_by_an_audit(self, stolen: SealedLedger) -> None:
        finished(stolen, stolen.ledger.open(keys=(OLD,)))
        (violation,) = audit(stolen.store(), stolen.ledger.registrar.public).violations
        assert violation.rule == "transaction"
        assert "which was not bank-0's at directory version 5" in violation.detail

    def test_proves_nothing(self, stolen: SealedLedger) -> None:
        with pytest.raises(ProofError, match=r"^signature: .* was not bank-0's at directory version 5"):
            verify_proof(finished(stolen, stolen.ledger.open(keys=(OLD,))), VKEY)

    def test_proves_nothing_even_if_the_proof_leaves_the_change_out(self, stolen: SealedLedger) -> None:
        proof = decode(finished(stolen, stolen.ledger.open(keys=(OLD,))), Proof)
        with pytest.raises(ProofError, match=r"^directory: its records lead to version 4, but not to what"):
            verify_proof(encode(proof._replace(directory=proof.directory[:-1])), VKEY)

    def test_does_not_help_with_an_event_said_to_be_judged_by_an_older_directory(
        self, stolen: SealedLedger
    ) -> None:
        """Then the firehose itself shows it: what it had been judged by only grows along a pipeline."""
        ledger = stolen.ledger
        ledger.open(parties=("bank-2", "bank-1"))
        version, ledger.directory.version = ledger.directory.version, 4
        deal = ledger.open(keys=(OLD,))
        ledger.directory.version = version
        finished(stolen, deal)
        violations = audit(
            stolen.store(), ledger.registrar.public, dict(enumerate(ledger.firehose))
        ).violations
        assert any("an older one than the event before it" in each.detail for each in violations)


def test_too_few_signatures_are_found_by_an_audit_and_prove_nothing(sealed: SealedLedger) -> None:
    sealed.ledger.admit("bank-4", keys=(NEW, SPARE), threshold=2)
    deal = sealed.ledger.open(parties=("bank-4", "bank-1"), keys=(NEW,))
    proof = finished(sealed, deal)
    (violation,) = audit(sealed.store(), sealed.ledger.registrar.public).violations
    assert "is signed by 1 of the 2 keys that bank-4's messages needed then" in violation.detail
    with pytest.raises(ProofError, match="1 of the 2 keys"):
        verify_proof(proof, VKEY)


class TestAReceipt:
    def receipts(self, ledger: Ledger) -> ReceiptVerifier:
        ledger.admit("operator", "OPERATOR", (OLD_ROUTER,))
        ledger.rotate("operator", [NEW_ROUTER], OLD_ROUTER)
        return ReceiptVerifier(ledger.directory)

    def test_holds_for_what_was_judged_while_its_key_was_valid(self, ledger: Ledger) -> None:
        verifier = self.receipts(ledger)
        (old,) = issue_receipts([PENDING], OLD_ROUTER)
        (new,) = issue_receipts([PENDING], NEW_ROUTER)
        verifier.verify(old, 5)
        verifier.verify(new, 6)

    def test_by_a_key_that_was_replaced_before_is_refused(self, ledger: Ledger) -> None:
        verifier = self.receipts(ledger)
        (old,) = issue_receipts([PENDING], OLD_ROUTER)
        for version in (6, None):
            with pytest.raises(ProofError, match="which is no operator's in the directory at version 6"):
                verifier.verify(old, version)


OLD_ROUTER, NEW_ROUTER = signing_key("router"), signing_key("the router's new key")
PENDING = PendingReceipt(MessageId(bytes(32)), Hash(bytes(32)), None, 0)
