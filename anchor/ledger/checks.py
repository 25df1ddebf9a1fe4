"""Whether what the parties attached can be broadcast as it is: read, then held against one look at the chain; pure.

The transactions of a deal are judged in the order of their broadcast: by party as the terms list them, and by place in each
attachment. What is found is what a node would refuse, so that nothing is released of which a part is bound to fail. Whether a
contract call will do what it is meant to is not asked: an earlier transaction may be what makes it possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from anchor.ledger.transactions import ChainTransaction, UnusableTransactionError, read_transaction
from parley.deal import DealMessage
from parley.errors import MalformedError
from parley.schemas import MessageId, TransactionId
from parley.workflows.ledger_steps import (
    MAXIMUM_BYTES,
    MAXIMUM_IN_DEAL,
    Finding,
    Problem,
    Promise,
    digest_of,
    read_attachment,
)

__all__ = ["AccountState", "Attached", "Found", "Look", "Slot", "findings", "read_attached"]

Slot = tuple[str, int]
"""An account and one of its nonces: at most one transaction ever has it."""
_IN_CLEAR: Final = Problem(
    "IN_CLEAR",
    "everybody could broadcast it already; sign another one, and attach it encrypted to the service",
)


class AccountState(NamedTuple):
    """An account as of the block looked at. Balance in wei."""

    nonce: int
    """Of its next transaction to be mined."""
    pending_nonce: int
    """The same, counting what waits to be mined."""
    settled_nonce: int
    """The same as the nonce, as of the newest block that counts as final."""
    balance: int


class Found(NamedTuple):
    """A transaction that the chain knows; the block's fields are ``None`` while it waits to be mined."""

    block: int | None = None
    block_hash: bytes | None = None
    succeeded: bool = False
    gas_used: int | None = None


class Look(NamedTuple):
    """One look at the chain, as of block ``height``."""

    height: int
    base_fee: int
    """Wei for each unit of gas."""
    gas_limit: int
    """Of a block."""
    accounts: Mapping[str, AccountState]
    found: Mapping[bytes, Found]
    """The transactions that it knows of those asked for, by hash."""


class Attached(NamedTuple):
    """One party's attachment, read; with problems, its transactions are only those before the first of them."""

    party: str
    message_id: MessageId
    transactions: tuple[ChainTransaction, ...]
    problems: tuple[Problem, ...]


def read_attached(said: DealMessage) -> Attached:
    """A party's attachment; what is wrong with it is in its problems."""

    def attached(*problems: Problem, transactions: Iterable[ChainTransaction] = ()) -> Attached:
        return Attached(said.sender, said.message_id, tuple(transactions), problems)

    if said.problem is not None:
        return attached(
            Problem("UNREADABLE", f"the service cannot read it ({said.problem}); encrypt it to the service")
        )
    try:
        raws = read_attachment(said.content)
    except MalformedError as error:
        return attached(Problem("UNREADABLE", f"{error}; attach what your wallet signed, whole"))
    if raws and said.sealed is None:
        return attached(_IN_CLEAR)
    transactions: list[ChainTransaction] = []
    for number, raw in enumerate(raws):
        try:
            transactions.append(read_transaction(raw))
        except UnusableTransactionError as error:
            return attached(_placed(error.problem, number, len(raws)), transactions=transactions)
    return attached(transactions=transactions)


def findings(
    attachments: Sequence[Attached],
    accounts: Mapping[str, frozenset[str]],
    chain_id: int,
    look: Look,
    is_taken: Callable[[Slot], TransactionId | None],
) -> tuple[Finding, ...]:
    """What the chain says to these attachments, in the order of their broadcast.

    ``accounts`` are the addresses that the registrar attests to each party, and ``is_taken`` tells which other deal has released
    a transaction with this account and nonce.
    """
    ledger = _Ledger(chain_id, look, is_taken)
    found: list[Finding] = []
    size = count = 0
    for party, message_id, transactions, unread in attachments:
        problems = list(unread)
        size += sum(len(transaction.raw) for transaction in transactions)
        count += len(transactions)
        if size > MAXIMUM_BYTES or count > MAXIMUM_IN_DEAL:
            limit = f"{MAXIMUM_IN_DEAL} transactions of {MAXIMUM_BYTES:,} bytes together"
            problems.append(Problem("TOO_LARGE", f"a deal holds {limit}; open another for the rest"))
        for number, transaction in enumerate(transactions):
            seen = ledger.problems(transaction, accounts.get(party, frozenset()))
            problems += [_placed(problem, number, len(transactions)) for problem in seen]
        promises = () if unread else tuple(map(_promise, transactions))
        found.append(Finding(party, message_id, tuple(problems), promises))
    return tuple(found)


