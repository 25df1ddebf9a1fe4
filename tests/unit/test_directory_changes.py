"""Changes of what is in the directory: who may rotate, revoke and recover, who may not, and who was who at every version."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from parley.admission import attested_facts
from parley.directory import Directory, HeldKey, Placed
from parley.envelope import DIRECTORY_ENTRY_TYPE, DIRECTORY_REVOCATION_TYPE, countersign, seal
from parley.errors import DirectoryError, ForkError
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.schemas import (
    DirectoryEntry,
    DirectoryRecord,
    DirectoryRevocation,
    Envelope,
    Hash,
    KeyId,
    PublicKey,
    RevocationReason,
    encode,
)
from tests.synthetic_ledger import START, signing_key

REGISTRAR, OLD, NEW, SPARE, BOB, MALLORY = map(
    signing_key, ("registrar", "old", "new", "spare", "bob", "mallory")
)
READER, NEXT_READER = (EncryptionKey(sha256(name).digest()) for name in (b"reader", b"next reader"))

REGISTRAR_ENTRY = DirectoryEntry(
    "registrar",
    "Registrar of Banks",
    None,
    None,
    "DE",
    "REGISTRAR",
    (public_key(REGISTRAR.public),),
    (),
    ("registrar",),
)
BANK = DirectoryEntry(
    participant="bank",
    legal_name="Bank plc",
    lei="529900T8BM49AURSDO55",
    bic="BANKDEFFXXX",
    country="FR",
    role="BANK",
    signing_keys=(public_key(OLD.public),),
    encryption_keys=(public_key(READER.public),),
    addresses=("bank", "bank.desk"),
)


class Book:
    """A directory that takes what is admitted, and refuses the rest without a trace."""

    def __init__(self, *, threshold: int = 1, keys: tuple[SigningKey, ...] = (OLD,), **facts: Any) -> None:
        self.directory = Directory(REGISTRAR.public)
        self.enter(REGISTRAR_ENTRY, REGISTRAR)
        entry = BANK._replace(signing_keys=publics(*keys), threshold=threshold, **facts)
        self.enter(entry, *keys, REGISTRAR)

    @property
    def bank(self) -> DirectoryEntry:
        entry = self.directory.entry("bank")
        assert entry is not None
        return entry

    def next(self, **facts: Any) -> DirectoryEntry:
        """The bank's entry with something else, to follow the one in force."""
        previous = self.directory.version_of("bank")
        return self.bank._replace(previous=previous, **facts)

    def take(self, envelope: Envelope) -> bytes:
        record = encode(self.directory.admit(envelope, START))
        self.directory.apply(record)
        return record

    def enter(self, entry: DirectoryEntry, *signers: SigningKey) -> bytes:
        return self.take(seal(DIRECTORY_ENTRY_TYPE, entry, *signers))

    def revoke(self, key: SigningKey | EncryptionKey, *signers: SigningKey) -> bytes:
        return self.take(self.revocation(key.id, *signers))

    def revocation(
        self, key: KeyId, *signers: SigningKey, version: int | None = None, of: str = "bank"
    ) -> Envelope:
        listing = version or self.directory.version_of(of)
        assert listing is not None
        reason: RevocationReason = "COMPROMISED"
        return seal(DIRECTORY_REVOCATION_TYPE, DirectoryRevocation(of, key, reason, listing), *signers)

    def refuses(self, envelope: Envelope, why: str) -> None:
        """By itself and by every reader, and nothing has changed."""
        version, chain = self.directory.version, self.directory.chain
        with pytest.raises(DirectoryError, match=why):
            self.directory.admit(envelope, START)
        record = DirectoryRecord(version + 1, chain, START, encode(envelope))
        with pytest.raises(DirectoryError, match=why):
            self.directory.copy().apply(encode(record))
        assert (self.directory.version, self.directory.chain) == (version, chain)

    def refuses_entry(self, entry: DirectoryEntry, *signers: SigningKey, why: str) -> None:
        self.refuses(seal(DIRECTORY_ENTRY_TYPE, entry, *signers), why)


def publics(*keys: SigningKey) -> tuple[PublicKey, ...]:
    return tuple(public_key(key.public) for key in keys)


def commitment(key: SigningKey) -> Hash:
    return Hash(sha256(key.public).digest())


