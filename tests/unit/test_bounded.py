"""A driver's call that keeps no time-out of its own."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import partial

import pytest

from streams.bounded import call_within
from streams.errors import SessionLostError


def test_a_call_that_returns_is_waited_for() -> None:
    made: list[int] = []
    call_within(10, "adding", partial(made.append, 1))
    assert made == [1]


def test_what_the_call_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        call_within(10, "dividing", lambda: 1 / 0)


def test_a_call_that_does_not_return_is_given_up() -> None:
    forever = threading.Event()
    with pytest.raises(SessionLostError, match="has not come back from waiting"):
        call_within(0.01, "waiting", forever.wait)
    forever.set()


def test_an_error_does_not_keep_the_client_of_its_call_alive() -> None:
    class Client:
        def fail(self) -> None:
            raise ValueError("no")

    client = Client()
    alive = weakref.ref(client)
    gc.disable()
    try:
        with pytest.raises(ValueError, match="no") as told:
            call_within(10, "failing", client.fail)
        del client, told
        assert alive() is None
    finally:
        gc.enable()
