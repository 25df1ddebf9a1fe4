"""Whatever becomes of a keystore, what was ever sealed to its owner stays readable; and any URI survives being written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.public import PublicKey, SealedBox

from parley.errors import KeystoreError, UnsealingError
from parley.keys import EncryptionKey, SigningKey
from parley.keystore import Cost, Keystore
from parley.pkcs11_uri import Attribute, Pkcs11Uri, parse_pkcs11_uri

CHEAP = Cost(1, 8192)
STEPS = st.lists(st.sampled_from(["rotate-signing", "rotate-encryption", "password", "reopen", "new-device"]))
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None, max_examples=30)  # the disk is asked to keep each file
@given(STEPS, st.binary(max_size=200))
def test_what_was_sealed_to_any_key_opens_after_any_history(steps: list[str], content: bytes) -> None:
    boxes: list[tuple[EncryptionKey, bytes]] = []
    signing: list[SigningKey] = []
    password = "first"

    def rotate_encryption() -> None:
        key = EncryptionKey.generate()
        store.add(f"encryption-{len(boxes)}", key)
        boxes.append((key, SealedBox(PublicKey(key.public)).encrypt(content)))

    def rotate_signing() -> None:
        signing.append(SigningKey.generate())
        store.add(f"signing-{len(signing)}", signing[-1])

    with tempfile.TemporaryDirectory() as folder:
        store = Keystore.create(Path(folder) / "0.keys", "bank-a", password, cost=CHEAP)
        rotate_encryption()
        rotate_signing()
        for number, step in enumerate(steps, 1):
            if step == "rotate-encryption":
                rotate_encryption()
            elif step == "rotate-signing":
                rotate_signing()
            elif step == "password":
                password = f"password {number}"
                store.change_password(password, cost=CHEAP)
            elif step == "reopen":
                store.save()
                store = Keystore.open(store.path, password)
            else:
                backup = store.copy_to(Path(folder) / f"{number}.backup", "of the backup", cost=CHEAP)
                store = backup.copy_to(Path(folder) / f"{number}.keys", password, cost=CHEAP)
        store.save()
        store = Keystore.open(store.path, password)
    assert store.encryption_key().id == boxes[-1][0].id
    assert [key.id for key in store.signing_keys()] == [key.id for key in reversed(signing)]
    for key, box in boxes:
        assert store.unseal(key.id, box) == content


@given(st.binary(max_size=100), st.data())
def test_a_box_that_was_cut_or_changed_anywhere_stays_closed(content: bytes, data: st.DataObject) -> None:
    key = EncryptionKey(b"e" * 32)
    box = SealedBox(PublicKey(key.public)).encrypt(content)
    assert key.unseal(box) == content
    position = data.draw(st.integers(0, len(box) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(box)
    changed[position] ^= flip
    for wrong in (bytes(changed), box[:position]):
        with pytest.raises(UnsealingError, match="does not open"):
            key.unseal(wrong)


@settings(deadline=None)
@given(st.data())
def test_a_backup_with_any_bytes_changed_is_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Keystore.create(Path(folder) / "keys", "bank-a", "one", cost=CHEAP)
        store.add("encryption-1", EncryptionKey.generate())
        backup = store.copy_to(Path(folder) / "backup", "two", cost=CHEAP).path
        good = backup.read_bytes()
        start = data.draw(st.integers(0, len(good) - 1))
        bad = (
            good[:start] + data.draw(st.binary(max_size=8)) + good[data.draw(st.integers(start, len(good))) :]
        )
        backup.write_bytes(bad)
        if bad == good:
            assert Keystore.open(backup, "two").keys[0].key.id == store.encryption_key().id
        else:
            with pytest.raises(KeystoreError, match="restore it from a backup"):
                Keystore.open(backup, "two")


@given(
    st.dictionaries(st.sampled_from(["token", "manufacturer", "serial", "model", "object"]), TEXT),
    st.none() | st.binary(max_size=20),
    st.dictionaries(st.sampled_from(["pin-source", "module-name", "module-path", "x-vendor"]), TEXT),
)
def test_any_uri_is_read_as_it_was_written(
    path: dict[str, str], identity: bytes | None, query: dict[str, str]
) -> None:
    uri = Pkcs11Uri(
        (
            *(Attribute(name, text.encode()) for name, text in path.items()),
            *(() if identity is None else (Attribute("id", identity),)),
        ),
        tuple(Attribute(name, text.encode()) for name, text in query.items()),
    )
    assert str(uri).isascii()
    assert parse_pkcs11_uri(str(uri)) == uri


@given(st.text())
def test_any_text_is_a_uri_or_refused_as_none(text: str) -> None:
    try:
        uri = parse_pkcs11_uri(f"pkcs11:{text}")
    except KeystoreError:
        return
    assert parse_pkcs11_uri(str(uri)) == uri
