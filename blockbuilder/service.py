"""The block builder process: firehose and directory in; block files, ``blocks``, tiles and checkpoint out.

The order in which a block becomes durable, and what a crash after each step leaves:

1. The block file, under a pending name: not committed; the next life removes it.
2. The header on ``blocks``, in a Kafka transaction under the one transactional id ``blockbuilder``: this
   is the commit, and the fence. The next life finds the header there and goes on with step 3.
3. The block file's own name.
4. The tiles.
5. The checkpoint: from here on readers know the block.

So ``blocks`` is the truth. A life begins by fencing its predecessor, reads ``blocks`` to its end,
completes steps 3 to 5 for what was committed, and follows the firehose on from the last header's cuts.
Nothing else is remembered.
"""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

import structlog

from blockbuilder import metrics
from blockbuilder.core import Assembly, Limits
from blockbuilder.errors import HistoryError, StoreError
from blockbuilder.recall import (
    HINTS_HEADER,
    Landmarks,
    decode_hints,
    encode_hints,
    read_back,
    start_offset,
)
from blockbuilder.settings import BuilderSettings
from blockbuilder.store import BlockFolder
from parley.blocks import Block, header_hash
from parley.checkpoint import Checkpoint
from parley.custody import load_signatory
from parley.note import NoteSigner
from parley.schemas import BlockHeader, decode
from parley.tiles import Edge, grow
from streams.catalogue import BLOCKS, DIRECTORY, FIREHOSE
from streams.connection import KafkaConnection
from streams.crashpoint import crash_point
from streams.errors import AbortedError, SessionLostError
from streams.handler import Headers, Record
from streams.processor import READY, SESSION_LOST
from streams.reader import Follower, Reader
from streams.runtime import Stop
from streams.transaction import TransactionalProducer

__all__ = ["SEALED", "SERVICE", "run"]

SERVICE: Final = "blockbuilder"
SEALED: Final = "blockbuilder.block.sealed"
ABORTED: Final = "blockbuilder.block.aborted"

_BATCH: Final = 5_000
_POLL_SECONDS: Final = 0.05
_PAUSE_SECONDS: Final = 0.2
_PARTITIONS_SECONDS: Final = 5.0
_GC_THRESHOLD: Final = 100_000
"""Events are kept by the ten thousand and form no cycles: looking for some each 700 costs a third of the time."""
_MARGIN: Final = 0.75
"""The part of the seal interval after which a block is begun, so that it is out before the rest is over."""

log = structlog.get_logger()


def run(settings: BuilderSettings, stop: Stop) -> None:
    """Build blocks until asked to stop.

    Raises:
        SecondBuilderError: another process holds the block store.
        FencedError: another builder has taken over the log.
        StoreError, HistoryError, FirehoseError: store or topics are not what was sealed.

    """
    signer = NoteSigner(settings.origin, load_signatory(settings.key))
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    ready = False
    with BlockFolder(settings.store) as folder:
        while not stop.is_set():
            try:
                with Life(settings.connection(), folder, signer, settings.limits()) as life:
                    ready = True
                    log.info(READY, log_size=life.log_size, origin=settings.origin)
                    life.build(stop, settings.seal_interval_ms / 1_000)
            except SessionLostError as error:
                if not ready:
                    raise
                log.warning(SESSION_LOST, topic=BLOCKS, reason=str(error))
                stop.wait(_PAUSE_SECONDS)


