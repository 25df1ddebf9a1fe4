"""The projection's new rows as immutable tuples, columns in the order of ``staging.sql``; no behaviour.

Times are milliseconds since the Unix epoch; hashes have 32 bytes. Arrays are lists, as the driver takes a tuple for a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID


class ParticipantRow(NamedTuple):
    participant: str
    version: int
    admitted_at: int
    legal_name: str
    lei: str | None
    bic: str | None
    country: str
    role: str
    addresses: list[str]
    signing_keys: list[bytes]
    encryption_keys: list[bytes]


class RevocationRow(NamedTuple):
    version: int
    participant: str
    key_id: bytes
    reason: str
    admitted_at: int


class OpeningRow(NamedTuple):
    pipeline: int
    opening: int
    transaction_id: UUID
    kind: str
    parties: list[str]
    opened_at: int
    deadline: int
    open_until: int
    finish_rule: str


class EndingRow(NamedTuple):
    pipeline: int
    opening: int
    ending: int
    outcome: str
    ended_at: int
    waiting_on: list[str]


class MessageRow(NamedTuple):
    pipeline: int
    position: int
    transaction_id: UUID
    sequence: int
    message_id: bytes
    sender: str
    recipients: list[str]
    action: str
    sent_at: int
    at: int
    directory_version: int
    content_type: str
    content: str | None
    sealed: bool
    content_bytes: int
    envelope_bytes: int


class PurgeRow(NamedTuple):
    """A message that an erasure names; it counts once that transaction has finished, and if its opener is an operator."""

    pipeline: int
    position: int
    by_pipeline: int
    by_opening: int


class RejectionRow(NamedTuple):
    position: int
    pipeline: int
    ingest_offset: int
    at: int
    message_id: bytes
    transaction_id: UUID | None
    sender: str | None
    reason: str
    retriable: bool
    detail: str
    retry_at: int | None


class BlockRow(NamedTuple):
    height: int
    hash: bytes
    previous: bytes
    root: bytes
    transactions: int
    directory_records: int
    messages: int
    size_bytes: int
    sealed_at: int
    directory_version: int


class CutRow(NamedTuple):
    height: int
    pipeline: int
    sequence: int
    chain: bytes


class AnchorRow(NamedTuple):
    position: int
    chain: str
    contract: str
    log_size: int
    root: bytes
    state: str
    transaction_hash: bytes
    block_number: int | None
    confirmations: int
    at: int
    detail: str


class Rows(NamedTuple):
    """New rows by what they are; each field's columns stand, in the same order, in ``staging.sql``."""

    participants: list[ParticipantRow]
    revocations: list[RevocationRow]
    openings: list[OpeningRow]
    messages: list[MessageRow]
    endings: list[EndingRow]
    rejections: list[RejectionRow]
    blocks: list[BlockRow]
    cuts: list[CutRow]
    anchors: list[AnchorRow]
    purges: list[PurgeRow]

    def named(self) -> Iterator[tuple[str, Sequence[tuple[object, ...]]]]:
        """The rows of each kind, by the field's name."""
        for name in self._fields:
            yield name, getattr(self, name)
