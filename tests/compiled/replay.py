"""A router in a process of its own, compiled or not, to which loads are given and which gives back every byte it said.

`python -m tests.compiled.replay` is that process; :class:`Replayer` talks to it through its standard streams.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple, Self

from deploy.folder import CHECKOUT
from router import handler
from router.core import Limits
from router.quotas import Quotas
from router.service import is_compiled
from streams.catalogue import DELIVERIES, FIREHOSE, REJECTED, ROUTER_STATE
from tests.interrupted_streams import PIPELINES, Arrival, Move, play
from tests.memory_router import MemoryRouter, members

__all__ = ["Load", "Replayer", "Said", "import_path"]


class Load(NamedTuple):
    """Ingest records, who may send them, and what befalls the router that judges them."""

    names: tuple[str, ...]
    remembered: int
    quotas: Quotas
    write_behind: int
    arrivals: Sequence[Arrival]
    moves: Sequence[Move]


Said = list[tuple[str, int, bytes | None, bytes | None]]
"""Topic, partition, key and value of every record, offsets left out, in the order of each partition."""


def import_path(root: Path) -> dict[str, str]:
    """Environment variables with which Python imports the router from this root, and the tests from the checkout."""
    return {"PYTHONPATH": f"{root}{os.pathsep}{CHECKOUT}", "PYTHONSAFEPATH": "1"}


class Replayer:
    """The other end of such a process."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.compiled.replay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | import_path(root),
        )
        self.compiled: bool = pickle.load(self._output)

    def said_of(self, load: Load) -> Said:
        """All that a router on new topics says of this load, and remembers of it."""
        assert self._process.stdin is not None
        pickle.dump(load, self._process.stdin)
        self._process.stdin.flush()
        said: Said = pickle.load(self._output)
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout


def replay(load: Load) -> Said:
    """What :meth:`Replayer.said_of` gives, in this process."""
    handler.WRITE_BEHIND = load.write_behind
    limits = Limits(remembered=load.remembered, quotas=load.quotas)
    router = MemoryRouter(members(*load.names), limits, pipelines=PIPELINES)
    for pipeline, value, at in load.arrivals:
        router.append(value, at, pipeline)
    play(router, load.moves)
    router.step()
    return [
        (topic, partition, record.with_key, record.with_value)
        for topic in (FIREHOSE, DELIVERIES, REJECTED, ROUTER_STATE)
        for partition in range(PIPELINES)
        for record in router.topics.records(topic, partition)
    ]


def main() -> None:
    """Tell which router this is, and answer loads until there are no more."""
    answers = sys.stdout.buffer
    pickle.dump(is_compiled(), answers)
    answers.flush()
    while True:
        try:
            load = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(replay(load), answers)
        answers.flush()


if __name__ == "__main__":
    main()
