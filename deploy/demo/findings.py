"""Whether a run was good: what the banks, the regulator and the auditor say is held against the scenarios and each other; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from deploy.demo.auditor import Audited
from deploy.demo.orders import Report, Side, TradeReport
from deploy.demo.reference import EXPECTED, Ending, Institution, Scenario, Trade, pairs, ungranted
from firehose.core import Figures
from parley.grants import CHANNEL_KIND
from parley.workflows.settlement.steps import KIND

__all__ = ["Check", "Evidence", "checks", "endings", "settled_amounts"]

_SHOWN = 5
"""Trades that a check names at most."""


class Check(NamedTuple):
    """One thing that had to be so."""

    claim: str
    faults: tuple[str, ...]
    """What is wrong; nothing is good."""

    @property
    def good(self) -> bool:
        return not self.faults


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a run is judged by."""

    trades: Sequence[Trade]
    institutions: Sequence[Institution]
    reports: Sequence[Report]
    """What each bank says."""
    figures: Figures
    """What the regulator's monitor counted."""
    rejections: Mapping[str, int]
    """Refused messages on the record, by reason."""
    audited: Audited

    @property
    def channels(self) -> int:
        """How many channels there must be: each is a transaction of two messages, which open and close it."""
        return len(pairs(self.trades))

    @property
    def messages(self) -> dict[str, int]:
        """How many messages the record must have, by the kind of their transactions."""
        return {KIND: sum(trade.messages for trade in self.trades), CHANNEL_KIND: 2 * self.channels}


class _BothSides(NamedTuple):
    trade: Trade
    deliverer: TradeReport | None
    receiver: TradeReport | None


def checks(evidence: Evidence) -> list[Check]:
    """All that had to be so, in the order in which people ask."""
    both = _by_trade(evidence)
    names = {institution.lei: institution for institution in evidence.institutions}
    return [
        _check("every trade ended as its scenario says, and both its banks say so", map(_ending_fault, both)),
        _check("every timeout names the bank that was due", (_due_fault(each, names) for each in both)),
        _check(
            "what came too late, or lacked the regulator's grant, was refused with the reason, and nothing else was",
            _refusals(evidence, both),
        ),
        _check("everything in the banks' inboxes was verified", _inbox_faults(evidence.reports)),
        _check(
            "the regulator followed every event, and counts what the banks count", _regulator(evidence, both)
        ),
        _check(
            "all that was said is encrypted, and the regulator reads every trade by its grant",
            _privacy(evidence),
        ),
        _check(
            "the auditor, who can read none of it, finds no rule broken, and every trade in a block",
            _audit(evidence),
        ),
        _check("every block is anchored on the chain, and the anchor is final", _anchors(evidence.audited)),
        _check("every finished trade has a proof that verifies", _proofs(evidence)),
    ]


def endings(evidence: Evidence) -> Mapping[Ending, int]:
    """How many trades ended in each way, as their receivers say."""
    return Counter(
        each.receiver.ending
        for each in _by_trade(evidence)
        if each.receiver is not None and each.receiver.ending is not None
    )


def settled_amounts(reports: Iterable[TradeReport]) -> dict[str, Decimal]:
    """What settled among these, by currency."""
    total: dict[str, Decimal] = {}
    for report in reports:
        if report.ending is Ending.SETTLED:
            total[report.currency] = total.get(report.currency, Decimal(0)) + Decimal(
                report.settlement_amount
            )
    return total


def _check(claim: str, faults: Iterable[str | None]) -> Check:
    found = [fault for fault in faults if fault is not None]
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return Check(claim, (*found[:_SHOWN], *more))


def _by_trade(evidence: Evidence) -> list[_BothSides]:
    said = {(trade.uti, trade.side): trade for report in evidence.reports for trade in report.trades}
    return [
        _BothSides(trade, said.get((trade.uti, Side.DELIVER)), said.get((trade.uti, Side.RECEIVE)))
        for trade in evidence.trades
    ]


def _ending_fault(both: _BothSides) -> str | None:
    expected = EXPECTED[both.trade.scenario]
    told = [None if side is None else side.ending for side in (both.deliverer, both.receiver)]
    if told == [expected, expected]:
        return None
    deliverer, receiver = (ending or "open" for ending in told)
    return (
        f"{both.trade.uti} ({both.trade.scenario}): {deliverer} to the deliverer, {receiver} to the receiver"
    )


def _due_fault(both: _BothSides, names: Mapping[str, Institution]) -> str | None:
    trade = both.trade
    due = () if trade.due is None else (names[trade.due].participant,)
    for side in (both.deliverer, both.receiver):
        if side is not None and side.ending is Ending.TIMED_OUT and side.due != due:
            return f"{trade.uti}: named {', '.join(side.due) or 'nobody'}, not {', '.join(due) or 'nobody'}"
    return None


