"""Audit of a block store from public data alone: all that was sealed is recomputed and judged again.

Checked, in this order, for every block of the log:

- *log*: headers follow each other, and their tree has the checkpoint's root;
- *block*: its leaves have its root, its events their digests, its order and counts are right;
- *directory*: every record follows, and is admitted by the registrar; where the directory that participants are served is
  given too, it is the very same, version by version;
- *transaction*: every one is replayed by the rules (``parley.replay``), every signature verified;
- *cuts*: they only grow, every transaction ended within its block's, no event is in two blocks;
- *chain*: wherever two of event n, event n+1 and a cut at n are at hand, they name the same h(n);
- *purge*: every body that was purged is named, by place and digest, in an operator's statement that counts
  and stands in a later block (``parley.erasure``); nothing else is missing.

Given the firehose too (it is not part of the store), completeness is proved: whatever ended up to a cut
is in the block of that cut, as it stands on the firehose, the cut's chain hash is the firehose's, and
nothing that ended well before the newest block is in none. Without it, what is missing is only counted
(``unsealed``: events of transactions that had not ended, as far as the operator is to be believed).
Anchors on chains are checked elsewhere, against the size and root that the report states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, NamedTuple

from parley import merkle
from parley.blocks import Block, BlockStore, SealedTransaction, header_hash
from parley.coverage import ChainClaims, FollowedFirehose
from parley.directory import Directory
from parley.erasure import Statement
from parley.errors import FirehoseError, ParleyError, ProofError, WireError
from parley.firehose import chain_hash
from parley.gaps import Gaps
from parley.identifiers import transaction_text
from parley.keys import SignatureClaim, verify_batch
from parley.replay import Fault, Replay, replay
from parley.schemas import (
    ZERO_HASH,
    BlockHeader,
    Cut,
    FirehoseEvent,
    PurgedEvent,
    TransactionId,
)

__all__ = ["GRACE_MS", "AuditReport", "Auditor", "Violation", "audit"]

GRACE_MS: Final = 60_000
"""How long after its end a transaction may be in no block: more than any seal interval and clock's error."""


class Violation(NamedTuple):
    """A broken rule, with what a third party needs to see it: the block's header and the records."""

    rule: str
    """Which of the module's rules: log, block, directory, transaction, cuts, chain, purge, firehose."""
    detail: str
    height: int | None = None
    transaction_id: TransactionId | None = None
    evidence: tuple[bytes, ...] = ()
    """Encoded records; their contract stands in each."""

    def __str__(self) -> str:
        where = "" if self.height is None else f" in block {self.height}"
        of = "" if self.transaction_id is None else f", transaction {transaction_text(self.transaction_id)}"
        return f"{self.rule}{where}{of}: {self.detail}"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit looked at, and what it found. Nothing in ``violations`` is good."""

    origin: str
    size: int
    """Blocks in the log that was audited."""
    root: bytes
    """The log's root at that size (32 bytes): what anchors must show."""
    blocks: int
    transactions: int
    finished: int
    timed_out: int
    messages: int
    signatures: int
    """Verified."""
    directory_records: int
    unsealed: int
    """Events up to the last cuts that are in no block: of open transactions, if nothing was left out."""
    firehose_events: int
    """Events of the firehose that the blocks were compared with."""
    purged: int
    """Bodies that are no longer in the blocks."""
    purges_due: int
    """Bodies that statements name and that are still there."""
    purges: tuple[tuple[Statement, int], ...]
    """Every statement that counts, and how many bodies are gone on its account."""
    violations: tuple[Violation, ...]

    @property
    def good(self) -> bool:
        """Whether no rule is broken."""
        return not self.violations


