"""What a participant's program uses; each name is explained where it is defined. Loaded on first use, so that importing one
part does not cost the others (the command line verifies proofs without ever loading Kafka's driver).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parley.channel import Channel
    from parley.client import Participant, connect
    from parley.custody import Signatory, load_signatory
    from parley.deal import (
        Accepted,
        Deal,
        DealMessage,
        InboxEvent,
        Received,
        TimedOut,
        Unverified,
    )
    from parley.errors import (
        ConflictError,
        ElsewhereError,
        EncryptionError,
        ParleyError,
        RefusedError,
        TransportError,
        VerificationError,
    )
    from parley.grants import KeyRing
    from parley.kafka import KafkaAccess, KafkaTransport
    from parley.keys import SigningKey
    from parley.keystore import Keystore
    from parley.outbox import CONTENT_LIMIT
    from parley.reading import Reader
    from parley.receipt_folder import ReceiptFolder
    from parley.schemas import Party
    from parley.sealed_address import Hidden

__all__ = [
    "CONTENT_LIMIT",
    "Accepted",
    "Channel",
    "ConflictError",
    "Deal",
    "DealMessage",
    "ElsewhereError",
    "EncryptionError",
    "Hidden",
    "InboxEvent",
    "KafkaAccess",
    "KafkaTransport",
    "KeyRing",
    "Keystore",
    "ParleyError",
    "Participant",
    "Party",
    "Reader",
    "ReceiptFolder",
    "Received",
    "RefusedError",
    "Signatory",
    "SigningKey",
    "TimedOut",
    "TransportError",
    "Unverified",
    "VerificationError",
    "connect",
    "load_signatory",
]

_HOMES = {
    "CONTENT_LIMIT": "outbox",
    "Channel": "channel",
    "Participant": "client",
    "connect": "client",
    "Signatory": "custody",
    "load_signatory": "custody",
    "Accepted": "deal",
    "Deal": "deal",
    "DealMessage": "deal",
    "InboxEvent": "deal",
    "Received": "deal",
    "TimedOut": "deal",
    "Unverified": "deal",
    "ConflictError": "errors",
    "ElsewhereError": "errors",
    "EncryptionError": "errors",
    "ParleyError": "errors",
    "RefusedError": "errors",
    "TransportError": "errors",
    "VerificationError": "errors",
    "KeyRing": "grants",
    "KafkaAccess": "kafka",
    "KafkaTransport": "kafka",
    "SigningKey": "keys",
    "Keystore": "keystore",
    "Party": "schemas",
    "Reader": "reading",
    "ReceiptFolder": "receipt_folder",
    "Hidden": "sealed_address",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'parley' has no attribute {name!r}")
    return getattr(import_module(f"parley.{home}"), name)
