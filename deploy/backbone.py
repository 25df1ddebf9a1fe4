"""Sets a backbone up on a running broker: topics, users, keys and the directory's first entries; starts no process.

Everything secret lies in the stack's folder under ``secrets/``, and is made once: a second call finds it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.folder import StackFolder
from parley.custody import Signatory, load_signatory
from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, countersign, seal
from parley.errors import KeystoreError
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.private_files import read_private, write_new
from parley.schemas import DirectoryEntry, Envelope, Role, encode
from router.sealing_keys import read_keys, renew
from streams import catalogue
from streams.client_quotas import CLIENT_QUOTAS, ClientQuotas
from streams.connection import KafkaConnection
from streams.provisioning import Provisioner, User
from streams.reader import Follower, Reader
from streams.writer import write

__all__ = ["OPERATOR", "REGISTRAR", "Backbone", "Participant"]

REGISTRAR: Final = "registrar"
OPERATOR: Final = "operator"
ADMISSION: Final = "operator.admission"
"""The entry whose encryption key newcomers seal their Kafka passwords to."""
LEDGER: Final = "ledger"
"""The participant that withholds signed chain transactions until their deal finishes; also its Kafka user."""

_SERVICES: Final = (
    catalogue.Role.ROUTER,
    catalogue.Role.DELIVERY,
    catalogue.Role.ADMISSION,
    catalogue.Role.BLOCKBUILDER,
    catalogue.Role.ANCHOR,
    catalogue.Role.GATEWAY,
    catalogue.Role.REGISTRAR,
    catalogue.Role.OPERATOR,
    catalogue.Role.LEDGER,
)
_ADDRESSES: Final = {catalogue.Role.OPERATOR: (OPERATOR,), catalogue.Role.LEDGER: (LEDGER,)}
"""Where the operator's desk receives what becomes of its own statements, and the ledger service its deals."""
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Participant:
    """A Kafka user to be provisioned, and the entry it has signed (none for one that only reads)."""

    user: str
    password: str
    role: catalogue.Role
    addresses: tuple[str, ...] = ()
    envelope: Envelope | None = None


