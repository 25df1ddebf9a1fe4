"""Ports for servers that are started later."""

from __future__ import annotations

import socket

from deploy.ports import LOOPBACK, free_port, is_free


def test_no_port_is_given_twice() -> None:
    """Of 500 out of 12,000, chosen with no memory, some would be the same but once in thirty thousand times."""
    assert len({free_port() for _ in range(500)}) == 500


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        assert not is_free(server.getsockname()[1])
