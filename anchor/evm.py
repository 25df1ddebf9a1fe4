"""One EVM chain as the anchor service needs it: looked at, signed for, and sent to; it decides nothing."""

from __future__ import annotations

from statistics import median_low
from typing import TYPE_CHECKING, Final, NamedTuple

from web3 import Web3
from web3.exceptions import BadFunctionCallOutput, BlockNotFound

from anchor.contract import INTERFACE, origin_id
from anchor.core import Anchored, Mined, Signed, Submit, TreeHead, View
from anchor.errors import ChainUnreachableError, ContractMissingError, UnfundedError
from parley.schemas import Hash

if TYPE_CHECKING:
    from eth_typing import ChecksumAddress
    from hexbytes import HexBytes
    from web3.contract import Contract

    from anchor.account import AnchorAccount
    from anchor.endpoints import Endpoints

LOWEST_PRIORITY_FEE: Final = 1_000_000
"""Wei for each unit of gas (0.001 gwei), where recent blocks paid nothing."""
_FEE_BLOCKS: Final = 10
ANCHORED_TOPIC: Final = Web3.keccak(text="Anchored(bytes32,uint64,bytes32,uint64,uint64)")


class LogPosition(NamedTuple):
    """An ``Anchored`` event found on the chain."""

    head: TreeHead
    mined: Mined
    previous_size: int
    previous_block: int


class EvmChain:
    """The anchor contract of one log on one chain, and the account that anchors there."""

    def __init__(self, endpoints: Endpoints, contract: str, origin: str, account: AnchorAccount) -> None:
        """Connect to nothing yet; ``origin`` is the log's origin line."""
        self._endpoints = endpoints
        self._address = Web3.to_checksum_address(contract)
        self._origin = origin_id(origin)
        self._account = account
        self._found: Anchored | None = None

    @property
    def endpoint(self) -> str:
        """Host and port of the endpoint in use."""
        return self._endpoints.current

    def view(self) -> View:
        """One look at the chain, everything as of one block.

        Raises:
            ContractMissingError: there is no anchor contract at the address.
            ChainUnreachableError: no endpoint answered, or the chain moved on while being looked at.

        """
        return self._endpoints.ask(self._view)

    def sign(self, order: Submit) -> Signed:
        """The transaction that anchors ``order.head``, signed; nothing is sent.

        Raises:
            ContractRefusedError: the contract would revert, as when the account is not its owner.
            UnfundedError: the account cannot pay for it.
            ChainUnreachableError: no endpoint answered.

        """
        return self._endpoints.ask(lambda web3: self._sign(web3, order))

    def broadcast(self, signed: Signed) -> None:
        """Send a transaction, for the first time or again; errors as for ``Endpoints.broadcast``."""
        self._endpoints.broadcast(signed.raw)

    def recognise(self, raw: bytes) -> Signed | None:
        """A transaction read back from ``anchors``, if this account signed it."""
        return self._account.recognise(raw)

    def _view(self, web3: Web3) -> View:
        height = web3.eth.block_number
        nonce = web3.eth.get_transaction_count(self._account.address, height)
        anchored = self._anchored(web3, height)
        fees = web3.eth.fee_history(_FEE_BLOCKS, "latest", [50.0])
        paid = [block[0] for block in fees.get("reward", []) if block and block[0]]
        priority_fee = max(median_low(paid) if paid else 0, LOWEST_PRIORITY_FEE)
        return View(height, nonce, anchored, int(fees["baseFeePerGas"][-1]), int(priority_fee))

    def _anchored(self, web3: Web3, height: int) -> Anchored | None:
        size, root, number = read_latest(web3, self._address, self._origin, height)
        if size == 0:
            return None
        try:
            block_hash = bytes(web3.eth.get_block(number)["hash"])
        except BlockNotFound:
            raise ChainUnreachableError(f"block {number} went away while looking; look again") from None
        found = self._found
        if found is None or found.head.size != size or found.mined.block_hash != block_hash:
            position = find_anchor(web3, self._address, self._origin, size, block_hash)
            if position is None:
                raise ChainUnreachableError(
                    f"the anchor in block {number} went away while looking; look again"
                )
            found = self._found = Anchored(TreeHead(size, Hash(root)), position.mined)
        return found

    def _sign(self, web3: Web3, order: Submit) -> Signed:
        head = order.head
        data = _contract(web3, self._address).encode_abi("anchor", [self._origin, head.size, head.root])
        # As of the newest block: on top of what still waits, a replacement of itself would seem refused.
        estimated = web3.eth.estimate_gas(
            {"from": self._account.address, "to": self._address, "data": data}, block_identifier="latest"
        )
        gas = estimated * 5 // 4
        funds = web3.eth.get_balance(self._account.address)
        if funds < gas * order.fees.max_fee:
            raise UnfundedError(
                f"{self._account.address} has {funds:,} wei, but an anchor may cost {gas * order.fees.max_fee:,};"
                " send it funds"
            )
        return self._account.sign(
            chain_id=self._endpoints.chain_id,
            nonce=order.nonce,
            gas=gas,
            fees=order.fees,
            data=bytes.fromhex(data.removeprefix("0x")),
            to=self._address,
        )


def read_latest(web3: Web3, address: ChecksumAddress, origin: bytes, height: int) -> tuple[int, bytes, int]:
    """The contract's newest anchor of a log as of a block: size, root, and number of the block that holds its event.

    All zero where the log was never anchored. Raises ContractMissingError if no anchor contract is there.
    """
    try:
        size, root, number = _contract(web3, address).functions.latest(origin).call(block_identifier=height)
    except BadFunctionCallOutput as error:
        raise ContractMissingError(
            f"no anchor contract at {address}; deploy one or correct the address"
        ) from error
    return int(size), bytes(root), int(number)


def find_anchor(
    web3: Web3, address: ChecksumAddress, origin: bytes, size: int, block_hash: bytes
) -> LogPosition | None:
    """The event that anchored ``size`` in a block, or ``None`` if it is not in there."""
    topics: list[HexBytes | bytes] = [ANCHORED_TOPIC, origin, size.to_bytes(32)]
    logs = web3.eth.get_logs({"address": address, "topics": topics, "blockHash": block_hash})  # type: ignore[typeddict-item]
    for entry in logs:
        event = _contract(web3, address).events.Anchored().process_log(entry)
        told = event["args"]
        return LogPosition(
            TreeHead(int(told["size"]), Hash(bytes(told["root"]))),
            Mined(bytes(entry["transactionHash"]), int(entry["blockNumber"]), bytes(entry["blockHash"])),
            int(told["previous_size"]),
            int(told["previous_block"]),
        )
    return None


def _contract(web3: Web3, address: ChecksumAddress) -> type[Contract] | Contract:
    return web3.eth.contract(address=address, abi=INTERFACE)
