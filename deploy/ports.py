"""Ports on the loopback interface: which are free, and who holds one that is not."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import Final

import psutil

from deploy.errors import PortInUseError

LOOPBACK: Final = "127.0.0.1"

# Below the range from which kernels take the ports of outgoing connections, so that none of those gets in between
# the choice of a port and the server's bind.
_CANDIDATES: Final = range(20_000, 32_000)
_given: Final[set[int]] = set()
"""What this process chose before: who asked may not listen on it yet, as a stack's services, whose ports are chosen first."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port on which nothing listens, and which this process was not given before.

    Raises:
        PortInUseError: a hundred random ports in a row were taken.
    """
    for port in random.sample(_CANDIDATES, 100):
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    message = f"No free port found between {_CANDIDATES.start} and {_CANDIDATES.stop}; stop what holds them."
    raise PortInUseError(message)


def choose_port(wanted: int | None, *, part: str, preferred: int | None = None) -> int:
    """The wanted port if it is free; without a wish, the preferred one if it is free, else any free port.

    Raises:
        PortInUseError: the wanted port is taken; the message names the holder where it may be known.
    """
    if wanted is None:
        if preferred is None or not is_free(preferred):
            return free_port()
        _given.add(preferred)
        return preferred
    if is_free(wanted):
        return wanted
    message = f"Port {wanted}, wanted for {part}, is in use{_holder(wanted)}: stop it or choose another port."
    raise PortInUseError(message)


def accepts(port: int) -> bool:
    """Whether something answers on this loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def _holder(port: int) -> str:
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
