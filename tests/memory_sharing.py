"""How a backbone in memory divides an inbox among the processes of one consumer; a test says who is to have what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from parley.transport import Arrivals, Standing

__all__ = ["Member", "MemoryGroup"]


class Member(Protocol):
    """A process of the consumer, by its transport."""

    def tell(self, change: Arrivals) -> None: ...


class MemoryGroup:
    """The processes of one consumer, and what they have saved."""

    def __init__(self) -> None:
        self.standings: dict[int, Standing] = {}
        self._members: list[Member] = []
        self._owners: dict[int, Member] = {}
        self._going: dict[int, Member] = {}
        """Shares that their owner must release, and to whom they go."""

    def join(self, member: Member, pipelines: Collection[int]) -> None:
        """The first has everything; those that come later have what :meth:`give` gives them."""
        self._members.append(member)
        self._assign(member, () if self._owners else pipelines)

    def give(self, member: Member, *pipelines: int) -> None:
        """Let these shares go to a member as soon as their owners release them."""
        for pipeline in pipelines:
            self._going[pipeline] = member
            self._owners[pipeline].tell(Arrivals(leaving={pipeline}))

    def release(self, member: Member) -> None:
        """The member lets go what it must."""
        gone = [pipeline for pipeline in self._going if self._owners[pipeline] is member]
        for pipeline in gone:
            self._assign(self._going.pop(pipeline), (pipeline,))

    def expel(self, member: Member) -> None:
        """The others have not heard of it for too long; it does not know yet."""
        self._members.remove(member)
        left = [pipeline for pipeline, owner in self._owners.items() if owner is member]
        for pipeline in left:
            del self._owners[pipeline]
        if self._members:
            self._assign(self._members[0], left)

    def save(self, member: Member, standings: Mapping[int, Standing]) -> None:
        """Save what is the member's to save."""
        for pipeline, standing in standings.items():
            if self._owners.get(pipeline) is member:
                self.standings[pipeline] = standing

    def look(self, member: Member) -> None:
        """Tell the member how far the others are."""
        member.tell(Arrivals(moved=dict(self._standings(set(self._owners) - self._shares(member)))))

    def has(self, member: Member) -> bool:
        return member in self._members

    def _shares(self, member: Member) -> set[int]:
        return {pipeline for pipeline, owner in self._owners.items() if owner is member}

    def _assign(self, member: Member, pipelines: Collection[int]) -> None:
        self._owners.update(dict.fromkeys(pipelines, member))
        member.tell(Arrivals(gained=dict(self._standings(pipelines))))

    def _standings(self, pipelines: Iterable[int]) -> Iterable[tuple[int, Standing]]:
        return ((pipeline, self.standings.get(pipeline, Standing(0, ""))) for pipeline in pipelines)
