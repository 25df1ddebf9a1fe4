"""The demonstration's folder: what it leaves there for people, and what it needs only while it runs."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.errors import AlreadyRunningError, SetupError
from deploy.folder import StackFolder
from deploy.inventory import BackboneFiles

__all__ = ["DemoFolder"]

_MARK: Final = "demo.lock"
"""Says that the folder is a demonstration's, and belongs to one run at a time."""
_WORKING: Final = ("kafka", "anvil", "run", "secrets")
_RESULTS: Final = ("logs", "log", "proofs", "log.vkey", "summary.json")


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Where a run keeps everything. Only the owner may read orders, reports and secrets."""

    root: Path

    @property
    def stack(self) -> StackFolder:
        return StackFolder(self.root)

    @property
    def public(self) -> BackboneFiles:
        """The block store and the log's key."""
        return BackboneFiles(self.root)

    @property
    def proofs(self) -> Path:
        return self.root / "proofs"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def figures(self) -> Path:
        """What the regulator's monitor keeps."""
        return self.stack.secrets / "monitor.json"

    @property
    def audit_task(self) -> Path:
        return self.stack.secrets / "audit-task.json"

    @property
    def audit_report(self) -> Path:
        return self.stack.secrets / "audit-report.json"

    def keystore(self, participant: str) -> Path:
        return self.stack.secrets / f"{participant}.keys"

    def keystore_password(self, participant: str) -> str:
        """The first call makes one."""
        return self.stack.password(f"{participant}.keys")

    def keystore_password_file(self, participant: str) -> Path:
        return self.stack.password_file(f"{participant}.keys")

    def profile(self, participant: str) -> Path:
        """For the participant's own command."""
        return self.stack.secrets / f"{participant}.toml"

    def orders(self, participant: str) -> Path:
        return self.stack.secrets / f"{participant}.orders.json"

    def instructions(self, participant: str) -> Path:
        """The folder of its settlement instructions."""
        return self.stack.secrets / f"{participant}.instructions"

    def report(self, participant: str) -> Path:
        return self.stack.secrets / f"{participant}.report.json"

    @contextmanager
    def taken(self, *, keep: bool) -> Iterator[None]:
        """Make the folder this run's alone: what the last run left is removed first, what nobody needs at the end.

        Args:
            keep: whether broker, chain, keys and reports stay for somebody to look at.

        Raises:
            AlreadyRunningError: a demonstration runs in it.
            SetupError: it holds something else, or cannot be written.
        """
        try:
            if self.root.exists() and any(self.root.iterdir()) and not (self.root / _MARK).exists():
                raise SetupError(
                    f"{self.root} holds something that is no demonstration's; name an empty folder with --folder"
                )
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / _MARK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SetupError(
                f"{self.root} cannot be used ({error.strerror}); name another with --folder"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunningError(
                    f"A demonstration runs in {self.root} already; wait for it, or name another folder with --folder"
                ) from None
            self._remove(*_WORKING, *_RESULTS)
            self.stack.create()
            self.proofs.mkdir()
            try:
                yield
            finally:
                if not keep:
                    self._remove(*_WORKING)
        finally:
            os.close(descriptor)

    def _remove(self, *names: str) -> None:
        for name in names:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
