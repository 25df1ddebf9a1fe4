"""The block store's reading side: blocks and headers from files nobody trusts, verified as they are read.

The store is a tree of files that any web server can serve; but for a purge, only one is ever replaced:

- ``block/<height>``: an Avro container file of SealedLeaf rows, transaction records before directory
  records, with the encoded header (base64) as the container's metadata ``parley.header``. Where a body was
  purged (``parley.erasure``) a PurgedEvent stands in the place of its event; no hash changes by that;
- ``tile/…``: the log of encoded headers as C2SP tlog-tiles (``parley.tiles``);
- ``checkpoint``: the log's newest checkpoint, a signed note. It names no block whose files are not all
  there.

Heights are written as tile numbers are: ``block/000``, ``block/x001/x234/567``. Within a block
transactions stand by pipeline, then by the sequence of the event that ended them; so headers and firehose
determine a block to the byte, unless something was purged from it. Who writes the files, and in which order, is the block builder's affair.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import fastavro

from parley import merkle
from parley.checkpoint import Checkpoint, open_checkpoint
from parley.errors import ProofError, WireError
from parley.identifiers import transaction_text
from parley.note import VerifierKey
from parley.schemas import (
    BlockHeader,
    DirectoryRecord,
    EventReference,
    FirehoseEvent,
    Hash,
    PurgedEvent,
    SealedLeaf,
    TransactionRecord,
    decode,
    is_a,
    schema_of,
    to_row,
)
from parley.tiles import TILE_WIDTH, Fetch, TileReader

__all__ = [
    "CHECKPOINT_PATH",
    "Block",
    "BlockStore",
    "SealedEntry",
    "SealedTransaction",
    "block_path",
    "decode_block",
    "encode_block",
    "from_folder",
    "header_hash",
    "message_count",
    "purged",
    "sealed_event",
]

CHECKPOINT_PATH: Final = "checkpoint"
CODEC: Final = "zstandard"
"""How block files are compressed; a reader takes any codec of Avro's that it has."""
LEVEL: Final = 3
"""Zstandard's own default: keys and signatures do not compress, and names and terms do at any level."""

_HEADER = "parley.header"
_SYNC_BYTES = 16
_CACHED_BLOCKS = 8
_CACHED_BUNDLES = 16
_Cached = TypeVar("_Cached")


class SealedTransaction(NamedTuple):
    """A transaction in a block: its record, that record encoded (the leaf), and its encoded events in order.

    Where a body was purged, an encoded PurgedEvent stands instead of the event.
    """

    record: TransactionRecord
    leaf: bytes
    events: tuple[bytes, ...]

    @property
    def ending_sequence(self) -> int:
        """The firehose sequence of the event that ended it."""
        return self.record.events[-1].sequence


def purged(event: bytes) -> PurgedEvent | None:
    """What stands in the place of a sealed event whose body was purged; ``None`` for an event. Raises WireError."""
    return decode(event, PurgedEvent) if is_a(event, PurgedEvent) else None


def sealed_event(event: bytes) -> FirehoseEvent | PurgedEvent:
    """A sealed event, or what stands in its place; raises WireError."""
    return purged(event) or decode(event, FirehoseEvent)


class SealedEntry(NamedTuple):
    """A directory record in a block, and its encoding (the leaf)."""

    record: DirectoryRecord
    leaf: bytes


class Block(NamedTuple):
    """A block: its header, the header's encoding (the log's entry), and its leaves in order."""

    header: BlockHeader
    encoded_header: bytes
    transactions: tuple[SealedTransaction, ...]
    entries: tuple[SealedEntry, ...]

    def leaves(self) -> list[bytes]:
        """Every leaf, in order."""
        return [sealed.leaf for sealed in self.transactions] + [entry.leaf for entry in self.entries]

    def leaf_hashes(self) -> list[bytes]:
        """The RFC 6962 hash of every leaf, in order."""
        return list(map(merkle.leaf_hash, self.leaves()))


def block_path(height: int) -> str:
    """Where the store keeps a block, such as ``block/x001/234``."""
    groups = [f"{height % 1000:03}"]
    while height := height // 1000:
        groups.append(f"x{height % 1000:03}")
    return "block/" + "/".join(reversed(groups))


def header_hash(encoded_header: bytes) -> Hash:
    """SHA-256 of an encoded header: what the next header names as the one before it."""
    return Hash(sha256(encoded_header).digest())


