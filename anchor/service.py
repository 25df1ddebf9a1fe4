"""The loop that anchors: looks at the log and the chain, carries out what the core decides, and survives both.

A step becomes durable in this order, so that a crash anywhere leaves nothing that a restart does not know of:
sign -> event SUBMITTED with the raw transaction on ``anchors`` -> broadcast.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from anchor import metrics
from anchor.core import (
    Alarm,
    Anchoring,
    Broadcast,
    Effect,
    Policy,
    Publish,
    Signed,
    Submit,
    TreeHead,
    View,
    decide,
    lag,
    noticed,
    postponed,
    replayed,
    resumed,
    submitted,
)
from anchor.errors import ChainError, CheckpointError, TransactionError
from streams.crashpoint import crash_point
from streams.errors import AbortedError, FencedError, ReadError, SessionLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from parley.schemas import AnchorEvent
    from streams.runtime import Stop

STARTED: Final = "anchor.started"
EVENT: Final = "anchor.event"
ALARM: Final = "anchor.alarm"
ALARM_ENDED: Final = "anchor.alarm.ended"
REFUSED: Final = "anchor.transaction.refused"
CHAIN_AWAY: Final = "anchor.chain.away"
CHAIN_BACK: Final = "anchor.chain.back"
CHECKPOINT_REFUSED: Final = "anchor.checkpoint.refused"
REOPENED: Final = "anchor.events.reopened"
RETRIED: Final = "anchor.events.retried"

LONGEST_PAUSE: Final = 60.0
"""Seconds between two looks at a chain that does not answer."""


class Chain(Protocol):
    """What the loop needs of a chain; ``anchor.evm.EvmChain`` is one."""

    def view(self) -> View: ...
    def sign(self, order: Submit) -> Signed: ...
    def broadcast(self, signed: Signed) -> None: ...
    def recognise(self, raw: bytes) -> Signed | None: ...


class Events(Protocol):
    """What the loop needs of the topic; ``anchor.events.AnchorEvents`` is one."""

    def history(self) -> Sequence[AnchorEvent]: ...
    def publish(self, events: Iterable[AnchorEvent]) -> None: ...
    def close(self) -> None: ...


class Checkpoints(Protocol):
    """What the loop needs of the log; ``anchor.source.CheckpointSource`` is one."""

    def newest(self) -> TreeHead | None: ...


def milliseconds() -> int:
    """The time, in ms since the Unix epoch."""
    return time.time_ns() // 1_000_000


class AnchorService:
    """Anchors one log on one chain."""

    def __init__(
        self,
        policy: Policy,
        chain: Chain,
        checkpoints: Checkpoints,
        open_events: Callable[[], Events],
        clock: Callable[[], int] = milliseconds,
    ) -> None:
        """Take the chain over from any other process and restore what is known of it.

        ``open_events`` is called again whenever the connection to the topic is lost for good.
        """
        self._policy = policy
        self._chain = chain
        self._checkpoints = checkpoints
        self._open_events = open_events
        self._clock = clock
        self._log = structlog.get_logger().bind(chain=policy.chain, contract=policy.contract)
        self._told: set[str] = set()
        self._chain_failures = 0
        self._events, self._state = self._opened()
        final, outstanding = self._state.final, self._state.outstanding
        self._log.info(
            STARTED,
            final_size=final.head.size if final else 0,
            outstanding_size=outstanding.head.size if outstanding else 0,
        )

    @property
    def state(self) -> Anchoring:
        """What is known of the chain."""
        return self._state

    def run(self, stop: Stop, poll: float) -> None:
        """Take turns until ``stop`` is set, ``poll`` seconds apart, further apart while the chain is away.

        Raises:
            FencedError: another process anchors on this chain now.
            StreamError: the topic cannot be used.

        """
        try:
            while not stop.is_set():
                stop.wait(self.turn(poll))
        finally:
            self._events.close()

    def turn(self, poll: float) -> float:
        """One look and what follows from it; gives the seconds to wait before the next."""
        checkpoint = self._checkpoint()
        pause = poll
        try:
            self._act(checkpoint)
        except AbortedError as error:  # nothing was written, and the state is as before: decide again
            self._log.warning(RETRIED, detail=str(error))
        except SessionLostError as error:
            self._log.warning(REOPENED, detail=str(error))
            self._events.close()
            self._events, self._state = self._opened()
        except ChainError as error:
            self._state = noticed(self._state, checkpoint, self._clock())
            pause = self._chain_failed(error, poll)
        else:
            self._chain_answered()
        self._measure()
        return pause

    def _opened(self) -> tuple[Events, Anchoring]:
        events = self._open_events()
        state = Anchoring()
        try:
            history = events.history()
            finals = [index for index, event in enumerate(history) if event.state == "FINAL"]
            for event in history[finals[-1] if finals else 0 :]:
                signed = self._chain.recognise(event.raw_transaction) if event.raw_transaction else None
                state = replayed(state, event, signed)
        except (ReadError, FencedError):
            events.close()
            raise
        return events, resumed(state, self._clock())

    def _checkpoint(self) -> TreeHead | None:
        try:
            newest = self._checkpoints.newest()
        except CheckpointError as error:
            metrics.CHECKPOINT_REFUSED.set(1)
            self._tell(CHECKPOINT_REFUSED, "", detail=str(error))
            return None
        metrics.CHECKPOINT_REFUSED.set(0)
        self._untell(CHECKPOINT_REFUSED)
        return newest

    def _act(self, checkpoint: TreeHead | None) -> None:
        state, effects = decide(self._policy, self._state, self._chain.view(), checkpoint, self._clock())
        self._publish(effects)
        self._state = state
        self._raise_alarms([effect for effect in effects if isinstance(effect, Alarm)])
        for effect in effects:
            if isinstance(effect, Broadcast):
                self._broadcast(effect.signed)
            elif isinstance(effect, Submit):
                self._submit(effect)

    def _submit(self, order: Submit) -> None:
        try:
            signed = self._chain.sign(order)
        except TransactionError as error:
            metrics.REFUSALS.labels(type(error).__name__).inc()
            self._tell(REFUSED, type(error).__name__, size=order.head.size, detail=str(error))
            self._state = postponed(self._policy, self._state, self._clock())
            return
        crash_point("anchor.signed")
        state, effects = submitted(self._policy, self._state, order, signed, self._clock())
        self._publish(effects)
        self._state = state
        crash_point("anchor.published")
        self._broadcast(signed)
        crash_point("anchor.broadcast")

    def _broadcast(self, signed: Signed) -> None:
        try:
            self._chain.broadcast(signed)
        except TransactionError as error:  # known to all who restart; it is sent again, or replaced, in time
            metrics.REFUSALS.labels(type(error).__name__).inc()
            self._tell(REFUSED, type(error).__name__, nonce=signed.nonce, detail=str(error))
        else:
            self._untell(REFUSED)

    def _publish(self, effects: Iterable[Effect]) -> None:
        events = [effect.event for effect in effects if isinstance(effect, Publish)]
        if not events:
            return
        self._events.publish(events)
        for event in events:
            metrics.EVENTS.labels(event.state).inc()
            self._log.info(
                EVENT,
                state=event.state,
                size=event.log_size,
                transaction=f"0x{event.transaction_hash.hex()}",
                block=event.block_number,
                confirmations=event.confirmations,
                detail=event.detail,
            )

    def _raise_alarms(self, alarms: Sequence[Alarm]) -> None:
        for alarm in alarms:
            metrics.ALARMS.labels(alarm.kind).set(1)
            self._tell(ALARM, alarm.kind, kind=alarm.kind, detail=alarm.detail)
        standing = {f"{ALARM} {alarm.kind}" for alarm in alarms}
        for told in [told for told in self._told if told.startswith(f"{ALARM} ") and told not in standing]:
            kind = told.removeprefix(f"{ALARM} ")
            metrics.ALARMS.labels(kind).set(0)
            self._told.discard(told)
            self._log.info(ALARM_ENDED, kind=kind)

    def _chain_failed(self, error: ChainError, poll: float) -> float:
        self._chain_failures += 1
        metrics.CHAIN_UP.set(0)
        metrics.CHAIN_FAILURES.inc()
        self._tell(CHAIN_AWAY, type(error).__name__, detail=str(error))
        return float(min(poll * 2 ** min(self._chain_failures, 10), LONGEST_PAUSE))

    def _chain_answered(self) -> None:
        metrics.CHAIN_UP.set(1)
        if self._chain_failures:
            self._chain_failures = 0
            self._untell(CHAIN_AWAY)
            self._log.info(CHAIN_BACK)

    def _measure(self) -> None:
        entries, behind = lag(self._state, self._clock())
        metrics.LAG_ENTRIES.set(entries)
        metrics.LAG_SECONDS.set(behind / 1000)
        metrics.FINAL_SIZE.set(self._state.final.head.size if self._state.final else 0)
        metrics.HEIGHT.set(self._state.height)

    def _tell(self, event: str, which: str, **values: object) -> None:
        """Log what stays wrong once, not at every turn."""
        told = f"{event} {which}"
        if told not in self._told:
            self._told.add(told)
            self._log.error(event, **values)

    def _untell(self, event: str) -> None:
        self._told = {told for told in self._told if not told.startswith(f"{event} ")}
