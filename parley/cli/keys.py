"""``parley keygen``: new keys in a new keystore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parley.cli.options import Json, PasswordFile, password
from parley.cli.output import show, show_json
from parley.keys import EncryptionKey, SigningKey
from parley.keystore import Keystore

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command()(keygen)


def keygen(
    participant: Annotated[str, typer.Argument(help="Our name on the ledger: a-z 0-9 . -")],
    keystore: Annotated[
        Path | None, typer.Option("--keystore", help="The file to make; <participant>.keys by default.")
    ] = None,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Make a keystore with a new signing key and a new encryption key.

    The password is asked for without showing it, or read from a file; it is never an argument.
    """
    path = keystore or Path(f"{participant}.keys")
    store = Keystore.create(path, participant, password(password_file, new=True))
    signing, encryption = SigningKey.generate(), EncryptionKey.generate()
    store.add("signing-1", signing)
    store.add("encryption-1", encryption)
    store.save()
    if json:
        show_json(
            {
                "participant": participant,
                "keystore": str(path),
                "signing_key": signing.public.hex(),
                "signing_key_id": signing.id.hex(),
                "encryption_key": encryption.public.hex(),
                "encryption_key_id": encryption.id.hex(),
            }
        )
        return
    show(
        [
            ("participant", participant),
            ("keystore", str(path)),
            ("signing key", f"{signing.public.hex()} (id {signing.id.hex()})"),
            ("encryption key", f"{encryption.public.hex()} (id {encryption.id.hex()})"),
            ("next", "keep the file and its password apart and backed up, then `parley join`"),
        ]
    )
