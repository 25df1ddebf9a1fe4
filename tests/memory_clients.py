"""Participants at a backbone in memory, for tests of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import TypeVar

import parley
from parley.client import Participant
from tests.memory_backbone import MemoryBackbone, MemoryTransport
from tests.synthetic_ledger import signing_key

__all__ = ["MINUTES", "connected", "next_of", "until"]

T = TypeVar("T")
MINUTES = timedelta(minutes=5)


def connected(
    backbone: MemoryBackbone,
    name: str,
    consumer: str | None = "main",
    transport: MemoryTransport | None = None,
    *,
    acknowledges: bool = True,
) -> Participant:
    """A connection of this participant, whose clock is the broker's."""
    return parley.connect(
        transport or backbone.transport(),
        participant=name,
        key=signing_key(name),
        consumer=consumer,
        acknowledges=acknowledges,
        registrar=backbone.registrar.public,
        clock=lambda: backbone.now,
    )


async def next_of(events: AsyncIterator[T]) -> T:
    """The next event, which must come soon."""
    async with asyncio.timeout(5):
        return await anext(events)


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the backbone in memory tells nobody
            await asyncio.sleep(0)
