"""What it costs that a message is private: at the client and at the router, against the same message in clear.

The message is one of an established private deal between two: nothing is sealed or opened for it with public keys. The client's cost is
that of both real clients together, from `Deal.send` to the receipt and to the event in the other's hands, without the transport; the
router's is from the record to the decision. Clear and private messages take turns one by one, and medians are compared, so that what
else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import gc
import time
from datetime import timedelta
from hashlib import sha256
from statistics import median
from typing import NamedTuple

import parley
from parley.client import Participant
from parley.deal import Received
from parley.grants import KeyRing
from parley.keys import verify_batch
from parley.schemas import TransactionState
from router.core import NEW_PIPELINE, Accepted, Limits, Submission, decide, read_submission
from router.sealed_addresses import SealedAddresses
from tests.memory_backbone import MemoryBackbone
from tests.synthetic_ledger import encryption_key, signing_key

__all__ = ["Cost", "private_costs"]

_DEALS = 20
"""Of each kind."""
_MESSAGES = 100
"""Of each deal, after its opening."""
_CONTENT = sha256(b"content").digest() * 16
_LIMITS = Limits()
_SEALED = SealedAddresses()


class Cost(NamedTuple):
    """Microseconds of one core for one message, the median."""

    client: float
    router: float


class _Wire(MemoryBackbone):
    """The backbone in memory, which notes what was sent and how long it was busy itself."""

    def __init__(self, *participants: str) -> None:
        super().__init__(*participants)
        self.records: list[bytes] = []
        self.busy = 0.0

    def submit(self, pipeline: int, key: bytes, value: bytes) -> None:
        begin = time.thread_time()
        self.records.append(value)
        super().submit(pipeline, key, value)
        self.busy += time.thread_time() - begin


def private_costs() -> tuple[Cost, Cost]:
    """What a message costs in clear, and in private."""
    wire = _Wire("alpha", "beta")
    collecting = gc.isenabled()
    gc.disable()
    try:
        talked, judged = asyncio.run(_talk(wire)), _judge(wire)
    finally:
        if collecting:
            gc.enable()
    clear, private = (Cost(median(talked[kind::2]) * 1e6, median(judged[kind::2]) * 1e6) for kind in range(2))
    return clear, private


async def _talk(wire: _Wire) -> list[float]:
    """The seconds that two clients take for each message but the openings; clear and private in turn."""
    spent = []
    async with _connected(wire, "alpha") as alpha, _connected(wire, "beta") as beta:
        inbox = beta.inbox()
        deals = []
        for number in range(2 * _DEALS):
            deal = await alpha.open(
                ["beta"], kind="dvp", deadline=timedelta(hours=1), content=_CONTENT, private=bool(number % 2)
            )
            deals.append(deal)
            await anext(inbox)
        for _ in range(_MESSAGES):
            for deal in deals:
                busy, begin = wire.busy, time.thread_time()
                await deal.send(_CONTENT)
                event = await anext(inbox)
                assert isinstance(event, Received)
                assert event.message.content == _CONTENT
                spent.append(time.thread_time() - begin - (wire.busy - busy))
    return spent


def _connected(wire: _Wire, name: str) -> Participant:
    return parley.connect(
        wire.transport(),
        participant=name,
        key=signing_key(name),
        registrar=wire.registrar.public,
        decryptor=KeyRing([encryption_key(name)]),
        clock=lambda: wire.now,
    )


def _judge(wire: _Wire) -> list[float]:
    """The seconds that the router's decision takes on each record but the openings."""
    position = NEW_PIPELINE._replace(time=wire.now)
    states: dict[bytes, TransactionState] = {}
    spent = []
    for offset, record in enumerate(wire.records):
        begin = time.thread_time()
        submission = read_submission(record, wire.directory, _LIMITS)
        assert isinstance(submission, Submission)
        assert all(verify_batch(submission.claims))
        key = submission.message.transaction_id
        decision = decide(0, position, states.get(key), submission, offset, wire.directory, _LIMITS, _SEALED)
        assert isinstance(decision, Accepted)
        position, states[key] = decision.pipeline, decision.transaction
        spent.append(time.thread_time() - begin)
    return spent[2 * _DEALS :]
