"""Reading the record's past: keys are learnt from whatever was granted to us anywhere on it, and then a transaction is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from parley.blocks import BlockStore, sealed_event
from parley.errors import VerificationError
from parley.events import Spoken, read_spoken
from parley.reading import Reader
from parley.schemas import FirehoseEvent

__all__ = ["granted_to", "is_private", "learn", "sealed_events"]


def is_private(event: FirehoseEvent) -> bool:
    """Whether the event carries encrypted content."""
    spoken = _spoken(event)
    return spoken is not None and spoken.message.encryption is not None


def granted_to(reader: str, event: FirehoseEvent) -> Spoken | None:
    """What the event says, if it grants ``reader`` a key; a disclosure does, and so does the opening of a channel's epoch."""
    spoken = _spoken(event)
    if spoken is None or spoken.message.encryption is None:
        return None
    return spoken if any(grant.reader == reader for grant in spoken.message.encryption.grants) else None


def learn(reader: Reader, events: Iterable[FirehoseEvent]) -> None:
    """Show the reader every message, of events that are verified, that grants it a key."""
    for event in events:
        spoken = granted_to(reader.participant, event)
        if spoken is not None:
            reader.read(spoken.message, spoken.message_id)


def sealed_events(store: BlockStore) -> Iterator[FirehoseEvent]:
    """Every event in a block store that was not purged, oldest block first; errors as for the store's."""
    for block in store.blocks():
        for sealed in block.transactions:
            for event in map(sealed_event, sealed.events):
                if isinstance(event, FirehoseEvent):
                    yield event


def _spoken(event: FirehoseEvent) -> Spoken | None:
    try:
        return read_spoken(event)
    except VerificationError:
        return None