class Life:
    """From fencing the last builder to losing the broker: all that is in memory, and the connections."""

    def __init__(
        self, connection: KafkaConnection, folder: BlockFolder, signer: NoteSigner, limits: Limits
    ) -> None:
        self._folder = folder
        self._signer = signer
        self._reader = Reader(connection)
        self._last: bytes | None = None
        self._edge = Edge()
        self._hints: dict[int, int] = {}
        self._landmarks = Landmarks()
        with ExitStack() as opened:
            self._producer = TransactionalProducer(
                connection.transactional_producer(connection.owned(SERVICE), linger_ms=0)
            )
            opened.callback(self._producer.close)
            self._recover()
            header = None if self._last is None else decode(self._last, BlockHeader)
            self._assembly = Assembly(header, limits)
            self._directory = opened.enter_context(Follower(connection, DIRECTORY, {0: 0}))
            self._firehose = opened.enter_context(Follower(connection, FIREHOSE, self._positions()))
            self._opened = opened.pop_all()
        self._partitions_at = time.monotonic() + _PARTITIONS_SECONDS

    @property
    def log_size(self) -> int:
        """How many blocks the log has."""
        return self._edge.size

    def close(self) -> None:
        """Drop the connections."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Recovery

    def _recover(self) -> None:
        """Publish what was committed and not published yet; remove what was not committed."""
        checkpoint, self._edge = self._folder.log(self._signer)
        committed = self._committed(checkpoint.size)
        for height, header in enumerate(committed, checkpoint.size):
            self._folder.recover(height, header)
        self._publish_log(committed)
        self._folder.clear_pending()
        metrics.LOG_SIZE.set(self._edge.size)

    def _committed(self, size: int) -> list[bytes]:
        """The headers on ``blocks`` from height ``size`` on; sets the last header."""

        def reached(record: Record) -> bool:
            return decode(record.value() or b"", BlockHeader).height >= size - 1

        start = self._reader.first(BLOCKS, 0, reached)
        records = list(self._reader.read_partition(BLOCKS, 0, start))
        headers = [record.value() or b"" for record in records]
        published = self._folder.entry(size - 1, self._signer) if size else None
        if size and headers[:1] != [published]:
            raise StoreError(
                f"the checkpoint names {size} blocks, but `{BLOCKS}` does not have the last of them; one of the"
                " two was restored from an old copy, or they do not belong together"
            )
        for height, (header, before) in enumerate(
            zip(headers, [None, *headers], strict=False), max(size - 1, 0)
        ):
            value = decode(header, BlockHeader)
            if value.height != height or (before is not None and value.previous != header_hash(before)):
                raise HistoryError(f"`{BLOCKS}`: header {value.height} does not follow header {height - 1}")
        self._last = headers[-1] if headers else None
        self._hints = decode_hints(records[-1]) if records else {}
        return headers[1:] if size else headers

    def _positions(self) -> dict[int, int]:
        """Where to follow each pipeline on."""
        cursor = self._assembly.cursor
        return {
            pipeline: start_offset(
                self._reader, pipeline, cursor[pipeline].sequence, self._hints.get(pipeline)
            )
            if pipeline in cursor
            else 0
            for pipeline in range(self._reader.partitions(FIREHOSE))
        }

    # Building

    def build(self, stop: Stop, seal_interval: float) -> None:
        """Follow and seal until asked to stop. ``seal_interval`` in seconds."""
        due = time.monotonic()
        while not stop.is_set():
            self._follow()
            now = time.monotonic()
            if self._assembly.waiting and (now >= due or self._assembly.full()):
                due = now + seal_interval * _MARGIN
                while self._seal() and self._assembly.full():
                    pass
            if now >= self._partitions_at:
                self._find_new_pipelines()
        if self._assembly.waiting:
            self._seal()

    def _follow(self) -> None:
        """Take what there is, and read back what is missing."""
        for record in self._firehose.poll(_BATCH, _POLL_SECONDS):
            pipeline, offset = record.partition() or 0, record.offset() or 0
            self._assembly.follow(record.value() or b"", pipeline, offset)
            self._landmarks.note(pipeline, self._assembly.cursor[pipeline].sequence - 1, offset)
        for record in self._directory.poll():
            self._assembly.follow_directory(record.value() or b"")
        if wanted := self._assembly.wanted():
            self._assembly.supply(read_back(self._reader, wanted, self._landmarks))
            metrics.RECALLED.inc(len(wanted))
        metrics.WAITING.set(self._assembly.waiting)

    def _seal(self) -> bool:
        """Seal one block; whether there was anything to seal."""
        started = time.monotonic()
        block = self._assembly.next_block(self._last, time.time_ns() // 1_000_000)
        if block is None:
            return False
        height, header = block.header.height, block.encoded_header
        file_bytes = self._folder.stage(block)
        crash_point("blockbuilder.staged")
        try:
            self._producer.commit([(BLOCKS, 0, b"%d" % height, header, self._resume_hints(block))])
        except AbortedError as error:
            self._folder.clear_pending()
            log.warning(ABORTED, height=height, reason=str(error))
            return False
        crash_point("blockbuilder.committed")
        self._folder.publish(height, header)
        crash_point("blockbuilder.published")
        self._publish_log([header])
        self._last = header
        self._assembly.sealed(block)
        _observe(block, file_bytes, time.monotonic() - started)
        return True

    def _resume_hints(self, block: Block) -> Headers:
        """What spares the next life a search."""
        for cut in block.header.cuts:
            offset = self._landmarks.before(cut.pipeline, cut.sequence)
            if offset is not None:
                self._hints[cut.pipeline] = offset
        return [(HINTS_HEADER, encode_hints(self._hints))]

    def _publish_log(self, headers: list[bytes]) -> None:
        """Let the log grow by committed headers whose blocks are published."""
        growth = grow(self._edge, headers)
        self._folder.write_tiles(growth.files)
        crash_point("blockbuilder.tiles")
        self._folder.write_checkpoint(
            Checkpoint(self._signer.name, growth.edge.size, growth.edge.root()), self._signer
        )
        crash_point("blockbuilder.checkpoint")
        self._edge = growth.edge

    def _find_new_pipelines(self) -> None:
        self._partitions_at = time.monotonic() + _PARTITIONS_SECONDS
        for pipeline in range(len(self._firehose.positions), self._reader.partitions(FIREHOSE)):
            self._firehose.add(pipeline)


def _observe(block: Block, file_bytes: int, seconds: float) -> None:
    header = block.header
    lag = None
    if block.transactions:
        lag = time.time() - min(sealed.record.ended_at for sealed in block.transactions) / 1_000
        metrics.LAG_SECONDS.observe(lag)
    metrics.TRANSACTIONS.inc(header.transactions)
    metrics.MESSAGES.inc(header.messages)
    metrics.SEAL_SECONDS.observe(seconds)
    metrics.LOG_SIZE.set(header.height + 1)
    log.info(
        SEALED,
        height=header.height,
        transactions=header.transactions,
        messages=header.messages,
        directory_records=header.directory_records,
        directory_version=header.directory_version,
        file_bytes=file_bytes,
        root=header.root.hex(),
        seconds=round(seconds, 4),
        lag_seconds=None if lag is None else round(lag, 3),
    )
