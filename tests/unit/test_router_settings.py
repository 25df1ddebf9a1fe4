"""The router's settings."""

from pathlib import Path

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
    }
    assert set(names.values()) == set(Limits._fields)
    chosen = {setting: 5_000 + place for place, setting in enumerate(names)}
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
