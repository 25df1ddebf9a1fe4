"""A purge on a running backbone: from the operator's statement to blocks and topics without the body, and everything goes on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from blockbuilder import purge, trim
from deploy.backbone import Participant as Joining
from deploy.folder import CHECKOUT
from parley.audit import AuditReport, audit
from parley.blocks import BlockStore, from_folder
from parley.claim import Kept, claim
from parley.deal import Deal
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.errors import CursorError, FirehoseError, ProofError, RefusedError
from parley.events import read_spoken
from parley.firehose import Follower
from parley.identifiers import parse_transaction_id, transaction_text
from parley.kafka import TopicReader
from parley.lookup import Lookup, Place
from parley.note import NoteSigner
from parley.proof import make_proof, verify_proof
from parley.receipts import read_receipt
from parley.recorded import prove_resent
from parley.schemas import AnchorEvent, FirehoseEvent, Hash, Receipt, TransactionId, decode, encode, is_a
from streams.catalogue import ANCHORS, DELIVERIES, FIREHOSE, INGEST, Role, inbox_topic
from streams.writer import write
from tests.fix_backbone import RunningBackbone, entry_of
from tests.integration.test_cli import Desk
from tests.purging import holds
from tests.synthetic_ledger import signing_key

pytestmark = pytest.mark.timeout(240)

BODY = b"the client, born on 1 April 1970"
SECONDS = 60.0
BRIEFLY = timedelta(seconds=2)


def wait_until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS:.0f} s for {what()}"
        time.sleep(0.2)


@dataclass
class Sealed:
    """A running backbone with a block builder, and the store that it fills."""

    running: RunningBackbone
    folder: Path
    builder: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.signer = NoteSigner("ledger.example/log", self.running.backbone.key("blockbuilder"))
        self.log_key = self.folder / "log.vkey"
        self.log_key.write_text(str(self.signer.verifier_key))

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        secrets, prefix = self.running.backbone.folder, "PARLEY_BLOCKBUILDER_"
        environment = os.environ | {
            f"{prefix}KAFKA_BOOTSTRAP": self.running.backbone.admin.bootstrap,
            f"{prefix}KAFKA_USERNAME": "blockbuilder",
            f"{prefix}KAFKA_PASSWORD_FILE": str(secrets.password_file("blockbuilder")),
            f"{prefix}STORE": str(self.log),
            f"{prefix}ORIGIN": self.signer.name,
            f"{prefix}KEY": str(secrets.secrets / "blockbuilder.seed"),
            f"{prefix}SEAL_INTERVAL_MS": "200",
        }
        with (self.folder / "builder.log").open("ab") as output:
            self.builder = subprocess.Popen(
                [sys.executable, "-m", "blockbuilder"],
                cwd=CHECKOUT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        if self.builder is not None:
            self.builder.terminate()
            self.builder.wait(SECONDS)

    def store(self) -> BlockStore:
        return BlockStore(from_folder(self.log), self.signer.verifier_key)

    def place(self, identity: TransactionId) -> Place | None:
        try:
            return Lookup(self.store()).transaction(identity)
        except ProofError:
            return None

    def await_sealed(self, identity: TransactionId) -> Place:
        wait_until(
            lambda: self.place(identity) is not None,
            lambda: f"a block: {(self.folder / 'builder.log').read_text()}",
        )
        place = self.place(identity)
        assert place is not None
        return place

    def anchor(self) -> None:
        """Tell that the newest checkpoint is final on a chain, as the anchor does."""
        checkpoint = self.store().checkpoint
        event = AnchorEvent(
            "eip155:31337",
            "0x00",
            checkpoint.size,
            Hash(checkpoint.root),
            "FINAL",
            bytes(32),
            1,
            bytes(32),
            6,
            None,
            0,
            "",
        )
        write(self.running.backbone.admin, ANCHORS, encode(event))

    def on(self, topic: str, partition: int = 0) -> bool:
        """Whether the body is in any record that a topic still has."""
        records = self.running.reader().read_partition(topic, partition)
        return any(BODY in (record.value() or b"") for record in records)

    def audit(self) -> AuditReport:
        return audit(self.store(), self.running.registrar)

    def trim(self, capsys: pytest.CaptureFixture[str], *which: str) -> tuple[int, str]:
        capsys.readouterr()
        code = trim.main([str(self.log), "--log-key", str(self.log_key), *which])
        told = capsys.readouterr()
        return code, told.out + told.err


@pytest.fixture
def sealed(
    running_backbone: RunningBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sealed]:
    admin = running_backbone.backbone.admin
    (tmp_path / "admin.password").write_text(admin.password)
    monkeypatch.setenv("PARLEY_TRIM_KAFKA_BOOTSTRAP", admin.bootstrap)
    monkeypatch.setenv("PARLEY_TRIM_KAFKA_USERNAME", admin.username)
    monkeypatch.setenv("PARLEY_TRIM_KAFKA_PASSWORD_FILE", str(tmp_path / "admin.password"))
    # What has ended is forgotten at once, so that the router's state lacks nothing that could be trimmed.
    running_backbone.processes["router-1"].stop()
    running_backbone.start("router", remembered_ms="0")
    made = Sealed(running_backbone, tmp_path)
    made.start()
    yield made
    made.stop()


def receipts_of(running: RunningBackbone, identity: TransactionId, *banks: str) -> Iterator[Receipt]:
    """The receipts of a transaction in the banks' inboxes."""
    for bank in banks:
        for record in running.reader().read_partition(inbox_topic(bank), 0):
            value = record.value() or b""
            if is_a(value, Receipt):
                receipt = read_receipt(value)
                if decode(receipt.event or b"", FirehoseEvent).transaction_id == identity:
                    yield receipt


