"""RFC 6962 trees of every shape: they agree with the RFC's recursion and with merkletools, and refuse changes."""

from __future__ import annotations

import warnings
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import merkle
from parley.errors import ProofError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # merkletools warns about sha3, which nothing here uses
    from merkletools import MerkleTools  # type: ignore[import-untyped, unused-ignore]

unhurried = settings(deadline=None)
"""A machine under load is slow, not wrong."""

LARGEST = 200
LEAVES = [merkle.leaf_hash(number.to_bytes(2, "big")) for number in range(LARGEST)]

sizes = st.integers(1, LARGEST)
growths = st.tuples(st.integers(0, LARGEST), st.integers(0, LARGEST)).map(sorted)
inclusions = sizes.flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))


def rfc_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 §2.1 writes it."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + rfc_root(leaves[:split]) + rfc_root(leaves[split:])).digest()


def rfc_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH as RFC 6962 §2.1.1 writes it."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*rfc_path(index, leaves[:split]), rfc_root(leaves[split:])]
    return [*rfc_path(index - split, leaves[split:]), rfc_root(leaves[:split])]


def rfc_subproof(old: int, leaves: list[bytes], *, known: bool) -> list[bytes]:
    """SUBPROOF as RFC 6962 §2.1.2 writes it."""
    if old == len(leaves):
        return [] if known else [rfc_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*rfc_subproof(old, leaves[:split], known=known), rfc_root(leaves[split:])]
    return [*rfc_subproof(old - split, leaves[split:], known=False), rfc_root(leaves[:split])]


