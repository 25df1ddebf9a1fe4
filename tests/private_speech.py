"""Private messages without a backbone: what participants would sign, encrypted and granted by the real code, and who reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from parley.channels import CHANNEL_TYPE, name_content
from parley.encryption import EpochKey, MessageKey, encrypt
from parley.envelope import message_id
from parley.grants import CHANNEL_KIND, KeyRing, make_grants
from parley.keys import public_key
from parley.reading import Reader, Reading
from parley.schemas import ChannelEpoch, KeyGrant, Message, Party, PublicKey, Terms, encode
from tests.dialogue import Dialogue, transaction_id
from tests.synthetic_ledger import encryption_key

__all__ = ["NOW", "Room", "granted_to", "keys_of", "read", "reader"]

NOW = 1_800_000_000_000


def keys_of(*names: str) -> list[tuple[str, PublicKey]]:
    """Each name with its encryption key."""
    return [(name, public_key(encryption_key(name).public)) for name in names]


def reader(name: str) -> Reader:
    """Who reads with the encryption key of this name."""
    return Reader(name, KeyRing([encryption_key(name)]))


def read(by: Reader, message: Message) -> Reading:
    """What the reader makes of a message that the record holds."""
    return by.read(message, message_id(encode(message)))


def granted_to(message: Message, *names: str, key: MessageKey | None = None, padded: bool = False) -> Message:
    """The message encrypted by itself, outside any channel, to these readers."""
    key = key or MessageKey.generate()
    return encrypt(message, key, grants=make_grants(key, message, None, keys_of(*names)), padded=padded)


@dataclass
class Room:
    """A channel in the hands of its opener: an unnamed one is a private deal."""

    opener: str
    members: Sequence[str]
    seed: str = "room"
    name: str | None = None
    readers: Sequence[str] = ()
    keys: list[EpochKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dialogue = Dialogue.between(self.opener, *self.members, opened_at=NOW, seed=self.seed)
        if self.name is not None:
            self.dialogue.terms = self.dialogue.terms._replace(kind=CHANNEL_KIND)
        self.id = self.dialogue.id

    @property
    def under(self) -> ChannelEpoch:
        return ChannelEpoch(self.id, len(self.keys) - 1)

    def open(self, content: bytes = b"hello", *, padded: bool = False) -> Message:
        """The opening of epoch 0."""
        if self.name is not None:
            content = name_content(self.name)
        message = self.dialogue.message(self.opener, content=content)
        if self.name is not None:
            message = message._replace(content_type=CHANNEL_TYPE)
        return self.sent(self._granting(message, (self.opener, *self.members), padded=padded))

    def next_epoch(self, *members: str, sender: str | None = None) -> Message:
        """The opening of another epoch with these members besides the opener, in a transaction of its own."""
        sender = sender or self.opener
        everybody = (sender, *members)
        message = Message(
            transaction_id(f"{self.seed} epoch {len(self.keys)} by {sender}"),
            0,
            0,
            None,
            sender,
            members,
            NOW,
            "OPEN",
            Terms(CHANNEL_KIND, tuple(Party(name, name) for name in everybody), NOW + 9, NOW + 9, "ANY"),
            CHANNEL_TYPE,
            name_content(self.name or ""),
            None,
            (),
        )
        return self._granting(message, everybody)

    def _granting(self, message: Message, to: Iterable[str], *, padded: bool = False) -> Message:
        self.keys.append(EpochKey.generate())
        grants = make_grants(self.keys[-1], message, self.under, keys_of(*to, *self.readers))
        return self.encrypted(message, grants=grants, padded=padded)

    def encrypted(
        self, message: Message, *, epoch: int = -1, grants: tuple[KeyGrant, ...] = (), padded: bool = False
    ) -> Message:
        """A message of any transaction under an epoch of this channel, the newest by default."""
        number = epoch % len(self.keys)
        key = self.keys[number].transaction_key(message.transaction_id)
        return encrypt(
            message,
            key.message_key(message.sequence, message.sender),
            channel=ChannelEpoch(self.id, number),
            grants=grants,
            padded=padded,
        )

    def say(self, sender: str, content: bytes, *, epoch: int = -1) -> Message:
        """The sender's next message in the transaction that opened the channel."""
        return self.sent(self.encrypted(self.dialogue.message(sender, content=content), epoch=epoch))

    def sent(self, message: Message) -> Message:
        """The message, which is the head from here on."""
        self.dialogue.send(message)
        return message