def proved_by_receipts(sealed: Sealed, deal: Deal, *banks: str) -> Iterator[bytes]:
    """What the banks' receipts of a deal prove, held against the store."""
    for receipt in receipts_of(sealed.running, deal.id, *banks):
        found = claim(sealed.store(), receipt, sealed.running.registrar)
        assert isinstance(found, Kept)
        yield verify_proof(found.proof, sealed.signer.verifier_key).message.content


async def sent_again(running: RunningBackbone, identity: TransactionId, bank: str) -> RefusedError:
    """The refusal of the last thing that a bank said in a transaction, when it says it once more."""
    *_, last = receipts_of(running, identity, bank)
    spoken = read_spoken(decode(last.event or b"", FirehoseEvent))
    assert spoken is not None
    async with running.connect(bank) as me:
        with pytest.raises(RefusedError) as refused:
            await me.submit(spoken.message)
    return refused.value


async def negotiate(running: RunningBackbone, *words: bytes) -> Deal:
    """A finished deal of alice's and bob's on pipeline 0, in which they say these words in turn."""
    async with running.connect("alice") as alice, running.connect("bob") as bob:
        deal = await alice.open(
            ["bob"],
            kind="negotiation",
            deadline=timedelta(minutes=5),
            open_until=BRIEFLY,
            pipeline=0,
            content=words[0],
        )
        theirs = await anext(bob.opened())
        for word in words[1:-1]:
            await theirs.send(word)
        await theirs.finish(words[-1])
        async for _ in deal:
            pass
        return deal


