"""What a monitor learns from the firehose: figures by kind, instrument and outcome, and what waits on whom.

All is pure but for the keys its reader learns. Events come already followed, so in order and without gap. An opening that names
an instrument counts under it, and a finished transaction's outcome is what its last message says (`firehose.contents`), else
``finished``; one that timed out is ``timed_out``. What is private counts as far as a reader's keys open it. What cannot be read is
counted and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from firehose.contents import NO_TRADE, SETTLED, Traded, outcome_of, traded
from parley.errors import VerificationError
from parley.events import Spoken, read_spoken
from parley.identifiers import is_sealed_address
from parley.lifecycle import step
from parley.reading import Reader
from parley.schemas import FirehoseEvent, Message, TransactionId, TransactionState

__all__ = ["Figures", "Held", "Instrument", "Open", "observe", "waiting"]

TIMED_OUT = "timed_out"
OTHER = "other"
HIDDEN = "hidden"
"""Whoever was due by a sealed address: each is another one, so they are counted together."""
MAXIMUM_LABELS = 10_000
"""Different kinds, instruments, or participants that are told apart; what comes after counts as ``other``."""

Counts = Mapping[str, int]


class _Read(NamedTuple):
    """A message as far as it can be read; where it cannot, nothing."""

    content_type: str
    content: bytes


_NOTHING = _Read("", b"")


class Open(NamedTuple):
    """What must be remembered of a transaction until it ends."""

    state: TransactionState
    """Where it stands, without its messages."""
    since: int
    """When the message was appended that made those due who are; ms since the Unix epoch."""
    trade: Traded


@dataclass(frozen=True, slots=True)
class Instrument:
    """One ISIN: transactions by outcome, and what settled by currency."""

    outcomes: Counts = field(default_factory=dict)
    settled: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything counted so far; ``opened`` less all of ``outcomes`` are ``open``."""

    events: int = 0
    messages: int = 0
    opened: int = 0
    unreadable: int = 0
    """Events that carry no message of their transaction: the router should not have let them through."""
    private: int = 0
    """Messages whose content is encrypted."""
    unread: Counts = field(default_factory=dict)
    """Those of them that no key at hand opens, by the kind of their transactions."""
    outcomes: Counts = field(default_factory=dict)
    waiting_on: Counts = field(default_factory=dict)
    """Timed-out transactions by the participants who were due."""
    kinds: Mapping[str, Counts] = field(default_factory=dict)
    """Transactions by kind and outcome."""
    instruments: Mapping[str, Instrument] = field(default_factory=dict)
    open: Mapping[TransactionId, Open] = field(default_factory=dict)


class Held(NamedTuple):
    """Open transactions that wait on one participant; times in ms since the Unix epoch."""

    transactions: int
    since: int
    """When the message was appended that made it due in that which has waited longest."""
    until: int
    """The deadline that comes first."""


def waiting(figures: Figures) -> dict[str, Held]:
    """What waits on whom; a transaction in which several are due counts under each."""
    held: dict[str, Held] = {}
    for state, since, _ in figures.open.values():
        until = state.terms.deadline
        for name in {_shown(name) for name in state.due}:
            label = _label(held, name)
            before = held.get(label, Held(0, since, until))
            held[label] = Held(before.transactions + 1, min(before.since, since), min(before.until, until))
    return held


def observe(figures: Figures, events: Iterable[FirehoseEvent], reader: Reader | None = None) -> Figures:
    """The figures after these events too; costs a copy of the open transactions, so give it a batch.

    What is private is read by the keys of ``reader``, which learns those that the events grant it.
    """
    tally = _Tally(figures, reader)
    for event in events:
        tally.count(event)
    return tally.figures()


