"""The shares of an inbox: processes of one consumer divide the pipelines among themselves, and each takes what is in its own;
pure.

A deal stays on its pipeline, so it belongs to one process at a time. Every process follows all of them, so that a deal can go
to another at once. Before a share goes, what its process has in hand is dealt with and its position saved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Generic, TypeVar

from parley.mailbox import Offer
from parley.share import Arrival, Share
from parley.transport import InboxRecord, Standing

__all__ = ["Shares", "pipeline_of"]

T = TypeVar("T")

_NOTHING = Standing(0, "")


def pipeline_of(record: InboxRecord) -> int:
    """Which pipeline an inbox record came from: the delivery stage writes each pipeline's in its own partition."""
    return 0 if record.delivery is None else record.delivery.partition


class Shares(Generic[T]):
    """What one process of a consumer knows of all shares."""

    def __init__(self, standings: Mapping[int, Standing]) -> None:
        """Begin with what was saved of each pipeline's share; none of them is ours yet.

        Raises:
            TransportError: a note cannot be read.

        """
        self._all: dict[int, Share[T]] = {
            pipeline: Share(standing) for pipeline, standing in standings.items()
        }
        self._kept: dict[int, Share[T]] = {}
        """By the offsets of what was offered and not dealt with."""
        self._leaving: set[int] = set()

    def _share(self, pipeline: int) -> Share[T]:
        share = self._all.get(pipeline)
        if share is None:
            share = self._all[pipeline] = Share(_NOTHING)
        return share

    @property
    def ours(self) -> tuple[int, ...]:
        """The pipelines whose deals are for this process, but for those about to go."""
        return tuple(sorted(p for p, share in self._all.items() if share.is_ours and p not in self._leaving))

    def has(self, pipeline: int) -> bool:
        """Whether the deals of a pipeline are this process's, be it for the last moment."""
        share = self._all.get(pipeline)
        return share is not None and share.is_ours

    def arrived(self, record: InboxRecord) -> Arrival:
        """Take note of the next record of the inbox."""
        return self._share(pipeline_of(record)).arrived(record)

    def offered(self, pipeline: int, offer: Offer[T]) -> bool:
        """Keep what came with the record that arrived last; whether the application may take it now."""
        share = self._share(pipeline)
        share.offered(offer)
        self._kept[offer.offset] = share
        return share.is_ours and pipeline not in self._leaving

    def taken(self, offset: int) -> None:
        """The application has dealt with what came at ``offset``."""
        share = self._kept.pop(offset, None)
        if share is not None:
            share.taken(offset)

    def moved(self, standings: Mapping[int, Standing]) -> None:
        """Other processes have come so far with theirs."""
        for pipeline, standing in standings.items():
            self._share(pipeline).moved(standing)
        dealt_with = [
            offset
            for offset, share in self._kept.items()
            if not share.is_ours and offset not in share  # what another process took
        ]
        for offset in dealt_with:
            del self._kept[offset]

    def gained(self, standings: Mapping[int, Standing]) -> list[Offer[T]]:
        """These are ours from now on, each from where it stands; what can be taken now, in the inbox's order."""
        self.moved(standings)
        for pipeline, standing in standings.items():
            self._leaving.discard(pipeline)
            self._share(pipeline).gained(standing)
        offers = [offer for pipeline in standings for offer in self._share(pipeline).waiting()]
        return sorted(offers, key=lambda offer: offer.offset)

    def leave(self, pipelines: Iterable[int]) -> None:
        """These must go to another process: nothing more of them can be taken."""
        for pipeline in pipelines:
            self._leaving.add(pipeline)
            self._share(pipeline).withdraw()

    def lost(self, pipelines: Iterable[int]) -> None:
        """These are another process's already."""
        for pipeline in pipelines:
            self._leaving.discard(pipeline)
            share = self._share(pipeline)
            share.is_ours = False
            share.withdraw()

    @property
    def leaving(self) -> Collection[int]:
        """Those that must go."""
        return self._leaving

    @property
    def can_go(self) -> bool:
        """Whether the application has dealt with all that it had taken of those that must go."""
        return not any(self._share(pipeline).is_in_hand for pipeline in self._leaving)

    def advance(self) -> dict[int, Standing]:
        """What may be saved now of our shares, where that is more than before."""
        moved = ((p, share.advance()) for p, share in self._all.items() if share.is_ours)
        return {pipeline: standing for pipeline, standing in moved if standing is not None}
