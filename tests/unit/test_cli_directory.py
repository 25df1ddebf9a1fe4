"""The directory's commands against the real admission, without a broker: join, attest, rotate, revoke, addresses, who."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from parley.cli import desk, main
from parley.directory import Directory
from parley.kafka import TopicRecord
from parley.keystore import Cost, Keystore
from parley.private_files import write_new
from parley.schemas import AdmissionRequest, decode
from router import sealing_keys
from streams.provisioning import User
from tests.memory_admission import OURS, Service, entry, signed
from tests.synthetic_ledger import signing_key

PASSWORD = "correct horse"
REGISTRAR, NEWER = signing_key("registrar"), signing_key("alpha's newer key")
FACTS = ("--legal-name", "Alpha Bank AG", "--country", "de", "--lei", "529900T8BM49AURSDO55")


class Terminals:
    """Several people's folders on one backbone, which is no more than its admission."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.service = Service()
        self._capsys = capsys
        (folder / "password").write_text(PASSWORD + "\n")
        self.person("registrar", "registrar")

    @property
    def directory(self) -> Directory:
        return self.service.directory

    def person(self, name: str, *keys: str) -> Path:
        """A profile, and a keystore with the keys of these names."""
        store = Keystore.create(self.folder / f"{name}.keys", name, PASSWORD, cost=Cost(1, 8192))
        for number, key in enumerate(keys, 1):
            store.add(f"signing-{number}", signing_key(key))
        store.save()
        profile = self.folder / f"{name}.toml"
        profile.write_text(
            f'participant = "{name}"\nbootstrap = "127.0.0.1:1"\nregistrar = "{REGISTRAR.public.hex()}"\n'
            f'admission = "{OURS.public.hex()}"\nkeystore = "{name}.keys"\nkeystore_password_file = "password"\n'
            f'password_file = "{name}.kafka"\n'
        )
        return profile

    def run(self, who: str, *arguments: str) -> dict[str, object]:
        self._capsys.readouterr()
        code = main([*arguments, "--profile", f"{who}.toml", "--json"])
        shown = self._capsys.readouterr()
        assert code == 0, shown.err
        told: dict[str, object] = json.loads(shown.out)
        return told

    def fail(self, who: str, *arguments: str) -> str:
        self._capsys.readouterr()
        assert main([*arguments, "--profile", f"{who}.toml"]) == 1
        return self._capsys.readouterr().err

    def join(self, name: str, *more: str) -> dict[str, object]:
        """From an entry to its admission."""
        self.run(name, "join", *FACTS, *more, "--output", f"{name}.request")
        return self.run("registrar", "registrar", "admit", f"{name}.request", "--yes")

    def keystore(self, name: str) -> Keystore:
        return Keystore.open(self.folder / f"{name}.keys", PASSWORD)


@pytest.fixture
def terminals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminals:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARLEY_PROFILE", raising=False)
    monkeypatch.delenv("PARLEY_PASSWORD_FILE", raising=False)
    made = Terminals(tmp_path, capsys)
    (tmp_path / "registrar.kafka").write_text("a password of the registrar\n")

    class Reader:
        """A topic in memory."""

        def __init__(self, _access: object, topic: str) -> None:
            self._topic, self._read = topic, 0

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def poll(self, _timeout: float) -> list[TopicRecord]:
            records = made.service.topics.records(self._topic, 0)[self._read :]
            self._read += len(records)
            return [TopicRecord(0, record.at_offset, record.with_value or b"") for record in records]

        def read_to_end(self) -> Iterator[TopicRecord]:
            yield from self.poll(0)

    monkeypatch.setattr(desk, "TopicReader", Reader)
    monkeypatch.setattr(desk, "submit_admission", lambda _access, _name, data: made.service.hand_in(data))
    return made


