"""Files for their owner's eyes alone, read and replaced safely; what they hold is the keystore's affair.

Files are mode 0600, never reached through a symbolic link, and written beside, synced, then put in place.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from parley.errors import KeystoreError

__all__ = ["read_private", "replace", "write_new"]

_MAX_LENGTH = 1 << 20


def read_private(path: Path, kind: str = "keystore") -> bytes:
    """The file's bytes, 1 MiB at most; ``kind`` is what errors call it.

    Raises:
        KeystoreError: it is missing, unreadable, too large, a link, no regular file, or lets others in.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        mend = "make one with `parley keygen`" if kind == "keystore" else "write it, with mode 0600"
        raise KeystoreError(f"{path}: no such {kind}; {mend}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise KeystoreError(f"{path}: a symbolic link; name the {kind} itself") from None
        raise KeystoreError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    try:
        _require_private(path, os.fstat(descriptor).st_mode, kind)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(_MAX_LENGTH + 1)
    finally:
        os.close(descriptor)
    if len(data) > _MAX_LENGTH:
        raise KeystoreError(f"{path}: larger than any {kind}; name the {kind} itself")
    return data


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet.

    Raises:
        KeystoreError: it exists, or cannot be written.

    """
    temporary = _write_beside(path, data)
    try:
        os.link(temporary, path, follow_symlinks=False)  # unlike a rename, never takes another file's place
        _sync_directory(path)
    except FileExistsError:
        raise KeystoreError(f"{path}: exists already; open it, or choose another path") from None
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Put other bytes in a file's place: after a crash it holds the old ones or the new ones.

    Raises:
        KeystoreError: it cannot be written.

    """
    temporary = _write_beside(path, data)
    try:
        temporary.replace(path)
        _sync_directory(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def _require_private(path: Path, mode: int, kind: str) -> None:
    if not stat.S_ISREG(mode):
        raise KeystoreError(f"{path}: not a regular file; name the {kind} itself")
    if mode & 0o077:
        raise KeystoreError(
            f"{path}: others may read or change it (mode {stat.S_IMODE(mode):04o});"
            f" run chmod 600 {path} and, if others use this machine, change the keys"
        )


def _write_beside(path: Path, data: bytes) -> Path:
    """A new file of mode 0600 in the same directory, on disk."""
    if len(data) > _MAX_LENGTH:
        raise KeystoreError(f"{path}: {len(data)} bytes are more than can be read back; take old keys out")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from None
    return temporary


def _sync_directory(path: Path) -> None:
    """Make a rename or a new name in the file's directory last."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> KeystoreError:
    return KeystoreError(
        f"{path}: cannot be written ({error.strerror}); check the directory and its free space"
    )
