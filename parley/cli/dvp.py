"""``parley dvp``: settlement instructions checked, submitted and settled, delivery versus payment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parley.cli.messages import connection, duration
from parley.cli.options import DEFAULT_PROFILE, Json, PasswordFile, ProfileFile, read_file
from parley.cli.output import complain, printable, show_json
from parley.errors import ParleyError, SettlementError

if TYPE_CHECKING:
    from parley.client import Participant
    from parley.workflows.settlement.instruction import SettlementInstruction
    from parley.workflows.settlement.matching import Tolerance
    from parley.workflows.settlement.straight_through import Outcome

__all__ = ["register"]

Files = Annotated[list[Path], typer.Argument(help="Files of sese.023 (001.09 to 001.11).")]
Day = Annotated[
    str | None,
    typer.Option("--day", metavar="YYYY-MM-DD", help="Business day to judge dates by; today in UTC."),
]
Within = Annotated[
    str, typer.Option(help="How long a delivery waits for its counterparty's opening, such as 15m, 4h.")
]
DeadlineOption = Annotated[str, typer.Option("--deadline", help="How long each negotiation may take.")]
Tolerances = Annotated[
    list[str] | None,
    typer.Option(
        "--tolerance",
        metavar="EUR=25|0.1%",
        help="How far amounts may be apart: so much of a currency, or per cent; may be repeated.",
    ),
]
Readers = Annotated[
    list[str] | None,
    typer.Option("--reader", help="Reads the negotiations too, such as a regulator; may be repeated."),
]
RefuseUnknown = Annotated[
    bool,
    typer.Option(
        "--refuse-unknown",
        help="Refuse openings that none of these instructions belong to, instead of leaving them open.",
    ),
]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write what failed to this file (CSV).")]
Consumer = Annotated[
    str,
    typer.Option(help="The name whose place in the inbox this is; two runs at the same time need two."),
]
JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal", help="Remember here what ended, so that the same command goes on after a crash."
    ),
]


def register(app: typer.Typer) -> None:
    dvp = typer.Typer(help="Settle trades, delivery versus payment (ISO 20022).", no_args_is_help=True)
    dvp.command()(check)
    dvp.command()(submit)
    dvp.command()(run)
    app.add_typer(dvp, name="dvp")


def check(files: Files, day: Day = None, json: Json = False) -> None:
    """Read instructions and say what is wrong with them, without a backbone. Exit code 0 if nothing is."""
    instructions = _instructions(files, _day(day))
    for path, instruction in zip(files, instructions, strict=True):
        if json:
            show_json({"file": str(path), **_facts(instruction)})
        else:
            typer.echo(f"{printable(str(path))}: {_in_words(instruction)}")


def submit(
    files: Files,
    day: Day = None,
    within: Within = "1h",
    deadline: DeadlineOption = "1h",
    tolerance: Tolerances = None,
    reader: Readers = None,
    refuse_unknown: RefuseUnknown = False,
    report: ReportFile = None,
    journal: JournalFile = None,
    consumer: Consumer = "dvp",
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Negotiate the instructions in these files to their end. If any file is wrong, nothing is sent.

    Where we receive, we open; where we deliver, we answer. Exit code 0 if all have settled.
    """
    on_day = _day(day)
    instructions = _instructions(files, on_day)
    settling = _Settling(
        on_day, within, deadline, tolerance, reader, report, journal, refuse_unknown=refuse_unknown
    )
    settling.settle(profile, password_file, consumer, lambda _: instructions, json=json)


