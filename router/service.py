"""The router process: keys and directory from outside, the handler inside the exactly-once processor."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ExtensionFileLoader
from typing import Final

import structlog

from parley.custody import load_signatory
from parley.directory import Directory
from router import core
from router.errors import RecoveryError
from router.handler import Router
from router.sealed_addresses import SealedAddresses
from router.sealing_keys import read_keys
from router.settings import RouterSettings
from streams.catalogue import DIRECTORY, INGEST, ROUTER_STATE
from streams.processor import Processor, ProcessorConfig
from streams.reader import Follower
from streams.runtime import Stop

__all__ = ["SERVICE", "STARTED", "is_compiled", "run"]

SERVICE = "router"
STARTED: Final = "router.started"
_PATIENCE_SECONDS: Final = 30.0

log = structlog.get_logger()


class DirectoryFeed:
    """Keeps a directory up to date from its topic."""

    def __init__(self, directory: Directory, follower: Follower) -> None:
        self._directory = directory
        self._follower = follower

    def catch_up(self) -> None:
        """Read the directory to its present end, before the first record is judged by it."""
        while not self._follower.at_end:
            self._take(0.1)

    def refresh(self, version: int) -> None:
        """Take what has been admitted since, and wait until this version is read; costs next to nothing when it is."""
        self._take(0.0)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._directory.version < version:
            self._take(0.1)
            if time.monotonic() > deadline:
                raise RecoveryError(
                    f"the firehose was judged by directory version {version}, and the directory ends at"
                    f" {self._directory.version}; restore the topic before going on"
                )

    def _take(self, timeout_s: float) -> None:
        for record in self._follower.poll(timeout_s=timeout_s):
            if (data := record.value()) is not None:
                self._directory.apply(data)


def is_compiled() -> bool:
    """Whether this process has the router as machine code (`deploy.compiled`)."""
    return core.__spec__ is not None and isinstance(core.__spec__.loader, ExtensionFileLoader)


def run(settings: RouterSettings, stop: Stop) -> None:
    """Route until asked to stop."""
    connection = settings.connection()
    directory = Directory(bytes.fromhex(settings.registrar_key))
    with (
        Follower(connection, DIRECTORY, {0: 0}) as follower,
        ThreadPoolExecutor(settings.threads) as executor,
    ):
        feed = DirectoryFeed(directory, follower)
        feed.catch_up()
        log.info(STARTED, compiled=is_compiled(), directory_version=directory.version)
        router = Router(
            directory,
            load_signatory(settings.key),
            settings.limits(),
            feed.refresh,
            executor,
            settings.threads,
            SealedAddresses(() if settings.sealed_keys is None else read_keys(settings.sealed_keys)),
        )
        config = ProcessorConfig(
            SERVICE,
            settings.instance,
            INGEST,
            ROUTER_STATE,
            batch_records=settings.batch_records,
            gather_ms=settings.gather_ms,
        )
        Processor(config, connection, router).run(stop.is_set)
