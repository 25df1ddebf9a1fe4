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
        began = time.monotonic()
        if self.console.is_terminal:
            with Progress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
                console=self.console, transient=True,
            ) as progress:  # fmt: skip
                progress.add_task(title)
                yield
        else:
            yield
        seconds = time.monotonic() - began
        self.say(f"  {title + ' ':.<{_WIDTH}} {seconds:5.1f} s")

    @contextmanager
    def trading(self, trades: int, messages: int) -> Iterator[Callable[[Sight], None]]:
        """The trading: gives what to call with each sight of it."""
        if not self.console.is_terminal:
            yield _plain_lines(self, trades, messages)
            return
        with Progress(
            TextColumn("  {task.description:9}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            console=self.console, transient=True,
        ) as progress:  # fmt: skip
            ended = progress.add_task("trades", total=trades, note="")
            said = progress.add_task("messages", total=messages, note="")
            sealed = progress.add_task("sealed", total=trades, note="")

            def show(sight: Sight) -> None:
                outcomes = ", ".join(
                    f"{count} {_words(name)}" for name, count in sight.figures.outcomes.items()
                )
                progress.update(ended, completed=sight.ended, note="")
                progress.update(said, completed=sight.figures.messages, note="")
                anchors = f"in {sight.blocks} blocks, {sight.anchors} anchors final"
                progress.update(sealed, completed=sight.sealed, note=anchors)
                progress.update(ended, note=outcomes)

            yield show


def _plain_lines(screen: Screen, trades: int, messages: int) -> Callable[[Sight], None]:
    shown = time.monotonic()

    def show(sight: Sight) -> None:
        nonlocal shown
        if time.monotonic() - shown >= _PLAIN_EVERY_S:
            shown = time.monotonic()
            screen.say(
                f"    {sight.ended} of {trades} trades ended, {sight.figures.messages} of {messages} messages,"
                f" {sight.blocks} blocks, {sight.anchors} anchors final"
            )

    return show


def _words(name: str) -> str:
    return name.replace("_", " ")
