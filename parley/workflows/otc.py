"""An OTC trade between two parties: captured as it was agreed by phone or e-mail, affirmed, amended or cancelled.

    one party        opens      capture        the trade, and how it was agreed
    either           goes on    amendment      the whole trade as it should read, and why
    whoever is due   finishes   affirmation    names the SHA-256 of the content that is affirmed
    either           finishes   cancellation   says why

An affirmed trade is changed by a transaction of its own, which refers to the first and is affirmed like it: it opens with an
amendment (relation ``amends``) or a cancellation (``cancels``). Where a trade stands is folded from the deal's messages
(`standing`); what is said are `capture`, `amend`, `affirm`, `cancel`, `amend_later` and `cancel_later`. Contents are JSON objects;
the record of a phone call or an e-mail becomes a trade in `parley.workflows.otc_form`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple

from parley.client import Participant
from parley.deal import Accepted, Deal, DealMessage
from parley.errors import MalformedError, OtcError
from parley.identifiers import parse_transaction_id, transaction_text
from parley.opening import Deadline
from parley.schemas import Reference, TransactionId
from parley.workflows.forms import read_form, text_of
from parley.workflows.otc_trade import Record, Trade, check_trade, trade_in, trade_row

__all__ = [
    "AFFIRMATION_STEP",
    "AMENDMENT_STEP",
    "CANCELLATION_STEP",
    "CAPTURE_STEP",
    "KIND",
    "Phase",
    "Standing",
    "affirm",
    "amend",
    "amend_later",
    "cancel",
    "cancel_later",
    "capture",
    "standing",
]

KIND: Final = "otc-trade"
CAPTURE_STEP: Final = "application/vnd.parley.otc.capture+json"
AFFIRMATION_STEP: Final = "application/vnd.parley.otc.affirmation+json"
AMENDMENT_STEP: Final = "application/vnd.parley.otc.amendment+json"
CANCELLATION_STEP: Final = "application/vnd.parley.otc.cancellation+json"


class Phase(StrEnum):
    """How far the parties are."""

    OPEN = "open"
    AFFIRMED = "affirmed"
    CANCELLED = "cancelled"
    VOID = "void"
    """It was finished by something else, or something else was affirmed than was said last."""


class Standing(NamedTuple):
    """Where the parties stand."""

    phase: Phase
    step: str
    """What is to be affirmed, or was: the content type of a capture, an amendment or a cancellation."""
    trade: Trade | None
    """As it should read; None where a cancellation asks for it to be undone."""
    digest: bytes
    """SHA-256 of the content that says so."""
    by: str
    changes: TransactionId | None = None
    """The affirmed trade that this amends or cancels."""
    reason: str = ""


async def capture(
    me: Participant,
    party: str,
    trade: Trade,
    record: Record,
    *,
    deadline: Deadline,
    readers: Iterable[str] = (),
) -> Deal:
    """Open an OTC trade as it was agreed, in private.

    Raises:
        OtcError: the trade is wrong by itself, or not between the two.

    """
    check_trade(trade, (me.participant, party))
    content = {"trade": trade_row(trade), "record": {**record._asdict(), "at": record.at.isoformat()}}
    return await _open(me, party, CAPTURE_STEP, content, (), deadline, readers)


async def amend(deal: Deal, trade: Trade, reason: str) -> Accepted:
    """Say how the trade should read instead; the other party is then due to affirm it. Raises OtcError."""
    _open_standing(deal)
    check_trade(trade, deal.parties)
    return await deal.send({"trade": trade_row(trade), "reason": reason}, content_type=AMENDMENT_STEP)


async def affirm(deal: Deal, seen: Trade | None = None) -> Accepted:
    """Affirm what the other party said last; with ``seen``, only if it is still this trade.

    Raises:
        OtcError: the last word is our own, is another trade, or nothing is open.
        RefusedError: the other party was quicker with something else; look at it and decide anew.

    """
    now = _open_standing(deal)
    if now.by == deal.own_name:
        raise OtcError(f"the last word is our own; {' and '.join(deal.waiting_on)} must affirm it")
    if seen is not None and now.trade != seen:
        raise OtcError(f"{now.by} now says otherwise; look at the trade again and decide anew")
    return await deal.finish({"affirmed": now.digest.hex()}, content_type=AFFIRMATION_STEP)


async def cancel(deal: Deal, reason: str) -> Accepted:
    """End it without a trade, or withdraw what was to be changed of one. Raises OtcError."""
    _open_standing(deal)
    return await deal.finish({"reason": reason}, content_type=CANCELLATION_STEP)


async def amend_later(
    me: Participant,
    party: str,
    affirmed: TransactionId,
    trade: Trade,
    reason: str,
    *,
    deadline: Deadline,
    readers: Iterable[str] = (),
) -> Deal:
    """Ask for an affirmed trade to read otherwise, in a transaction of its own; raises as :func:`capture`."""
    check_trade(trade, (me.participant, party))
    content = {"trade": trade_row(trade), "reason": reason, "changes": transaction_text(affirmed)}
    return await _open(
        me, party, AMENDMENT_STEP, content, (_reference("amends", affirmed),), deadline, readers
    )


async def cancel_later(
    me: Participant,
    party: str,
    affirmed: TransactionId,
    reason: str,
    *,
    deadline: Deadline,
    readers: Iterable[str] = (),
) -> Deal:
    """Ask for an affirmed trade to be undone, in a transaction of its own, which the other party affirms or cancels."""
    content = {"reason": reason, "changes": transaction_text(affirmed)}
    return await _open(
        me, party, CANCELLATION_STEP, content, (_reference("cancels", affirmed),), deadline, readers
    )


def standing(messages: Sequence[DealMessage]) -> Standing:
    """Where the parties stand after these messages, all of the deal from its opening on.

    Raises:
        OtcError: what was said is no OTC trade.

    """
    if not messages:
        raise OtcError("nothing was said; an OTC trade begins with a capture")
    now = _opened(messages[0])
    for message in messages[1:]:
        now = _after(now, message)
    return now


async def _open(
    me: Participant,
    party: str,
    step: str,
    content: Mapping[str, object],
    references: Sequence[Reference],
    deadline: Deadline,
    readers: Iterable[str],
) -> Deal:
    return await me.open(
        [party],
        kind=KIND,
        deadline=deadline,
        content=content,
        content_type=step,
        references=references,
        private=True,
        readers=readers,
    )


def _reference(relation: str, transaction: TransactionId) -> Reference:
    return Reference(relation, transaction, None, None, None)


def _opened(message: DealMessage) -> Standing:
    form = read_form(message, OtcError)
    digest = sha256(message.content).digest()
    if message.content_type == CAPTURE_STEP:
        return Standing(Phase.OPEN, CAPTURE_STEP, trade_in(form), digest, message.sender)
    if message.content_type not in {AMENDMENT_STEP, CANCELLATION_STEP}:
        raise OtcError(f"{message.sender} opened with {message.content_type}; capture the trade first")
    try:
        changes = parse_transaction_id(text_of(form, "changes", OtcError))
    except MalformedError as error:
        raise OtcError(f"changes: {error}") from None
    trade = trade_in(form) if message.content_type == AMENDMENT_STEP else None
    reason = text_of(form, "reason", OtcError)
    return Standing(Phase.OPEN, message.content_type, trade, digest, message.sender, changes, reason)


def _after(now: Standing, message: DealMessage) -> Standing:
    if message.action != "FINISH":
        return _amended(now, message)
    try:
        return _finished(now, message)
    except OtcError as error:
        return now._replace(phase=Phase.VOID, reason=str(error))


def _amended(now: Standing, message: DealMessage) -> Standing:
    form = read_form(message, OtcError)
    if message.content_type != AMENDMENT_STEP:
        raise OtcError(f"{message.sender} said {message.content_type}; only an amendment goes on")
    return now._replace(
        step=AMENDMENT_STEP,
        trade=trade_in(form),
        digest=sha256(message.content).digest(),
        by=message.sender,
        reason=text_of(form, "reason", OtcError),
    )


def _finished(now: Standing, message: DealMessage) -> Standing:
    form = read_form(message, OtcError)
    if message.content_type == CANCELLATION_STEP:
        return now._replace(phase=Phase.CANCELLED, reason=text_of(form, "reason", OtcError))
    if message.content_type != AFFIRMATION_STEP:
        raise OtcError(f"{message.sender} finished with {message.content_type}")
    named = text_of(form, "affirmed", OtcError)
    if named != now.digest.hex() or message.sender == now.by:
        raise OtcError(f"{message.sender} affirmed {named!r}, which is not what the other party said last")
    return now._replace(phase=Phase.AFFIRMED)


def _open_standing(deal: Deal) -> Standing:
    now = standing(deal.messages)
    if now.phase is not Phase.OPEN:
        raise OtcError(f"it is {now.phase}; change an affirmed trade by a transaction of its own")
    return now
