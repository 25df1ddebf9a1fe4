"""Errors of the router's services.

RouterError
└── RecoveryError    state and firehose disagree in a way that cannot be rebuilt
"""

from __future__ import annotations

from parley.errors import ParleyError


class RouterError(ParleyError):
    """Base of the router's errors."""


class RecoveryError(RouterError):
    """A pipeline's state cannot be rebuilt from its firehose; the operator must look before it goes on."""
