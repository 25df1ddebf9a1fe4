"""The router's settings."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from router.core import Limits
from router.quotas import Quotas
from router.settings import RouterSettings

NEEDED: dict[str, object] = {
    "kafka_bootstrap": "127.0.0.1:1",
    "kafka_username": "router",
    "kafka_password_file": Path("password"),
    "registrar_key": "00" * 32,
    "key": "router.seed",
}


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
    quotas = {
        "sender_messages_per_second": "messages_per_second",
        "sender_bytes_per_second": "bytes_per_second",
        "sender_allowance_ms": "allowance",
        "sender_open_transactions": "open_transactions",
    }
    assert {*names.values(), "quotas"} == set(Limits._fields)
    assert set(quotas.values()) == set(Quotas._fields)
    chosen: dict[str, object] = {setting: 5_000 + place for place, setting in enumerate(names)}
    chosen["required_readers"] = {"dvp": frozenset({"regulator"})}
    chosen["free_kinds"] = frozenset({"otc-trade"})
    allowed = {setting: 7_000 + place for place, setting in enumerate(quotas)}
    settings = RouterSettings.model_validate({**NEEDED, **chosen, **allowed})
    expected: dict[str, object] = {names[setting]: value for setting, value in chosen.items()}
    expected["quotas"] = Quotas(**{quotas[setting]: value for setting, value in allowed.items()})
    assert settings.limits()._asdict() == expected


def test_unless_told_otherwise_no_rate_is_limited_and_no_kind_is_free() -> None:
    limits = RouterSettings.model_validate(NEEDED).limits()
    assert not limits.quotas.are_rates
    assert limits.quotas.open_transactions == 100_000
    assert limits.free_kinds == frozenset()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sender_messages_per_second", -1),
        ("sender_messages_per_second", 1_000_001),
        ("sender_bytes_per_second", -1),
        ("sender_allowance_ms", 0),
        ("sender_open_transactions", -1),
        ("sender_messages_a_second", 5),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused_at_the_start(name: str, value: int) -> None:
    with pytest.raises(ValidationError, match=name):
        RouterSettings.model_validate({**NEEDED, name: value})


def test_required_readers_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PARLEY_ROUTER_REQUIRED_READERS", '{"dvp": ["regulator", "csd"], "otc": ["regulator"]}'
    )
    settings = RouterSettings.model_validate(NEEDED)
    assert settings.limits().required_readers == {
        "dvp": frozenset({"regulator", "csd"}),
        "otc": frozenset({"regulator"}),
    }
