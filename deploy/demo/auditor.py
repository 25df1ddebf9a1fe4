"""An auditor as a process of its own: recomputes blocks, log and anchors from public data, and makes the proofs.

All that it is given is public: the block store's files, the log's verifier key, the registrar's key, the chain's address
and the contract's, and a Kafka user that may read the firehose and the public topics. It believes none of it. It holds no key to anything that
was said, and needs none.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic_settings import BaseSettings, SettingsConfigDict

from anchor.core import TreeHead
from anchor.endpoints import Endpoints
from anchor.verify import verify_anchor, verify_contract
from deploy.demo.orders import Account, read, write
from parley.audit import AuditReport, audit
from parley.blocks import BlockStore, from_folder
from parley.errors import ParleyError
from parley.history import is_private
from parley.identifiers import transaction_text
from parley.kafka import KafkaAccess, TopicReader
from parley.lookup import Lookup, Place
from parley.merkle import CompactRange, leaf_hash
from parley.note import VerifierKey, parse_verifier_key
from parley.proof import make_proof, verify_proof
from parley.schemas import AnchorEvent, FirehoseEvent, Hash, decode

__all__ = ["AuditTask", "Audited", "FoundAnchor", "audit_all", "main"]

_RPC_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class AuditTask:
    """What an auditor is told."""

    account: Account
    store: Path
    log_key: Path
    rpc: str
    chain_id: int
    contract: str
    proofs: Path
    """Where the proof of each finished transaction's last message goes."""
    proved: str
    """The kind of transactions that are proved."""


@dataclass(frozen=True, slots=True)
class FoundAnchor:
    """A checkpoint as the chain itself shows it; hashes in hexadecimal."""

    log_size: int
    root: str
    transaction_hash: str
    block_number: int
    confirmations: int


@dataclass(frozen=True, slots=True)
class Audited:
    """What an auditor reports."""

    log_size: int
    root: str
    transactions: int
    finished: int
    timed_out: int
    messages: int
    transactions_by_kind: Mapping[str, int]
    messages_by_kind: Mapping[str, int]
    in_clear: int
    """Messages whose content anybody can read."""
    signatures: int
    directory_records: int
    firehose_events: int
    unsealed: int
    anchors: tuple[FoundAnchor, ...]
    """Those announced as final and found on the chain."""
    proofs_verified: int
    violations: tuple[str, ...]
    """Nothing in here is good."""


class AuditorSettings(BaseSettings):
    """Of the auditor's process, from the environment: ``PARLEY_AUDITOR_TASK`` and ``PARLEY_AUDITOR_REPORT``."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PARLEY_AUDITOR_")

    task: Path
    report: Path


def audit_all(task: AuditTask) -> Audited:
    """Everything that can be checked from outside.

    Raises:
        ParleyError: something could not be looked at at all.
    """
    access = KafkaAccess(
        task.account.bootstrap,
        task.account.participant,
        task.account.password_file.read_text(encoding="ascii").strip(),
    )
    log_key = parse_verifier_key(task.log_key.read_text(encoding="ascii").strip())
    registrar = bytes.fromhex(task.account.registrar)
    store = BlockStore(from_folder(task.store), log_key)
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as executor:
        report = audit(
            store,
            registrar,
            _firehose(access),
            executor=executor,
            ways=threads,
            directory=_directory(access),
        )
    violations = [str(violation) for violation in report.violations]
    anchors = list(_anchors(task, access, store, violations))
    proofs = _prove_endings(task, store, log_key, registrar, violations)
    return _audited(report, anchors, proofs, _said(store), violations)


class _Said:
    """What was said, by the kind of its transaction."""

    def __init__(self) -> None:
        self.transactions: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.in_clear = 0


def _said(store: BlockStore) -> _Said:
    said = _Said()
    for block in store.blocks():
        for sealed in block.transactions:
            events = [decode(data, FirehoseEvent) for data in sealed.events]
            spoken = [event for event in events if event.envelope is not None]
            said.transactions[sealed.record.kind] += 1
            said.messages[sealed.record.kind] += len(spoken)
            said.in_clear += sum(not is_private(event) for event in spoken)
    return said


def _audited(
    report: AuditReport, anchors: list[FoundAnchor], proofs: int, said: _Said, violations: list[str]
) -> Audited:
    return Audited(
        log_size=report.size,
        root=report.root.hex(),
        transactions=report.transactions,
        finished=report.finished,
        timed_out=report.timed_out,
        messages=report.messages,
        transactions_by_kind=dict(said.transactions),
        messages_by_kind=dict(said.messages),
        in_clear=said.in_clear,
        signatures=report.signatures,
        directory_records=report.directory_records,
        firehose_events=report.firehose_events,
        unsealed=report.unsealed,
        anchors=tuple(anchors),
        proofs_verified=proofs,
        violations=tuple(violations),
    )


def _directory(access: KafkaAccess) -> list[bytes]:
    """The directory's records as participants are served them, in order."""
    with TopicReader(access, "directory") as reader:
        return [record.value for record in reader.read_to_end()]


