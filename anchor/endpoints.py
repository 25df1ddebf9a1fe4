"""Several RPC endpoints of one chain used as one: whichever answers, after proof that it serves the right chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import requests
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractLogicError, Web3RPCError
from web3.middleware import ExtraDataToPOAMiddleware

from anchor.errors import (
    ChainError,
    ChainUnreachableError,
    ContractRefusedError,
    NonceSpentError,
    TransactionError,
    UnderpricedError,
    UnfundedError,
    WrongChainError,
)
from parley.errors import ParleyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Answer = TypeVar("Answer")

_REFUSALS: Final[tuple[tuple[str, type[TransactionError]], ...]] = (
    ("nonce too low", NonceSpentError),
    ("nonce is too low", NonceSpentError),
    ("underpriced", UnderpricedError),
    ("fee too low", UnderpricedError),
    ("less than block base fee", UnderpricedError),
    ("insufficient funds", UnfundedError),
)
"""What nodes say, in lower case; the JSON-RPC codes of clients do not agree."""

_ALREADY_THERE: Final = ("already known", "known transaction", "already imported", "already exists")


class Endpoint:
    """One RPC endpoint; its address may hold a key, so only its host is ever shown."""

    def __init__(self, url: str, timeout: float) -> None:
        """Connect to nothing yet; ``timeout`` is in seconds, for each request."""
        self.name = urlsplit(url).netloc.rpartition("@")[2]
        # One try a request: failing over to the next endpoint is the retry.
        provider = HTTPProvider(url, request_kwargs={"timeout": timeout}, exception_retry_configuration=None)
        self.web3 = Web3(provider)
        self.web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
        self.proven = False
        """Whether it was seen to serve the right chain since it last failed."""


class Endpoints:
    """The endpoints of one chain. Questions go to the one that last answered, and move on when it fails."""

    def __init__(self, urls: Sequence[str], chain_id: int, timeout: float) -> None:
        """Connect to nothing yet. Raises ChainError if there is no endpoint."""
        if not urls:
            raise ChainError("no RPC endpoint is set; name one at least")
        self.chain_id = chain_id
        self._endpoints = [Endpoint(url, timeout) for url in urls]

    @property
    def current(self) -> str:
        """Host and port of the endpoint in use."""
        return self._endpoints[0].name

    def ask(self, question: Callable[[Web3], Answer]) -> Answer:
        """The first answer any endpoint gives, trying each once.

        Raises:
            ChainUnreachableError: none answered.
            WrongChainError: none answered, and one of them serves another chain.
            ParleyError: whatever the question raises itself.

        """
        failures: list[str] = []
        wrong: WrongChainError | None = None
        for _ in self._endpoints:
            endpoint = self._endpoints[0]
            try:
                self._prove(endpoint)
                return question(endpoint.web3)
            except WrongChainError as error:
                wrong = error
            except ParleyError:
                raise
            except ContractLogicError as error:
                raise ContractRefusedError(f"the contract refuses: {error.message}") from error
            except Exception as error:  # noqa: BLE001 - on a malformed answer the driver raises whatever it trips over
                endpoint.proven = False
                failures.append(f"{endpoint.name}: {_told(error)}")
            self._endpoints.append(self._endpoints.pop(0))
        if wrong is not None:
            raise wrong
        raise ChainUnreachableError(
            f"no endpoint answers ({'; '.join(failures)}); check the node or the addresses"
        )

    def broadcast(self, raw: bytes) -> None:
        """Hand a signed transaction to the chain; one that is already there is no error.

        Raises:
            NonceSpentError: another transaction with this nonce is mined.
            UnderpricedError: another one with this nonce waits at a better price, or the price is below the base fee.
            UnfundedError: the account cannot pay for it.
            TransactionError: it is refused for another reason.
            ChainUnreachableError: no endpoint answered.

        """
        self.ask(lambda web3: _send(web3, raw))

    def _prove(self, endpoint: Endpoint) -> None:
        if endpoint.proven:
            return
        served = endpoint.web3.eth.chain_id
        if served != self.chain_id:
            raise WrongChainError(
                f"{endpoint.name} serves chain {served}, not {self.chain_id}; correct `chain` or the endpoint"
            )
        endpoint.proven = True


def _send(web3: Web3, raw: bytes) -> None:
    try:
        web3.eth.send_raw_transaction(raw)
    except Web3RPCError as error:
        told = _told(error)
        if any(words in told.lower() for words in _ALREADY_THERE):
            return
        for words, refusal in _REFUSALS:
            if words in told.lower():
                raise refusal(f"the node refused the transaction: {told}") from error
        raise TransactionError(f"the node refused the transaction: {told}") from error


def _told(error: Exception) -> str:
    """What went wrong, without the endpoint's address, which may hold a key."""
    if isinstance(error, requests.RequestException):
        return type(error).__name__
    if isinstance(error, Web3RPCError) and error.rpc_response is not None:
        told = error.rpc_response.get("error")
        return str(told.get("message", "")) if isinstance(told, dict) else str(told)
    return f"{type(error).__name__} {error}"[:200]
