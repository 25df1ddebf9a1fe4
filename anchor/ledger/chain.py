"""The chain as the ledger service needs it: looked at, and handed transactions; it judges nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound

from anchor.endpoints import Endpoints
from anchor.ledger.checks import AccountState, Found, Look

__all__ = ["Chain", "EvmLedger"]


class Chain(Protocol):
    """What the service needs of a chain. Called from one thread at a time."""

    def look(self, accounts: Iterable[str], hashes: Iterable[bytes]) -> Look: ...
    def broadcast(self, raw: bytes) -> None: ...


class EvmLedger:
    """One EVM chain behind its RPC endpoints."""

    def __init__(self, endpoints: Endpoints, confirmations: int) -> None:
        """Connect to nothing yet; ``confirmations`` blocks make an outcome final."""
        self._endpoints = endpoints
        self._confirmations = confirmations

    def look(self, accounts: Iterable[str], hashes: Iterable[bytes]) -> Look:
        """These accounts and transactions as of one block. Raises ChainError if the chain cannot be used."""
        addresses, wanted = sorted(set(accounts)), sorted(set(hashes))
        return self._endpoints.ask(lambda web3: self._look(web3, addresses, wanted))

    def broadcast(self, raw: bytes) -> None:
        """Hand a signed transaction to the chain; one that is there already is no error; errors as ``Endpoints.broadcast``."""
        self._endpoints.broadcast(raw)

    def _look(self, web3: Web3, addresses: list[str], wanted: list[bytes]) -> Look:
        block = web3.eth.get_block("latest")
        height = int(block["number"])
        accounts = {}
        for address in addresses:
            account = to_checksum_address(address)
            accounts[address] = AccountState(
                web3.eth.get_transaction_count(account, height),
                web3.eth.get_transaction_count(account, "pending"),
                web3.eth.get_transaction_count(account, max(0, height - self._confirmations + 1)),
                web3.eth.get_balance(account, height),
            )
        found = {identity: known for identity in wanted if (known := _found(web3, identity)) is not None}
        return Look(height, int(block.get("baseFeePerGas", 0)), int(block["gasLimit"]), accounts, found)


def _found(web3: Web3, identity: bytes) -> Found | None:
    try:
        receipt = web3.eth.get_transaction_receipt(HexBytes(identity))
    except TransactionNotFound:
        pass
    else:
        return Found(
            int(receipt["blockNumber"]),
            bytes(receipt["blockHash"]),
            receipt["status"] == 1,
            int(receipt["gasUsed"]),
        )
    try:
        web3.eth.get_transaction(HexBytes(identity))
    except TransactionNotFound:
        return None
    return Found()