class Auditor:
    """Takes one block after the other, and keeps what later blocks must agree with."""

    def __init__(
        self,
        registrar: bytes,
        firehose: Mapping[int, Iterable[bytes]] | None = None,
        executor: Executor | None = None,
        ways: int = 1,
        directory: Iterable[bytes] | None = None,
    ) -> None:
        """Begin before the first block.

        Args:
            registrar: the registrar's public key (32 bytes), the root of all names.
            firehose: each pipeline's encoded events from the first on, read no further than the blocks reach.
            directory: the directory's encoded records from the first on, as participants are served them, read no further.
            executor: verifies signatures.
            ways: in how many of its threads.

        """
        self.violations: list[Violation] = []
        self.blocks = self.transactions = self.finished = self.timed_out = self.messages = 0
        self.signatures = self.directory_records = 0
        self.tree = merkle.CompactRange()
        self._directory = Directory(registrar)
        self._served = None if directory is None else iter(directory)
        self._header: BlockHeader | None = None
        self._encoded_header = b""
        self._chains: dict[int, ChainClaims] = {}
        self._open_until: dict[tuple[int, TransactionId], int] = {}
        self._latest: dict[int, int] = {}
        self._prune_at = 100_000
        self.gaps = Gaps()
        self._firehose = (
            None
            if firehose is None
            else {
                pipeline: FollowedFirehose(pipeline, iter(records)) for pipeline, records in firehose.items()
            }
        )
        self._executor = executor
        self._ways = ways

    @property
    def unsealed(self) -> int:
        """Events up to the last cuts that are in no block."""
        if self._header is None:
            return 0
        held = {pipeline: chain.complete + len(chain.sealed) for pipeline, chain in self._chains.items()}
        return sum(cut.sequence + 1 - held.get(cut.pipeline, 0) for cut in self._header.cuts)

    @property
    def firehose_events(self) -> int:
        """Events of the firehose that were read."""
        return sum(firehose.events for firehose in (self._firehose or {}).values())

    def finish(self, grace: int = GRACE_MS) -> None:
        """After the last block: look for what ended on the firehose and should have been in a block by then, and for
        bodies that are missing without a statement.

        ``grace`` is how much older than the newest block it must be, in ms.
        """
        if self._header is None:
            return
        for gap, fault in self.gaps.faults():
            pipeline, listed = gap.event
            detail = f"event {listed.sequence} of pipeline {pipeline} {fault}"
            self._found("purge", detail, gap.height, *gap.evidence, transaction=gap.transaction_id)
        for pipeline, firehose in (self._firehose or {}).items():
            try:
                overdue = firehose.overdue(self._header.sealed_at - grace)
            except (FirehoseError, WireError) as error:
                self._found("firehose", str(error), None, self._encoded_header)
                continue
            if overdue:
                self._found(
                    "firehose",
                    f"transactions that ended at events {overdue} of pipeline {pipeline} are in no block yet,"
                    f" though the newest was sealed more than {grace} ms later",
                    None,
                    self._encoded_header,
                )

    def take(self, block: Block) -> None:
        """Audit the next block; its leaves are those of its header (``parley.blocks`` has seen to it)."""
        before, header = self._header, block.header
        self.take_header(block.encoded_header, header)
        self._take_entries(block)
        self._take_transactions(block, before)
        self._take_cuts(block, before)
        self.blocks += 1

    def take_header(self, encoded: bytes, header: BlockHeader) -> None:
        """Audit a header alone; that is all that can be done for a block whose file is missing or broken."""
        before = self._header
        expected = (
            (0, ZERO_HASH) if before is None else (before.height + 1, header_hash(self._encoded_header))
        )
        if (header.height, header.previous) != expected:
            self._found("log", "the header does not follow the one before it", header.height, encoded)
        if before is not None and header.sealed_at < before.sealed_at:
            self._found("log", "the header was sealed before the one before it", header.height, encoded)
        self.tree = self.tree.append(merkle.leaf_hash(encoded))
        self._header, self._encoded_header = header, encoded

    def _take_entries(self, block: Block) -> None:
        header = block.header
        for entry in block.entries:
            self.directory_records += 1
            try:
                self._directory.apply(entry.leaf)
            except ParleyError as error:
                self._found("directory", str(error), header.height, block.encoded_header, entry.leaf)
            if self._served is not None and (served := next(self._served, b"")) != entry.leaf:
                self._found(
                    "directory",
                    f"version {self.directory_records} is sealed as another record than participants are served"
                    if served
                    else f"version {self.directory_records} is sealed, and not served to participants",
                    header.height,
                    block.encoded_header,
                    entry.leaf,
                    served,
                )
        if (header.directory_version, header.directory_chain) != (
            self._directory.version,
            self._directory.chain,
        ):
            self._found(
                "directory",
                f"the header covers version {header.directory_version}, its records lead to"
                f" {self._directory.version}",
                header.height,
                block.encoded_header,
            )

    def _take_transactions(self, block: Block, before: BlockHeader | None) -> None:
        places = [(sealed.record.pipeline, sealed.ending_sequence) for sealed in block.transactions]
        if places != sorted(places):
            self._found(
                "block", "its transactions are out of order", block.header.height, block.encoded_header
            )
        claims: list[SignatureClaim] = []
        owners: list[tuple[SealedTransaction, int]] = []
        for sealed in block.transactions:
            done = replay(sealed, self._directory)
            for fault in done.faults:
                self._fault(block, sealed, fault)
            for index, claim in done.claims:
                claims.append(claim)
                owners.append((sealed, index))
            self._take_places(block, sealed, done.events, before)
            self._take_opening(block, sealed, done)
            self.gaps.take(block, sealed, self._directory)
            self.transactions += 1
            self.finished += sealed.record.outcome == "FINISHED"
            self.timed_out += sealed.record.outcome == "TIMED_OUT"
        self.messages += block.header.messages
        verdicts = verify_batch(claims, self._executor, self._ways)
        self.signatures += sum(verdicts)
        for (sealed, index), valid in zip(owners, verdicts, strict=True):
            if not valid:
                self._fault(block, sealed, Fault(index, "has a signature that does not verify"))

    def _take_places(
        self,
        block: Block,
        sealed: SealedTransaction,
        events: Sequence[FirehoseEvent | PurgedEvent],
        before: BlockHeader | None,
    ) -> None:
        pipeline, ending = sealed.record.pipeline, sealed.ending_sequence
        if not _cut_at(before, pipeline).sequence < ending <= _cut_at(block.header, pipeline).sequence:
            self._fault(block, sealed, Fault(None, "did not end within what its block covers"), "cuts")
        chain = self._chains.setdefault(pipeline, ChainClaims())
        for index, (event, listed) in enumerate(zip(events, sealed.record.events, strict=False)):
            if not chain.seal(event.sequence):
                self._fault(block, sealed, Fault(index, "is in a block already"), "cuts")
            agree = chain.agree(event.sequence - 1, event.chain, by_event=True)
            after = chain_hash(event.chain, listed.digest)
            if not chain.agree(event.sequence, after, by_event=True) or not agree:
                self._fault(
                    block, sealed, Fault(index, "commits to another history than its neighbours"), "chain"
                )
            if isinstance(event, FirehoseEvent) and event.directory_version > block.header.directory_version:
                self._fault(block, sealed, Fault(index, "was judged by a later directory than its block has"))

    def _take_opening(self, block: Block, sealed: SealedTransaction, done: Replay) -> None:
        """A transaction is opened once: while its opening counts, no other may have its id and pipeline."""
        if done.state is None:
            return
        place = (sealed.record.pipeline, sealed.record.transaction_id)
        if place in self._open_until:
            self._fault(block, sealed, Fault(None, "was in a block before: it was opened twice"))
        self._open_until[place] = done.state.terms.open_until
        self._latest[place[0]] = max(self._latest.get(place[0], 0), sealed.record.ended_at)
        if len(self._open_until) > self._prune_at:
            self._open_until = {
                key: until for key, until in self._open_until.items() if until >= self._latest[key[0]]
            }
            self._prune_at = 2 * len(self._open_until) + 100_000

    def _take_cuts(self, block: Block, before: BlockHeader | None) -> None:
        header = block.header
        if [cut.pipeline for cut in header.cuts] != sorted({cut.pipeline for cut in header.cuts}):
            self._found(
                "cuts",
                "its cuts are not one for each pipeline, in order",
                header.height,
                block.encoded_header,
            )
        for cut in () if before is None else before.cuts:
            if _cut_at(header, cut.pipeline).sequence < cut.sequence:
                self._found(
                    "cuts",
                    f"the cut of pipeline {cut.pipeline} went back",
                    header.height,
                    block.encoded_header,
                )
        for cut in header.cuts:
            chain = self._chains.setdefault(cut.pipeline, ChainClaims())
            if not chain.agree(cut.sequence, cut.chain, by_event=False):
                self._found(
                    "chain",
                    f"the cut of pipeline {cut.pipeline} at event {cut.sequence} is not on the history"
                    " of its events",
                    header.height,
                    block.encoded_header,
                )
            if self._firehose is not None:
                self._compare(block, cut)

    def _compare(self, block: Block, cut: Cut) -> None:
        """Hold what a block has of one pipeline against the firehose."""
        height, header = block.header.height, block.encoded_header
        firehose = (self._firehose or {}).get(cut.pipeline)
        try:
            chain = None if firehose is None else firehose.follow_to(cut.sequence)
        except (FirehoseError, WireError) as error:
            self._found("firehose", str(error), height, header)
            return
        if firehose is None or chain != cut.chain:
            self._found(
                "firehose",
                f"the cut of pipeline {cut.pipeline} at event {cut.sequence} is not the firehose's, or"
                " beyond its end",
                height,
                header,
            )
            return
        sealed = [one for one in block.transactions if one.record.pipeline == cut.pipeline]
        ended = firehose.endings_to(cut.sequence)
        if missing := sorted(set(ended) - {one.ending_sequence for one in sealed}):
            self._found(
                "firehose",
                f"transactions that ended at events {missing} of pipeline {cut.pipeline} are not in the block",
                height,
                header,
            )
        for one in sealed:
            if not all([firehose.has(*listed) for listed in one.record.events]):  # noqa: C419 - each is asked
                self._fault(block, one, Fault(None, "is not what stands on the firehose"), "firehose")

    def _fault(
        self, block: Block, sealed: SealedTransaction, fault: Fault, rule: str = "transaction"
    ) -> None:
        detail, evidence = fault.detail, [block.encoded_header, sealed.leaf]
        if fault.event is not None:
            detail = f"event {fault.event} {fault.detail}"
            evidence.append(sealed.events[fault.event])
        self._found(rule, detail, block.header.height, *evidence, transaction=sealed.record.transaction_id)

    def _found(
        self,
        rule: str,
        detail: str,
        height: int | None,
        *evidence: bytes,
        transaction: TransactionId | None = None,
    ) -> None:
        self.violations.append(Violation(rule, detail, height, transaction, evidence))


