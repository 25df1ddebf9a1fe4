"""The router processes' settings: from the environment, frozen, unknown names refused, secrets only as file paths."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["AdmissionSettings", "DeliverySettings", "KafkaSettings", "RouterSettings"]


class KafkaSettings(BaseSettings):
    """How a service reaches Kafka, and what every service has."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PARLEY_")

    kafka_bootstrap: str
    kafka_username: str
    kafka_password_file: Path
    instance: str = "0"
    metrics_port: int = Field(0, ge=0, le=65_535)
    """0 serves no metrics."""
    registrar_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The registrar's public key in hexadecimal: the root of trust of the directory."""


class RouterSettings(KafkaSettings):
    """Of `python -m router`."""

    key_file: Path
    """The router's Ed25519 seed, 32 bytes, readable by its user alone."""
    threads: int = Field(1, ge=1, le=64)
    """That verify signatures side by side; more help only where cores are idle."""
    commit_interval_ms: int = Field(25, ge=1, le=1_000)
    batch_records: int = Field(1_000, ge=1, le=100_000)
    record_bytes: int = Field(1_114_112, ge=1_024)
    duration_ms: int = Field(92 * 86_400_000, ge=1)
    messages_per_transaction: int = Field(1_024, ge=2)
    remembered_ms: int = Field(600_000, ge=0)
    block_grace_ms: int = Field(60_000, ge=1_000)


class DeliverySettings(KafkaSettings):
    """Of `python -m router.delivery`."""


class AdmissionSettings(KafkaSettings):
    """Of `python -m router.admission`."""
