"""``parley keygen`` and ``parley keys``: keys made, listed, and copied away and back; which one signs, the profile says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    keystore_of,
    open_keystore,
    password,
    profile_of,
)
from parley.cli.output import show, show_json
from parley.errors import KeystoreError
from parley.keys import EncryptionKey, SigningKey
from parley.keystore import Keystore
from parley.pkcs11_uri import parse_pkcs11_uri, token_key

if TYPE_CHECKING:
    from parley.custody import Signatory

__all__ = ["register"]

Hardware = Annotated[
    str | None,
    typer.Option(
        "--hardware",
        metavar="URI",
        help="A hardware module: pkcs11:token=…;object=…?module-path=…&pin-source=file:… (RFC 7512).",
    ),
]
KeystoreFile = Annotated[
    Path | None, typer.Option("--keystore", help="The keystore file; the profile's by default.")
]
BackupPasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--backup-password-file",
        envvar="PARLEY_BACKUP_PASSWORD_FILE",
        help="File with the backup's own password; asked for if there is none.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(keygen)
    keys = typer.Typer(help="Look after the keystore.", no_args_is_help=True)
    keys.command("list")(list_keystore)
    keys.command()(backup)
    keys.command()(restore)
    app.add_typer(keys, name="keys")


def keygen(
    participant: Annotated[str, typer.Argument(help="Our name on the ledger: a-z 0-9 . -")],
    keystore: Annotated[
        Path | None, typer.Option("--keystore", help="The file to make; <participant>.keys by default.")
    ] = None,
    hardware: Hardware = None,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Make a keystore with a new signing key and a new encryption key.

    With --hardware the signing key is made in the hardware module, which it never leaves; the encryption key is in the file. The
    password is asked for without showing it, or read from a file; it is never an argument.
    """
    reference = None if hardware is None else token_key(parse_pkcs11_uri(hardware))
    path = keystore or Path(f"{participant}.keys")
    store = Keystore.create(path, participant, password(password_file, new=True))
    signing: Signatory
    if reference is None:
        signing = software = SigningKey.generate()
        store.add("signing-1", software)
    else:
        try:
            from parley.hardware import HardwareKey  # noqa: PLC0415  an optional extra

            signing = HardwareKey.generate(reference)
        except KeystoreError:
            path.unlink()  # it is new and empty, and would be in the way of another try
            raise
    encryption = EncryptionKey.generate()
    store.add("encryption-1", encryption)
    store.save()
    if json:
        show_json(
            {
                "participant": participant,
                "keystore": str(path),
                "hardware": hardware,
                "signing_key": signing.public.hex(),
                "signing_key_id": signing.id.hex(),
                "encryption_key": encryption.public.hex(),
                "encryption_key_id": encryption.id.hex(),
            }
        )
        return
    step = "keep the file and its password apart and backed up (`parley keys backup`), then `parley join`"
    if hardware is not None:
        step = f'add to the profile: signing_key = "{hardware}"; {step}'
    show(
        [
            ("participant", participant),
            ("keystore", str(path)),
            ("signing key", f"{signing.public.hex()} (id {signing.id.hex()})"),
            ("encryption key", f"{encryption.public.hex()} (id {encryption.id.hex()})"),
            ("next", step),
        ]
    )


def list_keystore(
    keystore: KeystoreFile = None,
    hardware: Hardware = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """List the keys of the keystore, oldest first, or with --hardware those of a token; only their public halves."""
    rows: list[dict[str, str | bool]]
    if hardware is not None:
        from parley.hardware import list_keys  # noqa: PLC0415  an optional extra

        reference = token_key(parse_pkcs11_uri(hardware))
        rows = [
            {
                "name": key.label,
                "kind": "signing",
                "token_id": key.token_id.hex(),
                "public_key": key.public.hex(),
                "id": key.id.hex(),
            }
            for key in list_keys(reference)
        ]
    else:
        rows = [
            {
                "name": name,
                "kind": "signing" if isinstance(key, SigningKey) else "encryption",
                "active": active,
                "public_key": key.public.hex(),
                "id": key.id.hex(),
            }
            for name, key, active in _opened(keystore, profile, password_file).keys
        ]
    for row in rows:
        if json:
            show_json(row)
        else:
            state = "" if row.get("active", True) else "  kept for reading"
            typer.echo(f"{row['name']:<24}  {row['kind']:<10}  {row['public_key']}  id {row['id']}{state}")


def backup(
    file: Annotated[Path, typer.Argument(help="The copy to make, such as on another medium.")],
    keystore: KeystoreFile = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    backup_password_file: BackupPasswordFile = None,
    json: Json = False,
) -> None:
    """Copy all keys, old ones included, to a new file under a password of its own; it is read back before this says so.

    A key in a hardware module stays there: only the module's own means can copy it, if any.
    """
    store = _opened(keystore, profile, password_file)
    copy = store.copy_to(file, password(backup_password_file, new=True, of="backup"))
    _tell(copy, json=json)


def restore(
    file: Annotated[Path, typer.Argument(help="The copy that `parley keys backup` made.")],
    keystore: Annotated[
        Path | None, typer.Option("--keystore", help="The file to make; <participant>.keys by default.")
    ] = None,
    password_file: PasswordFile = None,
    backup_password_file: BackupPasswordFile = None,
    json: Json = False,
) -> None:
    """Make a keystore from a backup, under a new password: what was sealed to any earlier key is readable again."""
    copy = Keystore.open(file, password(backup_password_file, of="backup"))
    path = keystore or Path(f"{copy.participant}.keys")
    _tell(copy.copy_to(path, password(password_file, new=True)), json=json)


def _opened(keystore: Path | None, profile: Path, password_file: Path | None) -> Keystore:
    if keystore is not None:
        return open_keystore(keystore, password_file)
    return keystore_of(profile_of(profile), password_file)


def _tell(store: Keystore, *, json: bool) -> None:
    signing, encryption = len(store.signing_keys()), len(store.encryption_keys())
    if json:
        show_json(
            {
                "participant": store.participant,
                "keystore": str(store.path),
                "signing_keys": signing,
                "encryption_keys": encryption,
            }
        )
        return
    show(
        [
            ("participant", store.participant),
            ("keystore", str(store.path)),
            ("signing keys", str(signing)),
            ("encryption keys", str(encryption)),
        ]
    )
