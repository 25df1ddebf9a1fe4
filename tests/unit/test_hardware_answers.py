"""What a token says of itself, without one: public points, and tries that are left."""

from __future__ import annotations

import pytest
from pkcs11 import TokenFlag

from parley.errors import NoTokenKeyError, PinError
from parley.hardware import public_point, require_tries

POINT = bytes(range(32))
SOUND = TokenFlag.TOKEN_INITIALIZED | TokenFlag.LOGIN_REQUIRED | TokenFlag.USER_PIN_INITIALIZED


@pytest.mark.parametrize("encoded", [b"\x04\x20" + POINT, POINT])
def test_a_public_point_is_an_octet_string_or_bare(encoded: bytes) -> None:
    assert public_point(encoded) == POINT


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        POINT[:-1],
        POINT + b"\0",
        b"\x04\x1f" + POINT,
        b"\x03\x21\x00" + POINT,
        b"\x04\x21\x04" + POINT,
        b"\x04\x81\x20" + POINT,
    ],
)
def test_any_other_point_is_refused(encoded: bytes) -> None:
    with pytest.raises(NoTokenKeyError, match="not an Ed25519 point"):
        public_point(encoded)


def test_a_bare_point_that_looks_like_a_header_is_still_a_point() -> None:
    point = b"\x04\x20" + POINT[:-2]
    assert public_point(point) == point


@pytest.mark.parametrize("flags", [SOUND, SOUND | TokenFlag.USER_PIN_COUNT_LOW])
def test_a_token_with_tries_left_is_logged_in_to(flags: TokenFlag) -> None:
    require_tries(flags)


def test_the_last_try_is_not_used_up() -> None:
    with pytest.raises(PinError, match="one try is left before the token locks"):
        require_tries(SOUND | TokenFlag.USER_PIN_COUNT_LOW | TokenFlag.USER_PIN_FINAL_TRY)


def test_a_locked_token_is_left_alone() -> None:
    with pytest.raises(PinError, match="is locked"):
        require_tries(SOUND | TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_FINAL_TRY)
