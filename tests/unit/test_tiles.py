"""A log in tiles: the published layout, the same proofs as the plain tree, and files nobody need trust."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import merkle
from parley.errors import OversizedError, ProofError
from parley.tiles import MAX_ENTRY_LENGTH, Edge, TileReader, bundle_path, grow, tile_path

unhurried = settings(deadline=None)
"""A machine under load is slow, not wrong."""

LARGEST = 1_000
ENTRIES = [b"entry %d" % number * (number % 3) for number in range(LARGEST)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]

BEYOND = 256 * 256 + 300
"""A size with a full tile on level 1 and partial ones on levels 0, 1 and 2."""


class Files:
    """Files of a log in memory, which counts what was read."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.read: list[str] = []

    def fetch(self, path: str) -> bytes:
        self.read.append(path)
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None


def grown(*sizes: int) -> tuple[Edge, dict[str, bytes]]:
    """A log grown through these sizes, with all files of the way."""
    edge = Edge()
    files: dict[str, bytes] = {}
    for size in sizes:
        growth = grow(edge, ENTRIES[edge.size : size])
        edge = growth.edge
        files.update(growth.files)
    return edge, files


def reader(size: int) -> TileReader:
    return TileReader(Files(grown(size)[1]).fetch, size, merkle.root(LEAVES[:size]))


@cache
def beyond() -> tuple[list[bytes], dict[str, bytes]]:
    """The leaf hashes and files of a log of `BEYOND` entries, grown over the boundary in small steps."""
    entries = [number.to_bytes(3, "big") for number in range(BEYOND)]
    edge = Edge()
    files: dict[str, bytes] = {}
    for end in (256 * 256 - 1, 256 * 256, 256 * 256 + 1, BEYOND):
        growth = grow(edge, entries[edge.size : end])
        edge = growth.edge
        files.update(growth.files)
    return [merkle.leaf_hash(entry) for entry in entries], files


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (tile_path(0, 0), "tile/0/000"),
        (tile_path(1, 999), "tile/1/999"),
        (tile_path(0, 1_000), "tile/0/x001/000"),
        (tile_path(3, 1_234_067), "tile/3/x001/x234/067"),
        (tile_path(0, 1_234_067, 7), "tile/0/x001/x234/067.p/7"),
        (bundle_path(1_234_067), "tile/entries/x001/x234/067"),
        (bundle_path(0, 255), "tile/entries/000.p/255"),
    ],
)
def test_paths_are_those_of_the_specification(path: str, expected: str) -> None:
    assert path == expected


def test_a_log_of_256_entries_has_one_full_tile_and_a_partial_one_above() -> None:
    files = grown(256)[1]
    assert files.keys() == {"tile/0/000", "tile/1/000.p/1", "tile/entries/000"}
    assert files["tile/0/000"] == b"".join(LEAVES[:256])
    assert files["tile/1/000.p/1"] == merkle.root(LEAVES[:256])


def test_a_log_of_70_000_entries_has_the_tiles_that_the_specification_counts() -> None:
    files = grow(Edge(), [b""] * 70_000).files
    levels = [[path for path in files if path.startswith(f"tile/{level}/")] for level in (0, 1, 2)]
    partial = [path for path in files if ".p/" in path]
    assert [len(paths) for paths in levels] == [274, 2, 1]
    assert sorted(partial) == [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
        "tile/entries/273.p/112",
    ]


def test_entries_are_written_behind_their_length_in_two_bytes() -> None:
    files = grow(Edge(), [b"", b"ab", b"c" * 258]).files
    assert files["tile/entries/000.p/3"] == b"\0\0" + b"\0\x02ab" + b"\x01\x02" + b"c" * 258


