"""A log as static files (C2SP tlog-tiles): what growth writes, and checked reading from untrusted files.

Tiles are 256 hashes wide. Tile n of level l holds the roots of the perfect subtrees of ``256**l`` leaves,
from subtree ``256 * n`` on; level 0 holds leaf hashes, and beside it lie bundles of the entries themselves.
The last tile of a level may be partial. Where the files lie is the caller's affair: writing gives bytes by
path, reading takes a ``Fetch``. All that ``TileReader`` gives out was checked, hash by hash, against the root
it was opened with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from parley import merkle
from parley.errors import OversizedError, ProofError

__all__ = [
    "MAX_ENTRY_LENGTH",
    "TILE_WIDTH",
    "Edge",
    "Fetch",
    "Growth",
    "TileReader",
    "bundle_path",
    "grow",
    "tile_path",
]

TILE_WIDTH = 256
MAX_ENTRY_LENGTH = 0xFFFF
"""In bytes: a bundle gives each entry's length in 16 bits."""

Fetch = Callable[[str], bytes]
"""Gives the bytes at a path such as ``tile/0/x001/234``, or raises FileNotFoundError."""

_TILE_HEIGHT = 8
_CACHED_TILES = 128

_Tile = list[tuple[bytes, ...]]
"""A tile's hashes and the nodes above them: item k holds those over ``2**k`` hashes that are all there."""


class Edge(NamedTuple):
    """What growing a log depends on: its size, the entries of its partial bundle, its partial tiles.

    ``tiles[level]`` has ``size // 256**level % 256`` hashes. ``Edge()`` is the empty log; ``TileReader.edge``
    reads one back from the files.
    """

    size: int = 0
    entries: tuple[bytes, ...] = ()
    tiles: tuple[tuple[bytes, ...], ...] = ()

    def root(self) -> bytes:
        """The root of the log's tree."""
        return _edge_root(self.tiles)


