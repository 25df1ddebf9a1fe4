"""RFC 6962 trees against the public vectors, and what proofs are refused for; properties have their own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parley import merkle
from parley.errors import ProofError

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "rfc6962-tree.json").read_text())
LEAVES = [merkle.leaf_hash(bytes.fromhex(entry)) for entry in VECTORS["entries"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]
SIZE = len(LEAVES)
INDEX = 5
PATH = merkle.inclusion_path(LEAVES, INDEX)
OLD_SIZE = 6
CONSISTENCY = merkle.consistency_path(LEAVES, OLD_SIZE)


def path_of(vector: dict[str, list[str]]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(step) for step in vector["path"])


@pytest.mark.parametrize("size", range(SIZE + 1))
def test_the_root_of_each_size_is_the_published_one(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == ROOTS[size]
    assert merkle.CompactRange().extend(LEAVES[:size]).root() == ROOTS[size]
    assert merkle.paths(LEAVES[:size])[1] == ROOTS[size]


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=lambda v: f"{v['index']} of {v['size']}")
def test_inclusion_paths_are_the_published_ones(vector: dict[str, list[str]]) -> None:
    index, size = int(str(vector["index"])), int(str(vector["size"]))
    assert merkle.inclusion_path(LEAVES[:size], index) == path_of(vector)
    assert merkle.paths(LEAVES[:size])[0][index] == b"".join(path_of(vector))
    merkle.verify_inclusion(LEAVES[index], index, size, path_of(vector), ROOTS[size])


@pytest.mark.parametrize(
    "vector", VECTORS["consistency"], ids=lambda v: f"{v['old_size']} to {v['new_size']}"
)
def test_consistency_paths_are_the_published_ones(vector: dict[str, list[str]]) -> None:
    old, new = int(str(vector["old_size"])), int(str(vector["new_size"]))
    assert merkle.consistency_path(LEAVES[:new], old) == path_of(vector)
    merkle.verify_consistency(old, ROOTS[old], new, ROOTS[new], path_of(vector))


def test_a_leaf_and_a_node_over_the_same_bytes_differ() -> None:
    left, right = LEAVES[:2]
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


def test_the_empty_tree_has_no_paths() -> None:
    assert merkle.paths([]) == ([], merkle.EMPTY_ROOT)


def test_a_tree_of_one_leaf_is_that_leaf_and_its_path_is_empty() -> None:
    merkle.verify_inclusion(LEAVES[0], 0, 1, (), LEAVES[0])


@pytest.mark.parametrize(
    ("path", "says"),
    [
        pytest.param(PATH[:-1], "3 hashes, this one has 2", id="shorter"),
        pytest.param((*PATH, PATH[-1]), "3 hashes, this one has 4", id="longer"),
        pytest.param((PATH[0], PATH[1][:-1], PATH[2]), "hash 1: 31 bytes", id="a hash cut"),
        pytest.param((PATH[0][:-1], PATH[0][-1:] + PATH[1], PATH[2]), "hash 0: 31 bytes", id="border moved"),
        pytest.param((PATH[1], PATH[0], PATH[2]), "inclusion root", id="order changed"),
    ],
)
def test_a_changed_path_is_refused_with_the_step_that_failed(path: tuple[bytes, ...], says: str) -> None:
    with pytest.raises(ProofError, match=says):
        merkle.verify_inclusion(LEAVES[INDEX], INDEX, SIZE, path, ROOTS[SIZE])


@pytest.mark.parametrize(("index", "size"), [(8, 8), (-1, 8), (0, 0), (0, 2**63)])
def test_a_leaf_outside_its_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(ProofError, match="inclusion index"):
        merkle.verify_inclusion(LEAVES[0], index, size, PATH, ROOTS[SIZE])
    with pytest.raises(ProofError, match="inclusion index"):
        merkle.inclusion_subtrees(index, size)


def test_a_leaf_hash_or_root_of_another_length_is_refused() -> None:
    with pytest.raises(ProofError, match="leaf hash: 33 bytes"):
        merkle.verify_inclusion(LEAVES[INDEX] + b"\0", INDEX, SIZE, PATH, ROOTS[SIZE])
    with pytest.raises(ProofError, match="root: 31 bytes"):
        merkle.verify_inclusion(LEAVES[INDEX], INDEX, SIZE, PATH, ROOTS[SIZE][:-1])


def test_a_rewritten_history_is_told_from_a_wrong_new_root() -> None:
    with pytest.raises(ProofError, match="consistency old root"):
        merkle.verify_consistency(OLD_SIZE, ROOTS[5], SIZE, ROOTS[SIZE], CONSISTENCY)
    with pytest.raises(ProofError, match="consistency new root"):
        merkle.verify_consistency(OLD_SIZE, ROOTS[OLD_SIZE], SIZE, ROOTS[7], CONSISTENCY)


def test_a_tree_cannot_shrink() -> None:
    with pytest.raises(ProofError, match="cannot extend"):
        merkle.verify_consistency(SIZE, ROOTS[SIZE], OLD_SIZE, ROOTS[OLD_SIZE], CONSISTENCY)


def test_equal_sizes_need_equal_roots_and_an_empty_path() -> None:
    merkle.verify_consistency(SIZE, ROOTS[SIZE], SIZE, ROOTS[SIZE], ())
    with pytest.raises(ProofError, match="consistency old root"):
        merkle.verify_consistency(SIZE, ROOTS[SIZE], SIZE, ROOTS[7], ())
    with pytest.raises(ProofError, match="0 hashes"):
        merkle.verify_consistency(SIZE, ROOTS[SIZE], SIZE, ROOTS[SIZE], (ROOTS[1],))


def test_every_tree_extends_the_empty_one_and_nothing_else_of_size_zero() -> None:
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, SIZE, ROOTS[SIZE], ())
    with pytest.raises(ProofError, match="consistency old root"):
        merkle.verify_consistency(0, ROOTS[1], SIZE, ROOTS[SIZE], ())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(7), id="no size"),
        pytest.param(bytes(7) + b"\x03" + bytes(32), id="one peak of two"),
        pytest.param(bytes(7) + b"\x01" + bytes(33), id="one byte more"),
        pytest.param(b"\x80" + bytes(7) + bytes(32), id="size out of range"),
    ],
)
def test_a_frontier_that_is_cut_or_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(ProofError, match="frontier"):
        merkle.CompactRange.decode(data)
