"""Settings of the router, delivery and admission processes; what all services have stands in `streams.settings`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from router.core import Limits
from router.quotas import Quotas
from streams.catalogue import Role
from streams.client_quotas import CLIENT_QUOTAS, ClientQuota
from streams.settings import ServiceSettings

__all__ = ["AdmissionSettings", "DeliverySettings", "RouterSettings"]

_HEXADECIMAL_KEY = r"^[0-9a-f]{64}$"


class RouterSettings(ServiceSettings):
    """Of `python -m router`."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_ROUTER_")

    registrar_key: str = Field(pattern=_HEXADECIMAL_KEY)
    """The registrar's public key in hexadecimal: the directory's root of trust."""
    key: str = Field(min_length=1)
    """The router's Ed25519 key, which signs receipts: a file with its seed (32 bytes) that its user alone may read, or the
    PKCS #11 URI of a key in a hardware module."""
    sealed_keys: Path | None = None
    """A folder with the X25519 keys (32 bytes each, ``*.x25519``, readable by its user alone) that addresses may be sealed to, old
    ones included; the last by name is the one to seal to now. Without it no party can be hidden."""
    threads: int = Field(default=1, ge=1, le=64)
    """That verify signatures side by side; more than one helps where cores are idle."""
    gather_ms: int = Field(default=9, ge=1, le=1_000)
    """How long a batch gathers after its first record: more makes larger commits, and later ones."""
    batch_records: int = Field(default=1_000, ge=1, le=100_000)
    record_bytes: int = Field(default=Limits().record_bytes, ge=1_024)
    duration_ms: int = Field(default=Limits().duration, ge=1)
    messages: int = Field(default=Limits().messages, ge=2)
    remembered_ms: int = Field(default=Limits().remembered, ge=0)
    block_grace_ms: int = Field(default=Limits().block_grace, ge=1_000)
    delivered_bytes: int = Field(default=Limits().delivered_bytes, ge=1_024)
    required_readers: dict[str, frozenset[str]] = Field(default_factory=dict)
    """By kind of transaction, who must be granted its key, as JSON: `{"dvp": ["regulator"]}`. Empty: nobody must."""
    free_kinds: frozenset[str] = frozenset()
    """Kinds of transaction whose steps are not enforced, as JSON: `["otc-trade"]`. The table is `parley.steps`."""
    sender_messages_per_second: int = Field(default=Quotas().messages_per_second, ge=0, le=1_000_000)
    """That one sender may have accepted on each pipeline; 0: any number."""
    sender_bytes_per_second: int = Field(default=Quotas().bytes_per_second, ge=0)
    """Of ingest records, as for messages."""
    sender_allowance_ms: int = Field(default=Quotas().allowance, ge=1, le=3_600_000)
    """How long a time's worth of either rate a sender may send at once."""
    sender_open_transactions: int = Field(default=Quotas().open_transactions, ge=0)
    """That one sender may have opened on each pipeline without an end; 0: any number."""

    def limits(self) -> Limits:
        """What these settings allow."""
        return Limits(
            record_bytes=self.record_bytes,
            duration=self.duration_ms,
            messages=self.messages,
            remembered=self.remembered_ms,
            block_grace=self.block_grace_ms,
            delivered_bytes=self.delivered_bytes,
            required_readers=self.required_readers,
            free_kinds=self.free_kinds,
            quotas=Quotas(
                messages_per_second=self.sender_messages_per_second,
                bytes_per_second=self.sender_bytes_per_second,
                allowance=self.sender_allowance_ms,
                open_transactions=self.sender_open_transactions,
            ),
        )


class DeliverySettings(ServiceSettings):
    """Of `python -m router.delivery`."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_DELIVERY_")


class AdmissionSettings(ServiceSettings):
    """Of `python -m router.admission`."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_ADMISSION_")

    registrar_key: str = Field(pattern=_HEXADECIMAL_KEY)
    """The registrar's public key in hexadecimal: the directory's root of trust."""
    key_file: Path
    """The X25519 private key (32 bytes), readable by its user alone, to which newcomers seal their Kafka passwords."""
    super_users: tuple[str, ...] = ("admin",)
    """Kafka users whose names no participant may have, besides the services'."""
    replication: int = Field(default=1, ge=1)
    """Of the inboxes that it makes."""
    min_in_sync: int = Field(default=1, ge=1)
    client_quotas: dict[Role, ClientQuota] = Field(default_factory=lambda: dict(CLIENT_QUOTAS))
    """By role what a user that it makes may ask of each broker, as JSON: `{"regulator": {"consumer_bytes": 1048576}}`."""
