"""A backbone in memory, behind the client's transport port: the router's own decisions and receipts, without Kafka.

It stands in for topics and processes alone. Every record is judged by ``router.core`` as soon as it is produced, or when
`MemoryBackbone.judge` is called where ``hold`` is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.keys import EncryptionKey, SignatureClaim, SigningKey, public_key, verify
from parley.receipts import PendingReceipt, issue_receipts
from parley.schemas import DirectoryEntry, PipelineState, Role, TransactionId, TransactionState, encode
from parley.transport import Arrivals, Delivery, InboxRecord, Standing, Undelivered
from router.core import (
    NEW_PIPELINE,
    Accepted,
    Duplicate,
    Limits,
    Refused,
    Submission,
    decide,
    read_submission,
    time_out,
    unproven,
)
from router.counting import keep_paid, standing_of
from router.sealed_addresses import SealedAddresses
from streams.tally import Tally
from tests.memory_sharing import MemoryGroup
from tests.synthetic_ledger import encryption_key, signing_key

START = 1_800_000_000_000


def _proven(claims: tuple[SignatureClaim, ...]) -> bool:
    return all(verify(*claim) for claim in claims)


@dataclass
class _Pipeline:
    position: PipelineState = NEW_PIPELINE
    states: dict[bytes, TransactionState] = field(default_factory=dict)
    firehose: list[bytes] = field(default_factory=list)
    offset: int = 0
    deliveries: int = 0
    tally: Tally = field(default_factory=Tally)


class MemoryBackbone:
    """``inboxes`` by address, ``groups`` by address and consumer; ``now`` is the broker's clock and moves with :meth:`pass_time`."""

    def __init__(self, *participants: str, pipelines: int = 1) -> None:
        self.now = START
        self.limits = Limits()
        """What the router allows."""
        self.registrar = signing_key("registrar")
        self.router = signing_key("router")
        self.directory = Directory(self.registrar.public)
        self.directory_records: list[bytes] = []
        self.pipelines = [_Pipeline() for _ in range(pipelines)]
        self.inboxes: dict[str, list[InboxRecord]] = {}
        self.groups: dict[tuple[str, str], MemoryGroup] = {}
        self.connections: list[MemoryTransport] = []
        self.hold = False
        self.held: list[tuple[int, bytes, bytes]] = []
        self.produced = 0
        self.admit("registrar", "REGISTRAR", self.registrar)
        self.sealing = [EncryptionKey(sha256(b"sealing").digest())]
        self.sealed = SealedAddresses(self.sealing)
        self.admit("operator", "OPERATOR", self.router, self.sealing)
        for name in participants:
            self.admit(name)

    def admit(
        self,
        name: str,
        role: Role = "BANK",
        key: SigningKey | None = None,
        encryption: Sequence[EncryptionKey] = (),
        *,
        lei: str | None = None,
        bic: str | None = None,
    ) -> None:
        key = key or signing_key(name)
        own = encryption or (() if role in ("REGISTRAR", "OPERATOR") else (encryption_key(name),))
        reads = tuple(public_key(each.public) for each in own)
        entry = DirectoryEntry(
            name, f"{name.title()} plc", lei, bic, "DE", role, (public_key(key.public),), reads, (name,)
        )
        signers = (key,) if role == "REGISTRAR" else (key, self.registrar)
        self.inboxes.setdefault(name, [])
        self.change(entry, *signers)

    def rekey(self, name: str, *keys: SigningKey, threshold: int = 1) -> None:
        """Replace a participant's signing keys, its old one being that of its name."""
        before = self.directory.entry(name)
        assert before is not None
        entry = before._replace(
            signing_keys=tuple(public_key(key.public) for key in keys),
            previous=self.directory.version_of(name),
            threshold=threshold,
        )
        signers = {key.id: key for key in (*keys, signing_key(name))}
        self.change(entry, *signers.values())

    def change(self, entry: DirectoryEntry, *signers: SigningKey) -> None:
        """Put an entry into the directory."""
        record = encode(self.directory.admit(seal(DIRECTORY_ENTRY_TYPE, entry, *signers), self.now))
        self.directory.apply(record)
        self.directory_records.append(record)
        self.wake()

    def position(self, address: str, consumer: str = "main") -> int:
        """How far a consumer's shares are, the foremost of them."""
        return max(standing.position for standing in self.groups[address, consumer].standings.values())

    def transport(self) -> MemoryTransport:
        transport = MemoryTransport(self)
        self.connections.append(transport)
        return transport

    def submit(self, pipeline: int, key: bytes, value: bytes) -> None:
        self.produced += 1
        if self.hold:
            self.held.append((pipeline, key, value))
        else:
            self._judge(pipeline, value)

    def judge(self) -> None:
        """Judge what was held back."""
        held, self.held = self.held, []
        for pipeline, _, value in held:
            self._judge(pipeline, value)

    def pass_time(self, ms: int) -> None:
        """Let time pass on every pipeline; transactions past their deadline time out."""
        self.now += ms
        for index, pipeline in enumerate(self.pipelines):
            self._wake(index, pipeline)

    def deliver(self, address: str, pipeline: int, value: bytes) -> None:
        """Write a record to an inbox as the delivery stage does."""
        if ":" in address:
            address, (value,) = self.sealed.delivery(address, [value])
        at = self.pipelines[pipeline]
        self._write(address, Delivery(pipeline, at.deliveries), value)
        at.deliveries += 1

    def repeat(self, address: str, count: int) -> None:
        """Write the last records of an inbox once more, as after a crash of the delivery stage."""
        for record in self.inboxes[address][-count:]:
            self._write(address, record.delivery, record.value)

    def _write(self, address: str, delivery: Delivery | None, value: bytes) -> None:
        inbox = self.inboxes[address]
        inbox.append(InboxRecord(len(inbox), delivery, value))
        self.wake()

    def wake(self) -> None:
        for connection in self.connections:
            connection.changed.set()

    def _wake(self, index: int, pipeline: _Pipeline) -> None:
        pipeline.position = pipeline.position._replace(time=max(self.now, pipeline.position.time))
        for key, state in list(pipeline.states.items()):
            if state.outcome is None and state.terms.deadline < self.now:
                ended = time_out(index, pipeline.position, TransactionId(key), state, self.directory.version)
                self._append(index, pipeline, key, ended)

    def _judge(self, index: int, value: bytes) -> None:
        pipeline = self.pipelines[index]
        self._wake(index, pipeline)
        offset, pipeline.offset = pipeline.offset, pipeline.offset + 1
        submission = read_submission(value, self.directory, self.limits)
        decision: Accepted | Duplicate | Refused
        if not isinstance(submission, Submission):
            decision = submission
        elif not _proven(submission.claims):
            decision = unproven(submission)
        else:
            key = submission.message.transaction_id
            state = pipeline.states.get(key)
            standing = standing_of(pipeline.tally, submission.speaker)
            decision = decide(
                index,
                pipeline.position,
                state,
                submission,
                offset,
                self.directory,
                self.limits,
                self.sealed,
                standing,
            )
            if isinstance(decision, Accepted):
                if decision.standing is not None:
                    keep_paid(pipeline.tally, submission.speaker, decision.standing)
                self._append(index, pipeline, key, decision)
                pending = PendingReceipt(submission.message_id, decision.digest, decision.event, self.now)
                self._receipt(decision.receipt_to, index, pending)
            elif isinstance(decision, Duplicate):
                original = decision.original
                pending = PendingReceipt(original.message_id, original.digest, None, self.now)
                self._receipt(decision.receipt_to, index, pending)
        if isinstance(decision, Refused) and decision.address is not None:
            rejection = decision.rejection(index, offset, self.now, self.directory.version)
            self.deliver(decision.address, index, encode(rejection))

    def _receipt(self, address: str | None, index: int, pending: PendingReceipt) -> None:
        assert address is not None
        other = PendingReceipt(pending.message_id, pending.event_digest, None, 0)
        self.deliver(address, index, encode(issue_receipts([other, pending, other], self.router)[1]))

    def _append(self, index: int, pipeline: _Pipeline, key: bytes, accepted: Accepted) -> None:
        pipeline.position = accepted.pipeline
        pipeline.states[key] = accepted.transaction
        pipeline.firehose.append(accepted.event)
        for address in accepted.recipients:
            self.deliver(address, index, accepted.event)