class TestRotation:
    def test_is_signed_by_the_old_key_and_the_new_one_alone(self) -> None:
        book = Book()
        book.enter(book.next(signing_keys=publics(NEW)), OLD, NEW)
        assert book.directory.signing_keys("bank") == publics(NEW)
        assert book.directory.speaker(OLD.id) is None
        assert book.directory.speaker(NEW.id) == HeldKey("bank", NEW.public, signs=True, since=3)

    def test_without_the_old_key_it_is_refused(self) -> None:
        book = Book()
        book.refuses_entry(
            book.next(signing_keys=publics(NEW)), NEW, why=f"no signature by key {OLD.id.hex()}"
        )

    def test_without_the_old_key_it_is_refused_even_if_the_registrar_signs(self) -> None:
        book = Book()
        book.refuses_entry(book.next(signing_keys=publics(NEW)), NEW, REGISTRAR, why="authorise")

    def test_without_the_new_key_it_is_refused(self) -> None:
        book = Book()
        book.refuses_entry(
            book.next(signing_keys=publics(NEW)), OLD, why="a new key signs, to prove that it is held"
        )

    def test_to_a_key_that_was_used_before_is_refused_for_everybody(self) -> None:
        book = Book()
        book.enter(book.next(signing_keys=publics(NEW)), OLD, NEW)
        book.refuses_entry(
            book.next(signing_keys=publics(OLD)), OLD, NEW, why="was replaced at directory version 3"
        )
        thief = BANK._replace(participant="thief", addresses=("thief",), encryption_keys=())
        book.refuses_entry(thief, OLD, REGISTRAR, why="a key is in use by another participant")

    def test_to_somebody_elses_key_is_refused(self) -> None:
        book = Book()
        book.refuses_entry(
            book.next(signing_keys=publics(REGISTRAR)),
            OLD,
            REGISTRAR,
            why="a key is in use by another participant",
        )

    def test_of_the_key_that_others_seal_to_needs_no_registrar(self) -> None:
        book = Book()
        book.enter(book.next(encryption_keys=(public_key(NEXT_READER.public),)), OLD)
        assert book.directory.encryption_keys("bank") == (public_key(NEXT_READER.public),)
        assert book.directory.encryption_keys("bank", 2) == (public_key(READER.public),)

    def test_by_an_entry_made_from_an_older_one_is_refused(self) -> None:
        book = Book()
        stale = book.next(signing_keys=publics(SPARE))
        book.enter(book.next(addresses=("bank",)), OLD)
        book.refuses_entry(
            stale, OLD, SPARE, why="entry in force is of version 3, not 2; make the change again"
        )

    def test_of_a_participant_that_is_not_admitted_is_refused(self) -> None:
        book = Book()
        stranger = BANK._replace(
            participant="stranger", addresses=("stranger",), signing_keys=publics(BOB), previous=2
        )
        book.refuses_entry(
            stranger._replace(encryption_keys=()), BOB, REGISTRAR, why="stranger is not admitted"
        )


class TestAttestedFacts:
    @pytest.mark.parametrize(
        ("fact", "value"),
        [
            ("legal_name", "Another Bank plc"),
            ("lei", "213800KUD8LAJWSQ9D15"),
            ("bic", "AGRIFRPP"),
            ("country", "DE"),
            ("role", "REGULATOR"),
            ("addresses", ("bank", "bank.desk", "bank.london")),
            ("accounts", ("eip155:1:0xab16a96d359ec26a11e2c2b3d8f8b8942d5bfcdb",)),
        ],
    )
    def test_change_only_with_the_registrars_signature(self, fact: str, value: object) -> None:
        book = Book()
        changed = book.next(**{fact: value})
        book.refuses_entry(
            changed, OLD, why=f"no signature by key {REGISTRAR.id.hex()}; the registrar attests it"
        )
        book.refuses_entry(changed, REGISTRAR, why=f"no signature by key {OLD.id.hex()}")
        assert attested_facts(book.bank, changed)
        book.enter(changed, OLD, REGISTRAR)
        assert book.bank == changed

    def test_are_all_there_is_to_attest_of_a_newcomer(self) -> None:
        assert attested_facts(None, BANK) == {
            "legal name": "Bank plc",
            "LEI": "529900T8BM49AURSDO55",
            "BIC": "BANKDEFFXXX",
            "country": "FR",
            "role": "BANK",
            "addresses": "bank, bank.desk",
        }

    def test_do_not_include_a_rotation_or_a_dropped_address(self) -> None:
        assert attested_facts(BANK, BANK._replace(signing_keys=publics(NEW), addresses=("bank",))) == {}


