"""What the router counts besides its state: each sender's standing with its quotas, and open transactions by kind and opener.

It all stands in a partition's tally, so it follows the commits. Open transactions are counted anew from the state when a
pipeline is assigned; what was paid of the rates is forgotten then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from parley.schemas import TransactionState
from router.quotas import Standing
from streams.tally import Tally

__all__ = ["count", "count_open", "keep_standing", "open_by_kind", "standing_of"]

_PAID: Final = "paid/"
_OPENER: Final = "opener/"
_KIND: Final = "kind/"


def standing_of(tally: Tally, speaker: str) -> Standing:
    """How a speaker stands with its quotas."""
    paid, opened = tally.get(_PAID + speaker), tally.get(_OPENER + speaker)
    return Standing(paid[0] if paid else 0, paid[1] if paid else 0, opened[0] if opened else 0)


def keep_standing(tally: Tally, speaker: str, standing: Standing) -> None:
    """Note what a speaker has paid for."""
    tally.put(_PAID + speaker, standing[:2])


def count(tally: Tally, state: TransactionState, change: int) -> None:
    """Count a transaction that has just been opened (1), or has just ended (-1)."""
    terms = state.terms
    for name in (_KIND + terms.kind, _OPENER + terms.parties[state.opener].participant):
        before = tally.get(name)
        number = before[0] + change if before else change
        tally.put(name, (number,) if number else ())


def count_open(tally: Tally, states: Iterable[object]) -> None:
    """Count those of the states that are open transactions, as committed."""
    counts: Counter[str] = Counter()
    for state in states:
        if isinstance(state, TransactionState) and state.outcome is None:
            terms = state.terms
            counts[_KIND + terms.kind] += 1
            counts[_OPENER + terms.parties[state.opener].participant] += 1
    for name, number in counts.items():
        tally.put(name, (number,))
    tally.commit()


def open_by_kind(tally: Tally) -> Iterator[tuple[str, int]]:
    """How many transactions are open, by their kind."""
    for name, numbers in tally.items():
        if name.startswith(_KIND):
            yield name.removeprefix(_KIND), numbers[0]
