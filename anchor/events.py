"""The topic ``anchors`` for one chain: its events read back on start and new ones written, by one process at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parley.errors import WireError
from parley.schemas import AnchorEvent, decode, encode
from streams.catalogue import ANCHORS
from streams.handler import Emit
from streams.reader import Reader
from streams.transaction import TransactionalProducer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.connection import KafkaConnection

_PARTITION: Final = 0
_FIRST_WINDOW: Final = 2_000
"""Offsets looked back over at first; an anchor's life takes a few dozen."""


class AnchorEvents:
    """Reads and writes the events of one contract on one chain.

    Opening it fences every other process that anchors on this chain: from then on their writes fail, and as nothing is
    broadcast that was not written before, they cannot anchor any more.
    """

    def __init__(self, connection: KafkaConnection, chain: str, contract: str) -> None:
        """Take this chain over; ``chain`` is CAIP-2. Raises StreamError if the broker cannot be reached."""
        self._connection = connection
        self._chain = chain
        self._contract = contract
        transactional_id = connection.owned(f"anchor-{chain}")
        self._producer = TransactionalProducer(
            connection.transactional_producer(transactional_id, linger_ms=0)
        )

    def history(self) -> list[AnchorEvent]:
        """What :func:`read_history` gives for this contract."""
        return read_history(self._connection, self._chain, self._contract)

    def publish(self, events: Iterable[AnchorEvent]) -> None:
        """Write events, all or none.

        Raises:
            AbortedError: none was written; do it again.
            SessionLostError: unknown whether they were written; open anew and read the history.
            FencedError: another process has taken this chain over; stop.

        """
        self._producer.commit(
            Emit(ANCHORS, _PARTITION, str(event.log_size).encode(), encode(event)) for event in events
        )

    def close(self) -> None:
        """Drop the connection."""
        self._producer.close()


def read_history(connection: KafkaConnection, chain: str, contract: str) -> list[AnchorEvent]:
    """A contract's events, oldest first: all since its last final one at least, if there is one.

    Raises:
        StreamError: the topic cannot be read.

    """
    reader = Reader(connection)
    low, high = reader.bounds(ANCHORS, _PARTITION)
    window = _FIRST_WINDOW
    while True:
        start = max(low, high - window)
        events = [
            event
            for record in reader.read_partition(ANCHORS, _PARTITION, start, high)
            if (event := _about(record.value(), chain, contract)) is not None
        ]
        if start == low or any(event.state == "FINAL" for event in events):
            return events
        window *= 4


def _about(value: bytes | None, chain: str, contract: str) -> AnchorEvent | None:
    """The event in a record, if it is one and about this contract; others' events stand on the same topic."""
    try:
        event = decode(value or b"", AnchorEvent)
    except WireError:
        return None
    return event if (event.chain, event.contract) == (chain, contract) else None