class TestAddresses:
    def test_a_dropped_one_receives_no_more_and_is_kept_for_its_owner(self) -> None:
        book = Book()
        book.enter(book.next(addresses=("bank",)), OLD)
        assert book.directory.owner("bank.desk") is None
        assert book.directory.reserved_for("bank.desk") == "bank"
        other = BANK._replace(
            participant="other", addresses=("bank.desk",), signing_keys=(public_key(BOB.public),)
        )
        book.refuses_entry(
            other._replace(encryption_keys=()),
            BOB,
            REGISTRAR,
            why="the address bank.desk is bank's; choose another",
        )
        book.enter(book.next(addresses=("bank", "bank.desk")), OLD, REGISTRAR)
        assert book.directory.owner("bank.desk") == "bank"

    def test_an_account_on_a_chain_is_one_participants(self) -> None:
        account = "eip155:1:0xab16a96d359ec26a11e2c2b3d8f8b8942d5bfcdb"
        book = Book(accounts=(account,))
        other = BANK._replace(
            participant="other", addresses=("other",), accounts=(account,), encryption_keys=()
        )
        book.refuses_entry(
            other._replace(signing_keys=(public_key(BOB.public),)),
            BOB,
            REGISTRAR,
            why=f"the account {account} is bank's",
        )


class TestANextKeyCommittedTo:
    def test_takes_over_without_the_stolen_one(self) -> None:
        book = Book(next_key=commitment(NEW))
        book.enter(book.next(signing_keys=publics(NEW), next_key=commitment(SPARE)), NEW)
        assert book.directory.signing_keys("bank") == publics(NEW)

    @pytest.mark.parametrize(
        "grab",
        [
            {"signing_keys": publics(MALLORY)},
            {"signing_keys": publics(OLD, MALLORY)},
            {"encryption_keys": (public_key(NEXT_READER.public),)},
            {"encryption_keys": ()},
            {"next_key": commitment(MALLORY)},
            {"next_key": None},
        ],
        ids=",".join,
    )
    def test_keeps_a_thief_of_the_current_key_from_changing_keys(self, grab: dict[str, Any]) -> None:
        book = Book(next_key=commitment(NEW))
        signers = (OLD, MALLORY) if MALLORY.id.hex() in str(grab) or "signing_keys" in grab else (OLD,)
        book.refuses_entry(book.next(**grab), *signers, why="has committed to its next key")
        book.refuses_entry(book.next(**grab), *signers, REGISTRAR, why="has committed to its next key")

    def test_does_not_hinder_a_change_of_other_things(self) -> None:
        book = Book(next_key=commitment(NEW))
        book.enter(book.next(addresses=("bank",)), OLD)
        assert book.bank.next_key == commitment(NEW)

    def test_helps_even_after_the_thief_has_revoked_every_key(self) -> None:
        book = Book(next_key=commitment(NEW))
        book.revoke(OLD, OLD)
        book.refuses_entry(book.next(signing_keys=publics(MALLORY)), MALLORY, why="no signature by key")
        book.enter(book.next(signing_keys=publics(NEW), next_key=None), NEW)
        assert book.directory.signing_keys("bank") == publics(NEW)

    @pytest.mark.parametrize("used", [OLD, REGISTRAR])
    def test_is_one_that_was_never_used(self, used: SigningKey) -> None:
        book = Book()
        book.refuses_entry(
            book.next(next_key=commitment(used)), OLD, why="the next key is one that has been used"
        )