class _Tally:
    """Figures on their way from one value to the next."""

    def __init__(self, figures: Figures, reader: Reader | None) -> None:
        self._before = figures
        self._reader = reader
        self._events, self._messages = figures.events, figures.messages
        self._opened, self._unreadable = figures.opened, figures.unreadable
        self._private, self._unread = figures.private, dict(figures.unread)
        self._outcomes, self._waiting_on = dict(figures.outcomes), dict(figures.waiting_on)
        self._kinds = dict(figures.kinds)
        self._instruments = dict(figures.instruments)
        self._open = dict(figures.open)

    def figures(self) -> Figures:
        return replace(
            self._before,
            events=self._events,
            messages=self._messages,
            opened=self._opened,
            unreadable=self._unreadable,
            private=self._private,
            unread=self._unread,
            outcomes=self._outcomes,
            waiting_on=self._waiting_on,
            kinds=self._kinds,
            instruments=self._instruments,
            open=self._open,
        )

    def count(self, event: FirehoseEvent) -> None:
        self._events += 1
        try:
            spoken = read_spoken(event)
        except VerificationError:
            self._unreadable += 1
            spoken = None
        read = _NOTHING
        if spoken is not None:
            self._messages += 1
            read = self._read(spoken)
            self._go_on(event, spoken.message, read)
        if event.ended is not None:
            if self._reader is not None:
                self._reader.ended(event.transaction_id)
            opened = self._open.pop(event.transaction_id, None)
            trade = NO_TRADE if opened is None else opened.trade
            kind = event.ended.kind
            if event.ended.outcome == "TIMED_OUT":
                self._end(kind, trade, TIMED_OUT)
                for participant in event.ended.waiting_on:
                    _add(self._waiting_on, _shown(participant))
            else:
                self._end(kind, trade, outcome_of(*read))

    def _go_on(self, event: FirehoseEvent, message: Message, read: _Read) -> None:
        """Note who is due now, in a transaction that this opens or that was."""
        if message.terms is not None:
            self._opened += 1
            finished, due, _ = step(None, message)
            state = TransactionState(message.terms, event.at, finished, due, b"", None, None)
            self._open[message.transaction_id] = Open(state, event.at, traded(*read))
        elif (opened := self._open.get(message.transaction_id)) is not None:
            finished, due, _ = step(opened.state, message)
            state = opened.state._replace(finished=finished, due=due)
            self._open[message.transaction_id] = opened._replace(state=state, since=event.at)

    def _read(self, spoken: Spoken) -> _Read:
        message = spoken.message
        content: bytes | None = message.content
        if message.encryption is not None:
            self._private += 1
            content = None if self._reader is None else self._reader.read(message, spoken.message_id).content
        if content is None:
            _add(self._unread, self._kind(message))
            return _NOTHING
        return _Read(message.content_type, content)

    def _kind(self, message: Message) -> str:
        if message.terms is not None:
            return message.terms.kind
        opened = self._open.get(message.transaction_id)
        return OTHER if opened is None else opened.state.terms.kind

    def _end(self, kind: str, trade: Traded, outcome: str) -> None:
        _add(self._outcomes, outcome)
        kind = _label(self._kinds, kind)
        self._kinds[kind] = _plus(self._kinds.get(kind, {}), outcome)
        if trade.isin is None:
            return
        isin = _label(self._instruments, trade.isin)
        before = self._instruments.get(isin, Instrument())
        settled = before.settled
        if outcome == SETTLED and trade.currency is not None and trade.amount is not None:
            total = settled.get(trade.currency, Decimal(0)) + trade.amount
            settled = {**settled, trade.currency: total}
        self._instruments[isin] = Instrument(_plus(before.outcomes, outcome), settled)


def _shown(participant: str) -> str:
    return HIDDEN if is_sealed_address(participant) else participant


def _label(table: Mapping[str, object], label: str) -> str:
    return label if label in table or len(table) < MAXIMUM_LABELS else OTHER


def _add(counts: dict[str, int], label: str) -> None:
    label = _label(counts, label)
    counts[label] = counts.get(label, 0) + 1


def _plus(counts: Counts, label: str) -> Counts:
    label = _label(counts, label)
    return {**counts, label: counts.get(label, 0) + 1}
