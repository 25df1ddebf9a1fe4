"""Whoever keeps keys answers two questions; what asks them cannot tell a file from anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from nacl.public import PublicKey, SealedBox

from parley.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from parley.custody import Decryptor, Signatory, is_hardware, load_signatory
from parley.envelope import MESSAGE_TYPE, seal, verify_signatures
from parley.errors import KeystoreError, SigningError
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.keystore import Cost, Keystore
from parley.note import NoteSigner
from parley.private_files import write_new
from parley.schemas import KeyId
from tests.dialogue import Dialogue

SEED = b"s" * 32


class Elsewhere:
    """A key that is asked for signatures somewhere else, as a key management service would be."""

    def __init__(self, seed: bytes) -> None:
        self._far_away = SigningKey(seed)
        self.asked: list[bytes] = []

    @property
    def id(self) -> KeyId:
        return self._far_away.id

    @property
    def public(self) -> bytes:
        return self._far_away.public

    def sign(self, message: bytes) -> bytes:
        self.asked.append(message)
        return self._far_away.sign(message)


def test_whatever_has_the_shape_of_a_signatory_signs_messages_and_checkpoints() -> None:
    elsewhere = Elsewhere(SEED)
    signatory: Signatory = elsewhere
    message = Dialogue.between("alice", "bob", opened_at=0).message("alice")
    verify_signatures(seal(MESSAGE_TYPE, message, signatory), [public_key(signatory.public)])
    signer = NoteSigner("ledger.example/log", signatory)
    checkpoint = Checkpoint("ledger.example/log", 1, b"r" * 32)
    assert open_checkpoint(sign_checkpoint(checkpoint, signer), signer.verifier_key) == checkpoint
    assert len(elsewhere.asked) == 2


def test_a_keystore_opens_what_was_sealed_to_us(tmp_path: Path) -> None:
    store = Keystore.create(tmp_path / "keys", "bank-a", "password", cost=Cost(1, 8192))
    key = EncryptionKey.generate()
    store.add("encryption-1", key)
    decryptor: Decryptor = store
    assert decryptor.unseal(key.id, SealedBox(PublicKey(key.public)).encrypt(b"for you")) == b"for you"


def test_a_file_with_a_seed_is_a_signatory_wherever_it_lies(tmp_path: Path) -> None:
    write_new(tmp_path / "seed", SEED)
    for signatory in (load_signatory("seed", tmp_path), load_signatory(str(tmp_path / "seed"))):
        assert signatory.public == SigningKey(SEED).public


def test_a_file_that_others_may_read_or_that_holds_no_seed_is_none(tmp_path: Path) -> None:
    write_new(tmp_path / "short", SEED[:-1])
    with pytest.raises(SigningError, match="32 bytes, not 31"):
        load_signatory("short", tmp_path)
    write_new(tmp_path / "open", SEED)
    (tmp_path / "open").chmod(0o644)
    with pytest.raises(KeystoreError, match="others may read"):
        load_signatory("open", tmp_path)
    with pytest.raises(KeystoreError, match="no such key file"):
        load_signatory("nowhere", tmp_path)


@pytest.mark.parametrize(
    ("reference", "hardware"),
    [("pkcs11:token=a", True), ("PKCS11:token=a", True), ("pkcs11", False), ("./pkcs11:token=a", False)],
)
def test_a_reference_is_a_uri_or_a_file(reference: str, hardware: bool) -> None:
    assert is_hardware(reference) is hardware
