"""What the commands around the directory share: reading it, handing a change in, and hearing what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from parley.admission import Change
from parley.cli.options import read_file, write_file
from parley.cli.output import show, show_json
from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, DIRECTORY_REVOCATION_TYPE
from parley.errors import DirectoryError
from parley.kafka import ADMISSIONS_REFUSED, DIRECTORY, TopicReader, submit_admission
from parley.schemas import (
    AdmissionRefusal,
    AdmissionRequest,
    DirectoryEntry,
    DirectoryRevocation,
    Envelope,
    PublicKey,
    decode,
    decode_any,
    encode,
)

if TYPE_CHECKING:
    from parley.profile import Profile

__all__ = [
    "change_in",
    "directory_records",
    "hand_in",
    "read_directory",
    "read_request",
    "rows",
    "tell",
    "write_request",
]


def read_directory(profile: Profile) -> Directory:
    """The directory as it stands now; DirectoryError if it breaks a rule, TransportError if it cannot be read."""
    directory = Directory(profile.registrar)
    for record in directory_records(profile):
        directory.apply(record)
    return directory


def directory_records(profile: Profile) -> list[bytes]:
    """The directory's records as Kafka serves them, in order; TransportError if it cannot be read."""
    with TopicReader(profile.access(), DIRECTORY) as reader:
        return [record.value for record in reader.read_to_end()]


def read_request(path: Path) -> AdmissionRequest:
    """The request in a file, or the change alone as one.

    Raises:
        DirectoryError: the file holds something else.
        WireError: it holds nothing that can be read.

    """
    data = read_file(path)
    value = decode_any(data)
    request = AdmissionRequest(data, None) if isinstance(value, Envelope) else value
    if not isinstance(request, AdmissionRequest):
        raise DirectoryError(f"{path} holds no request to admission; make one with `parley join --output`")
    change_in(decode(request.change, Envelope))
    return request


def write_request(path: Path, request: AdmissionRequest) -> None:
    """Write a request to a new file."""
    write_file(path, encode(request))


def change_in(envelope: Envelope) -> Change:
    """The entry or revocation in an envelope; DirectoryError if it holds neither."""
    if envelope.payload_type == DIRECTORY_ENTRY_TYPE:
        return decode(envelope.payload, DirectoryEntry)
    if envelope.payload_type == DIRECTORY_REVOCATION_TYPE:
        return decode(envelope.payload, DirectoryRevocation)
    raise DirectoryError(
        f"a payload of type {envelope.payload_type!r} changes no directory; make the request again"
    )


def hand_in(profile: Profile, request: AdmissionRequest, wait: float) -> int:
    """Submit a request, and give the directory version that it made.

    Raises:
        DirectoryError: it was refused, or nothing was heard of it within ``wait`` seconds.
        TransportError: the backbone cannot be reached.

    """
    change = change_in(decode(request.change, Envelope))
    data = encode(request)
    access, directory = profile.access(), Directory(profile.registrar)
    with TopicReader(access, DIRECTORY) as changes, TopicReader(access, ADMISSIONS_REFUSED) as refusals:
        for _ in refusals.read_to_end():
            pass  # of earlier requests
        submit_admission(access, change.participant, data)
        until = time.monotonic() + wait
        while time.monotonic() < until:
            for record in changes.poll(0.2):
                directory.apply(record.value)
            for placed in directory.history(change.participant):
                if placed.change == change:
                    return placed.version
            for record in refusals.poll(0):
                refusal = decode(record.value, AdmissionRefusal)
                if refusal.request == sha256(data).digest():
                    raise DirectoryError(f"refused: {refusal.detail}")
    raise DirectoryError(
        f"nothing was heard of the request for {change.participant} within {wait:g} s; see whether it stands in the directory"
        " (`parley who`), and hand it in again with a longer --wait"
    )


def rows(change: Change) -> Iterator[tuple[str, str | int | None]]:
    """An entry or a revocation as people read it."""
    yield "participant", change.participant
    if isinstance(change, DirectoryRevocation):
        yield "revoked key", change.key_id.hex()
        yield "reason", change.reason.lower()
        return
    yield "legal name", change.legal_name
    yield "LEI", change.lei
    yield "BIC", change.bic
    yield "country", change.country
    yield "role", change.role.lower()
    yield "addresses", ", ".join(change.addresses)
    yield "accounts", ", ".join(change.accounts) or None
    yield from (("signing key", _key(key)) for key in change.signing_keys)
    yield from (("encryption key", _key(key)) for key in change.encryption_keys)
    yield "signatures needed", change.threshold
    yield "next key (SHA-256)", None if change.next_key is None else change.next_key.hex()
    yield "replaces version", change.previous


def _key(key: PublicKey) -> str:
    return f"{key.public_key.hex()} (id {key.key_id.hex()})"


def tell(change: Change, result: dict[str, str | int], *, json: bool) -> None:
    """What was asked for, and what became of it."""
    if json:
        facts = (
            {"legal_name": change.legal_name, "role": change.role}
            if isinstance(change, DirectoryEntry)
            else {"revoked_key": change.key_id.hex(), "reason": change.reason}
        )
        show_json({"participant": change.participant, **facts, **result})
        return
    show([*rows(change), *((name.replace("_", " "), value) for name, value in result.items())])