@unhurried
@given(st.integers(0, LARGEST))
def test_the_root_is_the_rfcs(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == rfc_root(LEAVES[:size])


@unhurried
@given(sizes)
def test_the_root_is_the_one_merkletools_builds_with_the_rfcs_node_hash(size: int) -> None:
    tree = MerkleTools(hash_type="sha256")
    tree.hash_function = lambda pair: sha256(b"\x01" + pair)
    tree.leaves = list(LEAVES[:size])
    tree.make_tree()
    assert bytes.fromhex(tree.get_merkle_root()) == merkle.root(LEAVES[:size])


@unhurried
@given(inclusions)
def test_every_leaf_of_every_size_verifies(inclusion: tuple[int, int]) -> None:
    index, size = inclusion
    leaves = LEAVES[:size]
    path = merkle.inclusion_path(leaves, index)
    assert list(path) == rfc_path(index, leaves)
    merkle.verify_inclusion(leaves[index], index, size, path, merkle.root(leaves))


@unhurried
@given(st.integers(1, 70))
def test_paths_gives_each_leaf_its_inclusion_path(size: int) -> None:
    leaves = LEAVES[:size]
    paths, root = merkle.paths(leaves)
    assert root == merkle.root(leaves)
    assert paths == [b"".join(merkle.inclusion_path(leaves, index)) for index in range(size)]


@unhurried
@given(inclusions, st.data())
def test_any_flipped_bit_of_leaf_path_or_root_is_refused(
    inclusion: tuple[int, int], data: st.DataObject
) -> None:
    index, size = inclusion
    leaves = LEAVES[:size]
    parts = [leaves[index], *merkle.inclusion_path(leaves, index), merkle.root(leaves)]
    part = data.draw(st.integers(0, len(parts) - 1), label="part")
    bit = data.draw(st.integers(0, 8 * merkle.HASH_LENGTH - 1), label="bit")
    parts[part] = (int.from_bytes(parts[part], "big") ^ 1 << bit).to_bytes(merkle.HASH_LENGTH, "big")
    with pytest.raises(ProofError):
        merkle.verify_inclusion(parts[0], index, size, parts[1:-1], parts[-1])


@unhurried
@given(inclusions, st.data())
def test_a_path_proves_its_own_index_only(inclusion: tuple[int, int], data: st.DataObject) -> None:
    index, size = inclusion
    leaves = LEAVES[:size]
    wrong = data.draw(st.integers(-1, size + 1).filter(lambda other: other != index), label="wrong index")
    with pytest.raises(ProofError):
        merkle.verify_inclusion(
            leaves[index], wrong, size, merkle.inclusion_path(leaves, index), merkle.root(leaves)
        )


@unhurried
@given(inclusions, sizes)
def test_a_path_leads_to_the_root_of_its_own_size_only(inclusion: tuple[int, int], wrong: int) -> None:
    index, size = inclusion
    leaves = LEAVES[:size]
    if wrong != size:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(
                leaves[index], index, size, merkle.inclusion_path(leaves, index), merkle.root(LEAVES[:wrong])
            )


@unhurried
@given(inclusions, st.data())
def test_a_shorter_or_longer_path_is_refused(inclusion: tuple[int, int], data: st.DataObject) -> None:
    index, size = inclusion
    leaves = LEAVES[:size]
    path = list(merkle.inclusion_path(leaves, index))
    at = data.draw(st.integers(0, len(path)), label="at")
    with pytest.raises(ProofError, match="inclusion path"):
        merkle.verify_inclusion(
            leaves[index], index, size, [*path[:at], LEAVES[0], *path[at:]], merkle.root(leaves)
        )
    if at < len(path):
        with pytest.raises(ProofError, match="inclusion path"):
            merkle.verify_inclusion(
                leaves[index], index, size, path[:at] + path[at + 1 :], merkle.root(leaves)
            )


def test_every_pair_of_sizes_up_to_forty_is_consistent() -> None:
    roots = [merkle.root(LEAVES[:size]) for size in range(41)]
    for new in range(41):
        for old in range(new + 1):
            path = merkle.consistency_path(LEAVES[:new], old)
            if old:
                assert list(path) == rfc_subproof(old, LEAVES[:new], known=True)
            merkle.verify_consistency(old, roots[old], new, roots[new], path)


@unhurried
@given(growths, st.data())
def test_any_flipped_bit_of_a_consistency_proof_is_refused(growth: list[int], data: st.DataObject) -> None:
    old, new = growth
    parts = [
        merkle.root(LEAVES[:old]),
        *merkle.consistency_path(LEAVES[:new], old),
        merkle.root(LEAVES[:new]),
    ]
    first = 0 if old else 1  # the empty tree's proof binds the old root alone: any new tree extends it
    last = len(parts) - 1 if old else 0
    part = data.draw(st.integers(min(first, last), last), label="part")
    bit = data.draw(st.integers(0, 8 * merkle.HASH_LENGTH - 1), label="bit")
    parts[part] = (int.from_bytes(parts[part], "big") ^ 1 << bit).to_bytes(merkle.HASH_LENGTH, "big")
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, parts[0], new, parts[-1], parts[1:-1])


@unhurried
@given(growths, st.data())
def test_a_history_with_one_leaf_changed_is_not_consistent(growth: list[int], data: st.DataObject) -> None:
    old, new = growth
    if not old:
        return
    changed = data.draw(st.integers(0, old - 1), label="changed leaf")
    rewritten = [*LEAVES[:changed], merkle.leaf_hash(b"rewritten"), *LEAVES[changed + 1 : new]]
    with pytest.raises(ProofError):
        merkle.verify_consistency(
            old,
            merkle.root(LEAVES[:old]),
            new,
            merkle.root(rewritten),
            merkle.consistency_path(rewritten, old),
        )


@unhurried
@given(growths)
def test_a_compact_range_grows_as_the_tree_does_and_survives_being_stored(growth: list[int]) -> None:
    old, new = growth
    grown = merkle.CompactRange.decode(merkle.CompactRange().extend(LEAVES[:old]).encode()).extend(
        LEAVES[old:new]
    )
    assert grown.size == new
    assert grown.root() == merkle.root(LEAVES[:new])
    assert grown == merkle.CompactRange().extend(LEAVES[:new])
    assert grown.append(LEAVES[0]).root() == merkle.root([*LEAVES[:new], LEAVES[0]])