def test_growing_writes_only_the_files_that_change() -> None:
    edge = grown(600)[0]
    assert grow(edge, ENTRIES[600:601]).files.keys() == {"tile/0/002.p/89", "tile/entries/002.p/89"}
    assert grow(edge, ENTRIES[600:800]).files.keys() == {
        "tile/0/002",
        "tile/0/003.p/32",
        "tile/1/000.p/3",
        "tile/entries/002",
        "tile/entries/003.p/32",
    }
    assert grow(edge, []) == (edge, {})


def test_an_entry_that_no_bundle_can_hold_is_refused() -> None:
    grow(Edge(), [bytes(MAX_ENTRY_LENGTH)])
    with pytest.raises(OversizedError, match="65536 bytes"):
        grow(Edge(), [bytes(MAX_ENTRY_LENGTH + 1)])


def test_the_empty_log_has_no_files_and_the_empty_root() -> None:
    log = TileReader(Files({}).fetch, 0, merkle.EMPTY_ROOT)
    assert log.root() == merkle.EMPTY_ROOT
    assert list(log.entries()) == []
    assert log.edge() == Edge()
    with pytest.raises(ProofError, match="no entry 0"):
        log.entry(0)


sizes = st.integers(0, LARGEST)


@unhurried
@given(st.lists(sizes, min_size=1, max_size=6).map(sorted))
def test_growing_in_steps_gives_the_files_of_growing_at_once(steps: list[int]) -> None:
    edge, files = grown(*steps)
    at_once, expected = grown(steps[-1])
    assert edge == at_once
    assert expected.items() <= files.items()
    assert edge.root() == merkle.root(LEAVES[: steps[-1]])


@unhurried
@given(sizes, sizes)
def test_a_log_read_back_grows_on_as_if_it_had_never_stopped(size: int, more: int) -> None:
    edge = reader(size).edge()
    assert edge == grown(size)[0]
    assert grow(edge, ENTRIES[size : size + more]).edge == grown(min(size + more, LARGEST))[0]


@unhurried
@given(st.integers(1, LARGEST), st.data())
def test_inclusion_proofs_are_those_of_the_plain_tree_at_every_size(size: int, data: st.DataObject) -> None:
    earlier = data.draw(st.integers(1, size), label="at size")
    index = data.draw(st.integers(0, earlier - 1), label="index")
    log = reader(size)
    assert log.inclusion_path(index, earlier) == merkle.inclusion_path(LEAVES[:earlier], index)
    assert log.root(earlier) == merkle.root(LEAVES[:earlier])
    assert log.leaf_hash(index) == LEAVES[index]


@unhurried
@given(st.lists(sizes, min_size=3, max_size=3).map(sorted))
def test_consistency_proofs_are_those_of_the_plain_tree_at_every_size(steps: list[int]) -> None:
    old, new, size = steps
    assert reader(size).consistency_path(old, new) == merkle.consistency_path(LEAVES[:new], old)


@unhurried
@given(sizes, st.data())
def test_entries_come_back_as_they_were_appended(size: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size), label="start")
    end = data.draw(st.integers(start, size) | st.none(), label="end")
    assert list(reader(size).entries(start, end)) == ENTRIES[:size][start:end]


@pytest.mark.parametrize("old", [1, 255, 256, 257, 256 * 256 - 1, 256 * 256, 256 * 256 + 1])
def test_proofs_across_a_full_tile_of_tiles_verify(old: int) -> None:
    leaves, files = beyond()
    root = merkle.root(leaves)
    log = TileReader(Files(files).fetch, BEYOND, root)
    for index in (0, old - 1, old, BEYOND - 1):
        merkle.verify_inclusion(leaves[index], index, BEYOND, log.inclusion_path(index), root)
        assert log.entry(index) == index.to_bytes(3, "big")
    merkle.verify_consistency(old, log.root(old), BEYOND, root, log.consistency_path(old))
    assert log.root(old) == merkle.root(leaves[:old])


