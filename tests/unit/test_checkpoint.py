"""Checkpoints: what their text is, strict reading, and whose signature makes one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from parley.errors import ProofError, SigningError
from parley.keys import SigningKey
from parley.merkle import EMPTY_ROOT, MAX_SIZE, leaf_hash
from parley.note import NoteSigner, sign_note

unhurried = settings(deadline=None)
"""A machine under load is slow, not wrong."""

LOG = NoteSigner("ledger.example/log", SigningKey(b"l" * 32))
WITNESS = NoteSigner("witness.example", SigningKey(b"w" * 32))
ROOT = leaf_hash(b"the only entry")
CHECKPOINT = Checkpoint(LOG.name, 1, ROOT)
NOTE = sign_checkpoint(CHECKPOINT, LOG)


def test_the_text_is_origin_size_and_root_in_base64() -> None:
    assert Checkpoint("example.com/log", 0, EMPTY_ROOT).text == (
        "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    )


def test_a_signed_checkpoint_opens_as_it_was() -> None:
    assert open_checkpoint(NOTE, LOG.verifier_key) == CHECKPOINT
    assert open_checkpoint(NOTE, LOG.verifier_key, alone=True) == CHECKPOINT


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_any_changed_byte_is_refused(flip: int) -> None:
    for position in range(len(NOTE)):
        changed = bytearray(NOTE)
        changed[position] ^= flip
        with pytest.raises(ProofError):
            open_checkpoint(bytes(changed), LOG.verifier_key)


def test_a_witness_signature_is_ignored_unless_the_log_must_stand_alone() -> None:
    cosigned = sign_note(CHECKPOINT.text, LOG, WITNESS)
    assert open_checkpoint(cosigned, LOG.verifier_key) == CHECKPOINT
    with pytest.raises(ProofError, match="checkpoint signatures"):
        open_checkpoint(cosigned, LOG.verifier_key, alone=True)
    with pytest.raises(ProofError, match="checkpoint signatures"):
        open_checkpoint(sign_note(CHECKPOINT.text, LOG, LOG), LOG.verifier_key, alone=True)


def test_a_checkpoint_of_another_origin_is_refused_even_if_the_key_signed_it() -> None:
    with pytest.raises(ProofError, match="checkpoint origin"):
        open_checkpoint(sign_note(Checkpoint("other.example/log", 1, ROOT).text, LOG), LOG.verifier_key)


def test_only_the_origin_signs_a_checkpoint() -> None:
    with pytest.raises(SigningError, match="must be the same"):
        sign_checkpoint(CHECKPOINT, WITNESS)


ORIGIN, SIZE, ENCODED, _ = CHECKPOINT.text.split("\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(f"{ORIGIN}\n{SIZE}\n", "three lines", id="no root"),
        pytest.param(f"{ORIGIN}\n{SIZE}\n{ENCODED}", "three lines", id="no final newline"),
        pytest.param(f"\n{SIZE}\n{ENCODED}\n", "non-empty", id="empty origin"),
        pytest.param(f"{ORIGIN}\n{SIZE}\n{ENCODED}\n\n", "non-empty", id="empty extension"),
        pytest.param(f"{ORIGIN}\n\n{ENCODED}\n", "decimal", id="empty size"),
        pytest.param(f"{ORIGIN}\n01\n{ENCODED}\n", "decimal", id="leading zero"),
        pytest.param(f"{ORIGIN}\n+1\n{ENCODED}\n", "decimal", id="sign"),
        pytest.param(f"{ORIGIN}\n1_0\n{ENCODED}\n", "decimal", id="underscore"),
        pytest.param(f"{ORIGIN}\n\u0661\n{ENCODED}\n", "decimal", id="digit outside ASCII"),
        pytest.param(f"{ORIGIN}\n{MAX_SIZE + 1}\n{ENCODED}\n", "size", id="size out of range"),
        pytest.param(f"{ORIGIN}\n{10**30}\n{ENCODED}\n", "decimal", id="size far out of range"),
        pytest.param(f"{ORIGIN}\n{SIZE}\n{ENCODED[:-1]}\n", "base64", id="root without padding"),
        pytest.param(f"{ORIGIN}\n{SIZE}\n{ENCODED.replace('=', ' =')}\n", "base64", id="space in the root"),
        pytest.param(f"{ORIGIN}\n{SIZE}\nAAAA\n", "3 bytes", id="short root"),
        pytest.param(
            f"{ORIGIN}\n0\n{ENCODED}\n", "size 0", id="another root than the empty tree's at size 0"
        ),
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(ProofError, match=says):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        pytest.param("", 1, ROOT, (), id="empty origin"),
        pytest.param("a\nb", 1, ROOT, (), id="origin of two lines"),
        pytest.param("a", -1, ROOT, (), id="negative size"),
        pytest.param("a", 1, ROOT[:-1], (), id="short root"),
        pytest.param("a", 1, ROOT, ("",), id="empty extension"),
        pytest.param("a", 1, ROOT, ("x\ny",), id="extension of two lines"),
    ],
)
def test_a_checkpoint_that_could_not_be_read_back_cannot_be_made(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    with pytest.raises(ProofError, match="checkpoint"):
        Checkpoint(origin, size, root, extensions)


lines = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


@unhurried
@given(
    lines,
    st.integers(1, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3).map(tuple),
)
def test_every_checkpoint_reads_back_as_it_was(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    checkpoint = Checkpoint(origin, size, root, extensions)
    assert parse_checkpoint(checkpoint.text) == checkpoint


@unhurried
@given(st.lists(st.sampled_from([ORIGIN, SIZE, ENCODED, "", "0", "x"]), max_size=6).map("\n".join))
def test_a_text_that_reads_as_a_checkpoint_is_its_own_form(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except ProofError:
        return
    assert checkpoint.text == text
