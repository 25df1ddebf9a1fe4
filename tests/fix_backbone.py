"""A whole backbone for tests: broker, admission, routers and delivery as real processes, and banks that have joined."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, repeat
from pathlib import Path

import pytest

import parley
from deploy.backbone import Backbone
from deploy.backbone import Participant as Joining
from deploy.compiled import compiled_root
from deploy.folder import CHECKOUT, StackFolder
from deploy.kafka import Kafka
from deploy.process import ChildProcess, text_after
from parley.blocks import BlockStore, from_folder
from parley.client import Participant
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.grants import KeyRing
from parley.kafka import KafkaAccess, KafkaTransport
from parley.keys import public_key
from parley.note import NoteSigner
from parley.schemas import DirectoryEntry
from streams.catalogue import Role
from streams.crashpoint import VARIABLE
from streams.processor import READY
from streams.reader import Reader
from tests.synthetic_ledger import encryption_key, signing_key

__all__ = ["RunningBackbone", "entry_of", "own_backbone", "running_backbone"]

_MODULES = {
    "admission": "router.admission",
    "router": "router",
    "delivery": "router.delivery",
    "blockbuilder": "blockbuilder",
}
_READY_SECONDS = 60.0
LOG_ORIGIN = "ledger.example/log"


@dataclass(frozen=True, slots=True)
class RunningBackbone:
    """A backbone that runs; participants join it by name, and ``processes`` are by service and instance."""

    backbone: Backbone
    processes: dict[str, ChildProcess] = field(default_factory=dict)
    router_homes: Iterator[Path] = field(default_factory=lambda: repeat(CHECKOUT))
    """Where the next router, and the one after that, imports itself from."""

    @property
    def registrar(self) -> bytes:
        return self.backbone.registrar_key.public

    @property
    def block_store(self) -> Path:
        """Where the block builder writes."""
        return self.backbone.folder.root / "blocks"

    def sealed(self) -> BlockStore:
        """What it has written, at its newest checkpoint."""
        signer = NoteSigner(LOG_ORIGIN, self.backbone.key("blockbuilder"))
        return BlockStore(from_folder(self.block_store), signer.verifier_key)

    # Participants --------------------------------------------------------------------------------------------------

    def access(self, user: str) -> KafkaAccess:
        return KafkaAccess(self.backbone.admin.bootstrap, user, f"password-of-{user}")

    def join(self, *names: str) -> None:
        """Make them participants: a Kafka user, an inbox, and an admitted entry with the key of that name."""
        self.backbone.join(
            [
                Joining(
                    name,
                    f"password-of-{name}",
                    Role.PARTICIPANT,
                    (name,),
                    seal(DIRECTORY_ENTRY_TYPE, entry_of(name), signing_key(name)),
                )
                for name in names
            ]
        )
        self.backbone.await_admission(names)

    def join_reader(self, name: str, role: Role) -> None:
        """Make a Kafka user that only reads."""
        self.backbone.join([Joining(name, f"password-of-{name}", role)])

    def connect(self, name: str) -> Participant:
        return parley.connect(
            KafkaTransport(self.access(name)),
            participant=name,
            key=signing_key(name),
            registrar=self.registrar,
            decryptor=KeyRing([encryption_key(name)]),
        )

    def reader(self) -> Reader:
        """Reads any topic, committed records only."""
        return Reader(self.backbone.admin)

    # Processes -----------------------------------------------------------------------------------------------------

    def launch(
        self, service: str, instance: str = "1", *, crash_at: str = "", **settings: str
    ) -> Callable[[], bool]:
        """Start a process; what is given back tells whether it is ready. ``settings`` are of the service, in its names."""
        folder, name = self.backbone.folder, f"{service}-{instance}"
        log = folder.log_file(name)
        begin = log.stat().st_size if log.exists() else 0
        self.processes[name] = ChildProcess.start(
            name,
            [sys.executable, "-m", _MODULES[service]],
            log=log,
            pid_file=folder.pid_file(name),
            env=os.environ | self._environment(service, instance, settings) | {VARIABLE: crash_at},
            cwd=next(self.router_homes) if service == "router" else CHECKOUT,
        )
        return lambda: READY in text_after(log, begin)

    def start(self, service: str, instance: str = "1", **settings: str) -> ChildProcess:
        """Start a process and return once it is at work."""
        ready = self.launch(service, instance, **settings)
        process = self.processes[f"{service}-{instance}"]
        process.wait_until(ready, seconds=_READY_SECONDS)
        return process

    def stop(self) -> None:
        """End every process."""
        for process in self.processes.values():
            process.stop()
        self.processes.clear()

    def _environment(self, service: str, instance: str, settings: dict[str, str]) -> dict[str, str]:
        folder = self.backbone.folder
        named = {
            "kafka_bootstrap": self.backbone.admin.bootstrap,
            "kafka_username": service,
            "kafka_password_file": str(folder.password_file(service)),
            "instance": instance,
        }
        if service in ("admission", "router"):
            named["registrar_key"] = self.registrar.hex()
        if service == "admission":
            named["key_file"] = str(folder.secrets / "admission.x25519")
        if service == "router":
            named["key"] = str(folder.secrets / "router.seed")
            named["sealed_keys"] = str(self.backbone.sealing_folder)
        if service == "blockbuilder":
            named["store"] = str(self.block_store)
            named["key"] = str(folder.secrets / "blockbuilder.seed")
            named["origin"] = LOG_ORIGIN
        return {f"PARLEY_{service}_{name}".upper(): value for name, value in (named | settings).items()}


def entry_of(name: str, *addresses: str) -> DirectoryEntry:
    """The entry of a bank with the keys of that name, at these addresses or at its name."""
    signing = (public_key(signing_key(name).public),)
    encryption = (public_key(encryption_key(name).public),)
    return DirectoryEntry(
        name, f"{name.title()} plc", None, None, "DE", "BANK", signing, encryption, addresses or (name,)
    )


@pytest.fixture(scope="module")
def running_backbone(kafka: Kafka) -> Iterator[RunningBackbone]:
    """A backbone with two pipelines, one router process, delivery and admission."""
    backbone = Backbone(kafka._folder, kafka.admin, pipelines=2, durable=False)
    backbone.provision()
    running = RunningBackbone(backbone)
    try:
        ready = [running.launch(service) for service in ("admission", "router", "delivery")]
        for process, is_ready in zip(list(running.processes.values()), ready, strict=True):
            process.wait_until(is_ready, seconds=_READY_SECONDS)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def own_backbone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBackbone]:
    """A backbone of four pipelines on a broker of its own, whose processes a test starts, kills and starts again.

    Only admission runs from the start; alice, bob and mallory have joined. Where the router is compiled, every other one runs
    interpreted: what either leaves behind when it dies, the other takes up.
    """
    with Kafka(StackFolder(tmp_path_factory.mktemp("own"))) as kafka:
        backbone = Backbone(kafka._folder, kafka.admin, pipelines=4, durable=False)
        backbone.provision()
        running = RunningBackbone(backbone, router_homes=cycle((compiled_root(), CHECKOUT)))
        try:
            running.start("admission")
            running.join("alice", "bob", "mallory")
            yield running
        finally:
            running.stop()
