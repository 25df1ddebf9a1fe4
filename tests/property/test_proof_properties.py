"""A proof file holds only what is verified: whatever is changed, cut or added is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.errors import ProofError
from parley.lookup import Lookup
from parley.proof import make_proof, verify_proof
from tests.fix_ledger import LOG, SealedLedger

VKEY = str(LOG.verifier_key)
CHANGES = (0x01, 0x80, 0xFF)


@pytest.fixture(scope="module")
def proofs(busy: SealedLedger) -> tuple[bytes, bytes]:
    """A proof of a transaction's first message and one of its last, from different blocks."""
    lookup = Lookup(busy.store())
    first = lookup.store.block(1).transactions[1].record.transaction_id
    last = lookup.store.block(3).transactions[-1].record.transaction_id
    return (
        make_proof(lookup, lookup.transaction(first)._replace(event_index=0)),
        make_proof(lookup, lookup.transaction(last)),
    )


def refused(data: bytes) -> bool:
    try:
        verify_proof(data, VKEY)
    except ProofError:
        return True
    return False


def test_every_changed_byte_is_refused(proofs: tuple[bytes, bytes]) -> None:
    for proof in proofs:
        assert not refused(proof)
        for position in range(len(proof)):
            for change in CHANGES:
                changed = bytearray(proof)
                changed[position] ^= change
                assert refused(bytes(changed)), f"byte {position} ^ {change:#x} of {len(proof)}"


def test_every_truncation_is_refused(proofs: tuple[bytes, bytes]) -> None:
    for proof in proofs:
        assert all(refused(proof[:length]) for length in range(len(proof)))


def test_every_removed_or_doubled_byte_is_refused(proofs: tuple[bytes, bytes]) -> None:
    proof, _ = proofs
    for position in range(len(proof)):
        assert refused(proof[:position] + proof[position + 1 :])
        assert refused(proof[:position] + proof[position : position + 1] + proof[position:])


@given(data=st.data())
def test_any_replacement_of_a_stretch_is_refused(data: st.DataObject, proofs: tuple[bytes, bytes]) -> None:
    proof = data.draw(st.sampled_from(proofs))
    start = data.draw(st.integers(0, len(proof)))
    end = data.draw(st.integers(start, min(len(proof), start + 64)))
    new = data.draw(st.binary(max_size=64).filter(lambda new: new != proof[start:end]))
    assert refused(proof[:start] + new + proof[end:])


@given(added=st.binary(min_size=1, max_size=64))
def test_any_extension_is_refused(added: bytes, proofs: tuple[bytes, bytes]) -> None:
    assert all(refused(proof + added) and refused(added + proof) for proof in proofs)


@given(data=st.data())
def test_a_mixture_of_two_good_proofs_is_refused(data: st.DataObject, proofs: tuple[bytes, bytes]) -> None:
    one, other = data.draw(st.permutations(proofs))
    cut = data.draw(st.integers(11, min(map(len, proofs)) - 1))
    mixed = one[:cut] + other[cut:]
    assert mixed in proofs or refused(mixed)
