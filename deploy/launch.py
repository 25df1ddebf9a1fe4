"""Starts a program after what only its own process can do: it asks to die with its parent, and becomes somebody else.

This is a program and not code between fork and exec, because such code may wait for ever for a lock that another thread of
the parent held at the fork. It imports little, so that it costs a start 25 ms.
"""

from __future__ import annotations

import ctypes
import enum
import os
import pwd
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x1000_0000
_NOBODY = "nobody"


class Identity(enum.StrEnum):
    """Who the program is to be."""

    OURS = "ours"
    MASKED = "masked"
    """Ours to all others, ``nobody`` to itself, by a user namespace: it owns no less than we do. Linux only."""
    NOBODY = _NOBODY
    """The user ``nobody``."""


def launched(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    identity: Identity = Identity.OURS,
    death_signal: signal.Signals = signal.SIGKILL,
) -> list[str]:
    """The argument list that starts a program, given by its path, so.

    It gets the signal when the thread that forked it ends (Linux only).
    """
    options = [str(os.getpid()), str(death_signal.value), identity]
    return [sys.executable, "-I", "-S", __file__, *options, *(os.fspath(argument) for argument in arguments)]


def main() -> None:
    parent, death_signal, identity, *arguments = sys.argv[1:]
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and only for itself
        signal.signal(ignored, signal.SIG_DFL)
    try:
        _become(Identity(identity))
        _die_with(int(parent), int(death_signal))
        os.execv(arguments[0], arguments)  # noqa: S606 - an argument list
    except OSError as error:
        sys.exit(f"{arguments[0]} cannot be run: {error}")


def _become(identity: Identity) -> None:
    if identity is Identity.OURS:
        return
    account = pwd.getpwnam(_NOBODY)
    if identity is Identity.MASKED:
        libc = ctypes.CDLL(None, use_errno=True)
        uid, gid = os.geteuid(), os.getegid()
        if libc.unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "no user namespace")
        for file, line in (
            ("setgroups", "deny"),
            ("uid_map", f"{account.pw_uid} {uid} 1"),
            ("gid_map", f"{account.pw_gid} {gid} 1"),
        ):
            with open(f"/proc/self/{file}", "w", encoding="ascii") as told:  # noqa: PTH123 - pathlib takes 15 ms
                told.write(line)
    else:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.chdir("/")


def _die_with(parent: int, death_signal: int) -> None:
    if sys.platform != "linux":
        return
    # After the change of identity, which makes the kernel forget it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)


if __name__ == "__main__":
    main()
