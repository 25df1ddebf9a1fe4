"""The block builder on a real broker: what it seals, and that no crash and no second builder changes that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from deploy.folder import CHECKOUT, StackFolder
from deploy.kafka import Kafka
from parley.audit import AuditReport, audit
from parley.blocks import BlockStore, from_folder
from parley.errors import ProofError
from parley.hardware import HardwareKey
from parley.lookup import Lookup
from parley.note import NoteSigner
from parley.proof import make_proof, verify_proof
from streams.catalogue import BLOCKS, DIRECTORY, FIREHOSE, TOPICS, Role
from streams.provisioning import Provisioner, User
from streams.reader import Reader
from streams.transaction import TransactionalProducer
from tests.fix_softhsm import SoftToken
from tests.synthetic_ledger import Ledger, Pipeline, signing_key

SIGNER = NoteSigner("ledger.example/log", signing_key("log"))
PASSWORD = "a password for tests"
BUILDER = User("blockbuilder", Role.BLOCKBUILDER, PASSWORD)
"""The service's own Kafka user, with the permissions that the catalogue gives it and no others."""
PIPELINES = 2
SECONDS = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS:.0f} s for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker of this module's own: the topics are emptied between tests."""
    with Kafka(StackFolder(tmp_path_factory.mktemp("kafka"))) as kafka:
        Provisioner(kafka.admin, durable=False).provision_users([BUILDER])
        yield kafka


