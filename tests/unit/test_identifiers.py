"""Names and transaction ids: the alphabet of names, the fields of a UUIDv7, and their order in time."""

from __future__ import annotations

import string
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.errors import MalformedError
from parley.identifiers import (
    is_name,
    is_transaction_id,
    new_transaction_id,
    parse_transaction_id,
    transaction_text,
)
from parley.schemas import TransactionId
from tests.strategies import NOW, names, transaction_ids

RFC_EXAMPLE = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
"""RFC 9562 §A.6: made on 22 February 2022, 14:22:22 UTC-5."""
RFC_EXAMPLE_MS = 0x017F22E279B0


class TestNames:
    @pytest.mark.parametrize(
        "name", ["a", "0", "bank-a", "bank.a", "a-.-b", "0.0", "a" * 128, "a" + "-" * 126 + "a"]
    )
    def test_are_letters_digits_dots_and_hyphens_between_letters_or_digits(self, name: str) -> None:
        assert is_name(name)

    @pytest.mark.parametrize(
        "name",
        [
            *("", "-", ".", "..", "-a", "a-", ".a", "a.", "A", "bank_a", "bank a", "bank/a", "../a"),
            *("bank-a\n", "\nbank-a", "bank-a\x00", "bänk", "\u0661", "\u0131", "a" * 129),
        ],
    )
    def test_are_nothing_else(self, name: str) -> None:
        assert not is_name(name)

    @given(names())
    def test_of_the_vocabulary_are_names(self, name: str) -> None:
        assert is_name(name)

    @given(st.text(max_size=6))
    def test_are_judged_alike_by_a_plain_reading_of_the_rule(self, text: str) -> None:
        ends = string.ascii_lowercase + string.digits
        plain = bool(text) and all(letter in ends + ".-" for letter in text)
        assert is_name(text) == (plain and text[0] in ends and text[-1] in ends)

    @given(names())
    def test_make_a_kafka_topic(self, name: str) -> None:
        topic = f"inbox.{name}"
        assert len(topic) <= 249
        assert set(topic) <= set(string.ascii_letters + string.digits + "._-")


class TestTransactionIds:
    @given(st.integers(0, (1 << 48) - 1))
    def test_carry_the_time_the_version_and_the_variant(self, now: int) -> None:
        value = UUID(bytes=new_transaction_id(now))
        assert value.int >> 80 == now
        assert value.version == 7
        assert value.variant == "specified in RFC 4122"

    def test_are_random_in_74_bits_all_of_which_vary(self) -> None:
        drawn = [int.from_bytes(new_transaction_id(NOW), "big") for _ in range(200)]
        ones = zeros = 0
        for value in drawn:
            ones |= value
            zeros |= ~value & (1 << 128) - 1
        random = ((1 << 12) - 1) << 64 | (1 << 62) - 1
        assert ones & zeros == random
        assert len(set(drawn)) == len(drawn)

    @given(st.lists(st.integers(0, (1 << 48) - 1), min_size=2, max_size=10, unique=True))
    def test_sort_by_their_time(self, moments: list[int]) -> None:
        ids = [new_transaction_id(moment) for moment in moments]
        assert sorted(ids) == [new for _, new in sorted(zip(moments, ids, strict=True))]
        assert sorted(map(transaction_text, ids)) == [transaction_text(value) for value in sorted(ids)]

    def test_of_the_rfcs_example_are_recognised(self) -> None:
        assert is_transaction_id(RFC_EXAMPLE.bytes)
        assert RFC_EXAMPLE.int >> 80 == RFC_EXAMPLE_MS
        assert parse_transaction_id(str(RFC_EXAMPLE)) == RFC_EXAMPLE.bytes

    @given(transaction_ids())
    def test_come_back_from_their_text(self, value: TransactionId) -> None:
        assert is_transaction_id(value)
        assert parse_transaction_id(transaction_text(value)) == value

    @given(st.binary(max_size=20))
    def test_are_sixteen_bytes_of_version_7_and_variant_10(self, value: bytes) -> None:
        expected = len(value) == 16 and f"{value[6]:08b}"[:4] == "0111" and f"{value[8]:08b}"[:2] == "10"
        assert is_transaction_id(value) == expected

    @pytest.mark.parametrize("version", [*range(7), *range(8, 16)])
    def test_of_another_version_are_refused(self, version: int) -> None:
        number = RFC_EXAMPLE.int & ~(0xF << 76) | version << 76
        assert not is_transaction_id(number.to_bytes(16, "big"))
        with pytest.raises(MalformedError, match="it is a UUIDv7 such as"):
            parse_transaction_id(str(UUID(int=number)))

    @pytest.mark.parametrize("variant", [0b00, 0b01, 0b11])
    def test_of_another_variant_are_refused(self, variant: int) -> None:
        number = RFC_EXAMPLE.int & ~(0b11 << 62) | variant << 62
        assert not is_transaction_id(number.to_bytes(16, "big"))

    def test_are_written_in_either_case(self) -> None:
        assert parse_transaction_id(str(RFC_EXAMPLE).upper()) == RFC_EXAMPLE.bytes

    @pytest.mark.parametrize(
        "text",
        [
            *("", "deal", "0" * 31, "01932c07", "é" * 32, f"{RFC_EXAMPLE}0", f" {RFC_EXAMPLE}"),
            *(
                RFC_EXAMPLE.hex,
                RFC_EXAMPLE.urn,
                f"{{{RFC_EXAMPLE}}}",
                str(RFC_EXAMPLE).replace("0", "\u0660"),
            ),
        ],
    )
    def test_that_are_none_are_refused_naming_what_was_written(self, text: str) -> None:
        with pytest.raises(MalformedError) as refusal:
            parse_transaction_id(text)
        assert repr(text) in str(refusal.value)