class TestRevocation:
    @pytest.mark.parametrize("signer", [OLD, SPARE, REGISTRAR])
    def test_by_any_valid_key_of_the_participant_or_by_the_registrar_counts(self, signer: SigningKey) -> None:
        book = Book(keys=(OLD, SPARE))
        book.revoke(OLD, signer)
        held = book.directory.holder(OLD.id)
        assert held == HeldKey("bank", OLD.public, signs=True, since=2, until=3, revoked="COMPROMISED")
        assert book.directory.speaker(OLD.id) is None
        assert book.directory.signing_keys("bank") == publics(SPARE)

    @pytest.mark.parametrize("signers", [(), (MALLORY,)])
    def test_by_nobody_or_somebody_else_is_refused(self, signers: tuple[SigningKey, ...]) -> None:
        book = Book()
        book.refuses(book.revocation(OLD.id, *signers), "no signature by key")

    def test_by_a_key_that_is_revoked_itself_is_refused(self) -> None:
        book = Book(keys=(OLD, SPARE))
        book.revoke(OLD, OLD)
        book.refuses(book.revocation(SPARE.id, OLD), "no signature by key")

    def test_twice_is_refused(self) -> None:
        book = Book(keys=(OLD, SPARE))
        book.revoke(OLD, OLD)
        book.refuses(book.revocation(OLD.id, SPARE), "was revoked at directory version 3 already")

    def test_of_somebody_elses_key_is_refused(self) -> None:
        book = Book()
        book.refuses(book.revocation(REGISTRAR.id, OLD), "is not bank's")
        book.refuses(book.revocation(MALLORY.id, OLD), "is not bank's")

    @pytest.mark.parametrize("version", [1, 3, 99])
    def test_that_names_another_entry_is_refused(self, version: int) -> None:
        book = Book()
        book.enter(book.next(addresses=("bank",)), OLD)
        spare = book.next(signing_keys=publics(OLD, SPARE))
        book.enter(spare, OLD, SPARE)
        book.refuses(book.revocation(SPARE.id, OLD, version=version), "is no entry of bank's that lists key")

    def test_of_an_encryption_key_ends_what_is_sealed_to_it(self) -> None:
        book = Book()
        book.revoke(READER, OLD)
        assert book.directory.encryption_keys("bank") == ()
        assert book.directory.encryption_keys("bank", 2) == (public_key(READER.public),)

    def test_of_a_key_never_lets_it_come_back(self) -> None:
        book = Book(keys=(OLD, SPARE))
        book.revoke(OLD, SPARE)
        book.refuses_entry(
            book.next(), SPARE, OLD, why="was revoked at directory version 3; a key never comes in again"
        )

    def test_of_all_keys_leaves_the_way_back_to_the_registrar_and_a_new_key(self) -> None:
        book = Book()
        book.revoke(OLD, OLD)
        back = book.next(signing_keys=publics(NEW))
        book.refuses_entry(back, NEW, why="the registrar attests it")
        book.refuses_entry(back, REGISTRAR, why="a new key signs")
        book.enter(back, NEW, REGISTRAR)
        assert book.directory.signing_keys("bank") == publics(NEW)

    def test_of_the_registrars_last_key_is_refused(self) -> None:
        book = Book()
        envelope = book.revocation(REGISTRAR.id, REGISTRAR, of="registrar")
        book.refuses(envelope, "the registrar could admit nobody")


class TestFourEyes:
    def test_one_key_alone_changes_nothing(self) -> None:
        book = Book(keys=(OLD, SPARE), threshold=2)
        dropped = book.next(addresses=("bank",))
        book.refuses_entry(dropped, OLD, why=f"no signature by key {SPARE.id.hex()}")
        book.enter(dropped, OLD, SPARE)

    def test_needs_two_different_keys(self) -> None:
        book = Book(keys=(OLD, SPARE), threshold=2)
        twice = countersign(seal(DIRECTORY_ENTRY_TYPE, book.next(addresses=("bank",)), OLD), OLD)
        book.refuses(twice, f"no signature by key {SPARE.id.hex()}")

    def test_where_too_few_keys_are_left_the_registrar_signs_too(self) -> None:
        book = Book(keys=(OLD, SPARE), threshold=2)
        book.revoke(OLD, SPARE)
        back = book.next(signing_keys=publics(SPARE, NEW))
        book.refuses_entry(back, SPARE, NEW, why="the registrar attests it")
        book.refuses_entry(back, NEW, REGISTRAR, why=f"no signature by key {SPARE.id.hex()}")
        book.enter(back, SPARE, NEW, REGISTRAR)

    @pytest.mark.parametrize("threshold", [-1, 0, 3])
    def test_are_at_least_one_and_at_most_all(self, threshold: int) -> None:
        book = Book(keys=(OLD, SPARE))
        book.refuses_entry(book.next(threshold=threshold), OLD, why="the threshold is at least 1 and at most")

    def test_of_the_registrar_both_attest(self) -> None:
        book = Book()
        entry = REGISTRAR_ENTRY._replace(signing_keys=publics(REGISTRAR, SPARE), threshold=2, previous=1)
        book.enter(entry, REGISTRAR, SPARE)
        renamed = book.next(legal_name="Bank II plc")
        book.refuses_entry(renamed, OLD, REGISTRAR, why=f"no signature by key {SPARE.id.hex()}")
        book.enter(renamed, OLD, REGISTRAR, SPARE)


