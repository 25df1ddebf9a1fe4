"""What one sender may take of a pipeline: how many messages and bytes a second, and how many transactions open at once; pure.

Rates are kept as the time until which what was sent is paid for (the generic cell rate algorithm, ITU-T I.371, in place of a
bucket of tokens): a message moves it on by its cost, and counts as long as it is no further ahead of the broker's append time
than the allowance. So a message larger than the allowance still passes, and is paid for afterwards. Nothing here asks a clock.

Only what is accepted is paid for. A sender has these quotas on each pipeline by itself: their routers share nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parley.lifecycle import Refusal

__all__ = ["Quotas", "Standing", "over_quota", "paid"]

_MICROSECONDS: Final = 1_000_000
OPEN_AGAIN: Final = 5_000
"""After how many ms to try again who has too many transactions open: nobody knows when one ends."""


class Quotas(NamedTuple):
    """What the operator allows each sender on each pipeline; 0 is no limit."""

    messages_per_second: int = 0
    bytes_per_second: int = 0
    """Of ingest records."""
    allowance: int = 10_000
    """How many ms of either rate may be sent at once after a rest."""
    open_transactions: int = 100_000
    """Opened by the sender, and not ended."""

    @property
    def are_rates(self) -> bool:
        """Whether there is anything to keep for each sender."""
        return self.messages_per_second > 0 or self.bytes_per_second > 0


class Standing(NamedTuple):
    """How a sender stands on a pipeline; times in µs since the Unix epoch."""

    messages_until: int = 0
    """Until when the messages sent are paid for."""
    bytes_until: int = 0
    """Until when the bytes sent are paid for."""
    open: int = 0
    """Transactions that it opened and that have not ended."""


def over_quota(quotas: Quotas, standing: Standing, at: int, *, opens: bool) -> Refusal | None:
    """Why a message appended at ``at`` (ms) is more than its sender may send, with the moment from which on it is not."""
    if opens and 0 < quotas.open_transactions <= standing.open:
        return Refusal(
            "RATE_LIMITED",
            f"its sender has {standing.open:,} transactions open on this pipeline, and may have "
            f"{quotas.open_transactions:,}; finish some, or open it on another pipeline",
            retriable=True,
            retry_at=at + OPEN_AGAIN,
        )
    ahead = at * 1_000 + quotas.allowance * 1_000
    told = []
    if quotas.messages_per_second and standing.messages_until > ahead:
        told.append(f"{quotas.messages_per_second:,} messages")
    if quotas.bytes_per_second and standing.bytes_until > ahead:
        told.append(f"{quotas.bytes_per_second:,} bytes")
    if not told:
        return None
    late = max(standing.messages_until, standing.bytes_until) - ahead
    retry_at = at + -(-late // 1_000)
    return Refusal(
        "RATE_LIMITED",
        f"its sender has sent more than the {' and the '.join(told)} a second that it may on this pipeline; "
        f"send the same bytes again in {retry_at - at} ms",
        retriable=True,
        retry_at=retry_at,
    )


def paid(quotas: Quotas, standing: Standing, size: int, at: int) -> Standing:
    """How the sender stands after a message of ``size`` bytes was accepted at ``at`` (ms)."""
    now = at * 1_000
    return Standing(
        _moved(standing.messages_until, now, 1, quotas.messages_per_second),
        _moved(standing.bytes_until, now, size, quotas.bytes_per_second),
        standing.open,
    )


def _moved(until: int, now: int, units: int, rate: int) -> int:
    return max(until, now) + -(-units * _MICROSECONDS // rate) if rate else 0
