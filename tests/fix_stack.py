"""Fixtures of real servers, each started once a session, and only when a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.folder import StackFolder
from deploy.kafka import Kafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker; ``kafka.admin`` is the super user's connection."""
    with Kafka(StackFolder(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker
