"""Dead letters on a running backbone: from the defect to the operator who puts them back, and what of that is on the record."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from deploy.backbone import Participant as Joining
from parley.cli import main, operator
from parley.dead_letter_topic import DeadLetterTopic, Redriver
from parley.dead_letters import DeadLetters
from parley.deal import Deal
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.errors import TransportError
from parley.kafka import KafkaAccess
from parley.redrive import REDRIVEN_TYPE
from streams.catalogue import ADMISSIONS, DEAD_LETTER, INGEST, Role, inbox_topic
from streams.dead_letter import bury, failure
from streams.handler import Headers
from streams.provisioning import User
from streams.transaction import TransactionalProducer
from streams.writer import write
from tests.broker_log import wait_for
from tests.dialogue import Dialogue
from tests.fix_backbone import RunningBackbone, entry_of
from tests.integration.test_cli import Desk
from tests.synthetic_ledger import signing_key

pytestmark = pytest.mark.timeout(180)

Rows = list[dict[str, object]]


class Lost:
    """A record of `ingest` that a router with a defect could not process."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def topic(self) -> str:
        return INGEST

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return 7

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_700_000_000_000

    def headers(self) -> Headers:
        return [("content-type", b"avro/binary")]


@pytest.fixture(scope="module")
def desks(running_backbone: RunningBackbone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Desk]:
    """An operator's desk, with a Kafka user of that role, two banks and a regulator."""
    running, folder = running_backbone, tmp_path_factory.mktemp("desks")
    joining = [
        ("desk", Role.OPERATOR, "OPERATOR"),
        ("watchdog", Role.REGULATOR, "REGULATOR"),
        ("alice", Role.PARTICIPANT, "BANK"),
        ("homeless", Role.PARTICIPANT, "BANK"),
    ]
    running.backbone.join(
        [
            Joining(
                name,
                f"password-of-{name}",
                user,
                (name,),
                seal(DIRECTORY_ENTRY_TYPE, entry_of(name)._replace(role=role), signing_key(name)),  # type: ignore[arg-type]
            )
            for name, user, role in joining
        ]
    )
    running.backbone.await_admission([name for name, *_ in joining])
    return {
        name: Desk(running, folder, name, f"password-of-{name}", signing_key(name)) for name, *_ in joining
    }


def waits_for_letters(desk: Desk, capsys: pytest.CaptureFixture[str], count: int, *arguments: str) -> Rows:
    """The letters that `list` shows, once there are so many."""
    found: Rows = []

    def come() -> bool:
        found[:] = desk.run(capsys, "operator", "dead-letter", "list", *arguments)
        return len(found) >= count

    wait_for(come, lambda: f"{count} dead letters; there are {found}")
    return found


def lose_inbox(running: RunningBackbone, name: str) -> Callable[[], None]:
    """Delete somebody's inbox; what is given back makes it again."""
    admin = AdminClient(running.backbone.admin.client())
    for future in admin.delete_topics([inbox_topic(name)], operation_timeout=30).values():
        future.result()
    user = User(name, Role.PARTICIPANT, None, (name,))
    return lambda: running.backbone._provisioner.provision_users([user])


async def open_deal(running: RunningBackbone, with_whom: str) -> Deal:
    async with running.connect("alice") as alice:
        return await alice.open(
            [with_whom], kind="inquiry", deadline=timedelta(minutes=5), content="are you there?", pipeline=0
        )


async def openings(running: RunningBackbone, name: str, count: int) -> list[str]:
    async with running.connect(name) as participant, asyncio.timeout(30):
        opened = participant.opened()
        return [(await anext(opened)).messages[0].text for _ in range(count)]


