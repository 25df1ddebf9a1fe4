"""How one participant's own words are concealed: which key each message goes under and who is granted it; sends nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from parley.channels import Epoch
from parley.custody import Decryptor
from parley.directory import Directory
from parley.encryption import ContentKey, EpochKey, MessageKey, encrypt
from parley.errors import ChannelError, EncryptionError, UnreadableError
from parley.grants import make_grants, open_grant, reader_keys
from parley.identifiers import transaction_text
from parley.reading import Reader, Reading
from parley.schemas import ChannelEpoch, KeyGrant, Message, MessageId, PublicKey

__all__ = ["Secrecy"]

NOBODY: Mapping[str, str] = MappingProxyType({})
"""Is hidden: no participants by sealed address."""

_ON_THEIR_WAY = 1_024
"""Own messages whose clear content is remembered until their receipt comes."""


class Secrecy:
    """Conceals what ``reader.participant`` says, by the keys that its reader has learnt and the directory's."""

    def __init__(self, participant: str, directory: Directory, decryptor: Decryptor | None) -> None:
        self.reader = Reader(participant, decryptor)
        self._participant = participant
        self._directory = directory
        self._unsealer = decryptor
        self._own: dict[bytes, tuple[Message, Reading]] = {}

    def read(self, message: Message, identity: MessageId) -> Reading:
        """As ``reader.read``; our own words, while they are on their way, without decrypting what was just encrypted."""
        if message.encryption is not None and self._own:
            said, reading = self._own.pop(message.encryption.nonce, (None, None))
            if reading is not None and said == message:
                return reading
        return self.reader.read(message, identity)

    def open_epoch(
        self,
        opening: Message,
        channel: ChannelEpoch,
        readers: Iterable[str] = (),
        *,
        hidden: Mapping[str, str] = NOBODY,
        padded: bool = False,
    ) -> Message:
        """The opening of a channel's epoch, or of a private deal (epoch 0 of its own id), under a new key.

        The key is granted to the parties and to ``readers``. ``hidden`` says who is behind the sealed addresses among the parties.

        Raises:
            EncryptionError: a reader has no encryption key in the directory, or we hold none of ours.

        """
        assert opening.terms is not None
        key = EpochKey.generate()
        parties = [party.participant for party in opening.terms.parties]
        grants = self._grants(key, opening, channel, (*parties, *readers), hidden)
        transaction = key.transaction_key(opening.transaction_id)
        message = encrypt(
            opening,
            transaction.message_key(opening.sequence, opening.sender),
            channel=channel,
            grants=grants,
            padded=padded,
        )
        return self._checked(message)

    def open_under(
        self,
        opening: Message,
        epoch: Epoch,
        readers: Iterable[str] = (),
        *,
        hidden: Mapping[str, str] = NOBODY,
        padded: bool = False,
    ) -> Message:
        """The opening of a transaction under a channel's epoch; ``readers`` who are no members are granted this transaction alone.

        Raises:
            ChannelError: a party is no member, or the transaction would outlive the epoch.
            EncryptionError: a reader has no encryption key in the directory.

        """
        assert opening.terms is not None
        parties = [hidden.get(party.participant, party.participant) for party in opening.terms.parties]
        strangers = [party for party in parties if party not in epoch.members]
        if strangers:
            raise ChannelError(
                f"{', '.join(strangers)} cannot read what is said on channel {transaction_text(epoch.id)}; have its opener add them"
            )
        if opening.terms.deadline > epoch.deadline:
            raise ChannelError(
                f"the deadline is after the end of the channel's epoch ({epoch.deadline}); choose an earlier one, "
                "or have the channel's opener renew it"
            )
        if opening.pipeline != epoch.pipeline:
            raise ChannelError(
                f"what is said on the channel goes on pipeline {epoch.pipeline}, so that its order holds; open it there"
            )
        return self._under(opening, epoch.under, epoch.opener, tuple(readers), padded=padded)

    def alone(self, message: Message, readers: Iterable[str], hidden: Mapping[str, str] = NOBODY) -> Message:
        """The message under a key of its own, granted to ``readers`` and to ourselves; else as :meth:`open_epoch`."""
        opened = self.reader.opened(message.transaction_id)
        padded = opened is not None and opened.padded
        key = MessageKey.generate()
        grants = self._grants(key, message, None, (self._participant, *readers), hidden)
        return self._checked(encrypt(message, key, grants=grants, padded=padded))

    def follow(self, message: Message, parties: Iterable[str]) -> Message:
        """A later message of a transaction between ``parties``, as private as its opening was; in clear where that was.

        Where members of the channel have changed since, and all parties are members still, it goes under the newest epoch, so that
        who was removed reads no more of it.

        Raises:
            UnreadableError: the transaction is private, and no key to speak in it was granted to us.

        """
        opened = self.reader.opened(message.transaction_id)
        if opened is None:
            return message
        channel, opener, readers, padded = opened
        if channel is None:
            raise UnreadableError(
                "the opening was encrypted with a key of its own, so that there is none to answer under; name who reads the answer"
            )
        channels = self.reader.channels
        if (
            opener is not None
            and channels.is_named(channel.channel)
            and not channels.opens_epoch(message.transaction_id)
        ):
            newest = channels.newest(channel.channel, opener)
            if newest is not None and set(parties) <= set(newest.members):
                channel = newest.under
        if not self.reader.speaks_under(message.transaction_id, channel):
            return self._under(message, channel, opener, readers, padded=padded)
        said = self._under(message, channel, opener, (), padded=padded)
        assert said.encryption is not None
        self._own[said.encryption.nonce] = said, Reading(message.content, self.reader.access(channel))
        if len(self._own) > _ON_THEIR_WAY:
            del self._own[next(iter(self._own))]
        return said

    def _under(
        self,
        message: Message,
        channel: ChannelEpoch,
        opener: str | None,
        readers: tuple[str, ...],
        *,
        padded: bool,
    ) -> Message:
        key = self.reader.transaction_key(message.transaction_id, channel, opener)
        return encrypt(
            message,
            key.message_key(message.sequence, message.sender),
            channel=channel,
            grants=self._grants(key, message, channel, readers) if readers else (),
            padded=padded,
        )

    def _grants(
        self,
        key: ContentKey,
        message: Message,
        channel: ChannelEpoch | None,
        readers: Iterable[str],
        hidden: Mapping[str, str] = NOBODY,
    ) -> tuple[KeyGrant, ...]:
        """To every key of each reader; of a hidden one to the newest only, for the number of its keys might tell who it is."""
        addresses = {name: address for address, name in hidden.items()}
        to: list[tuple[str, PublicKey]] = []
        for reader in dict.fromkeys(addresses.get(name, name) for name in readers):
            keys = reader_keys(self._directory, hidden.get(reader, reader))
            to += [(reader, public) for public in (keys[-1:] if reader in hidden else keys)]
        return make_grants(key, message, channel, to)

    def _checked(self, message: Message) -> Message:
        """The message, if we can read it ourselves: nobody may lose what it said."""
        if self._unsealer is None or open_grant(message, self._participant, self._unsealer) is None:
            raise EncryptionError(
                f"none of the encryption keys that {self._participant} has in the directory is at hand, so that transaction "
                f"{transaction_text(message.transaction_id)} would not be readable by ourselves; connect with the keystore's keys"
            )
        return message
