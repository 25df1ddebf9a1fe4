"""Whether a participant may speak at all: its keys, enough of them, and its address stand in the directory; pure."""

from __future__ import annotations

from collections.abc import Sequence

from parley.custody import Signatory
from parley.directory import Directory
from parley.errors import DirectoryError

__all__ = ["check_admitted"]


def check_admitted(directory: Directory, participant: str, keys: Sequence[Signatory], address: str) -> None:
    """Return if the directory at hand takes messages signed with ``keys`` for the participant's, who receives at ``address``.

    Raises:
        DirectoryError: it does not; the message says what to do.

    """
    for key in keys:
        held = directory.holder(key.id)
        if held is None or held.participant != participant:
            raise DirectoryError(
                f"key {key.id.hex()} is not {participant}'s in the directory; join first (`parley join`)"
            )
        if held.until is not None:
            raise DirectoryError(f"key {key.id.hex()} was {held.ending}; connect with one that is valid now")
    needed = directory.threshold(participant, directory.version)
    if len({key.id for key in keys}) < needed:
        raise DirectoryError(
            f"{participant}'s messages need {needed} different keys; give the others as cosigners"
        )
    if directory.owner(address) != participant:
        raise DirectoryError(f"{address} is not an address of {participant}; use one of its entry")
