"""Named places at which a fault test can kill the process; they do nothing in any other run.

``PARLEY_CRASH_AT=stream.committed:3`` kills the process (SIGKILL, so nothing is cleaned up) the third time it comes
by ``crash_point("stream.committed")``.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "PARLEY_CRASH_AT"

_name, _, _nth = os.environ.get(VARIABLE, "").partition(":")
_remaining = int(_nth) if _nth.isdigit() else 1


def crash_point(name: str) -> None:
    """Kill this process if it is the place and the time that ``PARLEY_CRASH_AT`` names."""
    if name == _name:
        _count_down()


def _count_down() -> None:
    global _remaining  # noqa: PLW0603 - the one counter of this process
    _remaining -= 1
    if _remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
