"""What open transactions cost one router: memory for each, and the time to come back with all of them."""

from __future__ import annotations

import gc
import json
import os
from hashlib import sha256
from typing import NamedTuple

import psutil
from confluent_kafka import Producer

from deploy.compiled import compiled_root
from deploy.services import Services
from parley import lifecycle
from parley.schemas import (
    Hash,
    Message,
    MessageId,
    Party,
    Terms,
    TransactionState,
    decode,
    encode,
)
from router.core import Limits
from router.handler import WRITE_BEHIND, Router, State
from streams.catalogue import ROUTER_STATE
from streams.membership import ASSIGNED
from streams.state import Store
from tests.bench.venue import Venue
from tests.dialogue import transaction_id
from tests.memory_router import ROUTER_KEY, members

__all__ = ["Restored", "bytes_per_open_transaction", "restored"]

_COMMIT = 1_000
_START_SECONDS = 900.0
_FAR = 2_000_000_000_000
"""A deadline (ms): nothing ends while it is measured."""
_SPREAD = 86_400_000
"""Over a day, as deadlines of a bank's are."""


class Restored(NamedTuple):
    """A router process that came back with many open transactions."""

    seconds_per_million: float
    bytes_each: float
    """What its resident memory grew by for each."""


def bytes_per_open_transaction(count: int) -> float:
    """Resident memory that so many further open transactions cost a router's store, over their number.

    They are put and committed as the router does it, with two messages each, and counted from where the store has as many
    objects as it ever has: those of the last events.
    """
    store: Store[State] = Store(Router(members(), ROUTER_KEY, Limits(), lambda _: None))
    template = _answered()
    warm = 3 * WRITE_BEHIND
    _open(store, template, range(warm))
    before = _resident(os.getpid())
    _open(store, template, range(warm, warm + count))
    assert len(store) == warm + count
    return (_resident(os.getpid()) - before) / count


def _open(store: Store[State], template: TransactionState, numbers: range) -> None:
    for number in numbers:
        # Through the codec, as what comes from the log has been: nothing is shared that a router would not share.
        opened = decode(_encoded(template, number), TransactionState)
        store.put(os.urandom(16), opened, number)
        if number % _COMMIT == _COMMIT - 1:
            store.write_before = number - WRITE_BEHIND
            for _ in store.changes():
                pass
            store.commit()
    gc.collect()


def restored(venue: Venue, count: int) -> Restored:
    """Fill a pipeline's router-state with so many open transactions, and see a router process come back with them."""
    _, empty, _ = _started(venue)
    producer = Producer(venue.kafka.admin.producer())
    template = _answered()
    for number in range(count):
        while True:
            try:
                producer.produce(ROUTER_STATE, _encoded(template, number), os.urandom(16), 0)
            except BufferError:
                producer.poll(0.1)
                continue
            break
    assert producer.flush(60) == 0
    entries, full, seconds = _started(venue)
    assert entries >= count, f"{count - entries} transactions did not come back"
    return Restored(seconds / entries * 1_000_000, (full - empty) / count)


def _started(venue: Venue) -> tuple[int, int, float]:
    """Start a router and stop it: entries of its first pipeline, its resident memory (bytes), and the seconds it took to restore."""
    services = Services(venue.folder, [venue.service("router", 0)], compiled_root())
    services.start(seconds=_START_SECONDS)
    try:
        process = services.process("router-0")
        told = [json.loads(line) for line in process.output().splitlines() if ASSIGNED in line]
        resident = _resident(process.pid)
    finally:
        services.stop()
    (first,) = [line for line in told if line["partition"] == 0]
    return first["entries"], resident, first["seconds"]


def _encoded(template: TransactionState, number: int) -> bytes:
    """The template as a transaction of its own: other messages, another deadline."""
    deadline = _FAR + number * 7_919 % _SPREAD
    terms = template.terms._replace(deadline=deadline, open_until=deadline)
    return encode(template._replace(terms=terms, messages=os.urandom(len(template.messages))))


def _answered() -> TransactionState:
    """A transaction of two banks after the opening and an answer."""
    terms = Terms(
        "delivery-versus-payment",
        (Party("bank-00", "bank-00"), Party("bank-01", "bank-01")),
        _FAR,
        _FAR,
        "ANY",
    )
    opening = Message(
        transaction_id("opening"),
        0,
        0,
        None,
        "bank-00",
        ("bank-01",),
        0,
        "OPEN",
        terms,
        "text/plain",
        b"",
        None,
        (),
    )
    answer = opening._replace(
        sequence=1, sender="bank-01", recipients=("bank-00",), action="CONTINUE", terms=None
    )
    state: TransactionState | None = None
    for sequence, message in enumerate((opening, answer)):
        digest = sha256(b"%d" % sequence).digest()
        step = lifecycle.step(state, message)
        state = lifecycle.recorded(
            state, message, step, MessageId(digest), sequence, Hash(digest), 1_900_000_000_000
        )
    assert state is not None
    return state


def _resident(process: int) -> int:
    return psutil.Process(process).memory_info().rss
