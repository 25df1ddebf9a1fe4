"""Two that speak at once: one message counts, and whether the other may be said again after it is decided here; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from parley.heard import DealMessage

__all__ = ["ATTEMPTS", "CATCHING_UP", "Resend", "may_resend"]

Resend = Literal["never", "unless finished"] | Callable[[tuple[DealMessage, ...]], bool]
"""What may be said again by itself after what came first: nothing, anything unless that was a FINISH, or what a function says
that is given what came first."""

ATTEMPTS: Final = 4
"""How often a message is sent at most while others keep coming first."""
CATCHING_UP: Final = 5.0
"""Seconds that the inbox may be behind the refusal which tells the head."""


def may_resend(resend: Resend, came_first: tuple[DealMessage, ...], participant: str) -> bool:
    """Whether a message of ``participant`` that conflicted may go again after ``came_first``, all of which was read.

    Never where our own words came first: they may be the very same, sent before and thought lost, or by another process.
    """
    if not came_first or any(message.sender == participant for message in came_first):
        return False
    if callable(resend):
        return resend(came_first)
    return resend == "unless finished" and all(message.action != "FINISH" for message in came_first)
