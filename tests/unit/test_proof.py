"""A proof file proves one message offline, and says at which step it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from parley.blocks import BlockStore
from parley.envelope import message_id
from parley.errors import ProofError
from parley.lifecycle import recorded, step
from parley.lookup import Lookup
from parley.note import NoteSigner, sign_note
from parley.proof import make_proof, verify_proof
from parley.schemas import Envelope, FirehoseEvent, Hash, Message, Proof, TransactionId, decode, encode
from tests.fix_ledger import LOG, SealedLedger
from tests.synthetic_ledger import signing_key

VKEY = str(LOG.verifier_key)


@pytest.fixture(scope="module")
def lookup(busy: SealedLedger) -> Lookup:
    return Lookup(busy.store())


@pytest.fixture(scope="module")
def finished(lookup: Lookup) -> TransactionId:
    return lookup.store.block(2).transactions[0].record.transaction_id


@pytest.fixture(scope="module")
def good(lookup: Lookup, finished: TransactionId) -> bytes:
    return make_proof(lookup, lookup.transaction(finished))


def test_every_message_of_every_block_has_a_proof_that_verifies(lookup: Lookup) -> None:
    proved = 0
    for block in lookup.store.blocks():
        for sealed in block.transactions:
            for index, encoded in enumerate(sealed.events):
                event = decode(encoded, FirehoseEvent)
                if event.envelope is None:
                    continue
                place = lookup.transaction(sealed.record.transaction_id)._replace(event_index=index)
                told = verify_proof(make_proof(lookup, place), VKEY)
                assert told.event == event
                assert told.transaction == sealed.record
                assert told.message.sender == told.sender.participant
                proved += 1
    assert proved == sum(lookup.store.header(height).messages for height in range(len(lookup.store))) > 40


def test_a_proof_tells_who_said_what_when_and_how_it_ended(good: bytes, lookup: Lookup) -> None:
    told = verify_proof(good, VKEY)
    assert told.message.content == b"Delivered"
    assert told.sender.legal_name == "Bank-1 plc"
    assert told.sender_version == 3
    assert told.registrar.legal_name == "Registrar plc"
    assert told.transaction.outcome == "FINISHED"
    assert told.event.at == told.transaction.ended_at
    assert told.header == lookup.store.header(2)
    assert told.checkpoint == lookup.store.checkpoint
    assert told.message_id == message_id(told.envelope.payload)


def test_a_message_is_found_by_its_id(lookup: Lookup, good: bytes) -> None:
    told = verify_proof(good, VKEY)
    assert make_proof(lookup, lookup.message(told.message_id)) == good


def test_a_transaction_is_found_by_where_it_ended_on_the_firehose(lookup: Lookup) -> None:
    for block in lookup.store.blocks():
        for sealed in block.transactions:
            place = lookup.ending(sealed.record.pipeline, sealed.ending_sequence)
            assert place == lookup.transaction(sealed.record.transaction_id)
    with pytest.raises(ProofError, match="event 1 of pipeline 0 is covered by block 1, but ended nothing"):
        lookup.ending(0, 1)


def test_what_is_in_no_block_is_said_to_be_in_none(busy: SealedLedger) -> None:
    lookup = Lookup(busy.store())
    with pytest.raises(ProofError, match=r"in none of the 7 blocks"):
        lookup.transaction(TransactionId(bytes(16)))
    with pytest.raises(ProofError, match=r"in none of the 7 blocks"):
        lookup.message(message_id(b"never sent"))
    with pytest.raises(ProofError, match=r"directory version 6 is in none of the 7 blocks"):
        lookup.directory(99)


def test_a_timeout_has_no_proof_of_a_message(lookup: Lookup) -> None:
    last = lookup.store.block(len(lookup.store) - 1)
    assert last.transactions[0].record.outcome == "TIMED_OUT"
    with pytest.raises(ProofError, match=r"is its timeout"):
        make_proof(lookup, lookup.transaction(last.transactions[0].record.transaction_id))


def test_the_registrar_can_be_pinned(good: bytes) -> None:
    assert verify_proof(good, VKEY, signing_key("registrar").public).registrar.role == "REGISTRAR"
    with pytest.raises(ProofError, match=r"^directory: Registrar plc does not have the registrar's key"):
        verify_proof(good, VKEY, signing_key("another registrar").public)


def test_another_log_key_is_refused(good: bytes) -> None:
    other = LOG.verifier_key._replace(public_key=signing_key("another log").public)
    with pytest.raises(ProofError, match=r"^checkpoint: .*no known key"):
        verify_proof(good, other)


def test_a_message_signed_by_two_keys_has_both_verified(sealed: SealedLedger) -> None:
    keys = (signing_key("first pair of eyes"), signing_key("second pair of eyes"))
    sealed.ledger.admit("bank-four-eyes", keys=keys)
    deal = sealed.ledger.open(0, ("bank-four-eyes", "bank-0"), keys=keys)
    deal.say("bank-0", "FINISH")
    sealed.seal()
    lookup = Lookup(sealed.store())
    proof = make_proof(lookup, lookup.transaction(deal.id)._replace(event_index=0))
    assert len(verify_proof(proof, VKEY).envelope.signatures) == 2


def sealed_with(sealed: SealedLedger, change: Callable[[Envelope], Envelope]) -> bytes:
    """The proof of an opening whose envelope the operator changed before it was sealed."""
    ledger = sealed.ledger
    deal = ledger.open()
    opening = decode(ledger.firehose[0].pop(), FirehoseEvent)
    ledger.pipelines[0].chain = opening.chain
    assert opening.envelope is not None
    envelope = decode(opening.envelope, Envelope)
    sequence, digest = ledger.append(0, deal.id, encode(change(envelope)), None)
    message = decode(envelope.payload, Message)
    deal.state = recorded(
        None, message, step(None, message), message_id(envelope.payload), sequence, digest, ledger.now
    )
    deal.say("bank-1", "FINISH")
    sealed.seal()
    lookup = Lookup(sealed.store())
    return make_proof(lookup, lookup.transaction(deal.id)._replace(event_index=0))


def test_an_operator_cannot_put_a_message_into_a_participants_mouth(sealed: SealedLedger) -> None:
    def resign(envelope: Envelope) -> Envelope:
        mallory = signing_key("mallory")
        return envelope._replace(
            signatures=(envelope.signatures[0]._replace(signature=mallory.sign(b"anything")),)
        )

    with pytest.raises(ProofError, match=r"^signature: a signature by Bank-0 plc does not verify"):
        verify_proof(sealed_with(sealed, resign), VKEY)


def test_an_operator_cannot_sign_for_a_participant_with_a_key_of_its_own(sealed: SealedLedger) -> None:
    def swap(envelope: Envelope) -> Envelope:
        mallory = signing_key("mallory")
        return envelope._replace(signatures=(envelope.signatures[0]._replace(key_id=mallory.id),))

    with pytest.raises(
        ProofError, match=r"^signature: is signed by key .* which was not bank-0's at directory version 4"
    ):
        verify_proof(sealed_with(sealed, swap), VKEY)


def test_an_operator_cannot_leave_the_signature_out(sealed: SealedLedger) -> None:
    with pytest.raises(ProofError, match=r"^signature: carries an envelope that is unsigned"):
        verify_proof(sealed_with(sealed, lambda envelope: envelope._replace(signatures=())), VKEY)


def swapped(proof: bytes, other: bytes, field: str) -> bytes:
    """One proof with a part of another."""
    part = getattr(decode(other, Proof), field)
    return encode(decode(proof, Proof)._replace(**{field: part}))


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("event", "^transaction: the transaction record does not list the event"),
        ("transaction", "^transaction: the transaction record does not list the event"),
        (
            "directory",
            "^directory: its records lead to version 5, but not to what block 2 states for version 4",
        ),
    ],
)
def test_a_part_of_another_good_proof_does_not_fit(
    lookup: Lookup, good: bytes, field: str, complaint: str
) -> None:
    other_transaction = lookup.store.block(3).transactions[0].record.transaction_id
    other = make_proof(lookup, lookup.transaction(other_transaction)._replace(event_index=0))
    with pytest.raises(ProofError, match=complaint):
        verify_proof(swapped(good, other, field), VKEY)


def test_a_leaf_at_another_place_is_refused(good: bytes) -> None:
    proof = decode(good, Proof)
    moved = proof.transaction._replace(leaf_index=1 - proof.transaction.leaf_index)
    with pytest.raises(ProofError, match=r"^block: inclusion root"):
        verify_proof(encode(proof._replace(transaction=moved)), VKEY)
    longer = proof.transaction._replace(log_path=(*proof.transaction.log_path, Hash(bytes(32))))
    with pytest.raises(ProofError, match=r"^block: inclusion path"):
        verify_proof(encode(proof._replace(transaction=longer)), VKEY)


def test_a_second_signature_line_on_the_checkpoint_is_refused(good: bytes, busy: SealedLedger) -> None:
    text = busy.store().checkpoint.text
    witness = NoteSigner("witness.example", signing_key("witness"))
    proof = decode(good, Proof)._replace(checkpoint=sign_note(text, LOG, witness))
    with pytest.raises(ProofError, match=r"^checkpoint: checkpoint signatures: only the log's own"):
        verify_proof(encode(proof), VKEY)


def test_garbage_is_refused_in_words() -> None:
    with pytest.raises(ProofError, match=r"^proof file: not an Avro single-object encoding"):
        verify_proof(b"", VKEY)
    with pytest.raises(ProofError, match=r"^proof file: expected a Proof"):
        verify_proof(encode(Envelope("", b"", ())), VKEY)


def test_a_store_that_grew_gives_proofs_under_the_new_checkpoint(sealed: SealedLedger) -> None:
    deal = sealed.ledger.trade()
    sealed.seal()
    early: BlockStore = sealed.store()
    sealed.ledger.trade()
    sealed.seal()
    for store in (early, sealed.store()):
        lookup = Lookup(store)
        told = verify_proof(make_proof(lookup, lookup.transaction(deal.id)), VKEY)
        assert told.checkpoint == store.checkpoint
