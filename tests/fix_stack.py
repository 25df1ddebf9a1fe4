"""Fixtures of real servers, started only when a test asks: one for each module, which finds it empty and may leave what it likes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.anvil import Anvil
from deploy.folder import StackFolder
from deploy.kafka import Kafka
from deploy.postgres import Postgres
from deploy.stack import Stack, StackSettings


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker; ``kafka.admin`` is the super user's connection."""
    with Kafka(StackFolder(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A database server; ``postgres.dsn`` reaches its database."""
    with Postgres(StackFolder(tmp_path_factory.mktemp("postgres"))) as server:
        yield server


@pytest.fixture(scope="module")
def anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    """A chain with one block a second."""
    with Anvil(StackFolder(tmp_path_factory.mktemp("anvil"))) as chain:
        yield chain


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All three as one; ``stack.endpoints`` says where, ``stack.endpoints.admin`` is Kafka's super user."""
    with Stack(
        StackFolder(tmp_path_factory.mktemp("stack")), StackSettings(flush=False, kafka_optimised=False)
    ) as running:
        yield running
