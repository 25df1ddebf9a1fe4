"""Sealed addresses: all alike from outside, opened by the router's key or the secret, and by nothing else."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from nacl.public import PublicKey as NaclPublicKey
from nacl.public import SealedBox

from parley.directory import Directory
from parley.errors import MalformedError, SigningError, UnsealingError, VerificationError, WireError
from parley.identifiers import is_name, is_sealed_address, shown_name
from parley.keys import EncryptionKey, public_key
from parley.schemas import Message, SealedDelivery, encode
from parley.sealed_address import (
    RELATION,
    Seal,
    key_of,
    open_with_key,
    open_with_secret,
    seal_address,
    sealer_of,
    showing,
    speaker_of,
    unwrap,
)
from tests.dialogue import transaction_id
from tests.hiding import NEW, OLD, hidden_dialogue, hiding_ledger, sealed_to, shown

NOW = 1_800_000_000_000
SEAL = sealed_to("bob")
DIRECTORY = hiding_ledger("alice", "bob", "carol").directory


def spoken(seal: Seal = SEAL, seed: str = "hidden") -> Message:
    """Bob's answer, with what shows that he is behind the address."""
    dialogue = hidden_dialogue(SEAL.text, opened_at=NOW, seed=seed)
    dialogue.say("alice")
    return shown(dialogue, seal)


def boxed(content: bytes, key: EncryptionKey = OLD) -> str:
    """A sealed address with any content, made by libsodium itself."""
    box = SealedBox(NaclPublicKey(key.public)).encrypt(content)

    return f"sealed:{key.id.hex()}:{urlsafe_b64encode(box).decode()}"


def test_the_routers_key_and_the_secret_open_the_same() -> None:
    opened = open_with_key(SEAL.text, OLD)
    assert opened == open_with_secret(SEAL.text, SEAL.secret, OLD.public)
    assert opened == ("bob", transaction_id("hidden"), sealer_of("alice"), SEAL.secret)


def test_libsodium_opens_the_box_as_any_sealed_box() -> None:
    box = SEAL.text.rpartition(":")[2]

    content = OLD.unseal(urlsafe_b64decode(box))
    assert len(content) == 192
    assert content[64:] == b"bob".ljust(128, b"\0")


def test_the_same_receiver_never_looks_the_same_twice() -> None:
    texts = {seal_address("bob", public_key(OLD.public), transaction_id(""), "alice").text for _ in range(8)}
    assert len(texts) == 8


@pytest.mark.parametrize("address", ["b", "bank-b.desk", "x" * 128])
def test_every_sealed_address_is_360_characters_whatever_it_holds(address: str) -> None:
    text = sealed_to(address).text
    assert len(text) == 360
    assert is_sealed_address(text)
    assert not is_name(text)
    assert open_with_key(text, OLD).address == address


def test_people_are_shown_that_it_is_a_sealed_address() -> None:
    assert shown_name(SEAL.text) == f"a sealed address ({SEAL.text[40:48]}…)"
    assert shown_name("bob") == "bob"


@pytest.mark.parametrize("address", ["", "Bob", "x" * 129, "bob:", SEAL.text])
def test_only_an_address_is_sealed(address: str) -> None:
    with pytest.raises(MalformedError, match="is no address"):
        sealed_to(address)


def test_nothing_is_sealed_to_a_key_of_small_order() -> None:
    with pytest.raises(SigningError, match="nothing can be sealed"):
        seal_address("bob", public_key(bytes(32)), transaction_id(""), "alice")


@pytest.mark.parametrize(
    "text",
    [
        "bob",
        "sealed:",
        SEAL.text[:-1],
        SEAL.text + "A",
        SEAL.text.upper(),
        SEAL.text.replace(":", ";"),
        SEAL.text[:-1] + "=",
        SEAL.text + "\n",
    ],
)
def test_what_has_not_its_form_is_no_sealed_address(text: str) -> None:
    assert not is_sealed_address(text)
    with pytest.raises(MalformedError, match="360 characters"):
        key_of(text)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(UnsealingError):
        open_with_key(SEAL.text, NEW)
    with pytest.raises(VerificationError):
        open_with_secret(SEAL.text, SEAL.secret, NEW.public)


def test_another_secret_opens_nothing() -> None:
    with pytest.raises(VerificationError, match="does not open"):
        open_with_secret(SEAL.text, bytes(32), OLD.public)