class _Ledger:
    """The chain as it will be when the transactions judged before have been mined."""

    def __init__(self, chain_id: int, look: Look, is_taken: Callable[[Slot], TransactionId | None]) -> None:
        self._chain_id = chain_id
        self._look = look
        self._is_taken = is_taken
        self._next = {address: account.nonce for address, account in look.accounts.items()}
        self._left = {address: account.balance for address, account in look.accounts.items()}

    def problems(self, transaction: ChainTransaction, accounts: frozenset[str]) -> list[Problem]:
        """Everything that is wrong with the next transaction."""
        if transaction.chain_id != self._chain_id:
            return [self._wrong_chain(transaction)]
        problems = []
        if transaction.account not in accounts:
            whose = ", ".join(sorted(accounts)) or "none"
            problems.append(
                Problem(
                    "WRONG_SIGNER",
                    f"{transaction.account} signed it, which the registrar does not attest to this party (attested: {whose}); "
                    "sign with an attested account, or have this one attested",
                )
            )
        if problem := self._unbroadcastable(transaction):
            problems.append(problem)
        problems += self._costs(transaction)
        return problems

    def _wrong_chain(self, transaction: ChainTransaction) -> Problem:
        if transaction.chain_id is None:
            return Problem("WRONG_CHAIN", "it names no chain and counts on all; sign it for one (EIP-155)")
        return Problem(
            "WRONG_CHAIN",
            f"it is for chain {transaction.chain_id}, and this deal for {self._chain_id}; sign it for {self._chain_id}",
        )

    def _unbroadcastable(self, transaction: ChainTransaction) -> Problem | None:
        """Why its place on the chain is not free."""
        known = self._look.found.get(transaction.hash)
        if known is not None and known.block is not None:
            return Problem("ALREADY_MINED", f"it stands in block {known.block} already; sign a new one")
        if known is not None:
            return Problem(
                "ALREADY_BROADCAST", "it waits on the chain already, so it cannot be withheld; sign a new one"
            )
        account, nonce = transaction.account, transaction.nonce
        state, expected = self._look.accounts[account], self._next[account]
        if nonce < state.nonce:
            return Problem(
                "NONCE_SPENT", f"nonce {nonce} of {account} is used up; sign it with nonce {expected}"
            )
        if nonce > expected:
            return Problem(
                "NONCE_GAP", f"it would wait for a transaction with nonce {expected}; sign it with that"
            )
        if nonce < expected:
            return Problem(
                "NONCE_TAKEN", f"another transaction of this deal has nonce {nonce}; sign it with {expected}"
            )
        if state.pending_nonce > nonce or self._is_taken((account, nonce)) is not None:
            return Problem(
                "NONCE_TAKEN",
                f"another transaction of {account} waits with nonce {nonce}; attach a new one once that is mined",
            )
        self._next[account] = nonce + 1
        return None

    def _costs(self, transaction: ChainTransaction) -> list[Problem]:
        problems = []
        if transaction.gas < transaction.least_gas:
            problems.append(
                Problem(
                    "GAS_TOO_LOW",
                    f"its gas is {transaction.gas:,}, and it needs {transaction.least_gas:,} at least",
                )
            )
        if transaction.gas > self._look.gas_limit:
            problems.append(
                Problem(
                    "GAS_TOO_HIGH",
                    f"its gas is {transaction.gas:,}, and a block holds {self._look.gas_limit:,}",
                )
            )
        if transaction.max_fee < max(self._look.base_fee, transaction.priority_fee):
            problems.append(
                Problem(
                    "FEE_TOO_LOW",
                    f"it offers {transaction.max_fee:,} wei for a unit of gas, below the chain's base fee ({self._look.base_fee:,}) "
                    f"or its own tip ({transaction.priority_fee:,}); offer twice the base fee at least",
                )
            )
        left = self._left.get(transaction.account, 0)
        if transaction.cost > left:
            problems.append(
                Problem(
                    "UNFUNDED",
                    f"{transaction.account} has {left:,} wei left for it, and it may cost {transaction.cost:,}; send it funds",
                )
            )
        self._left[transaction.account] = max(0, left - transaction.cost)
        return problems


def _promise(transaction: ChainTransaction) -> Promise:
    return Promise(
        digest_of(transaction.raw),
        transaction.hash,
        transaction.account,
        transaction.nonce,
        transaction.to,
        transaction.value,
        transaction.data,
        transaction.gas,
        transaction.max_fee,
    )


def _placed(problem: Problem, number: int, count: int) -> Problem:
    """The problem, saying which transaction it is about where there are several."""
    if count == 1:
        return problem
    return problem._replace(detail=f"transaction {number + 1} of {count}: {problem.detail}")
