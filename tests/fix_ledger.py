"""A synthetic ledger and the block store that the block builder makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockbuilder.core import Assembly, Limits
from blockbuilder.store import BlockFolder
from parley.blocks import Block, BlockStore, from_folder
from parley.checkpoint import Checkpoint
from parley.note import NoteSigner
from parley.tiles import Edge, grow
from tests.synthetic_ledger import Ledger, signing_key

LOG = NoteSigner("ledger.example/log", signing_key("log"))


class SealedLedger:
    """A ledger whose firehose is sealed into a block store on demand, without a broker."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.ledger = Ledger()
        self.folder = folder
        self.assembly = Assembly(None, limits)
        self.headers: list[bytes] = []
        self.edge = Edge()

    def follow(self) -> None:
        """Take all that is on the topics."""
        for record in self.ledger.directory_records[self.assembly.directory_version :]:
            self.assembly.follow_directory(record)
        for pipeline, events in enumerate(self.ledger.firehose):
            for offset, event in enumerate(events):
                self.assembly.follow(event, pipeline, offset)
        self.assembly.supply(
            {place: self.ledger.firehose[place.pipeline][place.sequence] for place in self.assembly.wanted()}
        )

    def seal(self) -> list[Block]:
        """Seal all that has ended."""
        self.follow()
        blocks = []
        while block := self.assembly.next_block(self.headers[-1] if self.headers else None, self.ledger.now):
            self.write(block)
            self.assembly.sealed(block)
            blocks.append(block)
        return blocks

    def write_empty(self) -> None:
        """Publish the log before its first block."""
        with BlockFolder(self.folder) as store:
            store.write_checkpoint(Checkpoint(LOG.name, 0, Edge().root()), LOG)

    def write(self, block: Block) -> None:
        """Append a block to the log, whatever it says."""
        with BlockFolder(self.folder) as store:
            if block.header.height == self.edge.size:
                store.stage(block)
                store.publish(block.header.height, block.encoded_header)
            growth = grow(self.edge, [block.encoded_header])
            store.write_tiles(growth.files)
            store.write_checkpoint(Checkpoint(LOG.name, growth.edge.size, growth.edge.root()), LOG)
        self.edge = growth.edge
        self.headers.append(block.encoded_header)

    def store(self) -> BlockStore:
        return BlockStore(from_folder(self.folder), LOG.verifier_key)


@pytest.fixture
def sealed(tmp_path: Path) -> SealedLedger:
    """A ledger with nothing sealed yet but its directory on record."""
    return SealedLedger(tmp_path / "log")


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> SealedLedger:
    """Several blocks of finished and timed out transactions on two pipelines, one of them open over many blocks."""
    made = SealedLedger(tmp_path_factory.mktemp("busy") / "log")
    ledger = made.ledger
    made.seal()
    slow = ledger.open(1)
    for number in range(5):
        for pipeline in (0, 1):
            ledger.trade(pipeline)
        if number == 2:
            ledger.admit("bank-late")
            ledger.open(0, ("bank-late", "bank-0")).say("bank-0", "FINISH")
        slow.say(("bank-1", "bank-0")[number % 2])
        made.seal()
    ledger.open(0, ("bank-0", "bank-1", "bank-2"), rule="ALL").expire()
    slow.expire()
    made.seal()
    return made
