"""A block store's files are believed only as far as the log's signature reaches, which is all the way."""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import fastavro
import pytest

from parley.blocks import (
    Block,
    BlockStore,
    block_path,
    decode_block,
    encode_block,
    from_folder,
)
from parley.errors import ProofError
from parley.schemas import SealedLeaf, decode, encode, schema_of, to_row
from tests.fix_ledger import LOG, SealedLedger
from tests.synthetic_ledger import signing_key


@pytest.fixture(scope="module")
def store(busy: SealedLedger) -> BlockStore:
    return busy.store()


@pytest.fixture(scope="module")
def block(store: BlockStore) -> Block:
    return store.block(1)


@pytest.fixture
def copy(busy: SealedLedger, tmp_path: Path) -> Path:
    """A copy of the store to be spoilt."""
    return shutil.copytree(busy.folder, tmp_path / "copy")


def opened(folder: Path) -> BlockStore:
    return BlockStore(from_folder(folder), LOG.verifier_key)


@pytest.mark.parametrize(
    ("height", "path"),
    [
        (0, "block/000"),
        (999, "block/999"),
        (1_000, "block/x001/000"),
        (1_234_567, "block/x001/x234/567"),
    ],
)
def test_heights_are_written_as_tile_numbers_are(height: int, path: str) -> None:
    assert block_path(height) == path


def test_a_block_file_is_an_avro_container_that_any_reader_opens(block: Block) -> None:
    rows = list(fastavro.reader(BytesIO(encode_block(block))))
    assert [row["leaf"] for row in rows] == block.leaves()  # type: ignore[index, call-overload]


def test_a_block_reads_back_as_it_was(block: Block) -> None:
    assert decode_block(encode_block(block), block.encoded_header) == block
    assert decode_block(encode_block(block)) == block


def test_headers_and_blocks_are_read_from_the_log(store: BlockStore) -> None:
    assert len(store) == 7
    blocks = list(store.blocks())
    assert [block.header.height for block in blocks] == list(range(7))
    assert [block.header for block in blocks] == [store.header(height) for height in range(7)]
    with pytest.raises(ProofError, match="block 7: the log has 7 blocks"):
        store.block(7)


def test_an_empty_log_has_no_blocks(sealed: SealedLedger) -> None:
    sealed.write_empty()
    assert len(sealed.store()) == 0
    assert list(sealed.store().blocks()) == []


def test_the_block_of_a_firehose_position_is_found_by_headers_alone(store: BlockStore) -> None:
    for block in store.blocks():
        for one in block.transactions:
            height = store.height_of_event(one.record.pipeline, one.ending_sequence)
            assert height == block.header.height
    with pytest.raises(ProofError, match="event 1000 of pipeline 0 is in none of the 7 blocks yet"):
        store.height_of_event(0, 1_000)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "block/003").unlink()
    with pytest.raises(ProofError, match="block/003: missing from the block store"):
        opened(copy).block(3)
    (copy / "checkpoint").unlink()
    with pytest.raises(ProofError, match="checkpoint: missing from the block store"):
        opened(copy)


def test_another_logs_key_opens_nothing(copy: Path) -> None:
    key = LOG.verifier_key._replace(public_key=signing_key("another").public)
    with pytest.raises(ProofError, match="no known key signed"):
        BlockStore(from_folder(copy), key)


def test_a_block_under_another_height_is_refused(copy: Path) -> None:
    shutil.copy(copy / "block/002", copy / "block/003")
    with pytest.raises(ProofError, match="its header is not the one the log has"):
        opened(copy).block(3)


def test_every_changed_byte_of_a_block_file_is_refused_or_changes_nothing(block: Block) -> None:
    data = encode_block(block)
    unchanged = 0
    for position in range(0, len(data), 7):
        changed = data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :]
        try:
            assert decode_block(changed, block.encoded_header) == block
            unchanged += 1
        except ProofError:
            pass
    assert unchanged < len(data) / 20, "only the container's own words may differ"


def repacked(block: Block, change: Callable[[list[SealedLeaf]], list[SealedLeaf]]) -> bytes:
    """The block's file with other rows under the same header."""
    leaves = [SealedLeaf(one.leaf, one.events) for one in block.transactions]
    leaves += [SealedLeaf(entry.leaf, ()) for entry in block.entries]
    buffer = BytesIO()
    header = b64encode(block.encoded_header).decode()
    rows = [to_row(leaf) for leaf in change(leaves)]
    fastavro.writer(buffer, schema_of(SealedLeaf), rows, metadata={"parley.header": header})
    return buffer.getvalue()


def with_header(block: Block, **fields: object) -> Block:
    header = block.header._replace(**fields)  # type: ignore[arg-type]
    return block._replace(header=header, encoded_header=encode(header))


def test_left_out_added_or_swapped_leaves_are_refused(block: Block) -> None:
    for change, complaint in (
        (lambda leaves: leaves[1:], "1 leaves, but its header says 2 transactions"),
        (lambda leaves: [*leaves, leaves[0]], "3 leaves, but its header says 2 transactions"),
        (lambda leaves: leaves[::-1], "do not have the root"),
    ):
        with pytest.raises(ProofError, match=complaint):
            decode_block(repacked(block, change))


def test_left_out_or_changed_events_are_refused(block: Block) -> None:
    def without(leaves: list[SealedLeaf]) -> list[SealedLeaf]:
        return [leaf._replace(events=leaf.events[1:]) for leaf in leaves]

    def changed(leaves: list[SealedLeaf]) -> list[SealedLeaf]:
        return [leaf._replace(events=(leaf.events[0][:-1] + b"!", *leaf.events[1:])) for leaf in leaves]

    for change in (without, changed):
        with pytest.raises(ProofError, match="are not those that its record commits to"):
            decode_block(repacked(block, change))


def test_a_header_that_counts_wrong_is_refused(block: Block) -> None:
    for fields, complaint in (
        ({"messages": 9}, "but its header says 9"),
        ({"size_bytes": 1}, "but its header says 8 and 1"),
        ({"transactions": 3, "directory_records": -1}, "2 leaves, but its header says 3"),
        ({"transactions": 1, "directory_records": 1}, "a directory record has events"),
    ):
        with pytest.raises(ProofError, match=complaint):
            decode_block(encode_block(with_header(block, **fields)))


def test_bytes_that_are_no_block_are_refused_in_words() -> None:
    for data in (b"", b"Obj\x01", b"garbage" * 100):
        with pytest.raises(ProofError, match="not a readable Avro container"):
            decode_block(data)


def test_a_log_entry_that_is_no_header_or_of_another_height_is_refused(sealed: SealedLedger) -> None:
    sealed.ledger.trade()
    (block,) = sealed.seal()
    sealed.write(block)
    with pytest.raises(ProofError, match="log entry 1: its header says height 0"):
        sealed.store().header(1)


def test_decoded_records_are_those_of_the_leaves(block: Block) -> None:
    for one in block.transactions:
        assert decode(one.leaf, type(one.record)) == one.record
