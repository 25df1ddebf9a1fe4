"""A run's result for people and for programs: text on a console, and ``summary.json``; judges nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deploy.demo.auditor import Audited
from deploy.demo.findings import endings, settled_amounts
from deploy.demo.orders import Side
from deploy.demo.reference import Ending
from deploy.demo.run import Proving, Result
from deploy.demo.story import Line, Story
from parley.cli.output import moment
from parley.grants import CHANNEL_KIND
from parley.workflows.settlement.steps import KIND

__all__ = ["print_summary", "summary_row"]

_WIDEST: Final = 100
"""Columns that a table of figures takes at most; beyond, its rows are hard to follow with the eye."""
_NEAR: Final = (0, 0, 0, 2)


def summary_row(result: Result) -> dict[str, object]:
    """What ``summary.json`` holds. Amounts are decimal text, times seconds."""
    evidence, audited = result.evidence, result.evidence.audited
    counts = endings(evidence)
    return {
        "good": result.good,
        "trades": len(evidence.trades),
        "settled": counts.get(Ending.SETTLED, 0),
        "declined": counts.get(Ending.DECLINED, 0),
        "timed_out": counts.get(Ending.TIMED_OUT, 0),
        "refused": sum(evidence.rejections.values()),
        "messages": evidence.figures.messages,
        "channels": audited.transactions_by_kind.get(CHANNEL_KIND, 0),
        "messages_by_kind": dict(audited.messages_by_kind),
        "private": evidence.figures.private,
        "in_clear": audited.in_clear,
        "unread_by_regulator": dict(evidence.figures.unread),
        "blocks": audited.log_size,
        "log_size": audited.log_size,
        "log_root": audited.root,
        "anchors_final": len(audited.anchors),
        "proofs_verified": audited.proofs_verified,
        "seconds": dict(result.seconds),
        "refused_by_reason": dict(evidence.rejections),
        "due": dict(evidence.figures.waiting_on),
        "by_isin": {
            isin: {
                "outcomes": dict(instrument.outcomes),
                "settled": {currency: f"{amount:f}" for currency, amount in instrument.settled.items()},
            }
            for isin, instrument in sorted(evidence.figures.instruments.items())
        },
        "settled_amounts": {currency: f"{amount:f}" for currency, amount in sorted(_settled(result).items())},
        "audit": {
            "transactions": audited.transactions,
            "finished": audited.finished,
            "timed_out": audited.timed_out,
            "messages": audited.messages,
            "signatures": audited.signatures,
            "directory_records": audited.directory_records,
            "firehose_events": audited.firehose_events,
            "unsealed": audited.unsealed,
        },
        "anchors": [
            {
                "log_size": anchor.log_size,
                "root": anchor.root,
                "transaction": f"0x{anchor.transaction_hash}",
                "block": anchor.block_number,
                "confirmations": anchor.confirmations,
            }
            for anchor in audited.anchors
        ],
        "checks": [
            {"claim": check.claim, "good": check.good, "faults": list(check.faults)}
            for check in result.checks
        ],
        "flushed_before_acknowledgement": result.durable,
        "deadline_seconds": result.pace.deadline_seconds,
        "openings_per_second": result.pace.openings_per_second,
    }


def print_summary(result: Result, console: Console) -> None:
    """Tell it to a banker."""
    with console.capture() as captured:
        _print_endings(result, console)
        _print_instruments(result, console)
        if result.story is not None:
            _print_story(result.story, console)
        if result.proving is not None:
            _print_proving(result.proving, console)
        _print_checks(result, console)
    # Tables are filled up to the console's width, which is of no use in a file.
    for line in captured.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _print_endings(result: Result, console: Console) -> None:
    evidence = result.evidence
    counts = endings(evidence)
    names = {each.participant: each.legal_name for each in evidence.institutions}
    _title(console, f"How {len(evidence.trades)} trades ended")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    table.add_row("settled", _count(counts.get(Ending.SETTLED, 0)), _money(_settled(result)))
    table.add_row("declined", _count(counts.get(Ending.DECLINED, 0)), "by the receiver, in words")
    table.add_row("timed out", _count(counts.get(Ending.TIMED_OUT, 0)), _due(result, names))
    table.add_row("refused", _count(sum(evidence.rejections.values())), _reasons(result))
    if others := [f"{ending} {count}" for ending, count in counts.items() if ending is Ending.MISMATCHED]:
        table.add_row("mismatched", "", ", ".join(others))
    console.print(Padding(table, _NEAR))


def _print_instruments(result: Result, console: Console) -> None:
    evidence = result.evidence
    titles = {trade.isin: trade.security_name for trade in evidence.trades}
    _title(console, "What the regulator counted, live, from what it decrypted of the firehose")
    width = min(console.width - 2, _WIDEST)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", width=width)
    table.add_column("ISIN", min_width=12, no_wrap=True)
    table.add_column("security", no_wrap=True, overflow="ellipsis", ratio=1)
    for title in ("settled", "declined", "timed out"):
        table.add_column(title, justify="right", no_wrap=True, min_width=len(title))
    table.add_column("value settled", justify="right", no_wrap=True, min_width=18)
    for isin, instrument in sorted(evidence.figures.instruments.items()):
        cells = (
            _count(instrument.outcomes.get(ending, 0)) for ending in ("settled", "declined", "timed_out")
        )
        table.add_row(isin, titles.get(isin, ""), *cells, _money(instrument.settled))
    console.print(Padding(table, _NEAR))
    figures = evidence.figures
    unread = sum(figures.unread.values())
    _line(
        console,
        f"{figures.events:,} events, each with its chain hash checked, by a Kafka user that may read the firehose"
        f" and nothing else. Of {figures.private:,} encrypted messages it read {figures.private - unread:,}, by the grant in"
        f" each trade's opening. {_unread(figures.unread)}",
    )


def _print_story(story: Story, console: Console) -> None:
    _title(console, "One of them, line by line, as the regulator reads it by its grant")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True, style="dim")
    table.add_column(overflow="fold", ratio=1)
    table.add_column(justify="right", no_wrap=True, style="dim")
    for line in story.lines:
        said = Text.assemble((f"{line.speaker}: ", "bold"), line.text or "(not readable)")
        table.add_row(f"{line.seconds:.2f} s", said, f"{line.pipeline}/{line.sequence}")
        table.add_row("", Text(_seen(line), style="dim", overflow="fold"), "")
    console.print(Padding(table, _NEAR))
    _line(
        console,
        f"(seconds since {moment(story.opened_at)}; pipeline/sequence on the firehose; sizes padded to powers of two)",
    )
    console.print()
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    table.add_row("transaction", story.transaction)
    table.add_row(
        "in block", f"{story.height}, sealed {story.sealed_after:.2f} s after the last word, with root"
    )
    table.add_row("", story.root)
    if story.anchor is not None:
        anchor = story.anchor
        table.add_row(
            "on chain",
            f"block {anchor.block_number}, {anchor.confirmations} confirmations,"
            f" for the log's first {anchor.log_size} blocks, by",
        )
        table.add_row("", f"0x{anchor.transaction_hash}")
    console.print(Padding(table, _NEAR))


def _print_proving(proving: Proving, console: Console) -> None:
    _title(console, "Its last message proved offline, with nothing but the log's public key")
    for line in f"$ {proving.command}".splitlines():
        console.out(f"  {line}", highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for line in proving.verified.output.splitlines():
        name, _, value = line.partition("  ")
        table.add_row(name, value.strip())
    console.print(Padding(table, (0, 0, 0, 4)))
    console.print()
    _line(
        console,
        f"The same file with byte {proving.changed_byte} changed, refused with exit code {proving.changed.exit_code}:",
    )
    console.print(Padding(Text(proving.changed.output, overflow="fold"), (0, 0, 0, 4)))


def _print_checks(result: Result, console: Console) -> None:
    audited = result.evidence.audited
    _title(console, "What was checked")
    _line(
        console,
        f"An auditor recomputed {audited.log_size} blocks with {audited.transactions} transactions"
        f" ({_kinds(audited)}) from public data,"
        f" verified {audited.signatures:,} signatures, found {len(audited.anchors)} anchors on the chain, and made"
        f" {audited.proofs_verified} proofs, all over ciphertext: it was given no key.",
    )
    for check in result.checks:
        mark, style = ("✓", "green") if check.good else ("✗", "bold red")
        console.print(Padding(Text.assemble((f"{mark} ", style), check.claim), _NEAR))
        for fault in check.faults:
            console.print(Padding(Text(fault, style="red", overflow="fold"), (0, 0, 0, 4)))


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold cyan"))


def _line(console: Console, text: str) -> None:
    console.print(Padding(Text(text, overflow="fold"), _NEAR))


def _settled(result: Result) -> dict[str, Decimal]:
    """What settled in all, by currency; each trade once, as its receiver says."""
    return settled_amounts(
        trade for report in result.evidence.reports for trade in report.trades if trade.side is Side.RECEIVE
    )


def _money(amounts: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{currency} {amount:,.2f}" for currency, amount in sorted(amounts.items()))


def _kinds(audited: Audited) -> str:
    """How many trades and channels, in words."""
    words = {KIND: "trades", CHANNEL_KIND: "channels"}
    kinds = sorted(audited.transactions_by_kind.items(), key=lambda each: -each[1])
    return ", ".join(f"{count} {words.get(kind, f'of kind {kind}')}" for kind, count in kinds)


def _unread(unread: Mapping[str, int]) -> str:
    """What the regulator could not read, in words."""
    words = {CHANNEL_KIND: "open and close the banks' channels, whose keys it was not given"}
    if not unread:
        return "None stayed closed to it."
    told = (f"{count:,} {words.get(kind, f'of kind {kind}')}" for kind, count in sorted(unread.items()))
    return f"The others it could not: {', '.join(told)}."


def _seen(line: Line) -> str:
    """What of a message everybody sees."""
    granted = f", its key granted to {', '.join(line.granted)}" if line.granted else ""
    return f"everybody sees: {line.sender} to {', '.join(line.recipients)}, {line.size:,} bytes encrypted{granted}"


def _due(result: Result, names: dict[str, str]) -> str:
    """Who was due, by legal name, most often first."""
    due = Counter(dict(result.evidence.figures.waiting_on))
    if not due:
        return ""
    return "waiting on " + ", ".join(
        f"{names.get(name, name)} ({count})" for name, count in due.most_common()
    )


def _reasons(result: Result) -> str:
    words = {
        "DEADLINE_PASSED": "confirmed delivery after the deadline (DEADLINE_PASSED)",
        "GRANT_REQUIRED": "proposed a trade without the regulator's grant (GRANT_REQUIRED)",
    }
    return ", ".join(
        f"{count} {words.get(reason, reason)}" for reason, count in result.evidence.rejections.items()
    )


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"
