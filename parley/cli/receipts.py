"""``parley receipt``: what an operator promised, whether it kept that, and evidence where it did not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from parley.blocks import BlockStore
from parley.claim import Broken, Claimant, Kept, TooEarly
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    LogKey,
    ProfileFile,
    Registrar,
    profile_of,
    read_file,
    read_log_key,
    registrar_key,
    write_file,
)
from parley.cli.output import complain, moment, progress_bar, show, show_json
from parley.cli.transactions import open_store
from parley.directory import Directory
from parley.errors import ParleyError
from parley.evidence import Judgement, judge_evidence
from parley.identifiers import transaction_text
from parley.receipts import Promise, Signer, prove_promise
from parley.recorded import directory_in, prove_recorded, receipt_in
from parley.schemas import MessageId
from parley.web_store import from_url, is_url

__all__ = ["register"]

Receipt = Annotated[Path, typer.Argument(help="The receipt's file, as `parley send --receipt` wrote it.")]
Location = Annotated[str, typer.Option("--store", help="The block store: a folder, or an http(s) address.")]
Body = Annotated[
    Path | None,
    typer.Option(
        "--body",
        help="For a receipt of a message sent again: its event, the first receipt, or an older proof.",
    ),
]
Output = Annotated[Path | None, typer.Option(help="The file to write; named after the message by default.")]


def register(app: typer.Typer) -> None:
    receipt = typer.Typer(
        help="Hold an operator to what its receipts promise, or find what it kept.", no_args_is_help=True
    )
    receipt.command("verify")(verify)
    receipt.command("claim")(claim_receipts)
    receipt.command("judge")(judge)
    receipt.command("find")(find)
    app.add_typer(receipt, name="receipt")


def verify(
    file: Receipt,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", help="Take the directory from this block store instead of the profile's backbone."
        ),
    ] = None,
    log_key: Annotated[
        Path | None, typer.Option("--log-key", help="File with the log's verifier key, for --store.")
    ] = None,
    registrar: Registrar = None,
    body: Body = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    json: Json = False,
) -> None:
    """Verify a receipt: its signature, its path, and that its key was an operator's when the message was judged.

    Exit code 0 only if all of it holds; whether the promise was kept, `parley receipt claim` says.
    """
    copy = None if body is None else read_file(body)
    if store is None:
        if registrar is not None:
            raise typer.BadParameter("--registrar goes with --store; a profile names its own")
        receipt = receipt_in(read_file(file), copy)
        directory = _directory(profile)
    else:
        if log_key is None:
            raise typer.BadParameter("--store needs --log-key")
        blocks = _store(store, log_key)
        receipt = receipt_in(read_file(file), copy, blocks)
        directory = directory_in(blocks, registrar_key(registrar)).directory
    promise = prove_promise(receipt, directory)
    if json:
        show_json({"verified": True, **_promise_row(promise)})
        return
    event = promise.event
    message = promise.spoken.message
    show(
        [
            ("verified", str(file)),
            *_signer_rows(promise.signer),
            ("message", promise.receipt.message_id.hex()),
            ("said by", message.sender),
            (
                "transaction",
                f"{transaction_text(event.transaction_id)}, message {message.sequence}",
            ),
            ("accepted", moment(event.at)),
            ("on the firehose", f"pipeline {event.pipeline}, event {event.sequence}"),
            ("in a block by", moment(promise.receipt.block_by)),
        ]
    )


def claim_receipts(
    files: Annotated[list[Path], typer.Argument(help="The receipts' files.")],
    store: Location,
    log_key: LogKey,
    registrar: Registrar = None,
    body: Body = None,
    output: Output = None,
    evidence_only: Annotated[
        bool,
        typer.Option(
            "--evidence-only", help="Write no proofs of what was kept, only evidence of what was not."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Hold receipts against the log: write each message's proof, or evidence that the operator broke its promise.

    Exit code 0 only if every message is in a block in time. 1 where a promise is broken, and the evidence is written for
    `parley receipt judge`, or where it is too early to say, or a receipt cannot be claimed.
    """
    if len(files) > 1 and (body is not None or output is not None):
        raise typer.BadParameter("--body and --output are for one receipt alone")
    blocks = _store(store, log_key)
    claimant = Claimant(blocks, registrar_key(registrar))
    copy = None if body is None else read_file(body)
    kept = 0
    for file in files:
        try:
            receipt = receipt_in(read_file(file), copy, blocks)
            with progress_bar("looking through blocks", quiet=json) as progress:
                found = claimant.claim(receipt, progress)
            path = _written(found, receipt.message_id.hex(), output, proofs=not evidence_only)
        except ParleyError as error:
            complain(f"{file}: {error}")
            continue
        if json:
            show_json({"receipt": str(file), **_claim_row(found, path)})
        else:
            show([("receipt", str(file)), *_claim_rows(found, path)])
        kept += isinstance(found, Kept)
    raise typer.Exit(0 if kept == len(files) else 1)


def _written(
    found: Kept | Broken | TooEarly, message: str, output: Path | None, *, proofs: bool
) -> Path | None:
    """Write what a claim gave, and give the file's path: a proof, or evidence, beside which the proof of what came late stands."""
    if isinstance(found, TooEarly) or (isinstance(found, Kept) and not proofs):
        return None
    path = output or Path(f"{message}.{'proof' if isinstance(found, Kept) else 'evidence'}")
    write_file(path, found.proof if isinstance(found, Kept) else found.evidence)
    if isinstance(found, Broken) and found.late is not None and proofs:
        write_file(path.with_suffix(".proof"), found.late.proof)
    return path


