"""What may be deleted from the topics, looked up on the broker and in a block store; the rules are ``blockbuilder.past``'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from blockbuilder.errors import TrimError
from blockbuilder.past import Bound, Kept, bound, concerns
from blockbuilder.progress import Tell
from parley.blocks import BlockStore, from_folder
from parley.errors import ProofError
from parley.schemas import AnchorEvent, FirehoseEvent, Hash, PipelineState, decode
from parley.tiles import TileReader
from streams.catalogue import ANCHORS, DELIVERIES, FIREHOSE, INGEST, ROUTER_STATE
from streams.connection import KafkaConnection
from streams.reader import Reader
from streams.retention import committed, delete_before

__all__ = ["Cut", "Trimmer"]

_PIPELINE_KEY: Final = b"pipeline"
"""Under which the router keeps where a pipeline stands."""


class Cut(NamedTuple):
    """What goes of one pipeline."""

    pipeline: int
    bound: Bound
    offsets: dict[tuple[str, int], int]
    """The first offset that stays, by topic and partition."""


class Trimmer:
    """Looks at the topics and a block store, and tells what may go."""

    def __init__(self, connection: KafkaConnection, folder: Path, store: BlockStore, group: str) -> None:
        self._connection = connection
        self._reader = Reader(connection)
        self._folder = folder
        self._store = store
        self._group = group

    def cuts(self, wanted: Mapping[int, int] | None, tell: Tell) -> list[Cut]:
        """What goes of the pipelines wanted, each up to the first event that is to stay; of all, as far as it may, if ``None``.

        Raises:
            TrimError: something still needs what is wanted to go.
            ProofError: a block does not verify.
            StreamError: the topics cannot be read.

        """
        pipelines = sorted(wanted) if wanted is not None else list(range(self._reader.partitions(FIREHOSE)))
        anchored = self.anchored()
        firsts = {pipeline: self._first(pipeline) for pipeline in pipelines}
        sealed = self._sealed({p: first for p, first in firsts.items() if first is not None}, anchored, tell)
        cuts = []
        for done, pipeline in enumerate(pipelines, 1):
            asked = None if wanted is None else wanted[pipeline]
            found = bound(
                pipeline,
                self._firehose(pipeline),
                sealed.get(pipeline, {}),
                self._replayed_from(pipeline),
                asked,
            )
            if asked is not None and (found is None or found.sequence < asked):
                why = "its firehose is empty" if found is None else found.reason
                raise TrimError(f"pipeline {pipeline} cannot go up to event {asked}: {why}")
            if found is not None and found.deleted:
                cuts.append(Cut(pipeline, found, self._offsets(pipeline, found)))
            tell("reading the firehose", done, len(pipelines))
        return cuts

    def delete(self, cuts: Sequence[Cut]) -> None:
        """Delete it: the copies first, so that the firehose tells what is left to do if this is cut short."""
        for topic in (DELIVERIES, INGEST, FIREHOSE):
            delete_before(
                self._connection,
                {place: offset for cut in cuts for place, offset in cut.offsets.items() if place[0] == topic},
            )

    def anchored(self) -> int:
        """The size of the store's log that the newest final anchor vouches for.

        Raises:
            TrimError: no final anchor is on record, or the newest is of another log.

        """
        finals = [
            event
            for record in self._reader.read_partition(ANCHORS, 0)
            if (event := decode(record.value() or b"", AnchorEvent)).state == "FINAL"
        ]
        if not finals:
            raise TrimError(
                "no anchor is final yet, so no block is out of the operator's hands; wait for one"
            )
        newest = max(finals, key=lambda event: event.log_size)
        if newest.log_size > len(self._store):
            raise TrimError(
                f"the newest final anchor is of {newest.log_size} blocks, and the store has {len(self._store)}; read a"
                " newer copy"
            )
        try:
            TileReader(from_folder(self._folder), newest.log_size, newest.root)
        except ProofError as error:
            raise TrimError(
                f"the newest final anchor, of {newest.log_size} blocks, is not of this block store: {error}"
            ) from error
        return newest.log_size

    def _first(self, pipeline: int) -> int | None:
        record = next(self._firehose(pipeline), None)
        return None if record is None else decode(record.data, FirehoseEvent).sequence

    def _firehose(self, pipeline: int) -> Iterator[Kept]:
        for record in self._reader.read_partition(FIREHOSE, pipeline):
            yield Kept(record.offset() or 0, record.value() or b"")

    def _sealed(self, firsts: Mapping[int, int], anchored: int, tell: Tell) -> dict[int, dict[int, Hash]]:
        """Digests, by pipeline and sequence, of what stands in anchored blocks and may be on the firehose."""
        found: dict[int, dict[int, Hash]] = {pipeline: {} for pipeline in firsts}
        heights = [self._height(pipeline, first) for pipeline, first in firsts.items()]
        start = min((height for height in heights if height is not None), default=anchored)
        for height in range(start, anchored):
            for sealed in self._store.block(height).transactions:
                pipeline = sealed.record.pipeline
                if pipeline in firsts:
                    found[pipeline].update(
                        listed for listed in sealed.record.events if listed.sequence >= firsts[pipeline]
                    )
            tell("verifying blocks", height + 1 - start, anchored - start)
        return found

    def _height(self, pipeline: int, sequence: int) -> int | None:
        try:
            return self._store.height_of_event(pipeline, sequence)
        except ProofError:
            return None  # it is in no block yet

    def _replayed_from(self, pipeline: int) -> int:
        state: PipelineState | None = None
        for record in self._reader.read_partition(ROUTER_STATE, pipeline):
            if record.key() == _PIPELINE_KEY and (value := record.value()) is not None:
                state = decode(value, PipelineState)
        return 0 if state is None else state.replay_from

    def _offsets(self, pipeline: int, found: Bound) -> dict[tuple[str, int], int]:
        offsets = {(FIREHOSE, pipeline): found.offset, (INGEST, pipeline): found.ingest_offset}
        delivered = committed(self._connection, self._group, DELIVERIES).get(pipeline)
        if delivered is not None:
            offsets[DELIVERIES, pipeline] = min(delivered, self._undelivered(pipeline, found.sequence))
        low = {place: self._reader.bounds(*place)[0] for place in offsets}
        return {place: offset for place, offset in offsets.items() if offset > low[place]}

    def _undelivered(self, pipeline: int, sequence: int) -> int:
        """The offset of the first batch of deliveries that holds what stays."""
        end = 0
        for record in self._reader.read_partition(DELIVERIES, pipeline):
            if concerns(record.value() or b"", pipeline, sequence):
                return record.offset() or 0
            end = (record.offset() or 0) + 1
        return end
