"""One run from start to verdict: starts the backbone, lets the banks trade, audits, proves; prints nothing itself."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from deploy.anvil import CHAIN_ID
from deploy.demo.auditor import Audited, AuditTask
from deploy.demo.command import Verdict, changed_copy, command_line, verify
from deploy.demo.findings import Check, Evidence, checks
from deploy.demo.folder import DemoFolder
from deploy.demo.orders import Report, read, write
from deploy.demo.reference import Ending, Institution, Trade, pairs
from deploy.demo.screen import Screen
from deploy.demo.sight import Observer
from deploy.demo.story import Story, tell
from deploy.demo.venue import AUDITOR, Pace, Venue
from deploy.errors import StartError
from deploy.folder import CHECKOUT
from deploy.process import ChildProcess
from firehose.state import StateFile
from parley.blocks import BlockStore, from_folder
from parley.errors import ProofError
from parley.keystore import Keystore
from parley.note import parse_verifier_key
from parley.reading import Reader as ContentReader
from parley.schemas import Rejection, decode
from parley.workflows.settlement.steps import KIND
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
    run = _Run(folder, institutions, trades, pace, screen)
    with run.phase("total"):
        try:
            return run.perform()
        finally:
            with run.phase("stop"), screen.step("everything stops"):
                run.venue.close()


class _Run:
    """The phases of one run, in order."""

    def __init__(
        self,
        folder: DemoFolder,
        institutions: Sequence[Institution],
        trades: Sequence[Trade],
        pace: Pace,
        screen: Screen,
    ) -> None:
        self.venue = Venue(folder, institutions, trades, pace, screen.step)
        self._folder = folder
        self._institutions = institutions
        self._banks = [each.participant for each in institutions if each.role == "bank"]
        self._trades = trades
        self._transactions = len(trades) + len(pairs(trades))
        """Trades, and the channels they are settled in."""
        self._pace = pace
        self._screen = screen
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = round(time.monotonic() - began, 2)

    def perform(self) -> Result:
        """Everything but the stopping."""
        step = self._screen.step
        with self.phase("start"):
            self.venue.start()
        with self.phase("connect"):
            self.venue.open_market()
        with Observer(self._folder, self.venue.backbone.connection(Role.OPERATOR)) as observer:
            with self.phase("trading"):
                self._trade(observer)
            with self.phase("anchoring"), step("the last block is sealed and anchored"):
                self._settle_down(observer)
        with self.phase("close"), step("banks and regulator report"):
            self.venue.close_market()
        with self.phase("audit"), step("an auditor recomputes everything and makes the proofs"):
            evidence = self._evidence(self._audit())
        with self.phase("proofs"), step("a proof is verified, and refused with one byte changed"):
            story = _story(self._folder, evidence, self.venue.regulator)
            proving = None if story is None else _prove(self._folder, story)
        return Result(
            evidence=evidence,
            checks=[*checks(evidence), _command_check(proving)],
            story=story,
            proving=proving,
            durable=self.venue.durable,
            pace=self._pace,
            seconds=self._seconds,
        )

    def _trade(self, observer: Observer) -> None:
        """Watch until every bank has reported and the monitor has seen it all, or nothing happens any more."""
        patience = _Patience(self._pace.deadline_seconds + _PATIENCE_SECONDS)
        trades, transactions = len(self._trades), self._transactions
        title = (
            f"{len(self._banks)} banks settle {trades} trades, in {transactions - trades} private channels"
        )
        messages = sum(trade.messages for trade in self._trades) + 2 * (transactions - trades)
        with self._screen.trading(title, trades, transactions, messages) as show:
            while True:
                sight = observer.look(_LOOK_SECONDS)
                show(sight)
                self.venue.check()
                reported = all(self._folder.report(bank).exists() for bank in self._banks)
                if sight.ended >= transactions and reported:
                    return
                if patience.over((sight.figures.events, sight.sealed)):
                    return

    def _settle_down(self, observer: Observer) -> None:
        """Wait until all is sealed and the newest block is final on the chain, or nothing happens any more."""
        patience = _Patience(_PATIENCE_SECONDS)
        while True:
            sight = observer.look(_LOOK_SECONDS)
            self.venue.check()
            if sight.sealed >= self._transactions and sight.anchored >= sight.blocks:
                return
            if patience.over((sight.blocks, sight.anchors)):
                return

    def _audit(self) -> Audited:
        """What the auditor's process reports."""
        folder = self._folder
        task = AuditTask(
            account=self.venue.account(AUDITOR.participant),
            store=folder.public.store,
            log_key=folder.public.verifier_key,
            rpc=self.venue.rpc,
            chain_id=CHAIN_ID,
            contract=self.venue.contract,
            proofs=folder.proofs,
            proved=KIND,
        )
        write(folder.audit_task, task)
        told = {
            "PARLEY_AUDITOR_TASK": str(folder.audit_task),
            "PARLEY_AUDITOR_REPORT": str(folder.audit_report),
        }
        process = ChildProcess.start(
            AUDITOR.participant,
            [sys.executable, "-m", "deploy.demo.auditor"],
            log=folder.stack.log_file(AUDITOR.participant),
            pid_file=folder.stack.pid_file(AUDITOR.participant),
            env=os.environ | told,
            cwd=CHECKOUT,
        )
        try:
            deadline = time.monotonic() + _AUDIT_SECONDS
            while process.exit_code is None and time.monotonic() < deadline:
                time.sleep(0.05)
            if process.exit_code is None:
                raise StartError(
                    f"The auditor was not done after {_AUDIT_SECONDS:.0f} s.\n{process.last_lines()}"
                )
            if process.exit_code != 0:
                raise StartError(process.obituary())
        finally:
            process.stop()
        return read(folder.audit_report, Audited)

    def _evidence(self, audited: Audited) -> Evidence:
        """What everybody has to say."""
        reader = Reader(self.venue.backbone.connection(Role.OPERATOR))
        rejections = [
            decode(record.value() or b"", Rejection) for record in reader.read_partition(REJECTED, 0)
        ]
        return Evidence(
            trades=self._trades,
            institutions=self._institutions,
            reports=[read(self._folder.report(bank), Report) for bank in self._banks],
            figures=StateFile(self._folder.figures).load().figures,
            rejections=Counter(rejection.reason for rejection in rejections),
            audited=audited,
        )


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


