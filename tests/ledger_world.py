"""A ledger service at work in memory: backbone, chain, parties with attested accounts, and lives that may be cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import parley
from anchor.ledger.desk import LedgerDesk, Policy
from parley.client import Participant
from parley.events import read_spoken
from parley.grants import KeyRing
from parley.schemas import FirehoseEvent, Message, decode
from parley.workflows.ledger import LedgerDelivery, open_delivery
from parley.workflows.ledger_steps import RECEIPT_KIND
from tests.memory_backbone import MemoryBackbone, MemoryTransport
from tests.memory_chain import CHAIN, CHAIN_ID, MemoryChain, caip, wallet
from tests.synthetic_ledger import encryption_key, signing_key

SERVICE: Final = "ledger"
PARTIES: Final = ("alice", "bob")
MINUTES: Final = timedelta(minutes=5)
GIVE_UP_AFTER: Final = 600_000
_PATIENCE: Final = 10.0


class CrashError(BaseException):
    """The process is gone; nobody gets to clean up."""


@dataclass
class Fuse:
    """Ends a life at the write number ``at`` (from 1) to ``ingest``, before or after it."""

    at: int = 0
    before: bool = False
    writes: int = 0


class FusedTransport(MemoryTransport):
    """A transport whose process may end while it writes."""

    fuse: Fuse

    async def produce(self, pipeline: int, key: bytes, value: bytes) -> None:
        self.fuse.writes += 1
        blown = self.fuse.writes == self.fuse.at
        if blown and self.fuse.before:
            raise CrashError
        await super().produce(pipeline, key, value)
        if blown:
            raise CrashError


@dataclass
class LedgerWorld:
    """``alice`` and ``bob`` have an account each, with a hundred ether."""

    pipelines: int = 1
    backbone: MemoryBackbone = field(init=False)
    chain: MemoryChain = field(default_factory=MemoryChain)

    def __post_init__(self) -> None:
        self.backbone = MemoryBackbone(*PARTIES, SERVICE, pipelines=self.pipelines)
        for name in PARTIES:
            self.attest(name, caip(wallet(name)))
            self.chain.fund(wallet(name))

    def attest(self, name: str, *accounts: str) -> None:
        """Put accounts into a participant's entry."""
        entry = self.backbone.directory.entry(name)
        assert entry is not None
        after = entry._replace(accounts=accounts, previous=self.backbone.directory.version_of(name))
        self.backbone.change(after, signing_key(name), self.backbone.registrar)

    def connect(self, name: str, transport: MemoryTransport | None = None) -> Participant:
        return parley.connect(
            transport or self.backbone.transport(),
            participant=name,
            key=signing_key(name),
            registrar=self.backbone.registrar.public,
            decryptor=KeyRing([encryption_key(name)]),
            clock=lambda: self.backbone.now,
        )

    @asynccontextmanager
    async def serving(
        self, fuse: Fuse | None = None, give_up_after: int = GIVE_UP_AFTER
    ) -> AsyncIterator[asyncio.Task[None]]:
        """The service, until the block is left; its task ends by itself where the fuse blows."""
        transport = FusedTransport(self.backbone)
        transport.fuse = fuse or Fuse()
        self.backbone.connections.append(transport)

        async def live() -> None:
            policy = Policy(CHAIN, CHAIN_ID, self.chain.confirmations, give_up_after, 0.02)
            async with self.connect(SERVICE, transport) as me:
                await LedgerDesk(me, self.chain, policy, b"a secret of the service's").run()

        task = asyncio.create_task(live())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
            self.backbone.connections.remove(transport)
            if not task.cancelled():
                _ = task.exception()

    @asynccontextmanager
    async def parties(self) -> AsyncIterator[tuple[Participant, Participant]]:
        async with self.connect("alice") as alice, self.connect("bob") as bob:
            yield alice, bob

    async def deliveries(
        self, alice: Participant, bob: Participant, *, private: bool = False, chain: str = CHAIN
    ) -> tuple[LedgerDelivery, LedgerDelivery]:
        """A delivery that alice opens, in both hands."""
        ours = await open_delivery(alice, ["bob"], chain=chain, deadline=MINUTES, private=private)
        opened = bob.opened()
        while (deal := await anext(opened)).id != ours.deal.id:
            pass
        return ours, LedgerDelivery(deal)

    def said(self, kind: str) -> list[Message]:
        """Every message on the firehose in transactions of a kind, in order."""
        ids = set()
        found = []
        for pipeline in self.backbone.pipelines:
            for record in pipeline.firehose:
                spoken = read_spoken(decode(record, FirehoseEvent))
                if spoken is None:
                    continue
                message = spoken.message
                if message.terms is not None and message.terms.kind == kind:
                    ids.add(message.transaction_id)
                if message.transaction_id in ids:
                    found.append(message)
        return found

    def receipts(self) -> list[Message]:
        return self.said(RECEIPT_KIND)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so; TimeoutError if it is not within ten seconds."""
    async with asyncio.timeout(_PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
