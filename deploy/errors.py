"""The errors of set-up and of the embedded stack; every message tells a person what to do next.

DeployError
├── SetupError            this machine lacks something, or a download cannot be trusted
├── PortInUseError        a port that was asked for belongs to another process
├── AlreadyRunningError   the folder's stack is up already
├── NotRunningError       the folder's stack is not up
└── StartError            a process did not become ready, or died; carries the end of its log
"""

from __future__ import annotations

from parley.errors import ParleyError


class DeployError(ParleyError):
    """Base of every error raised on purpose by the deploy package."""


class SetupError(DeployError):
    """This machine lacks something that set-up needs, or what was downloaded is not what the lock names."""


class PortInUseError(DeployError):
    """Another process listens on the port; stop it or choose another port."""


class AlreadyRunningError(DeployError):
    """A stack runs in this folder already; use it, or stop it first."""


class NotRunningError(DeployError):
    """No stack runs in this folder; start one first."""


class StartError(DeployError):
    """A process did not become ready in time, or ended on its own; its log says why."""
