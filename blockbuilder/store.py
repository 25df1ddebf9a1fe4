"""The block store's writing side: durable files in a folder; what they hold is decided elsewhere.

Readers' names (``parley.blocks``) only ever hold what is committed and never change, but for
``checkpoint``, and for blocks from which a body is purged (``blockbuilder.eraser``). A file comes into being whole: it is written under ``.pending/``, flushed, and then given
its name; so whatever is killed when leaves nothing but a file in ``.pending/``. A block waits there,
named by its height and header hash, until its header is committed.

A lock on the folder, held for the process's life, keeps a second builder out; the operating system
releases it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from blockbuilder.errors import SecondBuilderError, StoreError
from parley.blocks import (
    CHECKPOINT_PATH,
    Block,
    block_path,
    decode_block,
    encode_block,
    from_folder,
    header_hash,
)
from parley.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from parley.errors import ProofError
from parley.merkle import EMPTY_ROOT
from parley.note import NoteSigner
from parley.tiles import Edge, TileReader

__all__ = ["BlockFolder", "flush_folder", "staged_blocks", "unwritable"]

_PENDING = ".pending"
_LOCK = ".lock"


class BlockFolder:
    """A block store on a local file system, held by this process alone until :meth:`close`.

    Raises:
        SecondBuilderError: another process holds the folder.
        StoreError: the folder cannot be written.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending = folder / _PENDING
        try:
            self._pending.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"block store {folder}: {error.strerror}; choose a folder that can be written"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise SecondBuilderError(
                f"block store {folder}: the builder with process id {holder or '?'} works here; stop it first"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._lock)

    # Blocks

    def stage(self, block: Block) -> int:
        """Write a block so that it survives a crash, not under its own name yet; give the file's size."""
        data = encode_block(block)
        self._write(self._staged(block.header.height, block.encoded_header), data)
        flush_folder(self._pending)
        return len(data)

    def publish(self, height: int, encoded_header: bytes) -> None:
        """Give the staged block of a committed header its name, for good.

        Raises:
            StoreError: the block was not staged, or the name is taken.

        """
        self._name(self._staged(height, encoded_header), self._folder / block_path(height))

    def recover(self, height: int, encoded_header: bytes) -> None:
        """See to it that the block of a committed header, which an earlier life staged, has its name.

        Raises:
            StoreError: the block is not in the store, or another block has its name.

        """
        staged, final = self._staged(height, encoded_header), self._folder / block_path(height)
        found = final if final.exists() else staged
        try:
            decode_block(found.read_bytes(), encoded_header)
        except FileNotFoundError:
            raise StoreError(
                f"{final}: missing, but its header is committed; restore it from a copy of this block store"
            ) from None
        except ProofError as error:
            raise StoreError(f"{found}: {error}; restore it from a copy of this block store") from error
        if found is staged:
            self._name(staged, final)

    def clear_pending(self) -> None:
        """Remove what earlier lives left unfinished; call it when every committed block has its name."""
        for leftover in self._pending.iterdir():
            leftover.unlink()

    def _staged(self, height: int, encoded_header: bytes) -> Path:
        return self._pending / f"block-{height}-{header_hash(encoded_header).hex()}"

    # The log

    def write_tiles(self, files: Mapping[str, bytes]) -> None:
        """Write tiles of committed headers. Those that are there already must be the same.

        Raises:
            StoreError: a tile is there and differs.

        """
        for path, data in files.items():
            final = self._folder / path
            if not final.exists():
                draft = self._pending / path.replace("/", "-")
                self._write(draft, data)
                self._name(draft, final)
            elif final.read_bytes() != data:
                raise StoreError(
                    f"{final}: differs from what the committed headers give; restore it from a copy of this"
                    " block store"
                )

    def log(self, signer: NoteSigner) -> tuple[Checkpoint, Edge]:
        """The checkpoint published last and the log's edge at it; the empty log's if there is none.

        Raises:
            StoreError: the checkpoint is not this builder's, or the tiles do not have its root.

        """
        fetch = from_folder(self._folder)
        try:
            checkpoint = open_checkpoint(fetch(CHECKPOINT_PATH), signer.verifier_key)
            return checkpoint, TileReader(fetch, checkpoint.size, checkpoint.root).edge()
        except FileNotFoundError:
            return Checkpoint(signer.name, 0, EMPTY_ROOT), Edge()
        except ProofError as error:
            raise StoreError(
                f"{self._folder}: {error}; start with the key and folder that this log was begun with"
            ) from error

    def entry(self, height: int, signer: NoteSigner) -> bytes:
        """A published header; errors as for :meth:`log`."""
        fetch = from_folder(self._folder)
        try:
            checkpoint = open_checkpoint(fetch(CHECKPOINT_PATH), signer.verifier_key)
            return TileReader(fetch, checkpoint.size, checkpoint.root).entry(height)
        except (ProofError, FileNotFoundError) as error:
            raise StoreError(f"{self._folder}: {error}; restore the store from a copy") from error

    def write_checkpoint(self, checkpoint: Checkpoint, signer: NoteSigner) -> None:
        """Sign and publish a checkpoint; one that is not newer than the published one changes nothing."""
        published = self.log_size(signer)
        if published is not None and published >= checkpoint.size:
            return
        draft = self._pending / CHECKPOINT_PATH
        self._write(draft, sign_checkpoint(checkpoint, signer))
        try:
            draft.replace(self._folder / CHECKPOINT_PATH)
            flush_folder(self._folder)
        except OSError as error:
            raise unwritable(self._folder / CHECKPOINT_PATH, error) from error

    def log_size(self, signer: NoteSigner) -> int | None:
        """The size of the checkpoint published last, if there is one."""
        try:
            note = (self._folder / CHECKPOINT_PATH).read_bytes()
        except FileNotFoundError:
            return None
        return open_checkpoint(note, signer.verifier_key).size

    # Files

    def _write(self, path: Path, data: bytes) -> None:
        """Write and flush a file under ``.pending/``; one left there is replaced."""
        try:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(path, error) from error

    def _name(self, draft: Path, final: Path) -> None:
        """Give a flushed file its name, for good. Raises StoreError if the name is taken."""
        try:
            _make_folders(final.parent)
            os.link(draft, final)
            flush_folder(final.parent)
            draft.unlink()
        except FileExistsError:
            raise StoreError(
                f"{final}: is there already; only a second builder on this folder writes it, so stop that one"
            ) from None
        except OSError as error:
            raise unwritable(final, error) from error


def staged_blocks(folder: Path) -> Iterator[tuple[Path, int]]:
    """The blocks that wait in a store until their headers are committed, and their heights."""
    for path in (folder / _PENDING).glob("block-*"):
        height = path.name.split("-")[1]
        if height.isdecimal():
            yield path, int(height)


def unwritable(path: Path, error: OSError) -> StoreError:
    """What to tell of a file that could not be written."""
    return StoreError(f"{path}: {error.strerror}; free space or mend the disk, then start again")


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it, flushing every parent that gained one."""
    if folder.exists():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    flush_folder(folder.parent)


def flush_folder(folder: Path) -> None:
    """Make names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
