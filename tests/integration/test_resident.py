"""A backbone that stays, through the commands behind `make up`, `make status`, `make logs` and `make down`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from deploy import resident
from deploy.compiled import compiled_root
from deploy.errors import StartError
from deploy.folder import CHECKOUT, StackFolder
from deploy.process import PidRecord
from deploy.stack import Endpoints
from router.service import STARTED
from streams.catalogue import INGEST
from streams.reader import Reader

PARTS = {
    "kafka",
    "postgres",
    "anvil",
    "router-0",
    "router-1",
    "delivery",
    "admission",
    "blockbuilder",
    "anchor",
    "ledger",
}
PATIENCE_SECONDS = 120

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StackFolder:
    return StackFolder(tmp_path_factory.mktemp("resident") / "stack")


@pytest.fixture(scope="module")
def command(folder: StackFolder) -> Command:
    """Runs ``python -m deploy`` on the folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy", "--folder", folder.root, *arguments],
            cwd=CHECKOUT,
            env=os.environ | {"PARLEY_STACK_FLUSH": "false", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture
def up(command: Command) -> Iterator[str]:
    """A backbone that is up; gives what was told about it."""
    told = command("up")
    try:
        assert told.returncode == 0, told.stderr
        yield told.stdout
    finally:
        command("down")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_before_anything_was_started_that_is_what_is_told(command: Command) -> None:
    for arguments, code in ((["status"], 1), (["down"], 0), (["logs"], 1)):
        told = command(*arguments)
        assert told.returncode == code
        assert re.search("No backbone runs|no such log", told.stdout + told.stderr)


def test_a_port_in_use_keeps_it_from_coming_up_and_is_named(
    command: Command, folder: StackFolder, monkeypatch: pytest.MonkeyPatch, taken_port: int
) -> None:
    monkeypatch.setenv("PARLEY_STACK_ANVIL_PORT", str(taken_port))
    told = command("up")
    assert told.returncode == 1
    assert f"Port {taken_port}, wanted for anvil, is in use" in told.stderr
    assert "Traceback" not in told.stdout + told.stderr
    assert not list(folder.run.glob("*.pid"))


def test_a_start_that_comes_second_leaves_the_first_alone(
    command: Command, folder: StackFolder, up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that found nothing running when it looked."""
    monkeypatch.setattr(resident, "take_lock", lambda _: os.open(os.devnull, os.O_RDONLY))
    with pytest.raises(StartError, match="already"):
        resident.start_resident(folder, tell=lambda _: None)
    assert command("status").returncode == 0


def test_it_outlives_the_command_heals_itself_and_stops_when_told(
    command: Command, folder: StackFolder, up: str
) -> None:
    assert "make status" in up
    status = command("status")
    assert status.returncode == 0
    assert set(status.stdout.split()) >= PARTS

    again = command("up")
    assert again.returncode == 1
    assert "already" in again.stderr

    assert "service.ready" in command("logs", "delivery").stdout

    routers = [folder.log_file(f"router-{number}").read_text().splitlines() for number in range(2)]
    started = [json.loads(line) for lines in routers for line in lines if f'"{STARTED}"' in line]
    assert {event["compiled"] for event in started} == {compiled_root() != CHECKOUT}

    killed = PidRecord.read(folder.pid_file("delivery"))
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    await_condition(
        lambda: command("status").returncode == 0 and PidRecord.read(folder.pid_file("delivery")) != killed
    )
    assert "delivery ended by SIGKILL" in command("logs", "stack", "--lines", "100").stdout

    pids = [record.pid for file in folder.run.glob("*.pid") if (record := PidRecord.read(file))]
    assert command("down").returncode == 0
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not list(folder.run.glob("*.pid"))


def test_it_grows_when_asked_and_does_not_shrink_again(
    command: Command, folder: StackFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipelines() -> int:
        return Reader(Endpoints.read(folder).admin).partitions(INGEST)

    monkeypatch.setenv("PARLEY_STACK_ROUTERS", "3")
    monkeypatch.setenv("PARLEY_STACK_PIPELINES", "3")
    try:
        assert command("up").returncode == 0
        assert "router-2" in command("status").stdout.split()
        assert pipelines() == 3
        assert command("down").returncode == 0
        monkeypatch.undo()
        assert command("up").returncode == 0
        assert "router-2" not in command("status").stdout.split()
        assert pipelines() == 3
    finally:
        command("down")


def await_condition(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.1)
