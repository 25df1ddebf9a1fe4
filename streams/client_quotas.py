"""What each role may ask of a broker (Kafka's client quotas), and the call that sets it; decides nothing about who has which role.

A broker slows who asks for more, and refuses nothing: answers come later. How much a participant may *say* is the router's to
limit; this keeps one client from taking the brokers away from all others. Quotas are for each broker, so a cluster of three gives a
user up to three times as much.

The driver used everywhere else cannot set quotas (librdkafka issue 5227), so this one call goes through kafka-python.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from streams.catalogue import Role
from streams.errors import ProvisioningError

if TYPE_CHECKING:
    from streams.connection import KafkaConnection

__all__ = ["CLIENT_QUOTAS", "DEFAULT_ROLE", "UNLIMITED", "ClientQuota", "ClientQuotas", "Limit", "set_quotas"]

_MIB: Final = 1024 * 1024
_SECONDS: Final = 30.0
_NO_LIMIT: Final = float(2**53)
"""As good as none. Who has no quota of its own has that of everybody else."""


class ClientQuota(BaseModel):
    """What one user may ask of each broker; None is without a limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    producer_bytes: float | None = Field(default=None, gt=0)
    """Bytes a second that it may write."""
    consumer_bytes: float | None = Field(default=None, gt=0)
    """Bytes a second that it may read."""
    request_percent: float | None = Field(default=None, gt=0)
    """Of one thread's time that its requests may take; a broker with eight of them has 800 to give."""


ClientQuotas = Mapping[Role, ClientQuota]

UNLIMITED: Final = ClientQuota()
DEFAULT_ROLE: Final = Role.PARTICIPANT
"""Its quota is that of every user who has none of its own, so nobody is without."""

_READING: Final = ClientQuota(producer_bytes=1 * _MIB, consumer_bytes=128 * _MIB, request_percent=200)

CLIENT_QUOTAS: Final[ClientQuotas] = {
    Role.PARTICIPANT: ClientQuota(producer_bytes=32 * _MIB, consumer_bytes=64 * _MIB, request_percent=200),
    Role.REGULATOR: _READING,
    Role.MONITOR: _READING,
    Role.AUDITOR: _READING,
    Role.REGISTRAR: _READING,
    Role.OPERATOR: ClientQuota(producer_bytes=32 * _MIB, consumer_bytes=128 * _MIB, request_percent=200),
}
"""Far more than anybody needs who behaves. Roles that are not named, our own services, have no limit."""


class Limit(NamedTuple):
    """The quota of one user, or of every user without one where ``user`` is None."""

    user: str | None
    quota: ClientQuota

    def values(self) -> dict[str, float | None]:
        """By Kafka's names; None takes a limit away, which leaves a user with that of everybody else."""
        named = {
            "producer_byte_rate": self.quota.producer_bytes,
            "consumer_byte_rate": self.quota.consumer_bytes,
            "request_percentage": self.quota.request_percent,
        }
        if self.user is None:
            return named
        return {name: _NO_LIMIT if value is None else value for name, value in named.items()}


def set_quotas(connection: KafkaConnection, limits: Iterable[Limit]) -> None:
    """Set these quotas, in one call; its user must be a super user, or may alter the cluster's settings.

    Raises:
        ProvisioningError: the cluster refuses one, or cannot be reached.
    """
    # Loaded here, since few processes ever set a quota, and it takes a quarter of a second.
    from kafka.admin import KafkaAdminClient  # noqa: PLC0415
    from kafka.errors import KafkaError  # noqa: PLC0415
    from kafka.protocol.admin import AlterClientQuotasRequest  # noqa: PLC0415

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what goes wrong is raised
    entry = AlterClientQuotasRequest.EntryData
    request = AlterClientQuotasRequest(
        entries=[
            entry(
                entity=[entry.EntityData(entity_type="user", entity_name=limit.user)],
                ops=[
                    entry.OpData(key=key, value=value or 0.0, remove=value is None)
                    for key, value in limit.values().items()
                ],
            )
            for limit in limits
        ],
        validate_only=False,
    )
    try:
        with KafkaAdminClient(**_settings(connection)) as admin:  # type: ignore[no-untyped-call]
            # Its own calls do the same; it has none for quotas.
            manager = admin._manager  # noqa: SLF001
            answer = manager.run(manager.send, request)
    except KafkaError as error:
        raise ProvisioningError(
            f"client quotas cannot be set: {error}; check that the broker is up, and the user's permissions"
        ) from error
    for each in answer.entries:
        if each.error_code:
            who = each.entity[0].entity_name or "everybody"
            raise ProvisioningError(
                f"the client quota of {who} is refused: error {each.error_code}, {each.error_message}"
            )


def _settings(connection: KafkaConnection) -> dict[str, object]:
    return {
        "bootstrap_servers": connection.bootstrap,
        "security_protocol": connection.security,
        "sasl_mechanism": connection.mechanism,
        "sasl_plain_username": connection.username,
        "sasl_plain_password": connection.password,
        "ssl_cafile": connection.ca_file,
        "bootstrap_timeout_ms": int(_SECONDS * 1_000),
    }
