"""An auditor's reading of anchors: what a chain itself says of a checkpoint, without trust in the service that anchored.

Which endpoint to believe is the reader's choice: best a node of one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from eth_utils.address import to_checksum_address
from web3.exceptions import BlockNotFound

from anchor.contract import compiled_contract, origin_id
from anchor.core import TreeHead
from anchor.errors import ChainUnreachableError
from anchor.evm import LogPosition, find_anchor, read_latest
from parley.errors import ProofError

if TYPE_CHECKING:
    from eth_typing import ChecksumAddress
    from web3 import Web3

    from anchor.endpoints import Endpoints


class VerifiedAnchor(NamedTuple):
    """A checkpoint found on a chain. ``mined_at`` is the block's time, in ms since the Unix epoch."""

    chain_id: int
    contract: str
    head: TreeHead
    transaction_hash: bytes
    block_number: int
    block_hash: bytes
    mined_at: int
    confirmations: int
    """Blocks that hold it, its own included, as of the newest one."""


def verify_anchor(
    endpoints: Endpoints, contract: str, origin: str, head: TreeHead, *, block_number: int | None = None
) -> VerifiedAnchor:
    """Proof that the contract holds ``head`` for the log of this origin.

    Args:
        endpoints: the chain.
        contract: the contract's address, known from a trusted place.
        origin: the log's origin line.
        head: size and root, as of a verified checkpoint.
        block_number: where it is said to stand, as in an ``AnchorEvent``. Without it the log's anchors are
            walked from the newest back, one request each.

    Raises:
        ProofError: the size was not anchored, or with another root.
        ChainError: the chain cannot be used.

    """
    address = _address(contract)
    log = origin_id(origin)
    return endpoints.ask(lambda web3: _verify(web3, endpoints.chain_id, address, log, head, block_number))


def verify_contract(endpoints: Endpoints, contract: str) -> None:
    """Proof that the code at the address is this very contract, so that its rules hold. Needs the compiler.

    Raises:
        ProofError: it is other code, or none.
        DeploymentError: the source does not compile here.
        ChainError: the chain cannot be used.

    """
    address = _address(contract)
    code = endpoints.ask(lambda web3: bytes(web3.eth.get_code(address)))
    if code != compiled_contract().code:
        raise ProofError(
            f"anchor contract: {address} holds {'other' if code else 'no'} code; check the address"
        )


def _verify(
    web3: Web3, chain_id: int, address: ChecksumAddress, origin: bytes, head: TreeHead, hint: int | None
) -> VerifiedAnchor:
    height = web3.eth.block_number
    found = None if hint is None else _anchor_in(web3, address, origin, head.size, hint)
    if found is None:
        found = _walk_back(web3, address, origin, head.size, height)
    if found.head.root != head.root:
        raise ProofError(
            f"anchor: size {head.size} stands in block {found.mined.block_number} with root {found.head.root.hex()},"
            f" not {head.root.hex()}: the log showed two histories; keep both checkpoints as evidence"
        )
    block = web3.eth.get_block(found.mined.block_number)
    block_hash = bytes(block["hash"])
    if block_hash != found.mined.block_hash:
        raise ChainUnreachableError("the chain reorganised while being read; look again")
    return VerifiedAnchor(
        chain_id=chain_id,
        contract=address,
        head=found.head,
        transaction_hash=found.mined.transaction_hash,
        block_number=found.mined.block_number,
        block_hash=block_hash,
        mined_at=block["timestamp"] * 1000,
        confirmations=max(1, height - found.mined.block_number + 1),
    )


def _walk_back(web3: Web3, address: ChecksumAddress, origin: bytes, wanted: int, height: int) -> LogPosition:
    """The event that anchored ``wanted``, following each event's pointer to the one before it."""
    size, _, number = read_latest(web3, address, origin, height)
    while size > wanted:
        event = _anchor_in(web3, address, origin, size, number)
        if event is None:
            raise ChainUnreachableError(
                f"the endpoint does not show the anchor in block {number}; try another"
            )
        size, number = event.previous_size, event.previous_block
    found = _anchor_in(web3, address, origin, wanted, number) if size == wanted and size else None
    if found is None:
        raise ProofError(
            f"anchor: size {wanted} is not anchored in {address}; the nearest below it is {size}."
            " Take a checkpoint that was anchored, or wait for the next anchor"
        )
    return found


def _anchor_in(
    web3: Web3, address: ChecksumAddress, origin: bytes, size: int, number: int
) -> LogPosition | None:
    try:
        block_hash = bytes(web3.eth.get_block(number)["hash"])
    except BlockNotFound:
        return None
    return find_anchor(web3, address, origin, size, block_hash)


def _address(contract: str) -> ChecksumAddress:
    try:
        return to_checksum_address(contract)
    except ValueError:
        raise ProofError(
            f"anchor contract: {contract[:60]!r} is no address; expected 0x and 40 digits"
        ) from None
