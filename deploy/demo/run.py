"""One run from start to verdict: starts the backbone, lets the banks trade, audits, proves; prints nothing itself."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from deploy.anvil import CHAIN_ID
from deploy.demo.auditor import Audited, AuditTask
from deploy.demo.command import Verdict, changed_copy, command_line, verify
from deploy.demo.findings import Check, Evidence, checks
from deploy.demo.folder import DemoFolder
from deploy.demo.orders import Report, read, write
from deploy.demo.reference import Ending, Institution, Trade
from deploy.demo.screen import Screen
from deploy.demo.sight import Observer, Sight
from deploy.demo.story import Story, tell
from deploy.demo.venue import AUDITOR, Pace, Venue
from deploy.errors import StartError
from deploy.folder import CHECKOUT
from deploy.process import ChildProcess
from firehose.state import StateFile
from parley.blocks import BlockStore, from_folder
from parley.errors import ProofError
from parley.note import parse_verifier_key
from parley.schemas import Rejection, decode
from streams.catalogue import REJECTED, Role
from streams.reader import Reader

__all__ = ["Proving", "Result", "perform"]

_LOOK_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 45.0
"""Without any progress, beyond a trade's deadline."""
_AUDIT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Proving:
    """What ``parley verify`` said of one proof, and of the same proof with one byte changed."""

    command: str
    """As it can be typed again."""
    verified: Verdict
    changed_byte: int
    changed: Verdict


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that came of a run."""

    evidence: Evidence
    checks: Sequence[Check]
    sight: Sight
    story: Story | None
    proving: Proving | None
    durable: bool
    """Whether the record was flushed to disk before each acknowledgement."""
    pace: Pace
    seconds: Mapping[str, float]
    """By phase; complete once everything has stopped."""

    @property
    def good(self) -> bool:
        """Whether all was as it had to be."""
        return all(check.good for check in self.checks)


@dataclass(slots=True)
class _Clock:
    """Times the phases, and shows them as steps."""

    screen: Screen
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 2)


def perform(
    folder: DemoFolder,
    institutions: Sequence[Institution],
    trades: Sequence[Trade],
    pace: Pace,
    screen: Screen,
) -> Result:
    """Run all of it in a folder that is ours; nothing is left running whatever happens.

    Raises:
        ParleyError: something could not be run at all; the message says what to do.
    """
    clock = _Clock(screen)
    venue = Venue(folder, institutions, trades, pace, screen.step)
    with clock.phase("total"):
        try:
            with clock.phase("start"):
                venue.start()
            return _perform(venue, folder, institutions, trades, pace, clock)
        finally:
            with clock.phase("stop"), screen.step("everything stops"):
                venue.close()


def _perform(
    venue: Venue,
    folder: DemoFolder,
    institutions: Sequence[Institution],
    trades: Sequence[Trade],
    pace: Pace,
    clock: _Clock,
) -> Result:
    screen = clock.screen
    banks = [each.participant for each in institutions if each.role == "bank"]
    with clock.phase("connect"):
        venue.open_market()
    operator = venue.backbone.connection(Role.OPERATOR)
    with Observer(folder, operator) as observer:
        with clock.phase("trading"):
            _trade(venue, folder, observer, trades, banks, pace, screen)
        with clock.phase("anchoring"), screen.step("the last block is sealed and anchored"):
            sight = _settle_down(venue, observer, len(trades))
        with clock.phase("close"), screen.step("banks and regulator report"):
            venue.close_market()
    with clock.phase("audit"), screen.step("an auditor recomputes everything and makes the proofs"):
        audited = _audit(venue, folder)
    evidence = Evidence(
        trades=trades,
        institutions=institutions,
        reports=[read(folder.report(bank), Report) for bank in banks],
        figures=StateFile(folder.figures).load().figures,
        rejections=_rejections(venue),
        audited=audited,
    )
    with clock.phase("proofs"), screen.step("a proof is verified, and refused with one byte changed"):
        story = _story(folder, evidence)
        proving = None if story is None else _prove(folder, story)
    return Result(
        evidence=evidence,
        checks=[*checks(evidence), _command_check(proving)],
        sight=sight,
        story=story,
        proving=proving,
        durable=venue.durable,
        pace=pace,
        seconds=clock.seconds,
    )


def _trade(
    venue: Venue,
    folder: DemoFolder,
    observer: Observer,
    trades: Sequence[Trade],
    banks: Sequence[str],
    pace: Pace,
    screen: Screen,
) -> None:
    """Watch until every bank has reported and the monitor has seen it all, or nothing happens any more."""
    patience = _Patience(pace.deadline_seconds + _PATIENCE_SECONDS)
    title = f"{len(banks)} banks settle {len(trades)} trades"
    with screen.trading(title, len(trades), sum(trade.messages for trade in trades)) as show:
        while True:
            sight = observer.look(_LOOK_SECONDS)
            show(sight)
            venue.check()
            if sight.ended >= len(trades) and all(folder.report(bank).exists() for bank in banks):
                return
            if patience.over((sight.figures.events, sight.sealed)):
                return


def _settle_down(venue: Venue, observer: Observer, trades: int) -> Sight:
    """Wait until all trades are sealed and the newest block is final on the chain, or nothing happens any more."""
    patience = _Patience(_PATIENCE_SECONDS)
    while True:
        sight = observer.look(_LOOK_SECONDS)
        venue.check()
        if sight.sealed >= trades and sight.anchored >= sight.blocks:
            return sight
        if patience.over((sight.blocks, sight.anchors)):
            return sight


class _Patience:
    """How long nothing has happened."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: object = None
        self._since = time.monotonic()

    def over(self, seen: object) -> bool:
        """Whether what is seen has been the same for too long."""
        now = time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since > self._seconds


