"""The opening of a transaction as a message: parties, terms and times put together; in clear, and not sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from parley.deal import Content, content_of, recipients
from parley.errors import MalformedError
from parley.schemas import FinishRule, Message, Party, Reference, Terms, TransactionId

__all__ = ["OPENING_COUNTS_FOR", "Deadline", "write_opening"]

OPENING_COUNTS_FOR = 120_000
"""How long an opening may take to arrive unless said otherwise, in ms."""

Deadline = datetime | timedelta
"""A moment (with its time zone), or how long from now."""


def write_opening(
    transaction_id: TransactionId,
    parties: Sequence[Party],
    now: int,
    pipelines: int,
    *,
    kind: str,
    deadline: Deadline,
    content: Content,
    content_type: str | None,
    finish_rule: FinishRule,
    to: Iterable[str] | None,
    known: Mapping[str, str],
    references: Sequence[Reference],
    open_until: Deadline | None,
    pipeline: int | None,
) -> Message:
    """The message by which the first of the parties opens a transaction at ``now`` (ms), by default on any of the pipelines.

    ``known`` are the participants behind sealed addresses, who may be named in ``to``.

    Raises:
        MalformedError: a deadline has no time zone, or ``to`` names who is no other party.

    """
    sender = parties[0].participant
    ends = _moment(deadline, now)
    terms = Terms(
        kind=kind,
        parties=tuple(parties),
        deadline=ends,
        open_until=min(ends, now + OPENING_COUNTS_FOR) if open_until is None else _moment(open_until, now),
        finish_rule=finish_rule,
    )
    data, media_type = content_of(content, content_type)
    if pipeline is None:
        pipeline = int.from_bytes(transaction_id[8:], "big") % pipelines
    return Message(
        transaction_id=transaction_id,
        pipeline=pipeline,
        sequence=0,
        previous=None,
        sender=sender,
        recipients=recipients(terms.parties, sender, to, known),
        sent_at=now,
        action="OPEN",
        terms=terms,
        content_type=media_type,
        content=data,
        encryption=None,
        references=tuple(references),
    )


def _moment(deadline: Deadline, now: int) -> int:
    if isinstance(deadline, timedelta):
        return now + deadline // timedelta(milliseconds=1)
    if deadline.tzinfo is None:
        raise MalformedError("a deadline without a time zone is ambiguous; give one such as datetime.UTC")
    return (deadline - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
