"""SoftHSM 2, a hardware module in software, by which the tests try what speaks PKCS #11; no service needs it.

One that the machine has is taken. Otherwise Debian's packages are unpacked into the runtime folder, without root and
without installing them. They are not pinned by digest as the other downloads are: Debian keeps only a release's last
revision of a package, so that such a pin would break with each point release; apt holds each file against the
archive's signed index, and nothing but a test ever loads it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.errors import SetupError

__all__ = ["PACKAGES", "SoftHsm", "fetch_softhsm", "find_softhsm", "why_missing"]

PACKAGES: Final = ("softhsm2", "libsofthsm2")
SYSTEM_ROOTS: Final = (Path("/usr"), Path("/usr/local"), Path("/opt/homebrew"))

_MODULES: Final = ("softhsm/libsofthsm2.so", "pkcs11/libsofthsm2.so", "*/softhsm/libsofthsm2.so")
_SECONDS: Final = 60
"""For one call of apt: its own retries would keep a machine without network waiting for minutes."""


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """Where it is: the library that programs load, and the tool that makes tokens."""

    module: Path
    util: Path


def find_softhsm(runtime: Path, roots: Iterable[Path] = SYSTEM_ROOTS) -> SoftHsm | None:
    """The machine's own, or else the one that set-up unpacked; ``None`` if there is neither."""
    return next((found for root in (*roots, runtime / "softhsm" / "usr") if (found := _under(root))), None)


def why_missing(runtime: Path) -> str | None:
    """What set-up said when it could not get one; ``None`` if it never tried, or got one."""
    note = _note(runtime)
    return note.read_text(encoding="utf-8") if note.is_file() else None


def fetch_softhsm(draft: Path, runtime: Path) -> None:
    """Unpack Debian's packages into ``draft`` and try them out; keep a note in the runtime folder if that fails.

    Raises:
        SetupError: the machine has no apt, apt does not give them, or they do not run here.
    """
    note = _note(runtime)
    try:
        _fetch(draft)
    except SetupError as error:
        note.write_text(str(error), encoding="utf-8")
        raise
    note.unlink(missing_ok=True)


def _note(runtime: Path) -> Path:
    return runtime / "softhsm.missing"


def _under(root: Path) -> SoftHsm | None:
    util = root / "bin" / "softhsm2-util"
    modules = [
        path for libraries in ("lib", "lib64") for name in _MODULES for path in (root / libraries).glob(name)
    ]
    return SoftHsm(modules[0], util) if modules and util.is_file() else None


def _fetch(draft: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise SetupError(
            "This machine has no apt; install SoftHSM 2 (softhsm2-util and libsofthsm2.so) your own way."
        )
    with tempfile.TemporaryDirectory(dir=draft.parent) as scratch:
        work = Path(scratch)
        try:
            _download(work)
        except (
            SetupError
        ):  # its package lists may be missing or old: fetch some of our own, which needs no root
            for folder in ("state/lists/partial", "cache/archives/partial"):
                (work / folder).mkdir(parents=True)
            own = [
                f"-oDir::State={work}/state",
                f"-oDir::Cache={work}/cache",
                "-oDir::State::status=/var/lib/dpkg/status",
            ]
            _run([*_apt(), *own, "update"], work)
            _download(work, own)
        for package in sorted(work.glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(draft)], work)
        _try_out(draft, work)


def _download(work: Path, options: Sequence[str] = ()) -> None:
    _run([*_apt(), *options, "download", *PACKAGES], work)


def _apt() -> list[str]:
    options = {
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "15",
        "Acquire::https::Timeout": "15",
        "APT::Sandbox::User": getpass.getuser(),  # root's apt would go on as a user who may not write here
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::AllowInsecureRepositories": "false",
    }
    return ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]


def _try_out(draft: Path, work: Path) -> None:
    """Have the tool load the library, in a folder of its own."""
    found = _under(draft / "usr")
    if found is None:
        raise SetupError(
            "Debian's packages of SoftHSM hold no library or no tool; install SoftHSM 2 yourself."
        )
    tokens = work / "tokens"
    tokens.mkdir()
    settings = work / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tokens}\n", encoding="utf-8")
    _run([str(found.util), "--module", str(found.module), "--show-slots"], work, SOFTHSM2_CONF=str(settings))


def _run(command: Sequence[str], work: Path, **environment: str) -> None:
    try:
        answer = subprocess.run(
            command,
            cwd=work,
            env=os.environ | {"LC_ALL": "C"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{Path(command[0]).name} did not answer: {error}") from error
    if answer.returncode != 0:
        said = (answer.stderr or answer.stdout).strip()[-500:]
        raise SetupError(f"{Path(command[0]).name} refused: {said}")
