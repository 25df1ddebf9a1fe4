"""The gateway's errors.

GatewayError
├── ProjectionError       what was read does not continue what the database has
└── DatabaseError         the database refuses what the projection asks of it
    └── DatabaseAwayError     it cannot be reached, or went away; nothing was lost, try again
"""

from __future__ import annotations

from parley.errors import ParleyError


class GatewayError(ParleyError):
    """Base of every error raised on purpose by the gateway."""


class ProjectionError(GatewayError):
    """What was read does not continue what the database has; find out why before you rebuild it."""


class DatabaseError(GatewayError):
    """The database refuses what the projection asks of it; the message says what to change."""


class DatabaseAwayError(DatabaseError):
    """The database cannot be reached, or went away; whether its last batch counts, its own positions tell."""
