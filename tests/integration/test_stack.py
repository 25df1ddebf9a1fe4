"""The embedded stack on real servers: who is let in, what is kept, what is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from deploy.anvil import Anvil
from deploy.errors import AlreadyRunningError, NotRunningError, PortInUseError, StartError
from deploy.folder import CHECKOUT, StackFolder
from deploy.kafka import Kafka
from deploy.postgres import Postgres
from deploy.process import ChildProcess, PidRecord
from deploy.services import Service, Services
from deploy.stack import Endpoints, Stack, StackSettings, end_leftovers
from streams.catalogue import Role
from streams.connection import KafkaConnection
from streams.provisioning import Provisioner, User

PATIENCE_SECONDS = 30


def await_condition(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@dataclass(frozen=True)
class TwoLives:
    """What was seen of a stack that was started, filled, stopped, and started again."""

    command_lines: str
    passwords: list[str]
    left_running: list[int]
    topics: set[str]
    row: tuple[object, ...] | None
    balance: object
    forks: int
    """In which Python went on to run, as it must not in a program with threads."""


@pytest.fixture(scope="module")
def two_lives(started_programs: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> TwoLives:
    folder = StackFolder(tmp_path_factory.mktemp("two-lives"))
    forks: list[None] = []
    os.register_at_fork(before=lambda: forks.append(None))
    settings, account = StackSettings(flush=False, kafka_optimised=False), "0x" + "7" * 40
    with Stack(folder, settings) as stack:
        create_topic(stack.kafka, "kept")
        with psycopg.connect(stack.endpoints.postgres_dsn or "") as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        stack.anvil.fund(account, 123)
        pids = [int(pid_file.read_text().split()[0]) for pid_file in folder.run.glob("*.pid")]
    left_running = [pid for pid in pids if psutil.pid_exists(pid)]
    with Stack(folder, settings) as stack, psycopg.connect(stack.endpoints.postgres_dsn or "") as connection:
        return TwoLives(
            "\n".join(argument for arguments in started_programs for argument in arguments),
            [file.read_text() for file in folder.secrets.glob("*.password")],
            left_running,
            topics(stack.kafka),
            connection.execute("SELECT answer FROM kept").fetchone(),
            stack.anvil.call("eth_getBalance", account, "latest"),
            len(forks),
        )


@pytest.fixture(scope="session")
def started_programs() -> list[list[str]]:
    """Every argument list that this process starts a program with, from the first use on."""
    seen: list[list[str]] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "subprocess.Popen":
            seen.append([os.fsdecode(argument) for argument in arguments[1]])  # type: ignore[attr-defined]

    sys.addaudithook(note)
    return seen


@pytest.fixture
def folder(tmp_path: Path) -> StackFolder:
    made = StackFolder(tmp_path / "stack")
    made.create()
    return made


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of the stack's business."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def create_topic(kafka: Kafka, name: str) -> None:
    admin = AdminClient(kafka.admin.client())
    admin.create_topics([NewTopic(name, 1)])[name].result(PATIENCE_SECONDS)


def topics(kafka: Kafka) -> set[str]:
    return set(AdminClient(kafka.admin.client()).list_topics(timeout=PATIENCE_SECONDS).topics)


def produce(connection: KafkaConnection, topic: str, *, seconds: int = 10) -> KafkaError | None:
    """What the broker answers to one record, or None if it took it."""
    outcome: list[KafkaError | None] = []
    producer = Producer(connection.client() | {"message.timeout.ms": seconds * 1000})
    producer.produce(topic, b"record", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(PATIENCE_SECONDS)
    return outcome[0]


@pytest.fixture(scope="module")
def topic(kafka: Kafka) -> str:
    create_topic(kafka, "who-may-write")
    return "who-may-write"


@pytest.fixture(scope="module")
def stranger(kafka: Kafka) -> KafkaConnection:
    """A user that exists and may do nothing here."""
    Provisioner(kafka.admin).provision_users([User("stranger", Role.PARTICIPANT, "stranger-password")])
    return KafkaConnection(kafka.bootstrap, "stranger", "stranger-password")


class TestKafkaLetsIn:
    def test_the_super_user(self, kafka: Kafka, topic: str) -> None:
        assert produce(kafka.admin, topic) is None

    def test_no_user_without_permission(self, stranger: KafkaConnection, topic: str) -> None:
        error = produce(stranger, topic)
        assert error is not None
        assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED

    def test_no_user_with_another_password(self, kafka: Kafka, stranger: KafkaConnection) -> None:
        failures: list[KafkaError] = []
        impostor = KafkaConnection(kafka.bootstrap, stranger.username, "guessed")
        client = Producer(impostor.client() | {"error_cb": failures.append})
        client.poll(PATIENCE_SECONDS)
        assert KafkaError._AUTHENTICATION in {failure.code() for failure in failures}

    def test_nobody_without_a_user(self, kafka: Kafka) -> None:
        client = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        with pytest.raises(KafkaException):
            client.list_topics(timeout=2)

    def test_no_topic_into_being_by_writing_to_it(self, kafka: Kafka) -> None:
        assert produce(kafka.admin, "nobody-made-this", seconds=1) is not None
        assert "nobody-made-this" not in topics(kafka)


class TestPostgresLetsIn:
    def test_the_user_with_the_password_file(self, postgres: Postgres) -> None:
        with psycopg.connect(postgres.dsn) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("parley",)

    def test_nobody_without_the_password(self, postgres: Postgres) -> None:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"postgresql://parley@127.0.0.1:{postgres.port}/parley?passfile=/dev/null")


class TestSecrets:
    def test_stand_on_no_command_line(self, two_lives: TwoLives) -> None:
        assert "kafka.tools.StorageTool" in two_lives.command_lines
        assert "initdb" in two_lives.command_lines
        assert len(two_lives.passwords) == 3
        assert not [password for password in two_lives.passwords if password in two_lives.command_lines]

    def test_stand_in_no_file_that_others_may_read(self, stack: Stack) -> None:
        folder = stack.folder
        passwords = [file.read_bytes() for file in folder.secrets.glob("*.password")]
        telling = [
            file
            for file in folder.root.rglob("*")
            if file.is_file() and any(password in file.read_bytes() for password in passwords)
        ]
        assert telling
        for private in (folder.secrets, folder.kafka, folder.postgres, folder.logs, folder.run):
            assert private.stat().st_mode & 0o077 == 0
        assert not [file for file in telling if file.stat().st_mode & 0o077]

    def test_are_not_in_the_endpoints(self, stack: Stack) -> None:
        written = (stack.folder.run / "endpoints.json").read_text()
        assert stack.endpoints.admin.password not in written
        assert Endpoints.read(stack.folder) == stack.endpoints


class TestPorts:
    @pytest.mark.parametrize("server", [Kafka, Postgres, Anvil])
    def test_one_in_use_is_told_with_its_holder(
        self, server: type[Kafka | Postgres | Anvil], folder: StackFolder, taken_port: int
    ) -> None:
        with pytest.raises(PortInUseError) as caught:
            server(folder, port=taken_port).start()
        assert f"Port {taken_port}" in str(caught.value)
        assert f"process {os.getpid()}" in str(caught.value)

    def test_stay_the_same_over_a_restart(self, folder: StackFolder) -> None:
        with Anvil(folder) as chain:
            first = chain.port
        with Anvil(folder) as chain:
            assert chain.port == first


class TestRestart:
    def test_keeps_topics_rows_and_blocks(self, two_lives: TwoLives) -> None:
        assert "kept" in two_lives.topics
        assert two_lives.row == (42,)
        assert two_lives.balance == hex(123)

    def test_finds_nothing_left_running_of_the_life_before(self, two_lives: TwoLives) -> None:
        assert two_lives.left_running == []

    def test_runs_no_python_in_a_fork(self, two_lives: TwoLives) -> None:
        assert two_lives.forks == 0

    def test_is_refused_while_the_stack_runs(self, stack: Stack) -> None:
        with pytest.raises(AlreadyRunningError, match="already"):
            Stack(stack.folder, StackSettings()).start()

    def test_finds_what_was_acknowledged_before_a_power_cut(self, folder: StackFolder) -> None:
        settings = StackSettings(flush=True, kafka_optimised=False)
        stack = Stack(folder, settings)
        stack.start()
        create_topic(stack.kafka, "kept")
        with psycopg.connect(stack.endpoints.postgres_dsn or "") as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        for server in (stack.kafka, stack.postgres, stack.anvil):
            assert server is not None
            server.process.kill()
        stack.stop()
        with (
            Stack(folder, settings) as stack,
            psycopg.connect(stack.endpoints.postgres_dsn or "") as connection,
        ):
            assert "kept" in topics(stack.kafka)
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)

    def test_is_not_misled_by_a_pid_that_belongs_to_another_process_now(
        self, folder: StackFolder, sleeper: subprocess.Popen[bytes]
    ) -> None:
        PidRecord(sleeper.pid, 1.0).write(folder.pid_file("anvil"))
        end_leftovers(folder)
        with Anvil(folder) as chain:
            assert chain.healthy()
        assert sleeper.poll() is None

    def test_ends_what_a_killed_stack_left_running(
        self, folder: StackFolder, sleeper: subprocess.Popen[bytes]
    ) -> None:
        record = PidRecord.of(sleeper.pid, None)
        record.write(folder.pid_file("anvil"))
        end_leftovers(folder)
        assert not record.alive()


class TestDeath:
    def test_of_the_parent_is_the_childrens_too(self, folder: StackFolder) -> None:
        program = (
            "import sys, pathlib; from deploy.anvil import Anvil; from deploy.folder import StackFolder;"
            "chain = Anvil(StackFolder(pathlib.Path(sys.argv[1]))); chain.start(); print('up', flush=True); input()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, folder.root],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "up\n"
            record = PidRecord.read(folder.pid_file("anvil"))
            assert record is not None
            assert record.alive()
            parent.kill()
        await_condition(lambda: not record.alive())

    def test_of_a_server_is_told_with_the_end_of_its_log(self, folder: StackFolder) -> None:
        with Stack(folder, StackSettings(postgres=False, flush=False, kafka_optimised=False)) as stack:
            stack.check()
            os.kill(stack.kafka.process.pid, signal.SIGKILL)
            await_condition(lambda: stack.kafka.process.exit_code is not None)
            with pytest.raises(StartError) as caught:
                stack.check()
        assert "kafka ended by SIGKILL" in str(caught.value)
        assert "Kafka Server started" in str(caught.value)

    def test_of_a_process_takes_its_group_with_it(self, folder: StackFolder) -> None:
        program = "import subprocess, sys, time; {}; time.sleep(600)".format(
            "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)"
        )
        log = folder.log_file("parent")
        process = ChildProcess.start(
            "parent", [sys.executable, "-c", program], log=log, pid_file=folder.pid_file("parent")
        )
        await_condition(lambda: log.read_text().endswith("\n"))
        grandchild = int(log.read_text())
        process.stop()
        await_condition(lambda: not psutil.pid_exists(grandchild))


class TestServices:
    def test_are_up_once_each_has_said_so(self, folder: StackFolder, tmp_path: Path) -> None:
        service = Service("talker", "tests.integration.talker", {"SAY": '{"event": "service.ready"}'})
        with Services(folder, [service]) as services:
            services.check()
            pid = services.process("talker").pid
            assert psutil.pid_exists(pid)
        assert not psutil.pid_exists(pid)

    def test_that_end_at_once_are_told_with_the_end_of_their_log(self, folder: StackFolder) -> None:
        talker = Service("talker", "tests.integration.talker", {"SAY": '{"event": "service.ready"}'})
        failing = Service("failing", "tests.integration.no_such_module", {})
        services = Services(folder, [talker, failing])
        with pytest.raises(StartError) as caught:
            services.start()
        assert "failing ended with exit code 1" in str(caught.value)
        assert "No module named tests.integration.no_such_module" in str(caught.value)
        assert not list(folder.run.glob("*.pid"))

    def test_that_never_say_so_are_told_by_name(self, folder: StackFolder) -> None:
        silent = Service("silent", "tests.integration.talker", {"SAY": "something else"})
        with pytest.raises(StartError, match="Not ready in time: silent"):
            Services(folder, [silent]).start(seconds=2)

    def test_do_not_see_our_environment(self, folder: StackFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOMEBODY_ELSES_SECRET", "do not tell")
        service = Service("talker", "tests.integration.talker", {"SAY": '{"event": "service.ready"}'})
        with Services(folder, [service]) as services:
            environment = psutil.Process(services.process("talker").pid).environ()
        assert "SOMEBODY_ELSES_SECRET" not in environment


def test_a_folder_without_a_stack_has_no_endpoints(folder: StackFolder) -> None:
    with pytest.raises(NotRunningError, match="make up"):
        Endpoints.read(folder)
