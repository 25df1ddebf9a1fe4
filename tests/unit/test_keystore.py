"""The keystore file: what it keeps, whom it lets in, and what it says when it does not open."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from nacl.public import PublicKey, SealedBox

from parley.errors import KeystoreError, UnsealingError
from parley.keys import EncryptionKey, SigningKey
from parley.keystore import INTERACTIVE, MODERATE, Cost, Keystore
from parley.private_files import write_new

CHEAP = Cost(1, 8192)
PASSWORD = "correct horse battery staple"
SIGNING = SigningKey(b"s" * 32)
ENCRYPTION = EncryptionKey(b"e" * 32)
DIGEST = 32
OPERATIONS_AT = 9
MEMORY_AT = 13


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank-a.keys"


@pytest.fixture
def store(path: Path) -> Keystore:
    store = Keystore.create(path, "bank-a", PASSWORD, cost=CHEAP)
    store.add("signing-1", SIGNING)
    store.add("encryption-1", ENCRYPTION)
    store.save()
    return store


def rewrite(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change the file as an attacker would, digest included."""
    body = bytearray(path.read_bytes()[:-DIGEST])
    change(body)
    path.write_bytes(bytes(body) + sha256(body).digest())


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_what_was_saved_is_there_when_it_is_opened_again(store: Keystore) -> None:
    opened = Keystore.open(store.path, PASSWORD)
    assert opened.participant == "bank-a"
    assert [(held.name, held.key.id, held.active) for held in opened.keys] == [
        ("signing-1", SIGNING.id, True),
        ("encryption-1", ENCRYPTION.id, True),
    ]
    assert opened.signing_key().seed == SIGNING.seed
    assert opened.encryption_key().private == ENCRYPTION.private


def test_a_new_key_becomes_active_and_the_old_one_is_kept(store: Keystore) -> None:
    signing, encryption = SigningKey.generate(), EncryptionKey.generate()
    store.add("signing-2", signing)
    store.add("encryption-2", encryption)
    store.save()
    opened = Keystore.open(store.path, PASSWORD)
    assert opened.signing_key().id == signing.id
    assert [key.id for key in opened.signing_keys()] == [signing.id, SIGNING.id]
    assert opened.encryption_key().id == encryption.id
    assert [key.id for key in opened.encryption_keys()] == [encryption.id, ENCRYPTION.id]


def test_nothing_reaches_the_file_before_it_is_saved(store: Keystore) -> None:
    before = store.path.read_bytes()
    store.add("signing-2", SigningKey.generate())
    store.change_password("another", cost=CHEAP)
    assert store.path.read_bytes() == before


def test_an_empty_keystore_says_which_key_it_lacks(path: Path) -> None:
    store = Keystore.create(path, "bank-a", PASSWORD, cost=CHEAP)
    with pytest.raises(KeystoreError, match=r"no signing key.*keygen"):
        store.signing_key()
    with pytest.raises(KeystoreError, match=r"no encryption key.*keygen"):
        store.encryption_key()
    assert Keystore.open(path, PASSWORD).keys == ()


def test_a_changed_password_opens_and_the_old_one_no_longer_does(store: Keystore) -> None:
    store.change_password("another", cost=CHEAP)
    store.save()
    assert Keystore.open(store.path, "another").signing_key().id == SIGNING.id
    with pytest.raises(KeystoreError, match="wrong password"):
        Keystore.open(store.path, PASSWORD)


def test_a_password_is_the_same_however_its_accents_are_typed(path: Path) -> None:
    Keystore.create(path, "bank-a", "Zürich", cost=CHEAP)
    assert Keystore.open(path, "Zu\u0308rich").participant == "bank-a"


def test_saving_twice_never_uses_a_nonce_twice(store: Keystore) -> None:
    first = store.path.read_bytes()
    store.save()
    second = store.path.read_bytes()
    assert first[33:57] != second[33:57]
    assert first[17:33] == second[17:33]


def test_a_backup_has_every_key_under_a_password_of_its_own(store: Keystore, tmp_path: Path) -> None:
    store.add("encryption-2", EncryptionKey.generate())
    backup = store.copy_to(tmp_path / "backup", "of the backup", cost=CHEAP)
    assert [(held.name, held.key.id, held.active) for held in backup.keys] == [
        (held.name, held.key.id, held.active) for held in store.keys
    ]
    with pytest.raises(KeystoreError, match="wrong password"):
        Keystore.open(backup.path, PASSWORD)
    assert store.path.read_bytes()[17:33] != backup.path.read_bytes()[17:33], "salts must differ"


def test_a_backup_never_replaces_a_file(store: Keystore, tmp_path: Path) -> None:
    (tmp_path / "backup").write_bytes(b"an older one")
    with pytest.raises(KeystoreError, match="exists already"):
        store.copy_to(tmp_path / "backup", "of the backup", cost=CHEAP)
    assert (tmp_path / "backup").read_bytes() == b"an older one"


