"""The command line without a backbone: keys, profiles, proofs, audits, and how errors are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from parley.cli import main
from parley.cli.output import moment, printable
from parley.identifiers import transaction_text
from parley.keystore import Cost, Keystore
from parley.lookup import Lookup
from parley.proof import make_proof
from parley.schemas import DirectoryEntry, Envelope, decode
from tests.fix_ledger import LOG, SealedLedger
from tests.synthetic_ledger import signing_key

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARLEY_PROFILE", raising=False)
    monkeypatch.delenv("PARLEY_PASSWORD_FILE", raising=False)
    return tmp_path


@pytest.fixture
def password_file(elsewhere: Path) -> Path:
    path = elsewhere / "password"
    path.write_text(PASSWORD + "\n")
    return path


@pytest.fixture
def profile(elsewhere: Path, password_file: Path) -> Path:
    path = elsewhere / "parley.toml"
    path.write_text(
        f'participant = "alpha"\nbootstrap = "127.0.0.1:1"\nregistrar = "{signing_key("registrar").public.hex()}"\n'
        'keystore = "alpha.keys"\nkeystore_password_file = "password"\npassword_file = "password"\n'
    )
    return path


def make_keystore(path: Path, participant: str) -> Path:
    """A keystore with a cheap password, which `parley keygen` would not make."""
    store = Keystore.create(path, participant, PASSWORD, cost=Cost(1, 8192))
    store.add("signing-1", signing_key(participant))
    store.save()
    return path


@pytest.fixture
def keys(password_file: Path) -> Path:
    return make_keystore(Path("alpha.keys"), "alpha")


@pytest.fixture(scope="module")
def proof(busy: SealedLedger) -> bytes:
    lookup = Lookup(busy.store())
    identity = lookup.store.block(2).transactions[0].record.transaction_id
    return make_proof(lookup, lookup.transaction(identity))


@pytest.fixture
def log_key(elsewhere: Path) -> Path:
    path = elsewhere / "log.vkey"
    path.write_text(f"{LOG.verifier_key}\n")
    return path


class TestKeygen:
    def test_it_makes_a_keystore_with_a_key_of_each_kind(
        self, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["keygen", "alpha", "--password-file", str(password_file), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        store = Keystore.open(Path("alpha.keys"), PASSWORD)
        assert store.participant == "alpha"
        assert store.signing_key().public.hex() == told["signing_key"]
        assert store.encryption_key().public.hex() == told["encryption_key"]

    def test_it_never_replaces_a_keystore(
        self, keys: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = keys.read_bytes()
        assert main(["keygen", "alpha", "--password-file", str(password_file)]) == 1
        assert "exists" in capsys.readouterr().err
        assert keys.read_bytes() == before

    def test_it_shows_no_secret(self, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shown = capsys.readouterr()
        secret = Keystore.open(keys, PASSWORD).signing_key().seed.hex()
        assert secret not in shown.out + shown.err
        assert PASSWORD not in shown.out + shown.err

    def test_the_password_is_asked_for_twice_without_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = iter([PASSWORD, PASSWORD])
        monkeypatch.setattr("getpass.getpass", lambda *_, **__: next(answers))
        assert main(["keygen", "beta"]) == 0
        assert next(answers, None) is None
        assert Keystore.open(Path("beta.keys"), PASSWORD).participant == "beta"


class TestJoinAndAdmit:
    JOIN = ("join", "--legal-name", "Alpha Bank AG", "--country", "de", "--lei", "529900T8BM49AURSDO55")

    def test_an_entry_goes_to_a_file_and_the_registrar_countersigns_it(
        self, keys: Path, profile: Path, password_file: Path, elsewhere: Path
    ) -> None:
        assert main([*self.JOIN, "--output", "alpha.entry"]) == 0
        envelope = decode(Path("alpha.entry").read_bytes(), Envelope)
        entry = decode(envelope.payload, DirectoryEntry)
        assert (entry.legal_name, entry.country, entry.addresses) == ("Alpha Bank AG", "DE", ("alpha",))
        make_keystore(elsewhere / "registrar.keys", "registrar")
        text = profile.read_text().replace('"alpha"', '"registrar"').replace("alpha.keys", "registrar.keys")
        (elsewhere / "registrar.toml").write_text(text)
        admit = ["admit", "alpha.entry", "--profile", "registrar.toml", "--output", "alpha.admitted", "--yes"]
        assert main(admit) == 0
        admitted = decode(Path("alpha.admitted").read_bytes(), Envelope)
        assert admitted.payload == envelope.payload
        assert [each.key_id for each in admitted.signatures][1:] == [signing_key("registrar").id]

    def test_only_the_registrars_key_admits(
        self, keys: Path, profile: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*self.JOIN, "--output", "alpha.entry"]) == 0
        assert main(["admit", "alpha.entry", "--yes", "--output", "x"]) == 1
        assert "not the registrar's" in capsys.readouterr().err
        assert not Path("x").exists()

    def test_a_keystore_of_somebody_else_does_not_join(
        self, profile: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_keystore(Path("alpha.keys"), "beta")
        assert main([*self.JOIN, "--output", "alpha.entry"]) == 1
        assert "make them agree" in capsys.readouterr().err


class TestVerify:
    def test_a_good_proof_tells_who_said_what(
        self, proof: bytes, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("good.proof").write_bytes(proof)
        assert main(["verify", "good.proof", "--log-key", str(log_key)]) == 0
        told = capsys.readouterr().out
        for part in ("Bank-1 plc", "Delivered", "Registrar plc", "finished", "ledger.example/log"):
            assert part in told

    def test_the_same_as_json(self, proof: bytes, log_key: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Path("good.proof").write_bytes(proof)
        assert main(["verify", "good.proof", "--log-key", str(log_key), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["verified"] is True
        assert told["legal_name"] == "Bank-1 plc"
        assert told["outcome"] == "FINISHED"

    def test_one_changed_byte_is_refused_with_the_reason(
        self, proof: bytes, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        changed = bytearray(proof)
        changed[len(changed) // 2] ^= 1
        Path("bad.proof").write_bytes(changed)
        assert main(["verify", "bad.proof", "--log-key", str(log_key)]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("parley: ")
        assert shown.err.count("\n") == 1

    def test_another_registrar_is_refused(
        self, proof: bytes, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("good.proof").write_bytes(proof)
        stranger = signing_key("stranger").public.hex()
        verify = ["verify", "good.proof", "--log-key", str(log_key), "--registrar"]
        assert main([*verify, stranger]) == 1
        assert main([*verify, signing_key("registrar").public.hex()]) == 0
        assert main([*verify, "abc"]) == 1

    @pytest.mark.parametrize("name", ["missing.proof", "."])
    def test_a_file_that_cannot_be_read_is_told(
        self, name: str, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["verify", name, "--log-key", str(log_key)]) == 1
        assert "cannot be read" in capsys.readouterr().err

    def test_it_loads_neither_the_driver_nor_what_only_looks_nice(self) -> None:
        code = (
            "import sys; from parley.cli import main; main(['verify', 'x', '--log-key', 'y']);"
            "print([name for name in ('confluent_kafka', 'rich', 'asyncio') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class TestAudit:
    def arguments(self, busy: SealedLedger, log_key: Path) -> list[str]:
        registrar = signing_key("registrar").public.hex()
        return ["audit", str(busy.folder), "--log-key", str(log_key), "--registrar", registrar]

    def test_a_good_store_is_good(
        self, busy: SealedLedger, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*self.arguments(busy, log_key), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["good"] is True
        assert told["blocks"] == 7
        assert told["violations"] == []

    def test_a_wrong_registrar_is_a_violation(
        self, busy: SealedLedger, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = self.arguments(busy, log_key)
        arguments[-1] = signing_key("stranger").public.hex()
        assert main(arguments) == 1
        assert "directory" in capsys.readouterr().err

    def test_a_folder_that_is_no_store_is_told(
        self, elsewhere: Path, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        registrar = signing_key("registrar").public.hex()
        assert main(["audit", str(elsewhere), "--log-key", str(log_key), "--registrar", registrar]) == 1
        assert "checkpoint" in capsys.readouterr().err


class TestTransactions:
    @pytest.fixture
    def identity(self, busy: SealedLedger) -> str:
        return transaction_text(busy.store().block(2).transactions[0].record.transaction_id)

    def test_a_transaction_is_told_line_by_line(
        self, busy: SealedLedger, log_key: Path, identity: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store = ["--store", str(busy.folder), "--log-key", str(log_key)]
        assert main(["tx", "show", identity, *store]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [
            word in line for word, line in zip(("opens", "says", "says", "finishes"), lines, strict=False)
        ]
        assert lines[-1] == "It stands in block 2."

    def test_its_proof_is_written_and_verifies(
        self, busy: SealedLedger, log_key: Path, identity: str
    ) -> None:
        store = ["--store", str(busy.folder), "--log-key", str(log_key)]
        assert main(["tx", "prove", identity, *store, "--message", "1"]) == 0
        assert main(["verify", f"{identity}.proof", "--log-key", str(log_key)]) == 0

    def test_one_that_is_not_there_is_told(
        self, busy: SealedLedger, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        missing = "01932c07-8f10-7abc-9def-0123456789ab"
        assert main(["tx", "show", missing, "--store", str(busy.folder), "--log-key", str(log_key)]) == 1
        assert "in none of the 7 blocks" in capsys.readouterr().err

    def test_what_is_no_id_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["tx", "show", "x"]) == 1
        assert "UUIDv7" in capsys.readouterr().err


class TestProfiles:
    @pytest.fixture
    def complaint(
        self, profile: Path, keys: Path, capsys: pytest.CaptureFixture[str]
    ) -> Callable[[str, str], str]:
        def change(old: str, new: str) -> str:
            text = profile.read_text()
            assert old in text
            profile.write_text(text.replace(old, new))
            capsys.readouterr()
            assert main(["send", "x", "--to", "beta"]) == 1
            return capsys.readouterr().err

        return change

    def test_an_unknown_key_is_refused(self, complaint: Callable[[str, str], str]) -> None:
        assert "unknown key 'keyring'" in complaint("keystore =", "keyring =")

    def test_a_missing_key_is_named(self, complaint: Callable[[str, str], str]) -> None:
        assert "'bootstrap' is missing" in complaint('bootstrap = "127.0.0.1:1"\n', "")

    def test_a_wrong_registrar_is_told(self, complaint: Callable[[str, str], str]) -> None:
        assert "64 hexadecimal" in complaint(signing_key("registrar").public.hex(), "abc")

    def test_what_is_not_toml_is_told(self, complaint: Callable[[str, str], str]) -> None:
        assert "cannot be read" in complaint("participant =", "participant")

    def test_a_wrong_keystore_password_is_told(
        self, complaint: Callable[[str, str], str], password_file: Path
    ) -> None:
        password_file.write_text("wrong\n")
        assert "wrong password" in complaint("participant", "participant")

    def test_no_profile_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["waiting"]) == 1
        assert "no profile" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["verify"],
        ["verify", "x"],
        ["send", "x"],
        ["send", "x", "--to", "a", "--deal", "b"],
        ["send", "--to", "a"],
        ["send", "x", "--to", "a", "--finish"],
        ["send", "x", "--to", "a", "--deadline", "soon"],
    ],
)
def test_a_wrong_command_line_ends_with_2(
    arguments: list[str], keys: Path, profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["verify", "--help"], ["tx", "--help"], ["tx", "show", "--help"]]
)
def test_help_is_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "Usage" in capsys.readouterr().out


def test_what_a_stranger_wrote_moves_no_cursor() -> None:
    assert printable("a\x1b[2Jb\nc\u202e") == "a�[2Jb�c�"
    assert printable("x" * 300) == "x" * 199 + "…"


def test_a_moment_out_of_range_is_still_told() -> None:
    assert moment(1_800_000_000_123) == "2027-01-15 08:00:00.123 UTC"
    assert moment(2**62).endswith(" ms")
