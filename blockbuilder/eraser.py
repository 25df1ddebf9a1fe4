"""Block files replaced by what is left of them after a purge; what goes, and whether it may, is decided elsewhere.

The order, and what a crash after each step leaves:

1. The rewritten block is written under ``.purging/``, flushed, read back and verified: the old file stands.
2. It takes the old file's name in one step, and the folder is flushed: the new file stands. Only now is it purged.
3. Copies of published blocks that a builder's crash left under ``.pending/`` are removed.

So a crash leaves one or the other, and the same purge again completes it; what is under ``.purging/`` is removed first. A
builder may work on the store at the same time: it never touches a block that the checkpoint covers. What file systems and
disks keep of a replaced file, snapshots and copies elsewhere are beyond this process's reach.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from blockbuilder.errors import SecondPurgeError, StoreError
from blockbuilder.store import flush_folder, staged_blocks, unwritable
from parley.blocks import Block, block_path, decode_block, encode_block
from parley.errors import ProofError
from streams.crashpoint import crash_point

__all__ = ["BlockEraser"]

_DRAFTS: Final = ".purging"
_LOCK: Final = ".purge.lock"


class BlockEraser:
    """The one process that purges a block store, until :meth:`close`.

    Raises:
        SecondPurgeError: another process purges it.
        StoreError: the folder cannot be written.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drafts = folder / _DRAFTS
        try:
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(folder / _LOCK, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise SecondPurgeError(
                f"block store {folder}: another process purges it; wait until it has ended"
            ) from None
        try:
            self._drafts.mkdir(exist_ok=True)
            for leftover in self._drafts.iterdir():
                leftover.unlink()
        except OSError as error:
            os.close(self._lock)
            raise unwritable(self._drafts, error) from error

    def replace(self, block: Block) -> None:
        """Put the block in the place of the fuller one of the same header.

        Raises:
            StoreError: it does not verify, or cannot be written; the file that was there stands.

        """
        height = block.header.height
        final, draft = self._folder / block_path(height), self._drafts / f"block-{height}"
        try:
            self._write(draft, encode_block(block))
            self._verify(draft, block)
            crash_point("blockbuilder.purge.written")
            draft.replace(final)
            crash_point("blockbuilder.purge.replaced")
            flush_folder(final.parent)
            self._verify(final, block)
        except OSError as error:
            raise unwritable(final, error) from error

    def clear_staged(self, size: int) -> None:
        """Remove staged copies of blocks below a published checkpoint's size: a builder stages none but later ones.

        Raises:
            StoreError: one cannot be removed.

        """
        for path, height in staged_blocks(self._folder):
            if height < size:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise unwritable(path, error) from error

    def _write(self, path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _verify(self, path: Path, block: Block) -> None:
        try:
            read = decode_block(path.read_bytes(), block.encoded_header)
        except ProofError as error:
            raise StoreError(f"{path}: {error}; see the disk, then purge again") from error
        if read != block:
            raise StoreError(f"{path}: reads otherwise than it was written; see the disk, then purge again")

    def close(self) -> None:
        """Let go of the store."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
