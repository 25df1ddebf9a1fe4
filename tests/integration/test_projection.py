"""The gateway's projection on a real broker and a real database: what it holds, and that no crash changes that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.rows import dict_row

from deploy.folder import CHECKOUT, StackFolder
from deploy.kafka import Kafka
from deploy.postgres import Postgres
from firehose.core import Figures, observe
from parley.schemas import AnchorEvent, FirehoseEvent, Hash, MessageId, Rejection, decode, encode
from streams.catalogue import ANCHORS, BLOCKS, DIRECTORY, FIREHOSE, REJECTED, TOPICS, Role
from streams.handler import Write
from streams.provisioning import Provisioner, User
from streams.transaction import TransactionalProducer
from tests.fix_ledger import SealedLedger
from tests.projection_model import ORDER, Tables, model
from tests.purging import admit_operator, state, target
from tests.synthetic_ledger import Ledger, Pipeline, signing_key

PASSWORD = "a password for tests"
GATEWAY = User("gateway", Role.GATEWAY, PASSWORD)
"""The service's own Kafka user, with the permissions that the catalogue gives it and no others."""
PIPELINES = 2
SECONDS = 30.0

pytestmark = pytest.mark.timeout(180)


def wait_until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS:.0f} s for {what()}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker of this module's own: the topics are emptied between tests."""
    with Kafka(StackFolder(tmp_path_factory.mktemp("kafka"))) as kafka:
        Provisioner(kafka.admin, durable=False).provision_users([GATEWAY])
        yield kafka