class Growth(NamedTuple):
    """The log's edge after growing, and the files to write before a checkpoint of the new size is published.

    Files never change once a checkpoint needs them. A growth that was written but whose checkpoint was never
    published may be overwritten by another.
    """

    edge: Edge
    files: Mapping[str, bytes]


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile of ``width`` hashes, such as ``tile/0/x001/234`` or ``tile/0/x001/234.p/7``."""
    return f"tile/{level}/{_numbered(index, width)}"


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """The path of a bundle of ``width`` entries, such as ``tile/entries/000`` or ``tile/entries/000.p/7``."""
    return f"tile/entries/{_numbered(index, width)}"


def grow(edge: Edge, entries: Sequence[bytes]) -> Growth:
    """Append entries.

    Raises:
        OversizedError: one is longer than ``MAX_ENTRY_LENGTH`` bytes.

    """
    if not entries:
        return Growth(edge, {})
    for entry in entries:
        if len(entry) > MAX_ENTRY_LENGTH:
            raise OversizedError(
                f"log entry: {len(entry)} bytes, but a bundle holds {MAX_ENTRY_LENGTH} at most"
            )
    files: dict[str, bytes] = {}
    pending = [*edge.entries, *entries]
    for index, bundle in _cut(pending, edge.size // TILE_WIDTH):
        files[bundle_path(index, len(bundle))] = b"".join(
            len(entry).to_bytes(2, "big") + entry for entry in bundle
        )
    tiles: list[tuple[bytes, ...]] = []
    level, nodes, arriving = 0, edge.size, [merkle.leaf_hash(entry) for entry in entries]
    while arriving:
        hashes = [*(edge.tiles[level] if level < len(edge.tiles) else ()), *arriving]
        nodes //= TILE_WIDTH
        arriving = []
        for index, tile in _cut(hashes, nodes):
            files[tile_path(level, index, len(tile))] = b"".join(tile)
            if len(tile) == TILE_WIDTH:
                arriving.append(merkle.root(tile))
        tiles.append(tuple(hashes[len(hashes) - len(hashes) % TILE_WIDTH :]))
        level += 1
    tiles += edge.tiles[level:]
    partial = len(pending) % TILE_WIDTH
    return Growth(
        Edge(edge.size + len(entries), tuple(pending[len(pending) - partial :]), tuple(tiles)), files
    )


class TileReader:
    """The log of a checkpoint, read from its files.

    Opening reads the partial tiles (at most one a level) and checks that they lead to the root; any other
    tile is checked against the hash that a tile above it holds for it, and an entry against its leaf hash. So
    nothing is believed because of where it was found. Full tiles stand in for partial ones that are no longer
    kept. A bounded number of tiles is held in memory. Every method raises ProofError, naming the file, for
    what is missing, malformed or not in the tree.
    """

    def __init__(self, fetch: Fetch, size: int, root: bytes) -> None:
        """Read the log's right edge.

        Raises:
            ProofError: it does not have exactly this root (32 bytes) at this size.

        """
        if not 0 <= size <= merkle.MAX_SIZE:
            raise ProofError(f"log size: {size} is not between 0 and {merkle.MAX_SIZE}")
        self._fetch = fetch
        self._full: OrderedDict[tuple[int, int], _Tile] = OrderedDict()
        self._partial: list[_Tile] = []
        self.size = size
        nodes = size
        while nodes:
            index, width = divmod(nodes, TILE_WIDTH)
            self._partial.append(self._read_tile(len(self._partial), index, width) if width else [()])
            nodes = index
        if _edge_root([tile[0] for tile in self._partial]) != root:
            raise ProofError(
                f"tiles: the right edge of the log does not have the checkpoint's root at size {size};"
                " the files are of another log or were changed"
            )

    def leaf_hash(self, index: int) -> bytes:
        """The hash of leaf ``index``, as the tree has it."""
        self._require(index)
        return self._perfect(0, index)

    def entry(self, index: int) -> bytes:
        """Entry ``index``."""
        self._require(index)
        return next(self.entries(index))

    def entries(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The entries ``start <= index < end``, in order; to the end of the log if ``end`` is None.

        Reading all of them checks every tile of the log as well.
        """
        end = self.size if end is None else end
        if not 0 <= start <= end <= self.size:
            raise ProofError(f"log entries: {start} to {end} are not within a log of {self.size}")
        while start < end:
            number, within = divmod(start, TILE_WIDTH)
            first = number * TILE_WIDTH
            taken = self._read_bundle(number)[within : end - first]
            yield from taken
            start += len(taken)

    def root(self, size: int | None = None) -> bytes:
        """The root that the log had at an earlier size, or has now."""
        size = self._reached(size)
        return self._subtree(0, size) if size else merkle.EMPTY_ROOT

    def inclusion_path(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """The proof that leaf ``index`` is in the log, or in the log as it was at an earlier size."""
        size = self._reached(size)
        return tuple(self._subtree(start, end) for start, end in merkle.inclusion_subtrees(index, size))

    def consistency_path(self, old_size: int, size: int | None = None) -> tuple[bytes, ...]:
        """The proof that the log, now or at ``size``, extends what it was at ``old_size``."""
        size = self._reached(size)
        return tuple(self._subtree(start, end) for start, end in merkle.consistency_subtrees(old_size, size))

    def edge(self) -> Edge:
        """What the log needs to grow on."""
        whole = self.size - self.size % TILE_WIDTH
        return Edge(self.size, tuple(self.entries(whole)), tuple(tile[0] for tile in self._partial))

    def _subtree(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]), where ``start`` is a multiple of the largest power of two below the width."""
        peaks = []
        while start < end:
            height = (end - start).bit_length() - 1
            peaks.append(self._perfect(height, start >> height))
            start += 1 << height
        result = peaks.pop()
        while peaks:
            result = merkle.node_hash(peaks.pop(), result)
        return result

    def _perfect(self, height: int, index: int) -> bytes:
        """The root, checked, of the perfect subtree number ``index`` among those of this height."""
        level, within = divmod(height, _TILE_HEIGHT)
        number, position = divmod(index, TILE_WIDTH >> within)
        return self._tile(level, number)[within][position]

    def _tile(self, level: int, number: int) -> _Tile:
        """Tile ``number`` of a level, checked."""
        if (number + 1) * TILE_WIDTH ** (level + 1) > self.size:
            return self._partial[level]
        tile = self._full.get((level, number))
        if tile is None:
            tile = self._read_tile(level, number, TILE_WIDTH)
            if tile[-1][0] != self._perfect((level + 1) * _TILE_HEIGHT, number):
                raise ProofError(
                    f"{tile_path(level, number)}: does not have the hash that the tile above holds for it"
                )
            self._full[level, number] = tile
            if len(self._full) > _CACHED_TILES:
                self._full.popitem(last=False)
        else:
            self._full.move_to_end((level, number))
        return tile

    def _read_tile(self, level: int, number: int, width: int) -> _Tile:
        """A tile as its file has it, not yet checked but for its length."""
        found = self._read(tile_path(level, number, width), tile_path(level, number))
        count, rest = divmod(len(found.data), merkle.HASH_LENGTH)
        if rest or count != (width if found.path == tile_path(level, number, width) else TILE_WIDTH):
            raise ProofError(
                f"{found.path}: {len(found.data)} bytes are not the hashes of a tile of this width"
            )
        step = merkle.HASH_LENGTH
        below = tuple(found.data[at : at + step] for at in range(0, width * step, step))
        tile = [below]
        while len(below) > 1:
            below = tuple(map(merkle.node_hash, below[::2], below[1::2]))
            tile.append(below)
        return tile

    def _read_bundle(self, number: int) -> list[bytes]:
        """The entries of a bundle, checked; those that the log's size does not reach are left out."""
        width = min(TILE_WIDTH, self.size - number * TILE_WIDTH)
        found = self._read(bundle_path(number, width), bundle_path(number))
        entries = _parse_bundle(found.data)
        if entries is None or len(entries) != (
            width if found.path == bundle_path(number, width) else TILE_WIDTH
        ):
            raise ProofError(f"{found.path}: not a bundle of length-prefixed entries of this width")
        for within, (entry, leaf) in enumerate(zip(entries, self._tile(0, number)[0], strict=False)):
            if merkle.leaf_hash(entry) != leaf:
                raise ProofError(
                    f"{found.path}: entry {within} does not have the hash that the tree holds for it"
                )
        return entries[:width]

    def _read(self, path: str, instead: str) -> _Found:
        for candidate in dict.fromkeys((path, instead)):
            try:
                return _Found(candidate, self._fetch(candidate))
            except FileNotFoundError:
                continue
        raise ProofError(f"{path}: missing; fetch the log's files again, or ask its operator for them")

    def _reached(self, size: int | None) -> int:
        """An earlier size of the log, or its present one."""
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ProofError(
                f"log size: the log has {self.size} leaves, not {size}; open it at a newer checkpoint"
            )
        return size

    def _require(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise ProofError(f"log entry: there is no entry {index} in a log of {self.size}")


class _Found(NamedTuple):
    path: str
    data: bytes


def _edge_root(tiles: Sequence[Sequence[bytes]]) -> bytes:
    """The root of the tree whose partial tiles these are, level 0 first."""
    tail: tuple[bytes, ...] = ()  # the root of all that lies right of this level's hashes, if anything does
    for hashes in tiles:
        nodes = (*hashes, *tail)
        tail = (merkle.root(nodes),) if nodes else ()
    return tail[0] if tail else merkle.EMPTY_ROOT


def _cut(items: list[bytes], first: int) -> Iterator[tuple[int, list[bytes]]]:
    """Items by tile, with each tile's index; the last may be partial."""
    for start in range(0, len(items), TILE_WIDTH):
        yield first + start // TILE_WIDTH, items[start : start + TILE_WIDTH]


def _parse_bundle(data: bytes) -> list[bytes] | None:
    """The entries of a bundle, or None if it is cut."""
    entries, at = [], 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data) or start > len(data):
            return None
        entries.append(data[start:at])
    return entries


def _numbered(index: int, width: int) -> str:
    """A tile's index in groups of three digits, all but the last behind an x; its width if it is partial."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    name = "/".join(reversed(groups))
    return name if width == TILE_WIDTH else f"{name}.p/{width}"
