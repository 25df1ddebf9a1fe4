"""Fixtures of hardware modules in software: SoftHSM 2, with tokens of a test's own."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from deploy.folder import RUNTIME
from deploy.softhsm import SoftHsm, find_softhsm, why_missing
from parley import hardware
from parley.pkcs11_uri import TokenKey, parse_pkcs11_uri, token_key

__all__ = ["SoftToken", "TokenMaker", "pull_out"]

PIN = "271828"


class SoftToken(NamedTuple):
    """A token, and where it lies: whoever moves its folder away has pulled it out."""

    label: str
    module: Path
    folder: Path
    pin_file: Path

    def uri(self, key: str | None = None, **query: str) -> str:
        """Of the token, or of a key in it; ``query`` replaces what stands there by default."""
        path = f"pkcs11:token={quote(self.label)}" + ("" if key is None else f";object={quote(key)}")
        where = {"module-path": str(self.module), "pin-source": f"file:{self.pin_file}"} | {
            name.replace("_", "-"): value for name, value in query.items()
        }
        asked = "&".join(f"{name}={quote(value, safe='/:')}" for name, value in where.items())
        return f"{path}?{asked}"

    def key(self, name: str | None = None) -> TokenKey:
        """The same, read."""
        return token_key(parse_pkcs11_uri(self.uri(name)))


TokenMaker = Callable[[str], SoftToken]


@pytest.fixture(scope="session")
def softhsm() -> SoftHsm:
    """Where SoftHSM is. Tests are skipped only where set-up said why it cannot be had."""
    found = find_softhsm(RUNTIME)
    if found is not None:
        return found
    reason = why_missing(RUNTIME)
    if reason is None:
        pytest.fail("SoftHSM is not there, and set-up did not say why: run make setup")
    pytest.skip(f"no SoftHSM: {reason}")


@pytest.fixture
def make_token(softhsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenMaker:
    """Makes tokens with the one PIN, in a folder that this test alone sees."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    settings = tmp_path / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n", encoding="utf-8")
    monkeypatch.setenv("SOFTHSM2_CONF", str(settings))
    pin_file = tmp_path / "pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(f"{PIN}\n", encoding="utf-8")

    def make(label: str) -> SoftToken:
        before = set(tokens.iterdir())
        command = [str(softhsm.util), "--module", str(softhsm.module), "--init-token", "--free"]
        pins = ["--pin", PIN, "--so-pin", secrets.token_hex(8)]
        subprocess.run([*command, "--label", label, *pins], check=True, capture_output=True)
        (folder,) = set(tokens.iterdir()) - before
        hardware._module(softhsm.module).forget()  # it learns of tokens when it is initialised
        return SoftToken(label, softhsm.module, folder, pin_file)

    return make


@pytest.fixture
def token(make_token: TokenMaker) -> SoftToken:
    """One token, empty."""
    return make_token("parley")


def pull_out(token: SoftToken) -> Path:
    """Move a token's folder away; gives the place where it is now."""
    away = token.folder.parent.parent / "pulled-out"
    shutil.move(token.folder, away)
    return away
