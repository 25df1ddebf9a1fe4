"""What records of the topics become as rows of the projection; pure, and blind to sealed content.

Every topic is followed record by record from a position, and a batch of rows belongs to the positions after it. A gap or
another history ends it: the firehose by its sequence and chain hash, the directory by its version and chain hash,
``blocks`` by height and the hash of the header before. ``rejected`` and ``anchors`` have nothing to check.

What others wrote never stops it: rows hold no NUL, which PostgreSQL's text cannot, and content too deeply nested for its
parser is left out. Whether the rest of the content is JSON, the database says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID

from gateway.errors import ProjectionError
from gateway.rows import (
    AnchorRow,
    BlockRow,
    CutRow,
    EndingRow,
    MessageRow,
    OpeningRow,
    ParticipantRow,
    PurgeRow,
    RejectionRow,
    RevocationRow,
    Rows,
)
from parley.blocks import header_hash
from parley.directory import change_of
from parley.erasure import ERASURE_KIND, PURGE_TYPE
from parley.errors import WireError
from parley.events import read_spoken
from parley.firehose import START, Follower, Position, chain_hash
from parley.schemas import (
    ZERO_HASH,
    AnchorEvent,
    BlockHeader,
    DirectoryEntry,
    DirectoryRecord,
    DirectoryRevocation,
    Ending,
    Envelope,
    FirehoseEvent,
    Hash,
    Message,
    Purge,
    Rejection,
    decode,
)
from streams.catalogue import ANCHORS, BLOCKS, DIRECTORY, FIREHOSE, REJECTED

__all__ = ["TOPICS", "Batch", "Place", "Positions", "Read", "project"]

TOPICS: Final = (DIRECTORY, BLOCKS, ANCHORS, REJECTED, FIREHOSE)
"""What is followed, in the order in which it is read: a replay knows a block before the transactions in it."""
MAXIMUM_DEPTH: Final = 256
"""How deeply content may be nested; PostgreSQL's parser recurses."""

Place = tuple[str, int]
"""Topic and partition."""
Positions = Mapping[Place, Position]
"""Up to where each is projected. ``sequence`` counts firehose events, directory versions, heights, or records."""


class Read(NamedTuple):
    """A record as it was read."""

    topic: str
    partition: int
    offset: int
    value: bytes


class Batch(NamedTuple):
    """Rows, and the positions that moved with them; they count together or not at all."""

    rows: Rows
    positions: dict[Place, Position]


def project(positions: Positions, records: Iterable[Read]) -> Batch:
    """The rows of these records, each partition's in order, after ``positions``.

    Raises:
        ProjectionError: a record is none of its topic's, or does not continue what came before.
        FirehoseError: the same of a firehose event; the message says what is missing.
        VerificationError: an event carries no message of its transaction.

    """
    projection = _Projection(positions)
    for record in records:
        try:
            projection.take(record)
        except WireError as error:
            where = f"{record.topic}/{record.partition}, offset {record.offset}"
            raise ProjectionError(f"{where} holds what that topic never does: {error}") from error
    return Batch(projection.rows, projection.moved)


