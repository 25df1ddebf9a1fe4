"""Where the firehose granted keys that may still be needed: what a restart must read again, since no key is ever saved; pure.

A key to one transaction is needed until that has ended, a key to a channel's epoch until the epoch's deadline, beyond which
nothing is said under it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from parley.grants import CHANNEL_KIND
from parley.history import granted_to
from parley.schemas import FirehoseEvent, TransactionId

__all__ = ["Granting"]


class _Grant(NamedTuple):
    offset: int
    transaction_id: TransactionId
    until: int | None
    """Of an epoch's opening: its deadline, in ms since the Unix epoch."""


class Granting:
    """The events that granted ``participant`` a key, oldest first, as long as it may be needed."""

    def __init__(self, participant: str) -> None:
        self._participant = participant
        self._grants: dict[int, deque[_Grant]] = {}
        self._open: set[TransactionId] = set()
        self._now = 0

    def note(self, event: FirehoseEvent, offset: int) -> None:
        """Take note of an event that stands at this offset of its pipeline."""
        self._now = max(self._now, event.at)
        spoken = granted_to(self._participant, event)
        if spoken is not None:
            terms = spoken.message.terms
            opens_epoch = terms is not None and terms.kind == CHANNEL_KIND
            until = terms.deadline if terms is not None and opens_epoch else None
            grants = self._grants.setdefault(event.pipeline, deque())
            grants.append(_Grant(offset, event.transaction_id, until))
            self._open.add(event.transaction_id)
        if event.ended is not None:
            self._open.discard(event.transaction_id)

    def oldest(self) -> Mapping[int, int]:
        """By pipeline, the offset of the oldest event whose key may still be needed; none where there is no such."""
        for grants in self._grants.values():
            while grants and not self._needed(grants[0]):
                grants.popleft()
        return {pipeline: grants[0].offset for pipeline, grants in self._grants.items() if grants}

    def _needed(self, grant: _Grant) -> bool:
        if grant.until is not None:
            return grant.until >= self._now
        return grant.transaction_id in self._open
