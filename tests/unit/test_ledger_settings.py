"""The ledger service's settings."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from anchor.ledger.__main__ import main
from anchor.ledger.settings import LedgerSettings
from streams.runtime import EXIT_SETTINGS

GIVEN = {
    "KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "KAFKA_USERNAME": "ledger",
    "KAFKA_PASSWORD_FILE": "/run/secrets/kafka",
    "REGISTRAR_KEY": "ab" * 32,
    "KEY": "/run/secrets/ledger.seed",
    "ENCRYPTION_KEYS": "/run/secrets/new.x25519, /run/secrets/old.x25519",
    "CHAIN": "eip155:1",
    "RPC": "https://one.example/v3/secret https://two.example",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GIVEN.items():
        monkeypatch.setenv(f"PARLEY_LEDGER_{name}", value)


def test_lists_are_split_and_times_are_in_milliseconds() -> None:
    settings = LedgerSettings()
    assert settings.endpoints == ("https://one.example/v3/secret", "https://two.example")
    assert [path.name for path in settings.encryption_keys] == ["new.x25519", "old.x25519"]
    policy = settings.policy()
    assert (policy.chain_id, policy.confirmations, policy.give_up_after) == (1, 12, 86_400_000)


def test_what_is_shown_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ledger", "--check"])
    assert main() == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["participant"] == "ledger"
    assert "secret" not in json.dumps(shown["rpc"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHAIN", "bip122:000000000019d668"),
        ("RPC", "one.example"),
        ("RPC", ""),
        ("ENCRYPTION_KEYS", ""),
        ("REGISTRAR_KEY", "ab"),
        ("CONFIRMATIONS", "0"),
        ("GIVE_UP_AFTER", "0"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"PARLEY_LEDGER_{name}", value)
    with pytest.raises(ValidationError):
        LedgerSettings()
    monkeypatch.setattr("sys.argv", ["ledger"])
    assert main() == EXIT_SETTINGS
    assert name.lower() in capsys.readouterr().err
