"""The demonstration at a small scale, as people run it: all scenarios on real processes, its refusals, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from deploy.demo.command import PARLEY, verify
from deploy.demo.folder import DemoFolder
from deploy.demo.orders import Report, read
from deploy.demo.reference import pairs, select, trades
from deploy.folder import CHECKOUT
from deploy.stack import Stack, StackSettings
from parley.blocks import BlockStore, from_folder
from parley.errors import ProofError
from parley.note import parse_verifier_key
from parley.proof import verify_proof
from parley.workflows.settlement.steps import KIND
from streams.reader import Reader

pytestmark = pytest.mark.timeout(420)

TRADES = 30
REGULATOR = "ecbfdeff"
SETTLED = "received. Settled on 2026-11-"
"""What the last word of a trade that settles says."""
RUN_SECONDS = 300


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


def run(folder: Path, *options: str) -> Finished:
    result = subprocess.run(
        [sys.executable, "-m", "deploy.demo", "--folder", folder, *options],
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
    assert summary["refused_by_reason"] == {"DEADLINE_PASSED": 1, "GRANT_REQUIRED": 1}
    assert summary["refused"] == 2
    assert summary["proofs_verified"] == len(finished.proofs) == 25
    assert summary["blocks"] == summary["log_size"]
    assert summary["anchors_final"]
    assert {"start", "trading", "audit", "total"} <= set(summary["seconds"])  # type: ignore[call-overload]


def test_all_that_the_banks_say_is_private_and_each_channel_is_opened_and_closed(finished: Finished) -> None:
    summary, chosen = finished.summary, select(trades(), TRADES)
    said = {KIND: sum(trade.messages for trade in chosen), "channel": 2 * len(pairs(chosen))}
    assert summary["messages_by_kind"] == said
    assert summary["messages"] == summary["private"] == sum(said.values())
    assert summary["in_clear"] == 0
    assert summary["channels"] == len(pairs(chosen))


def test_the_regulator_reads_every_trade_and_nothing_else(finished: Finished) -> None:
    summary = finished.summary
    assert summary["unread_by_regulator"] == {"channel": 2 * len(pairs(select(trades(), TRADES)))}
    outcomes = [row["outcomes"] for row in summary["by_isin"].values()]  # type: ignore[attr-defined]
    assert sum(row.get("settled", 0) for row in outcomes) == summary["settled"]


def test_the_summary_on_the_output_is_the_one_in_the_file(finished: Finished) -> None:
    assert json.loads(finished.output) == finished.summary


def test_a_pipe_gets_plain_lines(finished: Finished) -> None:
    assert "\x1b" not in finished.progress
    assert "the regulator and the banks connect" in finished.progress


def test_a_changed_byte_of_a_proof_is_refused_wherever_it_is(finished: Finished) -> None:
    """Every sixteenth; every single one of a proof is tried in the properties of proofs."""
    log_key = finished.folder.public.verifier_key.read_text().strip()
    proof = finished.proofs[0].read_bytes()
    verify_proof(proof, log_key)
    for place in range(0, len(proof), 16):
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


class TestATradeThatSettled:
    """Whoever holds the keystore of one who may read it does; nobody else does, and anybody can prove it."""

    @pytest.fixture
    def parties(self, finished: Finished) -> dict[str, str]:
        """Each bank of the first trade that settled, with the transaction."""
        reports = [read(path, Report) for path in finished.folder.stack.secrets.glob("*.report.json")]
        said = [(bank.participant, trade) for bank in reports for trade in bank.trades]
        uti = next(trade.uti for _, trade in said if trade.ending == "settled")
        return {name: trade.transaction for name, trade in said if trade.uti == uti}

    def shown(self, finished: Finished, transaction: str, by: str) -> str:
        """What ``parley tx show`` says of it with the keystore of one participant."""
        folder = finished.folder
        place = ("--store", folder.public.store, "--log-key", folder.public.verifier_key)
        command: list[str | Path] = [
            PARLEY,
            "tx",
            "show",
            transaction,
            *place,
            "--profile",
            folder.profile(by),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def test_is_read_by_its_banks_and_the_regulator(
        self, finished: Finished, parties: dict[str, str]
    ) -> None:
        for name, transaction in {**parties, REGULATOR: next(iter(parties.values()))}.items():
            shown = self.shown(finished, transaction, name)
            assert SETTLED in shown
            assert "not readable" not in shown

    def test_is_read_by_no_other_bank_nor_the_auditor(
        self, finished: Finished, parties: dict[str, str]
    ) -> None:
        (transaction,) = set(parties.values())
        others = {"auditor", "ubswchzh", "ingbnl2a", "cedelull"} - set(parties)
        for name in others:
            shown = self.shown(finished, transaction, name)
            assert shown.count(f"not readable by {name}") == 4
            assert SETTLED not in shown

    def test_is_proved_over_ciphertext(self, finished: Finished, parties: dict[str, str]) -> None:
        (transaction,) = set(parties.values())
        proof = finished.folder.proofs / f"{transaction}.proof"
        verdict = verify(proof, finished.folder.public.verifier_key)
        assert verdict.good
        assert "(encrypted" in verdict.output
        assert SETTLED not in verdict.output


class TestNothingOfANegotiationInClear:
    """What is searched for stands in every trade that settles, and in every bank's own orders."""

    PHRASES = (b"SctiesSttlmTx", b"iso:20022:tech:xsd", b"SttlmAmt", b"is blocked", b"we do not pay")

    @pytest.fixture
    def phrases(self) -> list[bytes]:
        chosen = select(trades(), TRADES)
        planted = {trade.uti for trade in chosen} | {trade.receiver_cash_account for trade in chosen}
        return [*self.PHRASES, *(text.encode() for text in planted)]

    def test_stands_in_any_file_but_the_banks_own(self, finished: Finished, phrases: list[bytes]) -> None:
        found = {
            path.relative_to(finished.folder.root)
            for path in finished.folder.root.rglob("*")
            if path.is_file() and any(phrase in path.read_bytes() for phrase in phrases)
        }
        assert found
        assert all(
            path.match("secrets/*.orders.json")
            or path.match("secrets/*.report.json")
            or path.match("secrets/*.instructions/*.xml")
            for path in found
        )

    def test_stands_in_any_block(self, finished: Finished, phrases: list[bytes]) -> None:
        log_key = parse_verifier_key(finished.folder.public.verifier_key.read_text().strip())
        store = BlockStore(from_folder(finished.folder.public.store), log_key)
        events = [data for block in store.blocks() for sealed in block.transactions for data in sealed.events]
        assert any(KIND.encode() in data for data in events)
        assert not [phrase for phrase in phrases if any(phrase in data for data in events)]

    def test_stands_in_any_topic(self, finished: Finished, phrases: list[bytes]) -> None:
        seen: dict[str, list[bytes]] = {}
        with Stack(finished.folder.stack, StackSettings(postgres=False, kafka_optimised=False)) as stack:
            admin = stack.endpoints.admin
            reader = Reader(admin)
            topics = AdminClient(admin.client()).list_topics(timeout=30).topics
            for topic in (name for name in topics if not name.startswith("__")):
                seen[topic] = [
                    data
                    for partition in range(reader.partitions(topic))
                    for record in reader.read_partition(topic, partition)
                    for data in (record.key(), record.value())
                    if data is not None
                ]
        said = {topic for topic, records in seen.items() if any(KIND.encode() in data for data in records)}
        assert {"ingest", "firehose", "deliveries"} <= said
        assert any(topic.startswith("inbox.") for topic in said)
        assert not [
            (topic, phrase)
            for topic, records in seen.items()
            for phrase in phrases
            if any(phrase in data for data in records)
        ]


def test_nobody_else_may_read_secrets_orders_or_logs(finished: Finished) -> None:
    folder = finished.folder.stack
    for private in (folder.secrets, folder.logs, folder.run):
        assert private.stat().st_mode & 0o077 == 0
    assert any(folder.secrets.iterdir())


def test_nothing_is_left_running_at_the_end(finished: Finished) -> None:
    assert running_in(finished.folder.root) == []


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
