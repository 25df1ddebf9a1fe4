"""Signing keys in a real token (SoftHSM 2): what they sign verifies everywhere, and what goes wrong with a token is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pkcs11
import pytest
from nacl.signing import VerifyKey
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

import parley
from deploy.backbone import Backbone
from deploy.folder import StackFolder
from parley import hardware
from parley.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from parley.cli import main
from parley.custody import Signatory, load_signatory
from parley.envelope import DIRECTORY_ENTRY_TYPE, verify_signatures
from parley.errors import HardwareError, KeystoreError, NoModuleError, NoTokenError, NoTokenKeyError, PinError
from parley.hardware import HardwareKey, list_keys
from parley.keys import public_key, verify
from parley.keystore import Keystore
from parley.merkle import EMPTY_ROOT
from parley.note import NoteSigner
from parley.receipts import verify_receipt
from parley.schemas import AdmissionRequest, DirectoryEntry, Envelope, Receipt, decode
from streams.connection import KafkaConnection
from tests.dialogue import Dialogue, sealed
from tests.fix_softhsm import PIN, SoftToken, TokenMaker, pull_out
from tests.memory_router import ROUTER_KEY, MemoryRouter
from tests.synthetic_ledger import START, Ledger, signing_key

EDWARDS25519 = b"\x13\x0cedwards25519"


@pytest.fixture
def key(token: SoftToken) -> HardwareKey:
    return HardwareKey.generate(token.key("signing-1"))


def make_key_elsewhere(token: SoftToken, label: str, identity: bytes, **attributes: bool) -> None:
    """A key as another program may make it, with other attributes than ours."""
    template = {getattr(Attribute, name): value for name, value in attributes.items()}
    session = hardware._module(token.module).session(token.key())
    with session.token.open(rw=True) as writing:
        writing.create_domain_parameters(
            KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: EDWARDS25519}, local=True
        ).generate_keypair(
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            store=True,
            id=identity,
            label=label,
            private_template=template,
        )


def in_new_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


class TestAKeyInAToken:
    def test_signs_what_libsodium_verifies(self, key: HardwareKey) -> None:
        for message in (b"", b"I have 1,000 EUR to pay for 10 DE0001102580", os.urandom(1 << 20)):
            signature = key.sign(message)
            assert VerifyKey(key.public).verify(message, signature) == message
            assert verify(key.public, message, signature)
        assert key.id == public_key(key.public).key_id

    def test_is_deterministic_as_rfc_8032_asks(self, key: HardwareKey) -> None:
        assert key.sign(b"the same") == key.sign(b"the same")

    def test_never_leaves_it(self, key: HardwareKey) -> None:
        private = key._private
        assert private[Attribute.SENSITIVE]
        assert private[Attribute.ALWAYS_SENSITIVE]
        assert private[Attribute.NEVER_EXTRACTABLE]
        assert private[Attribute.LOCAL]
        with pytest.raises(pkcs11.AttributeSensitive):
            private[Attribute.VALUE]

    def test_is_found_again_by_label_and_by_id(self, token: SoftToken, key: HardwareKey) -> None:
        (listed,) = list_keys(token.key())
        assert (listed.label, listed.public, listed.id) == ("signing-1", key.public, key.id)
        by_id = token.key()._replace(id=listed.token_id)
        assert HardwareKey.open(token.key("signing-1")).public == key.public
        assert HardwareKey.open(by_id).public == key.public

    def test_shows_no_secret(self, key: HardwareKey) -> None:
        assert PIN not in f"{key!r} {key.reference!r}"

    def test_stands_wherever_a_key_signs(self, key: HardwareKey) -> None:
        signatory: Signatory = key
        signer = NoteSigner("ledger.example/log", signatory)
        checkpoint = Checkpoint("ledger.example/log", 0, EMPTY_ROOT)
        assert open_checkpoint(sign_checkpoint(checkpoint, signer), signer.verifier_key) == checkpoint

    def test_is_not_made_twice_under_one_name(self, token: SoftToken, key: HardwareKey) -> None:
        with pytest.raises(NoTokenKeyError, match="is there already"):
            HardwareKey.generate(token.key("signing-1"))
        (listed,) = list_keys(token.key())
        with pytest.raises(NoTokenKeyError, match="is there already"):
            HardwareKey.generate(token.key("signing-2")._replace(id=listed.token_id))
        assert len(list_keys(token.key())) == 1

    def test_that_may_be_read_out_is_refused(self, token: SoftToken) -> None:
        make_key_elsewhere(token, "loose", b"\x01", SENSITIVE=False, EXTRACTABLE=True)
        with pytest.raises(NoTokenKeyError, match="may be read out of the token"):
            HardwareKey.open(token.key("loose"))

    def test_beside_another_keys_public_half_is_refused(self, token: SoftToken, key: HardwareKey) -> None:
        make_key_elsewhere(token, "other", b"\x02", SENSITIVE=True, EXTRACTABLE=False)
        session = hardware._module(token.module).session(token.key())
        with session.token.open(rw=True) as writing:
            wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY}
            mine, other = (
                next(iter(list(writing.get_objects({**wanted, Attribute.LABEL: label}))))
                for label in ("signing-1", "other")
            )
            identity = mine[Attribute.ID]
            mine[Attribute.ID] = b"\x03"
            other[Attribute.ID] = identity
        with pytest.raises(NoTokenKeyError, match="does not verify under the public key beside it"):
            HardwareKey.open(token.key("signing-1"))

    def test_without_its_public_half_is_refused(self, token: SoftToken, key: HardwareKey) -> None:
        session = hardware._module(token.module).session(token.key())
        with session.token.open(rw=True) as writing:
            (public,) = list(writing.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY}))
            public.destroy()
        with pytest.raises(NoTokenKeyError, match="shows no public key"):
            HardwareKey.open(token.key("signing-1"))
        assert list_keys(token.key()) == ()

    def test_of_another_curve_is_refused(self, token: SoftToken) -> None:
        session = hardware._module(token.module).session(token.key())
        with session.token.open(rw=True) as writing:
            writing.generate_keypair(KeyType.RSA, 1024, store=True, label="rsa")
        with pytest.raises(NoTokenKeyError, match="is no Edwards curve key"):
            HardwareKey.open(token.key("rsa"))


class TestUse:
    def test_two_keys_of_two_tokens_sign_side_by_side(self, make_token: TokenMaker) -> None:
        first = make_token("first").key("signing-1")
        second = make_token("second").key("signing-1")
        keys = [HardwareKey.generate(first), HardwareKey.generate(second), HardwareKey.open(first)]
        assert keys[0].public == keys[2].public != keys[1].public
        for key in (*keys, *reversed(keys)):
            assert verify(key.public, b"each its own", key.sign(b"each its own"))

    def test_two_processes_use_one_key_at_once(self, token: SoftToken, key: HardwareKey) -> None:
        code = (
            "import sys; from parley import load_signatory; key = load_signatory(sys.argv[1]);"
            "print(key.public.hex(), key.sign(b'from another process').hex())"
        )
        done = in_new_process(code, token.uri("signing-1"))
        assert done.returncode == 0, done.stderr
        public, signature = (bytes.fromhex(text) for text in done.stdout.split())
        assert public == key.public
        assert verify(public, b"from another process", signature)
        assert verify(public, b"from this one", key.sign(b"from this one"))

    def test_threads_take_turns(self, token: SoftToken, key: HardwareKey) -> None:
        keys = [key, HardwareKey.open(token.key("signing-1"))]

        def sign(number: int) -> bool:
            message = number.to_bytes(4, "big")
            return verify(key.public, message, keys[number % 2].sign(message))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(sign, range(400)))

    def test_a_forked_child_begins_for_itself_though_a_thread_was_signing(
        self, token: SoftToken, key: HardwareKey
    ) -> None:
        module = hardware._module(token.module)
        generation = module.generation
        signing, done = Event(), Event()

        def hold() -> None:
            with module.lock:
                signing.set()
                done.wait(30)

        thread = Thread(target=hold)
        thread.start()
        signing.wait(30)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a lock that the child inherited would never be released
            os.write(write, bytes([module.generation - generation]) + key.sign(b"child"))
            os._exit(0)
        done.set()
        thread.join()
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        assert told[:1] == b"\x01", "the child must initialise the module for itself"
        assert verify(key.public, b"child", told[1:])
        assert verify(key.public, b"parent", key.sign(b"parent"))

    def test_a_handle_from_before_never_signs_with_another_key(
        self, token: SoftToken, key: HardwareKey
    ) -> None:
        other = HardwareKey.generate(token.key("signing-2"))
        module = hardware._module(token.module)
        for opened_first in (other, key):
            module.start_over()
            for each in (opened_first, key, other):
                assert verify(each.public, b"mine", each.sign(b"mine"))


class TestTrouble:
    def test_a_token_that_is_pulled_out_is_told_and_taken_up_again(
        self, token: SoftToken, key: HardwareKey
    ) -> None:
        away = pull_out(token)
        for _ in range(2):
            with pytest.raises(NoTokenError, match="no token fits"):
                key.sign(b"into the void")
        shutil.move(away, token.folder)
        assert verify(key.public, b"back again", key.sign(b"back again"))

    def test_a_lost_session_is_opened_anew(self, token: SoftToken, key: HardwareKey) -> None:
        hardware._module(token.module).session(token.key()).close()
        assert verify(key.public, b"still here", key.sign(b"still here"))

    def test_another_key_under_the_same_name_does_not_sign_for_it(
        self, make_token: TokenMaker, token: SoftToken, key: HardwareKey
    ) -> None:
        opened = HardwareKey.open(token.key("signing-1"))
        pull_out(token)
        impostor = make_token(token.label)
        HardwareKey.generate(impostor.key("signing-1"))
        with pytest.raises(NoTokenKeyError, match="another key is there now"):
            opened.sign(b"for whom?")
        with pytest.raises(NoTokenKeyError, match="no such key"):
            key.sign(b"for whom?")

    def test_a_module_that_is_not_there(self, token: SoftToken) -> None:
        with pytest.raises(NoModuleError, match=r"nowhere\.so is not there; install it"):
            HardwareKey.open(token.key("a")._replace(module=Path("/nowhere.so")))

    def test_a_module_that_is_none(self, token: SoftToken) -> None:
        with pytest.raises(NoModuleError, match="cannot be used"):
            HardwareKey.open(token.key("a")._replace(module=token.pin_file))

    def test_a_token_that_is_not_there(self, token: SoftToken) -> None:
        with pytest.raises(NoTokenError, match=r"no token fits; there are: parley\."):
            HardwareKey.open(token.key("a")._replace(token="another"))

    def test_two_tokens_of_one_label(self, make_token: TokenMaker) -> None:
        make_token("twin")
        twin = make_token("twin")
        with pytest.raises(NoTokenError, match="several tokens fit; name its serial too"):
            HardwareKey.generate(twin.key("a"))

    def test_a_key_that_is_not_there(self, token: SoftToken, key: HardwareKey) -> None:
        with pytest.raises(NoTokenKeyError, match="key another in token parley: no such key"):
            HardwareKey.open(token.key("another"))

    def test_a_key_that_is_not_named(self, token: SoftToken) -> None:
        with pytest.raises(NoTokenKeyError, match="name the key"):
            HardwareKey.open(token.key())
        with pytest.raises(NoTokenKeyError, match="a new key needs a name"):
            HardwareKey.generate(token.key())

    def test_two_keys_of_one_label(self, token: SoftToken) -> None:
        for identity in (b"\x01", b"\x02"):
            make_key_elsewhere(token, "twin", identity, SENSITIVE=True, EXTRACTABLE=False)
        with pytest.raises(NoTokenKeyError, match="several keys fit; name its id too"):
            HardwareKey.open(token.key("twin"))
        assert HardwareKey.open(token.key("twin")._replace(id=b"\x02")).sign(b"x")


class TestPin:
    def test_a_wrong_one_is_told_with_what_the_token_says_and_never_tried_twice(
        self, token: SoftToken
    ) -> None:
        token.pin_file.write_text("314159\n")
        with pytest.raises(PinError, match=r"PinIncorrect; at least one try is used up") as caught:
            HardwareKey.open(token.key("a"))
        assert "314159" not in str(caught.value)
        assert caught.value.__suppress_context__
        with pytest.raises(PinError, match="not tried again"):
            HardwareKey.open(token.key("a"))
        token.pin_file.write_text(f"{PIN}\n")
        assert HardwareKey.generate(token.key("a")).sign(b"x")

    def test_a_file_that_others_may_read_is_refused(self, token: SoftToken) -> None:
        token.pin_file.chmod(0o640)
        with pytest.raises(KeystoreError, match="others may read"):
            HardwareKey.open(token.key("a"))

    def test_a_file_that_is_not_there_is_named(self, token: SoftToken) -> None:
        token.pin_file.unlink()
        with pytest.raises(KeystoreError, match="no such PIN file; write it, with mode 0600"):
            HardwareKey.open(token.key("a"))

    @pytest.mark.parametrize(
        ("content", "says"), [(b"", "no PIN"), (b"\n", "no PIN"), (b"\xff1234", "UTF-8")]
    )
    def test_a_file_without_one_is_told(self, token: SoftToken, content: bytes, says: str) -> None:
        token.pin_file.write_bytes(content)
        with pytest.raises(PinError, match=says):
            HardwareKey.open(token.key("a"))

    def test_that_no_file_is_named_for_is_asked_for(self, token: SoftToken) -> None:
        with pytest.raises(PinError, match="pin-source=file:/path"):
            HardwareKey.open(token.key("a")._replace(pin_file=None))


class TestOnTheLedger:
    def test_the_router_accepts_a_message_signed_in_a_token(self, key: HardwareKey) -> None:
        ledger = Ledger(banks=0)
        ledger.admit("operator", "OPERATOR", (ROUTER_KEY,))
        ledger.admit("alice", keys=(key,))
        ledger.admit("bob")
        router = MemoryRouter(ledger.directory)
        dialogue = Dialogue.between("alice", "bob", opened_at=START)
        router.append(sealed(dialogue.message("alice"), key), START)
        router.append(sealed(dialogue.message("alice"), signing_key("alice")), START)
        router.step()
        assert len(router.events()) == 1
        (rejection,) = router.rejections()
        assert rejection.reason == "UNKNOWN_KEY"

    def test_a_receipt_of_a_router_whose_key_is_in_a_token_verifies(self, key: HardwareKey) -> None:
        ledger = Ledger(banks=0)
        ledger.admit("operator", "OPERATOR", (key,))
        for name in ("alice", "bob"):
            ledger.admit(name)
        router = MemoryRouter(ledger.directory, key=key)
        router.append(Dialogue.between("alice", "bob", opened_at=START).say("alice"), START)
        router.step()
        (receipt,) = (each for each in router.delivered_to("alice") if isinstance(each, Receipt))
        assert receipt.key_id == key.id
        verify_receipt(receipt, key.public)

    def test_a_checkpoint_of_a_builder_whose_key_is_in_a_token_verifies(self, token: SoftToken) -> None:
        HardwareKey.generate(token.key("builder"))
        signer = NoteSigner("ledger.example/log", load_signatory(token.uri("builder")))
        checkpoint = Checkpoint("ledger.example/log", 7, b"r" * 32)
        note = sign_checkpoint(checkpoint, signer)
        assert open_checkpoint(note, signer.verifier_key, alone=True) == checkpoint

    def test_the_operators_backbone_takes_a_key_from_a_token(self, token: SoftToken, tmp_path: Path) -> None:
        made = HardwareKey.generate(token.key("registrar"))
        folder = StackFolder(tmp_path / "stack")
        folder.create()
        (folder.secrets / "registrar.pkcs11").write_text(token.uri("registrar") + "\n")
        backbone = Backbone(folder, KafkaConnection("127.0.0.1:1", "a", "b"), pipelines=1, durable=False)
        assert backbone.registrar_key.public == made.public
        assert backbone.key_reference("blockbuilder") == str(folder.secrets / "blockbuilder.seed")
        assert [path.name for path in folder.secrets.glob("registrar*")] == ["registrar.pkcs11"]


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("PARLEY_PROFILE", raising=False)
        Path("password").write_text("correct horse\n")

    def profile(self, participant: str, registrar: bytes, signing_key: str, *, keystore: bool = True) -> str:
        name = f"{participant}.toml"
        kept = f'keystore = "{participant}.keys"\nkeystore_password_file = "password"\n' if keystore else ""
        Path(name).write_text(
            f'participant = "{participant}"\nbootstrap = "127.0.0.1:1"\nregistrar = "{registrar.hex()}"\n'
            f'{kept}signing_key = "{signing_key}"\n'
        )
        return name

    def test_a_participant_joins_and_a_registrar_admits_both_with_keys_in_tokens(
        self, make_token: TokenMaker, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ours, theirs = make_token("alpha-bank"), make_token("registrar")
        registrar = HardwareKey.generate(theirs.key("root"))
        keygen = ["keygen", "alpha", "--password-file", "password", "--json", "--hardware"]
        assert main([*keygen, ours.uri("signing-1")]) == 0
        told = json.loads(capsys.readouterr().out)
        store = Keystore.open(Path("alpha.keys"), "correct horse")
        assert store.signing_keys() == ()
        assert store.encryption_key().public.hex() == told["encryption_key"]

        profile = self.profile("alpha", registrar.public, ours.uri("signing-1"))
        join = ["join", "--legal-name", "Alpha Bank AG", "--country", "DE", "--lei", "529900T8BM49AURSDO55"]
        assert main([*join, "--output", "alpha.request", "--profile", profile]) == 0
        profile = self.profile("registrar", registrar.public, theirs.uri("root"), keystore=False)
        admit = ["registrar", "admit", "alpha.request", "--output", "alpha.admitted", "--yes"]
        assert main([*admit, "--profile", profile]) == 0
        asked = decode(Path("alpha.admitted").read_bytes(), AdmissionRequest)
        envelope = decode(asked.change, Envelope)
        assert envelope.payload_type == DIRECTORY_ENTRY_TYPE
        entry = decode(envelope.payload, DirectoryEntry)
        assert entry.signing_keys[0].public_key.hex() == told["signing_key"]
        verify_signatures(envelope, (*entry.signing_keys, public_key(registrar.public)))

    def test_the_keys_of_a_token_are_listed(
        self, token: SoftToken, key: HardwareKey, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["keys", "list", "--hardware", token.uri(), "--json"]) == 0
        row = json.loads(capsys.readouterr().out)
        assert (row["name"], row["public_key"], row["id"]) == ("signing-1", key.public.hex(), key.id.hex())

    def test_a_wrong_pin_leaves_no_keystore_and_is_not_shown(
        self, token: SoftToken, capsys: pytest.CaptureFixture[str]
    ) -> None:
        token.pin_file.write_text("314159\n")
        keygen = ["keygen", "alpha", "--password-file", "password", "--hardware", token.uri("signing-1")]
        assert main(keygen) == 1
        shown = capsys.readouterr()
        assert "the PIN is refused" in shown.err
        assert "314159" not in shown.out + shown.err
        assert not Path("alpha.keys").exists()
        token.pin_file.unlink()
        assert main(keygen) == 1
        assert "no such PIN file" in capsys.readouterr().err
        assert not Path("alpha.keys").exists()


def test_without_the_optional_package_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "from parley import ParleyError, load_signatory\n"
        "try: load_signatory('pkcs11:token=a?module-path=/m.so')\n"
        "except ParleyError as error: print(type(error).__name__, error)\n"
    )
    done = in_new_process(code)
    assert done.stdout.startswith("NoModuleError keys in a hardware module need one more package"), (
        done.stderr
    )
    assert "parley-ledger[hardware]" in done.stdout


def test_what_a_participants_program_imports_offers_both_kinds(token: SoftToken, tmp_path: Path) -> None:
    assert issubclass(HardwareError, parley.ParleyError)
    seed = tmp_path / "seed"
    seed.touch(mode=0o600)
    seed.write_bytes(b"s" * 32)
    assert isinstance(parley.load_signatory(str(seed)), parley.SigningKey)
    HardwareKey.generate(token.key("signing-1"))
    assert isinstance(parley.load_signatory(token.uri("signing-1")), HardwareKey)
