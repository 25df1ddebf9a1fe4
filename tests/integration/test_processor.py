"""The processor on a real broker: exactly once whatever is killed, state restored, timers, poison, fencing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from deploy.folder import StackFolder
from deploy.kafka import Kafka
from streams import transaction
from streams.connection import KafkaConnection
from streams.errors import HandlerError, SessionLostError, StreamError
from streams.handler import History, Record
from streams.processor import Processor, ProcessorConfig
from streams.reader import Reader
from tests.running_sums import (
    SEQUENCE,
    Arguments,
    Output,
    RunningSums,
    Sum,
    SumPartition,
    expected_outputs,
    read_output,
    request,
)

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
PATIENCE_S = 60.0
DAY_MS = 86_400_000


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.02)


@dataclass
class Sums:
    """One test's topics, its input producer and whatever processors it starts."""

    connection: KafkaConnection
    topics: str
    partitions: int
    reader: Reader
    producer: Producer
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def send(self, partition: int, key: bytes, value: bytes | None, at: int = 0) -> None:
        """``at`` (ms) counts only where the topic takes its records' own times."""
        self.producer.produce(f"{self.topics}.input", value, key, partition, timestamp=at)

    def send_many(self, count: int, start: int = 0) -> None:
        """Inputs over all partitions, 7 keys each."""
        for number in range(start, start + count):
            self.send(number % self.partitions, b"key%d" % (number % 7), request(number))
        self.producer.flush()

    def arguments(self, instance: str = "1") -> Arguments:
        connection = self.connection
        return Arguments(
            connection.bootstrap, connection.username, connection.password, instance, self.topics
        )

    def start(self, instance: str = "1", crash_at: str = "") -> subprocess.Popen[bytes]:
        """A processor in a process of its own."""
        with self.log(len(self.processes)).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.running_sums"],
                cwd=ROOT,
                env=os.environ | self.arguments(instance).environment() | {"PARLEY_CRASH_AT": crash_at},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def log(self, number: int) -> Path:
        """What the process of this number, in the order of starting, has said."""
        return self.folder / f"{number}.log"

    def read(self, name: str, partition: int) -> list[Record]:
        return list(self.reader.read_partition(f"{self.topics}.{name}", partition))

    def outputs(self, partition: int) -> list[Output]:
        return [read_output(record) for record in self.read("output", partition)]

    def expected(self, partition: int) -> list[Output]:
        return expected_outputs(self.read("input", partition))

    def count(self) -> int:
        return sum(len(self.outputs(partition)) for partition in range(self.partitions))

    def await_outputs(self, count: int) -> None:
        try:
            wait_for(lambda: self.count() >= count, f"{count} outputs, there are {self.count()}")
        except AssertionError:
            for number in range(len(self.processes)):
                print(self.log(number).read_text()[-4_000:])  # noqa: T201 - pytest shows it with the failure
            raise

    def assert_exactly_once(self) -> None:
        """Everything read_committed in the output is what the input leads to, in order, once."""
        for partition in range(self.partitions):
            assert self.outputs(partition) == self.expected(partition)

    def assert_state_matches(self) -> None:
        """The changelog holds the state that the outputs tell."""
        for partition in range(self.partitions):
            state = {record.key(): record.value() for record in self.read("state", partition)}
            outputs = self.outputs(partition)
            if outputs:
                total = RunningSums("").decode(SEQUENCE, state[SEQUENCE] or b"").total
                assert total == len(outputs)


@contextlib.contextmanager
def fresh_topics(kafka: Kafka, folder: Path) -> Iterator[Sums]:
    """Topics of a test's own, and the end of all it started."""
    topics = f"sums-{uuid.uuid4().hex[:8]}"
    admin = AdminClient(kafka.admin.client())
    new = [
        NewTopic(f"{topics}.input", PARTITIONS, 1, config={"message.timestamp.type": "LogAppendTime"}),
        NewTopic(f"{topics}.output", PARTITIONS, 1),
        NewTopic(f"{topics}.state", PARTITIONS, 1, config={"cleanup.policy": "compact"}),
        NewTopic(f"{topics}.dead", 1, 1),
    ]
    for future in admin.create_topics(new, operation_timeout=30).values():
        future.result()
    test = Sums(
        kafka.admin,
        topics,
        PARTITIONS,
        Reader(kafka.admin),
        Producer(kafka.admin.producer(linger_ms=5)),
        folder,
    )
    try:
        yield test
    finally:
        for process in test.processes:
            process.kill()
            process.wait()


