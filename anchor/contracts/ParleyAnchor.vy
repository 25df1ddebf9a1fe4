# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Parley anchor
@license Apache-2.0
@notice The place on a public chain where a log's checkpoints stand: for each log, roots of ever larger sizes.

    A log is an append-only Merkle tree (RFC 6962); `size` and `root` of its checkpoint commit to everything that
    was ever sealed into it, so the newest anchor vouches for all that came before it.

    Who may do what
      owner      anchors; names a successor.
      successor  becomes the owner by accepting, which proves that somebody holds that key.
      anyone     reads: `latest` here, every earlier anchor in the `Anchored` events.
    Nobody can change, remove or lower what is anchored, and there is no way to upgrade, pause or pay the contract.

    Gas of `anchor`, transaction included (tests/integration/test_anchor_contract.py holds these to account):
    71,600 the first time a log is anchored, 37,400 after that. Deployment takes 330,000.
    Earlier roots are kept as events, not in storage, which would cost another 22,100 for each anchor.
"""

event Anchored:
    origin: indexed(bytes32)
    size: indexed(uint64)
    root: indexed(bytes32)
    previous_size: uint64
    previous_block: uint64

event OwnershipOffered:
    owner: indexed(address)
    successor: indexed(address)

event OwnershipTransferred:
    previous: indexed(address)
    owner: indexed(address)

struct Anchor:
    size: uint64
    root: bytes32
    block_number: uint64

owner: public(address)
successor: public(address)

# Size (upper bits) and block number (lower 64 bits) share a slot: one write of storage less for each anchor.
_position: HashMap[bytes32, uint256]
_root: HashMap[bytes32, bytes32]


@deploy
def __init__():
    self.owner = msg.sender
    log OwnershipTransferred(previous=empty(address), owner=msg.sender)


@external
def anchor(origin: bytes32, size: uint64, root: bytes32):
    """
    @notice Anchor a checkpoint. Reverts unless `size` is larger than the log's latest: the same checkpoint sent
        twice is refused rather than passed over, so a transaction that succeeded always carries its event.
    @param origin SHA-256 of the log's origin line.
    @param size Number of entries in the log.
    @param root RFC 6962 root hash over those entries.
    """
    assert msg.sender == self.owner, "only the owner anchors"
    assert root != empty(bytes32), "root is empty"
    position: uint256 = self._position[origin]
    previous_size: uint64 = convert(position >> 64, uint64)
    assert size > previous_size, "size must grow"
    self._position[origin] = (convert(size, uint256) << 64) | block.number
    self._root[origin] = root
    log Anchored(
        origin=origin,
        size=size,
        root=root,
        previous_size=previous_size,
        previous_block=convert(position & convert(max_value(uint64), uint256), uint64),
    )


@external
@view
def latest(origin: bytes32) -> Anchor:
    """
    @notice The newest anchor of a log, and the block that holds its event; all zero if it was never anchored.
    """
    position: uint256 = self._position[origin]
    return Anchor(
        size=convert(position >> 64, uint64),
        root=self._root[origin],
        block_number=convert(position & convert(max_value(uint64), uint256), uint64),
    )


@external
def offer_ownership(successor: address):
    """
    @notice Name who may take over (or, with the zero address, take an offer back).
    """
    assert msg.sender == self.owner, "only the owner offers"
    self.successor = successor
    log OwnershipOffered(owner=msg.sender, successor=successor)


@external
def accept_ownership():
    """
    @notice Take over; only the named successor can.
    """
    assert msg.sender == self.successor, "only the successor accepts"
    previous: address = self.owner
    self.owner = msg.sender
    self.successor = empty(address)
    log OwnershipTransferred(previous=previous, owner=msg.sender)
