"""One sealed transaction judged again, message by message, by the rules the router is bound to; pure.

What is checked: every event belongs to the transaction and stands where the record says; every message is
well formed, by a party, in sequence, linked, in time and signed by keys that its sender had when it was
judged; the outcome, the times and who was due are what the rules make of the messages; and a timeout came
after the deadline, not before. Where bodies were purged, the messages that are left are judged each by itself, and the
rules that need the missing ones are not applied. Whether the block is in a log, and whether anything is missing from it, is
the audit's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from parley import lifecycle
from parley.blocks import SealedTransaction, purged, sealed_event
from parley.directory import Directory
from parley.envelope import message_id
from parley.errors import DirectoryError, VerificationError, WireError
from parley.events import signature_claims
from parley.keys import SignatureClaim
from parley.schemas import (
    Ending,
    Envelope,
    FirehoseEvent,
    Message,
    MessageId,
    PurgedEvent,
    Terms,
    TransactionRecord,
    TransactionState,
    decode,
)

__all__ = ["Fault", "Replay", "replay"]


class Fault(NamedTuple):
    """What is wrong with a sealed transaction, and at which event (from 0; ``None`` for the record)."""

    event: int | None
    detail: str


class Replay(NamedTuple):
    """What came of judging a transaction again."""

    faults: list[Fault]
    claims: list[tuple[int, SignatureClaim]]
    """The signatures that remain to be verified, each with the index of its event."""
    events: list[FirehoseEvent | PurgedEvent]
    """As far as they could be read."""
    state: TransactionState | None
    """As far as it could be replayed."""


class _UnreplayableError(Exception):
    """The replay cannot go on."""


def replay(sealed: SealedTransaction, directory: Directory) -> Replay:
    """Judge a transaction again. The directory must cover the versions that its events were judged by."""
    done = Replay([], [], [], None)
    record = sealed.record
    if any(map(purged, sealed.events)):
        _judge_remains(sealed, directory, done)
        return done
    state: TransactionState | None = None
    events: list[FirehoseEvent] = []
    try:
        for index, encoded in enumerate(sealed.events):
            try:
                event = decode(encoded, FirehoseEvent)
                events.append(event)
                done.events.append(event)
                done.faults.extend(Fault(index, text) for text in _misplaced(done.events, record))
                state, ended = _judged(index, event, state, record, directory, done)
            except WireError as error:
                raise _broken(done, index, f"cannot be read: {error}") from error
            if event.ended != ended:
                done.faults.append(Fault(index, _ending_fault(event.ended, ended)))
        done.faults.extend(Fault(None, text) for text in _record_faults(record, events, state))
    except _UnreplayableError:
        pass
    return done._replace(state=state)


def _broken(done: Replay, index: int, detail: str) -> _UnreplayableError:
    done.faults.append(Fault(index, detail))
    return _UnreplayableError()


def _misplaced(events: list[FirehoseEvent | PurgedEvent], record: TransactionRecord) -> Iterator[str]:
    """What is wrong with where the last of these events stands."""
    event, listed = events[-1], record.events[len(events) - 1]
    if isinstance(event, FirehoseEvent) and (event.pipeline, event.transaction_id) != (
        record.pipeline,
        record.transaction_id,
    ):
        yield "belongs to another transaction or pipeline"
    if event.sequence != listed.sequence:
        yield f"stands at firehose sequence {event.sequence}, not at {listed.sequence} as its record says"
    if len(events) > 1:
        before = events[-2]
        if event.sequence <= before.sequence or event.at < before.at:
            yield "comes before the event before it"
        versions = [one.directory_version for one in (before, event) if isinstance(one, FirehoseEvent)]
        if versions != sorted(versions):
            yield "was judged by an older directory than the event before it"


def _judged(
    index: int,
    event: FirehoseEvent,
    state: TransactionState | None,
    record: TransactionRecord,
    directory: Directory,
    done: Replay,
) -> tuple[TransactionState, Ending | None]:
    """State and ending after an event, by the rules; faults and signatures go to ``done``."""
    if state is not None and state.outcome is not None:
        raise _broken(done, index, "comes after the transaction had ended")
    if event.envelope is None:
        if state is None:
            raise _broken(done, index, "is a timeout of a transaction that was never opened")
        if event.at <= state.terms.deadline:
            done.faults.append(
                Fault(index, f"is a timeout at {event.at}, but the deadline is {state.terms.deadline}")
            )
        ended = Ending("TIMED_OUT", state.terms.kind, state.opened_at, state.due, lifecycle.events_of(state))
        return lifecycle.expired(state, event.at), ended
    envelope = decode(event.envelope, Envelope)
    message = decode(envelope.payload, Message)
    if (message.transaction_id, message.pipeline) != (event.transaction_id, event.pipeline):
        done.faults.append(Fault(index, "carries a message of another transaction or pipeline"))
    refusal = lifecycle.well_formed(message) or lifecycle.judge(state, message, event.at)
    if refusal is not None:
        raise _broken(done, index, f"should have been refused as {refusal.reason}: {refusal.detail}")
    _collect_signatures(index, event, envelope, message, directory, done)
    change = lifecycle.step(state, message)
    listed = record.events[index]
    after = lifecycle.recorded(
        state, message, change, message_id(envelope.payload), listed.sequence, listed.digest, event.at
    )
    if change.outcome is None:
        return after, None
    earlier = () if state is None else lifecycle.events_of(state)
    return after, Ending(change.outcome, after.terms.kind, after.opened_at, (), earlier)


def _collect_signatures(
    index: int,
    event: FirehoseEvent,
    envelope: Envelope,
    message: Message,
    directory: Directory,
    done: Replay,
) -> None:
    try:
        claims = signature_claims(message, envelope, event.directory_version, directory)
    except (VerificationError, DirectoryError) as error:
        done.faults.append(Fault(index, str(error)))
    else:
        done.claims.extend((index, claim) for claim in claims)


def _ending_fault(said: Ending | None, due: Ending | None) -> str:
    if said is None:
        return "ends the transaction by the rules, but does not say so"
    if due is None:
        return "says that it ends the transaction, but by the rules it does not"
    wrong = [name for name, one, other in zip(Ending._fields, said, due, strict=True) if one != other]
    return f"ends the transaction with {', '.join(wrong)} other than the rules give"


def _record_faults(
    record: TransactionRecord, events: list[FirehoseEvent], state: TransactionState | None
) -> Iterator[str]:
    if state is None or state.outcome is None:
        yield "the transaction is in a block, but had not ended"
        return
    waiting_on = state.due if state.outcome == "TIMED_OUT" else ()
    expected = (state.terms.kind, state.outcome, state.opened_at, events[-1].at, waiting_on)
    said = (record.kind, record.outcome, record.opened_at, record.ended_at, record.waiting_on)
    names = ("kind", "outcome", "opened_at", "ended_at", "waiting_on")
    wrong = [name for name, one, other in zip(names, said, expected, strict=True) if one != other]
    if wrong:
        yield f"the record's {', '.join(wrong)} is not what the messages give"


# What is left of a transaction from which bodies were purged.


class _Known(NamedTuple):
    """What the events before tell those after."""

    terms: Terms | None = None
    previous: MessageId | None = None


def _judge_remains(sealed: SealedTransaction, directory: Directory, done: Replay) -> None:
    known = _Known()
    for index, encoded in enumerate(sealed.events):
        try:
            event = sealed_event(encoded)
            done.events.append(event)
            done.faults.extend(Fault(index, text) for text in _misplaced(done.events, sealed.record))
            done.faults.extend(Fault(index, text) for text in _place_faults(index, event, sealed.record))
            if isinstance(event, PurgedEvent):
                known = known._replace(previous=None)
            else:
                known = _judge_alone(index, event, known, sealed.record, directory, done)
        except WireError as error:
            done.faults.append(Fault(index, f"cannot be read: {error}"))
            return


def _place_faults(index: int, event: FirehoseEvent | PurgedEvent, record: TransactionRecord) -> Iterator[str]:
    last = index == len(record.events) - 1
    if (last and event.at != record.ended_at) or (index == 0 and event.at != record.opened_at):
        yield "came at another time than the record says"
    if isinstance(event, PurgedEvent) and last and record.outcome == "TIMED_OUT":
        yield "is missing, but was a timeout, which has no body to purge"


def _judge_alone(
    index: int,
    event: FirehoseEvent,
    known: _Known,
    record: TransactionRecord,
    directory: Directory,
    done: Replay,
) -> _Known:
    """Faults and signatures of one event go to ``done``."""
    last = index == len(record.events) - 1
    due = (
        Ending(record.outcome, record.kind, record.opened_at, record.waiting_on, record.events[:-1])
        if last
        else None
    )
    if event.ended != due:
        done.faults.append(Fault(index, _ending_fault(event.ended, due)))
    if event.envelope is None:
        if not last or record.outcome != "TIMED_OUT":
            done.faults.append(Fault(index, "is a timeout, which the record does not say"))
        if known.terms is not None and event.at <= known.terms.deadline:
            done.faults.append(
                Fault(index, f"is a timeout at {event.at}, but the deadline is {known.terms.deadline}")
            )
        return known
    envelope = decode(event.envelope, Envelope)
    message = decode(envelope.payload, Message)
    done.faults.extend(Fault(index, text) for text in _message_faults(index, event, message, known, record))
    _collect_signatures(index, event, envelope, message, directory, done)
    return _Known(message.terms or known.terms, message_id(envelope.payload))


def _message_faults(
    index: int,
    event: FirehoseEvent,
    message: Message,
    known: _Known,
    record: TransactionRecord,
) -> Iterator[str]:
    if (message.transaction_id, message.pipeline) != (event.transaction_id, event.pipeline):
        yield "carries a message of another transaction or pipeline"
    if refusal := lifecycle.well_formed(message):
        yield f"should have been refused as {refusal.reason}: {refusal.detail}"
    if message.sequence != index or (known.previous is not None and message.previous != known.previous):
        yield "does not link to the message before it"
    if message.terms is not None and message.terms.kind != record.kind:
        yield "opens another kind of transaction than the record says"
    terms = message.terms or known.terms
    if terms is not None and lifecycle.address_of(terms, message.sender) is None:
        yield f"is said by {message.sender}, who is not a party"
    if terms is not None and event.at > terms.deadline:
        yield "came after the deadline"
