"""A whole backbone for tests: broker, admission, router and delivery as real processes, and banks that have joined."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

import parley
from deploy.backbone import Backbone
from deploy.backbone import Participant as Joining
from deploy.folder import CHECKOUT
from deploy.kafka import Kafka
from deploy.process import ChildProcess
from parley.client import Participant
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.kafka import KafkaAccess, KafkaTransport
from parley.keys import public_key
from parley.schemas import DirectoryEntry
from streams.catalogue import Role
from tests.synthetic_ledger import signing_key

__all__ = ["RunningBackbone", "running_backbone"]

_PIPELINES = 2


@dataclass(frozen=True, slots=True)
class RunningBackbone:
    """A backbone that runs; participants join it by name."""

    backbone: Backbone

    @property
    def registrar(self) -> bytes:
        return self.backbone.registrar_key.public

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
                    seal(DIRECTORY_ENTRY_TYPE, _entry(name), signing_key(name)),
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
        )


def _entry(name: str) -> DirectoryEntry:
    keys = (public_key(signing_key(name).public),)
    return DirectoryEntry(name, f"{name.title()} plc", None, None, "DE", "BANK", keys, (), (name,))


@pytest.fixture(scope="session")
def running_backbone(kafka: Kafka) -> Iterator[RunningBackbone]:
    """A backbone with two pipelines, one router process, delivery and admission."""
    folder = kafka._folder
    backbone = Backbone(folder, kafka.admin, pipelines=_PIPELINES, durable=False)
    backbone.provision()
    with ExitStack() as processes:
        for service, module in (
            ("admission", "router.admission"),
            ("router", "router"),
            ("delivery", "router.delivery"),
        ):
            prefix = f"PARLEY_{service.upper()}_"
            environment = os.environ | {
                f"{prefix}KAFKA_BOOTSTRAP": kafka.bootstrap,
                f"{prefix}KAFKA_USERNAME": service,
                f"{prefix}KAFKA_PASSWORD_FILE": str(folder.password_file(service)),
            }
            if service != "delivery":
                environment[f"{prefix}REGISTRAR_KEY"] = backbone.registrar_key.public.hex()
            if service == "router":
                environment[f"{prefix}KEY_FILE"] = str(folder.secrets / "router.seed")
            process = ChildProcess.start(
                service,
                [sys.executable, "-m", module],
                log=folder.log_file(service),
                pid_file=folder.pid_file(service),
                env=environment,
                cwd=CHECKOUT,
            )
            processes.callback(process.stop)
        yield RunningBackbone(backbone)
