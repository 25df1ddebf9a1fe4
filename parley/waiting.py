"""What waits on whom: for each open deal who is due, since when, until when, and what they had said last; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from parley.deal import Deal
from parley.heard import Due

__all__ = ["Waiting", "waiting"]


class Waiting(NamedTuple):
    """An open deal and those that it waits on; times in ms since the Unix epoch."""

    deal: Deal
    due: tuple[Due, ...]
    since: int
    """When the message was appended that made them due."""
    until: int
    """The deadline, after which the deal times out and names them."""
    mine: bool
    """Whether we are among them."""


def waiting(deals: Iterable[Deal]) -> tuple[Waiting, ...]:
    """What each of the open deals waits on, that with the earliest deadline first."""
    rows = (
        Waiting(deal, deal.due, deal.waiting_since, deal.deadline, deal.own_name in deal.waiting_on)
        for deal in deals
    )
    return tuple(sorted(rows, key=lambda row: (row.until, row.deal.id)))
