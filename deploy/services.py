"""Parley's own services as processes of this one; what each is told is data that others put together."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from deploy.errors import StartError
from deploy.folder import CHECKOUT, StackFolder
from deploy.process import ChildProcess

READY: Final = "service.ready"
"""The event by which a service tells that it works (``streams.processor``)."""

_START_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05

# What a service takes over from our environment; the rest would only make runs differ.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Service:
    """One process to be: its name (and log's name), its module, and its settings as environment variables."""

    name: str
    module: str
    env: Mapping[str, str] = field(repr=False)
    ready: str = READY
    """The log event that says it works."""
    port: int | None = None
    """Where it serves its metrics, for people."""


class Services:
    """Some services, running. Their JSON logs are in the folder, one file each.

    Those whose package ``root`` has run from there (`deploy.compiled`), all others from the checkout.
    """

    def __init__(self, folder: StackFolder, services: Sequence[Service], root: Path = CHECKOUT) -> None:
        self._folder = folder
        self._root = root
        self._services = {service.name: service for service in services}
        self._processes: dict[str, ChildProcess] = {}

    def start(self, *, seconds: float = _START_SECONDS) -> None:
        """Start all side by side, and return once each has said that it is ready; if one does not, stop all.

        Raises:
            StartError: one ended or took too long; the message holds the end of its log.
        """
        self._folder.create()
        try:
            for service in self._services.values():
                self._spawn(service)
            waiting = list(self._services)
            deadline = time.monotonic() + seconds
            while waiting:
                self.check()
                waiting = [name for name in waiting if not self._is_ready(name)]
                self._give_up_after(deadline, waiting)
                time.sleep(_POLL_SECONDS if waiting else 0)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raises StartError, with the end of its log, if a service ended."""
        for name in self.ended():
            raise StartError(self._processes[name].obituary())

    def ended(self) -> list[str]:
        """The names of those that ended on their own."""
        return [name for name, process in self._processes.items() if process.exit_code is not None]

    def process(self, name: str) -> ChildProcess:
        """The process of that service.

        Raises:
            StartError: it was not started.
        """
        try:
            return self._processes[name]
        except KeyError:
            raise StartError(f"{name} was not started; call start() first.") from None

    def restart(self, name: str) -> None:
        """Start a service again, without waiting until it is ready; one that still runs is stopped first."""
        self.process(name).stop()
        self._spawn(self._services[name])

    def stop(self) -> None:
        """Ask all to end, side by side, and kill what does not within its time."""
        processes = list(self._processes.values())
        self._processes = {}
        with ThreadPoolExecutor(max(1, len(processes))) as pool:
            for stop in [pool.submit(process.stop) for process in processes]:
                stop.result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, service: Service) -> None:
        self._processes[service.name] = ChildProcess.start(
            service.name,
            [sys.executable, "-m", service.module],
            log=self._folder.log_file(service.name),
            pid_file=self._folder.pid_file(service.name),
            env=_inherited() | {"PYTHONUNBUFFERED": "1"} | dict(service.env),
            cwd=self._home(service),
            port=service.port,
        )

    def _home(self, service: Service) -> Path:
        """The folder that has the service's package, and from which it imports it."""
        package, _, _ = service.module.partition(".")
        return self._root if (self._root / package).is_dir() else CHECKOUT

    def _give_up_after(self, deadline: float, waiting: list[str]) -> None:
        if waiting and time.monotonic() > deadline:
            story = self._processes[waiting[0]].last_lines()
            raise StartError(f"Not ready in time: {', '.join(waiting)}.\n{story}")

    def _is_ready(self, name: str) -> bool:
        return f'"{self._services[name].ready}"' in self._processes[name].output()


def _inherited() -> dict[str, str]:
    # PARLEY_… lets an operator tune a service; what the service is told by us comes after and wins.
    return {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("PARLEY_")
    }
