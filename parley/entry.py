"""What a directory entry must look like by itself, whoever else is in the directory; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from parley.identifiers import is_name
from parley.keys import key_id
from parley.legal_identity import is_account, is_bic, is_country, is_lei
from parley.schemas import DirectoryEntry

__all__ = ["MAXIMUM_ACCOUNTS", "MAXIMUM_ADDRESSES", "MAXIMUM_KEYS", "faults_of"]

MAXIMUM_KEYS: Final = 16
MAXIMUM_ADDRESSES: Final = 256
MAXIMUM_ACCOUNTS: Final = 16


def faults_of(entry: DirectoryEntry) -> Iterator[str]:
    """What no entry may say, each with what to do."""
    yield from _of_names(entry)
    yield from _of_legal_identity(entry)
    yield from _of_keys(entry)


def _of_names(entry: DirectoryEntry) -> Iterator[str]:
    if not is_name(entry.participant) or not all(map(is_name, entry.addresses)):
        yield "the participant's name or an address is not well formed (1 to 128 of a-z 0-9 . -)"
    if not 1 <= len(entry.addresses) <= MAXIMUM_ADDRESSES or _repeated(entry.addresses):
        yield f"an entry has 1 to {MAXIMUM_ADDRESSES} different addresses"
    if len(entry.accounts) > MAXIMUM_ACCOUNTS or _repeated(entry.accounts):
        yield f"an entry has at most {MAXIMUM_ACCOUNTS} different accounts"
    if not all(map(is_account, entry.accounts)):
        yield "an account is not of the form chain:network:address (CAIP-10)"


def _of_legal_identity(entry: DirectoryEntry) -> Iterator[str]:
    if not entry.legal_name.strip() or not entry.legal_name.isprintable():
        yield "an entry has a legal name of printable characters"
    if not is_country(entry.country):
        yield f"{entry.country!r} is no country; a country is two capital letters of ISO 3166-1, such as DE"
    if entry.lei is not None and not is_lei(entry.lei):
        yield f"{entry.lei!r} is no LEI; its 20 characters or its check digits are wrong (ISO 17442): copy it again"
    if entry.bic is not None and not is_bic(entry.bic):
        yield f"{entry.bic!r} is no BIC; it has 8 or 11 characters, with a country at the fifth (ISO 9362): copy it again"


def _of_keys(entry: DirectoryEntry) -> Iterator[str]:
    keys = entry.signing_keys + entry.encryption_keys
    if not 1 <= len(entry.signing_keys) <= MAXIMUM_KEYS or len(entry.encryption_keys) > MAXIMUM_KEYS:
        yield f"an entry has 1 to {MAXIMUM_KEYS} signing keys and at most as many encryption keys"
    if any(key.key_id != key_id(key.public_key) for key in keys) or _repeated(key.key_id for key in keys):
        yield "each key is listed once, under the first 16 bytes of its SHA-256"
    if not 1 <= entry.threshold <= len(entry.signing_keys):
        yield "the threshold is at least 1 and at most the number of signing keys"


def _repeated(values: Iterable[object]) -> bool:
    listed = list(values)
    return len(set(listed)) != len(listed)
