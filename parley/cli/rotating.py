"""``parley rotate``: new keys in the place of the old ones, in the directory and in the keystore."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from parley.cli.changing import Output, entry_in, entry_request, present_entry, refuse_early, speaking
from parley.cli.desk import hand_in, read_directory, read_request, tell, write_request
from parley.cli.joining import NextKey, commitment
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    Wait,
    open_keystore,
    password,
    profile_of,
    signatories_of,
)
from parley.custody import Signatory, load_signatory
from parley.errors import DirectoryError, ProfileError
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.keystore import Keystore
from parley.schemas import PublicKey

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command()(rotate)


def rotate(
    committed: Annotated[
        Path | None,
        typer.Option(help="The keystore kept apart whose signing key we had committed to (--next-key)."),
    ] = None,
    committed_password_file: Annotated[
        Path | None, typer.Option(help="File with that keystore's password; asked for if there is none.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="A signing key made elsewhere (a PKCS #11 URI, or a private file with its seed); the profile must name it then."
        ),
    ] = None,
    next_key: NextKey = None,
    output: Output = None,
    request: Annotated[
        Path | None,
        typer.Option(help="Submit this file, made with --output, once the others have signed it."),
    ] = None,
    wait: Wait = 60.0,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Replace our keys by new ones. The old ones stay in the keystore: they read what was sealed to them.

    The new keys lie beside the keystore (its name and .next) until they stand in the directory, so that nothing is lost
    whenever this is interrupted: run it again.
    """
    settings = profile_of(profile)
    if settings.keystore is None:
        raise ProfileError(f"{settings.path} names no keystore; there is nothing to rotate")
    if settings.signing_key is not None and to is None and committed is None:
        raise ProfileError(
            f"{settings.path} names a signing key outside the keystore; make a new one where that is, and name it with --to"
        )
    secret = password(password_file or settings.keystore_password_file)
    keys = Keystore.open(settings.keystore, secret)
    directory = read_directory(settings)
    before = present_entry(directory, settings.participant)
    ours = speaking(signatories_of(settings, password_file, keys), directory, settings.participant)
    coming = settings.keystore.with_name(f"{settings.keystore.name}.next")
    if resumed := coming.exists():
        new = Keystore.open(coming, secret)
    else:
        apart = None if committed is None else open_keystore(committed, committed_password_file)
        new = _new_keys(
            coming,
            secret,
            settings.participant,
            0 if to is not None else max(1, len(ours)),
            None if apart is None else apart.signing_key(),
        )
    arriving = new.signing_keys() if to is None else (load_signatory(to, settings.path.parent),)
    if all(directory.speaker(key.id) is not None for key in arriving):
        version = directory.version_of(settings.participant) or 0  # an earlier run came this far
        entry = before
    else:
        if request is None:
            reading = {key.id for key in keys.encryption_keys()}
            entry = before._replace(
                signing_keys=_in_place(arriving, ours, directory.signing_keys(before.participant)),
                encryption_keys=(
                    public_key(new.encryption_key().public),
                    *(
                        key
                        for key in directory.encryption_keys(before.participant)
                        if key.key_id not in reading
                    ),
                ),
                previous=directory.version_of(before.participant),
                next_key=commitment(next_key),
            )
            asked = entry_request(entry, (*arriving, *ours))
        else:
            asked = read_request(request)
            entry = entry_in(asked)
        if output is not None:
            write_request(output, asked)
            tell(entry, {"request": str(output)}, json=json)
            return
        try:
            refuse_early(directory, asked)
        except DirectoryError:
            if not resumed:
                coming.unlink()  # nobody has seen these keys
            raise
        version = hand_in(settings, asked, wait)
    _adopt(keys, new)
    tell(entry, {"directory_version": version}, json=json)


def _new_keys(
    path: Path, secret: str, participant: str, count: int, committed: SigningKey | None
) -> Keystore:
    """A keystore for the time until they are admitted, on disk."""
    store = Keystore.create(path, participant, secret)
    signing = [SigningKey.generate() for _ in range(count)] if committed is None else [committed]
    for number, key in enumerate(signing, 1):
        store.add(f"signing-{number}", key)
    store.add("encryption-1", EncryptionKey.generate())
    store.save()
    return store


def _in_place(
    arriving: Iterable[Signatory], ours: Iterable[Signatory], valid: Iterable[PublicKey]
) -> tuple[PublicKey, ...]:
    """The new keys in the place of ours; those of others stay."""
    gone = {key.id for key in ours}
    return (
        *(public_key(key.public) for key in arriving),
        *(key for key in valid if key.key_id not in gone),
    )


def _adopt(keys: Keystore, new: Keystore) -> None:
    """Take the new keys into the keystore, and remove where they were."""
    held = {each.key.id for each in keys.keys}
    for number, each in enumerate(new.keys, len(keys.keys) + 1):
        if each.key.id not in held:
            kind = "signing" if isinstance(each.key, SigningKey) else "encryption"
            keys.add(f"{kind}-{number}", each.key)
    keys.save()
    new.path.unlink()
