"""Makes the cluster as the catalogue says: topics, users, permissions and quotas; running it again changes nothing.

Knows no participant's keys and decides nobody's admission: the caller names users, passwords and addresses.

Every user owns the consumer groups and transactional ids that start with ``<user>/``; the slash cannot stand in a
user's name, so no user's prefix covers another's. Changes go to the broker many at a time: a thousand participants are
a handful of calls.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from streams.catalogue import INBOX_PREFIX, SERVICES, TOPICS, TRANSACTIONAL, Role, inbox
from streams.client_quotas import DEFAULT_ROLE, UNLIMITED, Limit, set_quotas
from streams.errors import ProvisioningError
from streams.outcome import kafka_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from streams.catalogue import Topic
    from streams.client_quotas import ClientQuotas
    from streams.connection import KafkaConnection

T = TypeVar("T")

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?")
_SECONDS: Final = 60.0
_AT_ONCE: Final = 500
_SCRAM_ITERATIONS: Final = 4096
_EVERYTHING: Final = AclBindingFilter(
    ResourceType.ANY,
    None,  # type: ignore[arg-type]
    ResourcePatternType.ANY,
    None,  # type: ignore[arg-type]
    None,  # type: ignore[arg-type]
    AclOperation.ANY,
    AclPermissionType.ANY,
)


@dataclass(frozen=True, slots=True)
class User:
    """A Kafka user to be: its role, and for a participant the addresses whose inboxes it alone reads.

    Without a password, the one it has stays, and one that has none cannot come in.
    """

    name: str
    role: Role
    password: str | None = field(repr=False)
    addresses: tuple[str, ...] = ()


class Provisioner:
    """Brings a cluster to what the catalogue says.

    The connection's user must be a super user; that of admission may provision participants, and nothing else.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        replication: int = 1,
        min_in_sync: int = 1,
        durable: bool = True,
        quotas: ClientQuotas | None = None,
    ) -> None:
        """``durable`` makes a single broker (``replication`` 1) flush the flushed topics before it acknowledges.

        ``quotas`` are set by role for the users that are provisioned; without them none is set, and those there are stay.
        """
        self._admin = AdminClient(connection.client())
        self._connection = connection
        self._quotas = quotas
        self._mechanism = connection.mechanism
        self._replication = replication
        self._settings = {"min.insync.replicas": str(min_in_sync)}
        self._durable = durable and replication == 1

    def pipelines(self) -> int:
        """How many there are, begun ones included; 0 before the first."""
        counts = self._partition_counts()
        return max(counts.get(topic.name, 0) for topic in TOPICS if topic.per_pipeline)

    def provision_topics(self, pipelines: int) -> None:
        """Make or correct every topic of the catalogue. More pipelines than before are added; fewer are refused."""
        self._ensure(TOPICS, pipelines)

    def provision_default_quota(self) -> None:
        """Limit every user who has no client quota of its own, but not the super user that we are."""
        if self._quotas is not None:
            everybody = Limit(None, self._quotas.get(DEFAULT_ROLE, UNLIMITED))
            set_quotas(self._connection, [everybody, Limit(self._connection.username, UNLIMITED)])

    def provision_users(self, users: Sequence[User]) -> None:
        """Make these users with their passwords, permissions, quotas and inboxes, or correct those that exist.

        Permissions that a user has beyond its role are left alone; remove the user to take them away. So is a client quota that
        somebody gave to a participant: by its role it has that of everybody.
        """
        for user in users:
            _check(user)
        self._ensure([inbox(address) for user in users for address in user.addresses], 1)
        self._upsert_credentials(users)
        self._allow([binding for user in users for binding in permissions(user)])
        if limits := list(limits_of(users, self._quotas)):
            set_quotas(self._connection, limits)

    # Topics ------------------------------------------------------------------------------------------------------------

    def _ensure(self, topics: Sequence[Topic], pipelines: int) -> None:
        existing = self._partition_counts()
        for topic in topics:
            have, want = existing.get(topic.name, 0), topic.partitions(pipelines)
            if have > want:
                raise ProvisioningError(
                    f"topic {topic.name} has {have} partitions and {want} are asked for; pipelines cannot be removed,"
                    f" so ask for {have} or more"
                )
        missing = [topic for topic in topics if topic.name not in existing]
        for some in _chunks(missing):
            new = [
                NewTopic(
                    topic.name,
                    num_partitions=topic.partitions(pipelines),
                    replication_factor=self._replication,
                    config=self._config(topic),
                )
                for topic in some
            ]
            _finish(
                self._admin.create_topics(new, operation_timeout=_SECONDS, request_timeout=_SECONDS),
                "creating topic",
                accepted=KafkaError.TOPIC_ALREADY_EXISTS,
            )
        for some in _chunks([topic for topic in topics if topic.name in existing]):
            resources = [
                ConfigResource(
                    ResourceType.TOPIC,
                    topic.name,
                    incremental_configs=[
                        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                        for name, value in self._config(topic).items()
                    ],
                )
                for topic in some
            ]
            _finish(self._admin.incremental_alter_configs(resources), "configuring")
        # One by one and in order: ingest grows last, when the topics its records lead to have grown.
        for topic in topics:
            want = topic.partitions(pipelines)
            if existing.get(topic.name, want) < want:
                _finish(
                    self._admin.create_partitions([NewPartitions(topic.name, want)]),
                    "adding pipelines to topic",
                )
        self._await_topics({topic.name: topic.partitions(pipelines) for topic in topics})

    def _config(self, topic: Topic) -> dict[str, str]:
        return topic.config(durable=self._durable) | self._settings

    def _partition_counts(self) -> dict[str, int]:
        try:
            topics = self._admin.list_topics(timeout=_SECONDS).topics
        except KafkaException as exception:
            raise ProvisioningError(f"Kafka cannot be reached: {kafka_error(exception).str()}") from exception
        return {name: len(metadata.partitions) for name, metadata in topics.items()}

    def _await_topics(self, wanted: Mapping[str, int]) -> None:
        def visible() -> bool:
            counts = self._partition_counts()
            return all(counts.get(name, 0) >= count for name, count in wanted.items())

        _await(visible, "the topics to appear")

    # Users -------------------------------------------------------------------------------------------------------------

    def _upsert_credentials(self, users: Sequence[User]) -> None:
        mechanism = (
            ScramMechanism.SCRAM_SHA_512 if self._mechanism.endswith("512") else ScramMechanism.SCRAM_SHA_256
        )
        info = ScramCredentialInfo(mechanism, _SCRAM_ITERATIONS)
        passwords = [(user.name, user.password) for user in users if user.password is not None]
        for some in _chunks(passwords):
            _finish(
                self._admin.alter_user_scram_credentials(
                    [UserScramCredentialUpsertion(name, info, password.encode()) for name, password in some],
                    request_timeout=_SECONDS,
                ),
                "setting the password of",
            )
        names = {name for name, _ in passwords}
        if names:
            _await(lambda: names <= self._known_users(), "the users to appear")

    def _known_users(self) -> set[str]:
        everyone = cast("Future[dict[str, object]]", self._admin.describe_user_scram_credentials())
        return set(everyone.result(_SECONDS))

    def _allow(self, bindings: Sequence[AclBinding]) -> None:
        present = self._bindings()
        missing = [binding for binding in dict.fromkeys(bindings) if binding not in present]
        for some in _chunks(missing):
            _finish(self._admin.create_acls(some, request_timeout=_SECONDS), "allowing")
        _await(lambda: self._bindings().issuperset(missing), "the permissions to take effect")

    def _bindings(self) -> set[AclBinding]:
        return set(self._admin.describe_acls(_EVERYTHING).result(_SECONDS))


