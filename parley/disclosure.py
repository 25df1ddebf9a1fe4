"""Disclosures: keys that a participant gives to a reader later, on the record; that each key is right is shown by what it opens."""

from __future__ import annotations

from collections.abc import Iterable

from parley.encryption import ContentKey, EpochKey, MessageKey, TransactionKey
from parley.errors import EncryptionError, GrantError, WireError
from parley.schemas import (
    ChannelEpoch,
    DisclosedKey,
    Disclosure,
    MessageId,
    TransactionId,
    decode,
    encode,
)

__all__ = [
    "DISCLOSURE_KIND",
    "DISCLOSURE_TYPE",
    "epoch_key",
    "message_key",
    "read_disclosure",
    "transaction_key",
    "write_disclosure",
]

DISCLOSURE_TYPE = "application/vnd.parley.disclosure+avro"
DISCLOSURE_KIND = "disclosure"
"""Kind of the transactions that disclosures are made in; what they disclose is encrypted with them."""

_KINDS: dict[str, type[ContentKey]] = {
    "MESSAGE": MessageKey,
    "TRANSACTION": TransactionKey,
    "EPOCH": EpochKey,
}


def message_key(message_id: MessageId, transaction_id: TransactionId, key: MessageKey) -> DisclosedKey:
    """What opens one message."""
    return DisclosedKey("MESSAGE", transaction_id, message_id, None, key.secret)


def transaction_key(
    transaction_id: TransactionId, channel: ChannelEpoch, key: TransactionKey
) -> DisclosedKey:
    """What opens all that a transaction says under one epoch."""
    return DisclosedKey("TRANSACTION", transaction_id, None, channel, key.secret)


def epoch_key(channel: ChannelEpoch, key: EpochKey) -> DisclosedKey:
    """What opens all that is said under an epoch."""
    return DisclosedKey("EPOCH", None, None, channel, key.secret)


def write_disclosure(reader: str, statement: str, keys: Iterable[DisclosedKey]) -> bytes:
    """The content of the message that discloses; to be sent encrypted to the reader, never in clear.

    Raises:
        EncryptionError: there are no keys.

    """
    listed = tuple(keys)
    if not listed:
        raise EncryptionError(
            "there is nothing to disclose: no key to it is held here, or it was said in clear"
        )
    return encode(Disclosure(reader, statement, listed))


def read_disclosure(content: bytes, reader: str) -> Disclosure:
    """The disclosure that a message's content, decrypted, is.

    Raises:
        GrantError: it is meant for another reader, or is none.

    """
    try:
        disclosure = decode(content, Disclosure)
    except WireError as error:
        raise GrantError(f"what should be a disclosure is none ({error}); ask its sender again") from None
    if disclosure.reader != reader:
        raise GrantError(
            f"a disclosure to {disclosure.reader[:128]} is not for {reader}; do not use its keys"
        )
    for key in disclosure.keys:
        complete = {
            "MESSAGE": key.message_id is not None and key.transaction_id is not None,
            "TRANSACTION": key.transaction_id is not None and key.channel is not None,
            "EPOCH": key.channel is not None,
        }
        if not complete[key.scope]:
            raise GrantError(
                f"a disclosed {key.scope.lower()} key does not say what it opens; ask its sender again"
            )
    return disclosure
