"""The anchor contract as its callers see it: its interface, its source compiled, and how it names a log."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from anchor.errors import DeploymentError

if TYPE_CHECKING:
    from eth_typing import ABI

SOURCE: Final = Path(__file__).parent / "contracts" / "ParleyAnchor.vy"

INTERFACE: Final[ABI] = [
    {
        "type": "event",
        "name": "Anchored",
        "anonymous": False,
        "inputs": [
            {"name": "origin", "type": "bytes32", "indexed": True},
            {"name": "size", "type": "uint64", "indexed": True},
            {"name": "root", "type": "bytes32", "indexed": True},
            {"name": "previous_size", "type": "uint64", "indexed": False},
            {"name": "previous_block", "type": "uint64", "indexed": False},
        ],
    },
    {
        "type": "function",
        "name": "anchor",
        "stateMutability": "nonpayable",
        "inputs": [
            {"name": "origin", "type": "bytes32"},
            {"name": "size", "type": "uint64"},
            {"name": "root", "type": "bytes32"},
        ],
        "outputs": [],
    },
    {
        "type": "function",
        "name": "latest",
        "stateMutability": "view",
        "inputs": [{"name": "origin", "type": "bytes32"}],
        "outputs": [
            {
                "name": "",
                "type": "tuple",
                "components": [
                    {"name": "size", "type": "uint64"},
                    {"name": "root", "type": "bytes32"},
                    {"name": "block_number", "type": "uint64"},
                ],
            }
        ],
    },
]
"""What the service and auditors use of it, so that neither needs the compiler."""


class CompiledContract(NamedTuple):
    """The whole interface, the code that deploys the contract, and the code that then stands on the chain."""

    interface: ABI
    deployment_code: str
    code: bytes


def origin_id(origin: str) -> bytes:
    """How the contract names a log: SHA-256 of its origin, 32 bytes."""
    return hashlib.sha256(origin.encode()).digest()


@cache
def compiled_contract() -> CompiledContract:
    """The contract compiled from source (about half a second). Raises DeploymentError if it cannot be."""
    try:
        from vyper.compiler import compile_code  # type: ignore[import-untyped]  # noqa: PLC0415 - only deploying needs it
        from vyper.exceptions import VyperException  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise DeploymentError("deploying needs the package `vyper`; install the operator's extra") from error
    try:
        output = compile_code(
            SOURCE.read_text(encoding="utf-8"),
            contract_path=SOURCE.name,
            output_formats=["abi", "bytecode", "bytecode_runtime"],
        )
    except (VyperException, OSError) as error:
        raise DeploymentError(f"{SOURCE} does not compile: {error}") from error
    code = bytes.fromhex(output["bytecode_runtime"].removeprefix("0x"))
    return CompiledContract(output["abi"], output["bytecode"], code)
