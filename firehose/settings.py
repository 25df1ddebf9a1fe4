"""Settings of the monitor; what all services have stands in `streams.settings`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from parley.kafka import KafkaAccess
from streams.settings import ServiceSettings

__all__ = ["MonitorSettings"]


class MonitorSettings(ServiceSettings):
    """Of `python -m firehose`."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_MONITOR_")

    state_file: Path
    """Where the figures and the cursor are kept: JSON, replaced whole."""
    save_interval_ms: int = Field(default=1_000, ge=10)

    def access(self) -> KafkaAccess:
        """How the firehose is reached; StreamError if the password file cannot be read."""
        connection = self.connection()
        return KafkaAccess(
            connection.bootstrap,
            connection.username,
            connection.password,
            security=connection.security,
            mechanism=connection.mechanism,
            ca_file=connection.ca_file,
        )