@dataclass
class Running:
    """A record on the broker, and the gateways started on it."""

    kafka: Kafka
    postgres: Postgres
    folder: Path
    sealed: SealedLedger
    rejected: list[bytes] = field(default_factory=list)
    anchors: list[bytes] = field(default_factory=list)
    written: Counter[tuple[str, int]] = field(default_factory=Counter)
    gateways: list[subprocess.Popen[bytes]] = field(default_factory=list)
    schema: str = "parley"

    def __post_init__(self) -> None:
        self.producer = TransactionalProducer(self.kafka.admin.transactional_producer("admin/test-router"))
        self.database = psycopg.connect(self.postgres.dsn, autocommit=True, row_factory=dict_row)
        self.database.execute(f"drop schema if exists {self.schema} cascade; set timezone to 'UTC'")

    @property
    def ledger(self) -> Ledger:
        return self.sealed.ledger

    def reject(self, detail: str = "no such participant") -> None:
        number = len(self.rejected)
        digest = MessageId(bytes([number]) * 32)
        self.rejected.append(
            encode(
                Rejection(
                    0, number, self.ledger.now, 1, digest, None, None, "UNKNOWN_SENDER", False, detail, None
                )
            )
        )

    def anchor(self) -> None:
        digest = bytes([len(self.anchors)]) * 32
        event = AnchorEvent(
            "eip155:31337",
            "0x00",
            3,
            Hash(digest),
            "FINAL",
            digest,
            7,
            digest,
            2,
            b"\x02",
            self.ledger.now,
            "",
        )
        self.anchors.append(encode(event))

    def topics(self) -> dict[tuple[str, int], list[bytes]]:
        return {(FIREHOSE, index): events for index, events in enumerate(self.ledger.firehose)} | {
            (DIRECTORY, 0): self.ledger.directory_records,
            (BLOCKS, 0): self.sealed.headers,
            (REJECTED, 0): self.rejected,
            (ANCHORS, 0): self.anchors,
        }

    def publish(self, batch: int = 5) -> None:
        """Write what the topics have not, in transactions of a few records, as the router does."""
        writes: list[Write] = []
        for place, records in self.topics().items():
            writes += [(*place, None, record, None) for record in records[self.written[place] :]]
            self.written[place] = len(records)
        for start in range(0, len(writes), batch):
            self.producer.commit(writes[start : start + batch])

    def start(self, *arguments: str, crash_at: str = "", **settings: str) -> subprocess.Popen[bytes]:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        prefix = "PARLEY_GATEWAY_"
        environment = os.environ | {
            f"{prefix}KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            f"{prefix}KAFKA_USERNAME": GATEWAY.name,
            f"{prefix}KAFKA_PASSWORD_FILE": str(password),
            f"{prefix}DSN": self.postgres.dsn,
            "PARLEY_CRASH_AT": crash_at,
            **{f"{prefix}{name.upper()}": value for name, value in settings.items()},
        }
        with (self.folder / "gateway.log").open("ab") as output:
            gateway = subprocess.Popen(
                [sys.executable, "-m", "gateway", *arguments],
                cwd=CHECKOUT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.gateways.append(gateway)
        return gateway

    def output(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def projected(self) -> int:
        """How many records are projected."""
        try:
            row = self.database.execute(
                "select sum(sequence)::bigint as records from parley.positions"
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
        return 0 if row is None else row["records"] or 0

    def await_all(self) -> None:
        total = sum(self.written.values())

        def projected() -> bool:
            assert self.gateways[-1].poll() is None, self.output()
            return self.projected() == total

        wait_until(projected, lambda: f"{total} records: {self.output()}")

    def tables(self) -> Tables:
        """What the database has, without the offsets of records, which the broker chooses."""
        tables: Tables = {}
        for table, order in ORDER.items():
            rows = self.database.execute(f"select * from parley.{table} order by {order}").fetchall()
            if order == "position":
                for row in rows:
                    del row["position"]
            tables[table] = rows
        return tables

    def purged(self) -> list[tuple[int, int]]:
        """Which messages have lost their content, by place."""
        rows = self.database.execute(
            "select pipeline, position from parley.messages where content_type = '' order by 1, 2"
        ).fetchall()
        return [(row["pipeline"], row["position"]) for row in rows]

    def expected(self) -> Tables:
        return model(
            self.ledger.firehose,
            self.ledger.directory_records,
            self.sealed.headers,
            self.rejected,
            self.anchors,
        )

    def stop(self) -> None:
        for gateway in self.gateways:
            if gateway.poll() is None:
                gateway.terminate()
        for gateway in self.gateways:
            gateway.wait(SECONDS)
        self.gateways.clear()

    def close(self) -> None:
        self.stop()
        self.producer.close()
        self.database.close()


@pytest.fixture
def running(broker: Kafka, postgres: Postgres, sealed: SealedLedger, tmp_path: Path) -> Iterator[Running]:
    admin = AdminClient(broker.admin.client())
    existing = admin.list_topics().topics
    mine: list[str] = [topic.name for topic in TOPICS if topic.name in existing]
    for future in (admin.delete_topics(mine) if mine else {}).values():
        future.result()
    wait_until(lambda: not set(mine) & set(admin.list_topics().topics), lambda: "the topics to be gone")
    Provisioner(broker.admin, durable=False).provision_topics(PIPELINES)
    made = Running(broker, postgres, tmp_path, sealed)
    made.ledger.content_type = "application/json"
    yield made
    made.close()


ISINS = (b"FR0000121014", b"DE0001102580")


def opening(number: int) -> bytes:
    return b'{"isin": "%b", "currency": "EUR", "settlement_amount": "%d.50"}' % (ISINS[number % 2], number)


def negotiate(running: Running, count: int) -> None:
    """Trades on all pipelines that settle, are declined, end without a word, or stay silent; one stays open."""
    ledger = running.ledger
    for number in range(count):
        deal = ledger.open(number % len(ledger.pipelines), content=opening(number))
        deal.say("bank-1", content=b'{"text": "I commit to deliver"}')
        if number % 4 == 3:
            deal.expire()
            continue
        last = (b'{"status": "settled"}', b'{"status": "declined"}', b'{"status": true}')[number % 4]
        deal.say("bank-1", "FINISH", last)
        if number % 5 == 0:
            running.sealed.seal()
            running.anchor()
            running.reject()
    ledger.open(1, content=opening(1))


def test_the_tables_are_what_the_whole_record_says(running: Running) -> None:
    running.start()
    for _ in range(3):
        negotiate(running, 12)
        name = f"bank-{len(running.ledger.directory_records)}"
        newer = signing_key(f"{name}'s newer key")
        running.ledger.admit(name)
        running.ledger.rotate(name, [newer], signing_key(name))
        running.ledger.revoke(name, newer)
        running.publish()
    running.await_all()
    assert running.tables() == running.expected()
    running.sealed.seal()
    running.publish()
    running.await_all()
    assert running.tables() == running.expected()


def test_killed_at_each_step_in_turn_it_goes_on_without_loss_or_duplicate(running: Running) -> None:
    negotiate(running, 60)
    running.publish()
    for step in ("gateway.staged:1", "gateway.merged:2", "gateway.committed:3"):
        gateway = running.start(crash_at=step, batch_records="9")
        assert gateway.wait(SECONDS) == -signal.SIGKILL, running.output()
    assert 0 < running.projected() < sum(running.written.values())
    last = running.start(batch_records="9")
    running.await_all()
    assert running.tables() == running.expected()
    last.send_signal(signal.SIGTERM)
    assert last.wait(SECONDS) == 0


def test_a_rebuild_gives_the_same_tables_whatever_was_there(running: Running) -> None:
    negotiate(running, 20)
    running.publish()
    running.start()
    running.await_all()
    running.stop()
    running.database.execute("update parley.messages set sender = 'nobody'; drop table parley.anchors")
    running.start("--rebuild")
    wait_until(lambda: running.output().count("service.ready") == 2, running.output)
    running.await_all()
    assert running.tables() == running.expected()


def test_the_figures_are_the_regulators(running: Running) -> None:
    negotiate(running, 40)
    running.publish()
    running.start()
    running.await_all()
    events = [decode(event, FirehoseEvent) for pipeline in running.ledger.firehose for event in pipeline]
    theirs = observe(Figures(), events)
    rows = running.database.execute("select * from parley.figures").fetchall()
    kinds: Counter[tuple[str, str]] = Counter()
    instruments: dict[str, Counter[str]] = {isin.decode(): Counter() for isin in ISINS}
    for row in rows:
        if row["outcome"] != "open":
            kinds[row["kind"], row["outcome"]] += row["transactions"]
            instruments[row["isin"]][row["outcome"]] += row["transactions"]
    assert kinds == {("dvp", outcome): count for outcome, count in theirs.kinds["dvp"].items()}
    assert instruments == {isin: one.outcomes for isin, one in theirs.instruments.items()}
    settled = running.database.execute("select * from parley.settled").fetchall()
    assert {row["isin"]: {row["currency"]: row["amount"]} for row in settled} == {
        isin: one.settled for isin, one in theirs.instruments.items() if one.settled
    }


HOLDABLE = (b'{"isin": 1}', b'"\\u00e9\\ud83d\\ude00"', b"null", b"-1.5e3", b"[" * 200 + b"]" * 200)
UNHOLDABLE = (
    b"",
    b"{",
    b"\xff",
    b"NaN",
    b'"\0"',
    b'"\\u0000"',
    b'"\\ud800"',
    b"1e999999999",
    b'{"a": 1} {"b": 2}',
    b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'["' + b'\\"' * 100_000,
)


def test_content_that_is_not_json_or_that_no_database_holds_stops_nothing(running: Running) -> None:
    deal = running.ledger.open(content=HOLDABLE[0])
    for number, content in enumerate((*HOLDABLE[1:], *UNHOLDABLE)):
        deal.say(("bank-1", "bank-0")[number % 2], content=content)
    running.ledger.content_type = "text/\0plain"
    deal.say("bank-0", content=b"{}")
    running.reject(detail="\0")
    running.publish()
    running.start()
    running.await_all()
    rows = running.tables()["messages"]
    held = [row["content_bytes"] for row in rows if row["content"] is not None or row["content_bytes"] == 4]
    assert held == [len(content) for content in HOLDABLE], rows
    assert rows[-1]["content_type"] == "text/\N{REPLACEMENT CHARACTER}plain"


def test_records_that_retention_took_before_they_were_projected_are_missed_aloud(running: Running) -> None:
    negotiate(running, 5)
    running.publish()
    admin = AdminClient(running.kafka.admin.client())
    for future in admin.delete_records([TopicPartition(FIREHOSE, 0, 4)]).values():
        future.result()
    assert running.start().wait(SECONDS) == 1
    assert "pipeline 0: events 0 to " in running.output()
    assert "are missing before this one" in running.output()


def test_records_that_retention_took_while_it_was_away_are_missed_aloud(running: Running) -> None:
    negotiate(running, 5)
    running.publish()
    running.start()
    running.await_all()
    running.stop()
    before = running.tables()
    negotiate(running, 5)
    running.publish()
    admin = AdminClient(running.kafka.admin.client())
    for future in admin.delete_records([TopicPartition(FIREHOSE, 0, -1)]).values():
        future.result()
    assert running.start().wait(SECONDS) == 1
    assert "records were deleted before they were read" in running.output()
    after = [row for row in running.tables()["messages"] if row["pipeline"] == 0]
    assert after == [row for row in before["messages"] if row["pipeline"] == 0]


def test_another_history_than_the_one_projected_is_refused(running: Running) -> None:
    negotiate(running, 5)
    running.publish()
    running.start()
    running.await_all()
    before = running.tables()
    forked = bytearray(running.ledger.firehose[0][-1])
    running.producer.commit([(FIREHOSE, 0, None, bytes(forked), None)])
    assert running.gateways[0].wait(SECONDS) == 1
    assert "another history than the one projected" in running.output()
    assert running.tables() == before


def test_a_second_gateway_on_the_same_schema_is_refused(running: Running) -> None:
    running.publish()
    first = running.start()
    running.await_all()
    assert running.start().wait(SECONDS) == 1
    assert "another gateway projects into the schema parley; stop it" in running.output()
    assert first.poll() is None


def test_a_connection_that_the_database_drops_is_made_again(running: Running) -> None:
    negotiate(running, 5)
    running.publish()
    running.start()
    running.await_all()
    running.database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'parley-gateway'"
    )
    negotiate(running, 5)
    running.publish()
    running.await_all()
    assert running.tables() == running.expected()
    assert "gateway.away" in running.output()


def test_a_pipeline_added_later_is_followed(running: Running) -> None:
    negotiate(running, 5)
    running.publish()
    running.start()
    running.await_all()
    Provisioner(running.kafka.admin, durable=False).provision_topics(PIPELINES + 1)
    running.ledger.pipelines.append(Pipeline())
    running.producer.close()
    running.producer = TransactionalProducer(running.kafka.admin.transactional_producer("admin/test-router"))
    negotiate(running, 5)
    running.publish()
    running.await_all()
    assert running.tables() == running.expected()


def test_a_schema_of_newer_software_is_refused(running: Running) -> None:
    running.publish()
    running.start()
    running.await_all()
    running.stop()
    running.database.execute("insert into parley.migrations (version) values (99)")
    assert running.start().wait(SECONDS) == 1
    assert "upgrade it, or rebuild the projection" in running.output()


def test_what_an_operator_purges_is_gone_after_the_next_batch_and_after_a_rebuild(running: Running) -> None:
    admit_operator(running.sealed)
    deal = running.ledger.open(0, content=opening(0))
    deal.say("bank-1", content=b'{"client": "born on 1 April 1970"}')
    deal.say("bank-1", "FINISH", b'{"status": "settled"}')
    running.sealed.seal()
    named = target(running.sealed, deal, 1)
    for who in ("bank-2", "operator"):
        running.publish()
        running.start()
        running.await_all()
        assert running.purged() == []
        state(running.sealed, named, operator=who)
        running.stop()
    state(running.sealed, target(running.sealed, deal, 2), rule="ALL").expire()
    for arguments in ((), ("--rebuild",)):
        running.publish()
        running.start(*arguments)
        running.await_all()
        assert running.purged() == [(0, 1)]
        expected = running.expected()
        expected["messages"][1] |= {"content": None, "message_id": b"", "recipients": [], "content_type": ""}
        assert running.tables() == expected
        left = running.database.execute("select pipeline, position, done from parley.purges").fetchall()
        assert left == [{"pipeline": 0, "position": 1, "done": True}]
        running.stop()
