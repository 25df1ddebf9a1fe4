"""Participants of a backbone in memory, connected, and what waits for them within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TypeVar

import parley
from parley.client import Participant
from parley.deal import Deal, DealMessage
from parley.grants import KeyRing
from parley.schemas import Action, MessageId
from tests.memory_backbone import MemoryBackbone
from tests.synthetic_ledger import encryption_key, signing_key

__all__ = ["both_hear", "connected", "opened_by", "soon", "spoken", "two", "until"]

T = TypeVar("T")
_SECONDS = 30


def connected(backbone: MemoryBackbone, name: str) -> Participant:
    """A participant who can speak and read in private, to be entered."""
    return parley.connect(
        backbone.transport(),
        participant=name,
        key=signing_key(name),
        decryptor=KeyRing([encryption_key(name)]),
        registrar=backbone.registrar.public,
        clock=lambda: backbone.now,
    )


def spoken(
    sequence: int, sender: str, content_type: str, content: bytes, action: Action = "CONTINUE"
) -> DealMessage:
    """A message as a deal holds it, whether or not a router would let it be said."""
    identity = MessageId(sha256(content + bytes([sequence])).digest())
    return DealMessage(identity, sequence, sender, action, content_type, content, 0, 0, sequence)


async def soon(waiting: Awaitable[T]) -> T:
    """What is waited for, which comes at once."""
    async with asyncio.timeout(_SECONDS):
        return await waiting


async def until(condition: Callable[[], bool]) -> None:
    """Let others work until something is so."""
    async with asyncio.timeout(_SECONDS):
        while not condition():  # noqa: ASYNC110  the backbone in memory tells nobody
            await asyncio.sleep(0.001)


async def opened_by(opener: Participant, other: Participant, deal: Deal) -> Deal:
    """The other's side of a deal that the first has just opened."""
    assert opener.deal(deal.id) is deal
    theirs = await soon(anext(aiter(other.opened())))
    assert theirs.id == deal.id
    return theirs


async def both_hear(*deals: Deal) -> None:
    """Wait until all sides of a deal have heard as much as the one that has heard most."""
    await until(lambda: len({len(deal.messages) for deal in deals}) == 1)


@asynccontextmanager
async def two(
    backbone: MemoryBackbone, first: str, second: str
) -> AsyncIterator[tuple[Participant, Participant]]:
    """Two participants, connected."""
    async with connected(backbone, first) as one, connected(backbone, second) as other:
        yield one, other
