"""Puts the anchor contract on a chain, once; who may anchor there afterwards is the contract's affair."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from web3.exceptions import TimeExhausted

from anchor.contract import compiled_contract
from anchor.core import Fees
from anchor.errors import DeploymentError, UnfundedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eth_typing import ChecksumAddress
    from web3 import Web3

    from anchor.account import AnchorAccount
    from anchor.endpoints import Endpoints

MINED_WITHIN: Final = 300.0
"""Seconds a deployment may wait for its block."""


def deploy_once(
    endpoints: Endpoints, account: AnchorAccount, address_file: Path, *, mined_within: float = MINED_WITHIN
) -> tuple[ChecksumAddress, bool]:
    """The contract's address, and whether it was deployed just now.

    Where ``address_file`` names a contract that stands on the chain, that is the one; else the account deploys one,
    becomes its owner, and the file is written.

    Raises:
        DeploymentError: other code stands at the address, or the transaction was not mined in time.
        UnfundedError: the account cannot pay for it.
        ChainError: the chain cannot be used.

    """
    known = _written(address_file)
    if known is not None:
        code = endpoints.ask(lambda web3: bytes(web3.eth.get_code(known)))
        if code == compiled_contract().code:
            return known, False
        if code:
            raise DeploymentError(
                f"other code stands at {known}; move {address_file} away to deploy this version beside it"
            )
    address = deploy(endpoints, account, mined_within=mined_within)
    try:
        temporary = address_file.with_suffix(".new")
        temporary.write_text(f"{address}\n", encoding="ascii")
        temporary.replace(address_file)
    except OSError as error:
        raise DeploymentError(
            f"deployed at {address}, but {address_file} cannot be written: {error.strerror}; write the address there"
        ) from error
    return address, True


def deploy(
    endpoints: Endpoints, account: AnchorAccount, *, mined_within: float = MINED_WITHIN
) -> ChecksumAddress:
    """The address of a new contract that ``account`` owns; errors as for :func:`deploy_once`."""
    contract = compiled_contract()
    raw, transaction_hash = endpoints.ask(lambda web3: _sign(web3, endpoints.chain_id, account))
    endpoints.broadcast(raw)
    deadline = time.monotonic() + mined_within
    address = endpoints.ask(_mined(transaction_hash, deadline))
    if endpoints.ask(lambda web3: bytes(web3.eth.get_code(address))) != contract.code:
        raise DeploymentError(f"the code at {address} is not the contract's; try another endpoint")
    return address


def _sign(web3: Web3, chain_id: int, account: AnchorAccount) -> tuple[bytes, bytes]:
    code = compiled_contract().deployment_code
    estimated = web3.eth.estimate_gas({"from": account.address, "data": code})  # type: ignore[typeddict-item]
    gas = estimated * 5 // 4
    tip = int(web3.eth.max_priority_fee)
    base_fee = int(web3.eth.get_block("latest").get("baseFeePerGas", 0))
    fees = Fees(2 * base_fee + tip, tip)
    funds = web3.eth.get_balance(account.address)
    if funds < gas * fees.max_fee:
        needed = gas * fees.max_fee
        raise UnfundedError(
            f"{account.address} has {funds:,} wei, but deploying may cost {needed:,}; send it funds"
        )
    signed = account.sign(
        chain_id=chain_id,
        nonce=web3.eth.get_transaction_count(account.address),
        gas=gas,
        fees=fees,
        data=bytes.fromhex(code.removeprefix("0x")),
        to=None,
    )
    return signed.raw, signed.transaction_hash


def _mined(transaction_hash: bytes, deadline: float) -> Callable[[Web3], ChecksumAddress]:
    def wait(web3: Web3) -> ChecksumAddress:
        left = max(0.1, deadline - time.monotonic())
        try:
            receipt = web3.eth.wait_for_transaction_receipt(
                HexBytes(transaction_hash), timeout=left, poll_latency=0.1
            )
        except TimeExhausted:
            raise DeploymentError(
                f"transaction 0x{transaction_hash.hex()} was not mined in time; look at it before trying again"
            ) from None
        address = receipt["contractAddress"]
        if receipt["status"] != 1 or address is None:
            raise DeploymentError(
                f"transaction 0x{transaction_hash.hex()} was reverted; look at it on the chain"
            )
        return address

    return wait


def _written(address_file: Path) -> ChecksumAddress | None:
    try:
        return to_checksum_address(address_file.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DeploymentError(
            f"{address_file} holds no address: {error}; correct it or move it away"
        ) from error
