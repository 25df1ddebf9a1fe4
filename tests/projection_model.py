"""The projection's tables as a naive model makes them: every record looked at, nothing remembered but plain dictionaries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

from parley.envelope import DIRECTORY_REVOCATION_TYPE
from parley.schemas import (
    AnchorEvent,
    BlockHeader,
    DirectoryEntry,
    DirectoryRecord,
    DirectoryRevocation,
    Envelope,
    FirehoseEvent,
    Message,
    Rejection,
    decode,
)

Row = dict[str, object]
Tables = dict[str, list[Row]]

ORDER = {
    "participants": "version",
    "revocations": "version",
    "transactions": "pipeline, opening",
    "messages": "pipeline, position",
    "rejections": "position",
    "blocks": "height",
    "cuts": "height, pipeline",
    "anchors": "position",
}
"""The tables that are compared, and what tells their rows apart."""


def model(
    firehose: Sequence[Sequence[bytes]],
    directory: Sequence[bytes],
    headers: Sequence[bytes],
    rejected: Sequence[bytes],
    anchors: Sequence[bytes],
) -> Tables:
    """All tables, rows in the order of `ORDER`; rejections and anchors without their offsets, which the broker chooses."""
    tables: Tables = {table: [] for table in ORDER}
    for pipeline, events in enumerate(firehose):
        opened: dict[int, Row] = {}
        for record in events:
            event = decode(record, FirehoseEvent)
            if event.envelope is not None:
                _message(tables, opened, event, event.envelope)
            if event.ended is not None:
                opened[event.ended.events[0].sequence] |= {
                    "ending": event.sequence,
                    "outcome": event.ended.outcome,
                    "ended_at": event.at,
                    "waiting_on": list(event.ended.waiting_on),
                    "block_height": _height(headers, pipeline, event.sequence),
                }
        tables["transactions"] += opened.values()
    for record in directory:
        value = decode(record, DirectoryRecord)
        envelope = decode(value.envelope, Envelope)
        if envelope.payload_type == DIRECTORY_REVOCATION_TYPE:
            tables["revocations"].append(_revocation(value, decode(envelope.payload, DirectoryRevocation)))
        else:
            entry = decode(envelope.payload, DirectoryEntry)
            others = [row for row in tables["participants"] if row["participant"] != entry.participant]
            tables["participants"] = [*others, _participant(value, entry)]
    for record in headers:
        header = decode(record, BlockHeader)
        row: Row = {"hash": sha256(record).digest(), **header._asdict()}
        del row["cuts"], row["directory_chain"]
        tables["blocks"].append(row)
        tables["cuts"] += [{"height": header.height, **cut._asdict()} for cut in header.cuts]
    for record in rejected:
        row = decode(record, Rejection)._asdict()
        del row["head"], row["directory_version"]
        identity = row["transaction_id"]
        assert identity is None or isinstance(identity, bytes)
        tables["rejections"].append(row | {"transaction_id": identity and UUID(bytes=identity)})
    for record in anchors:
        row = decode(record, AnchorEvent)._asdict()
        del row["raw_transaction"], row["block_hash"]
        tables["anchors"].append(row)
    return tables


def _message(tables: Tables, opened: dict[int, Row], event: FirehoseEvent, envelope: bytes) -> None:
    payload = decode(envelope, Envelope).payload
    message = decode(payload, Message)
    identity = UUID(bytes=event.transaction_id)
    if message.terms is not None:
        opened[event.sequence] = {
            "pipeline": event.pipeline,
            "opening": event.sequence,
            "transaction_id": identity,
            "kind": message.terms.kind,
            "parties": [party.participant for party in message.terms.parties],
            "opened_at": event.at,
            "deadline": message.terms.deadline,
            "open_until": message.terms.open_until,
            "finish_rule": message.terms.finish_rule,
            **dict.fromkeys(("ending", "outcome", "ended_at", "waiting_on", "block_height")),
        }
    content = None
    if message.encryption is None and message.content_type == "application/json":
        content = json.loads(message.content)
    tables["messages"].append(
        {
            "pipeline": event.pipeline,
            "position": event.sequence,
            "transaction_id": identity,
            "sequence": message.sequence,
            "message_id": sha256(payload).digest(),
            "sender": message.sender,
            "recipients": list(message.recipients),
            "action": message.action,
            "sent_at": message.sent_at,
            "at": event.at,
            "directory_version": event.directory_version,
            "content_type": message.content_type,
            "content": content,
            "sealed": message.encryption is not None,
            "content_bytes": len(message.content),
            "envelope_bytes": len(envelope),
        }
    )


def _participant(record: DirectoryRecord, entry: DirectoryEntry) -> Row:
    said = entry._asdict()
    del said["previous"], said["threshold"], said["next_key"], said["accounts"]
    return said | {
        "version": record.version,
        "admitted_at": record.admitted_at,
        "addresses": list(entry.addresses),
        "signing_keys": [key.public_key for key in entry.signing_keys],
        "encryption_keys": [key.public_key for key in entry.encryption_keys],
    }


def _revocation(record: DirectoryRecord, revocation: DirectoryRevocation) -> Row:
    said = revocation._asdict()
    del said["entry_version"]
    return said | {"version": record.version, "admitted_at": record.admitted_at}


def _height(headers: Sequence[bytes], pipeline: int, sequence: int) -> int | None:
    for record in headers:
        header = decode(record, BlockHeader)
        if any(cut.pipeline == pipeline and cut.sequence >= sequence for cut in header.cuts):
            return header.height
    return None
