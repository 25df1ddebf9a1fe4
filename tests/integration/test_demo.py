"""The demonstration at a small scale, as people run it: all scenarios on real processes, its refusals, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from deploy.demo.command import verify
from deploy.demo.folder import DemoFolder
from deploy.folder import CHECKOUT
from parley.errors import ProofError
from parley.proof import verify_proof

pytestmark = pytest.mark.timeout(420)

TRADES = 30
RUN_SECONDS = 300

OTHERWISE = """
import sys
from deploy.demo.reference import EXPECTED, Ending, Scenario
EXPECTED[Scenario.DECLINED] = Ending.SETTLED
from deploy.demo.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
"""The demonstration, but with other expectations than its banks have."""


class Finished(NamedTuple):
    folder: DemoFolder
    exit_code: int
    output: str
    progress: str

    @property
    def summary(self) -> dict[str, object]:
        value = json.loads(self.folder.summary.read_text())
        assert isinstance(value, dict)
        return value

    @property
    def proofs(self) -> list[Path]:
        return sorted(self.folder.proofs.iterdir())


def run(folder: Path, *options: str, program: Sequence[str] = ("-m", "deploy.demo")) -> Finished:
    result = subprocess.run(
        [sys.executable, *program, "--folder", folder, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        timeout=RUN_SECONDS,
    )
    return Finished(DemoFolder(folder), result.returncode, result.stdout, result.stderr)


def running_in(folder: Path) -> list[str]:
    """The processes that were told of the folder, by argument or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(folder) in each for each in told):
            found.append(" ".join(process.cmdline()))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of 30 trades with every scenario among them."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    options = ("--trades", str(TRADES), "--deadline", "20", "--rate", "10", "--json", "--keep")
    return run(folder, *options)


def test_every_trade_ends_as_its_scenario_says_and_everything_verifies(finished: Finished) -> None:
    assert finished.exit_code == 0, finished.progress
    summary = finished.summary
    assert summary["good"] is True
    outcomes = [summary[name] for name in ("trades", "settled", "declined", "timed_out")]
    assert outcomes == [30, 24, 1, 5]
    assert summary["refused"] == 1
    assert summary["proofs_verified"] == len(finished.proofs) == 25
    assert summary["blocks"] == summary["log_size"]
    assert summary["anchors_final"]
    assert {"start", "trading", "audit", "total"} <= set(summary["seconds"])  # type: ignore[call-overload]


def test_the_summary_on_the_output_is_the_one_in_the_file(finished: Finished) -> None:
    assert json.loads(finished.output) == finished.summary


def test_a_pipe_gets_plain_lines(finished: Finished) -> None:
    assert "\x1b" not in finished.progress
    assert "the regulator and the banks connect" in finished.progress


def test_any_changed_byte_of_a_proof_is_refused(finished: Finished) -> None:
    log_key = finished.folder.public.verifier_key.read_text().strip()
    proof = finished.proofs[0].read_bytes()
    verify_proof(proof, log_key)
    for place in range(len(proof)):
        changed = bytearray(proof)
        changed[place] ^= 0x01
        with pytest.raises(ProofError):
            verify_proof(bytes(changed), log_key)


def test_the_command_refuses_a_tampered_proof_and_says_why(finished: Finished, tmp_path: Path) -> None:
    log_key = finished.folder.public.verifier_key
    good = verify(finished.proofs[0], log_key)
    assert good.good
    assert "said by" in good.output
    tampered = tmp_path / "tampered.proof"
    tampered.write_bytes(finished.proofs[0].read_bytes()[:-1])
    bad = verify(tampered, log_key)
    assert bad.exit_code == 1
    assert bad.output.startswith("parley: ")


def test_nobody_else_may_read_secrets_orders_or_logs(finished: Finished) -> None:
    folder = finished.folder.stack
    for private in (folder.secrets, folder.logs, folder.run):
        assert private.stat().st_mode & 0o077 == 0
    assert any(folder.secrets.iterdir())


def test_nothing_is_left_running_at_the_end(finished: Finished) -> None:
    assert running_in(finished.folder.root) == []


def test_a_trade_that_ends_otherwise_than_its_scenario_says_makes_the_exit_code_bad(tmp_path: Path) -> None:
    folder = tmp_path / "otherwise"
    result = run(folder, "--trades", "5", "--deadline", "20", program=("-c", OTHERWISE))
    assert result.exit_code == 1, result.output
    assert "✗ every trade ended as its scenario says" in result.output
    told = " ".join(result.output.split())
    assert "(declined): declined to the deliverer, declined to the receiver" in told
    assert "\x1b" not in result.output
    assert result.summary["good"] is False
    assert not result.folder.stack.secrets.exists()


def test_an_interrupted_run_stops_all_it_started(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "interrupted")
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.demo", "--trades", "10", "--folder", folder.root],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    try:
        deadline = time.monotonic() + RUN_SECONDS
        while not any("bank.connected" in log.read_text() for log in folder.stack.logs.glob("bank-*.log")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "everything is stopped" in output
    assert running_in(folder.root) == []
    assert not folder.stack.secrets.exists()
