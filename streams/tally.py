"""Numbers by name that follow the commits: undone together with the state, written nowhere, lost with the process.

For what may begin anew on a restart, or is counted from the state then, such as how much somebody has sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Tally"]


class Tally:
    """A number under each name, 0 where there is none; whatever changed since the last commit, or a savepoint, can be undone."""

    __slots__ = ("__weakref__", "_before", "_inner", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        # What each name written since the last commit, or since the savepoint, had before.
        self._before: dict[str, int] = {}
        self._inner: dict[str, int] | None = None

    def get(self, name: str) -> int:
        """The number under ``name``."""
        return self._numbers.get(name, 0)

    def items(self) -> Iterator[tuple[str, int]]:
        """Every number but 0, as of one moment: safe to read from another thread."""
        return iter(list(self._numbers.items()))

    def put(self, name: str, number: int) -> None:
        """Set the number under ``name``, to be undone unless a commit follows."""
        before = self._before if self._inner is None else self._inner
        if name not in before:
            before[name] = self._numbers.get(name, 0)
        self._set(name, number)

    def add(self, name: str, number: int) -> None:
        """Add to the number under ``name``, to be undone unless a commit follows."""
        numbers = self._numbers
        old = numbers.get(name, 0)
        before = self._before if self._inner is None else self._inner
        if name not in before:
            before[name] = old
        if old + number:
            numbers[name] = old + number
        else:
            numbers.pop(name, None)

    def clear(self) -> None:
        """Put 0 under every name."""
        for name in list(self._numbers):
            self.put(name, 0)

    def _set(self, name: str, number: int) -> None:
        if number:
            self._numbers[name] = number
        else:
            self._numbers.pop(name, None)

    def commit(self) -> None:
        """Keep everything put since the last commit."""
        self._before = {}

    def rollback(self) -> None:
        """Undo everything since the last commit."""
        self.rollback_to_savepoint()
        self._undo(self._before)
        self._before = {}

    def savepoint(self) -> None:
        """Open a savepoint within the commit; one at a time."""
        self._inner = {}

    def release(self) -> None:
        """Close the savepoint and keep what was put since."""
        inner, self._inner = self._inner, None
        for name, number in (inner or {}).items():
            self._before.setdefault(name, number)

    def rollback_to_savepoint(self) -> None:
        """Close the savepoint, if one is open, and undo what was put since."""
        inner, self._inner = self._inner, None
        self._undo(inner or {})

    def _undo(self, before: dict[str, int]) -> None:
        for name, number in before.items():
            self._set(name, number)