def test_a_body_goes_from_blocks_and_topics_on_a_statement_and_everything_goes_on(
    sealed: Sealed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = sealed.running
    running.join("alice", "bob")
    running.join_reader("reader", Role.REGULATOR)
    joining = [("desk", "OPERATOR"), ("watchdog", "REGULATOR")]
    running.backbone.join(
        [
            Joining(
                name,
                f"password-of-{name}",
                Role.PARTICIPANT,
                (name,),
                seal(DIRECTORY_ENTRY_TYPE, entry_of(name)._replace(role=role), signing_key(name)),  # type: ignore[arg-type]
            )
            for name, role in joining
        ]
    )
    running.backbone.await_admission([name for name, _ in joining])

    # Something is said that must go, and it is sealed.
    deal = asyncio.run(negotiate(running, b"hello", BODY, b"done"))
    forgotten_at = time.time() + 2 * BRIEFLY.total_seconds()
    place = sealed.await_sealed(deal.id)._replace(event_index=1)
    before = make_proof(Lookup(sealed.store()), place)
    assert holds(sealed.log, BODY)
    everywhere = [(FIREHOSE, 0), (INGEST, 0), (DELIVERIES, 0)]
    assert all(sealed.on(*topic) for topic in everywhere)

    # A bank cannot have it purged, the operator can.
    store = ["--store", str(sealed.log), "--log-key", str(sealed.log_key), "--with", "watchdog"]
    why = ["--reason", "GDPR Art. 17", "--requested-by", "data protection authority, case 7"]
    what = ["erase", transaction_text(deal.id), "--message", "1", *store, *why]
    alice = Desk(running, tmp_path, "alice", "password-of-alice", signing_key("alice"))
    assert "alice is not an operator in the directory" in alice.fail(capsys, *what)
    desk = Desk(running, tmp_path, "desk", "password-of-desk", signing_key("desk"))
    (stated,) = desk.run(capsys, *what)
    assert (stated["outcome"], stated["messages"]) == ("FINISHED", 1)
    statement = str(stated["statement"])
    sealed.await_sealed(parse_transaction_id(statement))

    line = [str(sealed.log), "--log-key", str(sealed.log_key), "--registrar", running.registrar.hex()]
    assert purge.main([*line, "--statement", statement, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["purged"] == 1
    assert not holds(sealed.log, BODY)
    report = sealed.audit()
    assert report.violations == ()
    assert (report.purged, report.purges_due) == (1, 0)
    log_key = str(sealed.signer.verifier_key)
    assert verify_proof(before, log_key).message.content == BODY

    # What the router promised was kept, and who has a receipt proves it, of what was purged too.
    assert sorted(proved_by_receipts(sealed, deal, "alice", "bob")) == [b"done", b"hello", BODY]

    # The topics' past goes once a chain vouches for the blocks, and no further than is sealed.
    code, told = sealed.trim(capsys, "--statement", statement)
    assert code == 1
    assert "no anchor is final yet" in told
    sealed.anchor()
    code, told = sealed.trim(capsys, "--before", "0:1000")
    assert code == 1
    assert "trim: pipeline 0 cannot go up to event 1000: " in told
    assert all(sealed.on(*topic) for topic in everywhere)
    wait_until(lambda: time.time() > forgotten_at, lambda: "the deal to be forgotten")
    # What is sent again now is refused, and proved by what it was on the record.
    refused = asyncio.run(sent_again(running, deal.id, "bob"))
    assert "on the record" in refused.detail
    again = verify_proof(prove_resent(refused, sealed.store()), sealed.signer.verifier_key)
    assert again.message.content == b"done"
    asyncio.run(
        negotiate(running, b"something else", b"done")
    )  # with which the router writes where it stands
    wait_until(
        lambda: sealed.trim(capsys, "--statement", statement, "--dry-run")[0] == 0,
        lambda: sealed.trim(capsys, "--statement", statement, "--dry-run")[1],
    )
    assert all(sealed.on(*topic) for topic in everywhere)
    code, told = sealed.trim(capsys, "--statement", statement)
    assert (code, told) == (0, "pipeline 0: 2 events before event 2 are gone; no more was asked for\n")
    assert not any(sealed.on(*topic) for topic in everywhere)
    assert sealed.on(inbox_topic("alice")), "what a bank received stays the bank's"
    code, told = sealed.trim(capsys, "--statement", statement)
    assert (code, told) == (0, "nothing may go, or nothing is left to go\n")

    # Who reads from before hears so; everything else goes on, restarted too.
    with (
        TopicReader(running.access("reader"), FIREHOSE, {0: 1}) as reader,
        pytest.raises(CursorError, match="no longer keeps"),
    ):
        wait_until(lambda: bool(reader.poll(0.2)), lambda: "the reader to be told")
    with TopicReader(running.access("reader"), FIREHOSE) as reader:
        first = next(record for record in reader.read_to_end() if record.partition == 0)
    with pytest.raises(FirehoseError, match="events 0 to 1 are missing before this one; resume from"):
        Follower().follow(first.value, first.offset)
    for name in ("router", "delivery"):
        running.processes[f"{name}-1"].stop()
        running.start(name)
    sealed.stop()
    sealed.start()
    deal = asyncio.run(negotiate(running, b"hello again", b"done"))
    sealed.await_sealed(deal.id)
    report = sealed.audit()
    assert report.violations == ()
    assert report.purged == 1
