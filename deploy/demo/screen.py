"""What people see while it runs: steps and bars on a terminal, plain lines in a file or a pipe; decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from deploy.demo.sight import Sight

__all__ = ["Screen"]

_PLAIN_EVERY_S: Final = 5.0
_WIDTH: Final = 64
"""Of a step's title, with the dots behind it."""


class Screen:
    """Shows the progress of a run."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str = "") -> None:
        """One plain line."""
        self.console.print(text, markup=False, highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step of the work: it turns while it lasts, and leaves a line with its time."""
        with self._timed(title):
            if not self.console.is_terminal:
                yield
                return
            turning = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            with Progress(*turning, console=self.console, transient=True) as progress:
                progress.add_task(title)
                yield

    @contextmanager
    def trading(
        self, title: str, trades: int, transactions: int, messages: int
    ) -> Iterator[Callable[[Sight], None]]:
        """The step in which the banks trade: gives what to call with each sight of it."""
        with self._timed(title):
            if not self.console.is_terminal:
                yield _plain_lines(self, trades, messages)
                return
            bars = (
                TextColumn("  {task.description:8}"),
                BarColumn(bar_width=16),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            with Progress(*bars, console=self.console, transient=True) as progress:
                yield _bars(progress, trades, transactions, messages)

    @contextmanager
    def _timed(self, title: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.say(f"  {title + ' ':.<{_WIDTH}} {time.monotonic() - began:5.1f} s")


def _bars(progress: Progress, trades: int, transactions: int, messages: int) -> Callable[[Sight], None]:
    said = progress.add_task("messages", total=messages, note="")
    ended = progress.add_task("trades", total=trades, note="")
    sealed = progress.add_task("sealed", total=transactions, note="")

    def show(sight: Sight) -> None:
        outcomes = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in sorted(sight.outcomes.items())
        )
        progress.update(said, completed=sight.figures.messages)
        progress.update(ended, completed=sight.trades, note=outcomes)
        progress.update(
            sealed, completed=sight.sealed, note=f"in {sight.blocks} blocks, {sight.anchors} anchors final"
        )

    return show


def _plain_lines(screen: Screen, trades: int, messages: int) -> Callable[[Sight], None]:
    shown = time.monotonic()

    def show(sight: Sight) -> None:
        nonlocal shown
        if time.monotonic() - shown >= _PLAIN_EVERY_S:
            shown = time.monotonic()
            screen.say(
                f"    {sight.trades} of {trades} trades ended, {sight.figures.messages} of {messages} messages,"
                f" {sight.blocks} blocks, {sight.anchors} anchors final"
            )

    return show