def _refusals(evidence: Evidence, both: Sequence[_BothSides]) -> Iterator[str]:
    told: Counter[str] = Counter()
    forgotten = ungranted(evidence.trades)
    for trade, deliverer, receiver in both:
        reasons = [reason for side in (deliverer, receiver) if side is not None for reason in side.refused]
        told.update(reasons)
        expected = ["DEADLINE_PASSED"] if trade.scenario is Scenario.LATE_FINISH else []
        if trade.uti == forgotten:
            expected = ["GRANT_REQUIRED"]
        if reasons != expected:
            yield f"{trade.uti} ({trade.scenario}): {', '.join(reasons) or 'nothing was refused'}"
    if dict(told) != dict(evidence.rejections):
        yield f"the banks were told {dict(told)}, and the record has {dict(evidence.rejections)}"


def _inbox_faults(reports: Sequence[Report]) -> Iterator[str]:
    return (f"{report.participant}: {reason}" for report in reports for reason in report.unverified)


def _regulator(evidence: Evidence, both: Sequence[_BothSides]) -> Iterator[str]:
    figures = evidence.figures
    messages, opened = sum(evidence.messages.values()), len(evidence.trades) + evidence.channels
    if figures.messages != messages or figures.opened != opened:
        yield f"{figures.messages} messages in {figures.opened} transactions, not {messages} in {opened}"
    if figures.unreadable or figures.open:
        yield f"{figures.unreadable} events carry no message, {len(figures.open)} transactions have not ended"
    said: dict[str, list[TradeReport]] = {}
    due: Counter[str] = Counter()
    for each in both:
        if each.receiver is not None and each.receiver.ending is not None:
            said.setdefault(each.trade.isin, []).append(each.receiver)
            due.update(each.receiver.due)
    for isin in sorted({*said, *figures.instruments}):
        ours = said.get(isin, [])
        outcomes = dict(Counter(str(report.ending) for report in ours))
        theirs = figures.instruments.get(isin)
        if theirs is None or (dict(theirs.outcomes), dict(theirs.settled)) != (
            outcomes,
            settled_amounts(ours),
        ):
            yield f"{isin}: the regulator has {theirs}, the banks {outcomes} and {settled_amounts(ours)}"
    if dict(figures.waiting_on) != dict(due):
        yield f"due were {dict(figures.waiting_on)} to the regulator, {dict(due)} to the banks"


def _privacy(evidence: Evidence) -> Iterator[str]:
    figures, audited = evidence.figures, evidence.audited
    if audited.in_clear or figures.private != figures.messages:
        yield f"{audited.in_clear} messages in blocks are in clear, {figures.private} of {figures.messages} are private"
    unread = {CHANNEL_KIND: evidence.messages[CHANNEL_KIND]}
    if dict(figures.unread) != unread:
        yield f"the regulator could not read {dict(figures.unread)}, by kind; it should not read {unread}, and all else"


def _audit(evidence: Evidence) -> Iterator[str]:
    audited = evidence.audited
    yield from (each for each in audited.violations if not each.startswith(("anchors:", "proof ")))
    transactions = {KIND: len(evidence.trades), CHANNEL_KIND: evidence.channels}
    if dict(audited.transactions_by_kind) != transactions or audited.unsealed:
        yield (
            f"in blocks are {dict(audited.transactions_by_kind)}, by kind, and not {transactions};"
            f" {audited.unsealed} events up to the last block are in none"
        )
    if dict(audited.messages_by_kind) != evidence.messages:
        yield f"in blocks are {dict(audited.messages_by_kind)} messages, by kind, and not {evidence.messages}"
    if audited.firehose_events != evidence.figures.events:
        yield f"the auditor read {audited.firehose_events} events, the regulator {evidence.figures.events}"


def _anchors(audited: Audited) -> Iterator[str]:
    yield from (each for each in audited.violations if each.startswith("anchors:"))
    newest = max((anchor.log_size for anchor in audited.anchors), default=0)
    if newest != audited.log_size:
        yield f"the newest final anchor covers {newest} of {audited.log_size} blocks"


def _proofs(evidence: Evidence) -> Iterator[str]:
    audited = evidence.audited
    yield from (each for each in audited.violations if each.startswith("proof "))
    finished = sum(EXPECTED[trade.scenario] is not Ending.TIMED_OUT for trade in evidence.trades)
    ended = audited.finished - evidence.channels
    if not audited.proofs_verified == ended == finished:
        yield f"{audited.proofs_verified} proofs for {ended} finished trades, of {finished} that should be"