@pytest.mark.parametrize("place", [0, 31, 32, 47, 48, 239])
def test_a_changed_byte_opens_to_nobody(place: int) -> None:

    head, _, box = SEAL.text.rpartition(":")
    data = bytearray(urlsafe_b64decode(box))
    data[place] ^= 1
    changed = f"{head}:{urlsafe_b64encode(bytes(data)).decode()}"
    with pytest.raises(UnsealingError):
        open_with_key(changed, OLD)
    with pytest.raises(VerificationError):
        open_with_secret(changed, SEAL.secret, OLD.public)


HEAD = transaction_id("hidden") + sealer_of("alice")


@pytest.mark.parametrize(
    "content",
    [
        HEAD + bytes(32) + b"bob".ljust(128, b"\0"),
        HEAD + bytes(32) + b"bob\0x".ljust(128, b"\0"),
        HEAD + bytes(32) + bytes(128),
        HEAD + bytes(32) + b"\xff" * 128,
    ],
    ids=["an ephemeral key that its secret does not give", "more behind the name", "no name", "no text"],
)
def test_a_box_that_its_receiver_could_never_show_is_refused(content: bytes) -> None:
    with pytest.raises(UnsealingError, match="something else than an address"):
        open_with_key(boxed(content), OLD)


class TestWhoSpeaks:
    def test_is_the_sender_where_nothing_is_hidden(self) -> None:
        message = hidden_dialogue("bob", opened_at=NOW).message("alice")
        assert speaker_of(message, Directory(bytes(32))) == "alice"

    def test_is_whom_the_secret_shows(self) -> None:
        assert speaker_of(spoken(), DIRECTORY) == "bob"

    def test_is_not_believed_without_the_secret(self) -> None:
        with pytest.raises(VerificationError, match="without showing"):
            speaker_of(spoken()._replace(references=()), DIRECTORY)

    def test_is_not_believed_with_the_secret_of_another_address(self) -> None:
        other = sealed_to("carol")
        with pytest.raises(VerificationError, match="without showing"):
            speaker_of(spoken()._replace(references=(showing(other),)), DIRECTORY)
        with pytest.raises(VerificationError, match="does not open"):
            speaker_of(
                spoken()._replace(references=(showing(SEAL._replace(secret=other.secret)),)), DIRECTORY
            )

    @pytest.mark.parametrize("secret", [None, "", "bob", "00" * 31])
    def test_is_not_believed_with_what_is_no_secret(self, secret: str | None) -> None:
        reference = showing(SEAL)._replace(location=secret)
        with pytest.raises(VerificationError):
            speaker_of(spoken()._replace(references=(reference,)), DIRECTORY)

    def test_is_not_believed_in_another_transaction(self) -> None:
        with pytest.raises(VerificationError, match="another transaction"):
            speaker_of(spoken(seed="another"), DIRECTORY)

    def test_is_not_believed_where_the_address_is_nobodys(self) -> None:
        seal = sealed_to("nobody")
        message = spoken()._replace(sender=seal.text, references=(showing(seal),))
        with pytest.raises(VerificationError, match="nobody's"):
            speaker_of(message, DIRECTORY)

    def test_is_not_believed_where_the_key_is_not_in_the_directory(self) -> None:
        seal = sealed_to("bob", key=NEW)
        message = spoken()._replace(sender=seal.text, references=(showing(seal),))
        with pytest.raises(VerificationError, match="not in the directory"):
            speaker_of(message, DIRECTORY)

    def test_other_references_do_not_matter(self) -> None:
        message = spoken()
        other = message.references[0]._replace(relation="pays")
        assert speaker_of(message._replace(references=(other, *message.references)), DIRECTORY) == "bob"
        with pytest.raises(VerificationError, match="without showing"):
            speaker_of(message._replace(references=(other,)), DIRECTORY)
        assert RELATION == "sealed-address"


def test_an_inbox_record_is_unwrapped_and_others_are_left_as_they_are() -> None:
    item = encode(spoken())
    assert unwrap(item) == (item, None)
    assert unwrap(encode(SealedDelivery(item, *SEAL))) == (item, SEAL)
    with pytest.raises(WireError):
        unwrap(encode(SealedDelivery(item, *SEAL))[:-1])
