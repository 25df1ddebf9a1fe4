"""How every service starts and ends: settings, JSON logs, metrics, signals, exit codes; knows no service's work."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import structlog
from prometheus_client import start_http_server
from pydantic import ValidationError

from parley.errors import ParleyError
from streams.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

STOPPED: Final = "service.stopped"
FAILED: Final = "service.failed"

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2

log = structlog.get_logger()


class Settings(Protocol):
    """What the start-up needs of a service's settings (``streams.settings.ServiceSettings`` has it)."""

    @property
    def instance(self) -> str: ...
    @property
    def metrics_port(self) -> int: ...
    def model_dump_json(self, *, indent: int | None = None) -> str: ...


S = TypeVar("S", bound=Settings)


class Stop:
    """Set by SIGTERM and SIGINT; asks the service to finish what it is doing and return.

    A pipe rather than an event with a lock: a signal handler may run while its own thread holds that lock.
    """

    def __init__(self) -> None:
        self._set = False
        self._read, self._write = os.pipe()

    def is_set(self) -> bool:
        """Whether the service has been asked to stop."""
        return self._set

    def set(self) -> None:
        """Ask the service to stop; safe in a signal handler."""
        if not self._set:
            self._set = True
            os.write(self._write, b"\0")

    def wait(self, timeout: float) -> bool:
        """Sleep for ``timeout`` seconds or until asked to stop; whether the service was asked to."""
        select.select([self._read], [], [], max(timeout, 0.0))
        return self._set

    def on_signals(self) -> None:
        """Let SIGTERM and SIGINT set it; a second signal ends the process at once."""

        def stop(number: int, _: FrameType | None) -> None:
            signal.signal(number, signal.SIG_DFL)
            self.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)


def configure_logging(service: str, instance: str, *, level: int = logging.INFO) -> None:
    """One JSON object a line on standard output, each with the service, the instance, the level and the time."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)


def serve_metrics(port: int) -> None:
    """Serve Prometheus metrics on the loopback interface; port 0 serves none. StreamError if the port is in use."""
    if port == 0:
        return
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise StreamError(
            f"metrics cannot be served on port {port}: {error.strerror}; choose another port, or 0 for none"
        ) from error


def _calm_garbage_collection() -> None:
    """Collect cycles seldom: what a service makes by the thousand holds none, and its state is large and lives long.

    With the standard thresholds, one look at half a million entries held a batch up for 0.6 s.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def run_service(
    service: str,
    load_settings: Callable[[], S],
    run: Callable[[S, Stop], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Everything a service's ``__main__`` does, around ``run(settings, stop)``; returns the exit code.

    0 after a stop that was asked for, 1 for an error (told in one line), 2 for settings that are wrong. ``--check``
    prints the settings that would be used, secrets masked, and ends.
    """
    parser = argparse.ArgumentParser(prog=service)
    parser.add_argument("--check", action="store_true", help="print the settings that would be used, and end")
    check = parser.parse_args(arguments).check
    try:
        settings = load_settings()
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            print(f"{service}: setting {name}: {problem['msg']}", file=sys.stderr)  # noqa: T201 - not a log line
        return EXIT_SETTINGS
    if check:
        print(settings.model_dump_json(indent=2))  # noqa: T201 - what was asked for
        return 0
    _calm_garbage_collection()
    stop = Stop()
    stop.on_signals()
    configure_logging(service, settings.instance)
    try:
        serve_metrics(settings.metrics_port)
        run(settings, stop)
    except ParleyError as error:
        # One clear line: our own errors say what to do, and a stack would hide it.
        log.error(FAILED, reason=str(error), kind=type(error).__name__)  # noqa: TRY400
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201 - for whoever started it by hand
        return EXIT_FAILED
    log.info(STOPPED)
    return 0
