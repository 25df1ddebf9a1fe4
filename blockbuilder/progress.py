"""A progress bar for the operator's commands, on standard error, where somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

__all__ = ["Tell", "progress"]

Tell = Callable[[str, int, int], None]
"""Told what is being done, how much of it, of how much."""


@contextmanager
def progress(*, quiet: bool) -> Iterator[Tell]:
    """What shows progress; nothing where it is quiet or nobody looks."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _what, _done, _size: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, size: bar.update(task, description=what, completed=done, total=size)
