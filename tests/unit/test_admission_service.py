"""Admission as a service: who gets which Kafka user, when, and what a refusal leaves behind; without a broker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from parley.credentials import seal_credentials
from parley.envelope import DIRECTORY_ENTRY_TYPE, DIRECTORY_REVOCATION_TYPE, countersign, seal
from parley.errors import SigningError
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.schemas import (
    AdmissionRequest,
    DirectoryEntry,
    DirectoryRevocation,
    Envelope,
    PublicKey,
    Role,
    decode,
    encode,
)
from streams.catalogue import Role as UserRole
from streams.provisioning import User
from tests.memory_admission import OURS, Service, entry, signed
from tests.synthetic_ledger import START, signing_key

REGISTRAR, ALICE, NEW = map(signing_key, ("registrar", "alice", "alice's new key"))
PASSWORD = "correct horse battery staple"


@pytest.fixture
def service() -> Service:
    return Service()


def request(
    of: DirectoryEntry,
    *keys: SigningKey,
    password: str = PASSWORD,
    to: PublicKey | None = None,
    credentials_by: Sequence[SigningKey] | None = None,
    credentials_for: DirectoryEntry | None = None,
) -> bytes:
    """An entry with the password of its Kafka user."""
    change = seal(DIRECTORY_ENTRY_TYPE, of, *keys)
    other = change if credentials_for is None else seal(DIRECTORY_ENTRY_TYPE, credentials_for, *keys)
    sealed = seal_credentials(
        password,
        other,
        to or public_key(OURS.public),
        *(keys[:1] if credentials_by is None else credentials_by),
    )
    return encode(AdmissionRequest(encode(change), encode(sealed)))


class TestANewcomer:
    def test_gets_its_user_before_its_record_is_written(self, service: Service) -> None:
        service.take(request(entry("alice", ALICE), ALICE, REGISTRAR))
        assert service.enrolled == [[User("alice", UserRole.PARTICIPANT, PASSWORD, ("alice",))]]
        assert "alice" in service.directory

    def test_gets_it_again_if_admission_dies_in_between_and_stands_in_the_directory_once(
        self, service: Service
    ) -> None:
        asked = request(entry("alice", ALICE), ALICE, REGISTRAR)
        service.take(asked, commit=False)
        assert "alice" not in service.directory
        service.take(asked)
        first, second = service.enrolled
        assert first == second
        assert service.directory.version == 2

    def test_that_brings_no_password_gets_only_permissions_and_inboxes(self, service: Service) -> None:
        service.take(signed(entry("alice", ALICE, "BANK", "alice", "alice.desk"), ALICE, REGISTRAR))
        assert service.enrolled == [[User("alice", UserRole.PARTICIPANT, None, ("alice", "alice.desk"))]]

    @pytest.mark.parametrize(
        ("role", "user_role"),
        [
            ("BANK", UserRole.PARTICIPANT),
            ("CSD", UserRole.PARTICIPANT),
            ("REGULATOR", UserRole.REGULATOR),
            ("AUDITOR", UserRole.AUDITOR),
        ],
    )
    def test_may_do_what_its_attested_role_says(
        self, service: Service, role: Role, user_role: UserRole
    ) -> None:
        service.take(request(entry("alice", ALICE, role), ALICE, REGISTRAR))
        assert service.enrolled[0][0].role is user_role

    def test_that_is_refused_gets_nothing_and_is_told_why(self, service: Service) -> None:
        told = service.refusal(request(entry("alice", ALICE), ALICE))
        assert "the registrar attests it: have it countersigned" in told.detail
        assert (told.at, told.directory_version) == (START, 1)
        assert service.enrolled == []

    @pytest.mark.parametrize("name", ["router", "admission", "operator", "monitor", "admin"])
    def test_cannot_take_the_name_of_a_user_of_the_backbone(self, service: Service, name: str) -> None:
        told = service.refusal(signed(entry(name, ALICE), ALICE, REGISTRAR))
        assert "is the name of a user of the backbone's" in told.detail

    def test_that_is_the_operators_brings_no_password(self, service: Service) -> None:
        told = service.refusal(request(entry("operator", ALICE, "OPERATOR"), ALICE, REGISTRAR))
        assert "leave the credentials out" in told.detail
        service.take(signed(entry("operator", ALICE, "OPERATOR"), ALICE, REGISTRAR))
        assert service.enrolled == []


class TestAPassword:
    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"credentials_for": entry("bob", ALICE)}, "came with another entry"),
            ({"to": public_key(EncryptionKey(bytes(range(32))).public)}, "seal them to admission's"),
            ({"credentials_by": (NEW,)}, "is not one of the entry's"),
            ({"credentials_by": ()}, "need 1 of the entry's keys"),
        ],
        ids=lambda wrong: wrong if isinstance(wrong, str) else ",".join(wrong),
    )
    def test_that_is_not_the_entrys_own_is_refused(
        self, service: Service, wrong: dict[str, object], why: str
    ) -> None:
        told = service.refusal(request(entry("alice", ALICE), ALICE, REGISTRAR, **wrong))  # type: ignore[arg-type]
        assert why in told.detail

    def test_that_was_changed_on_its_way_is_refused(self, service: Service) -> None:
        asked = decode(request(entry("alice", ALICE), ALICE, REGISTRAR), AdmissionRequest)
        assert asked.credentials is not None
        sealed = decode(asked.credentials, Envelope)
        payload = bytearray(sealed.payload)
        payload[-1] ^= 1
        forged = countersign(Envelope(sealed.payload_type, bytes(payload), ()), ALICE)
        told = service.refusal(encode(asked._replace(credentials=encode(forged))))
        assert "was changed on its way" in told.detail

    @pytest.mark.parametrize("weak", ["", "short", "pässword of enough length", "line\nbreak line\nbreak"])
    def test_that_is_too_weak_is_not_even_sealed(self, weak: str) -> None:
        with pytest.raises(SigningError, match="16 to 256 printable"):
            request(entry("alice", ALICE), ALICE, REGISTRAR, password=weak)

    def test_stands_in_no_refusal(self, service: Service) -> None:
        assert PASSWORD not in service.refusal(request(entry("alice", ALICE), ALICE)).detail


class TestALaterChange:
    @pytest.fixture
    def joined(self, service: Service) -> Service:
        service.take(request(entry("alice", ALICE), ALICE, REGISTRAR))
        service.enrolled.clear()
        return service

    def test_an_added_address_gets_its_inbox(self, joined: Service) -> None:
        more = entry("alice", ALICE, "BANK", "alice", "alice.desk")._replace(previous=2)
        joined.take(signed(more, ALICE, REGISTRAR))
        assert joined.enrolled[0][0].addresses == ("alice", "alice.desk")

    def test_a_rotation_keeps_the_user_as_it_is(self, joined: Service) -> None:
        joined.take(signed(entry("alice", NEW)._replace(previous=2), ALICE, NEW))
        assert joined.enrolled[0][0].password is None

    def test_a_revocation_touches_nothing_at_kafka(self, joined: Service) -> None:
        revocation = DirectoryRevocation("alice", ALICE.id, "COMPROMISED", 2)
        joined.take(encode(seal(DIRECTORY_REVOCATION_TYPE, revocation, ALICE)))
        assert joined.enrolled == []
        assert joined.directory.speaker(ALICE.id) is None

    def test_the_same_participants_changes_in_one_batch_are_made_at_once(self, joined: Service) -> None:
        more = entry("alice", ALICE, "BANK", "alice", "alice.desk")._replace(previous=2)
        fewer = entry("alice", ALICE, "BANK", "alice")._replace(previous=3)
        joined.take(signed(more, ALICE, REGISTRAR), signed(fewer, ALICE))
        assert joined.enrolled == [[User("alice", UserRole.PARTICIPANT, None, ("alice", "alice.desk"))]]


def test_a_revocation_brings_no_password(service: Service) -> None:
    service.take(signed(entry("alice", ALICE), ALICE, REGISTRAR))
    revocation = seal(
        DIRECTORY_REVOCATION_TYPE, DirectoryRevocation("alice", ALICE.id, "COMPROMISED", 2), ALICE
    )
    sealed = seal_credentials(PASSWORD, revocation, public_key(OURS.public), ALICE)
    told = service.refusal(encode(AdmissionRequest(encode(revocation), encode(sealed))))
    assert "expected a DirectoryEntry" in told.detail
