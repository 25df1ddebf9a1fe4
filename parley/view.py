"""A transaction as one party sees it: each verified event checked against the lifecycle that the router must enforce; pure.

A party sees what is addressed to it and what it says itself. Where that is every message (`DealView.whole`), all that the router
decided is checked; where messages between others are missing, only what can be known is.
"""

from __future__ import annotations

from typing import NamedTuple

from parley import lifecycle
from parley.errors import VerificationError
from parley.events import Spoken
from parley.schemas import Ending, FirehoseEvent, Hash, Head, Message, TransactionId, TransactionState

__all__ = ["DealView", "follow"]


class DealView(NamedTuple):
    """Where a transaction stands, as far as one party has seen."""

    transaction_id: TransactionId
    pipeline: int
    transaction: TransactionState
    head: Head
    last_sequence: int
    """Firehose sequence of the last event seen."""
    whole: bool
    """Whether every message up to the head was seen."""


def follow(deal: DealView | None, event: FirehoseEvent, digest: Hash, spoken: Spoken | None) -> DealView:
    """The transaction after ``event`` (its ``spoken`` message proved, its ``digest`` SHA-256 of its bytes).

    ``deal`` is ``None`` for an opening. An event seen before changes nothing: the very same state comes back.

    Raises:
        VerificationError: the router should not have accepted this, or the opening has not been seen.

    """
    if deal is not None and event.sequence <= deal.last_sequence:
        _check_seen(deal, event, digest)
        return deal
    if spoken is None:
        return _timed_out(deal, event)
    message, identity, _ = spoken
    before = None if deal is None else deal.transaction
    whole = deal is None or (deal.whole and message.sequence == deal.head.sequence + 1)
    if whole:
        refusal = lifecycle.judge(before, message, event.at)
    else:
        assert deal is not None
        refusal = _judge_in_part(deal, message, event.at)
    if refusal is not None:
        raise VerificationError(
            f"{_place(event)} should have been refused: {refusal.reason}, {refusal.detail}"
        )
    change = lifecycle.step(before, message)
    if whole:
        _check_ending(event, before, change.outcome)
    else:
        assert before is not None
        change = _step_in_part(before, event, message, change)
    after = lifecycle.recorded(before, message, change, identity, event.sequence, digest, event.at)
    return DealView(
        event.transaction_id, event.pipeline, after, Head(message.sequence, identity), event.sequence, whole
    )


def _check_seen(deal: DealView, event: FirehoseEvent, digest: Hash) -> None:
    for seen in lifecycle.events_of(deal.transaction):
        if seen.sequence == event.sequence:
            if seen.digest != digest:
                raise VerificationError(
                    f"{_place(event)} was delivered before with other bytes; keep both as evidence"
                )
            return
    if deal.transaction.outcome != "TIMED_OUT" or event.sequence != deal.last_sequence:
        raise VerificationError(f"{_place(event)} comes after events that follow it on the firehose")


def _judge_in_part(deal: DealView, message: Message, at: int) -> lifecycle.Refusal | None:
    """What can be judged although messages between others were not seen."""
    head = deal.head
    follows = message.sequence > head.sequence + 1 or message.previous == head.message_id
    if message.sequence <= head.sequence or not follows:
        return lifecycle.Refusal("SEQUENCE_CONFLICT", f"the head was message {head.sequence}", head=head)
    linked = message._replace(
        sequence=lifecycle.message_count(deal.transaction),
        previous=lifecycle.head_of(deal.transaction).message_id,
    )
    return lifecycle.judge(deal.transaction, linked, at)


def _step_in_part(
    before: TransactionState, event: FirehoseEvent, message: Message, change: lifecycle.Step
) -> lifecycle.Step:
    """What the message changes, where words that were not seen may have withdrawn a FINISH or added one."""
    if event.ended is None:
        if change.outcome is None:
            return change
        if before.terms.finish_rule == "ALL":
            return lifecycle.step(before._replace(finished=()), message)
    elif message.action == "FINISH" and event.ended.outcome == "FINISHED":
        _check_listed(event, event.ended, before, whole=False)
        return change._replace(due=(), outcome="FINISHED")
    raise VerificationError(f"{_place(event)} ends the transaction against its finish rule, or fails to")


def _timed_out(deal: DealView | None, event: FirehoseEvent) -> DealView:
    ended = event.ended
    if deal is None:
        raise VerificationError(
            f"{_place(event)} ends a transaction whose opening has not come to this inbox"
        )
    state = deal.transaction
    if ended is None or ended.outcome != "TIMED_OUT":
        raise VerificationError(f"{_place(event)} carries neither a message nor a timeout")
    if state.outcome is not None or event.at <= state.terms.deadline:
        raise VerificationError(
            f"{_place(event)} times out a transaction that had ended or whose deadline had not passed"
        )
    # Last words that were not for us may be listed after what we saw; without any, who was due is ours to tell too.
    all_seen = len(ended.events) == lifecycle.message_count(state)
    _check_listed(event, ended, state, whole=deal.whole and all_seen)
    if deal.whole and all_seen and ended.waiting_on != state.due:
        raise VerificationError(
            f"{_place(event)} names {', '.join(ended.waiting_on)} as due, but due was {', '.join(state.due)}"
        )
    after = lifecycle.expired(state, event.at)._replace(due=ended.waiting_on)
    return deal._replace(transaction=after, last_sequence=event.sequence, whole=deal.whole and all_seen)


def _check_ending(event: FirehoseEvent, before: TransactionState | None, outcome: str | None) -> None:
    ended = event.ended
    if (None if ended is None else ended.outcome) != outcome:
        raise VerificationError(f"{_place(event)} ends the transaction against its finish rule, or fails to")
    if ended is not None:
        assert before is not None
        _check_listed(event, ended, before, whole=True)


def _check_listed(event: FirehoseEvent, ended: Ending, state: TransactionState, *, whole: bool) -> None:
    """The ending lists what was seen: exactly that, or at least that where not all was seen."""
    seen = lifecycle.events_of(state)
    listed = ended.events
    if not whole:
        known = set(seen)
        listed = tuple(row for row in listed if row in known)
    if listed != seen or ended.opened_at != state.opened_at or ended.kind != state.terms.kind:
        raise VerificationError(
            f"{_place(event)} ends another history than the one that was seen; keep it as evidence"
        )


def _place(event: FirehoseEvent) -> str:
    return f"event {event.sequence} of pipeline {event.pipeline}"