@pytest.fixture
def sums(kafka: Kafka, tmp_path: Path) -> Iterator[Sums]:
    with fresh_topics(kafka, tmp_path) as test:
        yield test


@contextlib.contextmanager
def running(
    sums: Sums, handler: RunningSums | None = None, config: ProcessorConfig | None = None
) -> Iterator[list[BaseException]]:
    """A processor in a thread of this process; gives the list in which its error is left."""
    errors: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            Processor(
                config or sums.arguments().config(),
                sums.connection,
                handler or RunningSums(f"{sums.topics}.output"),
            ).run(ended.is_set)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield errors
    finally:
        ended.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


# Exactly once --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    ["stream.consumed", "stream.produced", "stream.offsets_sent", "stream.committing", "stream.committed"],
)
def test_a_processor_killed_at_any_step_loses_and_doubles_nothing(sums: Sums, place: str) -> None:
    sums.send_many(600)
    # The first batches of 50 commit; of the fifth, only the log can tell how far it came.
    killed = sums.start(crash_at=f"{place}:5")
    assert killed.wait(PATIENCE_S) == -9
    sums.start()
    sums.await_outputs(600)
    sums.assert_exactly_once()
    sums.assert_state_matches()


def test_processors_killed_again_and_again_under_load_lose_and_double_nothing(sums: Sums) -> None:
    lives = {instance: sums.start(instance) for instance in ("1", "2")}
    sent = 0
    for turn in range(6):
        sums.send_many(400, sent)
        sent += 400
        # Not when it has caught up: in the middle of what was just sent.
        sums.await_outputs(sent - 350)
        instance = str(turn % 2 + 1)
        lives[instance].kill()
        lives[instance].wait()
        lives[instance] = sums.start(instance)
    sums.await_outputs(sent)
    sums.assert_exactly_once()
    sums.assert_state_matches()


def test_partitions_move_to_an_instance_that_joins_and_back_when_it_dies(sums: Sums) -> None:
    sums.start("1")
    sums.send_many(200)
    sums.await_outputs(200)
    second = sums.start("2")
    wait_for(lambda: "stream.partition.assigned" in sums.log(1).read_text(), "the second to get partitions")
    sums.send_many(200, 200)
    sums.await_outputs(400)
    second.kill()
    second.wait()
    sums.send_many(200, 400)
    sums.await_outputs(600)
    sums.assert_exactly_once()
    sums.assert_state_matches()


def test_added_partitions_are_picked_up(sums: Sums) -> None:
    sums.start()
    sums.send_many(40)
    sums.await_outputs(40)
    admin = AdminClient(sums.connection.client())
    for name in ("output", "state", "input"):
        for future in admin.create_partitions([NewPartitions(f"{sums.topics}.{name}", 5)]).values():
            future.result()
    sums.partitions = 5
    sums.producer = Producer(sums.connection.producer(linger_ms=5))
    sums.send_many(100, 40)
    sums.await_outputs(140)
    sums.assert_exactly_once()


def test_the_second_process_of_one_name_ends_the_first_and_goes_on_from_there(sums: Sums) -> None:
    first = sums.start("1")
    sums.send_many(200)
    sums.await_outputs(100)
    sums.start("1")
    sums.send_many(200, 200)
    assert first.wait(PATIENCE_S) == 1
    assert "another process has taken over" in sums.log(0).read_text().splitlines()[-1]
    sums.await_outputs(400)
    sums.assert_exactly_once()


def test_a_broker_that_dies_and_comes_back_costs_nothing_but_time(tmp_path: Path) -> None:
    with Kafka(StackFolder(tmp_path / "stack")) as kafka, fresh_topics(kafka, tmp_path) as sums:
        processes = [sums.start("1"), sums.start("2")]
        sums.send_many(400)
        sums.await_outputs(50)
        os.kill(kafka.process.pid, signal.SIGKILL)
        kafka.stop()
        kafka.start()
        sums.send_many(100, 400)
        sums.await_outputs(500)
        sums.assert_exactly_once()
        sums.assert_state_matches()
        assert [process.poll() for process in processes] == [None, None], "both went on by themselves"


