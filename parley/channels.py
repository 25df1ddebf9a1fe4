"""Channels as verified messages tell of them: who opened each, its epochs and members, and the epoch keys granted to us; pure.

Rules:

1. A named channel is opened by a transaction of kind ``channel``, whose id is the channel's id, at epoch 0. Every later epoch is
   opened by a transaction of its own of that kind, which names the channel's id. Its parties are the members from there on.
2. Only the participant who opened the channel opens an epoch of it, and so grants its keys.
3. A removed member has no key of the epochs after; those it had stay readable to it.
4. A private deal is a channel without a name: its id is the transaction's, and epoch 0 is its only one.

Who has not seen a channel's first epoch (a member added later) cannot know its opener, so the opener is part of what a channel is
told by: a stranger who opens an "epoch" of a channel that is not its own makes another channel, whose key fits nothing of the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from parley.encryption import EpochKey
from parley.errors import GrantError
from parley.grants import CHANNEL_KIND
from parley.identifiers import transaction_text
from parley.schemas import ChannelEpoch, Message, TransactionId

__all__ = ["CHANNEL_TYPE", "Channels", "Epoch", "channel_name", "name_content"]

CHANNEL_TYPE = "application/vnd.parley.channel+json"
"""Content type of an opening of a channel's epoch: its name."""


class Epoch(NamedTuple):
    """One epoch of a named channel, as its opening says."""

    id: TransactionId
    """The channel's id: that of the transaction that opened its first epoch."""
    number: int
    opener: str
    name: str | None
    """``None`` where it is not readable by us."""
    members: tuple[str, ...]
    readers: tuple[str, ...]
    """Who reads without being a member, such as a regulator."""
    transaction_id: TransactionId
    """The transaction that opened this epoch, in which its members post."""
    pipeline: int
    deadline: int
    """When that transaction ends at the latest, and nothing new is opened under the epoch; ms since the Unix epoch."""

    def __repr__(self) -> str:
        """All but the name, which is for members."""
        return f"Epoch({transaction_text(self.id)}, {self.number}, {self.opener}, {', '.join(self.members)})"

    @property
    def under(self) -> ChannelEpoch:
        """How a message names this epoch."""
        return ChannelEpoch(self.id, self.number)


class Channels:
    """The channels told of so far."""

    def __init__(self) -> None:
        self._openers: dict[TransactionId, str] = {}
        self._epochs: dict[tuple[TransactionId, str], list[Epoch]] = {}
        self._keys: dict[ChannelEpoch, list[tuple[str, EpochKey]]] = {}
        self._named: set[TransactionId] = set()
        self._openings: set[TransactionId] = set()

    def check(self, message: Message, channel: ChannelEpoch) -> None:
        """Demand that the sender of this opening may open that epoch (rules 1, 2 and 4).

        Raises:
            GrantError: it may not.

        """
        if channel.channel == message.transaction_id:
            if channel.epoch != 0:
                raise GrantError("the transaction that opens a channel opens its epoch 0; refuse another")
            return
        opener = self._openers.get(channel.channel, message.sender)
        if message.sender != opener or channel.epoch < 1:
            raise GrantError(
                f"{message.sender} may not open epoch {channel.epoch} of channel {transaction_text(channel.channel)}: "
                f"only its opener ({opener}) does, after epoch 0; refuse the key"
            )

    def opened(self, message: Message, channel: ChannelEpoch, name: str | None) -> None:
        """Take note of an epoch's opening that :meth:`check` let pass; again where its name was not readable before."""
        terms = message.terms
        assert terms is not None
        assert message.encryption is not None
        if channel.channel == message.transaction_id:
            self._openers[channel.channel] = message.sender
        if terms.kind != CHANNEL_KIND:
            return
        self._named.add(channel.channel)
        self._openings.add(message.transaction_id)
        members = tuple(party.participant for party in terms.parties)
        granted = dict.fromkeys(grant.reader for grant in message.encryption.grants)
        readers = tuple(reader for reader in granted if reader not in members)
        epoch = Epoch(
            channel.channel,
            channel.epoch,
            message.sender,
            name,
            members,
            readers,
            message.transaction_id,
            message.pipeline,
            terms.deadline,
        )
        known = self._epochs.setdefault((channel.channel, message.sender), [])
        known[:] = [other for other in known if other.transaction_id != epoch.transaction_id]
        known.append(epoch)

    def learn(self, channel: ChannelEpoch, opener: str, key: EpochKey) -> None:
        """Keep the key that ``opener`` granted for this epoch, and that opened what it was granted in."""
        known = self._keys.setdefault(channel, [])
        if (opener, key) not in known:
            known.append((opener, key))

    def keys(self, channel: ChannelEpoch) -> Sequence[tuple[str, EpochKey]]:
        """The keys granted for this epoch, each with who granted it, which is one participant but for a stranger's pretence."""
        return self._keys.get(channel, ())

    def key(self, channel: ChannelEpoch, opener: str) -> EpochKey | None:
        """The key to speak under that opener's epoch."""
        return next((key for granted_by, key in self.keys(channel) if granted_by == opener), None)

    def forget(self, transaction_id: TransactionId) -> None:
        """Let go of what a private deal's own channel left; a named channel is kept."""
        if transaction_id not in self._named:
            self._openers.pop(transaction_id, None)
            self._keys.pop(ChannelEpoch(transaction_id, 0), None)

    def is_named(self, channel: TransactionId) -> bool:
        """Whether this is a named channel's id rather than a private deal's."""
        return channel in self._named

    def opens_epoch(self, transaction_id: TransactionId) -> bool:
        """Whether this transaction opened an epoch of a named channel: what is posted in it stays under that epoch."""
        return transaction_id in self._openings

    def newest(self, channel: TransactionId, opener: str) -> Epoch | None:
        """The newest epoch of that opener's channel to which we hold the key.

        Of two with one number, which is its opener's fault, the first told of.
        """
        held = [
            epoch
            for epoch in self._epochs.get((channel, opener), ())
            if self.key(epoch.under, opener) is not None
        ]
        return max(held, key=lambda epoch: epoch.number, default=None)

    def __iter__(self) -> Iterator[Epoch]:
        """The newest epoch of every named channel, as far as we hold keys."""
        for channel, opener in self._epochs:
            epoch = self.newest(channel, opener)
            if epoch is not None:
                yield epoch


def name_content(name: str) -> bytes:
    """The content of an opening that names its channel."""
    return json.dumps({"name": name}, ensure_ascii=False).encode()


def channel_name(content: bytes) -> str | None:
    """The name that an opening's content gives; ``None`` where it gives none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None
