"""Joining and rotating on a real broker: a stranger comes in by itself, keys change in the midst of traffic, admission dies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

import parley
from parley.client import Participant
from parley.credentials import seal_credentials
from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, DIRECTORY_REVOCATION_TYPE, seal
from parley.errors import RefusedError, TransportError
from parley.events import prove_spoken, read_spoken
from parley.kafka import KafkaAccess, KafkaTransport
from parley.keys import SigningKey, public_key
from parley.schemas import (
    AdmissionRefusal,
    AdmissionRequest,
    DirectoryEntry,
    DirectoryRevocation,
    FirehoseEvent,
    decode,
    encode,
)
from parley.transport import Standing
from streams.catalogue import ADMISSIONS, DIRECTORY, FIREHOSE, REFUSALS
from streams.outcome import kafka_error
from streams.writer import write
from tests.broker_log import wait_for
from tests.fix_backbone import RunningBackbone, entry_of
from tests.synthetic_ledger import signing_key

pytestmark = pytest.mark.timeout(180)


def directory(running: RunningBackbone) -> Directory:
    """The directory, every record of it checked."""
    checked = Directory(running.registrar)
    for record in running.reader().read_partition(DIRECTORY, 0):
        checked.apply(record.value() or b"")
    return checked


def submit(running: RunningBackbone, request: bytes) -> None:
    write(running.backbone.connection("registrar"), ADMISSIONS, request)


def await_version(running: RunningBackbone, participant: str, version: int) -> Directory:
    """The directory once the participant's newest change is of this version or a later one."""

    def newest() -> int:
        history = directory(running).history(participant)
        return history[-1].version if history else 0

    wait_for(lambda: newest() >= version, lambda: f"{participant} at version {version}")
    return directory(running)


def joining(running: RunningBackbone, name: str, password: str, *addresses: str) -> bytes:
    """What the registrar hands in for a newcomer: its entry attested, and its password sealed to admission."""
    key = signing_key(name)
    change = seal(DIRECTORY_ENTRY_TYPE, entry_of(name, *addresses), key)
    held = directory(running).encryption_keys("operator.admission")
    credentials = seal_credentials(password, change, held[0], key)
    return encode(AdmissionRequest(encode(running.backbone.countersign(change)), encode(credentials)))


def rotated(before: DirectoryEntry, version: int, *keys: SigningKey) -> DirectoryEntry:
    return before._replace(signing_keys=tuple(public_key(key.public) for key in keys), previous=version)


def connected(running: RunningBackbone, name: str, password: str, key: SigningKey) -> Participant:
    access = KafkaAccess(running.backbone.admin.bootstrap, name, password)
    return parley.connect(KafkaTransport(access), participant=name, key=key, registrar=running.registrar)


async def test_a_stranger_joins_with_nothing_but_a_request_and_trades(
    running_backbone: RunningBackbone,
) -> None:
    running = running_backbone
    password = "a stranger's own password"
    with pytest.raises(TransportError):
        async with connected(running, "stranger", password, signing_key("stranger")):
            pass
    before = directory(running).version
    submit(running, joining(running, "stranger", password))
    await asyncio.to_thread(await_version, running, "stranger", before + 1)
    running.join("host")
    async with connected(running, "stranger", password, signing_key("stranger")) as me:
        deal = await me.open(["host"], kind="negotiation", deadline=timedelta(minutes=1), content="hello")
        assert deal.messages
    with pytest.raises(TransportError, match="may not"):
        await KafkaTransport(KafkaAccess(running.backbone.admin.bootstrap, "stranger", password)).open(
            "host", None
        )


def test_an_added_address_gets_its_inbox(running_backbone: RunningBackbone) -> None:
    running = running_backbone
    running.join("widening")
    held = directory(running)
    version, entry = held.version_of("widening"), held.entry("widening")
    assert entry is not None
    more = entry._replace(addresses=("widening", "widening.desk"), previous=version)
    change = running.backbone.countersign(seal(DIRECTORY_ENTRY_TYPE, more, signing_key("widening")))
    submit(running, encode(change))
    assert await_version(running, "widening", held.version + 1).owner("widening.desk") == "widening"
    transport = KafkaTransport(running.access("widening"))
    standings = asyncio.run(opened(transport, "widening.desk"))
    assert set(standings.values()) == {Standing(0, "")}


