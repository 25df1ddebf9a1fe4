"""What a child does before it is the program that was asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.errors import StartError
from deploy.launch import Identity, launched
from deploy.process import ChildProcess


def run(arguments: list[str], identity: Identity = Identity.OURS) -> subprocess.CompletedProcess[str]:
    program = shutil.which(arguments[0]) or arguments[0]
    command = launched([program, *arguments[1:]], identity=identity)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_its_arguments_and_exit_code_are_the_programs() -> None:
    told = run(["sh", "-c", 'printf "%s|" "$0" "$@"; exit 7', "a b", "", "-I", "$c"])
    assert told.stdout == "a b||-I|$c|"
    assert told.returncode == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_root_becomes_nobody() -> None:
    assert run(["id", "-un"]).stdout == "root\n"
    assert run(["id", "-un"], Identity.NOBODY).stdout == "nobody\n"
    assert run(["id", "-G"], Identity.NOBODY).stdout == run(["id", "-g"], Identity.NOBODY).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is masked")
def test_masked_root_still_owns_its_files(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    told = run(["sh", "-c", f"id -un; touch {tmp_path}/made"], Identity.MASKED)
    if "no user namespace" in told.stderr:
        pytest.skip(f"this kernel allows no user namespace: {told.stderr}")
    assert told.stdout == "nobody\n"
    assert (tmp_path / "made").stat().st_uid == 0


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_same_signals_are_ignored_as_without_it() -> None:
    command = ["sh", "-c", "grep SigIgn /proc/self/status"]
    directly = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run(command).stdout == directly.stdout


def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing")
    told = run([missing])
    assert told.returncode == 1
    assert told.stderr == f"{missing} cannot be run: [Errno 2] No such file or directory\n"
    with pytest.raises(StartError, match="part cannot be started"):
        ChildProcess.start("part", [missing], log=tmp_path / "log", pid_file=tmp_path / "pid")
