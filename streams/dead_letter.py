"""Dead letters as services write them: a record as it came, and after its headers why it could not be processed.

How they are read is `parley.dead_letters`'s affair. Reason and stack are bounded, so that a letter is hardly larger than its record.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from parley.dead_letters import (
    DESTINATION,
    ERROR,
    OFFSET,
    PARTITION,
    REASON,
    REDRIVEN,
    SERVICE,
    STACK,
    TIMESTAMP,
    TOPIC,
)
from streams import metrics
from streams.handler import Emit

if TYPE_CHECKING:
    from streams.handler import Headers, Record

__all__ = ["Story", "bury", "failure"]

MAXIMUM_REASON_BYTES: Final = 1_000
MAXIMUM_STACK_BYTES: Final = 4_000


class Story:
    """Why a record could not be processed."""

    __slots__ = ("destination", "error", "reason", "stack")

    def __init__(
        self, error: str, reason: str, *, stack: str | None = None, destination: str | None = None
    ) -> None:
        """``error`` is a name out of few, by which letters are counted; ``destination`` is a topic that is missing."""
        self.error = error
        self.reason = reason
        self.stack = stack
        self.destination = destination


def failure(error: Exception) -> Story:
    """The story of a record for which an error was raised."""
    kind = type(error).__name__
    return Story(kind, f"{kind}: {error}", stack="".join(traceback.format_exception(error)))


def bury(dead_letter: str, service: str, record: Record, story: Story) -> Emit:
    """The record to write to the topic ``dead_letter``, which is counted as one; ``service`` says who could not process it."""
    topic, own = record.topic() or "", record.headers() or []
    told: list[tuple[str, str | None]] = [
        (REASON, _first(story.reason, MAXIMUM_REASON_BYTES)),
        (ERROR, story.error),
        (SERVICE, service),
        (TOPIC, topic),
        (PARTITION, str(record.partition())),
        (OFFSET, str(record.offset())),
        (TIMESTAMP, str(record.timestamp()[1])),
        (DESTINATION, story.destination),
        (STACK, None if story.stack is None else _last(story.stack, MAXIMUM_STACK_BYTES)),
    ]
    headers: Headers = [*own, *((name, value.encode()) for name, value in told if value is not None)]
    metrics.DEAD_LETTERS.labels(topic, story.error).inc()
    if any(name == REDRIVEN for name, _ in own):
        metrics.DEAD_LETTERS_AGAIN.labels(topic).inc()
    return Emit(dead_letter, 0, record.key(), record.value(), headers)


def _first(text: str, limit: int) -> str:
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def _last(text: str, limit: int) -> str:
    """The end of a stack tells most."""
    return text.encode("utf-8", "replace")[-limit:].decode("utf-8", "ignore")