def limits_of(users: Iterable[User], quotas: ClientQuotas | None) -> Iterator[Limit]:
    """The client quotas that these users need by their roles, besides that of everybody."""
    if quotas is None:
        return
    for user in users:
        if user.role is not DEFAULT_ROLE:
            yield Limit(user.name, quotas.get(user.role, UNLIMITED))


def permissions(user: User) -> Iterator[AclBinding]:
    """Everything a user may do, as Kafka's access rules; nothing else is allowed to anyone but a super user.

    Reading and writing imply seeing the topic's metadata; writing implies idempotent writing.
    """
    for topic in TOPICS:
        if user.role in topic.read_by:
            yield _rule(user, ResourceType.TOPIC, topic.name, AclOperation.READ)
        if user.role in topic.written_by:
            yield _rule(user, ResourceType.TOPIC, topic.name, AclOperation.WRITE)
    for address in user.addresses:
        yield _rule(user, ResourceType.TOPIC, inbox(address).name, AclOperation.READ)
    if user.role in inbox("any").written_by:
        yield _rule(user, ResourceType.TOPIC, INBOX_PREFIX, AclOperation.WRITE, prefix=True)
    if user.role in inbox("any").read_by:
        yield _rule(user, ResourceType.TOPIC, INBOX_PREFIX, AclOperation.READ, prefix=True)
    if user.role is Role.ADMISSION:
        yield from _enrolling(user)
    yield _rule(user, ResourceType.GROUP, f"{user.name}/", AclOperation.READ, prefix=True)
    if user.role in TRANSACTIONAL:
        for operation in (AclOperation.WRITE, AclOperation.DESCRIBE):
            yield _rule(user, ResourceType.TRANSACTIONAL_ID, f"{user.name}/", operation, prefix=True)


