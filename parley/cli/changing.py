"""``parley revoke``, ``address``, ``sealing`` and ``sign``: changes of an entry that stands in the directory; ``parley.cli.rotating`` is one more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from parley.cli.desk import change_in, hand_in, read_directory, read_request, tell, write_request
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    Wait,
    profile_of,
    signatories_of,
)
from parley.cli.who import find_key
from parley.custody import Signatory
from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, DIRECTORY_REVOCATION_TYPE, countersign, seal
from parley.errors import DirectoryError
from parley.keys import public_key
from parley.profile import Profile
from parley.schemas import (
    AdmissionRequest,
    DirectoryEntry,
    DirectoryRevocation,
    Envelope,
    KeyId,
    PublicKey,
    RevocationReason,
    decode,
    encode,
)

__all__ = [
    "Output",
    "amended",
    "entry_in",
    "entry_request",
    "present_entry",
    "refuse_early",
    "register",
    "speaking",
    "submit",
]

_REASONS: dict[str, RevocationReason] = {
    "compromised": "COMPROMISED",
    "superseded": "SUPERSEDED",
    "withdrawn": "WITHDRAWN",
}

Output = Annotated[
    Path | None,
    typer.Option(help="Write the signed request to this file, for others to sign, instead of submitting it."),
]


def register(app: typer.Typer) -> None:
    app.command()(revoke)
    app.command()(sign)
    group = typer.Typer(help="The addresses at which we receive.", no_args_is_help=True)
    group.command()(add)
    group.command()(drop)
    app.add_typer(group, name="address")
    sealing = typer.Typer(
        help="The router's keys that addresses are sealed to, in an operator's entry.", no_args_is_help=True
    )
    sealing.command("add")(add_sealing_key)
    sealing.command("drop")(drop_sealing_key)
    app.add_typer(sealing, name="sealing")


def revoke(
    key: Annotated[str, typer.Argument(help="The key, or its id, in hexadecimal; the first digits will do.")],
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(_REASONS)}.")] = "compromised",
    output: Output = None,
    wait: Wait = 60.0,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Revoke a key: what is judged from then on does not count with it; what it had signed before stays good.

    Signed by one valid key of its participant, be it the very one, or by the registrar.
    """
    if reason not in _REASONS:
        raise typer.BadParameter(f"--reason is one of {', '.join(_REASONS)}")
    settings = profile_of(profile)
    directory = read_directory(settings)
    identity = find_key(directory, key)
    held = directory.holder(identity)
    assert held is not None
    keys = signatories_of(settings, password_file)
    own = speaking(keys, directory, held.participant)
    # Another key than the one that goes, where there is one.
    signers = sorted(own, key=lambda one: one.id == identity)[:1]
    if not own and directory.registrar is not None:
        signers = speaking(keys, directory, directory.registrar)
    change = DirectoryRevocation(
        held.participant, identity, _REASONS[reason], _listing(directory, held.participant, identity)
    )
    asked = AdmissionRequest(encode(seal(DIRECTORY_REVOCATION_TYPE, change, *signers)), None)
    if output is not None:
        write_request(output, asked)
        tell(change, {"request": str(output)}, json=json)
        return
    tell(change, {"directory_version": submit(settings, directory, asked, wait)}, json=json)


def _listing(directory: Directory, participant: str, key: KeyId) -> int:
    """The version of the newest entry that lists the key."""
    return next(
        placed.version
        for placed in reversed(directory.history(participant))
        if isinstance(placed.change, DirectoryEntry)
        and any(key == listed for listed, _ in placed.change.signing_keys + placed.change.encryption_keys)
    )


# Addresses ----------------------------------------------------------------------------------------------------------------


