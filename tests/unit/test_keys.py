"""Keys and the one definition of a valid signature, held against public vectors.

The definition is libsodium's: R and A are canonical and not of small order, S is canonical, and the equation holds without
the cofactor. A component of small order beside one of large order is allowed. `verify_batch` must agree on every vector,
however it is split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from parley.errors import SigningError
from parley.keys import EncryptionKey, SignatureClaim, SigningKey, key_id, public_key, verify, verify_batch

DATA = Path(__file__).parent.parent / "data"
ORDER = 2**252 + 27742317777372353535851937790883648493
"""L of RFC 8032 §5.1: S is canonical below it."""


def vectors(name: str) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], json.loads((DATA / f"ed25519-{name}.json").read_text()))


def claim(vector: dict[str, Any]) -> SignatureClaim:
    return SignatureClaim(*(bytes.fromhex(vector[part]) for part in ("public", "message", "signature")))


def cctv_claim(vector: dict[str, Any]) -> SignatureClaim:
    return SignatureClaim(
        bytes.fromhex(vector["public"]), vector["message"].encode(), bytes.fromhex(vector["signature"])
    )


RFC8032 = vectors("rfc8032")
SPECCHECK = vectors("speccheck")
CCTV = vectors("cctv")

SPECCHECK_VALID = {3}
"""Mixed A and R that agree without the cofactor; "LibSodium" and "Dalek strict" in the table of the vectors' README."""
ALLOWED_FLAGS = {"low_order_component_A", "low_order_component_R"}
"""Vectors with any other of CCTV's flags are refused; so does ed25519-dalek's `verify_strict`."""

VERDICTS = [
    *((claim(vector), True) for vector in RFC8032),
    *((claim(vector), vector["number"] in SPECCHECK_VALID) for vector in SPECCHECK),
    *((cctv_claim(vector), set(vector["flags"]) <= ALLOWED_FLAGS) for vector in CCTV),
]


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


@pytest.mark.parametrize("vector", RFC8032, ids=lambda vector: vector["name"])
def test_the_rfcs_examples_give_their_keys_and_signatures_and_verify(vector: dict[str, Any]) -> None:
    key = SigningKey(bytes.fromhex(vector["seed"]))
    public, message, signature = claim(vector)
    assert key.public == public
    assert key.sign(message) == signature
    assert verify(public, message, signature)


@pytest.mark.parametrize("vector", SPECCHECK, ids=lambda vector: vector["what"])
def test_the_twelve_edge_cases_are_judged_as_libsodium_does(vector: dict[str, Any]) -> None:
    assert verify(*claim(vector)) is (vector["number"] in SPECCHECK_VALID)


@pytest.mark.parametrize("vector", CCTV, ids=lambda vector: str(vector["number"]))
def test_points_of_small_order_and_non_canonical_points_are_refused(vector: dict[str, Any]) -> None:
    assert verify(*cctv_claim(vector)) is (set(vector["flags"]) <= ALLOWED_FLAGS)


def test_a_public_key_of_small_order_verifies_nothing() -> None:
    small = {bytes.fromhex(vector["public"]) for vector in CCTV if "low_order_A" in vector["flags"]}
    assert len(small) == 14
    for public in small:
        for vector in (*CCTV, *RFC8032):
            message = vector["message"].encode()
            assert not verify(public, message, bytes.fromhex(vector["signature"]))


@pytest.mark.parametrize("multiple", range(1, 16))
def test_a_signature_with_a_multiple_of_the_order_added_to_s_is_refused(multiple: int) -> None:
    public, message, signature = claim(RFC8032[1])
    larger = int.from_bytes(signature[32:], "little") + multiple * ORDER
    assert not verify(public, message, signature[:32] + larger.to_bytes(32, "little"))


def test_any_changed_bit_is_refused() -> None:
    good = claim(RFC8032[2])
    for name, part in good._asdict().items():
        for bit in range(len(part) * 8):
            changed = bytearray(part)
            changed[bit // 8] ^= 1 << bit % 8
            assert not verify(*good._replace(**{name: bytes(changed)}))


@pytest.mark.parametrize("length", [0, 1, 31, 33, 63, 65, 96, 128])
def test_keys_and_signatures_of_other_lengths_are_refused_without_an_error(length: int) -> None:
    public, message, signature = claim(RFC8032[1])
    assert not verify(public, message, (signature * 2)[:length])
    assert not verify((public * 4)[:length], message, signature)


@pytest.mark.parametrize("ways", [1, 2, 3, 4, 7, 16, 1000])
def test_a_batch_is_judged_in_order_as_its_members_are_however_it_is_split(
    threads: Executor, ways: int
) -> None:
    claims = [claim for claim, _ in VERDICTS]
    verdicts = [verdict for _, verdict in VERDICTS]
    assert {*verdicts} == {True, False}
    assert [verify(*claim) for claim in claims] == verdicts
    assert verify_batch(claims, threads, ways) == verdicts


@pytest.mark.parametrize("size", range(20))
def test_a_batch_of_any_size_gives_one_verdict_a_claim(threads: Executor, size: int) -> None:
    mixed = VERDICTS[:8] + VERDICTS[-12:]
    assert verify_batch([claim for claim, _ in mixed[:size]], threads, 3) == [
        verdict for _, verdict in mixed[:size]
    ]


def test_a_batch_without_threads_is_judged_just_the_same() -> None:
    assert verify_batch([claim for claim, _ in VERDICTS]) == [verdict for _, verdict in VERDICTS]


def test_a_key_id_is_the_first_half_of_the_public_keys_digest() -> None:
    key = SigningKey.generate()
    assert key.id == key_id(key.public) == sha256(key.public).digest()[:16]
    assert public_key(key.public) == (key.id, key.public)


def test_a_signing_key_comes_back_from_its_seed() -> None:
    key = SigningKey.generate()
    again = SigningKey(key.seed)
    assert (again.public, again.id, again.sign(b"x")) == (key.public, key.id, key.sign(b"x"))


def test_an_encryption_key_comes_back_from_its_private_half() -> None:
    key = EncryptionKey.generate()
    assert (EncryptionKey(key.private).public, key.id) == (key.public, key_id(key.public))


def test_generated_keys_differ() -> None:
    assert len({SigningKey.generate().seed for _ in range(8)}) == 8
    assert len({EncryptionKey.generate().private for _ in range(8)}) == 8


@pytest.mark.parametrize("length", [0, 31, 33, 64])
@pytest.mark.parametrize("kind", [SigningKey, EncryptionKey])
def test_a_private_key_of_another_length_is_refused_with_what_to_do(
    kind: type[SigningKey | EncryptionKey], length: int
) -> None:
    with pytest.raises(SigningError, match=f"32 bytes, not {length}; make one with"):
        kind(bytes(length))


def test_a_private_key_does_not_show_itself() -> None:
    signing, encryption = SigningKey.generate(), EncryptionKey.generate()
    assert repr(signing) == f"SigningKey({signing.id.hex()})"
    assert repr(encryption) == f"EncryptionKey({encryption.id.hex()})"