def message_count(records: Sequence[TransactionRecord]) -> int:
    """How many messages these transactions have: all their events but the timeouts."""
    return sum(len(record.events) - (record.outcome == "TIMED_OUT") for record in records)


def encode_block(block: Block) -> bytes:
    """The block file; the same block always gives the same bytes (under one version of the compressor)."""
    rows: list[dict[str, Any]] = [
        to_row(SealedLeaf(sealed.leaf, sealed.events)) for sealed in block.transactions
    ]
    rows += [to_row(SealedLeaf(sealed.leaf, ())) for sealed in block.entries]
    buffer = BytesIO()
    fastavro.writer(
        buffer,
        schema_of(SealedLeaf),
        rows,
        codec=CODEC,
        codec_compression_level=LEVEL,
        metadata={_HEADER: b64encode(block.encoded_header).decode()},
        sync_marker=header_hash(block.encoded_header)[:_SYNC_BYTES],
    )
    return buffer.getvalue()


def decode_block(data: bytes, encoded_header: bytes | None = None) -> Block:
    """Read a block file and verify it against the header: root, counts, and the digest of every event.

    Without ``encoded_header`` the file's own is taken: the block is whole then, but perhaps in no log.

    Raises:
        ProofError: the file is no block, is another block, or was changed.

    """
    own_header, leaves = _container(data)
    if encoded_header is not None and own_header != encoded_header:
        raise ProofError(
            "block file: its header is not the one the log has; it is another block, or was changed"
        )
    try:
        return _verified(own_header, leaves)
    except WireError as error:
        raise ProofError(f"block file: a record in it cannot be read: {error}") from error


def _container(data: bytes) -> tuple[bytes, list[SealedLeaf]]:
    """The header and rows of an Avro container file, believed in nothing but their types."""
    try:
        reader = fastavro.reader(BytesIO(data), reader_schema=schema_of(SealedLeaf))
        header = b64decode(reader.metadata[_HEADER], validate=True)
        rows: list[dict[str, Any]] = list(reader)  # type: ignore[arg-type]  # of a record schema
        leaves = [SealedLeaf(row["leaf"], tuple(row["events"])) for row in rows]
    except Exception as error:  # noqa: BLE001 - the container library has no error of its own for bad bytes
        raise ProofError(
            f"block file: not a readable Avro container ({type(error).__name__}: {error}); fetch it again"
        ) from None
    if any(type(part) is not bytes for leaf in leaves for part in (leaf.leaf, *leaf.events)):
        raise ProofError("block file: its rows are not bytes; fetch it again")
    return header, leaves


def _verified(encoded_header: bytes, leaves: Sequence[SealedLeaf]) -> Block:
    header = decode(encoded_header, BlockHeader)
    if min(header.transactions, header.directory_records) < 0 or len(leaves) != (
        header.transactions + header.directory_records
    ):
        raise ProofError(
            f"block {header.height}: {len(leaves)} leaves, but its header says {header.transactions}"
            f" transactions and {header.directory_records} directory records"
        )
    if merkle.root([merkle.leaf_hash(leaf.leaf) for leaf in leaves]) != header.root:
        raise ProofError(f"block {header.height}: its leaves do not have the root that its header commits to")
    transactions = tuple(
        SealedTransaction(decode(leaf.leaf, TransactionRecord), leaf.leaf, leaf.events)
        for leaf in leaves[: header.transactions]
    )
    for sealed in transactions:
        _check_digests(header.height, sealed)
    if any(leaf.events for leaf in leaves[header.transactions :]):
        raise ProofError(f"block {header.height}: a directory record has events; its file was changed")
    entries = tuple(
        SealedEntry(decode(leaf.leaf, DirectoryRecord), leaf.leaf) for leaf in leaves[header.transactions :]
    )
    messages = message_count([sealed.record for sealed in transactions])
    size = sum(_size(event) for sealed in transactions for event in sealed.events)
    if (messages, size) != (header.messages, header.size_bytes):
        raise ProofError(
            f"block {header.height}: {messages} messages and {size:,} bytes of events, but its header says"
            f" {header.messages} and {header.size_bytes:,}"
        )
    return Block(header, encoded_header, transactions, entries)


