"""A process's place among those of one consumer: Kafka's group protocol divides the pipelines, and keeps each share's position.

The group divides the partitions of ``shares``, an empty topic with one for each pipeline. What it saves for one of them is not
a place in that topic but in the inbox, which has a single partition and could be divided among nobody. The broker takes a
position only from a member of the group as it stands, so a process that was given up by the others saves nothing any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from parley.errors import TransportError
from parley.kafka_access import Failures, KafkaAccess, ask, partitions_of
from parley.transport import Arrivals, Standing

__all__ = ["Membership"]

SHARES: Final = "shares"
_LOOK_EVERY_S: Final = 5.0
"""How often we ask how far the others are."""
_HANDING_OVER_S: Final = 35.0
"""How long shares may take to be released; a little more than the application is given."""
_LEAVING_S: Final = 5.0
_NO_MEMBER: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
    }
)


class Membership:
    """One member of a consumer's group. Its thread, and the event loop through ``save`` and ``release``, use it."""

    def __init__(
        self,
        access: KafkaAccess,
        group: str,
        failures: Failures,
        post: Callable[[Arrivals | TransportError], None],
        patience_s: float,
    ) -> None:
        """``post`` is given what changes, in the thread."""
        self._consumer = Consumer(access.member(group) | {"error_cb": failures.note})
        self._failures = failures
        self._post = post
        self._patience = patience_s
        self._ours: set[int] = set()
        self._lock = threading.Lock()
        self._asked: dict[int, Standing] = {}
        """What is to be saved; under the lock."""
        self._released = threading.Event()
        self._stopping = threading.Event()
        self._looked_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"parley {group}", daemon=True)

    def standings(self) -> dict[int, Standing]:
        """How far each share is; raises TransportError."""
        pipelines = partitions_of(self._consumer, SHARES, self._failures, self._patience)
        return ask(
            lambda: self._saved(pipelines),
            self._consumer,
            "looking up the inbox's positions",
            self._failures,
            self._patience,
        )

    def begin(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            [SHARES], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        self._thread.start()

    def save(self, standings: Mapping[int, Standing]) -> None:
        """Save these within a tenth of a second."""
        with self._lock:
            self._asked |= standings

    def release(self) -> None:
        """Let the shares go that others are to have."""
        self._released.set()

    def end(self) -> None:
        """Save what was asked for and leave the group; the others have our shares at once."""
        self._stopping.set()
        self._released.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._consumer.close()

    # The thread --------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                record = self._consumer.poll(0.1)
                if record is not None and (error := record.error()) is not None:
                    self._failures.judge(error, f"sharing {SHARES}")
                self._save()
                self._look()
            until = time.monotonic() + _LEAVING_S
            self._save()
            while self._asked and time.monotonic() < until:
                self._consumer.poll(0.1)
                self._save()
        except TransportError as error:
            self._post(error)
        except KafkaException as exception:
            self._post(self._failures.error(f"sharing {SHARES}", exception.args[0]))

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gained = {each.partition for each in partitions}
        # Nothing is read from it; the driver must not look for our positions there.
        consumer.incremental_assign([TopicPartition(SHARES, pipeline, 0) for pipeline in gained])
        consumer.pause(partitions)
        # Asked once and with patience: in here the driver must not be asked to serve anything else.
        standings = self._saved(gained, self._patience)
        self._ours |= gained
        self._post(Arrivals(gained=standings))

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        leaving = {each.partition for each in partitions}
        if not self._stopping.is_set():
            self._released.clear()
            self._post(Arrivals(leaving=leaving))
            self._released.wait(_HANDING_OVER_S)
        self._save()
        self._ours -= leaving

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        lost = {each.partition for each in partitions}
        self._ours -= lost
        self._post(Arrivals(lost=lost))

    def _save(self) -> None:
        with self._lock:
            asked, self._asked = self._asked, {}
        standings = [
            TopicPartition(SHARES, pipeline, standing.position, metadata=standing.note)
            for pipeline, standing in asked.items()
            if pipeline in self._ours
        ]
        if not standings:
            return
        try:
            self._consumer.commit(offsets=standings, asynchronous=False)
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            if error.code() in _NO_MEMBER:
                return  # what was ours is another's, who takes again what is not saved
            self._failures.judge(error, "saving the inbox's positions")
            with self._lock:
                self._asked = asked | self._asked

    def _look(self) -> None:
        """Ask how far the others are, where there are others."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        try:
            found = self._consumer.list_topics(SHARES, timeout=1).topics[SHARES].partitions
            if theirs := set(found) - self._ours:
                self._post(Arrivals(moved=self._saved(theirs)))
        except KafkaException as exception:  # later will do: until then more is kept than need be
            self._failures.judge(exception.args[0], "looking up the others' positions")

    def _saved(self, pipelines: Collection[int], timeout: float = 1) -> dict[int, Standing]:
        if not pipelines:
            return {}
        found = self._consumer.committed(
            [TopicPartition(SHARES, each) for each in pipelines], timeout=timeout
        )
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return {each.partition: Standing(max(each.offset, 0), each.metadata or "") for each in found}
