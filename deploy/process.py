"""One child process: own process group, own log, pid file, and a death that follows its parent's.

What the process is, and how one knows that it is ready, is its owner's business.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

from deploy.errors import AlreadyRunningError, StartError
from deploy.launch import Identity, launched

_POLL_SECONDS: Final = 0.02

# The kernel sends the death signal when the *thread* that forked ends, so one thread that lives as long as the
# program starts every child.
_SPAWNER: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


@dataclass(frozen=True, slots=True)
class PidRecord:
    """A process as a pid file remembers it. The start time tells a reused pid from the process that was meant."""

    pid: int
    started: float  # seconds since the Unix epoch
    port: int | None = None

    @classmethod
    def of(cls, pid: int, port: int | None) -> Self:
        return cls(pid, psutil.Process(pid).create_time(), port)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What the file says, or None where there is no file or none that makes sense."""
        try:
            pid, started, port = path.read_text(encoding="ascii").split()
            return cls(int(pid), float(started), None if port == "-" else int(port))
        except (OSError, ValueError):
            return None

    def write(self, path: Path) -> None:
        draft = path.with_suffix(".draft")
        draft.write_text(f"{self.pid} {self.started!r} {self.port or '-'}\n", encoding="ascii")
        draft.replace(path)

    def alive(self) -> bool:
        """Whether the very process that was recorded still runs."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class ChildProcess:
    """A running child. Make it with `start`; `stop` leaves nothing of its process group behind."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        log: Path,
        pid_file: Path,
        *,
        begin: int,
        stop_signal: signal.Signals,
        stop_seconds: float,
    ) -> None:
        self.name = name
        self.pid = process.pid
        self.log = log
        self._process = process
        self._pid_file = pid_file
        self._begin = begin
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds

    @classmethod
    def start(
        cls,
        name: str,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        pid_file: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        port: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 15,
        identity: Identity = Identity.OURS,
    ) -> Self:
        """Start a program from its argument list; its output is added to ``log``, which only the owner may read.

        Args:
            name: What people call it.
            arguments: The program and its arguments; no secrets, since every user of the machine may list them.
            log: The file that takes stdout and stderr.
            pid_file: Where the process is recorded until it is stopped.
            env: The whole environment of the child; ours without it.
            cwd: Its working directory.
            port: The port it is told to listen on, recorded for people.
            stop_signal: What asks it to end in good order, also when this process dies.
            stop_seconds: How long it may take to end before it is killed.
            identity: Who it is.

        Raises:
            AlreadyRunningError: the pid file names a process that still runs.
            StartError: the program cannot be executed.
        """
        recorded = PidRecord.read(pid_file)
        if recorded is not None and recorded.alive():
            raise AlreadyRunningError(f"{name} runs already as process {recorded.pid}; stop it first.")
        program = shutil.which(arguments[0], path=None if env is None else env.get("PATH"))
        if program is None:
            raise StartError(
                f"{name} cannot be started ({arguments[0]} is no program); run 'make setup' again."
            )
        begin = log.stat().st_size if log.exists() else 0

        def spawn() -> subprocess.Popen[bytes]:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                return subprocess.Popen(
                    launched([program, *arguments[1:]], identity=identity, death_signal=stop_signal),
                    stdin=subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                    env=None if env is None else dict(env),
                    cwd=cwd,
                    start_new_session=True,
                )
            finally:
                os.close(descriptor)

        try:
            process = _SPAWNER.submit(spawn).result()
        except (OSError, subprocess.SubprocessError) as error:
            raise StartError(f"{name} cannot be started ({error}); run 'make setup' again.") from error
        with suppress(psutil.Error):
            PidRecord.of(process.pid, port).write(pid_file)
        return cls(
            name, process, log, pid_file, begin=begin, stop_signal=stop_signal, stop_seconds=stop_seconds
        )

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal), or None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """What it has put out so far, of this life only."""
        return text_after(self.log, self._begin)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Return once ``ready()`` holds.

        Raises:
            StartError: the process ended, or the time is over; the message holds the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self.exit_code is not None:
                raise StartError(self.obituary())
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready after {seconds:.0f} s.\n{self.last_lines()}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End the process and its group: the stop signal first, then, after the time it is given, SIGKILL."""
        if self.exit_code is None:
            self._process.send_signal(self._stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_seconds)
        self._kill_group()
        self._process.wait()
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End the process and its group at once, as a power cut would."""
        self._kill_group()
        self._process.wait()
        self._pid_file.unlink(missing_ok=True)

    def obituary(self) -> str:
        """How it ended and the end of its log, for people."""
        code = self.exit_code
        how = (
            f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        )
        return f"{self.name} ended {how}.\n{self.last_lines()}"

    def last_lines(self, count: int = 12) -> str:
        """The end of its log, for people."""
        return f"The last lines of {self.log}:\n" + "\n".join(last_lines(self.log, count))

    def _kill_group(self) -> None:
        # The child leads its own session, so its pid names the group even after it ended.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log, indented; of a large file only its end is read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            return [f"  {line}" for line in file.read().decode(errors="replace").splitlines()[-count:]]
    except OSError:
        return ["  (there is no log)"]


def text_after(path: Path, begin: int) -> str:
    """What a log holds from byte ``begin`` on."""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")
