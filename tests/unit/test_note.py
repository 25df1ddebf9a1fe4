"""Signed notes and verifier keys: the public vector, strict reading, and which signatures count."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.errors import ProofError, SigningError
from parley.keys import SigningKey
from parley.note import (
    MAX_SIGNATURES,
    Note,
    NoteSignature,
    NoteSigner,
    VerifierKey,
    open_note,
    parse_note,
    parse_verifier_key,
    sign_note,
)

unhurried = settings(deadline=None)
"""A machine under load is slow, not wrong."""

PETER_NOTE = (Path(__file__).parent.parent / "data" / "signed-note-peter-neumann.txt").read_bytes()
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER = parse_verifier_key(PETER_VKEY)

ALICE = NoteSigner("log.example/alice", SigningKey(b"a" * 32))
BOB = NoteSigner("log.example/bob", SigningKey(b"b" * 32))
TEXT = "one line\n\nand — after an empty one — another\n"
NOTE = sign_note(TEXT, ALICE)
LINE = NOTE.decode().splitlines(keepends=True)[-1]


def vkey(name: str, material: bytes) -> str:
    """A verifier key string whose id fits, whatever its material."""
    key = VerifierKey(name, material[1:])
    return f"{name}+{key.key_id.hex()}+{b64encode(material).decode()}"


def test_the_published_note_opens_under_its_published_key() -> None:
    opened = open_note(PETER_NOTE, [PETER])
    assert opened.text.startswith("If you think cryptography is the answer")
    assert [(line.name, line.key_id.hex()) for line in opened.verified] == [("PeterNeumann", "c74f20a3")]
    assert opened.unknown == ()


def test_the_published_note_and_key_serialise_to_the_same_bytes() -> None:
    assert parse_note(PETER_NOTE).encode() == PETER_NOTE
    assert str(PETER) == PETER_VKEY


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_any_changed_byte_of_the_published_note_is_refused(flip: int) -> None:
    for position in range(len(PETER_NOTE)):
        changed = bytearray(PETER_NOTE)
        changed[position] ^= flip
        with pytest.raises(ProofError):
            open_note(bytes(changed), [PETER])


def test_the_published_note_cut_anywhere_is_refused() -> None:
    for length in range(len(PETER_NOTE)):
        with pytest.raises(ProofError):
            open_note(PETER_NOTE[:length], [PETER])


def test_no_part_of_a_verifier_key_is_one() -> None:
    for start in range(len(PETER_VKEY)):
        for end in range(start, len(PETER_VKEY) + 1):
            if end - start < len(PETER_VKEY):
                with pytest.raises(SigningError):
                    parse_verifier_key(PETER_VKEY[start:end])


def test_any_changed_character_of_a_verifier_key_is_refused() -> None:
    for position, character in enumerate(PETER_VKEY):
        changed = PETER_VKEY[:position] + chr(ord(character) + 1) + PETER_VKEY[position + 1 :]
        with pytest.raises(SigningError):
            parse_verifier_key(changed)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(vkey("log", b"\x02" + bytes(32)), id="another algorithm"),
        pytest.param(vkey("log", b"\x01" + bytes(33)), id="a longer key"),
        pytest.param(vkey("log", b""), id="no key"),
        pytest.param(str(PETER).upper(), id="upper case"),
        pytest.param(PETER_VKEY.replace("c74f20a3", "C74F20A3"), id="id in upper case"),
        pytest.param(PETER_VKEY + "\n", id="a newline"),
        pytest.param("schlüssel+é", id="not ASCII"),
        pytest.param(vkey("a log", b"\x01" + bytes(32)), id="a space in the name"),
    ],
)
def test_a_verifier_key_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(SigningError, match="verifier key"):
        parse_verifier_key(text)


def test_a_note_signed_by_two_opens_under_either_and_shows_the_other() -> None:
    note = sign_note(TEXT, ALICE, BOB)
    opened = open_note(note, [BOB.verifier_key])
    assert opened.text == TEXT
    assert [line.name for line in opened.verified] == [BOB.name]
    assert [line.name for line in opened.unknown] == [ALICE.name]
    assert [line.name for line in open_note(note, [ALICE.verifier_key, BOB.verifier_key]).verified] == [
        ALICE.name,
        BOB.name,
    ]


def test_a_note_that_no_known_key_signed_is_refused_and_says_who_did() -> None:
    with pytest.raises(ProofError, match=r"log\.example/alice"):
        open_note(NOTE, [BOB.verifier_key])
    with pytest.raises(ProofError, match="no known key"):
        open_note(NOTE, [])


def test_one_wrong_signature_of_a_known_key_condemns_the_note() -> None:
    note = parse_note(sign_note(TEXT, ALICE, BOB))
    forged = note.signatures[1]._replace(signature=note.signatures[0].signature)
    changed = Note(TEXT, (note.signatures[0], forged)).encode()
    with pytest.raises(ProofError, match=r"log\.example/bob.* does not verify"):
        open_note(changed, [ALICE.verifier_key, BOB.verifier_key])
    assert open_note(changed, [ALICE.verifier_key]).unknown == (forged,)


def test_a_signature_that_shares_only_name_or_only_id_with_a_known_key_is_ignored() -> None:
    own = parse_note(NOTE).signatures[0]
    strangers = (own._replace(key_id=b"\0\1\2\3"), own._replace(name="someone.else"))
    opened = open_note(Note(TEXT, (own, *strangers)).encode(), [ALICE.verifier_key])
    assert opened.unknown == strangers


def test_a_signature_of_any_length_by_an_unknown_key_is_carried() -> None:
    own = parse_note(NOTE).signatures[0]
    large = NoteSignature("witness", b"\0\0\0\1", bytes(4_000))
    assert open_note(Note(TEXT, (own, large)).encode(), [ALICE.verifier_key]).unknown == (large,)


def test_two_known_keys_with_the_same_name_and_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VerifierKey, "key_id", property(lambda _: b"\0\0\0\0"))
    with pytest.raises(SigningError, match="share the name and id"):
        open_note(NOTE, [ALICE.verifier_key, ALICE.verifier_key._replace(public_key=BOB.key.public)])


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(TEXT, id="no blank line at the end of the text"),
        pytest.param(TEXT + "\n", id="no signature"),
        pytest.param(TEXT + "\n" + LINE[:-1], id="last newline missing"),
        pytest.param(TEXT + "\n" + LINE + "\n", id="a blank line at the end"),
        pytest.param(TEXT + "\n" + LINE + "something\n", id="another line after the signature"),
        pytest.param("\t" + TEXT + "\n" + LINE, id="a tab"),
        pytest.param((TEXT + "\n" + LINE).replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(TEXT + "\n" + LINE.replace("—", "-"), id="a hyphen for the dash"),
        pytest.param(TEXT + "\n" + LINE.replace("alice ", "alice  "), id="two spaces"),
        pytest.param(TEXT + "\n" + LINE.replace("\n", " \n"), id="a space at the end of the line"),
        pytest.param(TEXT + "\n" + LINE.replace("/alice", "+alice"), id="a plus in the name"),
        pytest.param(TEXT + "\n" + LINE.replace("/alice", "\u00a0alice"), id="a Unicode space in the name"),
        pytest.param(TEXT + "\n" + LINE.replace("log.example/alice", ""), id="no name"),
        pytest.param(TEXT + "\n— log.example/alice AAAA\n", id="no key id"),
        pytest.param(TEXT + "\n— log.example/alice AAAAAA==\n", id="a key id without signature"),
        pytest.param(TEXT + "\n— log.example/alice AAAAAAB=\n", id="base64 with stray bits"),
        pytest.param(TEXT + "\n— log.example/alice AAAAAAA\n", id="base64 without padding"),
        pytest.param(TEXT + "\n" + LINE * (MAX_SIGNATURES + 1), id="too many signatures"),
        pytest.param("x" * 1_000_000 + "\n\n" + LINE, id="too long"),
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(ProofError, match="note format"):
        open_note(note.encode(), [ALICE.verifier_key])


def test_a_note_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ProofError, match="UTF-8"):
        open_note(b"\xff" + NOTE, [ALICE.verifier_key])


@pytest.mark.parametrize("text", ["", "no newline", "a\x00\n", "a\r\n", "\ud800\n"])
def test_a_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(SigningError, match="note text"):
        sign_note(text, ALICE)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b", "a\x01", "\ud800"])
def test_a_name_that_no_signature_line_can_hold_is_refused(name: str) -> None:
    with pytest.raises(SigningError, match="key name"):
        NoteSigner(name, ALICE.key)


def test_a_note_needs_a_signer() -> None:
    with pytest.raises(SigningError, match="at least one key"):
        sign_note(TEXT)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.just("\n")).map(
    lambda text: text + "\n"
)


@unhurried
@given(texts, st.lists(st.sampled_from([ALICE, BOB]), min_size=1, max_size=3))
def test_every_text_signed_opens_as_it_was(text: str, signers: list[NoteSigner]) -> None:
    note = sign_note(text, *signers)
    assert open_note(note, {signer.verifier_key for signer in signers}).text == text
    assert parse_note(note).encode() == note


@unhurried
@given(st.binary(max_size=200) | texts.map(str.encode))
def test_bytes_that_parse_serialise_to_themselves_and_nothing_else_is_raised(data: bytes) -> None:
    for candidate in (data, data + b"\n" + LINE.encode()):
        try:
            note = parse_note(candidate)
        except ProofError:
            continue
        assert note.encode() == candidate
