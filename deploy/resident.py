"""A backbone that stays, from outside: starting it, seeing how it is, stopping it; `deploy.supervisor` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from deploy.errors import NotRunningError, StartError
from deploy.folder import CHECKOUT, StackFolder
from deploy.ports import accepts
from deploy.process import PidRecord, text_after
from deploy.stack import Endpoints, StackSettings, end_leftovers, take_lock

NAME: Final = "stack"
"""Of the log and the pid file of the process that runs it all."""
UP: Final = "The backbone is up."
"""What that process logs once all works."""
FAILED: Final = "The backbone did not come up: "
"""What it logs before the reason, if not."""

_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One process as people see it. ``problem`` says what is wrong with one that is not healthy."""

    name: str
    pid: int | None
    port: int | None
    since: datetime | None
    problem: str | None

    @property
    def healthy(self) -> bool:
        return self.problem is None


def start_resident(folder: StackFolder, *, tell: Callable[[str], None]) -> Endpoints:
    """Start the backbone in a process of its own, and return once all of it works; ``tell`` gets its progress.

    Raises:
        AlreadyRunningError: it runs already.
        StartError: it did not come up; the message says why, and nothing is left running.
    """
    folder.create()
    os.close(take_lock(folder))
    StackSettings()  # told at once if they are wrong
    log = folder.log_file(NAME)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    told = log.stat().st_size
    try:
        process = psutil.Popen(
            [sys.executable, "-m", "deploy", "--folder", str(folder.root), "run"],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd=CHECKOUT,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    try:
        _follow(process, log, told, tell)
    except BaseException:
        _end(process)  # and only it: what runs in the folder may be that of another start, which came first
        raise
    return Endpoints.read(folder)


def _follow(process: psutil.Popen, log: Path, told: int, tell: Callable[[str], None]) -> None:
    """Tell what the process logs beyond byte ``told``, until it says that all is up."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        ended = process.poll() is not None
        text = text_after(log, told)
        lines, _, _ = text.rpartition("\n")
        if UP in lines.splitlines():
            return
        if FAILED in text:
            _end(process)  # it still stops what it had started
            raise StartError(FAILED + text_after(log, told).partition(FAILED)[2].strip())
        if ended:
            raise StartError(f"{FAILED}its process ended.\n{text.strip()}")
        if time.monotonic() > deadline:
            raise StartError(f"The backbone was not up after {_START_SECONDS:.0f} s; see {log}.")
        for line in lines.splitlines():
            tell(line)
        told += len(lines.encode()) + (1 if lines else 0)
        time.sleep(_POLL_SECONDS)


def stop_resident(folder: StackFolder) -> None:
    """Stop the backbone, and what a killed one left running; its data stays.

    Raises:
        NotRunningError: nothing runs.
    """
    record = PidRecord.read(folder.pid_file(NAME))
    if record is not None and record.alive():
        _end(psutil.Process(record.pid))
    elif not any(status.pid for status in part_statuses(folder)):
        end_leftovers(folder)
        raise NotRunningError(f"No backbone runs in {folder.root}.")
    end_leftovers(folder)


def _end(process: psutil.Process) -> None:
    """Have it stop what it runs, and end; kill it if that takes too long."""
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)


def part_statuses(folder: StackFolder) -> list[PartStatus]:
    """Each process of the backbone, the servers and services by name; empty if none was started or all were stopped."""
    return [_status(folder, pid_file.stem) for pid_file in sorted(folder.run.glob("*.pid"))]


def _status(folder: StackFolder, name: str) -> PartStatus:
    record = PidRecord.read(folder.pid_file(name))
    if record is None or not record.alive():
        return PartStatus(name, None, None, None, "it is not running; see its log")
    since = datetime.fromtimestamp(record.started, UTC).astimezone()
    silent = record.port is not None and not accepts(record.port)
    problem = f"nothing answers on port {record.port}" if silent else None
    return PartStatus(name, record.pid, record.port, since, problem)
