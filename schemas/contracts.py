"""The wire's records as immutable tuples, one class for each released contract; no behaviour.

Field order is the schema's. Times are milliseconds since the Unix epoch; hashes are 32 bytes. What each field means
stands in the ``.avsc`` file beside this module.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, NewType

TransactionId = NewType("TransactionId", bytes)
"""UUIDv7, 16 bytes big-endian."""
MessageId = NewType("MessageId", bytes)
"""SHA-256 of an envelope's payload, 32 bytes."""
KeyId = NewType("KeyId", bytes)
"""The first 16 bytes of SHA-256 of a public key."""
Hash = NewType("Hash", bytes)
"""A SHA-256 digest, 32 bytes."""

Action = Literal["OPEN", "CONTINUE", "FINISH"]
FinishRule = Literal["ANY", "ALL"]
Outcome = Literal["FINISHED", "TIMED_OUT"]
Role = Literal["BANK", "CSD", "REGULATOR", "AUDITOR", "OPERATOR", "REGISTRAR"]
Scope = Literal["MESSAGE", "TRANSACTION", "EPOCH"]
Breach = Literal["RECEIPT", "RECORD", "HISTORY", "LATE", "ABSENT"]
AnchorState = Literal["SUBMITTED", "CONFIRMED", "FINAL", "REORGANISED", "FAILED"]
Reason = Literal[
    "MALFORMED",
    "UNKNOWN_SCHEMA",
    "TOO_LARGE",
    "UNKNOWN_SENDER",
    "UNKNOWN_KEY",
    "KEY_NOT_VALID",
    "BAD_SIGNATURE",
    "WRONG_PIPELINE",
    "OPENING_EXPIRED",
    "UNKNOWN_TRANSACTION",
    "NOT_A_PARTY",
    "SEQUENCE_CONFLICT",
    "DEADLINE_PASSED",
    "CLOSED",
    "UNKNOWN_ADDRESS",
    "RATE_LIMITED",
    "SIGNATURES_MISSING",
    "GRANT_REQUIRED",
    "STEP_NOT_ALLOWED",
]
RevocationReason = Literal["COMPROMISED", "SUPERSEDED", "WITHDRAWN"]

ZERO_HASH = Hash(bytes(32))
"""What stands for "nothing before": the chain hash, or header hash, before the first."""


class Signature(NamedTuple):
    key_id: KeyId
    signature: bytes


class Envelope(NamedTuple):
    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


class Party(NamedTuple):
    participant: str
    address: str


class Terms(NamedTuple):
    kind: str
    parties: tuple[Party, ...]
    deadline: int
    open_until: int
    finish_rule: FinishRule


class KeyGrant(NamedTuple):
    reader: str
    key_id: KeyId
    sealed_key: bytes


class ChannelEpoch(NamedTuple):
    channel: TransactionId
    epoch: int


class Encryption(NamedTuple):
    algorithm: str
    nonce: bytes
    grants: tuple[KeyGrant, ...]
    channel: ChannelEpoch | None = None
    commitment: Hash | None = None


class DisclosedKey(NamedTuple):
    scope: Scope
    transaction_id: TransactionId | None
    message_id: MessageId | None
    channel: ChannelEpoch | None
    key: bytes

    def __repr__(self) -> str:
        """What the key opens, never the key."""
        return f"DisclosedKey({self.scope}, {self.transaction_id!r}, {self.message_id!r}, {self.channel!r})"


class Disclosure(NamedTuple):
    reader: str
    statement: str
    keys: tuple[DisclosedKey, ...]


class Reference(NamedTuple):
    relation: str
    transaction_id: TransactionId | None
    digest: Hash | None
    size: int | None
    location: str | None


class Message(NamedTuple):
    transaction_id: TransactionId
    pipeline: int
    sequence: int
    previous: MessageId | None
    sender: str
    recipients: tuple[str, ...]
    sent_at: int
    action: Action
    terms: Terms | None
    content_type: str
    content: bytes
    encryption: Encryption | None
    references: tuple[Reference, ...]


class EventReference(NamedTuple):
    sequence: int
    digest: Hash


class Ending(NamedTuple):
    outcome: Outcome
    kind: str
    opened_at: int
    waiting_on: tuple[str, ...]
    events: tuple[EventReference, ...]


class FirehoseEvent(NamedTuple):
    pipeline: int
    sequence: int
    chain: Hash
    ingest_offset: int
    at: int
    directory_version: int
    transaction_id: TransactionId
    envelope: bytes | None
    ended: Ending | None


class TransactionState(NamedTuple):
    terms: Terms
    opened_at: int
    finished: tuple[str, ...]
    due: tuple[str, ...]
    messages: bytes
    outcome: Outcome | None
    ended_at: int | None
    opener: int = 0
    step: int = -1


class PipelineState(NamedTuple):
    sequence: int
    chain: Hash
    ingest_offset: int
    time: int
    replay_from: int


