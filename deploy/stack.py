"""The embedded stack of one machine: Kafka, PostgreSQL and a local chain as one unit; Parley's services are not in it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import psutil
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.anvil import Anvil
from deploy.errors import AlreadyRunningError, NotRunningError, StartError
from deploy.folder import StackFolder
from deploy.kafka import ADMIN, Kafka
from deploy.postgres import Postgres
from deploy.process import PidRecord
from deploy.server import Server
from streams.catalogue import Role
from streams.client_quotas import CLIENT_QUOTAS, ClientQuota
from streams.connection import KafkaConnection

_LOCK: Final = "stack.lock"
_ENDPOINTS: Final = "endpoints.json"
_STOP_SECONDS: Final = 30.0

ROUTERS: Final = 2
"""Router processes of a backbone on one machine."""

PIPELINES: Final = ROUTERS
"""Of a new backbone: one for each router, and more can be added. Clients send each partition's records in requests of their own,
so four pipelines on the same routers made messages wait half as long again.
"""


class StackSettings(BaseSettings):
    """How to run the stack, from the environment (``PARLEY_STACK_KAFKA_PORT``…). Without a port, a free one is taken."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_STACK_", frozen=True, extra="forbid")

    kafka_port: int | None = Field(default=None, ge=1, le=65_535)
    postgres_port: int | None = Field(default=None, ge=1, le=65_535)
    anvil_port: int | None = Field(default=None, ge=1, le=65_535)
    kafka_heap_mb: int = Field(default=512, ge=256)
    kafka_optimised: bool = True
    """Whether the broker's code is compiled for a long life, rather than for a short one (see deploy.kafka)."""
    routers: int = Field(default=ROUTERS, ge=1)
    """Router processes that share the pipelines; those that find none left stand by."""
    pipelines: int = Field(default=PIPELINES, ge=1)
    """Added to what there is while deals are open, and never taken away."""
    block_seconds: int = Field(default=1, ge=1)
    postgres: bool = True
    """Whether there is a database at all; nothing on the record needs one."""
    flush: bool = True
    """Whether the record's topics are flushed to disk before a write is acknowledged (see streams.catalogue)."""
    client_quotas: dict[Role, ClientQuota] = Field(default_factory=lambda: dict(CLIENT_QUOTAS))
    """By role what one user may ask of the broker, as JSON: `{"participant": {"producer_bytes": 1048576}}`. A role that is not
    named has no limit, and what participants may, all may who have no role; `{}` limits nobody."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a running stack is reached. It holds no secret: passwords are in the files that it names."""

    kafka_bootstrap: str
    admin_username: str
    admin_password_file: Path
    postgres_dsn: str | None
    """A libpq URI; the server's password is in the file that it names."""
    evm_rpc: str
    flush: bool

    @property
    def admin(self) -> KafkaConnection:
        """The connection of Kafka's super user."""
        password = self.admin_password_file.read_text(encoding="ascii").strip()
        return KafkaConnection(self.kafka_bootstrap, self.admin_username, password)

    @classmethod
    def read(cls, folder: StackFolder) -> Self:
        """Those of the stack that runs in this folder.

        Raises:
            NotRunningError: none does.
        """
        try:
            fields = json.loads((folder.run / _ENDPOINTS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NotRunningError(f"No stack runs in {folder.root}; start one with 'make up'.") from error
        return cls(**fields | {"admin_password_file": Path(fields["admin_password_file"])})

    def write(self, folder: StackFolder) -> None:
        """For those who look for the stack in its folder."""
        fields = asdict(self) | {"admin_password_file": str(self.admin_password_file)}
        draft = folder.run / f".{_ENDPOINTS}"
        draft.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        draft.replace(folder.run / _ENDPOINTS)


class Stack:
    """The servers of one folder. A second start, even after a power cut, finds the data of the first."""

    def __init__(self, folder: StackFolder, settings: StackSettings) -> None:
        self.folder = folder
        self.kafka = Kafka(
            folder,
            port=settings.kafka_port,
            heap_mb=settings.kafka_heap_mb,
            optimised=settings.kafka_optimised,
        )
        self.postgres = Postgres(folder, port=settings.postgres_port) if settings.postgres else None
        self.anvil = Anvil(folder, port=settings.anvil_port, block_seconds=settings.block_seconds)
        self.client_quotas = settings.client_quotas
        self._flush = settings.flush
        self._lock: int | None = None

    @property
    def _parts(self) -> tuple[Server, ...]:
        return (self.kafka, self.anvil) if self.postgres is None else (self.kafka, self.postgres, self.anvil)

    @property
    def endpoints(self) -> Endpoints:
        """Where it is reached, once it runs."""
        return Endpoints(
            self.kafka.bootstrap,
            ADMIN,
            self.kafka.admin_password_file,
            None if self.postgres is None else self.postgres.dsn,
            self.anvil.rpc,
            self._flush,
        )

    def start(self) -> None:
        """Start all servers side by side, and return once each serves; if one does not, none is left running.

        Raises:
            AlreadyRunningError: a stack runs in this folder.
            DeployError: as the servers' ``start``.
        """
        self.folder.create()
        self._lock = take_lock(self.folder)
        try:
            end_leftovers(self.folder)
            with ThreadPoolExecutor(len(self._parts)) as pool:
                for start in [pool.submit(part.start) for part in self._parts]:
                    start.result()
            self.endpoints.write(self.folder)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raises StartError, with the end of its log, if a server ended."""
        for part in self._parts:
            if part.process.exit_code is not None:
                raise StartError(part.process.obituary())

    def stop(self) -> None:
        """Stop all servers; does nothing if this stack does not run."""
        if self._lock is None:
            return
        (self.folder.run / _ENDPOINTS).unlink(missing_ok=True)
        _side_by_side([part.stop for part in self._parts])
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def take_lock(folder: StackFolder) -> int:
    """Make this process the only one to run a stack in the folder, until it ends or closes the descriptor.

    Raises:
        AlreadyRunningError: another process does.
    """
    descriptor = os.open(folder.run / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunningError(
            f"A stack runs in {folder.root} already. See it with 'make status', stop it with 'make down'."
        ) from None
    return descriptor


def end_leftovers(folder: StackFolder) -> None:
    """End what a killed stack left running in this folder, and forget pid files of processes that are gone.

    A pid file whose pid belongs to another process by now is only removed: the process it meant has ended.
    """
    leftovers = []
    for pid_file in folder.run.glob("*.pid"):
        record = PidRecord.read(pid_file)
        if record is not None and record.alive() and record.pid != os.getpid():
            with suppress(psutil.Error):
                process = psutil.Process(record.pid)
                process.terminate()
                leftovers.append(process)
        pid_file.unlink(missing_ok=True)
    _, stubborn = psutil.wait_procs(leftovers, timeout=_STOP_SECONDS)
    for process in stubborn:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=_STOP_SECONDS)


def _side_by_side(actions: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(max(1, len(actions))) as pool:
        for action in [pool.submit(each) for each in actions]:
            action.result()
