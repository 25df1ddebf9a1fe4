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

_SENDER: Final = "sender/"
_KIND: Final = "kind/"


def standing_of(tally: Tally, speaker: str) -> Standing:
    """How a speaker stands with its quotas."""
    numbers = tally.get(_SENDER + speaker)
    return Standing._make(numbers) if numbers else Standing()


def keep_standing(tally: Tally, speaker: str, standing: Standing) -> None:
    """Note how a speaker stands."""
    tally.put(_SENDER + speaker, standing if any(standing) else ())


def count(tally: Tally, state: TransactionState, change: int) -> None:
    """Count a transaction that has just been opened (1), or has just ended (-1)."""
    terms = state.terms
    opener = terms.parties[state.opener].participant
    messages_until, bytes_until, opened = standing_of(tally, opener)
    keep_standing(tally, opener, Standing(messages_until, bytes_until, opened + change))
    name = _KIND + terms.kind
    before = tally.get(name)
    number = before[0] + change if before else change
    tally.put(name, (number,) if number else ())


def count_open(tally: Tally, states: Iterable[object]) -> None:
    """Count those of the states that are open transactions, as committed."""
    kinds: Counter[str] = Counter()
    openers: Counter[str] = Counter()
    for state in states:
        if isinstance(state, TransactionState) and state.outcome is None:
            kinds[state.terms.kind] += 1
            openers[state.terms.parties[state.opener].participant] += 1
    for kind, number in kinds.items():
        tally.put(_KIND + kind, (number,))
    for opener, number in openers.items():
        keep_standing(tally, opener, Standing(open=number))
    tally.commit()


def open_by_kind(tally: Tally) -> Iterator[tuple[str, int]]:
    """How many transactions are open, by their kind."""
    for name, numbers in tally.items():
        if name.startswith(_KIND):
            yield name.removeprefix(_KIND), numbers[0]
