"""A toy application of the processor: running sums by key, and the model that tells what it must have written.

Each input adds a number to its key's sum. With ``wait_ms`` the key's sum is closed that long after the input was
appended, unless another input comes first. Each output carries a sequence, dense within its partition, that lives in
the store like everything else: were memory ever ahead of the log or behind it, the sequence would show.

Run as a process: ``python -m tests.running_sums``, told by the environment (see ``Arguments``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from streams.connection import KafkaConnection
from streams.errors import PoisonError
from streams.handler import History, Partition, Record
from streams.processor import Processor, ProcessorConfig
from streams.runtime import Stop, run_service

SEQUENCE = b"\0sequence"


class Sum(NamedTuple):
    """What is known of one key; under SEQUENCE, ``total`` is the next sequence."""

    total: int
    closes_at: int | None = None


class Output(NamedTuple):
    """What is written for each input and for each closing (``offset`` of the record that brought the time)."""

    sequence: int
    offset: int
    key: str
    total: int
    closed: bool
    at: int


def request(number: int, wait_ms: int | None = None) -> bytes:
    """An input's value."""
    return json.dumps({"number": number, "wait_ms": wait_ms}).encode()


def read_output(record: Record) -> Output:
    return Output(*json.loads(record.value() or b""))


SumPartition = Partition[Sum, bytes]


class RunningSums:
    """The handler."""

    def __init__(self, output: str) -> None:
        self._output = output

    def encode(self, key: bytes, value: Sum) -> bytes:
        return json.dumps(value).encode()

    def decode(self, key: bytes, data: bytes) -> Sum:
        return Sum(*json.loads(data))

    def timer(self, value: Sum) -> int | None:
        return value.closes_at

    def restored(self, partition: SumPartition, value: Sum) -> None: ...

    def assigned(self, partition: SumPartition, committed: int | None, history: History) -> int | None:
        return committed

    def process(self, partition: SumPartition, records: Sequence[Record]) -> None:
        for record in records:
            at, offset = record.timestamp()[1], record.offset() or 0
            for key in partition.store.pop_due(at):
                total = (partition.store.get(key) or Sum(0)).total
                partition.store.delete(key)
                self._write(partition, offset, key, total, at, closed=True)
            value = record.value()
            if value is not None:
                self._add(partition, record.key() or b"", value, offset, at)

    def _add(self, partition: SumPartition, key: bytes, value: bytes, offset: int, at: int) -> None:
        if value == b"poison":
            raise PoisonError("the record says so")
        asked = json.loads(value)
        total = (partition.store.get(key) or Sum(0)).total + asked["number"]
        # Written before a bad request can fail, so that its traces must be taken back.
        self._write(partition, offset, key, total, at, closed=False)
        closes_at = None if asked["wait_ms"] is None else at + asked["wait_ms"]
        partition.store.put(key, Sum(total, closes_at))

    def _write(
        self, partition: SumPartition, offset: int, key: bytes, total: int, at: int, *, closed: bool
    ) -> None:
        sequence = (partition.store.get(SEQUENCE) or Sum(0)).total
        partition.store.put(SEQUENCE, Sum(sequence + 1))
        output = Output(sequence, offset, key.decode(), total, closed, at)
        partition.emit(self._output, key, json.dumps(output).encode())

    def before_commit(self, partitions: Sequence[SumPartition]) -> None: ...

    def after_commit(self, partitions: Sequence[SumPartition]) -> None: ...


def expected_outputs(inputs: Iterable[Record]) -> list[Output]:
    """What one partition's inputs lead to, by a few lines that share nothing with the handler."""
    outputs: list[Output] = []
    sums: dict[bytes, int] = {}
    closing: dict[bytes, int] = {}
    for record in inputs:
        at, offset, key, value = (
            record.timestamp()[1],
            record.offset() or 0,
            record.key() or b"",
            record.value(),
        )
        for due, waiting in sorted((due, waiting) for waiting, due in closing.items() if due < at):
            assert closing.pop(waiting) == due
            outputs.append(Output(len(outputs), offset, waiting.decode(), sums.pop(waiting), True, at))
        if value is not None and value.startswith(b"{"):
            asked = json.loads(value)
            sums[key] = sums.get(key, 0) + asked["number"]
            closing.pop(key, None)
            if asked["wait_ms"] is not None:
                closing[key] = at + asked["wait_ms"]
            outputs.append(Output(len(outputs), offset, key.decode(), sums[key], False, at))
    return outputs


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the process is told: the connection, its name, and the first part of its topics' names."""

    bootstrap: str
    username: str
    password: str
    instance: str
    topics: str
    batch_records: int = 50
    session_timeout_ms: int = 2_000
    metrics_port: int = 0

    def environment(self) -> dict[str, str]:
        """The environment in which ``python -m tests.running_sums`` finds these."""
        return {"RUNNING_SUMS": json.dumps(asdict(self))}

    def model_dump_json(self, *, indent: int | None = None) -> str:
        return json.dumps(asdict(self) | {"password": "**********"}, indent=indent)

    def config(self) -> ProcessorConfig:
        return ProcessorConfig(
            service="sums",
            instance=self.instance,
            topic=f"{self.topics}.input",
            changelog=f"{self.topics}.state",
            dead_letter=f"{self.topics}.dead",
            batch_records=self.batch_records,
            gather_ms=10,
            # Sent at once, so that a killed process leaves records of an open transaction behind.
            linger_ms=0,
            session_timeout_ms=self.session_timeout_ms,
            transaction_timeout_ms=2_000,
        )

    def connection(self) -> KafkaConnection:
        return KafkaConnection(self.bootstrap, self.username, self.password)


def run(arguments: Arguments, stop: Stop) -> None:
    handler = RunningSums(f"{arguments.topics}.output")
    Processor(arguments.config(), arguments.connection(), handler).run(stop.is_set)


if __name__ == "__main__":
    raise SystemExit(run_service("sums", lambda: Arguments(**json.loads(os.environ["RUNNING_SUMS"])), run))
