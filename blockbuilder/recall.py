"""Finding events on the firehose by their sequence; what they are needed for is not known here.

Sequences are dense and grow with the offset, but offsets have gaps (commit markers), and another cluster
has others. So an offset is only ever a hint: what is read there tells whether it is right, and a search
by bisection is the way without.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Final

from blockbuilder.core import Wanted
from parley.schemas import FirehoseEvent, decode
from streams.catalogue import FIREHOSE
from streams.handler import Record
from streams.reader import Reader

__all__ = ["HINTS_HEADER", "Landmarks", "decode_hints", "encode_hints", "read_back", "start_offset"]

HINTS_HEADER: Final = "firehose-offsets"
"""Of records on ``blocks``: JSON, by pipeline an offset at or before the cut; it spares a restart the search."""

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
        """Remember where an event lies, if it is far from the last one remembered. Sequences must grow."""
        sequences = self._sequences.setdefault(pipeline, [])
        if not sequences or sequence >= sequences[-1] + _STRIDE:
            sequences.append(sequence)
            self._offsets.setdefault(pipeline, []).append(offset)

    def before(self, pipeline: int, sequence: int) -> int | None:
        """The offset of an event at or before this one; ``None`` if all that is known lies after it."""
        index = bisect_right(self._sequences.get(pipeline, []), sequence)
        return self._offsets[pipeline][index - 1] if index else None


def encode_hints(hints: Mapping[int, int]) -> bytes:
    """What decode_hints reads."""
    return json.dumps({str(pipeline): offset for pipeline, offset in sorted(hints.items())}).encode()


def decode_hints(record: Record) -> dict[int, int]:
    """The offsets that a record of ``blocks`` hints at; none if it has none that make sense."""
    found = dict(record.headers() or ()).get(HINTS_HEADER) or b"{}"
    try:
        return {int(pipeline): int(offset) for pipeline, offset in json.loads(found).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def start_offset(reader: Reader, pipeline: int, sequence: int, hint: int | None) -> int:
    """An offset from which on the firehose has the event of this sequence and all after it."""
    if hint is not None:
        probe = next(reader.read_partition(FIREHOSE, pipeline, hint), None)
        if probe is not None and not at_or_after(sequence + 1)(probe):
            return hint
    return reader.first(FIREHOSE, pipeline, at_or_after(sequence))


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
