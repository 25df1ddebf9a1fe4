"""One real EVM chain (anvil) on the loopback interface, whose state survives a restart; contracts are others' work."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from deploy.errors import SetupError, StartError
from deploy.folder import RUNTIME, StackFolder
from deploy.ports import LOOPBACK
from deploy.server import Server

CHAIN_ID: Final = 31_337
"""The EIP-155 chain id of a local chain."""


class Anvil(Server):
    """A chain with ten funded accounts, for development only: whoever reaches the port may spend from them."""

    name = "anvil"
    title = "anvil"

    def __init__(
        self,
        folder: StackFolder,
        *,
        port: int | None = None,
        block_seconds: int = 1,
        binary: Path = RUNTIME / "anvil" / "anvil",
    ) -> None:
        super().__init__(folder, port)
        self._block_seconds = block_seconds
        self._binary = binary

    @property
    def rpc(self) -> str:
        """The URL of its JSON-RPC endpoint."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """As `Server.start`; the chain goes on where it stopped."""
        if not self._binary.exists():
            raise SetupError(f"anvil is not at {self._binary}; run 'make setup'.")
        self._folder.create()
        self._folder.anvil.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._choose_port()
        self._run(
            [
                self._binary,
                # Silent, because it would print the private keys of its accounts.
                "--silent",
                *("--host", LOOPBACK),
                *("--port", str(self.port)),
                *("--chain-id", str(CHAIN_ID)),
                *("--block-time", str(self._block_seconds)),
                # Written at its end and now and then, so that a power cut costs seconds, not the chain.
                *("--state", self._folder.anvil / "state.json"),
                *("--state-interval", "10"),
                *("--cache-path", self._folder.anvil / "cache"),
            ],
            lambda _: self.healthy(),
        )

    def healthy(self) -> bool:
        """Whether it answers with its chain id."""
        try:
            return self.call("eth_chainId") == hex(CHAIN_ID)
        except StartError:
            return False

    def fund(self, address: str, wei: int) -> None:
        """Set the balance of an account (``0x`` and 40 hex digits).

        Raises:
            StartError: the chain does not answer or refuses.
        """
        self.call("anvil_setBalance", address, hex(wei))

    def call(self, method: str, *parameters: object) -> object:
        """The result of one JSON-RPC call.

        Raises:
            StartError: the chain does not answer, or answers with an error.
        """
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        request = urllib.request.Request(  # noqa: S310  (our own loopback address)
            self.rpc, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                answer = json.load(response)
        except (OSError, urllib.error.URLError, ValueError) as error:
            raise StartError(f"The chain at {self.rpc} does not answer {method}: {error}") from error
        if "result" not in answer:
            raise StartError(f"The chain refused {method}: {answer.get('error')}")
        result: object = answer["result"]
        return result
