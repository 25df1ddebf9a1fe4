"""Which block a transaction or message stands in, found in a block store; at scale a database does it faster.

Nothing outside the blocks is needed or believed. The scan goes from the newest block back and stops at
what is asked for; what it passed is remembered (some hundred bytes a transaction), so many questions cost
one scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from parley.blocks import BlockStore, SealedTransaction, sealed_event
from parley.envelope import message_id
from parley.errors import ProofError
from parley.identifiers import transaction_text
from parley.schemas import Envelope, MessageId, PurgedEvent, TransactionId, decode

__all__ = ["Lookup", "Place"]


class Place(NamedTuple):
    """Where an event stands: the block, the transaction's leaf in it, and its number in the transaction."""

    height: int
    leaf_index: int
    event_index: int


class Lookup:
    """Finds places in one store; every method raises ProofError for what is not there or does not verify, and
    WireError for a sealed event that cannot be read.
    """

    def __init__(self, store: BlockStore) -> None:
        self.store: BlockStore = store
        self._transactions: dict[TransactionId, Place] = {}
        self._messages: dict[MessageId, Place] = {}
        self._directory: list[bytes] = []
        self._directory_from = 0
        self._transactions_to = len(store)
        self._messages_to = len(store)
        self._purged = 0

    def transaction(self, transaction_id: TransactionId) -> Place:
        """The last event of an ended transaction."""
        while (found := self._transactions.get(transaction_id)) is None:
            if self._transactions_to == 0:
                raise ProofError(
                    f"transaction {transaction_text(transaction_id)} is in none of the {len(self.store)} blocks;"
                    " it has not ended, is not sealed yet, or is of another log"
                )
            self._transactions_to -= 1
            for place, sealed in self._sealed(self._transactions_to):
                self._transactions[sealed.record.transaction_id] = place
        return found

    def ending(self, pipeline: int, sequence: int) -> Place:
        """The last event of a transaction, by its position on the firehose; reads headers and one block."""
        height = self.store.height_of_event(pipeline, sequence)
        for place, sealed in self._sealed(height):
            if (sealed.record.pipeline, sealed.ending_sequence) == (pipeline, sequence):
                return place
        raise ProofError(
            f"event {sequence} of pipeline {pipeline} is covered by block {height}, but ended nothing"
        )

    def message(self, wanted: MessageId) -> Place:
        """The event that carries a message; a purged one is not found by its message id, which went with its body."""
        while (found := self._messages.get(wanted)) is None:
            if self._messages_to == 0:
                gone = f", or it is one of {self._purged} that were purged" if self._purged else ""
                raise ProofError(
                    f"message {wanted.hex()} is in none of the {len(self.store)} blocks; its transaction has"
                    f" not ended, is not sealed yet, or is of another log{gone}"
                )
            self._messages_to -= 1
            for place, sealed in self._sealed(self._messages_to):
                for index, data in enumerate(sealed.events):
                    event = sealed_event(data)
                    if isinstance(event, PurgedEvent):
                        self._purged += 1
                    elif event.envelope is not None:
                        identity = message_id(decode(event.envelope, Envelope).payload)
                        self._messages[identity] = place._replace(event_index=index)
        return found

    def directory(self, version: int) -> tuple[bytes, ...]:
        """The directory's records (encoded) from the first to a version; each block that has any is read once."""
        while len(self._directory) < version:
            if self._directory_from == len(self.store):
                raise ProofError(
                    f"directory version {len(self._directory) + 1} is in none of the {len(self.store)} blocks"
                )
            height = self._directory_from
            self._directory_from += 1
            if self.store.header(height).directory_records:
                self._directory.extend(entry.leaf for entry in self.store.block(height).entries)
        return tuple(self._directory[:version])

    def _sealed(self, height: int) -> Iterator[tuple[Place, SealedTransaction]]:
        for index, sealed in enumerate(self.store.block(height).transactions):
            yield Place(height, index, len(sealed.events) - 1), sealed