def test_a_transaction_that_the_broker_timed_out_is_run_again(
    sums: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = threading.Event()

    def stall(place: str) -> None:
        """Hold the first commit until the broker has given the transaction up, as after a suspended machine."""
        if place == "stream.committing" and not stalled.is_set():
            stalled.set()
            wait_for(lambda: bool(written()), "the transaction to reach the log")
            for partition in written():
                assert sums.outputs(partition) == [], "readers wait for the transaction, and see none of it"

    def written() -> list[int]:
        return [p for p in range(PARTITIONS) if sums.reader.bounds(f"{sums.topics}.output", p)[1]]

    monkeypatch.setattr(transaction, "crash_point", stall)
    sums.send_many(100)
    with running(sums) as errors:
        wait_for(lambda: bool(errors) or sums.count() >= 100, "outputs or an error")
    assert errors == []
    assert stalled.is_set()
    sums.assert_exactly_once()
    sums.assert_state_matches()


def test_a_session_that_is_lost_in_its_first_commit_is_followed_by_another(
    sums: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction on assignment is committed in the very step in which the group was joined."""
    lost = threading.Event()

    def lose(place: str) -> None:
        if place == "stream.committing" and not lost.is_set():
            lost.set()
            raise SessionLostError("the broker forgot us")

    class Recovering(RunningSums):
        def assigned(self, partition: SumPartition, committed: int | None, history: History) -> int | None:
            return committed or 0

    monkeypatch.setattr(transaction, "crash_point", lose)
    sums.send_many(40)
    with running(sums, Recovering(f"{sums.topics}.output")) as errors:
        wait_for(lambda: bool(errors) or sums.count() >= 40, "outputs or an error")
    assert errors == []
    assert lost.is_set()
    sums.assert_exactly_once()


def test_a_rolled_back_transaction_is_run_again_from_memory(sums: Sums) -> None:
    """The output topic is missing at first, which the broker refuses and only an abort can follow."""
    output = f"{sums.topics}.late"
    sums.send_many(100)
    attempts = 0

    class Late(RunningSums):
        def before_commit(self, partitions: Sequence[SumPartition]) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 2:
                admin = AdminClient(sums.connection.client())
                for future in admin.create_topics([NewTopic(output, PARTITIONS, 1)]).values():
                    future.result()

    with running(sums, Late(output)) as errors:
        wait_for(lambda: attempts >= 2, "a second attempt")
        wait_for(lambda: sum(sums.reader.bounds(output, p)[1] > 0 for p in range(PARTITIONS)) == 4, "outputs")
    assert errors == []
    for partition in range(PARTITIONS):
        written = [read_output(record) for record in sums.reader.read_partition(output, partition)]
        expected = sums.expected(partition)
        assert written == expected[: len(written)]
        assert written


# State ---------------------------------------------------------------------------------------------------------------


def test_state_is_restored_before_the_first_record(sums: Sums) -> None:
    sums.send_many(100)
    with running(sums):
        sums.await_outputs(100)
    before = [sums.expected(partition)[-1].total for partition in range(PARTITIONS)]
    restored: dict[int, int] = {}

    class Watching(RunningSums):
        def assigned(self, partition: SumPartition, committed: int | None, history: History) -> int | None:
            restored[partition.index] = len(partition.store)
            return committed

    with running(sums, Watching(f"{sums.topics}.output")):
        wait_for(lambda: len(restored) == PARTITIONS, "all partitions")
        sums.send_many(28, 100)
        sums.await_outputs(128)
    assert set(restored.values()) == {8}, "seven keys and the sequence"
    assert all(before)
    sums.assert_exactly_once()


def test_a_handler_that_trusts_the_log_more_than_its_state_decides_where_to_go_on(sums: Sums) -> None:
    """What it corrects on assignment is committed before the first record is processed."""
    sums.send_many(40)

    class Recovering(RunningSums):
        def assigned(self, partition: SumPartition, committed: int | None, history: History) -> int | None:
            if committed is not None:
                return committed
            third = list(history.read_partition(f"{sums.topics}.input", partition.index))[2]
            partition.store.put(SEQUENCE, Sum(100))
            return (third.offset() or 0) + 1

    with running(sums, Recovering(f"{sums.topics}.output")):
        sums.await_outputs(28)
    for partition in range(PARTITIONS):
        outputs = sums.outputs(partition)
        assert [output.offset for output in outputs] == list(range(3, 10))
        assert [output.sequence for output in outputs] == list(range(100, 107))
        first = sums.read("state", partition)[0]
        assert first.key() == SEQUENCE
        assert first.value() == b"[100, null]"


def test_an_error_on_assignment_ends_the_processor_with_that_error(sums: Sums) -> None:
    class Refusing(RunningSums):
        def assigned(self, partition: SumPartition, committed: int | None, history: History) -> int | None:
            raise HandlerError("the state does not fit the log")

    with running(sums, Refusing(f"{sums.topics}.output")) as errors:
        wait_for(lambda: bool(errors), "the error")
    assert str(errors[0]) == "the state does not fit the log"


def test_what_is_put_off_to_the_end_of_a_commit_is_written_with_it(sums: Sums) -> None:
    class Counting(RunningSums):
        def _add(self, partition: SumPartition, key: bytes, value: bytes, offset: int, at: int) -> None:
            super()._add(partition, key, value, offset, at)
            partition.deferred.append(key)

        def before_commit(self, partitions: Sequence[SumPartition]) -> None:
            whole = sum(len(partition.deferred) for partition in partitions)
            for partition in partitions:
                partition.emit(f"{sums.topics}.dead", None, b"%d" % whole, partition=0)

    sums.send_many(120)
    with running(sums, Counting(f"{sums.topics}.output")):
        sums.await_outputs(120)
    told = [int(record.value() or b"") for record in sums.read("dead", 0)]
    # Each partition of a commit tells the whole commit's count; 50 at most in each.
    assert max(told) <= 50
    assert sum(told) >= 120


# Poison --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"poison", b"not json", b'{"number": 1}'])
def test_a_record_that_cannot_be_processed_goes_to_the_dead_letters_and_the_next_is_processed(
    sums: Sums, value: bytes
) -> None:
    sums.send_many(40)
    sums.send(2, b"bad", value)
    sums.send_many(40, 40)
    with running(sums) as errors:
        sums.await_outputs(80)
    assert errors == []
    (dead,) = sums.read("dead", 0)
    headers = dict(dead.headers() or [])
    assert (dead.key(), dead.value()) == (b"bad", value)
    assert headers["dead-letter.topic"] == f"{sums.topics}.input".encode()
    assert headers["dead-letter.partition"] == b"2"
    assert headers["dead-letter.offset"] == b"10"
    assert headers["dead-letter.service"] == b"sums-1"
    assert headers["dead-letter.reason"]
    assert b"Traceback" in (headers["dead-letter.stack"] or b"")
    for partition in range(PARTITIONS):
        outputs = sums.outputs(partition)
        assert [output.sequence for output in outputs] == list(range(20)), "no trace of it is left"
        assert all(output.key != "bad" for output in outputs)


def test_a_failing_timer_is_not_blamed_on_the_record_that_woke_it(sums: Sums) -> None:
    class Failing(RunningSums):
        def _write(self, *arguments: object, **named: object) -> None:
            if named["closed"]:
                raise ZeroDivisionError

    sums.send(0, b"a", request(1, wait_ms=1))
    sums.producer.flush()
    with running(sums, Failing(f"{sums.topics}.output")) as errors:
        wait_for(lambda: bool(errors), "the timer to fail")
    assert isinstance(errors[0], HandlerError)
    assert "a timer failed" in str(errors[0])
    assert sums.read("dead", 0) == []


def test_an_error_of_the_backbone_is_not_blamed_on_a_record(sums: Sums) -> None:
    class Cut(RunningSums):
        def process(self, partition: SumPartition, records: Sequence[Record]) -> None:
            raise StreamError("the directory cannot be read")

    sums.send_many(4)
    with running(sums, Cut(f"{sums.topics}.output")) as errors:
        wait_for(lambda: bool(errors), "the error")
    assert str(errors[0]) == "the directory cannot be read"
    assert sums.read("dead", 0) == []


# Time ----------------------------------------------------------------------------------------------------------------


def test_a_timer_fires_on_an_idle_partition_soon_after_it_is_due(sums: Sums) -> None:
    with running(sums) as errors:
        for number in range(3):
            sums.send(1, b"a", request(number, wait_ms=300))
            sums.producer.flush()
            sums.await_outputs(2 * number + 2)
    assert errors == []
    sums.assert_exactly_once()
    outputs = sums.outputs(1)
    for opened, closed in zip(outputs[::2], outputs[1::2], strict=True):
        assert closed.closed
        assert 0 < closed.at - (opened.at + 300) < 1_000


def test_what_was_appended_before_the_deadline_counts_however_late_it_is_processed(sums: Sums) -> None:
    """Everything is long past when the processor starts, yet it is judged by the times of the log."""
    sums.send(0, b"a", request(1, wait_ms=500))
    sums.send(0, b"a", request(2, wait_ms=500))
    sums.send(0, b"b", request(4, wait_ms=1))
    sums.producer.flush()

    def is_past() -> bool:
        sums.send(0, b"c", request(0))
        sums.producer.flush()
        records = sums.read("input", 0)
        return records[-1].timestamp()[1] > records[1].timestamp()[1] + 500

    wait_for(is_past, "the deadlines to pass")
    sums.send(0, b"a", request(8))
    sums.producer.flush()
    with running(sums):
        sums.await_outputs(len(sums.expected(0)))
    sums.assert_exactly_once()
    closed = {output.key: output.total for output in sums.outputs(0) if output.closed}
    assert closed == {"a": 3, "b": 4}
    assert sums.outputs(0)[-1].total == 8, "what came after the deadline begins anew"


def test_timers_survive_a_restart(sums: Sums) -> None:
    killed = sums.start(crash_at="stream.committed")
    sums.send(0, b"a", request(5, wait_ms=3_000))
    sums.producer.flush()
    assert killed.wait(PATIENCE_S) == -9
    sums.start()
    sums.await_outputs(2)
    sums.assert_exactly_once()


def test_timers_of_days_and_weeks_are_armed_again_by_a_restart(sums: Sums) -> None:
    """The log is told the time, so that a processor that was away for days finds what has long been due, and what is not yet."""
    topic = ConfigResource(ConfigResource.Type.TOPIC, f"{sums.topics}.input")
    told = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(90 * DAY_MS)}
    for name, value in told.items():
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        topic.add_incremental_config(entry)
    admin = AdminClient(sums.connection.client())  # without a name it would be gone before it has its answer
    for future in admin.incremental_alter_configs([topic]).values():
        future.result()
    days_ago = time.time_ns() // 1_000_000 - 5 * DAY_MS
    weeks_ahead = days_ago + 60 * DAY_MS

    def taken_as_told() -> bool:
        """Whether the broker, which follows its settings a moment later, lets records tell their time."""
        sums.send(0, b"", None, days_ago)
        sums.producer.flush()
        return sums.read("input", 0)[-1].timestamp() == (TIMESTAMP_CREATE_TIME, days_ago)

    wait_for(taken_as_told, "the topic to take records' own time")
    waits = {b"overdue": 3 * DAY_MS, b"soon": 5 * DAY_MS + 2_000, b"in weeks": 59 * DAY_MS}
    for key, wait_ms in waits.items():
        sums.send(0, key, request(1, wait_ms=wait_ms), days_ago)
    sums.producer.flush()
    killed = sums.start(crash_at="stream.committed")
    assert killed.wait(PATIENCE_S) == -9
    sums.start()
    sums.await_outputs(5)
    closed = [output for output in sums.outputs(0) if output.closed]
    assert [output.key for output in closed] == ["overdue", "soon"]
    assert closed[1].at > days_ago + waits[b"soon"]
    sums.send(0, b"then", request(1), weeks_ahead)
    sums.producer.flush()
    sums.await_outputs(7)
    sums.assert_exactly_once()
    assert [output.key for output in sums.outputs(0)][-2:] == ["in weeks", "then"]


def test_ticks_are_few(sums: Sums) -> None:
    sums.send(0, b"a", request(1, wait_ms=200))
    sums.send(1, b"a", request(1))
    sums.producer.flush()
    with running(sums):
        sums.await_outputs(3)
    assert [record.value() for record in sums.read("input", 0)].count(None) <= 2
    assert len(sums.read("input", 1)) == 1, "no timer, no tick"


# Names ---------------------------------------------------------------------------------------------------------------


def test_a_topic_that_is_missing_is_told(sums: Sums) -> None:
    config = replace(sums.arguments().config(), topic=f"{sums.topics}.nowhere")
    with running(sums, config=config) as errors:
        wait_for(lambda: bool(errors), "the error")
    assert "provision the topics first" in str(errors[0])


def test_a_wrong_password_is_told(sums: Sums) -> None:
    wrong = replace(sums.connection, password="wrong")
    with pytest.raises(StreamError, match="check its password"):
        Processor(sums.arguments().config(), wrong, RunningSums("")).run(lambda: False)
