"""Numbers by name that follow the commits: undone together with the state, written nowhere, lost with the process.

For what may begin anew on a restart, or is counted from the state then, such as how much somebody has sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Numbers", "Tally"]

Numbers = tuple[int, ...]


class Tally:
    """Some numbers under each name, of which everything since the last commit, or since a savepoint, can be undone."""

    __slots__ = ("__weakref__", "_before", "_inner", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[str, Numbers] = {}
        # What each name written since the last commit, or since the savepoint, had before.
        self._before: dict[str, Numbers] = {}
        self._inner: dict[str, Numbers] | None = None

    def get(self, name: str) -> Numbers:
        """What stands under ``name``; empty where nothing does."""
        return self._numbers.get(name, ())

    def items(self) -> Iterator[tuple[str, Numbers]]:
        """Everything that stands here now, of a moment: safe to read from another thread."""
        return iter(list(self._numbers.items()))

    def put(self, name: str, numbers: Numbers) -> None:
        """Set what stands under ``name``, to be undone unless a commit follows; nothing at all where that is empty."""
        before = self._before if self._inner is None else self._inner
        before.setdefault(name, self._numbers.get(name, ()))
        self._set(name, numbers)

    def _set(self, name: str, numbers: Numbers) -> None:
        if numbers:
            self._numbers[name] = numbers
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
        for name, numbers in (inner or {}).items():
            self._before.setdefault(name, numbers)

    def rollback_to_savepoint(self) -> None:
        """Close the savepoint, if one is open, and undo what was put since."""
        inner, self._inner = self._inner, None
        self._undo(inner or {})

    def _undo(self, before: dict[str, Numbers]) -> None:
        for name, numbers in before.items():
            self._set(name, numbers)
