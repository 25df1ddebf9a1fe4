"""Who gets which client quota at Kafka, and how settings change it."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from streams.catalogue import SERVICES, Role
from streams.client_quotas import CLIENT_QUOTAS, DEFAULT_ROLE, UNLIMITED, ClientQuota, Limit
from streams.provisioning import User, limits_of

KIB = 1024


def limits(*roles: Role, quotas: dict[Role, ClientQuota] | None) -> dict[str | None, ClientQuota]:
    users = [User(role.value, role, None) for role in roles]
    return {limit.user: limit.quota for limit in limits_of(users, quotas)}


def test_a_participant_has_the_quota_of_everybody_and_every_other_role_its_own() -> None:
    found = limits(*Role, quotas=dict(CLIENT_QUOTAS))
    assert found.keys() == {role.value for role in Role if role is not DEFAULT_ROLE}
    assert found["regulator"] == CLIENT_QUOTAS[Role.REGULATOR]


def test_our_own_services_have_no_limit_and_everybody_else_has_one() -> None:
    assert CLIENT_QUOTAS.keys() == set(Role) - SERVICES - {Role.LEDGER}
    found = limits(*SERVICES, Role.LEDGER, quotas=dict(CLIENT_QUOTAS))
    assert set(found.values()) == {UNLIMITED}
    for quota in CLIENT_QUOTAS.values():
        assert None not in Limit("user", quota).values().values()


def test_nobody_is_limited_where_no_quotas_are_to_be_set() -> None:
    assert limits(*Role, quotas=None) == {}


def test_a_user_without_limit_is_told_so_since_it_would_have_that_of_everybody() -> None:
    assert set(Limit("router", UNLIMITED).values()) == set(Limit(None, UNLIMITED).values())
    assert all(value == 2**53 for value in Limit("router", UNLIMITED).values().values())
    assert set(Limit(None, UNLIMITED).values().values()) == {None}, "which takes the limit away"


def test_a_role_that_the_settings_name_has_what_they_say() -> None:
    settings = TypeAdapter(dict[Role, ClientQuota])
    found = settings.validate_json('{"participant": {"producer_bytes": 1024}, "regulator": {}}')
    assert found[Role.PARTICIPANT] == ClientQuota(producer_bytes=KIB)
    assert Limit(None, found[Role.PARTICIPANT]).values() == {
        "producer_byte_rate": KIB,
        "consumer_byte_rate": None,
        "request_percentage": None,
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"participant": {"producer_bytes": 0}}',
        '{"bank": {}}',
        '{"participant": {"bytes": 1}}',
        '{"router": 5}',
    ],
)
def test_a_quota_that_makes_no_sense_is_refused_when_a_service_starts(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(dict[Role, ClientQuota]).validate_json(text)
