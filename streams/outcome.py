"""What a driver error means for whoever met it: one of our errors, named by what to do next."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, KafkaException

from streams.errors import FencedError, ProvisioningError, SessionLostError, StreamError

_FENCED: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 - librdkafka's local codes are public and start with an underscore
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
        # All that ever is fatal to a consumer is its instance id in use elsewhere; to a producer, it may be.
        KafkaError._FATAL,  # noqa: SLF001
    }
)
_FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001
    }
)
_MISSING: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
_PASSED_BY: Final = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)
_PASSING: Final = frozenset(
    {
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
        KafkaError._NOENT,  # noqa: SLF001 - no leader is known
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)
MEMBERSHIP_LOST: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)


def kafka_error(exception: KafkaException) -> KafkaError:
    """The driver's error inside its exception."""
    error = exception.args[0]
    assert isinstance(error, KafkaError)
    return error


def is_fenced(error: KafkaError) -> bool:
    """Whether the broker (or the driver for it) says that somebody newer has our place."""
    return error.code() in _FENCED


def is_forbidden(error: KafkaError) -> bool:
    """Whether the user lacks a permission, which no retry will give it."""
    return error.code() in _FORBIDDEN


def is_passing(error: KafkaError) -> bool:
    """Whether asking again may help: a broker is away, restarted, or has made the partition only just now.

    The driver's own ``retriable`` leaves out time-outs and broken connections.
    """
    return error.retriable() or error.code() in _PASSING


def stream_error(error: KafkaError, doing: str) -> StreamError:
    """Our error for one that cannot be retried where it was met; ``doing`` completes "while …"."""
    code, text = error.code(), f"{error.str()} ({error.name()}) while {doing}"
    if is_fenced(error):
        return FencedError(
            f"another process has taken over: {text}; see that each instance name is used once"
        )
    if code in _FORBIDDEN:
        return ProvisioningError(f"Kafka refuses this user: {text}; check its password and its permissions")
    if code in _MISSING:
        return ProvisioningError(f"{text}; provision the topics first")
    if code in _PASSED_BY:
        return StreamError(
            f"records were deleted before they were read: {text}; restore them or set the offset by hand"
        )
    return SessionLostError(text)
