"""A small ledger made in memory for tests: participants, a directory, and transactions judged by the rules.

It stands in for the router alone: keys, signatures, encodings, chain hashes and rules are the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from parley import lifecycle
from parley.custody import Signatory
from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, DIRECTORY_REVOCATION_TYPE, MESSAGE_TYPE, message_id, seal
from parley.firehose import chain_hash, event_digest
from parley.keys import EncryptionKey, SigningKey
from parley.schemas import (
    ZERO_HASH,
    Action,
    DirectoryEntry,
    DirectoryRevocation,
    Ending,
    Envelope,
    FinishRule,
    FirehoseEvent,
    Hash,
    Message,
    PublicKey,
    Reference,
    Role,
    Terms,
    TransactionId,
    TransactionState,
    decode,
    encode,
)
from parley.schemas import Party as PartyOfTerms

HOUR = 3_600_000
START = 1_800_000_000_000


def signing_key(name: str) -> SigningKey:
    return SigningKey(sha256(name.encode()).digest())


def encryption_key(name: str) -> EncryptionKey:
    return EncryptionKey(sha256(b"encryption key of " + name.encode()).digest())


@dataclass
class Pipeline:
    events: list[bytes] = field(default_factory=list)
    chain: Hash = ZERO_HASH


class Ledger:
    """``firehose[p]`` holds pipeline p's encoded events in order, ``directory_records`` the directory's."""

    content_type = "text/plain"

    def __init__(self, banks: int = 3, pipelines: int = 2) -> None:
        self.now = START
        self.registrar = signing_key("registrar")
        self.directory = Directory(self.registrar.public)
        self.directory_records: list[bytes] = []
        self.pipelines = [Pipeline() for _ in range(pipelines)]
        self.transactions = 0
        self.admit("registrar", "REGISTRAR")
        for number in range(banks):
            self.admit(f"bank-{number}")

    def conceal(self, message: Message) -> Message:
        """The message as its sender signs it; a ledger of private messages encrypts it here."""
        return message

    @property
    def firehose(self) -> list[list[bytes]]:
        return [pipeline.events for pipeline in self.pipelines]

    def admit(
        self, name: str, role: Role = "BANK", keys: Sequence[Signatory] = (), threshold: int = 1
    ) -> None:
        keys = keys or (signing_key(name),)
        publics = tuple(PublicKey(key.id, key.public) for key in keys)
        entry = DirectoryEntry(
            name, f"{name.title()} plc", "529900T8BM49AURSDO55", None, "DE", role, publics, (), (name,)
        )._replace(threshold=threshold)
        signers = keys if role == "REGISTRAR" else (*keys, self.registrar)
        self.change(seal(DIRECTORY_ENTRY_TYPE, entry, *signers))

    def rotate(self, name: str, keys: Sequence[SigningKey], *signers: SigningKey) -> None:
        """Replace a participant's signing keys; signed by them and these."""
        before = self.directory.entry(name)
        assert before is not None
        entry = before._replace(
            signing_keys=tuple(PublicKey(key.id, key.public) for key in keys),
            previous=self.directory.version_of(name),
        )
        self.change(seal(DIRECTORY_ENTRY_TYPE, entry, *dict.fromkeys((*keys, *signers))))

    def revoke(self, name: str, key: SigningKey, signer: SigningKey | None = None) -> None:
        """Revoke a participant's key, by that key or another."""
        version = self.directory.version_of(name)
        assert version is not None
        revocation = DirectoryRevocation(name, key.id, "COMPROMISED", version)
        self.change(seal(DIRECTORY_REVOCATION_TYPE, revocation, signer or key))

    def change(self, envelope: Envelope) -> None:
        """Put a change of the directory on record."""
        record = encode(self.directory.admit(envelope, self.now))
        self.directory.apply(record)
        self.directory_records.append(record)

    def next_id(self) -> TransactionId:
        """The id of the transaction that is opened next."""
        identity = bytearray(sha256(f"transaction {self.transactions + 1}".encode()).digest()[:16])
        identity[6] = 0x70 | identity[6] & 0x0F
        identity[8] = 0x80 | identity[8] & 0x3F
        return TransactionId(bytes(identity))

    def open(
        self,
        pipeline: int = 0,
        parties: Sequence[str] = ("bank-0", "bank-1"),
        kind: str = "dvp",
        deadline: int | None = None,
        rule: FinishRule = "ANY",
        content: bytes = b"I have 1,000 EUR to pay for 10 DE0001102580",
        keys: Sequence[SigningKey] = (),
    ) -> Deal:
        identity = self.next_id()
        self.transactions += 1
        terms = Terms(
            kind,
            tuple(PartyOfTerms(name, name) for name in parties),
            self.now + HOUR if deadline is None else deadline,
            self.now + HOUR,
            rule,
        )
        deal = Deal(self, identity, pipeline, terms)
        deal.say(parties[0], "OPEN", content, keys)
        return deal

    def trade(self, pipeline: int = 0) -> Deal:
        """The dialogue of a delivery versus payment: four messages, finished."""
        deal = self.open(pipeline)
        deal.say("bank-1", content=b"I commit to deliver on confirmation of the cash")
        deal.say("bank-0", content=b"Cash confirmed")
        deal.say("bank-1", "FINISH", b"Delivered")
        return deal

    def append(
        self, pipeline: int, transaction_id: TransactionId, envelope: bytes | None, ended: Ending | None
    ) -> tuple[int, Hash]:
        self.now += 1
        at = self.pipelines[pipeline]
        sequence = len(at.events)
        event = FirehoseEvent(
            pipeline,
            sequence,
            at.chain,
            2 * sequence,
            self.now,
            self.directory.version,
            transaction_id,
            envelope,
            ended,
        )
        encoded = encode(event)
        digest = event_digest(encoded)
        at.events.append(encoded)
        at.chain = chain_hash(at.chain, digest)
        return sequence, digest


