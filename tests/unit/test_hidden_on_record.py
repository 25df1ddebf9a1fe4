"""Hidden parties in blocks: audit, proof and purge deal with sealed addresses, and hold a hidden party's words to its keys."""

from __future__ import annotations

import pytest

from parley.audit import AuditReport, audit
from parley.errors import ProofError
from parley.keys import public_key
from parley.lookup import Lookup
from parley.proof import make_proof, verify_proof
from parley.sealed_address import Seal, seal_address, showing
from tests.fix_ledger import LOG, SealedLedger
from tests.hiding import OLD, list_keys
from tests.purging import admit_operator, contents, purge, state, target
from tests.synthetic_ledger import Deal, signing_key


@pytest.fixture
def made(sealed: SealedLedger) -> SealedLedger:
    """A ledger whose operator takes sealed addresses."""
    admit_operator(sealed)
    list_keys(sealed.ledger, OLD, by=signing_key("operator"))
    return sealed


def hidden_deal(made: SealedLedger) -> tuple[Deal, Seal]:
    """What bank-0 opens with bank-1, hidden, and bank-2."""
    ledger = made.ledger
    seal = seal_address("bank-1", public_key(OLD.public), ledger.next_id(), "bank-0")
    return ledger.open(0, ("bank-0", seal.text, "bank-2")), seal


def answered(made: SealedLedger, by: str = "bank-1", *, shows: bool = True) -> Deal:
    """A sealed deal that the hidden party finishes, or somebody in its name."""
    deal, seal = hidden_deal(made)
    shown = [showing(seal)] if shows else []
    deal.say(seal.text, "FINISH", b"we take it", [signing_key(by)], shown)
    made.seal()
    return deal


def report(made: SealedLedger) -> AuditReport:
    return audit(made.store(), made.ledger.registrar.public, dict(enumerate(made.ledger.firehose)))


def proof(made: SealedLedger, deal: Deal) -> bytes:
    lookup = Lookup(made.store())
    return make_proof(lookup, lookup.transaction(deal.id))


def test_an_audit_and_a_proof_find_the_hidden_partys_words_its_own(made: SealedLedger) -> None:
    deal = answered(made)
    assert report(made).good
    told = verify_proof(proof(made, deal), LOG.verifier_key)
    assert told.sender.participant == "bank-1"
    assert told.message.content == b"we take it"


@pytest.mark.parametrize(
    ("by", "shows", "reason"),
    [("bank-2", True, "which was not bank-1's"), ("bank-1", False, "without showing")],
)
def test_an_audit_and_a_proof_tell_whoever_speaks_in_its_place(
    made: SealedLedger, by: str, shows: bool, reason: str
) -> None:
    deal = answered(made, by, shows=shows)
    (violation,) = report(made).violations
    assert reason in str(violation)
    with pytest.raises(ProofError, match=reason):
        verify_proof(proof(made, deal), LOG.verifier_key)


def test_its_words_stay_its_own_after_rotations_of_its_keys_and_the_routers(made: SealedLedger) -> None:
    deal = answered(made)
    list_keys(made.ledger, by=signing_key("operator"))
    made.ledger.rotate("bank-1", [signing_key("next")], signing_key("bank-1"))
    made.seal()
    assert report(made).good
    assert verify_proof(proof(made, deal), LOG.verifier_key).sender.participant == "bank-1"


def test_a_silent_hidden_party_is_nowhere_in_the_blocks(made: SealedLedger) -> None:
    made.seal()
    known = [data for data in contents(made.folder) if b"bank-1" in data]
    deal, seal = hidden_deal(made)
    deal.expire()
    made.seal()
    assert report(made).good
    lookup = Lookup(made.store())
    block = lookup.store.block(lookup.transaction(deal.id).height)
    assert block.transactions[0].record.waiting_on == (seal.text, "bank-2")
    assert [data for data in contents(made.folder) if b"bank-1" in data] == known


def test_a_purge_takes_a_hidden_partys_words_and_everything_verifies(made: SealedLedger) -> None:
    deal = answered(made)
    state(made, target(made, deal, 1))
    made.seal()
    assert purge(made) == 0
    done = report(made)
    assert done.good, [str(violation) for violation in done.violations]
    assert not any(b"we take it" in data for data in contents(made.folder))