class Backbone:
    """One operator's backbone: a broker, and the folder of secrets that belongs to it."""

    def __init__(
        self,
        folder: StackFolder,
        admin: KafkaConnection,
        *,
        pipelines: int,
        durable: bool,
        quotas: ClientQuotas = CLIENT_QUOTAS,
    ) -> None:
        """``admin`` is a super user; ``pipelines`` are made where there are fewer; ``durable`` flushes the record's topics to disk before they are acknowledged.

        ``quotas`` are Kafka's, by role: what one user may ask of the broker.
        """
        self.folder = folder
        self.admin = admin
        self.pipelines = pipelines
        self._provisioner = Provisioner(admin, durable=durable, quotas=quotas)

    def provision(self, accounts: Sequence[str] = ()) -> None:
        """Make topics, service users and keys, and submit the registrar's and the operator's directory entries.

        Those that are admitted already are submitted again where they say something else than is so now. ``accounts`` are the
        accounts that anchor (CAIP-10).
        """
        self.pipelines = max(self.pipelines, self._provisioner.pipelines())
        self._provisioner.provision_topics(self.pipelines)
        self._provisioner.provision_default_quota()
        users = [
            User(role.value, role, self.folder.password(role.value), _ADDRESSES.get(role, ()))
            for role in _SERVICES
        ]
        self._provisioner.provision_users(users)
        self._write_profile()
        admitted = self._admitted()
        own = {
            REGISTRAR: (self.registrar_key,),
            OPERATOR: (self.key("router"), self.key("blockbuilder"), self.key(OPERATOR)),
            ADMISSION: (self.key("admission"),),
            LEDGER: (self.key(LEDGER),),
        }
        sealing = public_key(self.admission_key.public)
        entries = [
            _entry(REGISTRAR, "The registrar", "REGISTRAR", *own[REGISTRAR]),
            _entry(OPERATOR, "The operator", "OPERATOR", *own[OPERATOR])._replace(
                accounts=tuple(accounts),
                encryption_keys=tuple(public_key(key.public) for key in self.sealing_keys),
            ),
            _entry(ADMISSION, "The operator", "OPERATOR", *own[ADMISSION])._replace(
                encryption_keys=(sealing,)
            ),
            _entry(LEDGER, "The operator", "OPERATOR", *own[LEDGER])._replace(
                encryption_keys=(public_key(self.ledger_key.public),)
            ),
        ]
        self._submit(
            [
                seal(
                    DIRECTORY_ENTRY_TYPE,
                    entry,
                    *own[entry.participant],
                    *(() if entry.participant == REGISTRAR else own[REGISTRAR]),
                )
                for entry in (_following(entry, admitted) for entry in entries)
                if entry != admitted.entry(entry.participant)
            ]
        )

    @property
    def profile(self) -> Path:
        """The profile of the operator's own desk, for ``parley --profile``: it erases, and puts dead letters back."""
        return self.folder.root / "operator.toml"

    def _write_profile(self) -> None:
        settings = {
            "participant": OPERATOR,
            "bootstrap": self.admin.bootstrap,
            "registrar": self.registrar_key.public.hex(),
            "password_file": str(self.folder.password_file(OPERATOR)),
            "signing_key": self.key_reference(OPERATOR),
        }
        # A string of JSON is one of TOML, too.
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        self.profile.write_text("".join(lines), encoding="utf-8")

    def _admitted(self) -> Directory:
        """The directory as it stands."""
        directory = Directory(self.registrar_key.public)
        for record in Reader(self.admin).read_partition(catalogue.DIRECTORY, 0):
            if (data := record.value()) is not None:
                directory.apply(data)
        return directory

    def key_reference(self, name: str) -> str:
        """Where the operator's signing key of that name is, as a service is told; the first call makes it.

        A PKCS #11 URI, if ``secrets/<name>.pkcs11`` holds one in its first line; otherwise the file of its seed.
        """
        uri = self.folder.secrets / f"{name}.pkcs11"
        if uri.exists():
            return uri.read_text(encoding="utf-8").partition("\n")[0]
        path = self.folder.secrets / f"{name}.seed"
        if not path.exists():
            write_new(path, SigningKey.generate().seed)
        return str(path)

    def key(self, name: str) -> Signatory:
        """The operator's signing key of that name."""
        return load_signatory(self.key_reference(name))

    @property
    def admission_key(self) -> EncryptionKey:
        """The key that newcomers seal their Kafka passwords to; the first call makes it."""
        return self._encryption_key("admission")

    @property
    def ledger_key(self) -> EncryptionKey:
        """The key that parties encrypt their chain transactions to; the first call makes it."""
        return self._encryption_key(LEDGER)

    def _encryption_key(self, name: str) -> EncryptionKey:
        path = self.folder.secrets / f"{name}.x25519"
        if not path.exists():
            write_new(path, EncryptionKey.generate().private)
        return EncryptionKey(read_private(path))

    @property
    def sealing_folder(self) -> Path:
        """Where the router's keys for sealed addresses are, all that it ever had; routers read them when they start."""
        return self.folder.secrets / "sealed-addresses"

    @property
    def sealing_keys(self) -> list[EncryptionKey]:
        """The keys that addresses may be sealed to now, as the operator's entry lists them: the newest two, newest last.

        The first call makes one. A further one counts once it is made (``router.sealing_keys.renew``), the routers have been
        started again, and the entry is provisioned.
        """
        if not (keys := read_keys(self.sealing_folder)):
            keys = [renew(self.sealing_folder)]
        return keys[1::-1]

    @property
    def registrar_key(self) -> Signatory:
        """The key that admits participants: the directory's root of trust."""
        return self.key(REGISTRAR)

    def connection(self, user: str) -> KafkaConnection:
        """The connection of a service user."""
        return KafkaConnection(self.admin.bootstrap, user, self.folder.password(user))

    def countersign(self, envelope: Envelope) -> Envelope:
        """The registrar's signature on an entry whose facts the registrar has checked."""
        return countersign(envelope, self.registrar_key)

    def join(self, participants: Sequence[Participant]) -> None:
        """Give each its Kafka user, permissions and inboxes, and submit its entry, countersigned, for admission."""
        self._provisioner.provision_users(
            [User(each.user, each.role, each.password, each.addresses) for each in participants]
        )
        self._submit([self.countersign(each.envelope) for each in participants if each.envelope is not None])

    def await_admission(self, participants: Iterable[str]) -> Directory:
        """The directory once all of these stand in it.

        Raises:
            KeystoreError: they are not admitted within 30 s; the admission process or its dead letters say why.
        """
        missing = set(participants)
        directory = Directory(self.registrar_key.public)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with Follower(self.connection(OPERATOR), catalogue.DIRECTORY, {0: 0}) as follower:
            while missing:
                for record in follower.poll(timeout_s=0.1):
                    if (data := record.value()) is not None:
                        missing.discard(directory.apply(data).participant)
                if missing and time.monotonic() > deadline:
                    raise KeystoreError(
                        f"not admitted after {_PATIENCE_SECONDS:.0f} s: {', '.join(sorted(missing))}"
                    )
        return directory

    def _submit(self, envelopes: Sequence[Envelope]) -> None:
        if not envelopes:
            return
        write(self.connection(REGISTRAR), catalogue.ADMISSIONS, *map(encode, envelopes))


def _following(entry: DirectoryEntry, admitted: Directory) -> DirectoryEntry:
    """The entry as it has to be to stand in the directory next; the one in force where nothing is new."""
    present = admitted.entry(entry.participant)
    if present is None:
        return entry
    if entry._replace(previous=present.previous) == present:
        return present
    return entry._replace(previous=admitted.version_of(entry.participant))


def _entry(name: str, legal_name: str, role: Role, *keys: Signatory) -> DirectoryEntry:
    return DirectoryEntry(
        name, legal_name, None, None, "ZZ", role, tuple(public_key(key.public) for key in keys), (), (name,)
    )