async def opened(transport: KafkaTransport, address: str) -> Mapping[int, Standing]:
    standings = await transport.open(address, "main")
    await transport.close()
    return standings


async def test_keys_rotate_in_the_midst_of_traffic_and_all_that_was_accepted_stays_proved(
    running_backbone: RunningBackbone,
) -> None:
    running = running_backbone
    running.join("turning", "steady")
    old, new = signing_key("turning"), signing_key("turning's new key")
    held = directory(running)
    before, version = held.entry("turning"), held.version_of("turning")
    assert before is not None
    assert version is not None
    password = "password-of-turning"
    outcomes: list[str] = []
    busy = asyncio.Event()
    async with connected(running, "turning", password, old) as me:

        async def talk() -> None:
            while "KEY_NOT_VALID" not in outcomes:
                try:
                    await me.open(
                        ["steady"], kind="negotiation", deadline=timedelta(minutes=1), content="hello"
                    )
                    outcomes.append("accepted")
                    if len(outcomes) == 40:
                        busy.set()
                except RefusedError as error:
                    outcomes.append(error.reason)

        talking = [asyncio.create_task(talk()) for _ in range(8)]
        await busy.wait()
        await asyncio.to_thread(
            submit, running, encode(seal(DIRECTORY_ENTRY_TYPE, rotated(before, version, new), old, new))
        )
        await asyncio.gather(*talking)
    assert set(outcomes) == {"accepted", "KEY_NOT_VALID"}
    async with connected(running, "turning", password, new) as me:
        await me.open(["steady"], kind="negotiation", deadline=timedelta(minutes=1), content="again")

    held = await asyncio.to_thread(directory, running)
    judged: dict[int, int] = {}
    proved = 0
    for pipeline in range(running.backbone.pipelines):
        for record in running.reader().read_partition(FIREHOSE, pipeline):
            event = decode(record.value() or b"", FirehoseEvent)
            assert event.directory_version >= judged.get(pipeline, 0)
            judged[pipeline] = event.directory_version
            spoken = read_spoken(event)
            if spoken is not None and spoken.message.sender == "turning":
                prove_spoken(event, spoken, held)
                proved += 1
    assert proved == outcomes.count("accepted") + 1


def test_a_refusal_is_told_to_whoever_waits(running_backbone: RunningBackbone) -> None:
    running = running_backbone
    running.join("waiting")
    version = directory(running).version_of("waiting")
    assert version is not None
    revocation = DirectoryRevocation("waiting", signing_key("waiting").id, "COMPROMISED", version)
    submit(running, encode(seal(DIRECTORY_REVOCATION_TYPE, revocation, signing_key("a thief"))))

    def told() -> list[str]:
        refusals = running.reader().read_partition(REFUSALS, 0)
        return [decode(record.value() or b"", AdmissionRefusal).detail for record in refusals]

    wait_for(lambda: any("waiting: no signature by key" in detail for detail in told()), lambda: "a refusal")


def test_admission_may_make_no_topic_but_inboxes(running_backbone: RunningBackbone) -> None:
    admin = AdminClient(running_backbone.backbone.connection("admission").client())
    futures = admin.create_topics([NewTopic("firehose.2", 1, 1)])
    with pytest.raises(KafkaException) as caught:
        futures["firehose.2"].result(30)
    assert "authoriz" in kafka_error(caught.value).str().lower()


def test_admission_killed_between_user_and_record_admits_once_when_it_comes_back(
    running_backbone: RunningBackbone,
) -> None:
    running = running_backbone
    running.processes.pop("admission-1").stop()
    ready = running.launch("admission", crash_at="admission.enrolled")
    dying = running.processes["admission-1"]
    dying.wait_until(ready, seconds=60)
    before = directory(running)
    password = "the password of one who came late"
    submit(running, joining(running, "survivor", password))
    wait_for(lambda: dying.exit_code is not None, lambda: "admission to die")
    assert directory(running).version == before.version
    running.start("admission")
    held = await_version(running, "survivor", before.version + 1)
    assert held.version == before.version + 1
    transport = KafkaTransport(KafkaAccess(running.backbone.admin.bootstrap, "survivor", password))
    assert set(asyncio.run(opened(transport, "survivor")).values()) == {Standing(0, "")}
