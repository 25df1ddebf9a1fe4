"""What is sealed when: firehose events gathered to transactions, and blocks made of these; pure.

Rules:

1. A transaction is sealed once it has ended, with all its events, each held against the digest that its
   ending lists.
2. A block covers every pipeline up to a cut; what ended up to there is in this block or one before, and
   nothing else is.
3. A block covers the directory at least up to the version by which any of its events was judged, so that
   whoever has the block and those before has the keys too.
4. Memory is bounded by the cache: an event that it no longer holds when its transaction ends is asked for
   again.

Where records come from and where blocks go is the service's affair; that a message may be said, the
router's.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, cast

with warnings.catch_warnings():
    # merkletools looks for a SHA-3 package at import and warns that it is missing; SHA-256 needs none.
    warnings.filterwarnings("ignore", message="sha3 is not working")
    from merkletools import MerkleTools  # type: ignore[import-untyped]

from blockbuilder.errors import HistoryError
from parley.blocks import Block, SealedEntry, SealedTransaction, header_hash, message_count
from parley.firehose import Cursor, Follower, Position, chain_hash, event_digest
from parley.identifiers import transaction_text
from parley.merkle import EMPTY_ROOT
from parley.schemas import (
    ZERO_HASH,
    BlockHeader,
    Cut,
    DirectoryRecord,
    EventReference,
    FirehoseEvent,
    Hash,
    TransactionRecord,
    decode,
    encode,
)

__all__ = ["Assembly", "Limits", "Wanted", "cursor_of", "merkle_root", "seal_block", "sealed_transaction"]


class Limits(NamedTuple):
    """What a block holds at most (a transaction is never split), and memory for those still open."""

    transactions: int = 5_000
    size_bytes: int = 64 * 1024 * 1024
    cache_bytes: int = 256 * 1024 * 1024


class Wanted(NamedTuple):
    """An event to be read back from the firehose."""

    pipeline: int
    sequence: int


class _Ended(NamedTuple):
    """An ended transaction that waits for its block."""

    sealed: SealedTransaction
    before: Hash
    """h of the event before the one that ended it."""
    size: int
    """Bytes of its events."""


class _Incomplete(NamedTuple):
    """An ended transaction some of whose events are being read back."""

    event: FirehoseEvent
    encoded: bytes
    earlier: list[bytes | None]


def merkle_root(leaves: Sequence[bytes]) -> Hash:
    """The RFC 6962 root over a block's leaves: merkletools with the RFC's leaf and node hashes."""
    if not leaves:
        return Hash(EMPTY_ROOT)
    tree = MerkleTools()
    tree.hash_function = _node_hash
    tree.add_leaf([sha256(b"\x00" + leaf).hexdigest() for leaf in leaves])
    tree.make_tree()
    return Hash(bytes.fromhex(cast(str, tree.get_merkle_root())))


def _node_hash(pair: bytes) -> object:
    return sha256(b"\x01" + pair)


def seal_block(
    transactions: Sequence[SealedTransaction],
    entries: Sequence[SealedEntry],
    previous: bytes | None,
    cuts: Cursor,
    directory: tuple[int, Hash],
    now: int,
) -> Block:
    """The block after the one with this encoded header that holds these transactions and directory records.

    Args:
        transactions: in any order; they stand in the block by pipeline, then by the sequence that ended them.
        entries: in the directory's order.
        previous: the header before it, encoded; ``None`` for the first block.
        cuts: up to where each pipeline is covered.
        directory: version and chain hash up to which the directory is covered.
        now: ms since the Unix epoch.

    """
    before = None if previous is None else decode(previous, BlockHeader)
    ordered = tuple(sorted(transactions, key=lambda one: (one.record.pipeline, one.ending_sequence)))
    header = BlockHeader(
        height=0 if before is None else before.height + 1,
        previous=ZERO_HASH if previous is None else header_hash(previous),
        root=merkle_root([one.leaf for one in ordered] + [entry.leaf for entry in entries]),
        transactions=len(ordered),
        directory_records=len(entries),
        messages=message_count([one.record for one in ordered]),
        size_bytes=sum(len(event) for one in ordered for event in one.events),
        sealed_at=now if before is None else max(now, before.sealed_at),
        cuts=tuple(
            Cut(pipeline, position.sequence - 1, position.chain)
            for pipeline, position in sorted(cuts.items())
            if position.sequence
        ),
        directory_version=directory[0],
        directory_chain=directory[1],
    )
    return Block(header, encode(header), ordered, tuple(entries))


def cursor_of(header: BlockHeader | None) -> Cursor:
    """Where to follow the firehose on after a block. Offsets are not known to it: they are 0."""
    if header is None:
        return {}
    return {cut.pipeline: Position(cut.sequence + 1, cut.chain, 0) for cut in header.cuts}


class Assembly:
    """What has been followed and not sealed yet.

    Nothing leaves it before :meth:`sealed` says so: a block that was not committed can be asked for again.
    """

    def __init__(self, header: BlockHeader | None, limits: Limits | None = None) -> None:
        """Begin after the last block of the log, or at the beginning of everything."""
        self.limits: Limits = limits or Limits()
        self._follower = Follower(cursor_of(header))
        self._directory = (
            (0, ZERO_HASH) if header is None else (header.directory_version, header.directory_chain)
        )
        self._followed_directory = self._directory
        self._needed_directory = 0
        self._entries: list[SealedEntry] = []
        self._cache: dict[tuple[int, int], bytes] = {}
        self._cached_bytes = 0
        self._ended: list[_Ended] = []
        self._incomplete: list[_Incomplete] = []

    @property
    def cursor(self) -> Cursor:
        """Up to where each pipeline has been followed."""
        return self._follower.cursor

    @property
    def directory_version(self) -> int:
        """The version of the last directory record followed."""
        return self._followed_directory[0]

    @property
    def waiting(self) -> int:
        """How many ended transactions and directory records wait for a block."""
        return len(self._ended) + len(self._incomplete) + len(self._entries)

    def follow(self, record: bytes, pipeline: int, offset: int) -> None:
        """Take the next firehose event of a pipeline; one that was followed before changes nothing.

        Raises:
            FirehoseError: events are missing, or the history is another than the one sealed.
            HistoryError: the event is of another pipeline, or lists events that are not those on record.
            WireError: not a FirehoseEvent.

        """
        event = self._follower.follow(record, offset)
        if event is None:
            return
        if event.pipeline != pipeline:
            raise HistoryError(
                f"an event of pipeline {event.pipeline} stands on pipeline {pipeline}; keep both as evidence"
            )
        self._needed_directory = max(self._needed_directory, event.directory_version)
        if event.ended is None:
            self._remember((pipeline, event.sequence), record)
        else:
            self._end(event, record)

    def _remember(self, place: tuple[int, int], record: bytes) -> None:
        self._cache[place] = record
        self._cached_bytes += len(record)
        while self._cached_bytes > self.limits.cache_bytes:
            self._cached_bytes -= len(self._cache.pop(next(iter(self._cache))))

    def _end(self, event: FirehoseEvent, record: bytes) -> None:
        assert event.ended is not None
        earlier = [self._cache.pop((event.pipeline, listed.sequence), None) for listed in event.ended.events]
        self._cached_bytes -= sum(len(cached) for cached in earlier if cached is not None)
        if None in earlier:
            self._incomplete.append(_Incomplete(event, record, earlier))
        else:
            self._complete(event, record, cast(list[bytes], earlier))

    def _complete(self, event: FirehoseEvent, encoded: bytes, earlier: Sequence[bytes]) -> None:
        sealed = sealed_transaction(event, encoded, earlier)
        self._ended.append(_Ended(sealed, event.chain, sum(map(len, sealed.events))))

    def wanted(self) -> list[Wanted]:
        """What must be read back from the firehose before the next block, by pipeline and sequence."""
        return sorted(
            Wanted(event.pipeline, listed.sequence)
            for event, _, earlier in self._incomplete
            for listed, held in zip(_listed(event), earlier, strict=True)
            if held is None
        )

    def supply(self, found: Mapping[Wanted, bytes]) -> None:
        """Give all that was wanted.

        Raises:
            HistoryError: an event is missing, or not the one that the transaction's ending lists.
            WireError: not a FirehoseEvent.

        """
        for event, encoded, earlier in self._incomplete:
            whole = [
                _recalled(found, Wanted(event.pipeline, listed.sequence)) if held is None else held
                for listed, held in zip(_listed(event), earlier, strict=True)
            ]
            self._complete(event, encoded, whole)
        self._incomplete = []
        for record in found.values():
            judged_by = decode(record, FirehoseEvent).directory_version
            self._needed_directory = max(self._needed_directory, judged_by)

    def follow_directory(self, record: bytes) -> None:
        """Take the next directory record; one that was followed before changes nothing.

        Raises:
            HistoryError: it does not follow the one before.
            WireError: not a DirectoryRecord.

        """
        value = decode(record, DirectoryRecord)
        version, chain = self._followed_directory
        if value.version <= version:
            return
        if (value.version, value.chain) != (version + 1, chain):
            raise HistoryError(
                f"directory record {value.version} does not follow record {version}; keep both as evidence"
            )
        self._entries.append(SealedEntry(value, record))
        self._followed_directory = _directory_after(self._entries[-1])

    def full(self) -> bool:
        """Whether what waits fills a block."""
        return (
            len(self._ended) + len(self._incomplete) >= self.limits.transactions
            or len(self._entries) >= self.limits.transactions
            or sum(one.size for one in self._ended) >= self.limits.size_bytes
        )

    def next_block(self, previous: bytes | None, now: int) -> Block | None:
        """The next block, or ``None`` if there is nothing to seal.

        Args:
            previous: the last header of the log, encoded; ``None`` before the first.
            now: ms since the Unix epoch.

        """
        assert not self._incomplete, "supply what is wanted first"
        entries = self._entries[: self.limits.transactions]
        directory = _directory_after(entries[-1]) if entries else self._directory
        self._ended.sort(key=lambda one: (one.sealed.record.pipeline, one.sealed.ending_sequence))
        count = self._fitting() if directory[0] >= self._needed_directory else 0
        if not entries and not count:
            return None
        cuts = dict(self._follower.cursor)
        for sealed, before, _ in reversed(self._ended[count:]):
            cuts[sealed.record.pipeline] = Position(sealed.ending_sequence, before, 0)
        taken = [one.sealed for one in self._ended[:count]]
        return seal_block(taken, entries, previous, cuts, directory, now)

    def _fitting(self) -> int:
        """How many of the ended transactions the next block takes."""
        size = 0
        for count, one in enumerate(self._ended[: self.limits.transactions]):
            size += one.size
            if count and size > self.limits.size_bytes:
                return count
        return min(len(self._ended), self.limits.transactions)

    def sealed(self, block: Block) -> None:
        """Let go of what the block that :meth:`next_block` gave holds: it is committed."""
        del self._ended[: len(block.transactions)]
        del self._entries[: len(block.entries)]
        self._directory = (block.header.directory_version, block.header.directory_chain)


def sealed_transaction(event: FirehoseEvent, encoded: bytes, earlier: Sequence[bytes]) -> SealedTransaction:
    """The record of the transaction that an event ended, with all its events, each held against its digest.

    Raises:
        HistoryError: an event is not the one that the ending lists.

    """
    ended = event.ended
    assert ended is not None
    for listed, held in zip(ended.events, earlier, strict=True):
        if sha256(held).digest() != listed.digest:
            raise HistoryError(
                f"event {listed.sequence} of pipeline {event.pipeline} is not the one that event"
                f" {event.sequence} lists for transaction"
                f" {transaction_text(event.transaction_id)}; keep the firehose as evidence"
            )
    record = TransactionRecord(
        event.transaction_id,
        event.pipeline,
        ended.kind,
        ended.outcome,
        ended.opened_at,
        event.at,
        ended.waiting_on,
        (*ended.events, EventReference(event.sequence, event_digest(encoded))),
    )
    return SealedTransaction(record, encode(record), (*earlier, encoded))


def _listed(event: FirehoseEvent) -> Sequence[EventReference]:
    return () if event.ended is None else event.ended.events


def _recalled(found: Mapping[Wanted, bytes], place: Wanted) -> bytes:
    record = found.get(place)
    if record is None:
        raise HistoryError(
            f"event {place.sequence} of pipeline {place.pipeline} is no longer on the firehose, but its"
            " transaction has just ended; keep the firehose longer than the longest deadline"
        )
    return record


def _directory_after(entry: SealedEntry) -> tuple[int, Hash]:
    """Version and chain hash of the directory up to this record."""
    return entry.record.version, chain_hash(entry.record.chain, event_digest(entry.leaf))