@dataclass
class Deal:
    """A transaction under way."""

    ledger: Ledger
    id: TransactionId
    pipeline: int
    terms: Terms
    state: TransactionState | None = None

    def say(
        self,
        sender: str,
        action: Action = "CONTINUE",
        content: bytes = b"",
        keys: Sequence[SigningKey] = (),
        references: Sequence[Reference] = (),
    ) -> bytes:
        """Send a message as the sender, and give its id."""
        head = None if self.state is None else lifecycle.head_of(self.state)
        message = Message(
            self.id,
            self.pipeline,
            0 if head is None else head.sequence + 1,
            None if head is None else head.message_id,
            sender,
            tuple(party.address for party in self.terms.parties if party.participant != sender),
            self.ledger.now,
            action,
            self.terms if head is None else None,
            self.ledger.content_type,
            content,
            None,
            tuple(references),
        )
        message = self.ledger.conceal(message)
        assert lifecycle.well_formed(message) is None
        assert lifecycle.judge(self.state, message, self.ledger.now) is None
        envelope = seal(MESSAGE_TYPE, message, *(keys or (signing_key(sender),)))
        change = lifecycle.step(self.state, message)
        ended = None
        if change.outcome is not None:
            assert self.state is not None
            ended = Ending(
                change.outcome, self.terms.kind, self.state.opened_at, (), lifecycle.events_of(self.state)
            )
        sequence, digest = self.ledger.append(self.pipeline, self.id, encode(envelope), ended)
        identity = message_id(envelope.payload)
        self.state = lifecycle.recorded(
            self.state, message, change, identity, sequence, digest, self.ledger.now
        )
        return identity

    def expire(self) -> None:
        """Let the deadline pass."""
        assert self.state is not None
        self.ledger.now = max(self.ledger.now, self.terms.deadline)
        ended = Ending(
            "TIMED_OUT",
            self.terms.kind,
            self.state.opened_at,
            self.state.due,
            lifecycle.events_of(self.state),
        )
        self.ledger.append(self.pipeline, self.id, None, ended)
        self.state = lifecycle.expired(self.state, self.ledger.now)

    @property
    def last_event(self) -> FirehoseEvent:
        assert self.state is not None
        sequence = lifecycle.last_sequence(self.state)
        return decode(self.ledger.pipelines[self.pipeline].events[sequence], FirehoseEvent)
