"""A chain in memory behind the ledger service's port, and accounts that sign for it; it executes nothing but counts nonces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from anchor.errors import ChainUnreachableError, NonceSpentError
from anchor.ledger.checks import AccountState, Found, Look
from anchor.ledger.transactions import ChainTransaction, read_transaction

CHAIN_ID = 31_337
CHAIN = f"eip155:{CHAIN_ID}"
GWEI = 10**9
ETHER = 10**18
BASE_FEE = GWEI


def wallet(name: str) -> LocalAccount:
    """The account of that name; the same in every run."""
    account: LocalAccount = Account.from_key(sha256(f"wallet of {name}".encode()).digest())
    return account


def caip(account: LocalAccount) -> str:
    """The account as a directory entry names it (CAIP-10)."""
    return f"{CHAIN}:{account.address}"


def signed(account: LocalAccount, nonce: int = 0, **changes: Any) -> bytes:
    """A signed transfer (EIP-1559) of one ether by the account, changed as told; ``None`` takes a field out."""
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "gas": 21_000,
        "maxFeePerGas": 3 * BASE_FEE,
        "maxPriorityFeePerGas": GWEI,
        "value": ETHER,
        "data": b"",
        "to": wallet("somebody").address,
    } | changes
    fields = {name: value for name, value in transaction.items() if value is not None}
    return bytes(account.sign_transaction(fields).raw_transaction)


@dataclass
class MemoryChain:
    """``waiting`` is mined by :meth:`mine`; while ``is_away``, nothing answers."""

    confirmations: int = 1
    height: int = 10
    is_away: bool = False
    balances: dict[str, int] = field(default_factory=dict)
    waiting: list[ChainTransaction] = field(default_factory=list)
    mined: dict[bytes, tuple[ChainTransaction, int]] = field(default_factory=dict)
    broadcasts: list[bytes] = field(default_factory=list)
    """Everything that was ever handed over, repeats included."""
    reverting: set[bytes] = field(default_factory=set)

    def fund(self, *accounts: LocalAccount) -> None:
        self.balances.update({account.address: 100 * ETHER for account in accounts})

    def look(self, accounts: Iterable[str], hashes: Iterable[bytes]) -> Look:
        self._answer()
        safe = self.height - self.confirmations + 1
        states = {
            address: AccountState(
                self._nonce(address, self.height),
                self._nonce(address, self.height) + sum(each.account == address for each in self.waiting),
                self._nonce(address, safe),
                self.balances.get(address, 0),
            )
            for address in accounts
        }
        found = {identity: known for identity in hashes if (known := self._found(identity)) is not None}
        return Look(self.height, BASE_FEE, 30_000_000, states, found)

    def broadcast(self, raw: bytes) -> None:
        self._answer()
        self.broadcasts.append(raw)
        transaction = read_transaction(raw)
        if self._found(transaction.hash) is not None:
            return
        if transaction.nonce < self._nonce(transaction.account, self.height):
            raise NonceSpentError("nonce too low")
        self.waiting.append(transaction)

    def order(self) -> list[bytes]:
        """What was handed over, in the order in which each came first."""
        return list(dict.fromkeys(self.broadcasts))

    def mine(self, blocks: int = 1) -> None:
        """Put what waits into the next block, and empty blocks on top."""
        self.height += 1
        self.mined.update({each.hash: (each, self.height) for each in self.waiting})
        self.waiting.clear()
        self.height += blocks - 1

    def _answer(self) -> None:
        if self.is_away:
            raise ChainUnreachableError("no endpoint answers")

    def _nonce(self, address: str, height: int) -> int:
        return sum(each.account == address and at <= height for each, at in self.mined.values())

    def _found(self, identity: bytes) -> Found | None:
        if identity in self.mined:
            at = self.mined[identity][1]
            return Found(at, at.to_bytes(32), identity not in self.reverting, 21_000)
        return Found() if any(each.hash == identity for each in self.waiting) else None
