"""Settings of the monitor; what all services have stands in `streams.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from parley.kafka import KafkaAccess
from parley.keystore import Keystore
from parley.profile import read_password
from parley.reading import Reader
from streams.settings import ServiceSettings

__all__ = ["MonitorSettings"]


class MonitorSettings(ServiceSettings):
    """Of `python -m firehose`."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_MONITOR_")

    state_file: Path
    """Where the figures and the cursor are kept: JSON, replaced whole."""
    save_interval_ms: int = Field(default=1_000, ge=10)
    keystore: Path | None = None
    """Whose encryption keys read what is granted to their participant; without it all that is private stays unread."""
    keystore_password_file: Path | None = None

    @model_validator(mode="after")
    def _password_of_the_keystore(self) -> Self:
        if (self.keystore is None) != (self.keystore_password_file is None):
            raise ValueError("keystore and keystore_password_file go together; name both or neither")
        return self

    def reader(self) -> Reader | None:
        """What reads by the keystore's keys; KeystoreError or ProfileError if it cannot be opened."""
        if self.keystore is None or self.keystore_password_file is None:
            return None
        keystore = Keystore.open(self.keystore, read_password(self.keystore_password_file))
        return Reader(keystore.participant, keystore)

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
