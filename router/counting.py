"""What the router counts besides its state: each sender's standing with its quotas, and open transactions by kind and opener.

It all stands in a partition's tally, so it follows the commits. Open transactions are counted anew from the state when a
pipeline is assigned; what was paid of the rates is forgotten then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from parley import lifecycle
from parley.schemas import TransactionState
from router.quotas import FRESH, Quotas, Standing
from streams.tally import Tally

__all__ = ["count_change", "count_open", "keep_standing", "open_by_kind", "standing_of"]

_PAID: Final = "paid/"
_OPENER: Final = "opener/"
_KIND: Final = "kind/"


def standing_of(tally: Tally, speaker: str, quotas: Quotas, *, opens: bool) -> Standing:
    """How a speaker stands, as far as its message makes that matter."""
    if not (opens or quotas.are_rates):
        return FRESH
    paid = tally.get(_PAID + speaker) or (0, 0)
    opened = tally.get(_OPENER + speaker) if opens else ()
    return Standing(paid[0], paid[1], opened[0] if opened else 0)


def keep_standing(tally: Tally, speaker: str, standing: Standing) -> None:
    """Note what a speaker has paid for."""
    tally.put(_PAID + speaker, standing[:2])


def count_change(tally: Tally, after: TransactionState) -> None:
    """Count a transaction that has just been opened, or has just ended."""
    if after.outcome is not None:
        change = -1
    elif lifecycle.message_count(after) == 1:
        change = 1
    else:
        return
    terms = after.terms
    for name in (_KIND + terms.kind, _OPENER + terms.parties[after.opener].participant):
        counted = tally.get(name)
        number = change + (counted[0] if counted else 0)
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
