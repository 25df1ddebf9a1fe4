"""Envelopes: DSSE's pre-authentication encoding, what a signature covers, and whose signatures are demanded."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.envelope import (
    DIRECTORY_ENTRY_TYPE,
    MESSAGE_TYPE,
    RECEIPTS_TYPE,
    countersign,
    message_id,
    pre_authentication_encoding,
    seal,
    signature_claim,
    verify_signatures,
)
from parley.errors import BadSignatureError
from parley.keys import key_id, public_key, verify
from parley.schemas import Envelope, Message, Signature, decode, encode
from tests.strategies import KEYS, envelopes, messages

ALICE, BOB, CAROL = KEYS[:3]
PAYLOAD = b"hello world"
EMPTY = Envelope(MESSAGE_TYPE, PAYLOAD, ())


def test_the_specifications_example_is_encoded_as_published() -> None:
    """DSSE, protocol.md, "Test Vectors"."""
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_nothing_at_all_is_encoded_too() -> None:
    assert pre_authentication_encoding("", b"") == b"DSSEv1 0  0 "


def test_lengths_are_of_bytes_not_of_characters() -> None:
    assert pre_authentication_encoding("é", "☃".encode()) == b"DSSEv1 2 \xc3\xa9 3 \xe2\x98\x83"


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_no_two_contents_share_an_encoding(kind: str, payload: bytes, other: str, another: bytes) -> None:
    same = (kind, payload) == (other, another)
    encodings = (
        pre_authentication_encoding(kind, payload),
        pre_authentication_encoding(other, another),
    )
    assert (encodings[0] == encodings[1]) == same


def test_a_space_cannot_be_moved_between_type_and_payload() -> None:
    assert pre_authentication_encoding("a", b"1 b") != pre_authentication_encoding("a 3 1", b"b")


def test_each_payload_type_is_its_own() -> None:
    assert len({MESSAGE_TYPE, DIRECTORY_ENTRY_TYPE, RECEIPTS_TYPE}) == 3


@settings(max_examples=30, deadline=None)
@given(messages())
def test_a_sealed_payload_is_the_records_encoding_and_its_id_the_digest(message: Message) -> None:
    envelope = seal(MESSAGE_TYPE, message, ALICE)
    assert decode(envelope.payload, Message) == message
    assert message_id(envelope.payload) == sha256(encode(message)).digest()


def test_signatures_stand_in_the_order_of_signing() -> None:
    envelope = countersign(countersign(EMPTY, BOB), ALICE, CAROL)
    assert [signature.key_id for signature in envelope.signatures] == [BOB.id, ALICE.id, CAROL.id]
    assert (envelope.payload_type, envelope.payload) == (MESSAGE_TYPE, PAYLOAD)


@settings(max_examples=30, deadline=None)
@given(envelopes())
def test_every_signature_verifies_under_its_key_and_no_other(envelope: Envelope) -> None:
    by_id = {key.id: key for key in KEYS}
    for signature in envelope.signatures:
        for key in by_id.values():
            claim = signature_claim(envelope, signature, key.public)
            assert verify(*claim) == (key.id == signature.key_id)


def test_the_demanded_signers_may_be_some_of_many() -> None:
    envelope = countersign(EMPTY, ALICE, BOB, CAROL)
    verify_signatures(envelope, [])
    verify_signatures(envelope, [public_key(BOB.public)])
    verify_signatures(envelope, [public_key(key.public) for key in (CAROL, ALICE, BOB)])


def test_a_missing_signature_is_refused_naming_its_key() -> None:
    with pytest.raises(BadSignatureError, match=f"no signature by key {BOB.id.hex()}; have its holder sign"):
        verify_signatures(countersign(EMPTY, ALICE), [public_key(ALICE.public), public_key(BOB.public)])


def test_a_signature_claimed_for_another_key_is_refused() -> None:
    (by_alice,) = countersign(EMPTY, ALICE).signatures
    forged = EMPTY._replace(signatures=(Signature(BOB.id, by_alice.signature),))
    with pytest.raises(BadSignatureError, match=f"the signature by key {BOB.id.hex()} does not verify"):
        verify_signatures(forged, [public_key(BOB.public)])


@pytest.mark.parametrize("changed", [{"payload": b"hello world!"}, {"payload_type": DIRECTORY_ENTRY_TYPE}])
def test_a_signature_covers_type_and_payload(changed: dict[str, object]) -> None:
    envelope = countersign(EMPTY, ALICE)._replace(**changed)  # type: ignore[arg-type]
    with pytest.raises(BadSignatureError, match="does not verify"):
        verify_signatures(envelope, [public_key(ALICE.public)])


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    envelope = EMPTY._replace(signatures=(Signature(ALICE.id, bytes(length)),))
    with pytest.raises(BadSignatureError, match="does not verify"):
        verify_signatures(envelope, [public_key(ALICE.public)])


@pytest.mark.parametrize("first", [True, False])
def test_of_two_signatures_by_one_key_both_must_verify(first: bool) -> None:
    (good,) = countersign(EMPTY, ALICE).signatures
    bad = Signature(ALICE.id, bytes(64))
    envelope = EMPTY._replace(signatures=(bad, good) if first else (good, bad))
    with pytest.raises(BadSignatureError, match="does not verify"):
        verify_signatures(envelope, [public_key(ALICE.public)])


def test_what_others_signed_is_neither_looked_at_nor_in_the_way() -> None:
    stranger = Signature(key_id(b"nobody's key"), b"not a signature")
    envelope = countersign(EMPTY._replace(signatures=(stranger,)), ALICE)
    verify_signatures(envelope, [public_key(ALICE.public)])


def test_the_same_key_may_be_demanded_twice() -> None:
    verify_signatures(countersign(EMPTY, ALICE), [public_key(ALICE.public)] * 2)
