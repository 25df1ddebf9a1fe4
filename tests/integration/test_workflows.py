"""The workflows on a running backbone, as two banks would type them: trades settled straight through, and one captured and affirmed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.backbone import Participant as Joining
from deploy.folder import CHECKOUT
from parley.cli import main
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.keystore import Cost, Keystore
from streams.catalogue import Role
from tests.fix_backbone import RunningBackbone, entry_of
from tests.synthetic_ledger import encryption_key, signing_key
from tests.unit.test_straight_through import ROW

pytestmark = pytest.mark.timeout(180)

BANKS = {
    "sbos": ("571474TGEMMWANRLN572", "SBOSUS33"),
    "bnpa": ("R0MUWSFPU8MPRO8K5P83", "BNPAFRPP"),
}
FORM = """
we: sell
counterparty: bnpa
isin: DE0001102580
quantity: 5,000,000
price: 98.75 %
currency: EUR
trade date: 2026-11-18
settlement date: 2026-11-20
agreed at: 2026-11-18T14:03:00+01:00
"""


class Bank:
    """A bank's folder, with profile, keystore and files, and its terminals."""

    def __init__(self, backbone: RunningBackbone, folder: Path, name: str) -> None:
        self.folder = folder
        (folder / "kafka.password").write_text(f"password-of-{name}")
        (folder / "keys.password").write_text("open sesame")
        (folder / "parley.toml").write_text(
            f'participant = "{name}"\nbootstrap = "{backbone.access(name).bootstrap}"\n'
            f'registrar = "{backbone.registrar.hex()}"\npassword_file = "kafka.password"\n'
            f'keystore = "bank.keys"\nkeystore_password_file = "keys.password"\n'
        )
        store = Keystore.create(folder / "bank.keys", name, "open sesame", cost=Cost(1, 8192))
        store.add("signing-1", signing_key(name))
        store.add("encryption-1", encryption_key(name))
        store.save()

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "parley.cli", *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={"PYTHONPATH": str(CHECKOUT), "PATH": ""},
        )

    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
        """What a command, run in this process, says on its one line."""
        capsys.readouterr()
        code = main([*arguments, "--profile", str(self.folder / "parley.toml"), "--json"])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        (row,) = (json.loads(line) for line in shown.out.splitlines())
        assert isinstance(row, dict)
        return row


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, object]], str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture(scope="module")
def banks(running_backbone: RunningBackbone, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Bank]:
    """The deliverer and the receiver."""
    running_backbone.backbone.join(
        [
            Joining(
                name,
                f"password-of-{name}",
                Role.PARTICIPANT,
                (name,),
                seal(DIRECTORY_ENTRY_TYPE, entry_of(name)._replace(lei=lei, bic=bic), signing_key(name)),
            )
            for name, (lei, bic) in BANKS.items()
        ]
    )
    running_backbone.backbone.await_admission(BANKS)
    return [Bank(running_backbone, tmp_path_factory.mktemp(name), name) for name in BANKS]


def test_a_trade_file_is_settled_straight_through_and_what_failed_is_reported(
    banks: Sequence[Bank], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ROW | {"uti": f"571474TGEMMWANRLN57226111800000{n}"} for n in range(4)]
    otherwise = [*rows[:3], rows[3] | {"settlement_amount": "14243.01"}]
    for bank, trades in zip(banks, (otherwise, rows), strict=True):
        with (bank.folder / "trades.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ROW)
            writer.writeheader()
            writer.writerows(trades)
    command = ("dvp", "run", "trades.csv", "--day", "2026-11-18", "--report", "fails.csv", "--within", "40s")
    for process in [bank.start(*command) for bank in banks]:
        code, told, complaint = ended(process)
        assert code == 1
        assert complaint == "parley: 1 of 4 instructions failed\n"
        assert [row["ending"] for row in told] == ["settled"] * 3 + ["unmatched"]
    for bank in banks:
        with (bank.folder / "fails.csv").open(newline="") as file:
            (fail,) = csv.DictReader(file)
        assert fail["trade"] == rows[3]["uti"]
        assert "SttlmAmt/Amt: ours is 14243.01, theirs 14243.00" in fail["why"]
    # The journal knows it all: nothing is opened again, and there is nothing to wait for.
    capsys.readouterr()
    again_from = str(banks[1].folder / "trades.csv")
    profile = str(banks[1].folder / "parley.toml")
    assert main(["dvp", "run", again_from, "--day", "2026-11-18", "--profile", profile, "--json"]) == 1
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["ending"] for row in again] == ["settled"] * 3 + ["unmatched"]


def test_a_trade_agreed_by_phone_is_captured_affirmed_and_undone(
    banks: Sequence[Bank], capsys: pytest.CaptureFixture[str]
) -> None:
    sbos, bnpa = banks
    ours, theirs = sbos.folder / "call.txt", bnpa.folder / "call.txt"
    ours.write_text(FORM)
    theirs.write_text(FORM.replace("sell", "buy").replace("bnpa", "sbos"))
    captured = sbos.run(capsys, "otc", "capture", str(ours))
    assert captured["waiting_on"] == ["bnpa"]
    identity = str(captured["transaction"])
    assert bnpa.run(capsys, "otc", "list")["trade"] == captured["trade"]
    assert bnpa.run(capsys, "otc", "affirm", identity, "--form", str(theirs))["phase"] == "affirmed"
    asked = bnpa.run(capsys, "otc", "cancel", identity, "--with", "sbos", "--reason", "fat finger")
    assert (asked["step"], asked["changes"]) == ("cancellation", identity)
    undone = sbos.run(capsys, "otc", "affirm", str(asked["transaction"]))
    assert (undone["phase"], undone["reason"]) == ("affirmed", "fat finger")
