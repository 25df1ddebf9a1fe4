"""``parley audit``: a whole block store recomputed from public data."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Annotated

import typer

from parley.audit import AuditReport, audit
from parley.blocks import BlockStore, from_folder
from parley.cli.desk import directory_records
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    LogKey,
    ProfileFile,
    profile_of,
    read_log_key,
    registrar_key,
)
from parley.cli.output import complain, printable, progress_bar, show, show_json
from parley.erasure import told, told_in_words
from parley.errors import ParleyError

__all__ = ["register"]

_SHOWN = 20


def register(app: typer.Typer) -> None:
    app.command("audit")(audit_store)


def audit_store(
    store: Annotated[Path, typer.Argument(help="The block store's folder.")],
    log_key: LogKey,
    registrar: Annotated[str, typer.Option("--registrar", help="The registrar's public key (hexadecimal).")],
    served: Annotated[
        bool,
        typer.Option("--served", help="Compare with the directory that the profile's Kafka user is served."),
    ] = False,
    profile: ProfileFile = DEFAULT_PROFILE,
    json: Json = False,
) -> None:
    """Recompute a block store: every hash, signature, name, sequence, transaction and the log's root.

    Exit code 0 only if no rule is broken; violations are listed on standard error.
    """
    trusted = registrar_key(registrar)
    assert trusted is not None
    if not store.is_dir():
        raise ParleyError(f"{store} is not a folder; name the block store")
    blocks = BlockStore(from_folder(store), read_log_key(log_key))
    directory = directory_records(profile_of(profile)) if served else None
    ways = cpu_count() or 1
    with ThreadPoolExecutor(ways) as executor, progress_bar("auditing blocks", quiet=json) as progress:
        report = audit(blocks, trusted, progress=progress, executor=executor, ways=ways, directory=directory)
    if json:
        purges = [{**told(statement), "bodies": bodies} for statement, bodies in report.purges]
        violations = [str(violation) for violation in report.violations]
        show_json({**_row(report), "purges": purges, "violations": violations})
    else:
        show([(name.replace("_", " "), value) for name, value in _row(report).items()])
        for statement, bodies in report.purges:
            typer.echo(printable(f"{bodies} bodies {told_in_words(statement)}", 2_500))
        for violation in report.violations[:_SHOWN]:
            complain(str(violation))
        if len(report.violations) > _SHOWN:
            complain(f"and {len(report.violations) - _SHOWN} more; --json lists all")
    raise typer.Exit(0 if report.good else 1)


def _row(report: AuditReport) -> dict[str, str | int | bool | None]:
    return {
        "good": report.good,
        "log": report.origin,
        "root": report.root.hex(),
        "blocks": report.blocks,
        "transactions": report.transactions,
        "finished": report.finished,
        "timed_out": report.timed_out,
        "messages": report.messages,
        "signatures": report.signatures,
        "directory_records": report.directory_records,
        "unsealed": report.unsealed,
        "purged": report.purged,
        "purges_due": report.purges_due,
    }
