"""`parley receipt`: what its commands write, tell and end with; and a block store that is read from a web server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from parley.blocks import BlockStore
from parley.cli import main
from parley.errors import OversizedError, ProofError, TransportError
from parley.receipts import PendingReceipt, issue_receipts
from parley.schemas import Receipt, encode
from parley.web_store import from_url
from tests.fix_ledger import LOG
from tests.lying_operator import REGISTRAR, ROUTER, Operator, leaving_out
from tests.synthetic_ledger import Deal, signing_key


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARLEY_PROFILE", raising=False)
    (tmp_path / "log.vkey").write_text(f"{LOG.verifier_key}\n")
    return tmp_path


@pytest.fixture
def operator() -> Operator:
    return Operator()


STORE = ("--store", "store", "--log-key", "log.vkey")


def publish(operator: Operator, folder: str = "store") -> None:
    """Write the operator's block store to a folder."""
    assert operator.files is not None
    for path, data in operator.files.items():
        file = Path(folder, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def keep(operator: Operator, deal: Deal, number: int = 0) -> Receipt:
    """Write a receipt to `kept.receipt`."""
    receipt = operator.receipts(deal)[number]
    Path("kept.receipt").write_bytes(encode(receipt))
    return receipt


class Run:
    """The command line, and what it shows."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        shown = self.text("receipt", *arguments, "--json", code=code)
        row: dict[str, Any] = json.loads(shown.out)
        return row

    def text(self, *arguments: str, code: int = 0) -> Any:
        self._capsys.readouterr()
        ended = main(list(arguments))
        shown = self._capsys.readouterr()
        assert ended == code, shown.err
        return shown

    def complaint(self, *arguments: str, code: int = 1) -> str:
        shown = self.text("receipt", *arguments, code=code)
        assert shown.out == ""
        return str(shown.err)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


class TestVerify:
    def test_tells_who_promised_what_until_when(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        receipt = keep(operator, deal, 1)
        publish(operator)
        told = run("verify", "kept.receipt", *STORE, "--registrar", REGISTRAR.hex())
        assert told["verified"] is True
        assert (told["operator"], told["sender"], told["sequence"]) == ("operator", "bank-1", 1)
        assert (told["message_id"], told["block_by"]) == (receipt.message_id.hex(), receipt.block_by)
        shown = run.text("receipt", "verify", "kept.receipt", *STORE).out
        assert "Operator plc (operator)" in shown
        assert "pipeline 0, event 1" in shown

    def test_says_that_the_key_has_ended_since(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        keep(operator, deal)
        operator.ledger.revoke("operator", ROUTER, operator.ledger.registrar)
        operator.seal()
        publish(operator)
        assert run("verify", "kept.receipt", *STORE)["key_ended_at_version"] == 6
        assert "revoked at directory version 6" in run.text("receipt", "verify", "kept.receipt", *STORE).out

    def test_refuses_one_that_was_changed(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        receipt = keep(operator, deal)
        publish(operator)
        Path("changed.receipt").write_bytes(encode(receipt._replace(block_by=receipt.block_by + 1)))
        assert "not the router's" in run.complaint("verify", "changed.receipt", *STORE)

    def test_refuses_what_is_no_receipt(self, operator: Operator, run: Run) -> None:
        publish(operator)
        Path("other").write_bytes(b"something else")
        assert "receipt: not an Avro" in run.complaint("verify", "other", *STORE)
        assert "cannot be read" in run.complaint("verify", "missing", *STORE)

    def test_needs_a_directory_from_somewhere(self, operator: Operator, run: Run) -> None:
        keep(operator, operator.ledger.trade())
        publish(operator)
        assert "no profile" in run.complaint("verify", "kept.receipt")
        run.complaint("verify", "kept.receipt", "--store", "store", code=2)
        run.complaint("verify", "kept.receipt", "--registrar", REGISTRAR.hex(), code=2)


class TestClaim:
    def test_writes_a_proof_that_verifies(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        receipt = keep(operator, deal, 2)
        publish(operator)
        told = run("claim", "kept.receipt", *STORE)
        assert (told["result"], told["block"]) == ("kept", 1)
        assert told["proof"] == f"{receipt.message_id.hex()}.proof"
        shown = run.text("verify", told["proof"], "--log-key", "log.vkey").out
        assert "Cash confirmed" in shown

    def test_writes_evidence_that_is_judged_offline(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        operator.seal_otherwise(leaving_out(deal))
        operator.pass_promises()
        keep(operator, deal)
        publish(operator)
        shown = run.text("receipt", "claim", "kept.receipt", *STORE, "--output", "case.evidence", code=1).out
        assert "BROKEN" in shown
        for path in Path("store").rglob("*"):
            if path.is_file():
                path.unlink()
        told = run("judge", "case.evidence", "--log-key", "log.vkey", "--registrar", REGISTRAR.hex())
        assert (told["broken"], told["breach"], told["operator"]) == (True, "ABSENT", "operator")
        assert "but (absent)" in run.text("receipt", "judge", "case.evidence", "--log-key", "log.vkey").out

    def test_writes_both_where_it_came_too_late(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        operator.ledger.now += 2 * 3_600_000
        operator.seal()
        keep(operator, deal)
        publish(operator)
        told = run("claim", "kept.receipt", *STORE, "--output", "late.evidence", code=1)
        assert (told["result"], told["breach"], told["late"]) == ("broken", "LATE", True)
        assert run("judge", "late.evidence", "--log-key", "log.vkey")["breach"] == "LATE"
        run.text("verify", "late.proof", "--log-key", "log.vkey")

    def test_says_when_to_ask_again(
        self, operator: Operator, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deal = operator.ledger.open()
        receipt = keep(operator, deal)
        publish(operator)
        monkeypatch.setattr("parley.cli.receipts.time.time", lambda: receipt.block_by / 1_000 - 1)
        told = run("claim", "kept.receipt", *STORE, code=1)
        assert told == {
            "receipt": "kept.receipt",
            "result": "too early",
            "ask_after": receipt.block_by,
            "sealed_at": operator.store().header(0).sealed_at,
            "covered": False,
            "past": False,
        }
        soon = run.text("receipt", "claim", "kept.receipt", *STORE, code=1).out
        assert "Ask again then" in soon
        assert "stands still" not in soon

    def test_says_that_a_log_stands_still(
        self, operator: Operator, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receipt = keep(operator, operator.ledger.open())
        publish(operator)
        monkeypatch.setattr("parley.cli.receipts.time.time", lambda: receipt.block_by / 1_000 + 1)
        shown = run.text("receipt", "claim", "kept.receipt", *STORE, code=1).out
        assert "the log stands still" in shown

    def test_refuses_a_log_of_another_key(self, operator: Operator, run: Run) -> None:
        keep(operator, operator.ledger.trade())
        operator.seal()
        publish(operator)
        other = LOG.verifier_key._replace(public_key=signing_key("another log").public)
        Path("other.vkey").write_text(f"{other}\n")
        assert "no known key" in run.complaint(
            "claim", "kept.receipt", "--store", "store", "--log-key", "other.vkey"
        )

    def test_takes_the_event_of_a_repeated_receipt_besides(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        first = keep(operator, deal)
        Path("first.receipt").write_bytes(encode(first))
        pending = PendingReceipt(first.message_id, first.event_digest, None, first.block_by)
        Path("kept.receipt").write_bytes(encode(issue_receipts([pending], ROUTER)[0]))
        operator.pass_promises()
        publish(operator)
        told = run("claim", "kept.receipt", *STORE, "--body", "first.receipt", "--output", "x", code=1)
        assert told["breach"] == "LATE"

    def test_takes_many_at_once_and_goes_on_where_one_is_none(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        publish(operator)
        names = []
        for number, receipt in enumerate(operator.receipts(deal)):
            names.append(f"{number}.receipt")
            Path(names[-1]).write_bytes(encode(receipt))
        run.text("receipt", "claim", *names, *STORE, "--evidence-only")
        assert not list(Path().glob("*.proof"))
        Path("1.receipt").write_bytes(b"no receipt")
        shown = run.text("receipt", "claim", *names, *STORE, "--json", code=1)
        assert [json.loads(line)["receipt"] for line in shown.out.splitlines()] == [names[0], *names[2:]]
        assert shown.err.startswith("parley: 1.receipt: receipt: not an Avro")
        assert len(list(Path().glob("*.proof"))) == 3
        run.complaint("claim", *names, *STORE, "--output", "x", code=2)

    def test_replaces_no_file(self, operator: Operator, run: Run) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        keep(operator, deal)
        publish(operator)
        run("claim", "kept.receipt", *STORE, "--output", "a.proof")
        assert "exists already" in run.complaint("claim", "kept.receipt", *STORE, "--output", "a.proof")


class TestJudge:
    def test_accuses_nobody_by_what_is_no_evidence(self, run: Run) -> None:
        Path("x.evidence").write_bytes(b"hearsay")
        assert "evidence file: not an Avro" in run.complaint("judge", "x.evidence", "--log-key", "log.vkey")


class TestFind:
    def test_writes_the_proof_of_what_a_refusal_says_is_on_the_record(
        self, operator: Operator, run: Run
    ) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        publish(operator)
        name = operator.receipts(deal)[3].message_id.hex()
        assert run("find", name, *STORE) == {"proof": f"{name}.proof"}
        assert "Delivered" in run.text("verify", f"{name}.proof", "--log-key", "log.vkey").out

    def test_says_what_is_no_id_and_what_is_not_there(self, operator: Operator, run: Run) -> None:
        publish(operator)
        assert "64 hexadecimal digits" in run.complaint("find", "abc", *STORE)
        assert "in none of the 1 blocks" in run.complaint("find", bytes(32).hex(), *STORE)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as it is called above
        pass

    def do_GET(self) -> None:
        if "broken" in self.path:
            self.send_error(503)
        else:
            super().do_GET()


@pytest.fixture
def address(elsewhere: Path) -> Iterator[str]:
    """A web server that serves the test's folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(elsewhere)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class TestAStoreOnAWebServer:
    def test_is_claimed_against_as_a_folder_is(self, operator: Operator, run: Run, address: str) -> None:
        deal = operator.ledger.trade()
        operator.seal()
        keep(operator, deal)
        publish(operator)
        told = run("claim", "kept.receipt", "--store", f"{address}/store/", "--log-key", "log.vkey")
        assert told["result"] == "kept"

    def test_says_what_is_missing(self, operator: Operator, address: str) -> None:
        with pytest.raises(ProofError, match="checkpoint: missing"):
            BlockStore(from_url(f"{address}/nowhere"), LOG.verifier_key)

    def test_says_that_the_server_refuses_or_is_gone(self, address: str) -> None:
        with pytest.raises(TransportError, match=r"broken/checkpoint is refused: 503"):
            from_url(f"{address}/broken")("checkpoint")
        with pytest.raises(TransportError, match="cannot be read"):
            from_url("http://127.0.0.1:1")("checkpoint")

    def test_takes_no_file_without_end(
        self, operator: Operator, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(operator)
        monkeypatch.setattr("parley.web_store.FILE_BYTES", 10)
        with pytest.raises(OversizedError, match="no file of a block store"):
            from_url(f"{address}/store")("checkpoint")

    def test_is_reached_by_no_other_scheme(self) -> None:
        with pytest.raises(TransportError, match="no http or https address"):
            from_url("file:///etc")
