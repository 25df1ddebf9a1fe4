"""The directory: each rule of admission refuses what breaks it, and a refusal changes nothing."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.directory import Directory, HeldKey, change_of
from parley.entry import MAXIMUM_ADDRESSES, MAXIMUM_KEYS
from parley.envelope import DIRECTORY_ENTRY_TYPE, MESSAGE_TYPE, countersign, seal
from parley.errors import DirectoryError, WireError
from parley.firehose import chain_hash
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.schemas import (
    ZERO_HASH,
    DirectoryEntry,
    DirectoryRecord,
    Envelope,
    Hash,
    PublicKey,
    Signature,
    encode,
)
from tests.strategies import KEYS, NOW, names

REGISTRAR, ALICE, BOB, CAROL = KEYS[:4]
READER = EncryptionKey(sha256(b"reader").digest())
OTHER_READER = EncryptionKey(sha256(b"other reader").digest())

REGISTRAR_ENTRY = DirectoryEntry(
    participant="registrar",
    legal_name="Registrar of Banks",
    lei=None,
    bic=None,
    country="DE",
    role="REGISTRAR",
    signing_keys=(public_key(REGISTRAR.public),),
    encryption_keys=(),
    addresses=("registrar",),
)
BANK_A = DirectoryEntry(
    participant="bank-a",
    legal_name="Bank A Société Anonyme",
    lei="529900T8BM49AURSDO55",
    bic="BANKDEFFXXX",
    country="FR",
    role="BANK",
    signing_keys=(public_key(ALICE.public),),
    encryption_keys=(public_key(READER.public),),
    addresses=("bank-a", "bank-a.desk"),
)
BANK_B = BANK_A._replace(
    participant="bank-b",
    legal_name="Bank B",
    signing_keys=(public_key(BOB.public),),
    encryption_keys=(public_key(OTHER_READER.public),),
    addresses=("bank-b",),
)


def signed(entry: DirectoryEntry, *keys: SigningKey) -> Envelope:
    return seal(DIRECTORY_ENTRY_TYPE, entry, *keys)


def admitted(directory: Directory, entry: DirectoryEntry, *keys: SigningKey) -> bytes:
    record = encode(directory.admit(signed(entry, *keys), NOW))
    directory.apply(record)
    return record


def face(directory: Directory) -> tuple[object, ...]:
    """All that a directory tells."""
    entries = list(directory)
    return (
        directory.version,
        directory.chain,
        entries,
        [directory.version_of(entry.participant) for entry in entries],
        [directory.speaker(key.key_id) for entry in entries for key in entry.signing_keys],
        [directory.owner(address) for entry in entries for address in entry.addresses],
    )


@pytest.fixture
def empty() -> Directory:
    return Directory(REGISTRAR.public)


@pytest.fixture
def directory(empty: Directory) -> Directory:
    admitted(empty, REGISTRAR_ENTRY, REGISTRAR)
    admitted(empty, BANK_A, ALICE, REGISTRAR)
    return empty


def refused(directory: Directory, envelope: Envelope, why: str) -> None:
    """Neither admitted nor taken as the next record, with this reason, by it or a copy of it; and nothing has changed."""
    before = face(directory)
    for either in (directory, directory.copy()):
        with pytest.raises(DirectoryError, match=why):
            either.admit(envelope, NOW)
    record = DirectoryRecord(directory.version + 1, directory.chain, NOW, encode(envelope))
    with pytest.raises(DirectoryError, match=why):
        directory.apply(encode(record))
    assert face(directory) == before


class TestWhoIsAdmitted:
    def test_is_found_by_name_key_and_address(self, directory: Directory) -> None:
        assert directory.entry("bank-a") == BANK_A
        assert directory.speaker(ALICE.id) == HeldKey("bank-a", ALICE.public, signs=True, since=2)
        assert directory.owner("bank-a.desk") == "bank-a"
        assert directory.version_of("bank-a") == 2
        assert "bank-a" in directory
        assert list(directory) == [REGISTRAR_ENTRY, BANK_A]

    def test_is_not_found_when_nobody_was_admitted(self, directory: Directory) -> None:
        assert directory.entry("bank-b") is None
        assert directory.speaker(BOB.id) is None
        assert directory.owner("bank-b") is None
        assert directory.version_of("bank-b") is None
        assert "bank-b" not in directory

    def test_signs_with_no_encryption_key(self, directory: Directory) -> None:
        assert directory.speaker(public_key(READER.public).key_id) is None

    def test_stands_in_the_record_as_signed(self, directory: Directory) -> None:
        envelope = signed(BANK_B, BOB, REGISTRAR)
        record = directory.admit(envelope, NOW)
        assert (record.version, record.chain, record.admitted_at) == (3, directory.chain, NOW)
        assert record.envelope == encode(envelope)
        assert change_of(record) == BANK_B

    def test_is_admitted_only_when_the_record_is_applied(self, directory: Directory) -> None:
        before = face(directory)
        directory.admit(signed(BANK_B, BOB, REGISTRAR), NOW)
        assert face(directory) == before

    def test_may_have_several_keys_each_of_which_signs(self, directory: Directory) -> None:
        entry = BANK_B._replace(signing_keys=(public_key(BOB.public), public_key(CAROL.public)))
        admitted(directory, entry, CAROL, BOB, REGISTRAR)
        assert {directory.speaker(key.id) for key in (BOB, CAROL)} == {
            HeldKey("bank-b", BOB.public, signs=True, since=3),
            HeldKey("bank-b", CAROL.public, signs=True, since=3),
        }


def test_a_copy_goes_on_without_changing_what_it_was_copied_from(directory: Directory) -> None:
    before, copy = face(directory), directory.copy()
    assert face(copy) == before
    admitted(copy, BANK_B, BOB, REGISTRAR)
    assert face(directory) == before


class TestRule1TheFirstEntryIsTheRegistrars:
    def test_the_registrar_admits_itself(self, empty: Directory) -> None:
        admitted(empty, REGISTRAR_ENTRY, REGISTRAR)
        assert empty.version == 1
        assert empty.speaker(REGISTRAR.id) == HeldKey("registrar", REGISTRAR.public, signs=True, since=1)

    def test_anybody_elses_is_refused(self, empty: Directory) -> None:
        refused(empty, signed(BANK_A, ALICE, REGISTRAR), "the first entry must be the registrar's own")

    def test_another_registrars_is_refused(self, empty: Directory) -> None:
        pretender = REGISTRAR_ENTRY._replace(signing_keys=(public_key(BOB.public),))
        refused(empty, signed(pretender, BOB, REGISTRAR), "with the registrar's key")

    def test_one_in_another_role_is_refused(self, empty: Directory) -> None:
        bank = REGISTRAR_ENTRY._replace(role="BANK")
        refused(empty, signed(bank, REGISTRAR), "the first entry must be the registrar's own")

    def test_one_that_the_registrar_has_not_signed_is_refused(self, empty: Directory) -> None:
        refused(empty, signed(REGISTRAR_ENTRY), f"no signature by key {REGISTRAR.id.hex()}")

    def test_a_second_registrar_is_refused(self, directory: Directory) -> None:
        second = BANK_B._replace(role="REGISTRAR")
        refused(directory, signed(second, BOB, REGISTRAR), "the directory has a registrar already")


class TestRule2EntriesAreSignedByTheirKeysAndTheRegistrar:
    def test_without_the_registrars_signature_it_is_refused(self, directory: Directory) -> None:
        refused(directory, signed(BANK_B, BOB), f"bank-b: no signature by key {REGISTRAR.id.hex()}")

    def test_without_its_own_signature_it_is_refused(self, directory: Directory) -> None:
        refused(directory, signed(BANK_B, REGISTRAR), f"bank-b: no signature by key {BOB.id.hex()}")

    def test_without_the_signature_of_one_of_its_keys_it_is_refused(self, directory: Directory) -> None:
        entry = BANK_B._replace(signing_keys=(public_key(BOB.public), public_key(CAROL.public)))
        refused(directory, signed(entry, BOB, REGISTRAR), f"no signature by key {CAROL.id.hex()}")

    @pytest.mark.parametrize("signer", [0, 1])
    def test_with_a_signature_over_other_bytes_it_is_refused(self, directory: Directory, signer: int) -> None:
        good = signed(BANK_B, BOB, REGISTRAR)
        bad = signed(BANK_B._replace(country="DE"), BOB, REGISTRAR).signatures[signer]
        signatures = tuple(bad if place == signer else one for place, one in enumerate(good.signatures))
        refused(directory, good._replace(signatures=signatures), "does not verify")

    def test_with_a_signature_by_anybody_else_it_is_refused(self, directory: Directory) -> None:
        refused(directory, signed(BANK_B, BOB, REGISTRAR, CAROL), "each once; remove the rest")

    def test_signed_twice_by_one_key_it_is_refused(self, directory: Directory) -> None:
        refused(directory, countersign(signed(BANK_B, BOB, REGISTRAR), BOB), "each once; remove the rest")

    @pytest.mark.parametrize("first", [True, False])
    def test_a_bad_signature_is_not_hidden_by_a_good_one_of_the_same_key(
        self, directory: Directory, first: bool
    ) -> None:
        good = signed(BANK_B, BOB, REGISTRAR)
        bad = Signature(BOB.id, bytes(64))
        signatures = (bad, *good.signatures) if first else (*good.signatures, bad)
        refused(directory, good._replace(signatures=signatures), "does not verify")


class TestRule3NamesKeysAndAddressesAreOneParticipants:
    def test_a_participant_is_admitted_once(self, directory: Directory) -> None:
        again = BANK_B._replace(participant="bank-a")
        refused(directory, signed(again, BOB, REGISTRAR), "bank-a is admitted already")

    def test_a_signing_key_is_one_participants(self, directory: Directory) -> None:
        entry = BANK_B._replace(signing_keys=(public_key(BOB.public), public_key(ALICE.public)))
        refused(directory, signed(entry, BOB, ALICE, REGISTRAR), "a key is in use by another participant")

    def test_the_registrars_key_is_nobody_elses(self, directory: Directory) -> None:
        entry = BANK_B._replace(signing_keys=(public_key(REGISTRAR.public),))
        refused(directory, signed(entry, REGISTRAR), "a key is in use by another participant")

    def test_an_encryption_key_is_one_participants(self, directory: Directory) -> None:
        entry = BANK_B._replace(encryption_keys=BANK_A.encryption_keys)
        refused(directory, signed(entry, BOB, REGISTRAR), "a key is in use by another participant")

    def test_a_key_does_not_change_its_purpose(self, directory: Directory) -> None:
        entry = BANK_B._replace(encryption_keys=BANK_A.signing_keys)
        refused(directory, signed(entry, BOB, REGISTRAR), "a key is in use by another participant")

    def test_an_address_is_one_participants(self, directory: Directory) -> None:
        entry = BANK_B._replace(addresses=("bank-b", "bank-a.desk"))
        refused(
            directory, signed(entry, BOB, REGISTRAR), "the address bank-a.desk is bank-a's; choose another"
        )


class TestRule4VersionsAreDenseAndChained:
    def test_the_chain_hash_covers_every_record(self, empty: Directory) -> None:
        first = admitted(empty, REGISTRAR_ENTRY, REGISTRAR)
        second = admitted(empty, BANK_A, ALICE, REGISTRAR)
        expected = ZERO_HASH
        for record in (first, second):
            expected = chain_hash(expected, Hash(sha256(record).digest()))
        assert (empty.version, empty.chain) == (2, expected)

    @pytest.mark.parametrize("version", [-1, 0, 4, 2**63 - 1])
    def test_a_record_of_another_version_is_refused(self, directory: Directory, version: int) -> None:
        record = directory.admit(signed(BANK_B, BOB, REGISTRAR), NOW)._replace(version=version)
        before = face(directory)
        with pytest.raises(DirectoryError, match=f"directory record {version} does not follow record 2"):
            directory.apply(encode(record))
        assert face(directory) == before

    def test_a_record_with_another_past_is_refused(self, directory: Directory) -> None:
        record = directory.admit(signed(BANK_B, BOB, REGISTRAR), NOW)._replace(chain=ZERO_HASH)
        with pytest.raises(DirectoryError, match="read the directory again from its start"):
            directory.apply(encode(record))

    def test_the_same_record_does_not_count_twice(self, directory: Directory) -> None:
        record = admitted(directory, BANK_B, BOB, REGISTRAR)
        with pytest.raises(DirectoryError, match="directory record 3 does not follow record 3"):
            directory.apply(record)

    def test_who_trusts_another_registrar_refuses_the_log(self, directory: Directory) -> None:
        stranger = Directory(BOB.public)
        record = DirectoryRecord(1, ZERO_HASH, NOW, encode(signed(REGISTRAR_ENTRY, REGISTRAR)))
        with pytest.raises(DirectoryError, match="with the registrar's key"):
            stranger.apply(encode(record))


def _keys(number: int) -> tuple[PublicKey, ...]:
    return tuple(public_key(sha256(b"%d" % place).digest()) for place in range(number))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"participant": "Bank B"}, "not well formed"),
        ({"participant": ""}, "not well formed"),
        ({"addresses": ("bank b",)}, "not well formed"),
        ({"addresses": ()}, "1 to 256 different addresses"),
        ({"addresses": ("bank-b", "bank-b")}, "1 to 256 different addresses"),
        (
            {"addresses": tuple(f"bank-b.{place}" for place in range(MAXIMUM_ADDRESSES + 1))},
            "1 to 256 different addresses",
        ),
        ({"legal_name": ""}, "a legal name"),
        ({"legal_name": "  "}, "a legal name"),
        ({"legal_name": "Bank B\nBank C"}, "printable characters"),
        ({"legal_name": "Bank \u202eB"}, "printable characters"),
        ({"country": "DEU"}, "is no country"),
        ({"country": "de"}, "is no country"),
        ({"country": "1D"}, "is no country"),
        ({"country": "ÄÖ"}, "is no country"),
        ({"signing_keys": ()}, "1 to 16 signing keys"),
        ({"signing_keys": _keys(MAXIMUM_KEYS + 1)}, "1 to 16 signing keys"),
        ({"encryption_keys": _keys(MAXIMUM_KEYS + 1)}, "1 to 16 signing keys"),
        ({"signing_keys": (public_key(BOB.public),) * 2}, "each key is listed once"),
        ({"encryption_keys": (public_key(BOB.public),)}, "each key is listed once"),
        ({"signing_keys": (PublicKey(ALICE.id, BOB.public),)}, "under the first 16 bytes of its SHA-256"),
    ],
    ids=str,
)
def test_an_entry_that_is_not_well_formed_is_refused(
    directory: Directory, change: dict[str, object], why: str
) -> None:
    refused(directory, signed(BANK_B._replace(**change), BOB, REGISTRAR), why)  # type: ignore[arg-type]


def test_an_envelope_of_another_type_is_refused(directory: Directory) -> None:
    refused(
        directory,
        seal(MESSAGE_TYPE, BANK_B, BOB, REGISTRAR),
        "it must be application/vnd.parley.directory-entry",
    )


@pytest.mark.parametrize("payload", [b"", b"garbage", encode(DirectoryRecord(1, ZERO_HASH, 0, b""))])
def test_a_payload_that_is_no_entry_is_an_error_of_the_wire(directory: Directory, payload: bytes) -> None:
    envelope = countersign(Envelope(DIRECTORY_ENTRY_TYPE, payload, ()), BOB, REGISTRAR)
    with pytest.raises(WireError):
        directory.admit(envelope, NOW)


@pytest.mark.parametrize("record", [b"", b"garbage", encode(signed(BANK_B, BOB, REGISTRAR))])
def test_a_record_that_is_none_is_an_error_of_the_wire(directory: Directory, record: bytes) -> None:
    before = face(directory)
    with pytest.raises(WireError):
        directory.apply(record)
    assert face(directory) == before


JOINING = st.lists(
    st.tuples(names(), st.lists(names(), min_size=1, max_size=3, unique=True).map(tuple)),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(JOINING, st.data())
def test_two_readers_of_the_log_see_the_same_and_only_in_its_order(
    joining: list[tuple[str, tuple[str, ...]]], data: st.DataObject
) -> None:
    writer = Directory(REGISTRAR.public)
    log = [admitted(writer, REGISTRAR_ENTRY, REGISTRAR)]
    for key, (name, addresses) in zip(KEYS[1:], joining, strict=False):
        entry = BANK_A._replace(
            participant=name,
            addresses=addresses,
            signing_keys=(public_key(key.public),),
            encryption_keys=(),
        )
        free = name not in writer and not any(map(writer.owner, addresses))
        if free:
            log.append(admitted(writer, entry, key, REGISTRAR))
        else:
            refused(writer, signed(entry, key, REGISTRAR), "is admitted already|choose another")
    reader = Directory(REGISTRAR.public)
    for record in log:
        skipped = data.draw(st.sampled_from(log))
        if skipped != record:
            with pytest.raises(DirectoryError, match="does not follow"):
                reader.apply(skipped)
        reader.apply(record)
    assert face(reader) == face(writer)
    assert reader.version == len(log)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_of_a_record_leaves_the_same_chain(place: int, flip: int) -> None:
    directory, forked = (Directory(REGISTRAR.public) for _ in range(2))
    record = admitted(directory, REGISTRAR_ENTRY, REGISTRAR)
    changed = bytearray(record)
    changed[place % len(record)] ^= flip
    try:
        forked.apply(bytes(changed))
    except (DirectoryError, WireError):
        assert forked.version == 0
    else:
        assert forked.chain != directory.chain
