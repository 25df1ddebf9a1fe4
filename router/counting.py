"""What the router counts besides its state: each sender's standing with its quotas, and open transactions by kind and opener.

It all stands in a partition's tally, so it follows the commits. Open transactions are counted anew while the state is
restored; what was paid of the rates is forgotten then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from parley.schemas import TransactionState
from router.quotas import Standing
from streams.tally import Tally

__all__ = ["count", "count_change", "keep_paid", "open_by_kind", "standing_of"]

_MESSAGES: Final = "messages/"
_BYTES: Final = "bytes/"
_OPENER: Final = "opener/"
_KIND: Final = "kind/"


def standing_of(tally: Tally, speaker: str) -> Standing:
    """How a speaker stands with its quotas."""
    return Standing(tally.get(_MESSAGES + speaker), tally.get(_BYTES + speaker), tally.get(_OPENER + speaker))


def keep_paid(tally: Tally, speaker: str, standing: Standing) -> None:
    """Note what a speaker has paid for."""
    tally.put(_MESSAGES + speaker, standing.messages_until)
    tally.put(_BYTES + speaker, standing.bytes_until)


def count(tally: Tally, state: TransactionState, change: int) -> None:
    """Count a transaction that has just been opened (1), or has just ended (-1)."""
    terms = state.terms
    tally.add(_KIND + terms.kind, change)
    tally.add(_OPENER + terms.parties[state.opener].participant, change)


def count_change(tally: Tally, before: object, after: object) -> None:
    """Count one that is open after a change and was not before it, or the other way round."""
    opened, open_now = _is_open(before), _is_open(after)
    if opened != open_now:
        state = after if open_now else before
        assert isinstance(state, TransactionState)
        count(tally, state, 1 if open_now else -1)


def _is_open(state: object) -> bool:
    return isinstance(state, TransactionState) and state.outcome is None


def open_by_kind(tally: Tally) -> Iterator[tuple[str, int]]:
    """How many transactions are open, by their kind."""
    for name, number in tally.items():
        if name.startswith(_KIND):
            yield name.removeprefix(_KIND), number
