"""The gateway's settings: no secret gets in, and the schema is a plain name."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.database import migrations
from gateway.settings import GatewaySettings


def settings(**given: object) -> GatewaySettings:
    values: dict[str, object] = {
        "kafka_bootstrap": "127.0.0.1:9092",
        "kafka_username": "gateway",
        "kafka_password_file": Path("password"),
        "dsn": "postgresql://parley@127.0.0.1/parley?passfile=/run/secrets/pgpass",
    }
    return GatewaySettings(**values | given)  # type: ignore[arg-type]


def test_a_dsn_that_names_a_password_file_or_a_socket_is_taken() -> None:
    assert settings().db_schema == "parley"
    assert settings(dsn="host=/run/postgresql dbname=parley")


@pytest.mark.parametrize("dsn", ["postgresql://parley:hunter2@127.0.0.1/parley", "password=hunter2 host=db"])
def test_a_dsn_that_holds_a_password_is_refused_without_repeating_it(dsn: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(dsn=dsn)
    (problem,) = refused.value.errors()
    assert "put it into a file of mode 0600" in problem["msg"]
    assert "hunter2" not in problem["msg"]


def test_what_is_no_dsn_is_refused() -> None:
    with pytest.raises(ValidationError, match="not a libpq connection string"):
        settings(dsn="the usual database")


@pytest.mark.parametrize("schema", ["", "Parley", 'a"; drop', "1st"])
def test_a_schema_is_a_plain_name(schema: str) -> None:
    with pytest.raises(ValidationError):
        settings(db_schema=schema)


def test_migrations_are_numbered_from_1_without_gap() -> None:
    assert [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))
