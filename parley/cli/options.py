"""Options that several commands share, and what they lead to: the profile, the keys, files; no command is here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parley.errors import ParleyError, ProfileError
from parley.profile import Profile, load_profile, read_password

if TYPE_CHECKING:
    from parley.custody import Signatory
    from parley.keystore import Keystore
    from parley.note import VerifierKey
    from parley.reading import Reader

__all__ = [
    "Json",
    "LogKey",
    "PasswordFile",
    "ProfileFile",
    "Registrar",
    "Wait",
    "keystore_of",
    "open_keystore",
    "password",
    "profile_of",
    "read_file",
    "read_log_key",
    "reader_of",
    "registrar_key",
    "signatories_of",
    "signatory_of",
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
ProfileFile = Annotated[
    Path,
    typer.Option(
        "--profile", envvar="PARLEY_PROFILE", help="Profile (TOML): who we are, where the backbone is."
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        envvar="PARLEY_PASSWORD_FILE",
        help="File with the keystore's password; asked for if there is none.",
    ),
]
Wait = Annotated[float, typer.Option(help="Seconds to wait for admission.")]
LogKey = Annotated[
    Path, typer.Option("--log-key", help="File with the log's verifier key (name+id+key, one line).")
]
Registrar = Annotated[
    str | None,
    typer.Option("--registrar", help="The registrar's public key (hexadecimal), to trust names by."),
]

DEFAULT_PROFILE = Path("parley.toml")


def profile_of(path: Path) -> Profile:
    """The profile that ``--profile`` names; raises ProfileError."""
    return load_profile(path)


def password(file: Path | None, *, new: bool = False, of: str = "keystore") -> str:
    """The password of the keystore, or of its backup: from the file, or asked for without showing it; twice where it is new.

    Raises:
        ProfileError: the file cannot be read.

    """
    if file is not None:
        return read_password(file)
    answer = typer.prompt(f"Password of the {of}", hide_input=True, confirmation_prompt=new)
    return str(answer)


def open_keystore(path: Path, password_file: Path | None) -> Keystore:
    """The keystore in a file; raises KeystoreError or ProfileError."""
    from parley.keystore import Keystore  # noqa: PLC0415  loads the cryptography

    return Keystore.open(path, password(password_file))


def keystore_of(profile: Profile, password_file: Path | None) -> Keystore:
    """The profile's keystore; raises KeystoreError, or ProfileError where it names none."""
    if profile.keystore is None:
        raise ProfileError(
            f"{profile.path} names no keystore; make one with `parley keygen` and add its path"
        )
    return open_keystore(profile.keystore, password_file or profile.keystore_password_file)


def signatory_of(profile: Profile, password_file: Path | None, keystore: Keystore | None = None) -> Signatory:
    """What signs for the profile: the key it names, or else the active one of its keystore, which is opened if it is not yet.

    Raises:
        KeystoreError: keystore or hardware module do not give the key.
        ProfileError: the profile names neither.

    """
    if profile.signing_key is None:
        return (keystore or keystore_of(profile, password_file)).signing_key()
    from parley.custody import load_signatory  # noqa: PLC0415  loads the cryptography

    return load_signatory(profile.signing_key, profile.path.parent)


def signatories_of(
    profile: Profile, password_file: Path | None, keystore: Keystore | None = None
) -> tuple[Signatory, ...]:
    """All that can sign for the profile: the key it names, then those of its keystore, the active one first.

    Raises:
        KeystoreError: keystore or hardware module do not give a key.
        ProfileError: the profile names neither.

    """
    if profile.signing_key is None:
        return (keystore or keystore_of(profile, password_file)).signing_keys()
    named = signatory_of(profile, password_file, keystore)
    if keystore is None and profile.keystore is not None:
        keystore = keystore_of(profile, password_file)
    return (named, *(() if keystore is None else keystore.signing_keys()))


def reader_of(profile: Profile, password_file: Path | None) -> Reader:
    """What reads for the profile, with all encryption keys of its keystore; raises as :func:`keystore_of`."""
    from parley.reading import Reader  # noqa: PLC0415  loads the cryptography

    return Reader(profile.participant, keystore_of(profile, password_file))


def read_file(path: Path) -> bytes:
    """A file's bytes; raises ParleyError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ParleyError(f"{path} cannot be read: {error.strerror}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a new file; raises ParleyError if it exists or cannot be written."""
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ParleyError(f"{path} exists already; choose another name") from None
    except OSError as error:
        raise ParleyError(f"{path} cannot be written: {error.strerror}") from error


def read_log_key(path: Path) -> VerifierKey:
    """The log's verifier key in a file; raises SigningError or ParleyError."""
    from parley.note import parse_verifier_key  # noqa: PLC0415  loads the cryptography

    return parse_verifier_key(read_file(path).decode("utf-8", "replace").strip())


def registrar_key(digits: str | None) -> bytes | None:
    """The public key that ``--registrar`` gives; raises ParleyError."""
    if digits is None:
        return None
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ParleyError("--registrar must be a public key of 64 hexadecimal digits")
    return key