def test_a_backup_that_did_not_reach_the_disk_whole_is_told(
    store: Keystore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.keystore.write_new", lambda path, data: write_new(path, data[:-40]))
    with pytest.raises(KeystoreError, match="damaged, cut"):
        store.copy_to(tmp_path / "backup", "of the backup", cost=CHEAP)


def test_what_was_sealed_to_a_retired_key_is_opened_by_its_id(store: Keystore) -> None:
    box = SealedBox(PublicKey(ENCRYPTION.public)).encrypt(b"for your eyes")
    store.add("encryption-2", EncryptionKey.generate())
    assert store.unseal(ENCRYPTION.id, box) == b"for your eyes"
    with pytest.raises(UnsealingError, match="sealed to another"):
        store.unseal(store.encryption_key().id, box)


def test_what_was_sealed_to_a_key_that_is_not_held_says_which_backup_is_needed(store: Keystore) -> None:
    stranger = EncryptionKey.generate()
    with pytest.raises(KeystoreError, match=f"no encryption key {stranger.id.hex()}.*restore the backup"):
        store.unseal(stranger.id, b"x" * 48)
    with pytest.raises(KeystoreError, match="no encryption key"):
        store.unseal(SIGNING.id, b"x" * 48)


@pytest.mark.parametrize("small_order", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_a_box_from_a_point_of_small_order_stays_closed(store: Keystore, small_order: bytes) -> None:
    with pytest.raises(UnsealingError, match="does not open"):
        store.unseal(ENCRYPTION.id, small_order + b"x" * 32)


@pytest.mark.parametrize("password", ["", PASSWORD[:-1], PASSWORD + " ", PASSWORD.upper()])
def test_a_wrong_password_is_refused(store: Keystore, password: str) -> None:
    with pytest.raises(KeystoreError, match="wrong password; try again"):
        Keystore.open(store.path, password)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_any_changed_byte_of_the_file_is_refused(store: Keystore, flip: int) -> None:
    data = store.path.read_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= flip
        store.path.write_bytes(changed)
        with pytest.raises(KeystoreError, match="restore it from a backup"):
            Keystore.open(store.path, PASSWORD)


def test_any_changed_byte_is_refused_even_with_its_digest_recomputed(store: Keystore) -> None:
    data = store.path.read_bytes()
    for position in range(len(data) - DIGEST):
        if MEMORY_AT <= position < MEMORY_AT + 4:
            continue  # costs of up to 1 GiB; the next test

        def flip(body: bytearray, position: int = position) -> None:
            body[position] ^= 0x01

        store.path.write_bytes(data)
        rewrite(store.path, flip)
        with pytest.raises(KeystoreError):
            Keystore.open(store.path, PASSWORD)


@pytest.mark.parametrize(
    ("operations", "kibibytes"),
    [
        pytest.param(1, 100 << 20, id="100 GiB"),
        pytest.param(1, 0xFFFFFFFF, id="the largest memory"),
        pytest.param(1, (1 << 20) + 1, id="just above 1 GiB"),
        pytest.param(1, 7, id="hardly any memory"),
        pytest.param(0, 8, id="no pass"),
        pytest.param(11, 8, id="too many passes"),
        pytest.param(0xFFFFFFFF, 8, id="passes without end"),
    ],
)
def test_a_file_that_asks_for_an_unreasonable_cost_is_refused_at_once(
    store: Keystore, operations: int, kibibytes: int
) -> None:
    rewrite(store.path, lambda body: struct.pack_into(">II", body, OPERATIONS_AT, operations, kibibytes))
    with pytest.raises(KeystoreError, match="keystore cost"):
        Keystore.open(store.path, PASSWORD)


def test_another_cost_within_bounds_does_not_open_the_file(store: Keystore) -> None:
    rewrite(store.path, lambda body: struct.pack_into(">II", body, OPERATIONS_AT, 1, 9))
    with pytest.raises(KeystoreError, match="wrong password"):
        Keystore.open(store.path, PASSWORD)


def test_a_newer_version_is_named(store: Keystore) -> None:
    rewrite(store.path, lambda body: struct.pack_into("B", body, 8, 2))
    with pytest.raises(KeystoreError, match=r"version 2.*upgrade"):
        Keystore.open(store.path, PASSWORD)


def test_a_file_cut_anywhere_or_made_longer_is_refused(store: Keystore) -> None:
    data = store.path.read_bytes()
    for changed in (*(data[:length] for length in range(len(data))), data + b"\0"):
        store.path.write_bytes(changed)
        with pytest.raises(KeystoreError, match="damaged, cut, or not a keystore"):
            Keystore.open(store.path, PASSWORD)


def test_a_short_file_with_a_fitting_digest_is_refused(path: Path) -> None:
    path.touch(mode=0o600)
    for body in (b"", b"PARLEYKS", b"PARLEYKS" + bytes(60)):
        path.write_bytes(body + sha256(body).digest())
        with pytest.raises(KeystoreError, match="not a keystore"):
            Keystore.open(path, PASSWORD)


def test_the_file_is_for_its_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = Keystore.create(path, "bank-a", PASSWORD, cost=CHEAP)
        assert path.stat().st_mode & 0o777 == 0o600
        store.save()
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_a_file_that_others_can_reach_is_neither_opened_nor_saved(store: Keystore, mode: int) -> None:
    store.path.chmod(mode)
    with pytest.raises(KeystoreError, match=f"mode 0{mode:o}.*chmod 600"):
        Keystore.open(store.path, PASSWORD)
    with pytest.raises(KeystoreError, match="chmod 600"):
        store.save()


def test_a_symbolic_link_is_neither_opened_nor_written_through(store: Keystore, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(store.path)
    with pytest.raises(KeystoreError, match="symbolic link"):
        Keystore.open(link, PASSWORD)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeystoreError, match="exists already"):
        Keystore.create(dangling, "bank-a", PASSWORD, cost=CHEAP)
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_put_in_the_files_place_is_not_saved_over(store: Keystore, tmp_path: Path) -> None:
    moved = store.path.rename(tmp_path / "moved")
    store.path.symlink_to(moved)
    with pytest.raises(KeystoreError, match="symbolic link"):
        store.save()


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, tmp_path):
        with pytest.raises(KeystoreError, match="not a regular file"):
            Keystore.open(path, PASSWORD)


def test_a_missing_or_huge_file_is_refused_with_what_to_do(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="no such keystore; make one"):
        Keystore.open(path, PASSWORD)
    with pytest.raises(KeystoreError, match="check the path"):
        Keystore.open(tmp_path / ("x" * 300), PASSWORD)
    path.touch(mode=0o600)
    os.truncate(path, 1 << 30)
    with pytest.raises(KeystoreError, match="larger than any keystore"):
        Keystore.open(path, PASSWORD)


def test_creating_never_takes_another_files_place(store: Keystore) -> None:
    before = store.path.read_bytes()
    with pytest.raises(KeystoreError, match="exists already"):
        Keystore.create(store.path, "bank-b", "another", cost=CHEAP)
    assert store.path.read_bytes() == before
    assert names(store.path.parent) == [store.path.name]


def test_creating_where_there_is_no_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="check the directory"):
        Keystore.create(tmp_path / "nowhere" / "keys", "bank-a", PASSWORD, cost=CHEAP)


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    store: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = store.path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeystoreError, match="No space left"):
        store.save()
    assert store.path.read_bytes() == before
    assert names(store.path.parent) == [store.path.name]


