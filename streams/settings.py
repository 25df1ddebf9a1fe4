"""The settings every service has: how it reaches Kafka, which instance it is, where its metrics are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.connection import KafkaConnection
from streams.errors import StreamError


class ServiceSettings(BaseSettings):
    """Base of a service's settings; a subclass adds its own and its ``env_prefix``, such as ``PARLEY_ROUTER_``."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    kafka_bootstrap: str
    kafka_username: str
    kafka_password_file: Path
    kafka_security: Literal["SASL_PLAINTEXT", "SASL_SSL"] = "SASL_PLAINTEXT"
    kafka_ca_file: Path | None = None
    instance: str = Field(default="1", pattern=r"^[a-z0-9][a-z0-9.-]*$")
    metrics_port: int = Field(default=0, ge=0, le=65_535)

    def connection(self) -> KafkaConnection:
        """The connection these settings describe; StreamError if the password file cannot be read."""
        try:
            password = self.kafka_password_file.read_text().strip()
        except OSError as error:
            raise StreamError(
                f"the password file {self.kafka_password_file} cannot be read: {error.strerror}"
            ) from error
        return KafkaConnection(
            self.kafka_bootstrap,
            self.kafka_username,
            password,
            security=self.kafka_security,
            ca_file=None if self.kafka_ca_file is None else str(self.kafka_ca_file),
        )
