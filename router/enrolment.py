"""What a participant gets at Kafka when an entry is admitted: a user, its permissions, inboxes; decided here, made elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from parley.errors import DirectoryError
from parley.schemas import DirectoryEntry
from parley.schemas import Role as EntryRole
from streams.catalogue import Role
from streams.provisioning import User

__all__ = ["combined", "enrolment"]

_ROLES: Final[dict[EntryRole, Role]] = {
    "BANK": Role.PARTICIPANT,
    "CSD": Role.PARTICIPANT,
    "REGULATOR": Role.REGULATOR,
    "AUDITOR": Role.AUDITOR,
}
"""Operator and registrar have their users from whoever set the backbone up."""
_PARTICIPANTS: Final = frozenset(_ROLES.values())


def enrolment(entry: DirectoryEntry, password: str | None, super_users: AbstractSet[str]) -> User | None:
    """The Kafka user that an entry's participant is to have; without a password only its permissions and inboxes.

    ``None`` for a role that has none from here.

    Raises:
        DirectoryError: the name is that of a user of the backbone itself, or the role has no user to set a password of.

    """
    role = _ROLES.get(entry.role)
    if role is None:
        if password is not None:
            raise DirectoryError(
                f"{entry.participant} is no participant whose Kafka user admission makes; leave the credentials out"
            )
        return None
    if entry.participant in super_users or entry.participant in {one.value for one in Role} - _PARTICIPANTS:
        raise DirectoryError(f"{entry.participant} is the name of a user of the backbone's; choose another")
    return User(entry.participant, role, password, entry.addresses)


def combined(users: Iterable[User]) -> list[User]:
    """One for each name: all addresses, the last password and role."""
    found: dict[str, User] = {}
    for user in users:
        before = found.get(user.name)
        if before is None:
            found[user.name] = user
        else:
            addresses = tuple(dict.fromkeys((*before.addresses, *user.addresses)))
            found[user.name] = User(user.name, user.role, user.password or before.password, addresses)
    return list(found.values())