def audit(
    store: BlockStore,
    registrar: bytes,
    firehose: Mapping[int, Iterable[bytes]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
    ways: int = 1,
    directory: Iterable[bytes] | None = None,
) -> AuditReport:
    """Audit all of a store, at the checkpoint it was opened at; nothing that is wrong with it raises.

    ``progress`` is told how many blocks of how many are done. The rest is as :class:`Auditor` has it.
    """
    auditor = Auditor(registrar, firehose, executor, ways, directory)
    size = len(store)
    for height in range(size):
        try:
            encoded, header = store.encoded_header(height), store.header(height)
        except ProofError as error:
            auditor.violations.append(Violation("log", str(error), height, None, (store.note,)))
            break
        try:
            block = store.block(height)
        except ProofError as error:
            auditor.take_header(encoded, header)
            auditor.violations.append(Violation("block", str(error), height, None, (encoded,)))
        else:
            auditor.take(block)
        if progress is not None:
            progress(height + 1, size)
    else:
        auditor.finish()
        if auditor.tree.root() != store.checkpoint.root:
            auditor.violations.append(
                Violation("log", "the headers do not have the checkpoint's root", None, None, (store.note,))
            )
    return AuditReport(
        origin=store.checkpoint.origin,
        size=size,
        root=store.checkpoint.root,
        blocks=auditor.blocks,
        transactions=auditor.transactions,
        finished=auditor.finished,
        timed_out=auditor.timed_out,
        messages=auditor.messages,
        signatures=auditor.signatures,
        directory_records=auditor.directory_records,
        unsealed=auditor.unsealed,
        firehose_events=auditor.firehose_events,
        purged=len(auditor.gaps),
        purges_due=auditor.gaps.due,
        purges=auditor.gaps.purges,
        violations=tuple(auditor.violations),
    )


_NOTHING = Cut(-1, -1, ZERO_HASH)


def _cut_at(header: BlockHeader | None, pipeline: int) -> Cut:
    """Up to where a header covers a pipeline."""
    cuts = () if header is None else header.cuts
    return next((cut for cut in cuts if cut.pipeline == pipeline), _NOTHING)
