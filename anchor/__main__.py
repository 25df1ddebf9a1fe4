"""``python -m anchor``: the service; ``… account`` makes its key, ``… deploy`` its contract, ``… verify`` reads an anchor."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anchor.account import create_account_file, load_account
from anchor.core import TreeHead
from anchor.deployment import deploy_once
from anchor.endpoints import Endpoints
from anchor.errors import CheckpointError
from anchor.events import AnchorEvents
from anchor.evm import EvmChain
from anchor.service import AnchorService
from anchor.settings import AnchorSettings
from anchor.source import CheckpointSource
from anchor.verify import verify_anchor, verify_contract
from parley.errors import ParleyError
from parley.note import parse_verifier_key
from parley.schemas import Hash
from streams.runtime import EXIT_FAILED, run_service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.runtime import Stop


def run(settings: AnchorSettings, stop: Stop) -> None:
    """Anchor until stopped. Raises ParleyError where going on would be wrong or pointless."""
    try:
        log_key = parse_verifier_key(settings.log_key_file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"the log's verifier key cannot be read: {error}; check log_key_file"
        ) from error
    account = load_account(settings.key_file, settings.key_password_file)
    endpoints = Endpoints(settings.endpoints, settings.chain_id, settings.rpc_timeout)
    chain = EvmChain(endpoints, settings.contract, log_key.name, account)
    connection = settings.connection()
    service = AnchorService(
        settings.policy(),
        chain,
        CheckpointSource(settings.checkpoint, log_key),
        lambda: AnchorEvents(connection, settings.chain, settings.contract),
    )
    service.run(stop, settings.poll)


def deploy_command(arguments: Sequence[str]) -> int:
    """Deploy the contract unless it stands already; prints its address."""
    parser = argparse.ArgumentParser(prog="anchor deploy", description=deploy_command.__doc__)
    parser.add_argument("--rpc", required=True, action="append", help="an RPC endpoint; may be repeated")
    parser.add_argument("--chain", required=True, type=_chain_id, help="CAIP-2, such as eip155:1")
    parser.add_argument(
        "--key-file", required=True, type=Path, help="the account that pays and becomes owner"
    )
    parser.add_argument("--key-password-file", type=Path, help="where the key file is a keystore")
    parser.add_argument(
        "--address-file", required=True, type=Path, help="remembers where the contract stands"
    )
    options = parser.parse_args(arguments)
    account = load_account(options.key_file, options.key_password_file)
    endpoints = Endpoints(options.rpc, options.chain, timeout=30.0)
    address, new = deploy_once(endpoints, account, options.address_file)
    print(address)  # noqa: T201 - what was asked for
    print(f"{'deployed' if new else 'stood already'}, owner {account.address}", file=sys.stderr)  # noqa: T201
    return 0


def verify_command(arguments: Sequence[str]) -> int:
    """Look a checkpoint up on a chain; prints where it stands as JSON."""
    parser = argparse.ArgumentParser(prog="anchor verify", description=verify_command.__doc__)
    parser.add_argument("--rpc", required=True, action="append", help="an RPC endpoint; may be repeated")
    parser.add_argument("--chain", required=True, type=_chain_id, help="CAIP-2, such as eip155:1")
    parser.add_argument("--contract", required=True, help="the contract's address, from a trusted place")
    parser.add_argument("--origin", required=True, help="the log's origin line")
    parser.add_argument("--size", required=True, type=int, help="the checkpoint's size")
    parser.add_argument("--root", required=True, type=_hash, help="its root, 64 hexadecimal digits")
    parser.add_argument("--block", type=int, help="the block it is said to stand in, which saves a search")
    options = parser.parse_args(arguments)
    endpoints = Endpoints(options.rpc, options.chain, timeout=30.0)
    verify_contract(endpoints, options.contract)
    head = TreeHead(options.size, options.root)
    found = verify_anchor(endpoints, options.contract, options.origin, head, block_number=options.block)
    answer = {
        "size": found.head.size,
        "root": found.head.root.hex(),
        "transaction": f"0x{found.transaction_hash.hex()}",
        "block": found.block_number,
        "mined_at": found.mined_at,
        "confirmations": found.confirmations,
    }
    print(json.dumps(answer))  # noqa: T201 - what was asked for
    return 0


def account_command(arguments: Sequence[str]) -> int:
    """Make the account's key unless the file exists; prints the address to fund."""
    parser = argparse.ArgumentParser(prog="anchor account", description=account_command.__doc__)
    parser.add_argument("key_file", type=Path)
    parser.add_argument("--key-password-file", type=Path, help="where the key file is a keystore")
    options = parser.parse_args(arguments)
    exists = options.key_file.exists()
    account = (
        load_account(options.key_file, options.key_password_file)
        if exists
        else create_account_file(options.key_file)
    )
    print(account.address)  # noqa: T201 - what was asked for
    return 0


def main(arguments: Sequence[str]) -> int:
    """The exit code of what the command line asks for."""
    commands = {"deploy": deploy_command, "account": account_command, "verify": verify_command}
    if not arguments or arguments[0] not in commands:
        return run_service("anchor", AnchorSettings, run, arguments)
    try:
        return commands[arguments[0]](arguments[1:])
    except ParleyError as error:
        print(f"anchor {arguments[0]}: {error}", file=sys.stderr)  # noqa: T201 - told in one line
        return EXIT_FAILED


def _hash(digits: str) -> Hash:
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise argparse.ArgumentTypeError("expected 64 hexadecimal digits")
    return Hash(value)


def _chain_id(name: str) -> int:
    space, _, number = name.partition(":")
    if space != "eip155" or not number.isdigit():
        raise argparse.ArgumentTypeError("expected eip155:<number>")
    return int(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