class Head(NamedTuple):
    sequence: int
    message_id: MessageId


class Rejection(NamedTuple):
    pipeline: int
    ingest_offset: int
    at: int
    directory_version: int
    message_id: MessageId
    transaction_id: TransactionId | None
    sender: str | None
    reason: Reason
    retriable: bool
    detail: str
    head: Head | None
    retry_at: int | None = None


class Receipt(NamedTuple):
    message_id: MessageId
    event_digest: Hash
    event: bytes | None
    block_by: int
    leaf_index: int
    tree_size: int
    path: bytes
    key_id: KeyId
    signature: bytes


class DeliveryBatch(NamedTuple):
    items: tuple[bytes, ...]


class SealedDelivery(NamedTuple):
    item: bytes
    address: str
    secret: bytes


class PublicKey(NamedTuple):
    key_id: KeyId
    public_key: bytes


class DirectoryEntry(NamedTuple):
    participant: str
    legal_name: str
    lei: str | None
    bic: str | None
    country: str
    role: Role
    signing_keys: tuple[PublicKey, ...]
    encryption_keys: tuple[PublicKey, ...]
    addresses: tuple[str, ...]
    previous: int | None = None
    threshold: int = 1
    next_key: Hash | None = None
    accounts: tuple[str, ...] = ()


class DirectoryRevocation(NamedTuple):
    participant: str
    key_id: KeyId
    reason: RevocationReason
    entry_version: int


class AdmissionRequest(NamedTuple):
    change: bytes
    credentials: bytes | None


class KafkaCredentials(NamedTuple):
    entry: Hash
    key_id: KeyId
    sealed_password: bytes


class AdmissionRefusal(NamedTuple):
    request: Hash
    at: int
    directory_version: int
    detail: str


class DirectoryRecord(NamedTuple):
    version: int
    chain: Hash
    admitted_at: int
    envelope: bytes


class TransactionRecord(NamedTuple):
    transaction_id: TransactionId
    pipeline: int
    kind: str
    outcome: Outcome
    opened_at: int
    ended_at: int
    waiting_on: tuple[str, ...]
    events: tuple[EventReference, ...]


class Cut(NamedTuple):
    pipeline: int
    sequence: int
    chain: Hash


class BlockHeader(NamedTuple):
    height: int
    previous: Hash
    root: Hash
    transactions: int
    directory_records: int
    messages: int
    size_bytes: int
    sealed_at: int
    cuts: tuple[Cut, ...]
    directory_version: int
    directory_chain: Hash


class SealedLeaf(NamedTuple):
    leaf: bytes
    events: tuple[bytes, ...]


class PurgeTarget(NamedTuple):
    transaction_id: TransactionId
    pipeline: int
    ending: int
    events: tuple[EventReference, ...]


class Purge(NamedTuple):
    targets: tuple[PurgeTarget, ...]
    reason: str
    requested_by: str
    at: int


class StatementPlace(NamedTuple):
    transaction_id: TransactionId
    pipeline: int
    ending: int


class PurgedEvent(NamedTuple):
    sequence: int
    digest: Hash
    chain: Hash
    at: int
    size: int
    statement: StatementPlace


class RedriveTarget(NamedTuple):
    letter: int
    topic: str
    partition: int
    offset: int
    at: int
    digest: Hash
    error: str


class Redrive(NamedTuple):
    targets: tuple[RedriveTarget, ...]
    reason: str
    again: bool
    at: int


class RedrivenLetter(NamedTuple):
    letter: int
    offset: int


class Redriven(NamedTuple):
    placed: tuple[RedrivenLetter, ...]


class AnchorEvent(NamedTuple):
    chain: str
    contract: str
    log_size: int
    root: Hash
    state: AnchorState
    transaction_hash: bytes
    block_number: int | None
    block_hash: bytes | None
    confirmations: int
    raw_transaction: bytes | None
    at: int
    detail: str


class PlacedLeaf(NamedTuple):
    leaf: bytes
    leaf_index: int
    path: tuple[Hash, ...]
    header: bytes
    log_path: tuple[Hash, ...]


class Proof(NamedTuple):
    event: bytes
    transaction: PlacedLeaf
    checkpoint: bytes
    directory: tuple[bytes, ...] = ()


class PlacedHeader(NamedTuple):
    header: bytes
    log_path: tuple[Hash, ...]


class SealedRecord(NamedTuple):
    leaf: bytes
    leaf_index: int
    path: tuple[Hash, ...]


class BareBlock(NamedTuple):
    header: bytes
    leaves: tuple[bytes, ...]


class Evidence(NamedTuple):
    breach: Breach
    receipt: bytes
    event: bytes
    shown_by: PlacedHeader
    record: SealedRecord | None
    neighbour: bytes | None
    blocks: tuple[BareBlock, ...]
    checkpoint: bytes
    directory_of: PlacedHeader
    directory: tuple[bytes, ...]