def judge(
    file: Annotated[Path, typer.Argument(help="The evidence file.")],
    log_key: LogKey,
    registrar: Registrar = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="The log's block store, where the evidence leaves out what a message is absent from.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Judge evidence against an operator, offline: that it signed two statements which cannot both be true.

    Exit code 0 only if the file proves that the promise was broken; otherwise 1, with the reason, and nobody is accused.
    """
    key = read_log_key(log_key)
    blocks = None if store is None else _store(store, log_key)
    judgement = judge_evidence(read_file(file), key, registrar_key(registrar), blocks)
    if json:
        show_json({"broken": True, **_judgement_row(judgement)})
    else:
        show([("judged", str(file)), *_judgement_rows(judgement)])


def find(
    message: Annotated[str, typer.Argument(help="The message's id (hexadecimal), as a refusal names it.")],
    store: Location,
    log_key: LogKey,
    output: Output = None,
    json: Json = False,
) -> None:
    """Write the proof of a message by its id: where sending it again was refused because it is on the record."""
    try:
        identity = bytes.fromhex(message)
    except ValueError:
        identity = b""
    if len(identity) != 32:
        raise ParleyError("a message's id has 64 hexadecimal digits")
    path = output or Path(f"{message}.proof")
    write_file(path, prove_recorded(_store(store, log_key), MessageId(identity)))
    if json:
        show_json({"proof": str(path)})
    else:
        typer.echo(f"{path}: message {message}")


def _store(location: str, log_key: Path) -> BlockStore:
    if is_url(location):
        return BlockStore(from_url(location), read_log_key(log_key))
    return open_store(Path(location), log_key)


def _directory(profile: Path) -> Directory:
    """The directory as the profile's backbone tells it."""
    from parley.cli.desk import read_directory  # noqa: PLC0415  loads Kafka's driver

    return read_directory(profile_of(profile))


def _claim_rows(found: Kept | Broken | TooEarly, path: Path | None) -> list[tuple[str, str | None]]:
    if isinstance(found, Kept):
        header = found.message.header
        return [
            ("kept", f"block {header.height} holds the message, sealed at {moment(header.sealed_at)}"),
            ("proof", None if path is None else f"{path} (`parley verify` tells what it proves)"),
        ]
    if isinstance(found, Broken):
        return [
            ("BROKEN", "the operator did not do what it signed"),
            *_judgement_rows(found.judgement),
            ("evidence", f"{path} (`parley receipt judge` tells what it proves)"),
        ]
    newest = "it has none" if found.sealed_at is None else f"its newest is of {moment(found.sealed_at)}"
    still = (
        "by this machine's clock that moment has passed: the log stands still, or its clock is slow. Ask the operator; the"
        " anchors on chains show since when it has"
    )
    return [
        (
            "too early",
            f"the log has no block sealed after {moment(found.block_by)}; {newest}. Ask again then",
        ),
        ("note", still if _has_passed(found) else None),
    ]


def _claim_row(found: Kept | Broken | TooEarly, path: Path | None) -> dict[str, object]:
    if isinstance(found, Kept):
        return {
            "result": "kept",
            "proof": None if path is None else str(path),
            "block": found.message.header.height,
            "sealed_at": found.message.header.sealed_at,
            "message_id": found.message.message_id.hex(),
        }
    if isinstance(found, Broken):
        late = found.late is not None
        return {"result": "broken", "evidence": str(path), "late": late, **_judgement_row(found.judgement)}
    return {
        "result": "too early",
        "ask_after": found.block_by,
        "sealed_at": found.sealed_at,
        "covered": found.covered,
        "past": _has_passed(found),
    }


def _has_passed(found: TooEarly) -> bool:
    return int(time.time() * 1_000) > found.block_by


def _signer_rows(signer: Signer) -> list[tuple[str, str | None]]:
    key = signer.key
    ended = None if key.until is None else f"the key was {key.ending}; whoever had it may have signed"
    return [("promised by", f"{signer.operator.legal_name} ({signer.operator.participant})"), ("note", ended)]


def _judgement_rows(judgement: Judgement) -> list[tuple[str, str | None]]:
    receipt = judgement.receipt
    return [
        *_signer_rows(judgement.signer),
        ("message", receipt.message_id.hex()),
        ("in a block by", moment(receipt.block_by)),
        (f"but ({judgement.breach.lower()})", judgement.detail),
        ("log", f"{judgement.checkpoint.origin}, {judgement.checkpoint.size} blocks"),
    ]


def _judgement_row(judgement: Judgement) -> dict[str, object]:
    return {
        "breach": judgement.breach,
        "detail": judgement.detail,
        **_signer_row(judgement.signer),
        "message_id": judgement.receipt.message_id.hex(),
        "block_by": judgement.receipt.block_by,
        "block": judgement.header.height,
        "log": judgement.checkpoint.origin,
        "log_size": judgement.checkpoint.size,
        "log_root": judgement.checkpoint.root.hex(),
    }


def _signer_row(signer: Signer) -> dict[str, object]:
    return {
        "operator": signer.operator.participant,
        "legal_name": signer.operator.legal_name,
        "key_ended_at_version": signer.key.until,
    }


def _promise_row(promise: Promise) -> dict[str, object]:
    receipt, event, spoken, signer = promise
    return {
        **_signer_row(signer),
        "message_id": receipt.message_id.hex(),
        "sender": spoken.message.sender,
        "transaction": transaction_text(event.transaction_id),
        "sequence": spoken.message.sequence,
        "at": event.at,
        "pipeline": event.pipeline,
        "firehose_sequence": event.sequence,
        "directory_version": event.directory_version,
        "block_by": receipt.block_by,
    }
