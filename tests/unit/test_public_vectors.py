"""Public vectors of the primitives that private messages and signatures stand on, run against the functions we call.

A verdict of ours that differs from a vector's is named here with its reason; there is one: Wycheproof finds it acceptable to
compute a shared secret with a point of small order, which is all zeros, and we never seal to such a key.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
)
from nacl.exceptions import CryptoError

from parley.envelope import pre_authentication_encoding
from parley.errors import EncryptionError
from parley.keys import EncryptionKey, seal_to, verify

DATA = Path(__file__).parent.parent / "data"
LISTED = re.findall(r"^\| `([\w./-]+)` \|.*?([0-9a-f]{64})", (DATA / "README.md").read_text(), re.MULTILINE)


def wycheproof(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each vector with its group."""
    file = json.loads((DATA / "wycheproof" / f"{name}_test.json").read_text())
    vectors = [(group, vector) for group in file["testGroups"] for vector in group["tests"]]
    assert len(vectors) == file["numberOfTests"]
    return vectors


def label(value: object) -> str:
    return (
        f"{value['tcId']}-{'-'.join(value['flags'])}" if isinstance(value, dict) and "tcId" in value else ""
    )


ED25519, X25519, XCHACHA = map(wycheproof, ("ed25519", "x25519", "xchacha20_poly1305"))
RFC7748 = json.loads((DATA / "x25519-rfc7748.json").read_text())
DSSE = json.loads((DATA / "dsse-protocol.json").read_text())


@pytest.mark.parametrize(("file", "digest"), LISTED, ids=[file for file, _ in LISTED])
def test_a_file_of_vectors_is_the_one_that_was_taken(file: str, digest: str) -> None:
    assert sha256((DATA / file).read_bytes()).hexdigest() == digest


def test_every_file_of_vectors_is_listed_with_its_digest() -> None:
    ours = {"wire", "settlement"}
    files = {str(path.relative_to(DATA)) for path in DATA.glob("**/*.*") if path.parent.name not in ours}
    assert {file for file, _ in LISTED} == files - {"README.md"}


@pytest.mark.parametrize(("group", "vector"), ED25519, ids=label)
def test_wycheproof_ed25519(group: dict[str, Any], vector: dict[str, Any]) -> None:
    public, message, signature = (
        bytes.fromhex(text) for text in (group["publicKey"]["pk"], vector["msg"], vector["sig"])
    )
    assert verify(public, message, signature) is (vector["result"] == "valid")


@pytest.mark.parametrize(("group", "vector"), X25519, ids=label)
def test_wycheproof_x25519(group: dict[str, Any], vector: dict[str, Any]) -> None:
    private, public, shared = (bytes.fromhex(vector[part]) for part in ("private", "public", "shared"))
    if "ZeroSharedSecret" in vector["flags"]:
        assert shared == bytes(32)
        with pytest.raises(CryptoError):
            crypto_scalarmult(private, public)
        with pytest.raises(EncryptionError, match="no X25519 key that can be sealed to"):
            seal_to(public, b"a content key")
        return
    assert vector["result"] in ("valid", "acceptable")
    assert crypto_scalarmult(private, public) == shared
    assert len(seal_to(public, b"a content key")) == 48 + 13


@pytest.mark.parametrize(("group", "vector"), XCHACHA, ids=label)
def test_wycheproof_xchacha20_poly1305(group: dict[str, Any], vector: dict[str, Any]) -> None:
    key, nonce, data, content, sealed, tag = (
        bytes.fromhex(vector[part]) for part in ("key", "iv", "aad", "msg", "ct", "tag")
    )
    if vector["result"] == "invalid":
        with pytest.raises(CryptoError):
            crypto_aead_xchacha20poly1305_ietf_decrypt(sealed + tag, data, nonce, key)
        return
    assert crypto_aead_xchacha20poly1305_ietf_encrypt(content, data, nonce, key) == sealed + tag
    assert crypto_aead_xchacha20poly1305_ietf_decrypt(sealed + tag, data, nonce, key) == content


@pytest.mark.parametrize("vector", RFC7748["scalar multiplication"], ids=["first", "second"])
def test_rfc_7748_scalar_multiplication(vector: dict[str, str]) -> None:
    scalar, point, result = (bytes.fromhex(vector[part]) for part in ("scalar", "u", "result"))
    assert crypto_scalarmult(scalar, point) == result


def test_rfc_7748_iterated_scalar_multiplication() -> None:
    """Up to 1,000 times: the RFC's million takes a minute, and repeats what the thousand shows."""
    scalar = point = bytes.fromhex(RFC7748["iterated"]["start"])
    found = []
    for _ in range(1_000):
        scalar, point = crypto_scalarmult(scalar, point), scalar
        found.append(scalar.hex())
    assert (found[0], found[-1]) == (RFC7748["iterated"]["after 1"], RFC7748["iterated"]["after 1000"])


def test_rfc_7748_diffie_hellman() -> None:
    said = {name: bytes.fromhex(value) for name, value in RFC7748["Diffie-Hellman"].items()}
    alice, bob = EncryptionKey(said["Alice's private key"]), EncryptionKey(said["Bob's private key"])
    assert (alice.public, bob.public) == (said["Alice's public key"], said["Bob's public key"])
    assert crypto_scalarmult(alice.private, bob.public) == said["shared secret"]
    assert crypto_scalarmult(bob.private, alice.public) == said["shared secret"]


@pytest.mark.parametrize("vector", DSSE, ids=lambda vector: vector["name"])
def test_dsse_pre_authentication_encoding(vector: dict[str, str]) -> None:
    encoded = pre_authentication_encoding(vector["type"], vector["payload"].encode())
    assert encoded == vector["pae"].encode()
