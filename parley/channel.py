"""A channel in a participant's hands: to post in, and for its opener to change; how words travel is the client's affair."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Protocol

from parley.channels import CHANNEL_TYPE, Epoch, name_content
from parley.deal import Accepted, Content, Deal
from parley.errors import ChannelError, RefusedError
from parley.grants import CHANNEL_KIND
from parley.identifiers import transaction_text
from parley.schemas import ChannelEpoch, Head, Message, Scope, TransactionId
from parley.secrecy import Secrecy

__all__ = ["EPOCH_LASTS", "Channel", "Host", "channels_of", "find_channel", "open_channel"]

EPOCH_LASTS = timedelta(days=14)
"""How long an epoch lasts unless said otherwise. An inbox must keep its opening as long, or a restart no longer finds the key."""

_ATTEMPTS = 16
"""How often a post is tried again after another member's came first."""


class Host(Protocol):
    """What a channel needs of its client."""

    participant: str
    secrecy: Secrecy

    def opening(
        self,
        parties: Iterable[str],
        *,
        kind: str,
        deadline: timedelta,
        content: Content,
        content_type: str | None,
        pipeline: int | None,
    ) -> Message: ...
    async def submit(self, message: Message) -> Accepted: ...
    async def disclose(
        self, scope: Scope, transaction_id: TransactionId, *, to: str, statement: str
    ) -> Accepted: ...
    def deal(self, transaction_id: TransactionId) -> Deal | None: ...


class Channel:
    """A named channel, which always stands at the newest epoch that we hold the key of."""

    __slots__ = ("_host", "id", "opener")

    def __init__(self, host: Host, channel: TransactionId, opener: str) -> None:
        """For the client, which gives channels out."""
        self._host = host
        self.id = channel
        self.opener = opener

    @property
    def epoch(self) -> Epoch:
        """Its newest epoch: number, members, readers, deadline."""
        epoch = self._host.secrecy.reader.channels.newest(self.id, self.opener)
        if epoch is None:
            raise ChannelError(
                f"no key to channel {transaction_text(self.id)} is held here; ask {self.opener} to add us"
            )
        return epoch

    @property
    def name(self) -> str | None:
        return self.epoch.name

    @property
    def members(self) -> tuple[str, ...]:
        return self.epoch.members

    @property
    def deal(self) -> Deal:
        """The transaction in which members post now; iterate over it to listen.

        Raises:
            ChannelError: it has ended.

        """
        deal = self._host.deal(self.epoch.transaction_id)
        if deal is None:
            raise ChannelError(
                f"epoch {self.epoch.number} of channel {transaction_text(self.id)} has ended; have {self.opener} renew it"
            )
        return deal

    async def post(self, content: Content, *, content_type: str | None = None) -> Accepted:
        """Say something to all members, with no public-key work but the signature.

        Where another member's post comes first, this one is sent again after it.

        Raises:
            ChannelError: the epoch has ended.
            RefusedError: the router refused it for another reason.

        """
        return await _insist(self.deal, content, content_type, finish=False)

    async def add(self, *members: str) -> None:
        """Begin an epoch with further members, who read what is new; only for the opener."""
        await self._next(dict.fromkeys((*self.epoch.members, *members)))

    async def remove(self, *members: str) -> None:
        """Begin an epoch without these members, who read nothing new and keep what they could read; only for the opener."""
        epoch = self.epoch
        strangers = [name for name in members if name not in epoch.members or name == self.opener]
        if strangers:
            raise ChannelError(
                f"{', '.join(strangers)} cannot be removed from channel {transaction_text(self.id)}; name members other than its opener"
            )
        await self._next([name for name in epoch.members if name not in members])

    async def renew(self, *, lasting: timedelta = EPOCH_LASTS) -> None:
        """Begin an epoch with the same members; only for the opener."""
        await self._next(self.epoch.members, lasting)

    async def disclose(self, *, to: str, statement: str = "") -> Accepted:
        """Give a regulator, or whomever else, the key to everything that is said in this epoch, on the record."""
        return await self._host.disclose("EPOCH", self.epoch.transaction_id, to=to, statement=statement)

    async def _next(self, members: Iterable[str], lasting: timedelta = EPOCH_LASTS) -> None:
        host, before = self._host, self.epoch
        if host.participant != self.opener:
            raise ChannelError(
                f"only {self.opener}, who opened channel {transaction_text(self.id)}, changes it; ask there"
            )
        under = ChannelEpoch(self.id, before.number + 1)
        await _open_epoch(host, under, before.name or "", members, before.readers, lasting, before.pipeline)
        deal = host.deal(before.transaction_id)
        if deal is not None:
            await _insist(deal, b"", None, finish=True)

    def __repr__(self) -> str:
        return f"Channel({transaction_text(self.id)}, epoch {self.epoch.number}, {', '.join(self.members)})"


async def open_channel(
    host: Host,
    name: str,
    members: Iterable[str],
    *,
    readers: Iterable[str] = (),
    lasting: timedelta = EPOCH_LASTS,
    pipeline: int | None = None,
) -> Channel:
    """Open a channel with these members besides ourselves; ``readers`` read it without being members."""
    epoch = await _open_epoch(host, None, name, members, readers, lasting, pipeline)
    return Channel(host, epoch, host.participant)


def channels_of(host: Host) -> tuple[Channel, ...]:
    """The channels that the client holds keys to."""
    return tuple(Channel(host, epoch.id, epoch.opener) for epoch in host.secrecy.reader.channels)


def find_channel(host: Host, channel: TransactionId, opener: str | None) -> Channel | None:
    """The channel with this id, opened by ``opener``, who must be named where a stranger claims the same id.

    Raises:
        ChannelError: several participants claim it, and ``opener`` is not given.

    """
    found = [each for each in channels_of(host) if each.id == channel and opener in (None, each.opener)]
    if len(found) > 1:
        raise ChannelError(
            f"{' and '.join(each.opener for each in found)} each told us of a channel with the id "
            f"{transaction_text(channel)}, and only one of them opened it; name whom you mean"
        )
    return found[0] if found else None


async def _open_epoch(
    host: Host,
    under: ChannelEpoch | None,
    name: str,
    members: Iterable[str],
    readers: Iterable[str],
    lasting: timedelta,
    pipeline: int | None,
) -> TransactionId:
    """The id of the channel whose epoch was opened: its own where ``under`` is ``None``."""
    opening = host.opening(
        members,
        kind=CHANNEL_KIND,
        deadline=lasting,
        content=name_content(name),
        content_type=CHANNEL_TYPE,
        pipeline=pipeline,
    )
    under = under or ChannelEpoch(opening.transaction_id, 0)
    await host.submit(host.secrecy.open_epoch(opening, under, readers))
    return under.channel


async def _insist(deal: Deal, content: Content, content_type: str | None, *, finish: bool) -> Accepted:
    """Say it, again after whatever came first."""
    speak = deal.finish if finish else deal.send
    after: Head | None = None
    for _ in range(_ATTEMPTS):
        try:
            return await speak(content, content_type=content_type, after=after)
        except RefusedError as error:
            if error.reason != "SEQUENCE_CONFLICT" or error.head is None:
                raise
            after = error.head
    raise ChannelError(
        f"{_ATTEMPTS} posts of other members came first in transaction {transaction_text(deal.id)}; try again"
    )
