"""How results and errors are shown: JSON for programs, aligned lines for people; nothing a stranger wrote moves the cursor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import typer

__all__ = ["complain", "moment", "printable", "progress_bar", "show", "show_json"]

Value = str | int | bool | None


def printable(text: str, limit: int = 200) -> str:
    """The text on one line without control characters, cut at ``limit`` characters."""
    safe = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def moment(ms: int) -> str:
    """A time as people write it, in UTC; ``ms`` since the Unix epoch."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def show(rows: Iterable[tuple[str, Value]]) -> None:
    """Names and values, a line each, aligned; those without a value are left out."""
    known = [(name, value) for name, value in rows if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        typer.echo(f"{name:<{width}}  {printable(str(value))}")


def show_json(value: Mapping[str, object]) -> None:
    """One JSON object on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def complain(text: str) -> None:
    """One line on standard error."""
    typer.echo(f"parley: {printable(text, 2_000)}", err=True)


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, where somebody looks; what it gives is told how many of how many are done."""
    from rich.console import Console  # noqa: PLC0415  not loaded for programs
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)
