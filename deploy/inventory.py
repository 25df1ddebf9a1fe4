"""Which services a backbone of one machine consists of, and what each is told; it starts none of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anchor.account import AnchorAccount, create_account_file, load_account
from anchor.deployment import deploy_once
from anchor.endpoints import Endpoints as ChainEndpoints
from deploy.anvil import CHAIN_ID
from deploy.backbone import LEDGER, Backbone
from deploy.folder import StackFolder
from deploy.ports import choose_port
from deploy.services import READY, Service
from deploy.stack import ROUTERS, Stack
from parley.note import NoteSigner

ORIGIN: Final = "parley.localhost/log"
"""The name of the log of a backbone on one machine."""

_FUNDS_WEI: Final = 1_000 * 10**18


@dataclass(frozen=True, slots=True)
class BackboneFiles:
    """What a backbone leaves for the public: the block store and the key that its checkpoints verify under."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "log"

    @property
    def verifier_key(self) -> Path:
        return self.root / "log.vkey"


def backbone_services(
    stack: Stack,
    backbone: Backbone,
    files: BackboneFiles,
    *,
    routers: int = ROUTERS,
    origin: str = ORIGIN,
    metrics: bool = False,
    extra: Mapping[str, str] | None = None,
) -> list[Service]:
    """The services of a provisioned backbone on a running stack, each with all that it must be told.

    The gateway is among them where the stack has a database.

    Writes the log's verifier key, makes and funds the anchor's account, and puts the contract on the chain, each
    once.

    Args:
        stack: Where they run.
        backbone: Whose keys and users they use.
        files: Where blocks and the log's key go.
        routers: How many router processes share the pipelines.
        origin: The log's name; it must stay the same for the life of a block store.
        metrics: Whether each serves Prometheus metrics on a free port.
        extra: Settings of services by the names of their environment variables; they win.

    Raises:
        ChainError: the contract cannot be put on the chain.
        DeployError: no port is free.
    """
    folder = stack.folder
    files.root.mkdir(parents=True, exist_ok=True)
    log_key = NoteSigner(origin, backbone.key("blockbuilder")).verifier_key
    files.verifier_key.write_text(f"{log_key}\n", encoding="ascii")
    registrar = backbone.registrar_key.public.hex()
    router = {
        "REGISTRAR_KEY": registrar,
        "KEY": backbone.key_reference("router"),
        "SEALED_KEYS": str(backbone.sealing_folder),
    }
    admission = {
        "REGISTRAR_KEY": registrar,
        "KEY_FILE": str(folder.secrets / "admission.x25519"),
        "CLIENT_QUOTAS": json.dumps(
            {role: quota.model_dump() for role, quota in stack.client_quotas.items()}
        ),
    }
    builder = {
        "STORE": str(files.store),
        "ORIGIN": origin,
        "KEY": backbone.key_reference("blockbuilder"),
    }
    anchoring = {
        "CHECKPOINT": str(files.store / "checkpoint"),
        "LOG_KEY_FILE": str(files.verifier_key),
        "CHAIN": f"eip155:{CHAIN_ID}",
        "RPC": stack.anvil.rpc,
        "CONTRACT": _contract(stack),
        "KEY_FILE": str(folder.secrets / "anchor.key"),
        "INTERVAL": "5",
        "POLL": "0.5",
    }
    ledger = {
        "REGISTRAR_KEY": registrar,
        "KEY": backbone.key_reference(LEDGER),
        "ENCRYPTION_KEYS": str(folder.secrets / f"{LEDGER}.x25519"),
        "CHAIN": f"eip155:{CHAIN_ID}",
        "RPC": stack.anvil.rpc,
    }

    def service(
        kind: str,
        module: str,
        settings: Mapping[str, str],
        *,
        instance: int | None = None,
        ready: str = READY,
    ) -> Service:
        name = kind if instance is None else f"{kind}-{instance}"
        port = choose_port(None, part=f"the metrics of {name}") if metrics else None
        told = {
            "KAFKA_BOOTSTRAP": stack.kafka.bootstrap,
            "KAFKA_USERNAME": kind,
            "KAFKA_PASSWORD_FILE": str(folder.password_file(kind)),
            "INSTANCE": str(instance or 0),
            "METRICS_PORT": str(port or 0),
            **settings,
        }
        prefix = f"PARLEY_{kind.upper()}_"
        env = {f"{prefix}{key}": value for key, value in told.items()}
        wanted = {key: value for key, value in (extra or {}).items() if key.startswith(prefix)}
        return Service(name, module, env | wanted, ready, port)

    projection = (
        [] if stack.postgres is None else [service("gateway", "gateway", {"DSN": stack.postgres.dsn})]
    )
    return [
        service("admission", "router.admission", admission),
        *(service("router", "router", router, instance=number) for number in range(routers)),
        service("delivery", "router.delivery", {}),
        service("blockbuilder", "blockbuilder", builder),
        service("anchor", "anchor", anchoring, ready="anchor.started"),
        service(LEDGER, "anchor.ledger", ledger, ready="ledger.started"),
        *projection,
    ]


def anchoring_account(folder: StackFolder) -> str:
    """The account that anchors, as directory entries name it (CAIP-10); the first call makes its key."""
    return f"eip155:{CHAIN_ID}:{_anchor_account(folder).address}"


def _anchor_account(folder: StackFolder) -> AnchorAccount:
    key_file = folder.secrets / "anchor.key"
    return load_account(key_file) if key_file.exists() else create_account_file(key_file)


def _contract(stack: Stack) -> str:
    """The address of the anchor contract on the stack's chain."""
    folder: StackFolder = stack.folder
    account = _anchor_account(folder)
    stack.anvil.fund(account.address, _FUNDS_WEI)
    endpoints = ChainEndpoints([stack.anvil.rpc], CHAIN_ID, timeout=10.0)
    address, _ = deploy_once(endpoints, account, folder.anvil / "contract")
    return address