class TestJoining:
    def test_a_newcomer_makes_a_request_and_the_registrar_admits_it_with_its_kafka_user(
        self, terminals: Terminals
    ) -> None:
        terminals.person("alpha", "alpha")
        told = terminals.join("alpha")
        assert (told["legal_name"], told["directory_version"]) == ("Alpha Bank AG", 2)
        password = (terminals.folder / "alpha.kafka").read_text().strip()
        ((user,),) = terminals.service.enrolled
        assert user == User("alpha", user.role, password, ("alpha",))

    def test_the_password_can_be_read_by_nobody_on_its_way(self, terminals: Terminals) -> None:
        terminals.person("alpha", "alpha")
        terminals.run("alpha", "join", *FACTS, "--output", "alpha.request")
        path = terminals.folder / "alpha.kafka"
        assert path.stat().st_mode & 0o077 == 0
        assert path.read_bytes().strip() not in (terminals.folder / "alpha.request").read_bytes()

    def test_the_registrar_may_attest_offline_and_the_participant_hand_it_in(
        self, terminals: Terminals
    ) -> None:
        terminals.person("alpha", "alpha")
        terminals.run("alpha", "join", *FACTS, "--output", "alpha.request")
        terminals.run(
            "registrar", "registrar", "admit", "alpha.request", "--yes", "--output", "alpha.attested"
        )
        told = terminals.run("alpha", "join", "--request", "alpha.attested")
        assert told["directory_version"] == 2

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            (("--lei", "529900T8BM49AURSDO56"), "is no LEI"),
            (("--bic", "BANKDE"), "is no BIC"),
            (("--country", "QQ"), "is no country"),
            (("--threshold", "2"), "the threshold is at least 1 and at most"),
        ],
    )
    def test_the_registrar_is_not_even_asked_about_what_cannot_be(
        self, terminals: Terminals, wrong: tuple[str, str], why: str
    ) -> None:
        terminals.person("alpha", "alpha")
        terminals.run("alpha", "join", *FACTS, *wrong, "--output", "alpha.request")
        assert why in terminals.fail("registrar", "registrar", "admit", "alpha.request")

    def test_a_name_that_is_taken_is_told_to_the_registrar(self, terminals: Terminals) -> None:
        terminals.person("alpha", "alpha")
        terminals.join("alpha")
        terminals.run("alpha", "join", *FACTS, "--output", "again.request")
        assert "alpha is admitted already" in terminals.fail(
            "registrar", "registrar", "admit", "again.request", "--yes"
        )

    def test_only_the_registrars_keys_attest(self, terminals: Terminals) -> None:
        terminals.person("alpha", "alpha")
        terminals.run("alpha", "join", *FACTS, "--output", "alpha.request")
        complaint = terminals.fail("alpha", "registrar", "admit", "alpha.request", "--yes")
        assert "is a valid one of the registrar's" in complaint

    def test_what_admission_refuses_is_told_to_whoever_waits(self, terminals: Terminals) -> None:
        """Such as a name that only admission knows to be taken."""
        terminals.person("router", "router")
        terminals.run("router", "join", *FACTS, "--output", "router.request")
        complaint = terminals.fail("registrar", "registrar", "admit", "router.request", "--yes")
        assert "refused: router is the name of a user of the backbone's" in complaint

    def test_who_submits_an_entry_that_nobody_attested_hears_of_it(self, terminals: Terminals) -> None:
        terminals.person("alpha", "alpha")
        complaint = terminals.fail("alpha", "join", *FACTS)
        assert "refused: alpha: no signature by key" in complaint


