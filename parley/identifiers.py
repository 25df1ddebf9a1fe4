"""How participants, addresses and transactions are named; who owns a name is the directory's affair."""

from __future__ import annotations

import re
import secrets
from functools import lru_cache
from uuid import UUID

from parley.errors import MalformedError
from parley.schemas import TransactionId

__all__ = [
    "is_name",
    "is_sealed_address",
    "is_transaction_id",
    "new_transaction_id",
    "parse_transaction_id",
    "shown_name",
    "transaction_text",
]

_LONGEST_NAME = 128
_SEALED_ADDRESS = re.compile(r"sealed:[0-9a-f]{32}:[A-Za-z0-9_-]{320}", re.ASCII)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,126}[a-z0-9])?", re.ASCII)


def is_name(text: str) -> bool:
    """Whether ``text`` can name a participant or an address: 1–128 of ``a-z 0-9 . -``, a letter or digit at both ends.

    An address is part of a Kafka topic's name, hence the alphabet.
    """
    return len(text) <= _LONGEST_NAME and _matches(text)


@lru_cache(maxsize=65_536)
def _matches(text: str) -> bool:
    """The same few names come again in every message."""
    return _NAME.fullmatch(text) is not None


def is_sealed_address(text: str) -> bool:
    """Whether ``text`` has the form of a sealed address, which no name has; what is in it only ``parley.sealed_address`` tells."""
    return ":" in text and _SEALED_ADDRESS.fullmatch(text) is not None


def shown_name(text: str) -> str:
    """A party's name for people: as it is, or that it is a sealed address, told from others by the start of its box."""
    return f"a sealed address ({text[40:48]}…)" if is_sealed_address(text) else text


def new_transaction_id(now_ms: int) -> TransactionId:
    """A fresh UUIDv7 (RFC 9562 §5.7): 48 bits of Unix time in ms, then randomness from the operating system."""
    random = int.from_bytes(secrets.token_bytes(10), "big") & ((1 << 74) - 1)
    number = (
        (now_ms & ((1 << 48) - 1)) << 80
        | 0x7 << 76
        | (random >> 62) << 64
        | 0b10 << 62
        | random & ((1 << 62) - 1)
    )
    return TransactionId(number.to_bytes(16, "big"))


def is_transaction_id(value: bytes) -> bool:
    """Whether 16 bytes are a UUIDv7: version 7, variant 10."""
    return len(value) == 16 and value[6] >> 4 == 7 and value[8] >> 6 == 0b10


def transaction_text(value: bytes) -> str:
    """The transaction id as people write it, such as ``01932c07-…``."""
    return str(UUID(bytes=value))


def parse_transaction_id(text: str) -> TransactionId:
    """The transaction id that people wrote, in either case.

    Raises:
        MalformedError: ``text`` is not a UUIDv7 with its hyphens.

    """
    try:
        value = UUID(text).bytes
    except ValueError:
        value = b""
    if not is_transaction_id(value) or transaction_text(value) != text.lower():
        raise MalformedError(
            f"{text!r} is not a transaction id; it is a UUIDv7 such as 01932c07-8f10-7abc-9def-0123456789ab"
        )
    return TransactionId(value)