def add(
    address: Annotated[str, typer.Argument(help="A new address: a-z 0-9 . -")],
    output: Annotated[
        Path, typer.Option(help="Write the signed request to this file; the registrar attests the address.")
    ],
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Ask for one more address; the registrar submits the request (`parley registrar admit`)."""
    settings = profile_of(profile)
    directory = read_directory(settings)
    before = present_entry(directory, settings.participant)
    if address in before.addresses:
        raise DirectoryError(f"{address} is an address of {settings.participant} already")
    entry = amended(directory, before, (*before.addresses, address))
    keys = signatories_of(settings, password_file)
    asked = entry_request(entry, speaking(keys, directory, settings.participant))
    write_request(output, asked)
    tell(entry, {"request": str(output)}, json=json)


def drop(
    address: Annotated[str, typer.Argument(help="One of our addresses.")],
    output: Output = None,
    wait: Wait = 60.0,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Give an address up: nothing new is delivered there, and what was stays readable. Nobody else ever gets it."""
    settings = profile_of(profile)
    directory = read_directory(settings)
    before = present_entry(directory, settings.participant)
    if address not in before.addresses:
        raise DirectoryError(f"{address} is no address of {settings.participant}'s; see `parley who`")
    entry = amended(directory, before, (each for each in before.addresses if each != address))
    keys = signatories_of(settings, password_file)
    asked = entry_request(entry, speaking(keys, directory, settings.participant))
    if output is not None:
        write_request(output, asked)
        tell(entry, {"request": str(output)}, json=json)
        return
    tell(entry, {"directory_version": submit(settings, directory, asked, wait)}, json=json)


# Keys for sealed addresses ------------------------------------------------------------------------------------------------


def add_sealing_key(
    key: Annotated[
        str,
        typer.Argument(help="The public key that `python -m router.sealing_keys` printed, in hexadecimal."),
    ],
    output: Output = None,
    wait: Wait = 60.0,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Have clients seal addresses to one more key; start every router with it first."""
    try:
        public = bytes.fromhex(key)
    except ValueError:
        public = b""
    if len(public) != 32:
        raise typer.BadParameter(
            "a public key has 64 hexadecimal digits, as `python -m router.sealing_keys` prints it"
        )

    def more(listed: tuple[PublicKey, ...]) -> tuple[PublicKey, ...]:
        return (*listed, public_key(public))

    _change_sealing(more, output, wait, profile, password_file, json=json)


def drop_sealing_key(
    key: Annotated[str, typer.Argument(help="The key, or its id, in hexadecimal; the first digits will do.")],
    output: Output = None,
    wait: Wait = 60.0,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Have no more addresses sealed to a key; its file is still needed for as long as transactions may last."""

    def fewer(listed: tuple[PublicKey, ...]) -> tuple[PublicKey, ...]:
        kept = tuple(
            each
            for each in listed
            if not (each.key_id.hex().startswith(key) or each.public_key.hex().startswith(key))
        )
        if len(kept) != len(listed) - 1:
            raise DirectoryError(f"{key} is not one of the {len(listed)} keys listed; see `parley who`")
        return kept

    _change_sealing(fewer, output, wait, profile, password_file, json=json)


def _change_sealing(
    change: Callable[[tuple[PublicKey, ...]], tuple[PublicKey, ...]],
    output: Path | None,
    wait: float,
    profile: Path,
    password_file: Path | None,
    *,
    json: bool,
) -> None:
    settings = profile_of(profile)
    directory = read_directory(settings)
    before = present_entry(directory, settings.participant)
    if before.role != "OPERATOR":
        raise DirectoryError(
            f"{settings.participant} is no operator; addresses are sealed to an operator's keys"
        )
    entry = amended(directory, before, before.addresses)
    entry = entry._replace(encryption_keys=change(entry.encryption_keys))
    keys = signatories_of(settings, password_file)
    asked = entry_request(entry, speaking(keys, directory, settings.participant))
    if output is not None:
        write_request(output, asked)
        tell(entry, {"request": str(output)}, json=json)
        return
    tell(entry, {"directory_version": submit(settings, directory, asked, wait)}, json=json)


def amended(directory: Directory, before: DirectoryEntry, addresses: Iterable[str]) -> DirectoryEntry:
    """The entry with other addresses and the keys that are valid now."""
    name = before.participant
    return before._replace(
        addresses=tuple(addresses),
        signing_keys=directory.signing_keys(name),
        encryption_keys=directory.encryption_keys(name),
        previous=directory.version_of(name),
    )


# Several signers ----------------------------------------------------------------------------------------------------------


def sign(
    request: Annotated[Path, typer.Argument(help="A request made with --output.")],
    output: Annotated[Path, typer.Option(help="Write it to this file with our signatures added.")],
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Add the signatures of our keystore's valid keys to a request for our own participant (four eyes)."""
    settings = profile_of(profile)
    asked = read_request(request)
    envelope = decode(asked.change, Envelope)
    change = change_in(envelope)
    if change.participant != settings.participant:
        raise DirectoryError(f"{request} changes {change.participant}, not {settings.participant}")
    keys = speaking(signatories_of(settings, password_file), read_directory(settings), settings.participant)
    signed = {signature.key_id for signature in envelope.signatures}
    envelope = countersign(envelope, *(key for key in keys if key.id not in signed))
    write_request(output, asked._replace(change=encode(envelope)))
    tell(change, {"request": str(output), "signatures": len(envelope.signatures)}, json=json)


def present_entry(directory: Directory, participant: str) -> DirectoryEntry:
    entry = directory.entry(participant)
    if entry is None:
        raise DirectoryError(f"{participant} is not in the directory; join first (`parley join`)")
    return entry


def speaking(keys: Iterable[Signatory], directory: Directory, participant: str) -> list[Signatory]:
    """Those of our keys that are the participant's now."""
    held = ((key, directory.speaker(key.id)) for key in keys)
    return [key for key, known in held if known is not None and known.participant == participant]


def entry_request(entry: DirectoryEntry, keys: Iterable[Signatory]) -> AdmissionRequest:
    signers = {key.id: key for key in keys}
    return AdmissionRequest(encode(seal(DIRECTORY_ENTRY_TYPE, entry, *signers.values())), None)


def entry_in(request: AdmissionRequest) -> DirectoryEntry:
    change = change_in(decode(request.change, Envelope))
    if not isinstance(change, DirectoryEntry):
        raise DirectoryError("the request revokes a key; hand in the one that `parley rotate --output` made")
    return change


def refuse_early(directory: Directory, request: AdmissionRequest) -> None:
    """Refuse here what admission would refuse; raises DirectoryError."""
    directory.admit(decode(request.change, Envelope), 0)


def submit(profile: Profile, directory: Directory, request: AdmissionRequest, wait: float) -> int:
    """Hand a request in if it could be admitted; gives the directory version that it made."""
    refuse_early(directory, request)
    return hand_in(profile, request, wait)
