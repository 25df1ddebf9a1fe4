"""The router's settings."""

from pathlib import Path

import pytest

from router.core import Limits
from router.settings import RouterSettings


def test_every_limit_is_the_operators_to_set() -> None:
    names = {
        "record_bytes": "record_bytes",
        "duration_ms": "duration",
        "messages": "messages",
        "remembered_ms": "remembered",
        "block_grace_ms": "block_grace",
        "delivered_bytes": "delivered_bytes",
        "required_readers": "required_readers",
        "free_kinds": "free_kinds",
    }
    assert set(names.values()) == set(Limits._fields)
    chosen: dict[str, object] = {setting: 5_000 + place for place, setting in enumerate(names)}
    chosen["required_readers"] = {"dvp": frozenset({"regulator"})}
    chosen["free_kinds"] = frozenset({"otc-trade"})
    settings = RouterSettings.model_validate(
        {
            "kafka_bootstrap": "127.0.0.1:1",
            "kafka_username": "router",
            "kafka_password_file": Path("password"),
            "registrar_key": "00" * 32,
            "key": "router.seed",
            **chosen,
        }
    )
    assert settings.limits()._asdict() == {names[setting]: value for setting, value in chosen.items()}


def test_required_readers_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PARLEY_ROUTER_REQUIRED_READERS", '{"dvp": ["regulator", "csd"], "otc": ["regulator"]}'
    )
    settings = RouterSettings.model_validate(
        {
            "kafka_bootstrap": "127.0.0.1:1",
            "kafka_username": "router",
            "kafka_password_file": Path("password"),
            "registrar_key": "00" * 32,
            "key": "seed",
        }
    )
    assert settings.limits().required_readers == {
        "dvp": frozenset({"regulator", "csd"}),
        "otc": frozenset({"regulator"}),
    }
