"""``parley verify``: what a proof file proves, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parley.cli.options import Json, LogKey, Registrar, read_file, read_log_key, registrar_key
from parley.cli.output import moment, show, show_json
from parley.identifiers import shown_name, transaction_text
from parley.proof import VerifiedMessage, verify_proof
from parley.schemas import Message

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command()(verify)


def verify(
    file: Annotated[Path, typer.Argument(help="The proof file.")],
    log_key: LogKey,
    registrar: Registrar = None,
    json: Json = False,
) -> None:
    """Verify a proof file with nothing but the log's public key: who said what, when, and where it stands.

    Exit code 0 only if everything in the file is proved; otherwise 1, with the reason on standard error.
    """
    proved = verify_proof(read_file(file), read_log_key(log_key), registrar_key(registrar))
    if json:
        show_json(_row(proved))
        return
    message, sender, record = proved.message, proved.sender, proved.transaction
    show(
        [
            ("verified", str(file)),
            ("said by", sender.legal_name),
            ("participant", f"{sender.participant}, {sender.role.lower()}, {sender.country}"),
            ("LEI", sender.lei),
            (
                "name attested by",
                f"{proved.registrar.legal_name} (directory version {proved.sender_version})",
            ),
            ("at", moment(proved.event.at)),
            ("said", _shown(message)),
            ("content type", message.content_type),
            (
                "transaction",
                f"{transaction_text(record.transaction_id)} ({record.kind}), message {message.sequence}",
            ),
            ("outcome", f"{record.outcome.lower().replace('_', ' ')} at {moment(record.ended_at)}"),
            ("waiting on", ", ".join(map(shown_name, record.waiting_on)) or None),
            ("block", f"{proved.header.height}, sealed at {moment(proved.header.sealed_at)}"),
            ("log", f"{proved.checkpoint.origin}, {proved.checkpoint.size} blocks"),
            ("log root", proved.checkpoint.root.hex()),
        ]
    )


def _row(proved: VerifiedMessage) -> dict[str, object]:
    message, sender, record = proved.message, proved.sender, proved.transaction
    return {
        "verified": True,
        "message_id": proved.message_id.hex(),
        "sender": sender.participant,
        "legal_name": sender.legal_name,
        "lei": sender.lei,
        "role": sender.role,
        "country": sender.country,
        "attested_by": proved.registrar.legal_name,
        "directory_version": proved.sender_version,
        "at": proved.event.at,
        "action": message.action,
        "sequence": message.sequence,
        "content_type": message.content_type,
        "encrypted": message.encryption is not None,
        "content": _content(message),
        "transaction": transaction_text(record.transaction_id),
        "kind": record.kind,
        "outcome": record.outcome,
        "ended_at": record.ended_at,
        "waiting_on": list(record.waiting_on),
        "pipeline": proved.event.pipeline,
        "firehose_sequence": proved.event.sequence,
        "block": proved.header.height,
        "sealed_at": proved.header.sealed_at,
        "log": proved.checkpoint.origin,
        "log_size": proved.checkpoint.size,
        "log_root": proved.checkpoint.root.hex(),
    }


def _content(message: Message) -> str | None:
    """What was said, where it was said in clear."""
    return None if message.encryption is not None else message.content.decode("utf-8", "replace")


def _shown(message: Message) -> str:
    said = _content(message)
    return "(encrypted; `parley tx show` decrypts what we may read)" if said is None else said