@dataclass
class Running:
    """A ledger whose topics are on the broker, and the builders started on it."""

    kafka: Kafka
    folder: Path
    ledger: Ledger = field(default_factory=Ledger)
    written: list[int] = field(default_factory=lambda: [0] * PIPELINES)
    admitted: int = 0
    builders: list[subprocess.Popen[bytes]] = field(default_factory=list)
    signer: NoteSigner = SIGNER

    def __post_init__(self) -> None:
        self.producer = self.new_producer()

    def new_producer(self) -> TransactionalProducer:
        """What writes as the router does: in transactions, so that offsets are not dense."""
        return TransactionalProducer(self.kafka.admin.transactional_producer("admin/test-router"))

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def publish(self, batch: int = 3) -> None:
        """Write what the ledger has and the topics have not, in transactions of a few records."""
        records = self.ledger.directory_records
        writes = [(DIRECTORY, 0, None, record, None) for record in records[self.admitted :]]
        self.admitted = len(records)
        for pipeline, events in enumerate(self.ledger.firehose):
            writes += [(FIREHOSE, pipeline, None, event, None) for event in events[self.written[pipeline] :]]
            self.written[pipeline] = len(events)
        for start in range(0, len(writes), batch):
            self.producer.commit(writes[start : start + batch])

    def start(self, log: Path | None = None, crash_at: str = "", **settings: str) -> subprocess.Popen[bytes]:
        key = self.folder / "log.seed"
        if not key.exists():
            key.write_bytes(signing_key("log").seed)
            key.chmod(0o600)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        prefix = "PARLEY_BLOCKBUILDER_"
        environment = os.environ | {
            f"{prefix}KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            f"{prefix}KAFKA_USERNAME": BUILDER.name,
            f"{prefix}KAFKA_PASSWORD_FILE": str(password),
            f"{prefix}STORE": str(log or self.log),
            f"{prefix}ORIGIN": SIGNER.name,
            f"{prefix}KEY": str(key),
            f"{prefix}SEAL_INTERVAL_MS": "200",
            "PARLEY_CRASH_AT": crash_at,
            **{f"{prefix}{name.upper()}": value for name, value in settings.items()},
        }
        with (self.folder / "builder.log").open("ab") as output:
            builder = subprocess.Popen(
                [sys.executable, "-m", "blockbuilder"],
                cwd=CHECKOUT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.builders.append(builder)
        return builder

    def output(self) -> str:
        return (self.folder / "builder.log").read_text()

    def store(self, log: Path | None = None) -> BlockStore:
        return BlockStore(from_folder(log or self.log), self.signer.verifier_key)

    def sealed(self, log: Path | None = None) -> int:
        """How many transactions stand in the log's blocks."""
        try:
            store = self.store(log)
        except ProofError:
            return 0
        return sum(store.header(height).transactions for height in range(len(store)))

    def await_sealed(self, transactions: int, log: Path | None = None) -> None:
        wait_until(
            lambda: self.sealed(log) >= transactions,
            f"{transactions} transactions in blocks: {self.output()}",
        )

    def audit(self, log: Path | None = None) -> AuditReport:
        firehose = dict(enumerate(self.ledger.firehose))
        return audit(self.store(log), self.ledger.registrar.public, firehose)

    def headers(self) -> list[bytes]:
        """What `blocks` has."""
        return [record.value() or b"" for record in Reader(self.kafka.admin).read_partition(BLOCKS, 0)]

    def stop(self) -> None:
        for builder in self.builders:
            if builder.poll() is None:
                builder.terminate()
        for builder in self.builders:
            builder.wait(SECONDS)
        self.producer.close()


@pytest.fixture
def running(broker: Kafka, tmp_path: Path) -> Iterator[Running]:
    admin = AdminClient(broker.admin.client())
    existing = admin.list_topics().topics
    mine: list[str] = [topic.name for topic in TOPICS if topic.name in existing]
    for future in (admin.delete_topics(mine) if mine else {}).values():
        future.result()
    wait_until(lambda: not set(mine) & set(admin.list_topics().topics), "the topics to be gone")
    Provisioner(broker.admin, durable=False).provision_topics(PIPELINES)
    made = Running(broker, tmp_path)
    yield made
    made.stop()


def assert_whole(running: Running, transactions: int) -> None:
    """Everything that ended is sealed once; topic, store and firehose agree."""
    report = running.audit()
    assert report.violations == ()
    assert report.transactions == transactions
    store = running.store()
    assert [store.encoded_header(height) for height in range(len(store))] == running.headers()


def test_a_finished_trade_is_proved_from_the_store(running: Running) -> None:
    deal = running.ledger.trade()
    running.publish()
    builder = running.start()
    running.await_sealed(1)
    lookup = Lookup(running.store())
    told = verify_proof(make_proof(lookup, lookup.transaction(deal.id)), str(SIGNER.verifier_key))
    assert told.message.content == b"Delivered"
    assert_whole(running, 1)
    builder.send_signal(signal.SIGTERM)
    assert builder.wait(SECONDS) == 0


def test_a_builder_whose_key_is_in_a_token_seals_and_one_with_a_wrong_pin_says_so_and_ends(
    running: Running, token: SoftToken
) -> None:
    running.signer = NoteSigner(SIGNER.name, HardwareKey.generate(token.key("builder")))
    running.ledger.trade()
    running.publish()
    builder = running.start(key=token.uri("builder"))
    running.await_sealed(1)
    assert_whole(running, 1)
    builder.send_signal(signal.SIGTERM)
    assert builder.wait(SECONDS) == 0
    token.pin_file.write_text("314159\n")
    assert running.start(key=token.uri("builder")).wait(SECONDS) == 1
    assert "the PIN is refused" in running.output()
    assert "314159" not in running.output()


def test_transactions_that_end_while_the_builder_runs_are_sealed_within_the_interval(
    running: Running,
) -> None:
    running.publish()
    running.start()
    wait_until(lambda: running.sealed() == 0 and "sealed" in running.output(), "the directory to be sealed")
    for ended in range(1, 4):
        running.ledger.trade(ended % PIPELINES)
        running.publish()
        running.await_sealed(ended)
    running.ledger.open(1).expire()
    running.publish()
    running.await_sealed(4)
    assert_whole(running, 4)


STEPS = (
    "blockbuilder.staged:1",
    "stream.produced:1",
    "stream.committing:1",
    "stream.committed:1",
    "blockbuilder.committed:1",
    "blockbuilder.published:1",
    "blockbuilder.tiles:1",  # of the recovery from the step before
    "blockbuilder.tiles:2",
    "blockbuilder.checkpoint:1",  # of the recovery from the step before
    "blockbuilder.checkpoint:2",
)
"""Every place at which something becomes durable, and which time in a life."""


def test_killed_at_each_step_in_turn_it_goes_on_without_gap_or_duplicate(running: Running) -> None:
    slow = running.ledger.open(1)
    for number, step in enumerate(STEPS):
        running.ledger.trade(number % PIPELINES)
        slow.say(("bank-1", "bank-0")[number % 2])
        running.publish()
        builder = running.start(crash_at=step, block_transactions="1")
        assert builder.wait(SECONDS) == -signal.SIGKILL, running.output()
    slow.say("bank-1", "FINISH")
    running.publish()
    running.start()
    running.await_sealed(len(STEPS) + 1)
    wait_until(lambda: not list((running.log / ".pending").iterdir()), "nothing to be pending")
    assert_whole(running, len(STEPS) + 1)


def test_events_that_memory_does_not_hold_are_read_back(running: Running) -> None:
    deals = [running.ledger.open(number % PIPELINES) for number in range(20)]
    for deal in deals:
        deal.say("bank-1")
    for deal in reversed(deals):
        deal.say("bank-0", "FINISH")
    running.publish(batch=10)
    running.start(cache_bytes="0")
    running.await_sealed(20)
    assert_whole(running, 20)


def test_a_second_builder_on_the_same_folder_is_refused(running: Running) -> None:
    running.ledger.trade()
    running.publish()
    first = running.start()
    running.await_sealed(1)
    second = running.start()
    assert second.wait(SECONDS) == 1
    assert f"the builder with process id {first.pid} works here; stop it first" in running.output()
    running.ledger.trade()
    running.publish()
    running.await_sealed(2)
    assert first.poll() is None


def test_a_builder_with_a_copy_of_the_store_takes_over_and_the_first_one_stops(running: Running) -> None:
    running.ledger.trade()
    running.publish()
    first = running.start()
    running.await_sealed(1)
    wait_until(lambda: not list((running.log / ".pending").iterdir()), "the block to be published")
    copy = running.folder / "copy"
    shutil.copytree(running.log, copy)
    running.start(log=copy)
    wait_until(lambda: running.output().count("service.ready") == 2, "the second builder")
    before = len(running.store())
    running.ledger.trade()
    running.publish()
    running.await_sealed(2, copy)
    assert first.wait(SECONDS) == 1
    assert "another process has taken over" in running.output()
    assert len(running.store()) == before, "the first one's checkpoint stays where it was"
    report = running.audit(copy)
    assert report.violations == ()
    assert report.transactions == 2


def test_a_store_that_lacks_committed_blocks_is_refused(running: Running) -> None:
    running.ledger.trade()
    running.publish()
    running.start()
    running.await_sealed(1)
    running.stop()
    running.builders.clear()
    empty = running.start(log=running.folder / "empty")
    assert empty.wait(SECONDS) == 1
    assert "missing, but its header is committed; restore it from a copy" in running.output()


def test_a_store_of_another_history_is_refused(running: Running) -> None:
    running.ledger.trade()
    running.publish()
    running.start()
    running.await_sealed(1)
    running.stop()
    kept = running.folder / "kept"
    shutil.copytree(running.log, kept)
    admin = AdminClient(running.kafka.admin.client())
    for future in admin.delete_topics([BLOCKS]).values():
        future.result()
    wait_until(lambda: BLOCKS not in admin.list_topics().topics, "the topic to be gone")
    Provisioner(running.kafka.admin, durable=False).provision_topics(PIPELINES)
    other = running.start(log=kept)
    assert other.wait(SECONDS) == 1
    assert "one of the two was restored from an old copy" in running.output()


def test_a_pipeline_added_later_is_followed(running: Running) -> None:
    running.ledger.trade()
    running.publish()
    running.start()
    running.await_sealed(1)
    Provisioner(running.kafka.admin, durable=False).provision_topics(PIPELINES + 1)
    running.ledger.pipelines.append(Pipeline())
    running.written.append(0)
    running.producer = running.new_producer()
    running.ledger.trade(PIPELINES)
    running.publish()
    running.await_sealed(2)
    assert_whole(running, 2)


def test_check_prints_the_settings_and_starts_nothing(tmp_path: Path) -> None:
    environment = os.environ | {
        "PARLEY_BLOCKBUILDER_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "PARLEY_BLOCKBUILDER_KAFKA_USERNAME": "blockbuilder",
        "PARLEY_BLOCKBUILDER_KAFKA_PASSWORD_FILE": "password",
        "PARLEY_BLOCKBUILDER_STORE": str(tmp_path / "log"),
        "PARLEY_BLOCKBUILDER_ORIGIN": SIGNER.name,
        "PARLEY_BLOCKBUILDER_KEY": "log.seed",
    }
    command = [sys.executable, "-m", "blockbuilder", "--check"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert '"seal_interval_ms": 1000' in done.stdout
    assert not (tmp_path / "log").exists()