def run(
    trades: Annotated[Path, typer.Argument(help="The exchange's file of our trades (CSV).")],
    day: Day = None,
    within: Within = "1h",
    deadline: DeadlineOption = "1h",
    tolerance: Tolerances = None,
    reader: Readers = None,
    refuse_unknown: RefuseUnknown = False,
    report: ReportFile = None,
    journal: JournalFile = None,
    consumer: Consumer = "dvp",
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Settle a trade file straight through: our side of each trade is instructed, negotiated, and followed to its end.

    If a row cannot be read, nothing is sent. The journal is the trade file's name with .journal, unless named. Exit code 0 if all have settled.
    """
    from parley.workflows.settlement.straight_through import own_side  # noqa: PLC0415  loads the models

    data = read_file(trades)
    kept = journal or trades.with_name(f"{trades.name}.journal")
    settling = _Settling(
        _day(day), within, deadline, tolerance, reader, report, kept, refuse_unknown=refuse_unknown
    )

    def ours(me: Participant) -> Iterable[SettlementInstruction]:
        return tuple(own_side(data, me.directory, me.participant))

    settling.settle(profile, password_file, consumer, ours, json=json)


class _Settling:
    """How the command line settles: read from its options, so that a wrong one is told before anything is sent."""

    def __init__(
        self,
        day: date,
        within: str,
        deadline: str,
        tolerance: list[str] | None,
        reader: list[str] | None,
        report: Path | None,
        journal: Path | None,
        *,
        refuse_unknown: bool,
    ) -> None:
        from parley.workflows.settlement.office import Practice  # noqa: PLC0415

        self._practice = Practice(
            tolerance=_tolerance(tolerance or ()),
            deadline=duration(deadline),
            day=lambda _: day,
            readers=tuple(reader or ()),
            refuse_unknown=refuse_unknown,
        )
        self._within = duration(within)
        self._report = report
        self._journal = journal

    def settle(
        self,
        profile: Path,
        password_file: Path | None,
        consumer: str,
        instructions: Callable[[Participant], Iterable[SettlementInstruction]],
        *,
        json: bool,
    ) -> None:
        """Settle, tell what became of each, write the report; raises typer.Exit(1) where one has failed."""
        from parley.workflows.settlement.journal import Journal  # noqa: PLC0415
        from parley.workflows.settlement.straight_through import settle_all, write_report  # noqa: PLC0415

        async def settled(journal: Journal | None) -> tuple[Outcome, ...]:
            async with connection(profile, password_file, consumer) as me:
                return await settle_all(
                    me, instructions(me), self._practice, within=self._within, journal=journal
                )

        with nullcontext() if self._journal is None else Journal(self._journal) as journal:
            outcomes = asyncio.run(settled(journal))
        if not outcomes:
            raise SettlementError("none of the trades is ours; give the file of our own trades")
        for outcome in outcomes:
            if json:
                show_json(dict(outcome.row))
            else:
                why = f" ({outcome.why})" if outcome.why else ""
                typer.echo(printable(f"{outcome.ending:<14}  {_in_words(outcome.instruction)}{why}", 400))
        if self._report is not None:
            _replace(self._report, write_report(outcomes))
        failed = sum(outcome.failed for outcome in outcomes)
        if failed:
            complain(f"{failed} of {len(outcomes)} instructions failed")
            raise typer.Exit(1)


def _instructions(files: list[Path], day: date) -> tuple[SettlementInstruction, ...]:
    """What is in the files; every file that is wrong is told, and then raises typer.Exit(1)."""
    from parley.workflows.settlement.checks import check as check_instruction  # noqa: PLC0415
    from parley.workflows.settlement.reading import read_instruction  # noqa: PLC0415

    found, wrong = [], 0
    for path in files:
        try:
            instruction = read_instruction(read_file(path))
            check_instruction(instruction, day)
            found.append(instruction)
        except SettlementError as error:
            wrong += 1
            complain(f"{path}: {error}")
    if wrong:
        complain(f"{wrong} of {len(files)} files cannot be used; nothing was sent")
        raise typer.Exit(1)
    return tuple(found)


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("--day is YYYY-MM-DD") from None


def _tolerance(texts: Iterable[str]) -> Tolerance:
    """The tolerance that the options state; raises typer.BadParameter."""
    from parley.workflows.settlement.matching import Tolerance  # noqa: PLC0415

    absolute, percent = {}, Decimal(0)
    for text in texts:
        currency, _, number = text.rpartition("=")
        relative = text.endswith("%")
        try:
            value = Decimal(number.removesuffix("%"))
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or value < 0 or relative == bool(currency):
            raise typer.BadParameter("a tolerance is an amount, such as EUR=25, or per cent, such as 0.1%")
        if relative:
            percent = value
        else:
            absolute[currency] = value
    return Tolerance(tuple(absolute.items()), percent)


def _in_words(instruction: SettlementInstruction) -> str:
    ours = instruction
    amount = f"{ours.amount.currency} {ours.amount.amount:,f}"
    return (
        f"{ours.movement.name.lower()} {ours.quantity.number:,f} {ours.isin} against {amount} on {ours.settlement_date}, "
        f"reference {ours.transaction_id}"
    )


def _facts(instruction: SettlementInstruction) -> dict[str, object]:
    return {
        "reference": instruction.transaction_id,
        "trade": instruction.trade_id,
        "side": instruction.movement.name.lower(),
        "isin": instruction.isin,
        "quantity": f"{instruction.quantity.number:f}",
        "amount": f"{instruction.amount.amount:f}",
        "currency": instruction.amount.currency,
        "trade_date": instruction.trade_date.isoformat(),
        "settlement_date": instruction.settlement_date.isoformat(),
    }


def _replace(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ParleyError(f"{path} cannot be written: {error.strerror}") from error
