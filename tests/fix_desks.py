"""Participants at the command line, with profiles and keystores, against a backbone in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from parley.cli import main, messages
from parley.keystore import Cost, Keystore
from tests.fix_ledger import LOG, SealedLedger
from tests.memory_backbone import MemoryBackbone, MemoryTransport
from tests.synthetic_ledger import Pipeline, encryption_key, signing_key

__all__ = ["NAMES", "STORE", "Run", "desk_backbone", "desks", "run", "seal_all", "told"]

NAMES = ("alpha", "beta", "gamma", "delta")


@pytest.fixture
def desk_backbone(monkeypatch: pytest.MonkeyPatch) -> MemoryBackbone:
    backbone = MemoryBackbone(*NAMES)
    backbone.admit("regulator", "REGULATOR")
    backbone.now = time.time_ns() // 1_000_000

    def transport(_access: object) -> MemoryTransport:
        return backbone.transport()

    monkeypatch.setattr(messages, "KafkaTransport", transport)
    return backbone


@pytest.fixture
def desks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desk_backbone: MemoryBackbone) -> Path:
    """A folder with everybody's profile and keystore."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARLEY_PROFILE", raising=False)
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "log.vkey").write_text(f"{LOG.verifier_key}\n")
    for name in (*NAMES, "regulator"):
        (tmp_path / f"{name}.toml").write_text(
            f'participant = "{name}"\nbootstrap = "127.0.0.1:1"\nregistrar = "{desk_backbone.registrar.public.hex()}"\n'
            f'keystore = "{name}.keys"\nkeystore_password_file = "password"\npassword_file = "password"\n'
        )
        store = Keystore.create(Path(f"{name}.keys"), name, "correct horse", cost=Cost(1, 8192))
        store.add("signing-1", signing_key(name))
        store.add("encryption-1", encryption_key(name))
        store.save()
    return tmp_path


Run = Callable[..., list[dict[str, object]]]


@pytest.fixture
def run(desks: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(name, *arguments)`` gives the JSON that the command prints to this participant."""

    def command(name: str, *arguments: str) -> list[dict[str, object]]:
        capsys.readouterr()
        code = main([*arguments, "--profile", f"{name}.toml", "--json"])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return [json.loads(line) for line in shown.out.splitlines()]

    return command


@pytest.fixture
def told(desks: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``told(name, *arguments)`` gives all that the command prints to a person, errors included."""

    def command(name: str, *arguments: str) -> str:
        capsys.readouterr()
        main([*arguments, "--profile", f"{name}.toml"])
        shown = capsys.readouterr()
        return shown.out + shown.err

    return command


@pytest.fixture
def seal_all(desk_backbone: MemoryBackbone, desks: Path) -> Callable[[], SealedLedger]:
    """Seals everything that has ended into a block store in the folder ``log``."""

    def seal() -> SealedLedger:
        made = SealedLedger(desks / "log")
        made.ledger.directory_records = desk_backbone.directory_records
        made.ledger.pipelines = [Pipeline(list(each.firehose)) for each in desk_backbone.pipelines]
        made.ledger.now = desk_backbone.now
        made.seal()
        return made

    return seal


STORE = ("--store", "log", "--log-key", "log.vkey")
