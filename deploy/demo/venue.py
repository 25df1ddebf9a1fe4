"""The demonstration's backbone with everybody on it: stack, services, participants, their processes; judges nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final

from deploy.backbone import LEDGER, REGISTRAR, Backbone, Participant
from deploy.demo.folder import DemoFolder
from deploy.demo.orders import Account, Orders, orders_for, write, write_instructions
from deploy.demo.reference import Institution, Trade, sides
from deploy.folder import write_private
from deploy.inventory import anchoring_account, backbone_services
from deploy.services import Service, Services
from deploy.stack import PIPELINES, ROUTERS, Stack, StackSettings
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.keystore import INTERACTIVE, Keystore
from parley.schemas import DirectoryEntry
from parley.schemas import Role as EntryRole
from parley.workflows.settlement.steps import KIND
from streams.catalogue import Role

__all__ = ["AUDITOR", "MONITOR", "Pace", "Venue"]

ORIGIN: Final = "demo.parley.localhost/log"

AUDITOR: Final = Institution("", "auditor", "An independent auditor", "ZZ", "auditor")
MONITOR: Final = "monitor"
"""The regulator's process, and its Kafka user."""

_ROLES: Final[Mapping[str, tuple[EntryRole, Role]]] = {
    "bank": ("BANK", Role.PARTICIPANT),
    "csd": ("CSD", Role.PARTICIPANT),
    "regulator": ("REGULATOR", Role.REGULATOR),
    "auditor": ("AUDITOR", Role.AUDITOR),
}
_START_SECONDS: Final = 120.0
# Anchors follow each other quickly, since a demonstration is short.
_TUNING: Final = {"PARLEY_ANCHOR_INTERVAL": "4", "PARLEY_ANCHOR_POLL": "0.5"}

Step = Callable[[str], AbstractContextManager[None]]
"""Shows a step of the work, by its title, while it lasts."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast trades are opened, all banks together, and how long each may take; in seconds."""

    openings_per_second: float
    deadline_seconds: float


