"""Reading single events back from the firehose by their sequence; what they are needed for is not known here."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from typing import Final

from blockbuilder.core import Wanted
from parley.schemas import FirehoseEvent, decode
from streams.catalogue import FIREHOSE
from streams.handler import Record
from streams.reader import Reader

__all__ = ["Landmarks", "read_back"]

_STRIDE: Final = 1_000
"""Events between two landmarks."""
_JUMP: Final = 20_000
"""Events that are rather read through than jumped over."""


class Landmarks:
    """Where some events of each pipeline lie, so that others are found without a search."""

    def __init__(self) -> None:
        self._sequences: dict[int, list[int]] = {}
        self._offsets: dict[int, list[int]] = {}

    def note(self, pipeline: int, sequence: int, offset: int) -> None:
        """Remember where an event lies, if it is far enough from the last one remembered. Sequences must grow."""
        sequences = self._sequences.setdefault(pipeline, [])
        if not sequences or sequence >= sequences[-1] + _STRIDE:
            sequences.append(sequence)
            self._offsets.setdefault(pipeline, []).append(offset)

    def before(self, pipeline: int, sequence: int) -> int | None:
        """The offset of an event at or before this one; ``None`` if all that is known lies after it."""
        index = bisect_right(self._sequences.get(pipeline, []), sequence)
        return self._offsets[pipeline][index - 1] if index else None


def at_or_after(sequence: int) -> Callable[[Record], bool]:
    """Whether a firehose record is this event or a later one."""

    def reached(record: Record) -> bool:
        return decode(record.value() or b"", FirehoseEvent).sequence >= sequence

    return reached


def read_back(reader: Reader, wanted: Iterable[Wanted], landmarks: Landmarks) -> dict[Wanted, bytes]:
    """The events wanted, as far as the firehose still has them. ``wanted`` is sorted."""
    found: dict[Wanted, bytes] = {}
    for pipeline, places in groupby(wanted, attrgetter("pipeline")):
        _read_pipeline(reader, [place.sequence for place in places], pipeline, landmarks, found)
    return found


def _read_pipeline(
    reader: Reader, sequences: list[int], pipeline: int, landmarks: Landmarks, found: dict[Wanted, bytes]
) -> None:
    position = 0
    while position < len(sequences):
        start = landmarks.before(pipeline, sequences[position])
        if start is None:
            start = reader.first(FIREHOSE, pipeline, at_or_after(sequences[position]))
        for record in reader.read_partition(FIREHOSE, pipeline, start):
            data = record.value() or b""
            sequence = decode(data, FirehoseEvent).sequence
            if sequence > sequences[position]:
                return  # retention has passed it by: whoever wanted it finds it missing
            if sequence == sequences[position]:
                found[Wanted(pipeline, sequence)] = data
                position += 1
                if position == len(sequences) or sequences[position] > sequence + _JUMP:
                    break
        else:
            return