class TestRotating:
    @pytest.fixture
    def alpha(self, terminals: Terminals) -> Terminals:
        terminals.person("alpha", "alpha")
        terminals.join("alpha")
        return terminals

    def test_the_new_key_speaks_and_the_old_one_stays_in_the_keystore(self, alpha: Terminals) -> None:
        told = alpha.run("alpha", "rotate")
        assert told["directory_version"] == 3
        store = alpha.keystore("alpha")
        assert alpha.directory.speaker(store.signing_key().id) is not None
        assert [key.id for key in store.signing_keys()][1:] == [signing_key("alpha").id]
        assert alpha.directory.encryption_keys("alpha")[0].key_id == store.encryption_key().id
        assert not (alpha.folder / "alpha.keys.next").exists()

    def test_a_run_that_was_cut_short_is_finished_by_the_next(
        self, alpha: Terminals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed when the new key stood in the directory, and not yet in the keystore."""
        with monkeypatch.context() as patch:
            patch.setattr("parley.cli.rotating._adopt", lambda *_: None)
            alpha.run("alpha", "rotate")
        assert alpha.keystore("alpha").signing_key().id == signing_key("alpha").id
        alpha.run("alpha", "rotate")
        assert alpha.directory.version == 3
        assert alpha.directory.speaker(alpha.keystore("alpha").signing_key().id) is not None

    def test_to_the_key_committed_to_works_without_the_stolen_one(self, terminals: Terminals) -> None:
        terminals.person("alpha", "alpha")
        terminals.person("apart", "alpha's next key")
        terminals.join("alpha", "--next-key", signing_key("alpha's next key").public.hex())
        assert "has committed to its next key" in terminals.fail("alpha", "rotate")
        terminals.run("alpha", "rotate", "--committed", "apart.keys", "--committed-password-file", "password")
        assert terminals.directory.speaker(signing_key("alpha's next key").id) is not None
        assert terminals.keystore("alpha").signing_key().id == signing_key("alpha's next key").id

    def test_to_a_key_made_elsewhere_takes_that_one_and_a_new_key_to_read_with(
        self, alpha: Terminals
    ) -> None:
        write_new(alpha.folder / "elsewhere.seed", NEWER.seed)
        alpha.run("alpha", "rotate", "--to", "elsewhere.seed")
        assert [key.key_id for key in alpha.directory.signing_keys("alpha")] == [NEWER.id]
        store = alpha.keystore("alpha")
        assert [key.id for key in store.signing_keys()] == [signing_key("alpha").id]
        assert alpha.directory.encryption_keys("alpha")[0].key_id == store.encryption_key().id

    def test_of_a_key_outside_the_keystore_asks_for_a_new_one_made_there(self, alpha: Terminals) -> None:
        write_new(alpha.folder / "elsewhere.seed", NEWER.seed)
        alpha.run("alpha", "rotate", "--to", "elsewhere.seed")
        profile = alpha.folder / "alpha.toml"
        profile.write_text(profile.read_text() + 'signing_key = "elsewhere.seed"\n')
        assert "make a new one where that is, and name it with --to" in alpha.fail("alpha", "rotate")
        write_new(alpha.folder / "newest.seed", signing_key("newest").seed)
        alpha.run("alpha", "rotate", "--to", "newest.seed")
        assert [key.key_id for key in alpha.directory.signing_keys("alpha")] == [signing_key("newest").id]

    def test_by_two_people_takes_the_signatures_of_both(self, terminals: Terminals) -> None:
        both = entry("pair", signing_key("first"))._replace(
            signing_keys=tuple(
                key for name in ("first", "second") for key in entry("x", signing_key(name)).signing_keys
            ),
            threshold=2,
        )
        terminals.service.take(signed(both, signing_key("first"), signing_key("second"), REGISTRAR))
        first, second = terminals.person("pair", "first"), terminals.folder / "second.toml"
        Keystore.create(terminals.folder / "second.keys", "pair", PASSWORD, cost=Cost(1, 8192))
        store = Keystore.open(terminals.folder / "second.keys", PASSWORD)
        store.add("signing-1", signing_key("second"))
        store.save()
        (terminals.folder / "pair.kafka").write_text("a password of the pair's\n")
        second.write_text(first.read_text().replace("pair.keys", "second.keys"))
        assert f"no signature by key {signing_key('second').id.hex()}" in terminals.fail("pair", "rotate")
        terminals.run("pair", "rotate", "--output", "rotation")
        terminals.run("second", "sign", "rotation", "--output", "rotation.signed")
        terminals.run("pair", "rotate", "--request", "rotation.signed")
        assert terminals.directory.speaker(signing_key("first").id) is None
        assert terminals.directory.speaker(signing_key("second").id) is not None


class TestRevoking:
    @pytest.mark.parametrize("who", ["alpha", "registrar"])
    def test_is_for_the_participant_and_for_the_registrar(self, terminals: Terminals, who: str) -> None:
        terminals.person("alpha", "alpha")
        terminals.join("alpha")
        (terminals.folder / "alpha.kafka").chmod(0o600)
        told = terminals.run(who, "revoke", signing_key("alpha").id.hex()[:10], "--reason", "withdrawn")
        assert (told["revoked_key"], told["reason"]) == (signing_key("alpha").id.hex(), "WITHDRAWN")
        assert terminals.directory.speaker(signing_key("alpha").id) is None

    def test_is_for_nobody_else(self, terminals: Terminals) -> None:
        for name in ("alpha", "beta"):
            terminals.person(name, name)
            terminals.join(name)
        complaint = terminals.fail("beta", "revoke", signing_key("alpha").id.hex())
        assert "no signature by key" in complaint
        assert "no name, address or key" in terminals.fail("beta", "revoke", "00" * 16)


class TestAddresses:
    def test_one_is_added_by_the_registrar_and_dropped_by_oneself(self, terminals: Terminals) -> None:
        terminals.person("alpha", "alpha")
        terminals.join("alpha")
        terminals.run("alpha", "address", "add", "alpha.desk", "--output", "desk.request")
        assert decode((terminals.folder / "desk.request").read_bytes(), AdmissionRequest).credentials is None
        told = terminals.run("registrar", "registrar", "admit", "desk.request", "--yes")
        assert told["directory_version"] == 3
        assert terminals.directory.owner("alpha.desk") == "alpha"
        assert terminals.service.enrolled[-1][0].addresses == ("alpha", "alpha.desk")
        terminals.run("alpha", "address", "drop", "alpha.desk")
        assert terminals.directory.owner("alpha.desk") is None
        assert "is no address of alpha's" in terminals.fail("alpha", "address", "drop", "alpha.desk")

    def test_an_account_is_attested_by_the_registrar_and_dropped_by_ourselves(
        self, terminals: Terminals
    ) -> None:
        account = "eip155:1:0x09378775082Ef3db9244563108762d0E90C037C5"
        terminals.person("alpha", "alpha")
        terminals.join("alpha")
        terminals.run("alpha", "account", "add", account, "--output", "account.request")
        alone = terminals.fail("alpha", "join", "--request", "account.request")
        assert "registrar" in alone
        terminals.run("registrar", "registrar", "admit", "account.request", "--yes")
        assert terminals.run("alpha", "who", "alpha")["accounts"] == [account]
        again = terminals.fail("alpha", "account", "add", account, "--output", "again.request")
        assert "is an account of alpha already" in again
        terminals.run("alpha", "account", "drop", account)
        assert terminals.run("alpha", "who", "alpha")["accounts"] == []
        assert "is no account of alpha's" in terminals.fail("alpha", "account", "drop", account)


class TestSealingKeys:
    """Of a router, in its operator's entry."""

    @pytest.fixture
    def operator(self, terminals: Terminals) -> Terminals:
        profile = terminals.person("operator", "operator")
        lines = profile.read_text().splitlines(keepends=True)
        profile.write_text("".join(line for line in lines if not line.startswith("admission")))
        (terminals.folder / "operator.kafka").write_text("a password of the operator\n")
        terminals.join("operator", "--role", "operator")
        return terminals

    def listed(self, terminals: Terminals) -> list[bytes]:
        return [key.public_key for key in terminals.directory.encryption_keys("operator")]

    def test_one_is_made_listed_and_dropped_after_the_next(
        self, operator: Terminals, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = operator.folder / "sealing"
        keys = []
        for _ in range(2):
            capsys.readouterr()
            assert sealing_keys.main([str(folder)]) == 0
            keys.append(capsys.readouterr().out.strip())
            operator.run("operator", "sealing", "add", keys[-1])
        assert [key.public.hex() for key in sealing_keys.read_keys(folder)] == [keys[1], keys[0]]
        assert self.listed(operator) == [bytes.fromhex(key) for key in keys]
        operator.run("operator", "sealing", "drop", keys[0][:12])
        assert self.listed(operator) == [bytes.fromhex(keys[1])]
        assert "is not one of the 1 keys listed" in operator.fail("operator", "sealing", "drop", keys[0])

    def test_one_can_be_signed_for_by_others_first(self, operator: Terminals) -> None:
        told = operator.run("operator", "sealing", "add", "07" * 32, "--output", "sealing.request")
        assert told["request"] == "sealing.request"
        assert self.listed(operator) == []

    def test_what_is_no_key_is_not_listed(self, operator: Terminals) -> None:
        for key in ("07" * 31, "key"):
            assert main(["sealing", "add", key, "--profile", "operator.toml"]) == 2

    def test_only_an_operator_has_them(self, terminals: Terminals) -> None:
        terminals.person("alpha", "alpha")
        terminals.join("alpha")
        assert "alpha is no operator" in terminals.fail("alpha", "sealing", "add", "07" * 32)

    def test_a_folder_that_cannot_be_written_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("")
        assert sealing_keys.main([str(tmp_path / "file" / "folder")]) == 1
        assert "file" in capsys.readouterr().err


class TestWho:
    def test_says_whose_a_key_was_at_each_version(self, terminals: Terminals) -> None:
        terminals.person("alpha", "alpha")
        terminals.join("alpha")
        terminals.run("alpha", "rotate")
        old = signing_key("alpha").id.hex()
        now, then = (terminals.run("alpha", "who", old, *at) for at in ((), ("--at", "2")))
        assert now["key"] == {
            "key_id": old,
            "signs": True,
            "valid": False,
            "since": 2,
            "until": 3,
            "revoked": None,
        }
        assert isinstance(then["key"], dict)
        assert then["key"]["valid"] is True
        assert (then["legal_name"], then["signing_keys"]) == (
            "Alpha Bank AG",
            [signing_key("alpha").public.hex()],
        )
        assert "was not in the directory at version 1" in terminals.fail("alpha", "who", "alpha", "--at", "1")
        assert "the versions 1 to 3" in terminals.fail("alpha", "who", "alpha", "--at", "4")

    def test_tells_people_the_history(self, terminals: Terminals, capsys: pytest.CaptureFixture[str]) -> None:
        terminals.person("alpha", "alpha")
        terminals.join("alpha")
        terminals.run("alpha", "revoke", signing_key("alpha").public.hex()[:12])
        assert main(["who", signing_key("alpha").id.hex(), "--profile", "alpha.toml"]) == 0
        told = capsys.readouterr().out
        assert "not valid at version 3; since version 2, revoked at directory version 3" in told
        assert "version 3  " in told
        assert "revoked (compromised)" in told


def test_a_file_that_is_no_request_is_told(terminals: Terminals) -> None:
    (terminals.folder / "junk").write_bytes(b"junk")
    assert "not an Avro single-object encoding" in terminals.fail(
        "registrar", "registrar", "admit", "junk", "--yes"
    )
    (terminals.folder / "letter").write_bytes(signed(entry("x", NEWER))[:-1])
    assert "ends early" in terminals.fail("registrar", "registrar", "admit", "letter", "--yes")
