"""Admission to the directory: the single writer of its log; what may be admitted is `parley.directory`'s to say.

Reads `admissions` (self-signed entries that the registrar has countersigned) and writes `directory`. Its state is the
directory itself, which is read from its own log on start; the transactional producer fences a second writer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from parley.directory import Directory
from parley.errors import DirectoryError, ParleyError
from parley.schemas import Envelope, decode, encode
from router.settings import AdmissionSettings
from streams.catalogue import ADMISSIONS, DIRECTORY
from streams.errors import PoisonError
from streams.handler import History, Partition, Record
from streams.processor import Processor, ProcessorConfig
from streams.runtime import Stop, run_service

__all__ = ["Admission"]

SERVICE = "admission"
_DIRECTORY_KEY = b"directory"

DirectoryPartition = Partition[Directory, None]


class Admission:
    """Admits entries one by one, in the order in which they came."""

    def __init__(self, registrar: bytes) -> None:
        """Trust the registrar's public key (32 bytes)."""
        self._registrar = registrar

    def encode(self, key: bytes, value: Directory) -> bytes:
        """Never called: the directory's log is its changelog."""
        raise NotImplementedError

    def decode(self, key: bytes, data: bytes) -> Directory:
        """Never called: the directory's log is its changelog."""
        raise NotImplementedError

    def timer(self, value: Directory) -> int | None:  # noqa: ARG002
        """Nothing here waits for a time."""
        return None

    def assigned(self, partition: DirectoryPartition, committed: int | None, history: History) -> int | None:
        """Read the directory from its log: whatever was admitted stands there, and nothing else counts."""
        directory = Directory(self._registrar)
        for record in history.read_partition(DIRECTORY, 0):
            directory.apply(_value(record))
        partition.store.put(_DIRECTORY_KEY, directory)
        return committed

    def process(self, partition: DirectoryPartition, records: Sequence[Record]) -> None:
        """Admit each entry, or refuse it with the reason (to the dead letters)."""
        before = partition.store.get(_DIRECTORY_KEY)
        assert before is not None
        directory = before.copy()
        for record in records:
            data = record.value()
            if data is None:
                continue
            try:
                admitted = encode(directory.admit(decode(data, Envelope), record.timestamp()[1]))
            except ParleyError as error:
                raise PoisonError(f"not admitted: {error}") from error
            directory.apply(admitted)
            partition.emit(DIRECTORY, directory.version.to_bytes(8, "big"), admitted)
        partition.store.put(_DIRECTORY_KEY, directory)

    def before_commit(self, partitions: Sequence[DirectoryPartition]) -> None:
        """Nothing depends on the whole commit."""

    def after_commit(self, partitions: Sequence[DirectoryPartition]) -> None:
        """Nothing follows a commit."""


def _value(record: Record) -> bytes:
    data = record.value()
    if data is None:
        raise DirectoryError("the directory's log holds an empty record; restore the topic")
    return data


def run(settings: AdmissionSettings, stop: Stop) -> None:
    """Admit until asked to stop."""
    config = ProcessorConfig(SERVICE, settings.instance, ADMISSIONS, changelog=None)
    Processor(config, settings.connection(), Admission(bytes.fromhex(settings.registrar_key))).run(
        stop.is_set
    )


if __name__ == "__main__":
    sys.exit(run_service(SERVICE, AdmissionSettings, run))
