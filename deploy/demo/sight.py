"""What can be seen of a run from outside while it goes on: the monitor's figures, the blocks, the anchors; waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self

from deploy.demo.folder import DemoFolder
from firehose.core import Figures
from firehose.state import StateFile
from parley.schemas import AnchorEvent, BlockHeader, decode
from parley.workflows.settlement.steps import KIND
from streams.catalogue import ANCHORS, BLOCKS
from streams.connection import KafkaConnection
from streams.reader import Follower

__all__ = ["Observer", "Sight"]


class Sight(NamedTuple):
    """How far everything is."""

    figures: Figures
    """As the regulator's monitor saved them last."""
    blocks: int
    sealed: int
    """Transactions in those blocks."""
    anchors: int
    """Checkpoints final on the chain."""
    anchored: int
    """Blocks that the newest of them covers."""

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Trades that have ended, by outcome."""
        return self.figures.kinds.get(KIND, {})

    @property
    def trades(self) -> int:
        """Trades that have ended."""
        return sum(self.outcomes.values())

    @property
    def ended(self) -> int:
        """Transactions that have ended: trades, and the banks' channels."""
        return sum(self.figures.outcomes.values())


class Observer:
    """Looks at the topics and at the monitor's file; use it as a context manager."""

    def __init__(self, folder: DemoFolder, operator: KafkaConnection) -> None:
        self._figures = StateFile(folder.figures)
        self._blocks = Follower(operator, BLOCKS, {0: 0})
        self._anchors = Follower(operator, ANCHORS, {0: 0})
        self._height = self._sealed = 0
        self._final: set[int] = set()

    def look(self, timeout: float = 0.0) -> Sight:
        """How far everything is now; waits ``timeout`` seconds for news at most."""
        for record in self._blocks.poll(timeout_s=timeout):
            header = decode(record.value() or b"", BlockHeader)
            self._height = header.height + 1
            self._sealed += header.transactions
        for record in self._anchors.poll():
            event = decode(record.value() or b"", AnchorEvent)
            if event.state == "FINAL":
                self._final.add(event.log_size)
        return Sight(
            self._figures.load().figures,
            self._height,
            self._sealed,
            len(self._final),
            max(self._final, default=0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._blocks.close()
        self._anchors.close()