def test_of_two_that_opened_it_the_second_to_save_is_told(store: Keystore) -> None:
    other = Keystore.open(store.path, PASSWORD)
    store.add("signing-2", SigningKey.generate())
    store.save()
    other.add("signing-3", SigningKey.generate())
    with pytest.raises(KeystoreError, match="open it again"):
        other.save()
    assert [held.name for held in Keystore.open(store.path, PASSWORD).keys] == [
        "signing-1",
        "encryption-1",
        "signing-2",
    ]


def test_neither_a_name_nor_a_key_is_held_twice(store: Keystore) -> None:
    with pytest.raises(KeystoreError, match="already"):
        store.add("signing-1", SigningKey.generate())
    with pytest.raises(KeystoreError, match="already"):
        store.add("signing-2", SIGNING)
    assert len(store.keys) == 2


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 129, "../a"])
def test_names_of_another_alphabet_are_refused(store: Keystore, tmp_path: Path, name: str) -> None:
    with pytest.raises(KeystoreError, match="use 1 to 128 of"):
        store.add(name, SigningKey.generate())
    with pytest.raises(KeystoreError, match="use 1 to 128 of"):
        Keystore.create(tmp_path / "new", name, PASSWORD, cost=CHEAP)


@pytest.mark.parametrize(("password", "says"), [("", "not be empty"), ("\ud800secret", "valid Unicode")])
def test_an_unusable_password_is_refused_without_being_repeated(path: Path, password: str, says: str) -> None:
    with pytest.raises(KeystoreError, match=says) as caught:
        Keystore.create(path, "bank-a", password, cost=CHEAP)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "cost", [Cost(0, 8192), Cost(1, 8191), Cost(1, 8193), Cost(11, 8192), Cost(1, (1 << 30) + 1024)]
)
def test_an_unreasonable_cost_cannot_be_asked_for(path: Path, cost: Cost) -> None:
    with pytest.raises(KeystoreError, match="keystore cost"):
        Keystore.create(path, "bank-a", PASSWORD, cost=cost)


def test_the_default_costs_are_libsodiums_and_within_bounds() -> None:
    assert Cost(2, 67_108_864) == INTERACTIVE
    assert Cost(3, 268_435_456) == MODERATE


def test_showing_a_keystore_shows_no_secret(store: Keystore) -> None:
    shown = f"{store!r} {store} {store.keys!r}"
    assert "bank-a" in shown
    assert "signing-1" in shown
    for secret in (SIGNING.seed, ENCRYPTION.private, PASSWORD.encode()):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_no_private_key_stands_in_the_file(store: Keystore) -> None:
    data = store.path.read_bytes()
    for secret in (SIGNING.seed, ENCRYPTION.private, SIGNING.seed.hex().encode(), b"signing-1", b"bank-a"):
        assert secret not in data
