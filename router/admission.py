"""Admission to the directory: the single writer of its log; what may be admitted is `parley.admission`'s to say.

Reads `admissions` (entries and revocations, signed by whoever has to) and writes `directory`. Its state is the directory
itself, which is read from its own log on start; the transactional producer fences a second writer.

What a participant needs at Kafka is made before its record is written, and making it twice changes nothing: so whoever stands
in the directory has a user, permissions and inboxes, wherever admission was killed. A refusal stands with its reason in the
dead letters, and on `refusals` for whoever waits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

from parley.credentials import open_credentials
from parley.directory import Directory, change_of
from parley.errors import DirectoryError, ParleyError
from parley.keys import EncryptionKey
from parley.private_files import read_private
from parley.schemas import (
    AdmissionRefusal,
    AdmissionRequest,
    DirectoryEntry,
    Envelope,
    Hash,
    decode,
    decode_any,
    encode,
)
from router.enrolment import combined, enrolment
from router.settings import AdmissionSettings
from streams.catalogue import ADMISSIONS, DIRECTORY, REFUSALS
from streams.crashpoint import crash_point
from streams.errors import PoisonError
from streams.handler import Emit, History, Partition, Record
from streams.processor import Processor, ProcessorConfig
from streams.provisioning import Provisioner, User
from streams.runtime import Stop, run_service

__all__ = ["Admission"]

SERVICE = "admission"
_DIRECTORY_KEY = b"directory"

DirectoryPartition = Partition[Directory, User]


class _Request(NamedTuple):
    """What came in."""

    change: Envelope
    credentials: Envelope | None


class Admission:
    """Admits changes one by one, in the order in which they came."""

    def __init__(
        self,
        registrar: bytes,
        key: EncryptionKey,
        enrol: Callable[[Sequence[User]], object],
        super_users: frozenset[str],
    ) -> None:
        """Trust the registrar's public key (32 bytes).

        Args:
            registrar: the key with which the directory begins.
            key: what passwords are sealed to.
            enrol: gives users what they need at Kafka; twice is the same as once.
            super_users: names that no participant may have, besides those of the services.

        """
        self._registrar = registrar
        self._key = key
        self._enrol = enrol
        self._super_users = super_users

    def encode(self, key: bytes, value: Directory) -> bytes:
        """Never called: the directory's log is its changelog."""
        raise NotImplementedError

    def decode(self, key: bytes, data: bytes) -> Directory:
        """Never called: the directory's log is its changelog."""
        raise NotImplementedError

    def timer(self, value: Directory) -> int | None:  # noqa: ARG002
        """Nothing here waits for a time."""
        return None

    def restored(self, partition: DirectoryPartition, value: Directory) -> None:
        """Never called: the directory's log is its changelog."""
        raise NotImplementedError

    def assigned(self, partition: DirectoryPartition, committed: int | None, history: History) -> int | None:
        """Read the directory from its log: whatever was admitted stands there, and nothing else counts."""
        directory = Directory(self._registrar)
        for record in history.read_partition(DIRECTORY, 0):
            directory.apply(_value(record))
        partition.store.put(_DIRECTORY_KEY, directory)
        return committed

    def process(self, partition: DirectoryPartition, records: Sequence[Record]) -> None:
        """Admit each change, or refuse it with the reason."""
        before = partition.store.get(_DIRECTORY_KEY)
        assert before is not None
        directory = before.copy()
        for record in records:
            data = record.value()
            if data is None:
                continue
            at = record.timestamp()[1]
            try:
                admitted, user = self._judge(directory, data, at)
            except ParleyError as error:
                refusal = AdmissionRefusal(Hash(sha256(data).digest()), at, directory.version, str(error))
                raise PoisonError(
                    f"not admitted: {error}", [Emit(REFUSALS, 0, record.key(), encode(refusal))]
                ) from error
            directory.apply(admitted)
            if user is not None:
                partition.deferred.append(user)
            partition.emit(DIRECTORY, directory.version.to_bytes(8, "big"), admitted)
        partition.store.put(_DIRECTORY_KEY, directory)

    def _judge(self, directory: Directory, data: bytes, at: int) -> tuple[bytes, User | None]:
        """The record that a request comes to (encoded), and the user that it needs."""
        request = _read(data)
        record = directory.admit(request.change, at)
        change = change_of(record)
        password = None
        if request.credentials is not None:
            password = open_credentials(request.credentials, request.change, self._key)
        user = None
        if isinstance(change, DirectoryEntry):
            user = enrolment(change, password, self._super_users)
        return encode(record), user

    def before_commit(self, partitions: Sequence[DirectoryPartition]) -> None:
        """Make what the admitted need, before their records can be read."""
        users = combined(user for partition in partitions for user in partition.deferred)
        if users:
            self._enrol(users)
            crash_point("admission.enrolled")

    def after_commit(self, partitions: Sequence[DirectoryPartition]) -> None:
        """Nothing follows a commit."""


def _read(data: bytes) -> _Request:
    """A change by itself, or with what its participant's Kafka user needs."""
    value = decode_any(data)
    if isinstance(value, AdmissionRequest):
        credentials = None if value.credentials is None else decode(value.credentials, Envelope)
        return _Request(decode(value.change, Envelope), credentials)
    return _Request(decode(data, Envelope), None)


def _value(record: Record) -> bytes:
    data = record.value()
    if data is None:
        raise DirectoryError("the directory's log holds an empty record; restore the topic")
    return data


def run(settings: AdmissionSettings, stop: Stop) -> None:
    """Admit until asked to stop."""
    connection = settings.connection()
    provisioner = Provisioner(
        connection,
        replication=settings.replication,
        min_in_sync=settings.min_in_sync,
        quotas=settings.client_quotas,
    )
    admission = Admission(
        bytes.fromhex(settings.registrar_key),
        EncryptionKey(read_private(settings.key_file)),
        provisioner.provision_users,
        frozenset(settings.super_users),
    )
    config = ProcessorConfig(SERVICE, settings.instance, ADMISSIONS, changelog=None)
    Processor(config, connection, admission).run(stop.is_set)


if __name__ == "__main__":
    sys.exit(run_service(SERVICE, AdmissionSettings, run))
