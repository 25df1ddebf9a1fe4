"""The participant's own command, run as anybody would run it: one proof verified, and the same proof with a byte changed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.errors import StartError

__all__ = ["Verdict", "changed_copy", "verify"]

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


def verify(folder: Path, proof: Path, log_key: Path) -> Verdict:
    """Run ``parley verify`` in a folder. Raises StartError if the command cannot be run."""
    try:
        result = subprocess.run(
            [PARLEY, "verify", proof, "--log-key", log_key],
            capture_output=True,
            encoding="utf-8",
            check=False,
            cwd=folder,
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
