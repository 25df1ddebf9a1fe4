"""The real admission over topics kept in lists: it commits, or dies before, when a test says so."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest

from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.schemas import AdmissionRefusal, DirectoryEntry, Role, decode, encode
from router.admission import Admission, DirectoryPartition
from streams.catalogue import DIRECTORY, REFUSALS
from streams.errors import PoisonError
from streams.handler import Partition
from streams.provisioning import User
from tests.memory_router import Logged, Topics
from tests.synthetic_ledger import START, signing_key

__all__ = ["OURS", "Service", "entry", "signed"]

REGISTRAR = signing_key("registrar")
OURS = EncryptionKey(sha256(b"admission").digest())
"""What passwords are sealed to."""


class Service:
    """Admission over topics in memory; ``enrolled`` are the users made, in calls as the broker would see them."""

    def __init__(self) -> None:
        self.topics = Topics()
        self.enrolled: list[list[User]] = []
        self.handler = Admission(REGISTRAR.public, OURS, self._enrol, frozenset({"admin"}))
        self.partition: DirectoryPartition = Partition(0, self.handler)
        self.restart()
        self.take(signed(entry("registrar", REGISTRAR, "REGISTRAR")))

    def _enrol(self, users: Sequence[User]) -> None:
        assert self.directory.version == len(self.topics.records(DIRECTORY, 0)) + len(self.partition.emitted)
        self.enrolled.append(list(users))

    @property
    def directory(self) -> Directory:
        directory = self.partition.store.get(b"directory")
        assert directory is not None
        return directory

    def restart(self) -> None:
        self.partition = Partition(0, self.handler)
        self.handler.assigned(self.partition, None, self.topics)

    def take(self, *requests: bytes, commit: bool = True) -> None:
        """Process a batch, and commit it unless told to die before."""
        records = [Logged("admissions", 0, offset, None, data, START) for offset, data in enumerate(requests)]
        self.handler.process(self.partition, records)
        self.handler.before_commit([self.partition])
        if not commit:
            self.restart()
            return
        for topic, index, key, value, _ in self.partition.emitted:
            self.topics.append(topic, index, key, value)
        self.partition.commit()

    def hand_in(self, request: bytes) -> None:
        """Process and commit one request as the processor does: a refusal is told, and the next one comes."""
        try:
            self.take(request)
        except PoisonError as error:
            self.partition.rollback()
            for topic, index, key, value, _ in error.told:
                self.topics.append(topic, index, key, value)

    def refusal(self, request: bytes) -> AdmissionRefusal:
        """What is told of a request that is refused."""
        with pytest.raises(PoisonError, match="not admitted: ") as caught:
            self.take(request)
        self.partition.rollback()
        ((topic, _, _, value, _),) = caught.value.told
        assert topic == REFUSALS
        told = decode(value or b"", AdmissionRefusal)
        assert told.request == sha256(request).digest()
        assert told.detail in str(caught.value)
        return told


def entry(name: str, key: SigningKey, role: Role = "BANK", *addresses: str) -> DirectoryEntry:
    publics = (public_key(key.public),)
    return DirectoryEntry(name, name, None, None, "DE", role, publics, (), addresses or (name,))


def signed(of: DirectoryEntry, *keys: SigningKey) -> bytes:
    """The entry in an envelope, encoded; signed by the registrar alone unless others are named."""
    return encode(seal(DIRECTORY_ENTRY_TYPE, of, *(keys or (REGISTRAR,))))