def test_a_log_of_65_836_opens_with_three_files_and_proves_a_leaf_with_two_more() -> None:
    leaves, files = beyond()
    store = Files(files)
    log = TileReader(store.fetch, BEYOND, merkle.root(leaves))
    assert store.read == ["tile/0/257.p/44", "tile/1/001.p/1", "tile/2/000.p/1"]
    log.inclusion_path(70)
    log.inclusion_path(71)
    assert store.read[3:] == ["tile/0/000", "tile/1/000"]


def test_a_full_tile_stands_in_for_a_partial_one_that_is_gone() -> None:
    files = grown(300, 600)[1]
    for path in ("tile/0/001.p/44", "tile/entries/001.p/44"):
        del files[path]
    log = TileReader(Files(files).fetch, 300, merkle.root(LEAVES[:300]))
    assert list(log.entries()) == ENTRIES[:300]
    assert log.edge() == grown(300)[0]


@unhurried
@given(st.data())
def test_any_changed_byte_of_any_file_is_refused_with_the_file_named(data: st.DataObject) -> None:
    _, files = grown(700)
    path = data.draw(st.sampled_from(sorted(files)), label="file")
    at = data.draw(st.integers(0, len(files[path]) - 1), label="byte")
    changed = bytearray(files[path])
    changed[at] ^= data.draw(st.integers(1, 255), label="flip")
    with pytest.raises(ProofError, match=r"tile/|right edge"):
        list(
            TileReader(Files({**files, path: bytes(changed)}).fetch, 700, merkle.root(LEAVES[:700])).entries()
        )


@unhurried
@given(st.data())
def test_a_file_that_is_cut_too_long_or_missing_is_refused_with_its_name(data: st.DataObject) -> None:
    _, files = grown(700)
    path = data.draw(st.sampled_from(sorted(files)), label="file")
    kept = data.draw(st.integers(0, len(files[path]) - 1), label="kept")
    others = {name: content for name, content in files.items() if name != path}
    for changed in (others | {path: files[path][:kept]}, others | {path: files[path] + b"\0\0"}, others):
        with pytest.raises(ProofError, match=path):
            list(TileReader(Files(changed).fetch, 700, merkle.root(LEAVES[:700])).entries())


def test_a_forged_entry_is_refused_even_with_its_own_tile_forged_to_fit() -> None:
    _, files = grown(700)
    forged = grow(Edge(), [*ENTRIES[:300], b"forged", *ENTRIES[301:700]]).files
    pair = {path: forged[path] for path in ("tile/0/001", "tile/entries/001")}
    log = TileReader(Files({**files, **pair}).fetch, 700, merkle.root(LEAVES[:700]))
    assert log.entry(0) == ENTRIES[0]
    for reading in (lambda: log.entry(300), lambda: log.leaf_hash(300), lambda: log.inclusion_path(301)):
        with pytest.raises(ProofError, match="tile/0/001"):
            reading()


def test_files_of_another_log_are_refused_before_anything_is_given_out() -> None:
    with pytest.raises(ProofError, match="another log"):
        TileReader(Files(grown(300)[1]).fetch, 300, merkle.root(LEAVES[1:301]))


@pytest.mark.parametrize("size", [-1, 2**63])
def test_a_size_that_no_log_has_is_refused(size: int) -> None:
    with pytest.raises(ProofError, match="log size"):
        TileReader(Files({}).fetch, size, merkle.EMPTY_ROOT)


def test_what_lies_beyond_the_log_is_refused() -> None:
    log = reader(300)
    for beyond_the_end in (
        lambda: log.leaf_hash(300),
        lambda: log.entry(-1),
        lambda: log.root(301),
        lambda: log.inclusion_path(0, 301),
        lambda: log.inclusion_path(300),
        lambda: log.consistency_path(0, 301),
        lambda: log.consistency_path(301),
        lambda: list(log.entries(0, 301)),
        lambda: list(log.entries(2, 1)),
    ):
        with pytest.raises(ProofError):
            beyond_the_end()