def _audit(venue: Venue, folder: DemoFolder) -> Audited:
    """What the auditor's process reports."""
    task = AuditTask(
        account=venue.account(AUDITOR.participant),
        store=folder.public.store,
        log_key=folder.public.verifier_key,
        rpc=venue.rpc,
        chain_id=CHAIN_ID,
        contract=venue.contract,
        proofs=folder.proofs,
    )
    write(folder.audit_task, task)
    process = ChildProcess.start(
        "auditor",
        [sys.executable, "-m", "deploy.demo.auditor"],
        log=folder.stack.log_file("auditor"),
        pid_file=folder.stack.pid_file("auditor"),
        env=os.environ
        | {
            "PARLEY_AUDITOR_TASK": str(folder.audit_task),
            "PARLEY_AUDITOR_REPORT": str(folder.audit_report),
        },
        cwd=CHECKOUT,
    )
    try:
        deadline = time.monotonic() + _AUDIT_SECONDS
        while process.exit_code is None:
            if time.monotonic() > deadline:
                raise StartError(
                    f"the auditor was not done after {_AUDIT_SECONDS:.0f} s.\n{process.last_lines()}"
                )
            time.sleep(0.05)
        if process.exit_code != 0:
            raise StartError(process.obituary())
    finally:
        process.stop()
    return read(folder.audit_report, Audited)


def _rejections(venue: Venue) -> Mapping[str, int]:
    """Refused messages by reason, as the operator's own topic has them."""
    reader = Reader(venue.backbone.connection(Role.OPERATOR))
    records = reader.read_partition(REJECTED, 0)
    return Counter(decode(record.value() or b"", Rejection).reason for record in records)


def _story(folder: DemoFolder, evidence: Evidence) -> Story | None:
    """The first trade that settled, from the block store; ``None`` where none did."""
    log_key = parse_verifier_key(folder.public.verifier_key.read_text(encoding="ascii").strip())
    store = BlockStore(from_folder(folder.public.store), log_key)
    names = {each.participant: each.legal_name for each in evidence.institutions}
    settled = {
        report.uti: report.transaction
        for bank in evidence.reports
        for report in bank.trades
        if report.ending is Ending.SETTLED
    }
    for trade in evidence.trades:
        if trade.uti in settled:
            return tell(store, settled[trade.uti], evidence.audited, names)
    return None


def _prove(folder: DemoFolder, story: Story) -> Proving:
    proof = folder.proofs / f"{story.transaction}.proof"
    if not proof.exists():
        raise ProofError(f"{proof} was not made; see the auditor's log")
    changed, place = changed_copy(proof, folder.stack.run)
    key = folder.public.verifier_key
    return Proving(command_line(proof, key), verify(proof, key), place, verify(changed, key))


def _command_check(proving: Proving | None) -> Check:
    claim = "`parley verify` accepts a proof, and refuses it with one byte changed"
    if proving is None:
        return Check(claim, ("no trade has settled, so there is no proof to try",))
    faults = []
    if not proving.verified.good:
        faults.append(f"it was refused: {proving.verified.output}")
    if proving.changed.good:
        faults.append(f"it was accepted with byte {proving.changed_byte} changed")
    return Check(claim, tuple(faults))
