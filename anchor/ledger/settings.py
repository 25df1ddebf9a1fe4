"""The ledger service's settings: from the environment (``PARLEY_LEDGER_…``), frozen, unknown names refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from anchor.ledger.desk import Policy
from anchor.settings import usual_confirmations, web_addresses
from parley.kafka import KafkaAccess
from streams.settings import ServiceSettings

__all__ = ["LedgerSettings"]


class LedgerSettings(ServiceSettings):
    """Of ``python -m anchor.ledger``. Times in seconds."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PARLEY_LEDGER_")

    participant: str = "ledger"
    """The service's name in the directory, by which deals name it as a party."""
    registrar_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The registrar's public key in hexadecimal: the directory's root of trust."""
    key: str = Field(min_length=1)
    """Its Ed25519 key: a file with the seed (32 bytes) that its user alone may read, or a PKCS #11 URI."""
    encryption_keys: Annotated[tuple[Path, ...], NoDecode] = Field(min_length=1)
    """Files of its X25519 keys (32 bytes each, readable by its user alone), old ones included, separated by spaces or commas."""
    chain: str = Field(pattern=r"^eip155:[1-9][0-9]{0,17}$")
    """CAIP-2; every endpoint must serve it."""
    rpc: Annotated[tuple[SecretStr, ...], NoDecode] = Field(min_length=1)
    """Addresses of RPC endpoints, separated by spaces or commas; masked, for they may hold keys."""
    rpc_timeout: float = Field(10.0, gt=0)
    confirmations: int | None = Field(None, ge=1, le=10_000)
    """Blocks that make an outcome final; by default 12 on main nets, 6 on test nets, 2 on a development node."""
    poll: float = Field(2.0, ge=0.05)
    """Between two looks at what is released."""
    give_up_after: float = Field(86_400.0, ge=1, le=90 * 86_400)
    """From a release to the moment by which its receipt says what there is to say."""

    @field_validator("rpc", "encryption_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    _web_addresses = field_validator("rpc")(web_addresses)

    @property
    def chain_id(self) -> int:
        """The number in the chain's name."""
        return int(self.chain.removeprefix("eip155:"))

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The RPC endpoints in the clear."""
        return tuple(url.get_secret_value() for url in self.rpc)

    def policy(self) -> Policy:
        """What the desk goes by."""
        return Policy(
            self.chain,
            self.chain_id,
            self.confirmations or usual_confirmations(self.chain_id),
            round(self.give_up_after * 1000),
            self.poll,
        )

    def access(self) -> KafkaAccess:
        """How the service, which is a participant, reaches Kafka. Raises StreamError if the password file cannot be read."""
        connection = self.connection()
        return KafkaAccess(
            connection.bootstrap,
            connection.username,
            connection.password,
            security=connection.security,
            mechanism=connection.mechanism,
            ca_file=connection.ca_file,
        )