class TestTheRegistrar:
    def test_rotates_as_anybody_does_and_its_new_key_attests(self) -> None:
        book = Book()
        book.enter(
            REGISTRAR_ENTRY._replace(signing_keys=(public_key(NEW.public),), previous=1), REGISTRAR, NEW
        )
        renamed = book.next(legal_name="Bank II plc")
        book.refuses_entry(renamed, OLD, REGISTRAR, why=f"no signature by key {NEW.id.hex()}")
        book.enter(renamed, OLD, NEW)

    def test_stays_the_registrar(self) -> None:
        book = Book()
        book.refuses_entry(
            REGISTRAR_ENTRY._replace(role="BANK", previous=1), REGISTRAR, why="it stays the registrar"
        )
        book.refuses_entry(book.next(role="REGISTRAR"), OLD, REGISTRAR, why="has a registrar already")


class TestWhoWasWho:
    def test_a_key_is_its_owners_for_the_versions_between_its_coming_and_its_end(self) -> None:
        book = Book()
        book.enter(book.next(signing_keys=publics(NEW)), OLD, NEW)
        book.revoke(NEW, NEW)
        told = {
            version: [key for key in (OLD, NEW) if book.directory.signer(key.id, version) is not None]
            for version in range(1, 5)
        }
        assert told == {1: [], 2: [OLD], 3: [NEW], 4: []}

    def test_an_entry_is_in_force_until_the_next(self) -> None:
        book = Book()
        first = book.bank
        book.enter(book.next(legal_name="Bank II plc"), OLD, REGISTRAR)
        assert book.directory.entry_at("bank", 1) is None
        assert book.directory.entry_at("bank", 2) == (2, first)
        assert book.directory.entry_at("bank", 3) == (3, book.bank)

    def test_every_change_stands_in_the_history(self) -> None:
        book = Book()
        first = book.bank
        book.revoke(READER, OLD)
        assert book.directory.history("bank") == (
            Placed(2, first),
            Placed(3, DirectoryRevocation("bank", READER.id, "COMPROMISED", 2)),
        )

    def test_what_has_not_been_read_is_not_guessed(self) -> None:
        book = Book()
        with pytest.raises(DirectoryError, match="version 3 is asked about, and 2 has been read; read on"):
            book.directory.signer(OLD.id, 3)

    def test_an_encryption_key_signs_nothing(self) -> None:
        book = Book()
        assert book.directory.signer(READER.id, 2) is None


class TestAFork:
    def test_is_told_with_both_digests(self) -> None:
        book = Book()
        other = book.directory.copy()
        ours = book.enter(book.next(addresses=("bank",)), OLD)
        theirs = encode(
            other.admit(
                seal(DIRECTORY_ENTRY_TYPE, book.bank._replace(previous=2, addresses=("bank.desk",)), OLD),
                START,
            )
        )
        with pytest.raises(ForkError, match="two records of directory version 3") as caught:
            book.directory.apply(theirs)
        digests = (sha256(ours).digest(), sha256(theirs).digest())
        assert (caught.value.version, caught.value.digests) == (3, digests)
        assert all(digest.hex() in str(caught.value) for digest in digests)

    def test_is_not_seen_in_a_record_read_again(self) -> None:
        book = Book()
        record = book.enter(book.next(addresses=("bank",)), OLD)
        with pytest.raises(DirectoryError, match="does not follow record 3") as caught:
            book.directory.apply(record)
        assert not isinstance(caught.value, ForkError)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"lei": "529900T8BM49AURSDO56"}, "is no LEI; its 20 characters or its check digits are wrong"),
        ({"lei": "529900T8BM49AURSDO5"}, "is no LEI"),
        ({"lei": "529900t8bm49aursdo55"}, "is no LEI"),
        ({"lei": ""}, "is no LEI"),
        ({"bic": "BANKDEFFXX"}, "is no BIC"),
        ({"bic": "BANKQQFF"}, "is no BIC"),
        ({"bic": "bankdeff"}, "is no BIC"),
        ({"bic": "BANK DEFF"}, "is no BIC"),
        ({"country": "QQ"}, "is no country"),
        ({"country": "fr"}, "is no country"),
        ({"accounts": ("0xab",)}, "CAIP-10"),
        ({"accounts": ("eip155:1:0xab", "eip155:1:0xab")}, "different accounts"),
    ],
    ids=str,
)
def test_what_nobody_could_be_is_refused(facts: dict[str, Any], why: str) -> None:
    book = Book()
    book.refuses_entry(book.next(**facts), OLD, REGISTRAR, why=why)
