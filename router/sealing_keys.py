"""The router's keys for sealed addresses in their folder, and ``python -m router.sealing_keys FOLDER``, which makes the next one.

Each is an X25519 private key (32 bytes) in a file of mode 0600, ``0001.x25519`` and on; the last is the one to seal to now. Which
of them count is for the operator's directory entry to say.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from parley.errors import ParleyError
from parley.keys import EncryptionKey
from parley.private_files import read_private, write_new

__all__ = ["read_keys", "renew"]

_PATTERN = "*.x25519"


def read_keys(folder: Path) -> list[EncryptionKey]:
    """All keys, newest first.

    Raises:
        KeystoreError: a file cannot be read, or others may read it.
        SigningError: a file holds no key.

    """
    return [EncryptionKey(read_private(file, "key file")) for file in _files(folder)]


def renew(folder: Path) -> EncryptionKey:
    """Make the next key, which counts once every router holds it and the operator's entry lists it.

    Raises:
        KeystoreError: it cannot be written.

    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    latest = max((int(file.stem) for file in _files(folder) if file.stem.isdecimal()), default=0)
    key = EncryptionKey.generate()
    write_new(folder / f"{latest + 1:04}.x25519", key.private)
    return key


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(_PATTERN), reverse=True)


def main(arguments: list[str] | None = None) -> int:
    """The exit code of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m router.sealing_keys", description="Make the router's next key for sealed addresses."
    )
    parser.add_argument("folder", type=Path, help="where its keys are (PARLEY_ROUTER_SEALED_KEYS)")
    try:
        key = renew(parser.parse_args(arguments).folder)
    except (ParleyError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{key.public.hex()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
