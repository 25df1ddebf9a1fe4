"""What an open transaction costs the router in memory."""

from __future__ import annotations

import gc
from hashlib import sha256

import psutil

from parley import lifecycle
from parley.schemas import Hash, Message, MessageId, Party, Terms, TransactionState, decode, encode
from streams.state import Store
from tests.dialogue import transaction_id

__all__ = ["bytes_per_open_transaction"]

_TRANSACTIONS = 50_000


def bytes_per_open_transaction() -> float:
    """Resident memory of a store of transactions with two messages each, over their number."""
    store: Store[TransactionState] = Store(lambda state: lifecycle.wakes_at(state, 0))
    gc.collect()
    before = _resident()
    for number in range(_TRANSACTIONS):
        identity = transaction_id(f"open {number}")
        store.put(identity, _open(number))
        store.commit()
    gc.collect()
    return (_resident() - before) / _TRANSACTIONS


def _open(number: int) -> TransactionState:
    """A transaction of two banks after the opening and an answer, with no part shared with another."""
    terms = Terms(
        "delivery-versus-payment",
        (Party("bank-00", "bank-00"), Party("bank-01", "bank-01")),
        2_000_000_000_000 + number,
        2_000_000_000_000 + number,
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
        digest = sha256(b"%d %d" % (number, sequence)).digest()
        # Through the codec, as what comes from the log has been: nothing is shared that a router would not share.
        said = decode(encode(message), Message)
        state = lifecycle.recorded(
            state,
            said,
            lifecycle.step(state, said),
            MessageId(digest),
            number,
            Hash(digest),
            1_900_000_000_000,
        )
    assert state is not None
    return state


def _resident() -> int:
    return psutil.Process().memory_info().rss
