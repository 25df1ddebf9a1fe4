"""Everything on a broker's topics, read as it grows, and whether it is what docs/invariants.md promises; writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Self

from router.core import Limits
from streams.catalogue import DEAD_LETTER, DELIVERIES, DIRECTORY, FIREHOSE, INGEST, REJECTED, inbox_topic
from streams.reader import Follower
from tests import promises
from tests.fix_backbone import RunningBackbone
from tests.whole_record import WholeRecord, delivery_of

__all__ = ["BrokerLog", "delivery_of", "tell", "wait_for"]

PATIENCE_S = 60.0


def wait_for(condition: Callable[[], bool], what: Callable[[], str], patience_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fail, saying what was waited for, where it does not in time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s: {what()}"
        time.sleep(0.1)


def tell(text: str) -> None:
    """Print a figure; pytest shows it with ``-s``, and where a test fails."""
    print(f"\n{text}")  # noqa: T201 - what was compared is worth knowing


class BrokerLog(WholeRecord):
    """The topics of a backbone as far as they were read; `refresh` reads on."""

    def __init__(self, running: RunningBackbone, addresses: Iterable[str] = ()) -> None:
        backbone = running.backbone
        super().__init__(running.registrar, backbone.pipelines, addresses)
        each = dict.fromkeys(self.pipelines, 0)
        whole: dict[str, dict[int, int]] = {
            **dict.fromkeys((INGEST, FIREHOSE, DELIVERIES), each),
            **{topic: {0: 0} for topic in (REJECTED, DEAD_LETTER, DIRECTORY)},
            **{inbox_topic(address): {0: 0} for address in self.inboxes},
        }
        self._stack = ExitStack()
        self._followers = {
            topic: self._stack.enter_context(Follower(backbone.admin, topic, positions))
            for topic, positions in whole.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def refresh(self) -> None:
        """Read every topic on to its present end."""
        for topic, follower in self._followers.items():
            while True:
                for record in follower.poll(timeout_s=0.02):
                    self.take(topic, record)
                if follower.at_end:
                    break

    def await_judgement(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until every ingest record is answered and every transaction has ended."""

        def judged() -> bool:
            self.refresh()
            return not self.unjudged()

        def what() -> str:
            left = self.unjudged()
            return f"{len(left)} left, such as {left[:5]}; {self.counts()}: {self.reasons()}"

        wait_for(judged, what, patience_s)

    def await_delivery(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until every inbox has all that is due to it."""

        def delivered() -> bool:
            self.refresh()
            return self.delivered()

        wait_for(delivered, lambda: "inboxes without all that is due to them", patience_s)

    # What was promised -----------------------------------------------------------------------------------------------

    def assert_each_record_judged_once(self, *, told_twice: bool = False) -> None:
        """Every acknowledged record is accepted once, or rejected once (however often it was told), or a repetition."""
        _assert_none(promises.judged_once(self, told_twice=told_twice))

    def assert_firehose_whole(self) -> None:
        """Dense sequences, unbroken chains, and time that never runs backwards."""
        _assert_none(promises.chained(self))

    def assert_ended(self, since: int = 0) -> int:
        """Every transaction ended once and as its events say, all of which the end lists.

        Gives how late the latest timeout was written of those with a deadline after ``since``, in ms.
        """
        _assert_none(promises.ended(self))
        timeouts = promises.timeouts(self)
        return max((each.done_at - each.due_at for each in timeouts if each.due_at > since), default=0)

    def assert_as_uninterrupted(self, limits: Limits | None = None) -> None:
        """What one router that is never interrupted makes of the same ingest, to the byte but for receipts' trees."""
        _assert_none(promises.as_uninterrupted(self, limits))

    def assert_delivered(self) -> int:
        """Every inbox holds what was due to it, each pipeline's in order, once what is repeated is dropped.

        Gives how many repetitions there were.
        """
        _assert_none(promises.delivered(self))
        return promises.repetitions(self)


def _assert_none(faults: Iterator[str]) -> None:
    found = list(faults)
    assert found == []
