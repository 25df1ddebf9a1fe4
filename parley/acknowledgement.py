"""Which inbox records have been seen and taken: drops repeats, and finds the position that may be acknowledged; pure.

An inbox is written at least once: after a crash the delivery stage writes some records again. Each carries where the
delivery stage read it (`Delivery`), which only grows within a partition, so one number for each partition tells repeats.
These numbers are saved as a note together with the acknowledged position, in one write.

The position acknowledged is that of the first record the application has not taken yet, whatever it took after that.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from parley.errors import TransportError
from parley.transport import Delivery, InboxRecord, Standing

__all__ = ["Acknowledgements", "Arrival"]


class Arrival(Enum):
    """What a record is to the one who reads it."""

    NEW = auto()
    REPLAYED = auto()
    """Taken in an earlier life: it counts for the state, and is not offered again."""
    REPEATED = auto()
    """Written twice; this is the second."""


class Acknowledgements:
    """Follows one inbox from the first record kept."""

    __slots__ = ("_acknowledged", "_carried", "_seen", "_settled", "_untaken", "_waiting")

    def __init__(self, standing: Standing) -> None:
        """Begin with what an earlier life acknowledged.

        Raises:
            TransportError: its note cannot be read.

        """
        self._acknowledged = standing.position
        # Until its position is reached, the note of the earlier life is kept apart: the replay must not drop by it.
        self._carried = _read_note(standing.note)
        self._seen: dict[int, int] = {}
        self._settled: dict[int, int] = {}
        self._waiting: deque[InboxRecord] = deque()
        self._untaken: set[int] = set()

    def arrived(self, record: InboxRecord) -> Arrival:
        """Take note of the next record; a NEW one counts as taken unless :meth:`offered` follows."""
        replayed = record.offset < self._acknowledged
        if not replayed and self._carried:
            self._merge_carried()
        mark = record._replace(value=b"")
        delivery = record.delivery
        if delivery is not None:
            if delivery.offset <= self._seen.get(delivery.partition, -1):
                if not replayed:
                    self._waiting.append(mark)
                return Arrival.REPEATED
            self._seen[delivery.partition] = delivery.offset
        if replayed:
            if delivery is not None:
                self._settled[delivery.partition] = delivery.offset
            return Arrival.REPLAYED
        self._waiting.append(mark)
        return Arrival.NEW

    def _merge_carried(self) -> None:
        for partition, offset in self._carried.items():
            self._seen[partition] = max(offset, self._seen.get(partition, -1))
            self._settled[partition] = max(offset, self._settled.get(partition, -1))
        self._carried = {}

    def offered(self, offset: int) -> None:
        """The record at ``offset`` waits for the application to take it."""
        self._untaken.add(offset)

    def taken(self, offset: int) -> None:
        """The application has dealt with the record at ``offset``."""
        self._untaken.discard(offset)

    def advance(self) -> Standing | None:
        """What may be acknowledged now, if that is more than before."""
        before = self._acknowledged
        waiting, settled = self._waiting, self._settled
        while waiting and waiting[0].offset not in self._untaken:
            offset, delivery, _ = waiting.popleft()
            self._acknowledged = offset + 1
            if delivery is not None:
                settled[delivery.partition] = max(delivery.offset, settled.get(delivery.partition, -1))
        if self._acknowledged == before:
            return None
        return Standing(self._acknowledged, _write_note(settled))


def _write_note(seen: dict[int, int]) -> str:
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(seen.items()))


def _read_note(note: str) -> dict[int, int]:
    try:
        return {
            delivery.partition: delivery.offset
            for delivery in map(_read_mark, note.split(",") if note else ())
        }
    except ValueError:
        raise TransportError(
            f"the note saved with the inbox's position is not ours ({note[:80]!r}); reset the group's offsets"
        ) from None


def _read_mark(text: str) -> Delivery:
    partition, _, offset = text.partition(":")
    return Delivery(int(partition), int(offset))