def _story(folder: DemoFolder, evidence: Evidence, regulator: str) -> Story | None:
    """The first trade that settled, from the block store, as the regulator reads it.

    ``None`` where none settled, or its block does not verify.
    """
    keystore = Keystore.open(folder.keystore(regulator), folder.keystore_password(regulator))
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
            with suppress(ProofError):  # the auditor has found it too, and says more about it
                reader = ContentReader(regulator, keystore)
                return tell(store, settled[trade.uti], evidence.audited, names, reader)
    return None


def _prove(folder: DemoFolder, story: Story) -> Proving | None:
    """What the command says of the story's proof; ``None`` if the auditor could not make one."""
    proof = folder.proofs / f"{story.transaction}.proof"
    if not proof.exists():
        return None
    changed, place = changed_copy(proof, folder.stack.run)
    key = folder.public.verifier_key
    return Proving(command_line(proof, key), verify(proof, key), place, verify(changed, key))


def _command_check(proving: Proving | None) -> Check:
    claim = "`parley verify` accepts a proof, and refuses it with one byte changed"
    if proving is None:
        return Check(
            claim, ("there is no proof to try: no trade has settled, or its proof could not be made",)
        )
    faults = []
    if not proving.verified.good:
        faults.append(f"it was refused: {proving.verified.output}")
    if proving.changed.good:
        faults.append(f"it was accepted with byte {proving.changed_byte} changed")
    return Check(claim, tuple(faults))
