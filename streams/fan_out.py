"""Writes to many topics at once: what goes to one broker is one request, however many topics it is for.

librdkafka sends each partition's records in requests of their own (its issue 1700), and a request costs a broker more than what
is in it: with twelve outputs, these were a sixth of all that it was asked. aiokafka puts them together, so it writes here, and
nowhere else: it has neither librdkafka's speed with single records nor its transactions.

Order is kept in each partition. A request that was not answered is sent again, and may have been carried out twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from typing import TYPE_CHECKING, Final, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from confluent_kafka import KafkaError as Meaning

from streams.errors import SessionLostError, StreamError
from streams.outcome import stream_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable

    from aiokafka.producer.message_accumulator import BatchBuilder

    from streams.connection import KafkaConnection
    from streams.handler import Write

T = TypeVar("T")

__all__ = ["FanOut"]

_ACKNOWLEDGED_SECONDS: Final = 10.0
"""In which a broker that is away comes back, or the records are given up."""
_BATCH_BYTES: Final = 1_000_000
"""Of one partition in one request, or one record."""
_PROPAGATION_SECONDS: Final = 2.0
"""How long a new topic may take until every broker knows it."""
_LOOK_AGAIN_SECONDS: Final = 10.0
"""Between looks for a topic that was missing."""
_RETRY_SECONDS: Final = 0.1
_GIVEN_UP_SECONDS: Final = 60.0
"""For a whole write: many times what its parts may take, in case the driver waits for what never comes."""
_CLOSE_SECONDS: Final = 5.0


class FanOut:
    """A producer to be used by one thread; connects with the first write."""

    def __init__(self, connection: KafkaConnection) -> None:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what goes wrong is raised
        self._connection = connection
        self._runner = asyncio.Runner()
        self._producer: AIOKafkaProducer | None = None
        self._look_at: dict[str, float] = {}
        """When to look again for a topic that was missing, on the monotonic clock."""

    def write(self, writes: Iterable[Write]) -> frozenset[str]:
        """Append the records and return once they are acknowledged; gives the topics that do not exist, whose records are not written.

        Raises:
            ProvisioningError: a topic may not be written by this user.
            SessionLostError: some records were not acknowledged, and nothing tells which.
        """
        try:
            return self._runner.run(_within(_GIVEN_UP_SECONDS, self._write(list(writes))))
        except (KafkaError, OSError, TimeoutError) as error:
            raise _stream_error(error) from error

    def close(self) -> None:
        """Drop the connections."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                self._runner.run(_within(_CLOSE_SECONDS, producer.stop()))
        self._runner.close()

    async def _write(self, writes: list[Write]) -> frozenset[str]:
        producer = await self._connected()
        missing = await self._missing(producer, {write[0] for write in writes})
        batches: dict[tuple[str, int], list[BatchBuilder]] = {}
        for topic, partition, key, value, headers in writes:
            if topic in missing:
                continue
            begun = batches.setdefault((topic, partition), [])
            record = {"timestamp": None, "key": key, "value": value, "headers": headers or []}
            if not begun or begun[-1].append(**record) is None:
                begun.append(producer.create_batch())
                begun[-1].append(**record)
        outcomes = await asyncio.gather(
            *(_append(producer, *place, begun) for place, begun in batches.items()), return_exceptions=True
        )
        for (topic, _), outcome in zip(batches, outcomes, strict=True):
            if isinstance(outcome, UnknownTopicOrPartitionError):
                missing.add(topic)
            elif outcome is not None:
                raise outcome
        return frozenset(missing)

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(**_settings(self._connection))
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _missing(self, producer: AIOKafkaProducer, topics: Collection[str]) -> set[str]:
        """Which of the topics do not exist; one that was never missing before is given the time to become known."""
        cluster = producer.client.cluster

        def gone(among: Iterable[str]) -> set[str]:
            return {topic for topic in among if cluster.partitions_for_topic(topic) is None}

        begin = time.monotonic()
        due = {topic for topic in gone(topics) if self._look_at.get(topic, begin) <= begin}
        if due:
            for topic in due:
                producer.client.add_topic(topic)
            new = due - self._look_at.keys()
            await _look(producer)
            while gone(new) and time.monotonic() < begin + _PROPAGATION_SECONDS:
                await asyncio.sleep(_RETRY_SECONDS)
                await _look(producer)
            again = time.monotonic() + _LOOK_AGAIN_SECONDS
            self._look_at.update(dict.fromkeys(gone(due), again))
        return gone(topics)


async def _within(seconds: float, doing: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await doing


async def _append(
    producer: AIOKafkaProducer, topic: str, partition: int, batches: Iterable[BatchBuilder]
) -> None:
    """Append a partition's batches one after the other."""
    if partition not in await producer.partitions_for(topic):
        raise UnknownTopicOrPartitionError(topic)
    for batch in batches:
        await (await producer.send_batch(batch, topic, partition=partition))


async def _look(producer: AIOKafkaProducer) -> None:
    """Ask which topics there are."""
    if not await producer.client.force_metadata_update():
        raise SessionLostError("no broker tells which topics there are")
    if forbidden := producer.client.cluster.unauthorized_topics:
        raise TopicAuthorizationFailedError(*sorted(forbidden))


def _settings(connection: KafkaConnection) -> dict[str, object]:
    is_encrypted = connection.security == "SASL_SSL"
    return {
        "bootstrap_servers": connection.bootstrap,
        "security_protocol": connection.security,
        "ssl_context": ssl.create_default_context(cafile=connection.ca_file) if is_encrypted else None,
        "sasl_mechanism": connection.mechanism,
        "sasl_plain_username": connection.username,
        "sasl_plain_password": connection.password,
        "acks": "all",
        "max_batch_size": _BATCH_BYTES,
        # Of what both drivers know, the one that costs this one least: 3 µs for the records of a message, lz4 11.
        "compression_type": "zstd",
        "request_timeout_ms": int(_ACKNOWLEDGED_SECONDS * 1_000),
        "retry_backoff_ms": int(_RETRY_SECONDS * 1_000),
        "metadata_max_age_ms": 10_000,
    }


def _stream_error(error: Exception) -> StreamError:
    if isinstance(error, BrokerResponseError):
        # The codes are the protocol's, so that they mean the same by either driver.
        return stream_error(Meaning(error.errno), "writing")
    return SessionLostError(f"{type(error).__name__} while writing: {str(error) or 'no answer in time'}")
