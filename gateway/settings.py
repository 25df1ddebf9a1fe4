"""Settings of the gateway; what all services have stands in `streams.settings`."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from streams.settings import ServiceSettings

__all__ = ["GatewaySettings"]


class GatewaySettings(ServiceSettings):
    """Of `python -m gateway`."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_GATEWAY_")

    dsn: str
    """The database, as libpq's URI or keywords. It holds no secret: a password is in the file that ``passfile`` names,
    which libpq reads if nobody else may, or none is needed (a socket, a client certificate)."""
    db_schema: str = Field(default="parley", pattern=r"^[a-z][a-z0-9_]{0,62}$")
    """The schema that is the projection's own; a rebuild drops it. PostgreSQL finds it unasked for a user of this name."""
    batch_records: int = Field(default=5_000, ge=1, le=100_000)
    """The most records of a topic in one database transaction."""

    @field_validator("dsn")
    @classmethod
    def _no_secret(cls, value: str) -> str:
        try:
            parts = conninfo_to_dict(value)
        except psycopg.Error:
            raise ValueError(
                "not a libpq connection string, such as postgresql://user@host/database"
            ) from None
        if parts.get("password") or parts.get("sslpassword"):
            raise ValueError("holds a password; put it into a file of mode 0600 and name that with passfile=")
        return value