def _check_digests(height: int, sealed: SealedTransaction) -> None:
    listed = sealed.record.events
    if (
        not listed
        or len(sealed.events) != len(listed)
        or any(
            sha256(event).digest() != reference.digest and not _stands_for(event, reference)
            for event, reference in zip(sealed.events, listed, strict=True)
        )
    ):
        raise ProofError(
            f"block {height}: the events of transaction {transaction_text(sealed.record.transaction_id)} are"
            " not those that its record commits to; the file was changed"
        )


def _stands_for(event: bytes, listed: EventReference) -> bool:
    """Whether this says that it stands for a purged event, and for that one."""
    instead = purged(event)
    return instead is not None and (instead.sequence, instead.digest) == listed and instead.size >= 0


def _size(event: bytes) -> int:
    """Bytes of a sealed event, or of the one that was purged."""
    instead = purged(event)
    return len(event) if instead is None else instead.size


def from_folder(folder: Path) -> Fetch:
    """Read a store's files from a folder; as every ``Fetch``, it raises FileNotFoundError."""

    def fetch(path: str) -> bytes:
        try:
            return (folder / path).read_bytes()
        except (NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(path) from error

    return fetch


class BlockStore:
    """A block store at one checkpoint. All that it gives out was verified against the log's key.

    Every method raises ProofError, naming file or block, for what is missing or does not verify.
    """

    def __init__(self, fetch: Fetch, log_key: VerifierKey) -> None:
        """Read the newest checkpoint and the log's edge."""
        self._fetch = fetch
        self.log_key: VerifierKey = log_key
        self.note: bytes = self._read(CHECKPOINT_PATH)
        """The checkpoint as published, a signed note."""
        self.checkpoint: Checkpoint = open_checkpoint(self.note, log_key)
        self.log: TileReader = TileReader(fetch, self.checkpoint.size, self.checkpoint.root)
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._bundles: OrderedDict[int, list[bytes]] = OrderedDict()

    def __len__(self) -> int:
        """How many blocks the checkpoint covers."""
        return self.checkpoint.size

    def encoded_header(self, height: int) -> bytes:
        """A block's header as the log has it."""
        if not 0 <= height < len(self):
            raise ProofError(f"block {height}: the log has {len(self)} blocks; read a newer checkpoint")
        number, within = divmod(height, TILE_WIDTH)
        found = self._bundles.get(number)
        if found is None:
            first = number * TILE_WIDTH
            found = list(self.log.entries(first, min(first + TILE_WIDTH, len(self))))
            _remember(self._bundles, number, found, _CACHED_BUNDLES)
        return found[within]

    def header(self, height: int) -> BlockHeader:
        """A block's header; that it stands at its height is checked."""
        try:
            header = decode(self.encoded_header(height), BlockHeader)
        except WireError as error:
            raise ProofError(f"log entry {height}: not a block header: {error}") from error
        if header.height != height:
            raise ProofError(f"log entry {height}: its header says height {header.height}")
        return header

    def block(self, height: int) -> Block:
        """A block, verified against the log."""
        block = self._blocks.get(height)
        if block is None:
            self.header(height)
            block = decode_block(self._read(block_path(height)), self.encoded_header(height))
            _remember(self._blocks, height, block, _CACHED_BLOCKS)
        return block

    def blocks(self, start: int = 0) -> Iterator[Block]:
        """Every block from a height on, in order."""
        return map(self.block, range(start, len(self)))

    def height_of_event(self, pipeline: int, sequence: int) -> int:
        """Which block first covers a position of the firehose: the one that holds what this event ended.

        Reads headers only, about log2 of their number.
        """

        def covered(height: int) -> bool:
            return any(
                cut.pipeline == pipeline and cut.sequence >= sequence for cut in self.header(height).cuts
            )

        return self._first(covered, f"event {sequence} of pipeline {pipeline}")

    def _first(self, covered: Callable[[int], bool], what: str) -> int:
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if covered(middle):
                high = middle
            else:
                low = middle + 1
        if low == len(self):
            raise ProofError(f"{what} is in none of the {len(self)} blocks yet; read a newer checkpoint")
        return low

    def _read(self, path: str) -> bytes:
        try:
            return self._fetch(path)
        except FileNotFoundError:
            raise ProofError(
                f"{path}: missing from the block store; fetch the store again, or ask its operator"
            ) from None


def _remember(cache: OrderedDict[int, _Cached], key: int, value: _Cached, limit: int) -> None:
    cache[key] = value
    if len(cache) > limit:
        cache.popitem(last=False)
