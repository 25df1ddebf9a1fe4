"""The block builder's errors.

BuilderError
├── HistoryError          firehose or directory is not what was sealed before, or contradicts itself
├── StoreError            the block store cannot be written, or lacks what ``blocks`` says is there
├── SecondBuilderError    another builder works on this store or this log
├── SecondPurgeError      another process purges this store
└── TrimError             the topics' past may not go as far as asked
"""

from __future__ import annotations

from parley.errors import ParleyError


class BuilderError(ParleyError):
    """Base of every error raised on purpose by the block builder."""


class HistoryError(BuilderError):
    """What was read is not the history that was sealed; nothing may be sealed on top of it."""


class StoreError(BuilderError):
    """The block store cannot be written, or lacks what ``blocks`` says is there."""


class SecondBuilderError(BuilderError):
    """Another builder works on this store or this log; stop one of the two."""


class SecondPurgeError(BuilderError):
    """Another process purges this store; wait until it has ended."""


class TrimError(BuilderError):
    """The topics' past may not go as far as asked; the message says what still needs it."""
