"""The anchor service's settings: from the environment (``PARLEY_ANCHOR_…``), frozen, unknown names refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from eth_utils.address import is_address, to_checksum_address
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from anchor.core import Policy
from streams.settings import ServiceSettings

_MAIN_NETS: Final = frozenset({1, 10, 56, 100, 137, 8453, 43114, 59144})
_DEVELOPMENT_NETS: Final = frozenset({1337, 31337})
_GWEI: Final = 10**9


def web_addresses(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """The same addresses, if each is one of the web."""
    if not all(url.get_secret_value().startswith(("http://", "https://")) for url in value):
        raise ValueError("expected addresses that begin with http:// or https://")
    return value


class AnchorSettings(ServiceSettings):
    """Of ``python -m anchor``. Times in seconds."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PARLEY_ANCHOR_")

    checkpoint: str
    """The block store's ``checkpoint``: a path, or an http(s) address."""
    log_key_file: Path
    """The log's verifier key, one line (C2SP signed-note)."""
    chain: str = Field(pattern=r"^eip155:[1-9][0-9]{0,17}$")
    """CAIP-2; every endpoint must serve it."""
    rpc: Annotated[tuple[SecretStr, ...], NoDecode] = Field(min_length=1)
    """Addresses of RPC endpoints, separated by spaces or commas; masked, for they may hold keys."""
    contract: str
    key_file: Path
    """The account's private key (64 hexadecimal digits) or keystore, readable by its user alone."""
    key_password_file: Path | None = None
    confirmations: int | None = Field(None, ge=1, le=10_000)
    """Blocks that make an anchor final; by default 12 on main nets, 6 on test nets, 2 on a development node."""
    interval: float = Field(30.0, gt=0)
    """Between two anchors at least; the next also waits until the last is final."""
    poll: float = Field(2.0, ge=0.05)
    stuck_after: float = Field(60.0, gt=0)
    stuck_blocks: int = Field(3, ge=1)
    fee_cap_gwei: int = Field(200, ge=1)
    """The most offered for a unit of gas; above it, anchoring waits and raises an alarm."""
    rpc_timeout: float = Field(10.0, gt=0)

    @field_validator("rpc", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    _web_addresses = field_validator("rpc")(web_addresses)

    @field_validator("contract")
    @classmethod
    def _address(cls, value: str) -> str:
        if not is_address(value):
            raise ValueError("expected an address: 0x and 40 hexadecimal digits")
        return to_checksum_address(value)

    @property
    def chain_id(self) -> int:
        """The number in the chain's name."""
        return int(self.chain.removeprefix("eip155:"))

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The RPC endpoints in the clear."""
        return tuple(url.get_secret_value() for url in self.rpc)

    def policy(self) -> Policy:
        """What the core goes by."""
        return Policy(
            chain=self.chain,
            contract=self.contract,
            confirmations=self.confirmations or usual_confirmations(self.chain_id),
            interval=round(self.interval * 1000),
            stuck_after=round(self.stuck_after * 1000),
            stuck_blocks=self.stuck_blocks,
            rebroadcast_after=round(self.stuck_after * 1000 / 4),
            fee_cap=self.fee_cap_gwei * _GWEI,
        )


def usual_confirmations(chain_id: int) -> int:
    """Blocks that make a transaction final by convention: 12 on main nets, 6 on test nets, 2 on a development node."""
    if chain_id in _DEVELOPMENT_NETS:
        return 2
    return 12 if chain_id in _MAIN_NETS else 6
