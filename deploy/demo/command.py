"""The participant's own command, run as anybody would run it: one proof verified, and the same proof with a byte changed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.errors import StartError

__all__ = ["Verdict", "changed_copy", "command_line", "shown", "verify"]

PARLEY: Final = Path(sys.executable).with_name("parley")
_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``parley verify`` said of a file."""

    exit_code: int
    output: str
    """What it printed, or the reason why it refused."""

    @property
    def good(self) -> bool:
        return self.exit_code == 0


def shown(path: Path) -> str:
    """A path as people type it: from where they are, if it lies below."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def command_line(proof: Path, log_key: Path) -> str:
    """The command as people type it, on three lines since the paths are long."""
    return f"{shown(PARLEY)} verify \\\n  {shown(proof)} \\\n  --log-key {shown(log_key)}"


def verify(proof: Path, log_key: Path) -> Verdict:
    """Run ``parley verify``. Raises StartError if the command cannot be run."""
    try:
        result = subprocess.run(
            [PARLEY, "verify", shown(proof), "--log-key", shown(log_key)],
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"{PARLEY} cannot be run ({error}); run 'make setup' again") from error
    return Verdict(result.returncode, (result.stdout if result.returncode == 0 else result.stderr).strip())


def changed_copy(proof: Path, folder: Path) -> tuple[Path, int]:
    """A copy in ``folder`` of which one bit of one byte is another, and which byte that is."""
    data = bytearray(proof.read_bytes())
    place = len(data) // 3
    data[place] ^= 1
    with tempfile.NamedTemporaryFile(dir=folder, prefix="changed-", suffix=".proof", delete=False) as file:
        file.write(data)
    return Path(file.name), place