def test_what_could_not_be_processed_is_put_back_by_an_operator_and_everybody_sees_it(
    running_backbone: RunningBackbone, desks: dict[str, Desk], capsys: pytest.CaptureFixture[str]
) -> None:
    running, desk, regulator = running_backbone, desks["desk"], desks["watchdog"]
    admin = running.backbone.admin

    # Three records cannot be processed: no admission, no inbox, and one that a defect of the router stopped.
    write(admin, ADMISSIONS, b"no request", key=b"nobody")
    restore = lose_inbox(running, "homeless")
    asyncio.run(open_deal(running, "homeless"))
    now = time.time_ns() // 1_000_000
    lost = Dialogue.between("alice", "homeless", opened_at=now, lasting=300_000, open_for=300_000, pipeline=1)
    value = lost.say("alice", content=b"lost?")
    producer = TransactionalProducer(admin.transactional_producer("test/defect"))
    producer.commit([bury(DEAD_LETTER, "router-1", Lost(value), failure(ZeroDivisionError("a defect")))])
    producer.close()
    letters = waits_for_letters(desk, capsys, 3)
    by_topic = {str(row["topic"]): int(str(row["letter"])) for row in letters}
    assert by_topic.keys() == {"admissions", "deliveries", "ingest"}
    assert [row["error"] for row in letters if row["topic"] == "admissions"] == ["PoisonError"]
    show = ["operator", "dead-letter", "show"]
    (shown,) = desk.run(capsys, *show, str(by_topic["deliveries"]))
    assert (shown["holds"], shown["destination"]) == ("DeliveryBatch", "inbox.homeless")
    (shown,) = desk.run(capsys, *show, str(by_topic["ingest"]), "--output", str(desk.file("value")))
    assert "ZeroDivisionError: a defect" in str(shown["stack"])
    assert desk.file("value").read_bytes() == value
    own = ["--profile", str(running.backbone.profile)]
    assert main([*show, str(by_topic["deliveries"]), *own]) == 0
    told = capsys.readouterr().out
    assert "it is delivered under a new place, after all that was delivered meanwhile" in told
    assert main(["operator", "dead-letter", "list", "--topic", "ingest", *own]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("ingest/1 offset 7  router-1: ZeroDivisionError: a defect")
    assert "was refused" in desks["alice"].fail(capsys, "operator", "dead-letter", "list")

    # Once the causes are mended they go back where they came from, and are processed.
    restore()
    redrive = ["operator", "dead-letter", "redrive", "--with", "watchdog", "--reason", "mended"]
    (done,) = desk.run(capsys, *redrive, "--all")
    assert done["outcome"] == "FINISHED"
    assert sorted(asyncio.run(openings(running, "homeless", 2))) == ["are you there?", "lost?"]
    (back,) = (record for record in running.reader().read_partition(INGEST, 1) if record.value() == value)
    assert (back.key(), back.headers()) == (
        b"key",
        [("content-type", b"avro/binary"), ("redriven", str(by_topic["ingest"]).encode())],
    )

    # It is on the record who put back what, and where it stands now.
    stated, finished = regulator.run(capsys, "tx", "show", str(done["statement"]))
    assert (stated["kind"], stated["sender"], stated["reason"]) == ("redrive", "desk", "mended")
    named = {str(row["topic"]): row for row in stated["redrives"]}  # type: ignore[attr-defined]
    assert {topic: row["letter"] for topic, row in named.items()} == by_topic
    assert (named["ingest"]["partition"], named["ingest"]["offset"]) == (1, 7)
    placed = {row["letter"]: row["offset"] for row in finished["redriven"]}  # type: ignore[attr-defined]
    assert placed[by_topic["ingest"]] == back.offset()

    # What was nonsense before is nonsense again; nothing goes back twice unless that is meant.
    again = waits_for_letters(desk, capsys, 1)
    assert [(row["topic"], row["came_back"]) for row in again] == [("admissions", by_topic["admissions"])]
    number = str(again[0]["letter"])
    assert "put back and has come here again; if" in desk.fail(capsys, *redrive, number)
    assert "was put back before, by desk" in desk.fail(capsys, *redrive, str(by_topic["ingest"]))
    assert "no dead letter waits" in desk.fail(capsys, *redrive, "--all")
    assert "there is no dead letter 9999" in desk.fail(capsys, *redrive, "9999")
    # The backbone's own operator can do so, too, with the profile that its folder has.
    assert main([*redrive, number, "--again", *own, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    (stated, _) = regulator.run(capsys, "tx", "show", str(done["statement"]))
    assert (stated["again"], stated["sender"]) == (True, "operator")
    history = desk.run(capsys, "operator", "dead-letter", "list", "--all", "--topic", "ingest")
    assert [[mark["by"] for mark in row["put_back"]] for row in history] == [["desk"]]  # type: ignore[attr-defined]


class Overtaken(Redriver):
    """A redriver of whose Kafka user another one begins at once."""

    def __init__(self, access: KafkaAccess) -> None:
        super().__init__(access)
        Redriver(access)


def test_of_two_redrives_at_once_the_earlier_puts_nothing_back_and_says_so_on_the_record(
    running_backbone: RunningBackbone,
    desks: dict[str, Desk],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    desk, regulator = desks["desk"], desks["watchdog"]
    write(running_backbone.backbone.admin, ADMISSIONS, b"nonsense", key=b"nobody")
    letter = waits_for_letters(desk, capsys, 1, "--topic", "admissions")[-1]["letter"]
    before = running_backbone.reader().bounds(ADMISSIONS, 0)
    monkeypatch.setattr(operator, "Redriver", Overtaken)
    redrive = ["operator", "dead-letter", "redrive", str(letter), "--with", "watchdog", "--reason", "mended"]
    told = desk.fail(capsys, *redrive, "--again")
    assert "nothing was put back: another redrive of this Kafka user began after this one" in told
    assert running_backbone.reader().bounds(ADMISSIONS, 0) == before
    events = regulator.run(capsys, "watch", "--once", "--cursor", str(tmp_path / "cursor"))
    idle = [row for row in events if row.get("content_type") == REDRIVEN_TYPE and row["redriven"] == []]
    assert [(row["sender"], row["outcome"]) for row in idle] == [("desk", "FINISHED")]
    left = desk.run(capsys, "operator", "dead-letter", "list", "--all")
    assert [row["put_back"] for row in left if row["letter"] == letter] == [[]]


def test_who_is_no_operator_at_kafka_reads_and_puts_back_nothing(
    running_backbone: RunningBackbone, desks: dict[str, Desk]
) -> None:
    access = running_backbone.access("alice")
    with DeadLetterTopic(access) as source, pytest.raises(TransportError, match="need the Kafka user of the"):
        DeadLetters(source.read())
    with pytest.raises(TransportError, match="need the Kafka user of the"):
        Redriver(access)
    wrong = KafkaAccess(access.bootstrap, "desk", "guess")
    with DeadLetterTopic(wrong) as source, pytest.raises(TransportError, match="user desk was refused"):
        DeadLetters(source.read())
