"""What the servers of the stack have in common: a folder, a port, one process that is ready or is not; not which."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final, Self

from deploy.errors import StartError
from deploy.folder import StackFolder
from deploy.launch import Identity
from deploy.ports import choose_port
from deploy.process import ChildProcess

_START_SECONDS: Final = 120.0


class Server(ABC):
    """A server whose data, log and passwords lie in a stack's folder. A second start finds the first one's data."""

    name: ClassVar[str]
    """Of its log and pid file."""
    title: ClassVar[str]
    """For people."""

    def __init__(self, folder: StackFolder, port: int | None) -> None:
        self._folder = folder
        self._wanted_port = port
        self._process: ChildProcess | None = None
        self.port = 0
        """Where it listens on the loopback interface, once it was started."""

    @abstractmethod
    def start(self) -> None:
        """Make its data if the folder is new, start it, and return once it serves.

        Raises:
            SetupError: its program is missing.
            PortInUseError: the port asked for is taken.
            AlreadyRunningError: this folder's server runs already.
            StartError: it did not become ready.
        """

    @property
    def process(self) -> ChildProcess:
        """Its process.

        Raises:
            StartError: it was not started.
        """
        if self._process is None:
            raise StartError(f"{self.title} was not started; call start() first.")
        return self._process

    def stop(self) -> None:
        """Stop it in good order; does nothing if it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _choose_port(self) -> None:
        """Take the port asked for, else last time's if it is free, else any free one."""
        last = self._folder.last_port(self.name)
        self.port = choose_port(self._wanted_port, part=self.title, preferred=last)

    def _run(
        self,
        arguments: Sequence[str | Path],
        ready: Callable[[str], bool],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 30,
        identity: Identity = Identity.OURS,
    ) -> None:
        """Start the program; return once ``ready`` holds of what it put out, or stop it again and raise."""
        self._process = ChildProcess.start(
            self.name,
            arguments,
            log=self._folder.log_file(self.name),
            pid_file=self._folder.pid_file(self.name),
            port=self.port,
            stop_signal=stop_signal,
            stop_seconds=stop_seconds,
            identity=identity,
        )
        process = self._process
        try:
            process.wait_until(lambda: ready(process.output()), seconds=_START_SECONDS)
        except BaseException:
            self.stop()
            raise
        self._folder.remember_port(self.name, self.port)