def _enrolling(user: User) -> Iterator[AclBinding]:
    """What it takes to make participants' users, permissions, quotas and inboxes.

    Kafka knows one right for all passwords and permissions (ALTER on the cluster), so whoever has it could give itself any
    other, such as the one for quotas; topics are limited to the inboxes.
    """
    for operation in (AclOperation.ALTER, AclOperation.DESCRIBE, AclOperation.ALTER_CONFIGS):
        yield _rule(user, ResourceType.BROKER, "kafka-cluster", operation)
    for operation in (AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.ALTER_CONFIGS):
        yield _rule(user, ResourceType.TOPIC, INBOX_PREFIX, operation, prefix=True)


def _rule(
    user: User, kind: ResourceType, name: str, operation: AclOperation, *, prefix: bool = False
) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    return AclBinding(kind, name, pattern, f"User:{user.name}", "*", operation, AclPermissionType.ALLOW)


def _check(user: User) -> None:
    for name in (user.name, *user.addresses):
        if not _NAME.fullmatch(name):
            raise ProvisioningError(
                f"{name!r} is no user or address; use 1 to 128 of a-z, 0-9, dot and hyphen, beginning and ending with"
                " a letter or digit"
            )
    if user.addresses and user.role in SERVICES:
        raise ProvisioningError(f"user {user.name} is a {user.role} service; only participants have inboxes")


def _chunks(items: Sequence[T]) -> Iterable[list[T]]:
    # The controller takes at most 10,000 records a call; a topic with its settings is about ten.
    return (list(items[start : start + _AT_ONCE]) for start in range(0, len(items), _AT_ONCE))


def _finish(futures: Mapping[T, Future[None]], doing: str, accepted: int | None = None) -> None:
    for subject, future in futures.items():
        try:
            future.result(_SECONDS)
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() != accepted:
                raise ProvisioningError(f"{error.str()} while {doing} {subject}") from exception


def _await(condition: Callable[[], bool], what: str) -> None:
    """The controller has agreed; wait until the broker that serves us has heard of it."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ProvisioningError(f"waited {_SECONDS:.0f} s for {what}; see the broker's log")
        time.sleep(0.05)
