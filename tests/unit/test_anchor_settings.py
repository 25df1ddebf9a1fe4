"""The anchor service's settings and command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from anchor.__main__ import main
from anchor.settings import AnchorSettings

GIVEN = {
    "KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "KAFKA_USERNAME": "anchor",
    "KAFKA_PASSWORD_FILE": "/run/secrets/kafka",
    "CHECKPOINT": "/var/lib/parley/log/checkpoint",
    "LOG_KEY_FILE": "/etc/parley/log.vkey",
    "CHAIN": "eip155:11155111",
    "RPC": "https://one.example/v3/secret, https://two.example",
    "CONTRACT": "0x00000000000000000000000000000000000000aa",
    "KEY_FILE": "/run/secrets/anchor",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GIVEN.items():
        monkeypatch.setenv(f"PARLEY_ANCHOR_{name}", value)


def given_in_environment(**changes: str) -> AnchorSettings:
    return AnchorSettings(**{name.lower(): value for name, value in changes.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chain", "confirmations"),
    [("eip155:1", 12), ("eip155:137", 12), ("eip155:11155111", 6), ("eip155:31337", 2)],
)
def test_confirmations_follow_the_kind_of_chain(chain: str, confirmations: int) -> None:
    assert given_in_environment(CHAIN=chain).policy().confirmations == confirmations


def test_confirmations_can_be_set() -> None:
    assert given_in_environment(CONFIRMATIONS="64").policy().confirmations == 64


def test_the_policy_is_in_milliseconds_and_wei() -> None:
    policy = given_in_environment(INTERVAL="2.5", STUCK_AFTER="60", FEE_CAP_GWEI="30").policy()
    assert (policy.interval, policy.stuck_after, policy.rebroadcast_after) == (2_500, 60_000, 15_000)
    assert policy.fee_cap == 30_000_000_000


def test_the_contract_s_address_is_always_spelt_the_same() -> None:
    assert given_in_environment().contract == "0x00000000000000000000000000000000000000AA"


def test_endpoints_are_split_and_masked(capsys: pytest.CaptureFixture[str]) -> None:
    assert given_in_environment().endpoints == ("https://one.example/v3/secret", "https://two.example")
    assert main(["--check"]) == 0
    assert "secret, " not in capsys.readouterr().out.replace("/run/secrets", "")
    assert "v3" not in repr(given_in_environment())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHAIN", "eip155:0"),
        ("CHAIN", "bip122:000000000019d6689c085ae165831e93"),
        ("RPC", " "),
        ("RPC", "ws://one.example"),
        ("CONTRACT", "0x1234"),
        ("CONFIRMATIONS", "0"),
        ("INTERVAL", "0"),
        ("FEE_CAP_GWEI", "0"),
        ("SURPRISE", "1"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        given_in_environment(**{name: value})


def test_a_missing_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PARLEY_ANCHOR_CONTRACT")
    assert main([]) == 2
    assert "setting contract" in capsys.readouterr().err


def test_a_chain_that_is_away_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, address = tmp_path / "account.key", tmp_path / "contract"
    assert main(["account", str(key)]) == 0
    assert main(["account", str(key)]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second
    endpoint = ["--rpc", "http://127.0.0.1:1", "--chain", "eip155:1"]
    assert main(["deploy", *endpoint, "--key-file", str(key), "--address-file", str(address)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("anchor deploy: no endpoint answers")
    assert len(told.splitlines()) == 1
    assert not address.exists()


def test_what_is_imported_leaves_the_recursion_limit_as_it_was() -> None:
    code = "import sys; before = sys.getrecursionlimit(); import anchor.service; assert sys.getrecursionlimit() == before"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
