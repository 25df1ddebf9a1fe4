"""An operator that gives receipts and keeps what it promises, or lies: firehose, receipts and blocks made of the real parts.

A lie about the firehose is a second ledger in which the same things happened but for the lie; one about the blocks is told
while they are sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from blockbuilder.core import cursor_of, seal_block
from parley import lifecycle
from parley.blocks import (
    CHECKPOINT_PATH,
    Block,
    BlockStore,
    SealedTransaction,
    block_path,
    encode_block,
)
from parley.checkpoint import Checkpoint, sign_checkpoint
from parley.firehose import chain_hash, event_digest
from parley.receipts import PendingReceipt, issue_receipts
from parley.schemas import (
    ZERO_HASH,
    EventReference,
    FirehoseEvent,
    Receipt,
    TransactionRecord,
    decode,
    encode,
)
from parley.tiles import grow
from tests.fix_ledger import LOG, SealedLedger
from tests.synthetic_ledger import Deal, signing_key

ROUTER = signing_key("router")
GRACE = 60_000
REGISTRAR = signing_key("registrar").public

Sealing = Callable[[SealedTransaction], SealedTransaction | None]
"""What a transaction becomes in its block; ``None`` leaves it out."""


class Operator(SealedLedger):
    """A sealed ledger whose router gives receipts, by a key that the directory lists.

    Its block store is in memory (``files`` by path) unless it is given a folder.
    """

    def __init__(self, folder: Path | None = None, *, begun: bool = True) -> None:
        """``begun``: the directory stands in a block already."""
        super().__init__(Path() if folder is None else folder)
        self.files: dict[str, bytes] | None = {} if folder is None else None
        self.ledger.admit("operator", "OPERATOR", (ROUTER, signing_key("operator")))
        if begun:
            self.seal()

    def write(self, block: Block) -> None:
        if self.files is None:
            super().write(block)
            return
        growth = grow(self.edge, [block.encoded_header])
        checkpoint = Checkpoint(LOG.name, growth.edge.size, growth.edge.root())
        self.files[block_path(block.header.height)] = encode_block(block)
        self.files |= growth.files
        self.files[CHECKPOINT_PATH] = sign_checkpoint(checkpoint, LOG)
        self.edge = growth.edge
        self.headers.append(block.encoded_header)

    def store(self) -> BlockStore:
        return super().store() if self.files is None else BlockStore(self._fetch, LOG.verifier_key)

    def _fetch(self, path: str) -> bytes:
        assert self.files is not None
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def receipts(self, deal: Deal) -> list[Receipt]:
        """The receipts of all that was said in a deal, as one commit gives them."""
        assert deal.state is not None
        events = self.ledger.firehose[deal.pipeline]
        pending = [
            PendingReceipt(said.message_id, said.digest, events[said.sequence], deal.terms.deadline + GRACE)
            for said in lifecycle.accepted_messages(deal.state)
        ]
        return issue_receipts(pending, ROUTER)

    def seal_otherwise(self, sealing: Sealing) -> None:
        """Seal all that has ended, each transaction as ``sealing`` says."""
        self.follow()
        while block := self.assembly.next_block(self.headers[-1] if self.headers else None, self.ledger.now):
            directory = (block.header.directory_version, block.header.directory_chain)
            self.write(
                seal_block(
                    [other for one in block.transactions if (other := sealing(one)) is not None],
                    block.entries,
                    self.headers[-1],
                    cursor_of(block.header),
                    directory,
                    self.ledger.now,
                )
            )
            self.assembly.sealed(block)

    def pass_promises(self, pipeline: int = 1) -> None:
        """Let two hours go by, and seal something then, so that the log has a block after every promised time."""
        self.ledger.now += 2 * 3_600_000
        self.ledger.open(pipeline, ("bank-2", "bank-1")).say("bank-1", "FINISH")
        self.seal()

    def publish(self, firehose: Sequence[Sequence[bytes]], rounds: int, sealing: Sealing) -> None:
        """Take over a firehose in so many rounds, and seal after each."""
        for number in range(1, rounds + 1):
            for pipeline, events in zip(self.ledger.pipelines, firehose, strict=True):
                pipeline.events = list(events[: len(events) * number // rounds])
                if pipeline.events:
                    last = decode(pipeline.events[-1], FirehoseEvent)
                    pipeline.chain = chain_hash(last.chain, event_digest(pipeline.events[-1]))
                    self.ledger.now = max(self.ledger.now, last.at)
            self.seal_otherwise(sealing)


def honestly(sealed: SealedTransaction) -> SealedTransaction:
    """Sealing as it should be."""
    return sealed


def rewritten(
    events: Sequence[bytes], change: Callable[[list[FirehoseEvent]], list[FirehoseEvent]]
) -> list[bytes]:
    """A pipeline's events changed, and chained anew, as an operator can who has nobody's keys but its own."""
    made: dict[int, EventReference] = {}
    chain, out = ZERO_HASH, []
    for sequence, event in enumerate(change([decode(data, FirehoseEvent) for data in events])):
        ended = event.ended
        if ended is not None:
            listed = (made.get(each.sequence) for each in ended.events)
            ended = ended._replace(events=tuple(each for each in listed if each is not None))
        data = encode(event._replace(sequence=sequence, chain=chain, ended=ended))
        digest = event_digest(data)
        made[event.sequence] = EventReference(sequence, digest)
        chain = chain_hash(chain, digest)
        out.append(data)
    return out


def without(receipt: Receipt) -> Sealing:
    """Sealing that strikes a receipt's event from the record of its transaction."""

    def strike(sealed: SealedTransaction) -> SealedTransaction:
        kept = [
            place
            for place, listed in enumerate(sealed.record.events)
            if listed.digest != receipt.event_digest
        ]
        record: TransactionRecord = sealed.record._replace(
            events=tuple(sealed.record.events[place] for place in kept)
        )
        return SealedTransaction(record, encode(record), tuple(sealed.events[place] for place in kept))

    return strike


def leaving_out(deal: Deal) -> Sealing:
    """Sealing that leaves a deal out."""
    return lambda sealed: None if sealed.record.transaction_id == deal.id else sealed
