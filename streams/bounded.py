"""A bound for a driver's call that keeps none of its own; decides nothing about what then."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from streams.errors import SessionLostError

if TYPE_CHECKING:
    from collections.abc import Callable


def call_within(seconds: float, doing: str, call: Callable[[], object]) -> None:
    """Make a call and raise what it raises, or SessionLostError if it has not returned after ``seconds``.

    The call goes on in a thread of its own, which ends with the process at the latest: whoever gives it up must also
    have made sure that nothing it may still do counts.
    """
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            # Its traceback would tie the call, and the client in it, to the error in a cycle.
            outcomes.put(error.with_traceback(None))
        else:
            outcomes.put(None)

    threading.Thread(target=run, name=doing, daemon=True).start()
    try:
        error = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise SessionLostError(f"the driver has not come back from {doing} for {seconds:.0f} s") from None
    try:
        if error is not None:
            raise error
    finally:
        del error