def _firehose(access: KafkaAccess) -> dict[int, list[bytes]]:
    """Every event of every pipeline, in order."""
    events: dict[int, list[bytes]] = defaultdict(list)
    with TopicReader(access, "firehose") as reader:
        for record in reader.read_to_end():
            events[record.partition].append(record.value)
    return events


def _anchors(
    task: AuditTask, access: KafkaAccess, store: BlockStore, violations: list[str]
) -> Iterator[FoundAnchor]:
    """The announced anchors that are final: each held against the log's own root, and looked up on the chain."""
    endpoints = Endpoints([task.rpc], task.chain_id, _RPC_SECONDS)
    verify_contract(endpoints, task.contract)
    roots = _roots(store)
    with TopicReader(access, "anchors") as reader:
        events = [decode(record.value, AnchorEvent) for record in reader.read_to_end()]
    for event in events:
        if event.state != "FINAL" or event.contract != task.contract:
            continue
        if not 0 < event.log_size <= len(roots) or roots[event.log_size - 1] != event.root:
            violations.append(f"anchors: the root anchored for size {event.log_size} is not the log's")
            continue
        try:
            found = verify_anchor(
                endpoints,
                task.contract,
                store.checkpoint.origin,
                TreeHead(event.log_size, event.root),
                block_number=event.block_number,
            )
        except ParleyError as error:
            violations.append(f"anchors: {error}")
            continue
        yield FoundAnchor(
            event.log_size,
            event.root.hex(),
            found.transaction_hash.hex(),
            found.block_number,
            found.confirmations,
        )


def _roots(store: BlockStore) -> list[Hash]:
    """The log's root at every size from 1 on."""
    tree = CompactRange()
    roots = []
    for height in range(len(store)):
        tree = tree.append(leaf_hash(store.encoded_header(height)))
        roots.append(Hash(tree.root()))
    return roots


def _prove_endings(
    task: AuditTask, store: BlockStore, log_key: VerifierKey, registrar: bytes, violations: list[str]
) -> int:
    """Write the proof of each finished trade's last message; how many of them verify as they lie on the disk."""
    lookup = Lookup(store)
    verified = 0
    for height, block in enumerate(store.blocks()):
        for index, sealed in enumerate(block.transactions):
            if sealed.record.outcome != "FINISHED" or sealed.record.kind != task.proved:
                continue
            path = task.proofs / f"{transaction_text(sealed.record.transaction_id)}.proof"
            try:
                path.write_bytes(make_proof(lookup, Place(height, index, len(sealed.events) - 1)))
                verify_proof(path.read_bytes(), log_key, registrar)
            except ParleyError as error:
                violations.append(f"proof {path.name}: {error}")
                path.unlink(missing_ok=True)
            else:
                verified += 1
    return verified


def main() -> int:
    """Audit as the environment says; 0 once the report is written, whatever it says, 1 if nothing could be audited."""
    settings = AuditorSettings()
    try:
        write(settings.report, audit_all(read(settings.task, AuditTask)))
    except (ParleyError, OSError) as error:
        print(f"auditor: {error}", file=sys.stderr)  # noqa: T201 - for whoever reads the log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
