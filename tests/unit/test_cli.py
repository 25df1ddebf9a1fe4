"""The command line without a backbone: keys, profiles, proofs, audits, and how errors are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nacl.public import PublicKey, SealedBox

from parley.cli import main
from parley.cli.output import moment, printable
from parley.identifiers import transaction_text
from parley.keys import EncryptionKey
from parley.keystore import Cost, Keystore
from parley.lookup import Lookup
from parley.private_files import write_new
from parley.proof import make_proof
from parley.schemas import AdmissionRequest, Envelope, decode
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


class TestKeys:
    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
        capsys.readouterr()
        code = main([*arguments, "--json"])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return [json.loads(line) for line in shown.out.splitlines()]

    def test_they_are_listed_with_those_kept_for_reading(
        self, keys: Path, profile: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store = Keystore.open(keys, PASSWORD)
        for number in (1, 2):
            store.add(f"encryption-{number}", EncryptionKey.generate())
        store.save()
        listed = self.run(capsys, "keys", "list")
        assert [(row["name"], row["kind"], row["active"]) for row in listed] == [
            ("signing-1", "signing", True),
            ("encryption-1", "encryption", False),
            ("encryption-2", "encryption", True),
        ]
        assert main(["keys", "list"]) == 0
        shown = capsys.readouterr().out
        assert shown.count("kept for reading") == 1
        assert store.encryption_key().private.hex() not in shown

    def test_a_new_device_restored_from_a_backup_reads_everything(
        self, keys: Path, profile: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store = Keystore.open(keys, PASSWORD)
        old, new = EncryptionKey.generate(), EncryptionKey.generate()
        store.add("encryption-1", old)
        store.add("encryption-2", new)
        store.save()
        Path("backup.password").write_text("of the backup\n")
        own = ("--backup-password-file", "backup.password")
        (told,) = self.run(capsys, "keys", "backup", "alpha.backup", *own)
        assert (told["signing_keys"], told["encryption_keys"]) == (1, 2)
        keys.unlink()
        Path("new.password").write_text("of the new device\n")
        self.run(capsys, "keys", "restore", "alpha.backup", *own, "--password-file", "new.password")
        restored = Keystore.open(Path("alpha.keys"), "of the new device")
        for key in (old, new):
            box = SealedBox(PublicKey(key.public)).encrypt(b"from the past")
            assert restored.unseal(key.id, box) == b"from the past"

    def test_a_backup_does_not_open_with_another_password(
        self, keys: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        restore = ["keys", "restore", "alpha.keys", "--keystore", "new.keys", "--password-file", "password"]
        Path("wrong.password").write_text("another\n")
        assert main([*restore, "--backup-password-file", "wrong.password"]) == 1
        assert "wrong password" in capsys.readouterr().err
        assert not Path("new.keys").exists()

    def test_a_restored_keystore_never_replaces_one(
        self, keys: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = keys.read_bytes()
        restore = ["keys", "restore", "alpha.keys", "--password-file", "password"]
        assert main([*restore, "--backup-password-file", "password"]) == 1
        assert "exists already" in capsys.readouterr().err
        assert keys.read_bytes() == before


class TestHardware:
    NOWHERE = "pkcs11:token=parley;object=signing-1?module-path=nowhere.so&pin-source=file:pin"

    def test_a_module_that_is_not_there_is_told_and_leaves_no_keystore(
        self, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        keygen = ["keygen", "alpha", "--password-file", str(password_file), "--hardware"]
        assert main([*keygen, self.NOWHERE]) == 1
        assert "nowhere.so is not there; install it, or mend module-path" in capsys.readouterr().err
        assert not Path("alpha.keys").exists()

    def test_a_uri_that_cannot_be_read_is_told_before_anything_is_made(
        self, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        keygen = ["keygen", "alpha", "--password-file", str(password_file), "--hardware"]
        assert main([*keygen, "pkcs11:token=a?pin-value=1234"]) == 1
        shown = capsys.readouterr().err
        assert "pin-value would show the PIN" in shown
        assert "1234" not in shown
        assert not Path("alpha.keys").exists()

    def test_a_profile_may_name_a_file_with_the_seed(
        self, profile: Path, elsewhere: Path, keys: Path
    ) -> None:
        write_new(elsewhere / "other.seed", signing_key("other").seed)
        profile.write_text(profile.read_text() + 'signing_key = "other.seed"\n')
        join = ["join", "--legal-name", "Alpha Bank AG", "--country", "de", "--output", "alpha.request"]
        assert main(join) == 0
        request = decode(Path("alpha.request").read_bytes(), AdmissionRequest)
        envelope = decode(request.change, Envelope)
        assert [each.key_id for each in envelope.signatures] == [signing_key("other").id]


class TestJoin:
    def test_a_keystore_of_somebody_else_does_not_join(
        self, profile: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_keystore(Path("alpha.keys"), "beta")
        join = ["join", "--legal-name", "Alpha Bank AG", "--country", "de", "--output", "alpha.request"]
        assert main(join) == 1
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
        ["send", "x", "--deal", "a", "--channel", "b"],
        ["send", "x", "--deal", "a", "--private"],
        ["send", "x", "--deal", "a", "--padded"],
        ["send", "x", "--channel", "a", "--reader", "b"],
        ["channel", "create", "desk"],
        ["disclose", "a"],
        ["disclose", "a", "--to", "b", "--message", "1", "--epoch"],
    ],
)
def test_a_wrong_command_line_ends_with_2(
    arguments: list[str], keys: Path, profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["verify", "--help"], ["channel", "--help"], ["tx", "--help"], ["tx", "show", "--help"]],
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
