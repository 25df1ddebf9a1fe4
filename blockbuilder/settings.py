"""Settings of the block builder; what all services have stands in ``streams.settings``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from blockbuilder.core import Limits
from streams.settings import ServiceSettings

__all__ = ["BuilderSettings"]

_MIB = 1024 * 1024


class BuilderSettings(ServiceSettings):
    """Of ``python -m blockbuilder``. Environment: ``PARLEY_BLOCKBUILDER_…``."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_BLOCKBUILDER_")

    store: Path
    """The folder of the block store; made if it is not there."""
    origin: str = Field(pattern=r"^[^\s+]+$")
    """The log's name for ever, such as ``ledger.example/log``: checkpoints are signed under it."""
    key: str = Field(min_length=1)
    """The log's Ed25519 key, which signs checkpoints: a file with its seed (32 bytes) that its user alone may read, or the
    PKCS #11 URI of a key in a hardware module."""
    seal_interval_ms: int = Field(default=1_000, ge=50, le=60_000)
    """An ended transaction is in a block within this time."""
    block_transactions: int = Field(default=Limits().transactions, ge=1, le=1_000_000)
    block_bytes: int = Field(default=Limits().size_bytes, ge=_MIB)
    cache_bytes: int = Field(default=Limits().cache_bytes, ge=0)
    """What events of open transactions take in memory at most; older ones are read back when needed."""

    def limits(self) -> Limits:
        """What these settings allow."""
        return Limits(self.block_transactions, self.block_bytes, self.cache_bytes)
