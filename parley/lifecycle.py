"""The life of a transaction as a pure state machine, shared by the router, which enforces it, and the client, which follows.

Rules:

1. An opening has sequence 0, no previous message, and the terms; nothing else has terms. It counts if appended by
   ``open_until``, once; its sender is a party.
2. Every later message is a party's, has the next sequence and links to the message before it (the head). Of two that
   speak at once, the first appended wins; the other conflicts and is told the head.
3. A message is in time if it was appended at or before the deadline, by the broker's clock.
4. Under the finish rule ANY a party's FINISH ends the transaction. Under ALL it ends when every party has said FINISH with
   nothing said in between: a CONTINUE withdraws the FINISHes before it, so that nobody is bound to words that came after
   their own.
5. A transaction still open after its deadline has timed out; the parties then due are named.
6. Due are the parties that the head addresses, its sender aside, and that have not finished; if there are none, every
   other party that has not finished; if there are none, its sender.
7. A message already accepted is a duplicate, whenever it comes again: not a refusal, and nothing changes.

Which steps the kind of a transaction admits is `parley.steps`' affair; here only the step taken last is remembered.

A party may stand in the terms as a sealed address, which then is its name in everything that is said here: as recipient, as
sender once it speaks, and as due. Only an opening's sender is never hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from parley.identifiers import is_name, is_sealed_address, is_transaction_id
from parley.schemas import (
    EventReference,
    Hash,
    Head,
    Message,
    MessageId,
    Outcome,
    Reason,
    Terms,
    TransactionState,
)
from parley.steps import FREE, STEP_RULES, step_number

__all__ = [
    "MAXIMUM_PARTIES",
    "MAXIMUM_RECIPIENTS",
    "AcceptedMessage",
    "Refusal",
    "Step",
    "accepted_messages",
    "address_of",
    "duplicate_of",
    "events_of",
    "expired",
    "head_of",
    "judge",
    "last_sequence",
    "message_count",
    "recorded",
    "step",
    "wakes_at",
    "well_formed",
]

MAXIMUM_PARTIES = 32
MAXIMUM_RECIPIENTS = 32
MAXIMUM_REFERENCES = 64
MAXIMUM_CONTENT_TYPE = 255

_ACCEPTED = Struct(">32sq32sq")
_FIRST_BYTES = 32


class AcceptedMessage(NamedTuple):
    """An accepted message by its place on the firehose."""

    message_id: MessageId
    sequence: int
    digest: Hash
    at: int


class Refusal(NamedTuple):
    """Why a message does not count."""

    reason: Reason
    detail: str
    retriable: bool = False
    head: Head | None = None
    retry_at: int | None = None
    """From when on the same bytes may be sent again, in ms."""


class Step(NamedTuple):
    """What a message changes: who has finished, who is due, and the outcome if it ends the transaction."""

    finished: tuple[str, ...]
    due: tuple[str, ...]
    outcome: Outcome | None


def message_count(state: TransactionState) -> int:
    """How many messages have been accepted: the next sequence."""
    return len(state.messages) // _ACCEPTED.size


def accepted_messages(state: TransactionState) -> Iterator[AcceptedMessage]:
    """The accepted messages, in order."""
    return map(AcceptedMessage._make, _ACCEPTED.iter_unpack(state.messages))


def events_of(state: TransactionState) -> tuple[EventReference, ...]:
    """The transaction's events so far, by place and digest."""
    return tuple(
        EventReference(sequence, Hash(digest))
        for _, sequence, digest, _ in _ACCEPTED.iter_unpack(state.messages)
    )


def address_of(terms: Terms, participant: str) -> str | None:
    """Where a party receives for this transaction; ``None`` for who is no party."""
    for party, address in terms.parties:
        if party == participant:
            return address
    return None


