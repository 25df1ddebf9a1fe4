"""What one participant can read: learns keys from the verified messages it is shown, and decrypts by them; pure.

Give it messages whose signatures are proved, each pipeline in order. A key counts only once it opened the message that brought it:
who is granted another key than the message commits to learns nothing from it. A key that was disclosed is used to read what it fits,
never to speak. What cannot be read now may be readable later, when a disclosure has come: read the message again then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from parley.channels import CHANNEL_TYPE, Channels, channel_name
from parley.custody import Decryptor
from parley.disclosure import (
    DISCLOSURE_TYPE,
    epoch_key,
    message_key,
    read_disclosure,
    transaction_key,
)
from parley.encryption import (
    ContentKey,
    EpochKey,
    MessageKey,
    TransactionKey,
    commits_to,
    decrypt,
    decrypt_committed,
    is_padded,
)
from parley.errors import EncryptionError, UnreadableError
from parley.grants import check_grants, open_grant, scope_of
from parley.schemas import ChannelEpoch, DisclosedKey, Message, MessageId, TransactionId

__all__ = ["Access", "Opened", "Reader", "Reading"]

Access = Literal["CLEAR", "GRANT", "CHANNEL", "DISCLOSURE", "NONE"]
"""How a content was read: as it stands; by a key granted for it or for its transaction; by a named channel's key; by a key
disclosed later; or not at all.
"""

REMEMBERED_DEALS = 65_536
"""Ended transactions whose keys are kept, the newest: they can be disclosed without being read again."""


class Reading(NamedTuple):
    """What a reader makes of one message."""

    content: bytes | None
    """In clear; ``None`` where it cannot be read."""
    access: Access
    problem: EncryptionError | None = None
    """Why it cannot be read."""


class Opened(NamedTuple):
    """How a private transaction was opened: what its later messages follow."""

    channel: ChannelEpoch | None
    """``None`` where the opening has a key of its own, which is no key for what follows."""
    channel_opener: str | None
    """Whose channel it is, told by the key that fits; ``None`` where we hold none that was granted."""
    readers: tuple[str, ...]
    """Who was granted a key without being a party."""
    padded: bool


class _Held(NamedTuple):
    """A key to a transaction; ``opener`` is whose channel it comes from."""

    key: TransactionKey
    access: Access
    opener: str | None


class _Transaction:
    """What is kept of one private transaction."""

    __slots__ = ("keys", "messages", "opened")

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self.keys: dict[ChannelEpoch, list[_Held]] = {}
        self.messages: dict[MessageId, tuple[MessageKey, Access]] = {}


class Reader:
    """One participant's keys to what was said, and what they open."""

    def __init__(self, participant: str, decryptor: Decryptor | None) -> None:
        """Without a ``decryptor`` only what is in clear can be read."""
        self.participant = participant
        self.channels = Channels()
        self._unsealer = decryptor
        self._transactions: dict[TransactionId, _Transaction] = {}
        self._ended: dict[TransactionId, None] = {}
        self._disclosed_epochs: dict[ChannelEpoch, list[EpochKey]] = {}

    # Reading ---------------------------------------------------------------------------------------------------------------

    def read(self, message: Message, identity: MessageId) -> Reading:
        """The message's content as far as we may read it, having learnt what keys it brings; never raises for what it holds."""
        if message.encryption is None:
            return Reading(message.content, "CLEAR")
        try:
            return self._read(message, identity, message.encryption.channel)
        except EncryptionError as error:
            return Reading(None, "NONE", error)

    def _read(self, message: Message, identity: MessageId, channel: ChannelEpoch | None) -> Reading:
        if message.terms is not None:
            return self._read_opening(message, identity, channel)
        check_grants(message)
        content, access, _ = self._open(message, identity, channel)
        self._heed(message, content)
        return Reading(content, access)

    def _read_opening(self, message: Message, identity: MessageId, channel: ChannelEpoch | None) -> Reading:
        assert message.terms is not None
        assert message.encryption is not None
        parties = {party.participant for party in message.terms.parties}
        granted = dict.fromkeys(grant.reader for grant in message.encryption.grants)
        readers = tuple(reader for reader in granted if reader not in parties and ":" not in reader)
        opened = Opened(channel, None, readers, is_padded(message.content))
        transaction = self._transaction(message.transaction_id)
        # First of all, whatever is wrong with it: so that no answer to it ever goes in clear.
        transaction.opened = transaction.opened or opened
        check_grants(message)
        opens_epoch = channel is not None and scope_of(message) == "EPOCH"
        if channel is not None and opens_epoch:
            self.channels.check(message, channel)
            self.channels.opened(message, channel, None)
        content, access, opener = self._open(message, identity, channel)
        transaction.opened = opened._replace(channel_opener=opener)
        if channel is not None and opens_epoch and message.content_type == CHANNEL_TYPE:
            self.channels.opened(message, channel, channel_name(content))
        self._heed(message, content)
        return Reading(content, access)

    def _open(
        self, message: Message, identity: MessageId, channel: ChannelEpoch | None
    ) -> tuple[bytes, Access, str | None]:
        """The content, how it was read, and whose channel's key opened it; by a key that was granted rather than one disclosed.

        Raises:
            EncryptionError: no key that we hold, or are granted here, opens it.

        """
        disclosed: MessageKey | None = None
        for key, access, opener in self._candidates(message, identity, channel):
            if commits_to(message, key):
                if access != "DISCLOSURE":
                    return decrypt_committed(message, key), access, opener
                disclosed = key
        try:
            granted = self._granted(message, channel)
        except UnreadableError:
            if disclosed is None:
                raise
            return decrypt_committed(message, disclosed), "DISCLOSURE", None
        content = decrypt(message, _message_key(granted, message))
        access, opener = self._learn(granted, message, identity, channel)
        return content, access, opener

    def _candidates(
        self, message: Message, identity: MessageId, channel: ChannelEpoch | None
    ) -> Iterator[tuple[MessageKey, Access, str | None]]:
        """The keys we hold that may be this message's; its commitment tells which is."""
        transaction = self._transactions.get(message.transaction_id)
        if transaction is not None:
            if channel is not None:
                for key, access, opener in transaction.keys.get(channel, ()):
                    yield key.message_key(message.sequence, message.sender), access, opener
            if identity in transaction.messages:
                yield *transaction.messages[identity], None
        if channel is None:
            return
        for held in self._from_epochs(message.transaction_id, channel):
            candidate = held.key.message_key(message.sequence, message.sender)
            if commits_to(message, candidate):
                self._hold(message.transaction_id, channel, held)
                yield candidate, held.access, held.opener

    def _from_epochs(self, transaction_id: TransactionId, channel: ChannelEpoch) -> Iterator[_Held]:
        access = self.access(channel)
        for opener, epoch in self.channels.keys(channel):
            yield _Held(epoch.transaction_key(transaction_id), access, opener)
        for epoch in self._disclosed_epochs.get(channel, ()):
            yield _Held(epoch.transaction_key(transaction_id), "DISCLOSURE", None)

    def _granted(self, message: Message, channel: ChannelEpoch | None) -> ContentKey:
        """The key that this message grants to us; raises EncryptionError where it grants none."""
        granted = None
        if self._unsealer is not None:
            granted = open_grant(message, self.participant, self._unsealer)
        if granted is None:
            what = "it" if channel is None else "it, nor to the channel it was said in,"
            raise UnreadableError(
                f"not readable by {self.participant}: no key to {what} was given to a key that we hold; a party can disclose it"
            )
        return granted

    def _learn(
        self, key: ContentKey, message: Message, identity: MessageId, channel: ChannelEpoch | None
    ) -> tuple[Access, str | None]:
        """Keep a key that opened the message it came with."""
        if channel is None:
            assert isinstance(key, MessageKey)
            self._transaction(message.transaction_id).messages[identity] = key, "GRANT"
            return "GRANT", None
        if isinstance(key, TransactionKey):
            self._hold(message.transaction_id, channel, _Held(key, "GRANT", None))
            return "GRANT", None
        assert isinstance(key, EpochKey)
        self.channels.learn(channel, message.sender, key)
        access = self.access(channel)
        held = _Held(key.transaction_key(message.transaction_id), access, message.sender)
        self._hold(message.transaction_id, channel, held)
        return access, message.sender

    def _hold(self, transaction_id: TransactionId, channel: ChannelEpoch, held: _Held) -> None:
        keys = self._transaction(transaction_id).keys.setdefault(channel, [])
        if held not in keys:
            keys.append(held)

    def _heed(self, message: Message, content: bytes) -> None:
        """Take the keys that a disclosure to us brings."""
        if message.content_type != DISCLOSURE_TYPE or message.sender == self.participant:
            return
        for scope, transaction_id, message_id, channel, secret in read_disclosure(
            content, self.participant
        ).keys:
            if scope == "EPOCH":
                assert channel is not None
                epochs = self._disclosed_epochs.setdefault(channel, [])
                if (epoch := EpochKey(secret)) not in epochs:
                    epochs.append(epoch)
                continue
            assert transaction_id is not None
            if scope == "TRANSACTION":
                assert channel is not None
                self._hold(transaction_id, channel, _Held(TransactionKey(secret), "DISCLOSURE", None))
            else:
                assert message_id is not None
                messages = self._transaction(transaction_id).messages
                messages.setdefault(message_id, (MessageKey(secret), "DISCLOSURE"))

    def _transaction(self, transaction_id: TransactionId) -> _Transaction:
        found = self._transactions.get(transaction_id)
        if found is None:
            found = self._transactions[transaction_id] = _Transaction()
        return found

    def ended(self, transaction_id: TransactionId) -> None:
        """The transaction has ended: its keys are kept only while there are not too many such."""
        if transaction_id not in self._transactions:
            return
        self._ended[transaction_id] = None
        if len(self._ended) > REMEMBERED_DEALS:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._transactions.pop(oldest, None)
            self.channels.forget(oldest)

    # What speaking and disclosing need ---------------------------------------------------------------------------------------

    def opened(self, transaction_id: TransactionId) -> Opened | None:
        """How the transaction was opened, if privately and as far as we were shown."""
        transaction = self._transactions.get(transaction_id)
        return None if transaction is None else transaction.opened

    def access(self, channel: ChannelEpoch) -> Access:
        """How what is said under this epoch is read by who was granted its key."""
        return "CHANNEL" if self.channels.is_named(channel.channel) else "GRANT"

    def speaks_under(self, transaction_id: TransactionId, channel: ChannelEpoch) -> bool:
        """Whether something that we could read was said in the transaction under this epoch."""
        transaction = self._transactions.get(transaction_id)
        return transaction is not None and channel in transaction.keys

    def transaction_key(
        self, transaction_id: TransactionId, channel: ChannelEpoch, opener: str | None
    ) -> TransactionKey:
        """The key to speak in the transaction under the epoch of that opener's channel; never one that was only disclosed.

        Raises:
            UnreadableError: none was granted to us.

        """
        transaction = self._transactions.get(transaction_id)
        if transaction is not None:
            for key, access, granted_by in transaction.keys.get(channel, ()):
                if access != "DISCLOSURE" and granted_by == opener:
                    return key
        epoch = None if opener is None else self.channels.key(channel, opener)
        if epoch is None:
            raise UnreadableError(
                f"the transaction is private and no key to it was granted to {self.participant}; "
                "ask its opener to open another with us"
            )
        return epoch.transaction_key(transaction_id)

    def epoch_keys(self, transaction_id: TransactionId) -> Iterator[DisclosedKey]:
        """What would disclose all that is said under the epoch that a transaction was opened under, if its key was granted to us."""
        opened = self.opened(transaction_id)
        if opened is not None and opened.channel is not None:
            for _, key in self.channels.keys(opened.channel):
                yield epoch_key(opened.channel, key)

    def transaction_keys(self, transaction_id: TransactionId) -> Iterator[DisclosedKey]:
        """What would disclose all that we could read of a transaction."""
        transaction = self._transactions.get(transaction_id)
        if transaction is None:
            return
        for channel, held in transaction.keys.items():
            for key in dict.fromkeys(each.key for each in held):
                yield transaction_key(transaction_id, channel, key)
        for identity, (message, _) in transaction.messages.items():
            yield message_key(identity, transaction_id, message)

    def message_keys(self, message: Message, identity: MessageId) -> Iterator[DisclosedKey]:
        """What would disclose one message."""
        channel = None if message.encryption is None else message.encryption.channel
        for key, _, _ in self._candidates(message, identity, channel):
            if commits_to(message, key):
                yield message_key(identity, message.transaction_id, key)
                return


def _message_key(key: ContentKey, message: Message) -> MessageKey:
    if isinstance(key, EpochKey):
        key = key.transaction_key(message.transaction_id)
    if isinstance(key, TransactionKey):
        return key.message_key(message.sequence, message.sender)
    assert isinstance(key, MessageKey)
    return key
