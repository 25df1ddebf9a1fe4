"""Messages on their way: each is sent, and sent again, until it is answered; what the answer says is the caller's to read.

Only where the answer is that the same bytes count later (RATE_LIMITED), they are sent again then, if that is soon enough.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from parley.custody import Signatory
from parley.envelope import MESSAGE_TYPE, message_id, seal
from parley.errors import MalformedError, OversizedError, RefusedError, TransportError
from parley.lifecycle import well_formed
from parley.schemas import Message, MessageId, TransactionId, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from parley.deal import Accepted
    from parley.transport import Transport

__all__ = ["CONTENT_LIMIT", "Outbox"]

CONTENT_LIMIT = 1024 * 1024
"""Bytes of content a message may have."""


class _Sent:
    """A message that waits for its answer; times in seconds of the monotonic clock."""

    __slots__ = ("answer", "envelope", "first", "last", "message")

    def __init__(self, message: Message, envelope: bytes, answer: asyncio.Future[Accepted]) -> None:
        self.message = message
        self.envelope = envelope
        self.answer = answer
        self.first = self.last = time.monotonic()


class Outbox:
    """What one participant has sent and has no answer to."""

    def __init__(
        self,
        transport: Transport,
        keys: Sequence[Signatory],
        *,
        answer_within: float,
        resend_after: float,
        keep: Callable[[MessageId, bytes], None] | None = None,
    ) -> None:
        """Sign with each of the keys; give up after ``answer_within`` seconds; send the same bytes again every ``resend_after``.

        ``keep`` is given every receipt, before the answer is told.
        """
        self._transport = transport
        self._keys = keys
        self._answer_within = answer_within
        self._resend_after = resend_after
        self._keep = keep
        self._sent: dict[MessageId, _Sent] = {}
        self._resting: dict[MessageId, float] = {}
        """When those are sent again that came too early, in seconds of the monotonic clock."""
        self.envelopes: dict[MessageId, bytes] = {}
        """The encoded envelopes that wait for an answer, by message id."""
        self._failure: Exception | None = None

    async def send(self, message: Message) -> Accepted:
        """Sign and send, and wait for the answer.

        Raises:
            OversizedError: the content is over the limit.
            MalformedError: no router would take it.
            TransportError: it cannot be written, or had no answer in time.
            ParleyError: what :meth:`refuse` was given.

        """
        if self._failure is not None:
            raise self._failure
        if len(message.content) > CONTENT_LIMIT:
            raise OversizedError(
                f"{len(message.content):,} bytes of content exceed the limit of {CONTENT_LIMIT:,}; "
                "keep the payload elsewhere and send its SHA-256 as a reference"
            )
        if fault := well_formed(message):
            raise MalformedError(f"{fault.detail}; mend the message and send again")
        envelope = seal(MESSAGE_TYPE, message, *self._keys)
        identity, data = message_id(envelope.payload), encode(envelope)
        sent = _Sent(message, data, asyncio.get_running_loop().create_future())
        self._sent[identity] = sent
        self.envelopes[identity] = data
        try:
            await self._transport.produce(message.pipeline, message.transaction_id, data)
            return await sent.answer
        finally:
            self._sent.pop(identity, None)
            self._resting.pop(identity, None)
            self.envelopes.pop(identity, None)

    def answer(self, identity: MessageId, accepted: Accepted) -> None:
        """The message was accepted; where nobody waits for it, its receipt is kept all the same."""
        if self._keep is not None:
            self._keep(identity, accepted.receipt)
        sent = self._sent.get(identity)
        if sent is not None and not sent.answer.done():
            sent.answer.set_result(accepted)

    def refuse(self, identity: MessageId, error: Exception) -> None:
        """The message was refused, or its receipt cannot be believed; one that came too early waits instead, while it may."""
        sent = self._sent.get(identity)
        if sent is None or sent.answer.done():
            return
        if isinstance(error, RefusedError) and error.retry_at is not None:
            # Both moments are the broker's, so that our clock does not matter.
            then = time.monotonic() + max(error.retry_at - error.rejection.at, 0) / 1_000
            if then - sent.first < self._answer_within:
                self._resting[identity] = then
                return
        sent.answer.set_exception(error)

    def undelivered(self, transaction_id: TransactionId | bytes, error: TransportError) -> None:
        """The message of this transaction that is on its way was not written, and will not be."""
        for identity, sent in list(self._sent.items()):
            if sent.message.transaction_id == transaction_id:
                self.refuse(identity, error)

    def fail(self, error: Exception) -> None:
        """Nothing more will be answered."""
        self._failure = error
        for identity in list(self._sent):
            self.refuse(identity, error)

    async def chase(self, now: float) -> None:
        """Send again what has had no answer or may come again, and give up on what has waited too long; ``now`` in monotonic
        seconds.
        """
        for identity, sent in [
            (each, self._sent[each]) for each, then in self._resting.items() if then <= now
        ]:
            self._resting.pop(identity, None)
            if not sent.answer.done():
                await self._send_again(identity, sent, now)
        for identity, sent in _late(self._sent, now - self._resend_after):
            if sent.answer.done() or identity in self._resting:
                continue
            if now - sent.first > self._answer_within:
                self.refuse(
                    identity,
                    TransportError(
                        f"no answer within {self._answer_within:g} s; the message may have been accepted, "
                        "and then shows in the deal's messages"
                    ),
                )
                continue
            await self._send_again(identity, sent, now)

    async def _send_again(self, identity: MessageId, sent: _Sent, now: float) -> None:
        del self._sent[identity]
        sent.last = now
        self._sent[identity] = sent  # last: the order is that of the last sending
        await self._transport.produce(sent.message.pipeline, sent.message.transaction_id, sent.envelope)


def _late(sent: Mapping[MessageId, _Sent], before: float) -> list[tuple[MessageId, _Sent]]:
    """Those last sent before that moment; they stand first."""
    late = []
    for identity, each in sent.items():
        if each.last > before:
            break
        late.append((identity, each))
    return late
