"""The command line on a running backbone: from keys to a finished transaction, as two banks and a regulator would type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.backbone import Participant as Joining
from parley.cli import main
from parley.keys import SigningKey
from parley.keystore import Cost, Keystore
from parley.private_files import read_private
from streams.catalogue import Role
from tests.fix_backbone import RunningBackbone

pytestmark = pytest.mark.timeout(180)


class Desk:
    """Somebody's terminal: a folder with a profile and a keystore."""

    def __init__(
        self, backbone: RunningBackbone, folder: Path, name: str, password: str, key: SigningKey
    ) -> None:
        self.name = name
        self._profile = folder / f"{name}.toml"
        self._folder = folder
        (folder / f"{name}.password").write_text(password)
        (folder / "keys.password").write_text("open sesame")
        self._profile.write_text(
            f'participant = "{name}"\nbootstrap = "{backbone.access(name).bootstrap}"\n'
            f'registrar = "{backbone.registrar.hex()}"\npassword_file = "{name}.password"\n'
            f'keystore = "{name}.keys"\nkeystore_password_file = "keys.password"\n'
        )
        store = Keystore.create(folder / f"{name}.keys", name, "open sesame", cost=Cost(1, 8192))
        store.add("signing-1", key)
        store.save()

    def file(self, name: str) -> Path:
        return self._folder / name

    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
        capsys.readouterr()
        code = main([*arguments, "--profile", str(self._profile), "--json"])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return [json.loads(line) for line in shown.out.splitlines()]

    def fail(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        capsys.readouterr()
        assert main([*arguments, "--profile", str(self._profile)]) == 1
        return capsys.readouterr().err


def test_two_banks_join_and_agree_and_a_regulator_watches(
    running_backbone: RunningBackbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = running_backbone.backbone
    banks = {}
    for name in ("cli-a", "cli-b"):
        backbone.join([Joining(name, f"password-of-{name}", Role.PARTICIPANT, (name,))])
        banks[name] = Desk(running_backbone, tmp_path, name, f"password-of-{name}", SigningKey.generate())
    registrar_key = SigningKey(read_private(Path(backbone.key_reference("registrar"))))
    registrar = Desk(
        running_backbone, tmp_path, "registrar", backbone.folder.password("registrar"), registrar_key
    )
    a, b = banks.values()

    # Joining: one entry is submitted by the registrar, the other goes back to the bank.
    assert "join first" in a.fail(capsys, "waiting")
    for name, bank in banks.items():
        request = str(bank.file(f"{name}.request"))
        bank.run(capsys, "join", "--legal-name", f"{name} AG", "--country", "DE", "--output", request)
    (admitted,) = registrar.run(capsys, "registrar", "admit", str(a.file("cli-a.request")), "--yes")
    assert admitted["legal_name"] == "cli-a AG"
    countersigned = str(b.file("cli-b.admitted"))
    request = str(b.file("cli-b.request"))
    registrar.run(capsys, "registrar", "admit", request, "--yes", "--output", countersigned)
    (joined,) = b.run(capsys, "join", "--request", countersigned)
    assert isinstance(joined["directory_version"], int)

    # Negotiating.
    receipt = str(a.file("opening.receipt"))
    (opened,) = a.run(
        capsys, "send", "shall we?", "--to", "cli-b", "--kind", "negotiation", "--receipt", receipt
    )
    identity = str(opened["transaction"])
    (promise,) = a.run(capsys, "receipt", "verify", receipt)
    assert (promise["operator"], promise["message_id"]) == ("operator", opened["message_id"])
    (received,) = b.run(capsys, "inbox", "--once")
    assert (received["transaction"], received["content"]) == (identity, "shall we?")
    assert b.run(capsys, "inbox", "--once") == []
    (due,) = b.run(capsys, "waiting")
    assert due["waiting_on"] == ["cli-b"]
    assert "exists already" in b.fail(capsys, "send", "we shall", "--deal", identity, "--receipt", receipt)
    receipt = str(b.file("answer.receipt"))
    (finished,) = b.run(capsys, "send", "we shall", "--deal", identity, "--finish", "--receipt", receipt)
    assert finished["outcome"] == "FINISHED"
    (promise,) = b.run(capsys, "receipt", "verify", receipt)
    assert (promise["sender"], promise["block_by"]) == ("cli-b", finished["block_by"])
    assert "not open" in b.fail(capsys, "send", "and another thing", "--deal", identity)
    assert a.run(capsys, "waiting") == []

    # Watching: the directory attests the names, and a cursor shows nothing twice.
    backbone.join([Joining("cli-r", "password-of-cli-r", Role.REGULATOR)])
    regulator = Desk(running_backbone, tmp_path, "cli-r", "password-of-cli-r", SigningKey.generate())
    cursor = str(tmp_path / "cursor.json")
    events = regulator.run(capsys, "watch", "--once", "--cursor", cursor)
    ours = [event for event in events if event["transaction"] == identity]
    assert [(event["legal_name"], event["content"]) for event in ours] == [
        ("cli-a AG", "shall we?"),
        ("cli-b AG", "we shall"),
    ]
    assert ours[-1]["outcome"] == "FINISHED"
    assert not any("violation" in event for event in events)
    assert regulator.run(capsys, "watch", "--once", "--cursor", cursor) == []
    assert regulator.run(capsys, "tx", "show", identity) == ours
    assert "may not" in a.fail(capsys, "watch", "--once")

    # Hiding: who receives is named to nobody until it answers.
    (hidden,) = a.run(capsys, "send", "are you there?", "--hidden", "cli-b")
    (received,) = b.run(capsys, "inbox", "--once")
    assert (received["transaction"], received["content"]) == (hidden["transaction"], "are you there?")
    (due,) = b.run(capsys, "waiting")
    assert due["waiting_on"] == hidden["waiting_on"] != ["cli-b"]
    (told,) = regulator.run(capsys, "tx", "show", str(hidden["transaction"]))
    assert told["recipients"] == hidden["waiting_on"]
    assert "cli-b" not in json.dumps(told)
    (answered,) = b.run(capsys, "send", "here", "--deal", str(hidden["transaction"]), "--finish")
    assert (answered["outcome"], answered["sender"]) == ("FINISHED", "cli-b")
    assert [row["legal_name"] for row in regulator.run(capsys, "tx", "show", str(hidden["transaction"]))] == [
        "cli-a AG",
        "cli-b AG",
    ]