class _Projection:
    """Rows on their way."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._follower = Follower(
            {partition: at for (topic, partition), at in positions.items() if topic == FIREHOSE}
        )
        self._takers: dict[str, Callable[[Read], Position]] = {
            FIREHOSE: self._event,
            DIRECTORY: self._directory_record,
            BLOCKS: self._header,
            REJECTED: self._rejection,
            ANCHORS: self._anchor,
        }
        self.rows = Rows([], [], [], [], [], [], [], [], [], [])
        self.moved: dict[Place, Position] = {}

    def take(self, record: Read) -> None:
        self.moved[record.topic, record.partition] = self._takers[record.topic](record)

    def _before(self, record: Read) -> Position:
        place = (record.topic, record.partition)
        return self.moved.get(place) or self._positions.get(place, START)

    def _event(self, record: Read) -> Position:
        event = self._follower.follow(record.value, record.offset)
        if event is None:
            raise ProjectionError(
                f"{FIREHOSE}/{record.partition}, offset {record.offset} repeats an event that was followed before: this is"
                " another history than the one projected; keep both as evidence"
            )
        if event.pipeline != record.partition:
            raise ProjectionError(
                f"{FIREHOSE}/{record.partition}, offset {record.offset} holds an event of pipeline {event.pipeline}"
            )
        spoken = read_spoken(event)
        if spoken is not None:
            self._message(event, spoken.message, spoken.message_id, len(event.envelope or b""))
        if event.ended is not None:
            self._ending(event, event.ended)
        return self._follower.cursor[record.partition]

    def _message(
        self, event: FirehoseEvent, message: Message, message_id: bytes, envelope_bytes: int
    ) -> None:
        identity = UUID(bytes=event.transaction_id)
        if (terms := message.terms) is not None:
            parties = [party.participant for party in terms.parties]
            self.rows.openings.append(
                OpeningRow(
                    event.pipeline,
                    event.sequence,
                    identity,
                    terms.kind,
                    parties,
                    event.at,
                    terms.deadline,
                    terms.open_until,
                    terms.finish_rule,
                )
            )
            if terms.kind == ERASURE_KIND:
                self._purges(event, message)
        self.rows.messages.append(
            MessageRow(
                event.pipeline,
                event.sequence,
                identity,
                message.sequence,
                message_id,
                message.sender,
                list(map(_text, message.recipients)),
                message.action,
                message.sent_at,
                event.at,
                event.directory_version,
                _text(message.content_type),
                _clear_content(message),
                message.encryption is not None,
                len(message.content),
                envelope_bytes,
            )
        )

    def _purges(self, event: FirehoseEvent, message: Message) -> None:
        """What an erasure names, if it is readable; whether it counts, the database tells from the rows it has."""
        if message.encryption is not None or message.content_type != PURGE_TYPE:
            return
        try:
            purge = decode(decode(message.content, Envelope).payload, Purge)
        except WireError:
            return
        self.rows.purges.extend(
            PurgeRow(target.pipeline, reference.sequence, event.pipeline, event.sequence)
            for target in purge.targets
            for reference in target.events
        )

    def _ending(self, event: FirehoseEvent, ended: Ending) -> None:
        if not ended.events:
            raise ProjectionError(
                f"event {event.sequence} of pipeline {event.pipeline} ends a transaction that nothing opened"
            )
        # Its first event, not its id, tells a transaction: the same id may be opened again once it is forgotten.
        opening = ended.events[0].sequence
        self.rows.endings.append(
            EndingRow(
                event.pipeline, opening, event.sequence, ended.outcome, event.at, list(ended.waiting_on)
            )
        )

    def _directory_record(self, record: Read) -> Position:
        version, chain, _ = self._before(record)
        value = decode(record.value, DirectoryRecord)
        if value.version != version + 1 or value.chain != chain:
            raise ProjectionError(_not_following(DIRECTORY, value.version, version))
        change = change_of(value)
        if isinstance(change, DirectoryRevocation):
            self.rows.revocations.append(
                RevocationRow(
                    value.version, change.participant, change.key_id, change.reason, value.admitted_at
                )
            )
        else:
            self._entry(value, change)
        digest = Hash(sha256(record.value).digest())
        return Position(value.version, chain_hash(chain, digest), record.offset + 1)

    def _entry(self, record: DirectoryRecord, entry: DirectoryEntry) -> None:
        self.rows.participants.append(
            ParticipantRow(
                entry.participant,
                record.version,
                record.admitted_at,
                entry.legal_name,
                entry.lei,
                entry.bic,
                entry.country,
                entry.role,
                list(entry.addresses),
                [key.public_key for key in entry.signing_keys],
                [key.public_key for key in entry.encryption_keys],
            )
        )

    def _header(self, record: Read) -> Position:
        height, previous, _ = self._before(record)
        header = decode(record.value, BlockHeader)
        if header.height != height or header.previous != previous:
            raise ProjectionError(_not_following(BLOCKS, header.height, height - 1))
        hashed = header_hash(record.value)
        self.rows.blocks.append(
            BlockRow(
                height,
                hashed,
                previous,
                header.root,
                header.transactions,
                header.directory_records,
                header.messages,
                header.size_bytes,
                header.sealed_at,
                header.directory_version,
            )
        )
        self.rows.cuts.extend(CutRow(height, *cut) for cut in header.cuts)
        return Position(height + 1, hashed, record.offset + 1)

    def _rejection(self, record: Read) -> Position:
        value = decode(record.value, Rejection)
        identity = None if value.transaction_id is None else UUID(bytes=value.transaction_id)
        self.rows.rejections.append(
            RejectionRow(
                record.offset,
                value.pipeline,
                value.ingest_offset,
                value.at,
                value.message_id,
                identity,
                value.sender,
                value.reason,
                value.retriable,
                _text(value.detail),
                value.retry_at,
            )
        )
        return self._counted(record)

    def _anchor(self, record: Read) -> Position:
        value = decode(record.value, AnchorEvent)
        self.rows.anchors.append(
            AnchorRow(
                record.offset,
                value.chain,
                value.contract,
                value.log_size,
                value.root,
                value.state,
                value.transaction_hash,
                value.block_number,
                value.confirmations,
                value.at,
                _text(value.detail),
            )
        )
        return self._counted(record)

    def _counted(self, record: Read) -> Position:
        return Position(self._before(record).sequence + 1, ZERO_HASH, record.offset + 1)


def _not_following(topic: str, found: int, last: int) -> str:
    return (
        f"{topic}: record {found} does not follow record {last} of the history projected; if the topic was restored on"
        " purpose, rebuild with `python -m gateway --rebuild`, else keep both as evidence"
    )


def _text(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _clear_content(message: Message) -> str | None:
    """The content if it is clear and may be JSON that the database can hold."""
    if message.encryption is not None or not message.content_type.startswith("application/json"):
        return None
    try:
        text = message.content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text or _too_deep(text) else text


# An unclosed string reaches to the end: whatever the text, each character is looked at once.
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[\]{}]")


def _too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAXIMUM_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAXIMUM_DEPTH:
            return True
    return False
