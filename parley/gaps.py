"""Bodies that are missing from blocks, held against the statements by which they went; judging is ``parley.audit``'s affair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from parley.blocks import Block, SealedTransaction, purged
from parley.directory import Directory
from parley.erasure import ERASURE_KIND, Statement, prove_statement
from parley.errors import ErasureError
from parley.schemas import EventReference, StatementPlace, TransactionId

__all__ = ["Gap", "Gaps"]


class Gap(NamedTuple):
    """A body that is missing."""

    event: tuple[int, EventReference]
    """Pipeline, and place and digest there."""
    statement: StatementPlace
    kind: str
    """Of its transaction."""
    height: int
    transaction_id: TransactionId
    evidence: tuple[bytes, ...]
    """The block's header, the transaction's record, and what stands in the event's place."""


class Gaps:
    """What is missing from the blocks taken, and what statements in them name. Blocks are taken in order."""

    def __init__(self) -> None:
        self._gaps: list[Gap] = []
        self._statements: list[Statement] = []
        self._named: dict[tuple[int, EventReference], dict[StatementPlace, int]] = {}

    def take(self, block: Block, sealed: SealedTransaction, directory: Directory) -> None:
        """Note which of a transaction's bodies are missing, and which ones it names itself, where it is an erasure.

        Raises:
            WireError: what stands in an event's place cannot be read.

        """
        record, height = sealed.record, block.header.height
        for listed, data in zip(record.events, sealed.events, strict=False):
            if (instead := purged(data)) is not None:
                evidence = (block.encoded_header, sealed.leaf, data)
                self._gaps.append(
                    Gap(
                        (record.pipeline, listed),
                        instead.statement,
                        record.kind,
                        height,
                        record.transaction_id,
                        evidence,
                    )
                )
        if record.kind == ERASURE_KIND:
            try:
                statement = prove_statement(sealed, directory)
            except ErasureError:
                return  # it names nothing: whatever is missing on its account is found to be
            self._statements.append(statement)
            for named in statement.named():
                self._named.setdefault(named, {})[statement.place] = height

    def __len__(self) -> int:
        """How many bodies are missing."""
        return len(self._gaps)

    @property
    def due(self) -> int:
        """How many bodies statements name that are still there."""
        return len(self._named.keys() - {gap.event for gap in self._gaps})

    @property
    def purges(self) -> tuple[tuple[Statement, int], ...]:
        """Every statement that counts, and how many bodies are gone on its account."""
        gone = Counter(gap.statement for gap in self._gaps)
        return tuple((statement, gone[statement.place]) for statement in self._statements)

    def faults(self) -> Iterator[tuple[Gap, str]]:
        """The bodies that are missing without a statement that names them and stands in a later block, and what is wrong."""
        for gap in self._gaps:
            stated = self._named.get(gap.event, {}).get(gap.statement)
            if gap.kind == ERASURE_KIND:
                yield gap, "belongs to a purge statement, which is never purged"
            elif stated is None:
                yield gap, "has no body, and the statement it refers to does not name it or does not count"
            elif stated <= gap.height:
                yield (
                    gap,
                    f"has no body, but its statement stands in block {stated}, which is not a later one",
                )