def head_of(state: TransactionState) -> Head:
    """The last accepted message."""
    start = len(state.messages) - _ACCEPTED.size
    return Head(start // _ACCEPTED.size, MessageId(state.messages[start : start + _FIRST_BYTES]))


def last_sequence(state: TransactionState) -> int:
    """The head's place on the firehose."""
    return int.from_bytes(
        state.messages[-_ACCEPTED.size + _FIRST_BYTES : -_ACCEPTED.size + _FIRST_BYTES + 8], "big"
    )


def duplicate_of(state: TransactionState, message: Message, message_id: MessageId) -> AcceptedMessage | None:
    """Where this very message was accepted before, if it was (rule 7)."""
    start = message.sequence * _ACCEPTED.size
    if start < 0 or state.messages[start : start + _FIRST_BYTES] != message_id:
        return None
    return AcceptedMessage._make(_ACCEPTED.unpack_from(state.messages, start))


def well_formed(message: Message) -> Refusal | None:
    """Whether the message can be judged at all: its fields are in range and agree with its action (rule 1)."""
    fault = _fault(message)
    return None if fault is None else Refusal("MALFORMED", fault)


def _fault(message: Message) -> str | None:
    if not is_transaction_id(message.transaction_id):
        return "the transaction id is not a UUIDv7"
    if message.pipeline < 0 or message.sequence < 0:
        return "pipeline and sequence are not negative"
    recipients = message.recipients
    if not 0 < len(recipients) <= MAXIMUM_RECIPIENTS:
        return f"a message has 1 to {MAXIMUM_RECIPIENTS} recipients"
    if len(message.references) > MAXIMUM_REFERENCES or len(message.content_type) > MAXIMUM_CONTENT_TYPE:
        return f"a message has at most {MAXIMUM_REFERENCES} references, and a content type of at most {MAXIMUM_CONTENT_TYPE} characters"
    if len(recipients) > 1 and len(set(recipients)) != len(recipients):
        return "each recipient is named once"
    if not is_name(message.sender) and (message.action == "OPEN" or not is_sealed_address(message.sender)):
        return "the sender is not a participant's name"
    if message.action == "OPEN":
        if message.sequence != 0 or message.previous is not None or message.terms is None:
            return "an opening has sequence 0, no previous message, and terms"
        return _terms_fault(message.terms)
    if message.sequence == 0 or message.previous is None or message.terms is not None:
        return "only an opening has sequence 0, no previous message, or terms"
    return None


def _terms_fault(terms: Terms) -> str | None:
    participants = [party.participant for party in terms.parties]
    if not 2 <= len(participants) <= MAXIMUM_PARTIES or len(set(participants)) != len(participants):
        return f"a transaction has 2 to {MAXIMUM_PARTIES} different parties"
    if not all(_is_party(*party) for party in terms.parties):
        return "a party's name or address is not well formed"
    if not 0 < len(terms.kind) <= 64 or not terms.kind.isprintable():
        return "the kind has 1 to 64 printable characters"
    if terms.deadline <= 0 or terms.open_until <= 0:
        return "deadline and open_until are moments after 1970, in ms"
    return None


def _is_party(participant: str, address: str) -> bool:
    return (is_name(participant) and is_name(address)) or (
        participant == address and is_sealed_address(address)
    )


def judge(state: TransactionState | None, message: Message, at: int) -> Refusal | None:
    """Why a well-formed message that is no duplicate does not count when appended at ``at`` (ms), or ``None`` if it does."""
    if state is None:
        return _judge_first(message, at)
    if address_of(state.terms, message.sender) is None:
        return Refusal("NOT_A_PARTY", f"{message.sender} is not a party to this transaction")
    if state.outcome == "FINISHED":
        return Refusal("CLOSED", "the transaction has finished; open another")
    if state.outcome == "TIMED_OUT" or at > state.terms.deadline:
        return Refusal(
            "DEADLINE_PASSED",
            f"the deadline was {state.terms.deadline} and this came {at - state.terms.deadline} ms after it",
        )
    messages = state.messages
    if (
        message.sequence * _ACCEPTED.size != len(messages)
        or message.previous != messages[-_ACCEPTED.size : _FIRST_BYTES - _ACCEPTED.size]
    ):
        head = head_of(state)
        return Refusal(
            "SEQUENCE_CONFLICT",
            f"the head is message {head.sequence}; read it, then send message {head.sequence + 1} linked to it",
            retriable=True,
            head=head,
        )
    return None


def _judge_first(message: Message, at: int) -> Refusal | None:
    terms = message.terms
    if terms is None:
        return Refusal(
            "UNKNOWN_TRANSACTION",
            "no such transaction is open on this pipeline, or it ended and is on the record",
        )
    if address_of(terms, message.sender) is None:
        return Refusal("NOT_A_PARTY", "the opener must be one of the parties")
    if at > terms.open_until:
        return Refusal(
            "OPENING_EXPIRED",
            f"this opening counted until {terms.open_until}; if it opened a transaction before, that has ended and is on"
            " the record, and otherwise sign a new one",
        )
    if at > terms.deadline:
        return Refusal(
            "DEADLINE_PASSED", f"the deadline {terms.deadline} had passed before the opening arrived"
        )
    return None


def step(state: TransactionState | None, message: Message) -> Step:
    """What an accepted message changes (rules 4 and 6); ``state`` is ``None`` for an opening."""
    terms = message.terms if state is None else state.terms
    assert terms is not None
    finished: tuple[str, ...] = ()
    sender = message.sender
    if message.action == "FINISH":
        assert state is not None
        finished = state.finished if sender in state.finished else (*state.finished, sender)
        if terms.finish_rule == "ANY" or len(finished) == len(terms.parties):
            return Step(finished, (), "FINISHED")
    addressed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    for participant, address in terms.parties:
        if participant != sender and participant not in finished:
            waiting += (participant,)
            if address in message.recipients:
                addressed += (participant,)
    return Step(finished, addressed or waiting or (sender,), None)


def recorded(
    state: TransactionState | None,
    message: Message,
    change: Step,
    message_id: MessageId,
    sequence: int,
    digest: Hash,
    at: int,
) -> TransactionState:
    """The state after an accepted message that stands on the firehose at ``sequence`` with ``digest``."""
    entry = _ACCEPTED.pack(message_id, sequence, digest, at)
    finished, due, outcome = change
    ended_at = None if outcome is None else at
    terms = message.terms if state is None else state.terms
    assert terms is not None
    number = step_number(state, message) if terms.kind in STEP_RULES else FREE
    if state is None:
        opener = [participant for participant, _ in terms.parties].index(message.sender)
        return TransactionState(terms, at, finished, due, entry, outcome, ended_at, opener, number)
    return TransactionState(
        terms,
        state.opened_at,
        finished,
        due,
        state.messages + entry,
        outcome,
        ended_at,
        state.opener,
        number,
    )


def expired(state: TransactionState, at: int) -> TransactionState:
    """The state after the deadline was seen to have passed at ``at`` (ms) (rule 5); those due stay named."""
    return state._replace(outcome="TIMED_OUT", ended_at=at)


def wakes_at(state: TransactionState, remembered: int) -> int:
    """When time alone next changes this transaction, in ms: the first moment after its deadline, or, once it has ended,
    the first at which it may be forgotten: ``remembered`` ms after its end, and no sooner than its opening can no longer
    be replayed.
    """
    if state.ended_at is None:
        return state.terms.deadline + 1
    return max(state.terms.open_until, state.ended_at + remembered) + 1
