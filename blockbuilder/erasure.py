"""Which sealed events a purge statement takes out of which blocks, and those blocks without them; pure.

That a statement counts is ``parley.erasure``'s affair. A statement is carried out whole or not at all: whatever it names
must be there, be a message with a body (or have been purged before), and have been sealed before the statement was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from parley.blocks import Block, BlockStore, SealedTransaction, purged
from parley.erasure import ERASURE_KIND, Statement
from parley.errors import ErasureError, ProofError
from parley.identifiers import transaction_text
from parley.lookup import Lookup, Place
from parley.schemas import FirehoseEvent, PurgedEvent, PurgeTarget, StatementPlace, decode, encode

__all__ = ["Spot", "spots_of", "without"]


class Spot(NamedTuple):
    """An event whose body goes: its block, and where it stands in it."""

    height: int
    leaf_index: int
    event_index: int


def spots_of(lookup: Lookup, statement: Statement, stated: int) -> list[Spot]:
    """Where what a statement names stands, as far as its body is still there.

    Args:
        lookup: into the store from which it goes.
        statement: one that counts.
        stated: the height of the block in which the statement stands.

    Raises:
        ErasureError: it names what is not there, has no body, may not go, or was sealed later.

    """
    endings = _Endings(lookup.store)
    return [spot for target in statement.purge.targets for spot in _spots(endings, target, stated)]


def _spots(endings: _Endings, target: PurgeTarget, stated: int) -> Iterable[Spot]:
    of = f"transaction {transaction_text(target.transaction_id)}"
    place, sealed = endings.find(target, of)
    if place.height >= stated:
        raise ErasureError(
            f"{of} stands in block {place.height}, and the statement in block {stated}, which is not a later one;"
            " state it again now that the transaction is sealed"
        )
    if sealed.record.kind == ERASURE_KIND:
        raise ErasureError(f"{of} is an erasure itself; it accounts for what is missing, and stays")
    numbers = {listed: number for number, listed in enumerate(sealed.record.events)}
    for reference in target.events:
        number = numbers.get(reference)
        if number is None:
            raise ErasureError(
                f"{of} has no event {reference.sequence} with the digest {reference.digest.hex()} that the statement"
                " names; state the one that the block has"
            )
        if purged(sealed.events[number]) is not None:
            continue
        if decode(sealed.events[number], FirehoseEvent).envelope is None:
            raise ErasureError(
                f"event {reference.sequence} is the timeout of {of}, which has no body to purge"
            )
        yield Spot(place.height, place.leaf_index, number)


class _Endings:
    """Where transactions stand by what ended them; each block is looked through once."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._places: dict[int, dict[tuple[int, int], Place]] = {}

    def find(self, target: PurgeTarget, of: str) -> tuple[Place, SealedTransaction]:
        """The transaction that a target names."""
        try:
            height = self._store.height_of_event(target.pipeline, target.ending)
        except ProofError as error:
            raise ErasureError(f"{of} is not where the statement says: {error}") from error
        if height not in self._places:
            self._places[height] = {
                (sealed.record.pipeline, sealed.ending_sequence): Place(height, index, len(sealed.events) - 1)
                for index, sealed in enumerate(self._store.block(height).transactions)
            }
        place = self._places[height].get((target.pipeline, target.ending))
        sealed = None if place is None else self._store.block(height).transactions[place.leaf_index]
        if place is None or sealed is None or sealed.record.transaction_id != target.transaction_id:
            raise ErasureError(
                f"{of} did not end at event {target.ending} of pipeline {target.pipeline}, as the statement says; state"
                " the event that ended it"
            )
        return place, sealed


def without(block: Block, spots: Mapping[Spot, StatementPlace]) -> Block:
    """The block with the bodies at these spots gone, each on account of a statement; no hash in it changes."""
    transactions = list(block.transactions)
    for (_, leaf_index, event_index), place in spots.items():
        sealed = transactions[leaf_index]
        events = list(sealed.events)
        events[event_index] = encode(_instead(sealed, event_index, place))
        transactions[leaf_index] = sealed._replace(events=tuple(events))
    return block._replace(transactions=tuple(transactions))


def _instead(sealed: SealedTransaction, number: int, place: StatementPlace) -> PurgedEvent:
    encoded = sealed.events[number]
    event = decode(encoded, FirehoseEvent)
    listed = sealed.record.events[number]
    return PurgedEvent(listed.sequence, listed.digest, event.chain, event.at, len(encoded), place)