class Venue:
    """Everything that runs. ``close`` stops all that was started, however far ``start`` came."""

    def __init__(
        self,
        folder: DemoFolder,
        institutions: Sequence[Institution],
        trades: Sequence[Trade],
        pace: Pace,
        step: Step,
    ) -> None:
        self._folder = folder
        self._institutions = [*institutions, AUDITOR]
        self._banks = [each for each in institutions if each.role == "bank"]
        self.regulator = next(each.participant for each in institutions if each.role == "regulator")
        """Whose grant every trade's opening must carry."""
        self._trades = trades
        self._sides = sides()
        self._pace = pace
        self._step = step
        self._stack = Stack(folder.stack, StackSettings(postgres=False, kafka_optimised=False))
        self._running = ExitStack()
        self._backbone: Backbone | None = None
        self._services: dict[str, Services] = {}

    @property
    def backbone(self) -> Backbone:
        """The backbone, once it runs."""
        assert self._backbone is not None
        return self._backbone

    @property
    def durable(self) -> bool:
        """Whether the record is flushed to disk before a write is acknowledged."""
        return self._stack.endpoints.flush

    @property
    def rpc(self) -> str:
        """The chain's endpoint."""
        return self._stack.anvil.rpc

    @property
    def contract(self) -> str:
        """The address of the anchor contract."""
        return (self._folder.stack.anvil / "contract").read_text(encoding="ascii").strip()

    def account(self, user: str) -> Account:
        """What a process needs to come in as this user."""
        return Account(
            user,
            self._stack.kafka.bootstrap,
            self._folder.stack.password_file(user),
            self.backbone.registrar_key.public.hex(),
        )

    def start(self) -> None:
        """Start stack and services, and let everybody join.

        Raises:
            ParleyError: something did not start; the message holds the end of its log.
        """
        with self._step("Kafka and a local chain start"):
            self._running.enter_context(self._stack)
        with self._step("topics, users and permissions are made, and the anchor contract"):
            services = self._provision()
        with self._step("admission, routers, delivery, block builder and anchor start"):
            self._run("services", services)
        with self._step(f"the registrar admits {len(self._institutions)} participants"):
            self.backbone.await_admission(each.participant for each in self._institutions)

    def close(self) -> None:
        """Stop everything, the last first."""
        self._running.close()

    def check(self) -> None:
        """Raises StartError, with the end of its log, if any process ended that should run."""
        self._stack.check()
        for services in self._services.values():
            services.check()

    def open_market(self) -> None:
        """Start the regulator's monitor and every bank; they trade as soon as they are connected."""
        with self._step("the regulator and the banks connect"):
            self._run(MONITOR, [self._monitor()])
            self._run("banks", [self._bank(bank) for bank in self._banks])

    def close_market(self) -> None:
        """Stop the banks and the monitor; what they had to report is written then."""
        for name in ("banks", MONITOR):
            self._services.pop(name).stop()

    def _provision(self) -> list[Service]:
        """Make all that the services and the participants need; gives the services."""
        backbone = Backbone(
            self._folder.stack,
            self._stack.kafka.admin,
            pipelines=PIPELINES,
            durable=self.durable,
            quotas=self._stack.client_quotas,
        )
        self._backbone = backbone
        for name in (REGISTRAR, "router", "blockbuilder", LEDGER):
            backbone.key(name)
        _ = backbone.admission_key
        account = anchoring_account(self._folder.stack)
        # The contract takes as long as the topics, and neither needs the other.
        with ThreadPoolExecutor(1) as pool:
            services = pool.submit(
                backbone_services,
                self._stack,
                backbone,
                self._folder.public,
                routers=ROUTERS,
                origin=ORIGIN,
                extra=_TUNING | {"PARLEY_ROUTER_REQUIRED_READERS": self._policy()},
            )
            backbone.provision([account])
            monitor = Participant(MONITOR, self._folder.stack.password(MONITOR), Role.MONITOR)
            backbone.join([*map(self._participant, self._institutions), monitor])
            return services.result()

    def _run(self, name: str, services: Sequence[Service]) -> None:
        running = Services(self._folder.stack, services)
        self._running.callback(running.stop)
        running.start(seconds=_START_SECONDS)
        self._services[name] = running

    def _participant(self, institution: Institution) -> Participant:
        """An institution as it joins: with a Kafka user, an inbox, and an entry signed by a key of its own keystore."""
        name = institution.participant
        key, encryption_key = SigningKey.generate(), EncryptionKey.generate()
        password = self._folder.keystore_password(name)
        keystore = Keystore.create(self._folder.keystore(name), name, password, cost=INTERACTIVE)
        keystore.add("signing", key)
        keystore.add("encryption", encryption_key)
        keystore.save()
        write_private(self._folder.profile(name), self._profile(name))
        entry_role, role = _ROLES[institution.role]
        entry = DirectoryEntry(
            participant=name,
            legal_name=institution.legal_name,
            lei=institution.lei or None,
            bic=institution.bic if institution.lei else None,
            country=institution.country,
            role=entry_role,
            signing_keys=(public_key(key.public),),
            encryption_keys=(public_key(encryption_key.public),),
            addresses=(name,),
        )
        envelope = seal(DIRECTORY_ENTRY_TYPE, entry, key)
        return Participant(name, self._folder.stack.password(name), role, (name,), envelope)

    def _profile(self, name: str) -> str:
        """What the participant's own command is told, as TOML."""
        values = {
            "participant": name,
            "bootstrap": self._stack.kafka.bootstrap,
            "registrar": self.backbone.registrar_key.public.hex(),
            "password_file": self._folder.stack.password_file(name).name,
            "keystore": self._folder.keystore(name).name,
            "keystore_password_file": self._folder.keystore_password_file(name).name,
        }
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())

    def _policy(self) -> str:
        """Who must be granted the key to a transaction, by its kind, as JSON."""
        return json.dumps({KIND: [self.regulator]})

    def _bank(self, bank: Institution) -> Service:
        name = bank.participant
        path = self._folder.orders(name)
        orders = orders_for(bank.lei, self._trades, self._folder.instructions(name))
        write_instructions(orders, self._sides)
        write(
            path,
            Orders(
                account=self.account(name),
                keystore=self._folder.keystore(name),
                keystore_password_file=self._folder.keystore_password_file(name),
                regulator=self.regulator,
                orders=orders,
                deadline_seconds=self._pace.deadline_seconds,
                pause_seconds=len(self._banks) / self._pace.openings_per_second,
            ),
        )
        env = {"PARLEY_BANK_ORDERS": str(path), "PARLEY_BANK_REPORT": str(self._folder.report(name))}
        return Service(f"bank-{name}", "deploy.demo.bank", env, ready="bank.connected")

    def _monitor(self) -> Service:
        account = self.account(MONITOR)
        env = {
            "KAFKA_BOOTSTRAP": account.bootstrap,
            "KAFKA_USERNAME": account.participant,
            "KAFKA_PASSWORD_FILE": str(account.password_file),
            "STATE_FILE": str(self._folder.figures),
            "SAVE_INTERVAL_MS": "250",
            "KEYSTORE": str(self._folder.keystore(self.regulator)),
            "KEYSTORE_PASSWORD_FILE": str(self._folder.keystore_password_file(self.regulator)),
        }
        settings = {f"PARLEY_MONITOR_{name}": value for name, value in env.items()}
        return Service(MONITOR, "firehose", settings, ready="monitor.started")