class MemoryTransport:
    """One participant's connection to a `MemoryBackbone`."""

    def __init__(self, backbone: MemoryBackbone) -> None:
        self._backbone = backbone
        self._inbox: list[InboxRecord] = []
        self._read = self._read_directory = 0
        self.group: MemoryGroup | None = None
        self._changes: list[Arrivals] = []
        self.killed = False
        self.changed = asyncio.Event()
        self.undeliverable: list[Undelivered] = []
        self.closed = False

    @property
    def pipelines(self) -> int:
        return len(self._backbone.pipelines)

    async def open(self, address: str, consumer: str | None) -> Mapping[int, Standing]:
        self._inbox = self._backbone.inboxes.get(address, [])
        pipelines = range(self.pipelines)
        if consumer is None:
            standings = dict.fromkeys(pipelines, Standing(len(self._inbox), ""))
            self.tell(Arrivals(gained=standings))
            return standings
        self.group = self._backbone.groups.setdefault((address, consumer), MemoryGroup())
        self.group.join(self, pipelines)
        return dict(self.group.standings)

    async def close(self) -> None:
        self.closed = True
        if self.group is not None and self.group.has(self):
            self.group.expel(self)

    def tell(self, change: Arrivals) -> None:
        """Let the client know of a change of its shares."""
        self._changes.append(change)
        self.changed.set()

    def kill(self) -> None:
        """Nothing more comes to this process or from it, and after a while the others notice."""
        self.killed = True
        assert self.group is not None
        self.group.expel(self)

    async def produce(self, pipeline: int, key: bytes, value: bytes) -> None:
        self._backbone.submit(pipeline, key, value)

    async def arrivals(self, patience: float) -> Arrivals:
        try:
            async with asyncio.timeout(patience):
                await self.changed.wait()
        except TimeoutError:
            return Arrivals()
        self.changed.clear()
        if self.killed:
            return Arrivals()
        if self._changes:
            self.changed.set()
            return self._changes.pop(0)
        inbox, self._read = self._inbox[self._read :], len(self._inbox)
        records = self._backbone.directory_records
        directory, self._read_directory = records[self._read_directory :], len(records)
        undelivered, self.undeliverable = self.undeliverable, []
        return Arrivals(inbox, directory, undelivered, inbox_end=True, directory_end=True)

    def acknowledge(self, standings: Mapping[int, Standing]) -> None:
        if self.group is not None:
            self.group.save(self, standings)

    def release(self) -> None:
        if self.group is not None:
            self.group.release(self)
