"""The folder of one stack: where its data, logs, process ids and secrets lie; it starts nothing."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
RUNTIME: Final = CHECKOUT / ".parley" / "runtime"
"""What set-up fetched: ``kafka/`` (jars), ``anvil/`` (the chain's binary), ``softhsm/`` (for tests, where it could); and what was
built from the sources: ``compiled/`` (`deploy.compiled`)."""


@dataclass(frozen=True, slots=True)
class StackFolder:
    """Where a stack keeps everything. Only the owner may read ``secrets``."""

    root: Path

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def anvil(self) -> Path:
        return self.root / "anvil"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    def create(self) -> None:
        """Make the folders that every part shares."""
        for folder in (self.logs, self.run, self.secrets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.secrets.chmod(0o700)

    def log_file(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        return self.run / f"{name}.pid"

    def password_file(self, name: str) -> Path:
        return self.secrets / f"{name}.password"

    def password(self, name: str) -> str:
        """The password of that name; the first call makes a random one (192 bits) and keeps it."""
        path = self.password_file(name)
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text(encoding="ascii").strip()

    def last_port(self, name: str) -> int | None:
        """The port that this part had last time, so that a restarted stack is found where it was."""
        try:
            return int((self.run / f"{name}.port").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def remember_port(self, name: str, port: int) -> None:
        (self.run / f"{name}.port").write_text(f"{port}\n", encoding="ascii")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may ever read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
