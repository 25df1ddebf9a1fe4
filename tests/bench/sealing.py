"""How fast the block builder seals what is on the firehose, and how fast it builds a Merkle tree."""

from __future__ import annotations

import os
import time

from blockbuilder.core import merkle_root
from deploy.services import Service
from parley.blocks import BlockStore, from_folder
from parley.note import NoteSigner
from parley.schemas import BlockHeader
from tests.bench.venue import Venue, wait_until

__all__ = ["merkle_leaves_per_second", "sealed_per_second"]

_ORIGIN = "bench.localhost/log"
_LEAVES = 50_000


def merkle_leaves_per_second() -> float:
    """Leaves of 300 bytes, hashed and made a tree of, a second."""
    leaves = [os.urandom(300) for _ in range(_LEAVES)]
    begin = time.perf_counter()
    merkle_root(leaves)
    return _LEAVES / (time.perf_counter() - begin)


def sealed_per_second(venue: Venue, messages: int) -> float:
    """Start the block builder on a firehose with so many messages, all of ended transactions, and see it catch up.

    Counted are the messages of all blocks but the first, over the time from the sealing of the first to the last.
    """
    folder = venue.folder.root / "log"
    key = NoteSigner(_ORIGIN, venue.backbone.key("blockbuilder")).verifier_key
    prefix = "PARLEY_BLOCKBUILDER_"
    told = {
        "KAFKA_BOOTSTRAP": venue.kafka.bootstrap,
        "KAFKA_USERNAME": "blockbuilder",
        "KAFKA_PASSWORD_FILE": str(venue.folder.password_file("blockbuilder")),
        "STORE": str(folder),
        "ORIGIN": _ORIGIN,
        "KEY": str(venue.folder.secrets / "blockbuilder.seed"),
        "BLOCK_TRANSACTIONS": "2000",
    }
    service = Service(
        "blockbuilder", "blockbuilder", {f"{prefix}{name}": value for name, value in told.items()}
    )

    def headers() -> list[BlockHeader]:
        store = BlockStore(from_folder(folder), key)
        return [store.header(height) for height in range(len(store))]

    with venue.running(service):
        wait_until(lambda: sum(header.messages for header in headers()) == messages, "all to be sealed")
        first, *others = [header for header in headers() if header.messages]
    assert others, "one block is no rate"
    seconds = (others[-1].sealed_at - first.sealed_at) / 1_000
    return sum(header.messages for header in others) / seconds
