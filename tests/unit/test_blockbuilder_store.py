"""The block folder: files come into being whole, committed names never change, and one builder holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockbuilder.errors import SecondBuilderError, StoreError
from blockbuilder.store import BlockFolder
from parley.blocks import Block, block_path
from parley.checkpoint import Checkpoint, open_checkpoint
from parley.note import NoteSigner
from parley.tiles import Edge, grow
from tests.fix_ledger import LOG, SealedLedger
from tests.synthetic_ledger import signing_key


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[BlockFolder]:
    with BlockFolder(tmp_path / "store") as held:
        yield held


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(scope="module")
def blocks(busy: SealedLedger) -> list[Block]:
    return list(busy.store().blocks())


def pending(place: Path) -> list[str]:
    return sorted(entry.name for entry in (place / ".pending").iterdir())


def test_a_staged_block_has_no_name_that_readers_know(
    folder: BlockFolder, place: Path, blocks: list[Block]
) -> None:
    folder.stage(blocks[0])
    assert len(pending(place)) == 1
    assert not (place / "block").exists()


def test_a_published_block_has_its_name_and_is_pending_no_more(
    folder: BlockFolder, place: Path, blocks: list[Block]
) -> None:
    size = folder.stage(blocks[0])
    folder.publish(0, blocks[0].encoded_header)
    assert (place / block_path(0)).stat().st_size == size
    assert pending(place) == []


def test_a_published_block_is_never_overwritten(
    folder: BlockFolder, place: Path, blocks: list[Block]
) -> None:
    folder.stage(blocks[0])
    folder.publish(0, blocks[0].encoded_header)
    before = (place / block_path(0)).read_bytes()
    other = blocks[1]._replace(header=blocks[1].header._replace(height=0))
    folder.stage(other)
    with pytest.raises(StoreError, match="is there already"):
        folder.publish(0, other.encoded_header)
    assert (place / block_path(0)).read_bytes() == before


def test_recovery_names_a_staged_block_and_finds_a_named_one(
    folder: BlockFolder, place: Path, blocks: list[Block]
) -> None:
    folder.stage(blocks[0])
    for _ in range(2):
        folder.recover(0, blocks[0].encoded_header)
        assert (place / block_path(0)).exists()


def test_recovery_says_what_to_do_about_a_lost_or_changed_block(
    folder: BlockFolder, place: Path, blocks: list[Block]
) -> None:
    with pytest.raises(StoreError, match="missing, but its header is committed; restore it from a copy"):
        folder.recover(0, blocks[0].encoded_header)
    folder.stage(blocks[1])
    folder.publish(1, blocks[1].encoded_header)
    with pytest.raises(StoreError, match="its header is not the one the log has"):
        folder.recover(1, blocks[2].encoded_header)


def test_what_was_left_unfinished_is_cleared(folder: BlockFolder, place: Path, blocks: list[Block]) -> None:
    folder.stage(blocks[0])
    folder.clear_pending()
    assert pending(place) == []


def test_tiles_are_written_once_and_never_change(folder: BlockFolder, place: Path) -> None:
    growth = grow(Edge(), [b"one", b"two"])
    folder.write_tiles(growth.files)
    folder.write_tiles(growth.files)
    assert {path: (place / path).read_bytes() for path in growth.files} == growth.files
    with pytest.raises(StoreError, match="differs from what the committed headers give"):
        folder.write_tiles(grow(Edge(), [b"one", b"other"]).files)


def test_the_checkpoint_never_goes_back(folder: BlockFolder, place: Path) -> None:
    for size, published in ((0, 0), (2, 2), (1, 2), (3, 3)):
        growth = grow(Edge(), [b"entry"] * size)
        folder.write_checkpoint(Checkpoint(LOG.name, size, growth.edge.root()), LOG)
        note = (place / "checkpoint").read_bytes()
        assert open_checkpoint(note, LOG.verifier_key, alone=True).size == published
        assert folder.log_size(LOG) == published


def test_the_log_goes_on_where_its_files_end(folder: BlockFolder) -> None:
    assert folder.log(LOG) == (Checkpoint(LOG.name, 0, Edge().root()), Edge())
    growth = grow(Edge(), [b"entry %d" % number for number in range(300)])
    folder.write_tiles(growth.files)
    checkpoint = Checkpoint(LOG.name, 300, growth.edge.root())
    folder.write_checkpoint(checkpoint, LOG)
    assert folder.log(LOG) == (checkpoint, growth.edge)
    assert folder.entry(299, LOG) == b"entry 299"


def test_a_log_begun_with_another_key_is_not_gone_on_with(folder: BlockFolder) -> None:
    growth = grow(Edge(), [b"entry"])
    folder.write_tiles(growth.files)
    folder.write_checkpoint(Checkpoint(LOG.name, 1, growth.edge.root()), LOG)
    with pytest.raises(StoreError, match="start with the key and folder"):
        folder.log(NoteSigner(LOG.name, signing_key("another")))


def test_a_log_whose_tiles_are_gone_is_not_gone_on_with(folder: BlockFolder, place: Path) -> None:
    growth = grow(Edge(), [b"entry"])
    folder.write_checkpoint(Checkpoint(LOG.name, 1, growth.edge.root()), LOG)
    with pytest.raises(StoreError, match=r"tile/0/000\.p/1: missing"):
        folder.log(LOG)


def test_a_second_builder_is_kept_out_until_the_first_one_is_gone(tmp_path: Path) -> None:
    with (
        BlockFolder(tmp_path),
        pytest.raises(SecondBuilderError, match=f"process id {os.getpid()} works here"),
    ):
        BlockFolder(tmp_path)
    BlockFolder(tmp_path).close()


def test_a_folder_that_cannot_be_written_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="choose a folder that can be written"):
        BlockFolder(tmp_path / "file" / "store")
