"""The errors of the streams package; which of them a service should survive is said at each.

StreamError
├── ProvisioningError     a topic, user or permission is missing or cannot be made as asked
├── ReadError             a bounded read did not reach its end
├── PoisonError           one record cannot be processed; raised by handlers, ends in ``dead-letter``
├── HandlerError          a handler failed without a record to blame; the process must stop
├── AbortedError          a transaction was rolled back whole; run it again
├── SessionLostError      how a transaction ended is unknown; start over from the committed offsets
└── FencedError           another process has taken this one's place; the process must stop
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.errors import ParleyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.handler import Write


class StreamError(ParleyError):
    """Base of every error raised on purpose by the streams package."""


class ProvisioningError(StreamError):
    """A topic, user or permission is missing or cannot be made as asked; the message says what to change."""


class ReadError(StreamError):
    """A bounded read did not reach its end; the broker is away or a transaction hangs before the end."""


class PoisonError(StreamError):
    """One record cannot be processed; a handler raises it, and the record goes to ``dead-letter``.

    ``told`` are records that go out with it, for whoever waits to hear of it.
    """

    def __init__(self, reason: str, told: Sequence[Write] = ()) -> None:
        super().__init__(reason)
        self.told = tuple(told)


class HandlerError(StreamError):
    """A handler failed with no record to blame (a timer, or the end of a commit): a defect, so stop."""


class AbortedError(StreamError):
    """The transaction was rolled back whole; running it again is safe."""


class SessionLostError(StreamError):
    """How a transaction ended is unknown, or our place in the group is gone.

    Only the committed offsets can tell: drop the clients and everything in memory, and start over from there.
    """


class FencedError(StreamError):
    """Another process uses this one's transactional id or group instance; stop one of the two."""


def is_poison(error: Exception) -> bool:
    """Whether an error is the record's: all are, but those of the backbone itself and of this machine."""
    return isinstance(error, PoisonError) or not isinstance(error, (StreamError, MemoryError))
