"""The codec over any value and any bytes: what was encoded comes back, and nothing else is ever read as a record."""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple

import fastavro
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from parley.errors import MalformedError, UnknownSchemaError, WireError
from parley.schemas import (
    CONTRACTS,
    Envelope,
    Message,
    contract_of,
    decode,
    decode_any,
    encode,
    from_row,
    schema_of,
    to_row,
)
from tests import strategies as of
from tests.wire_samples import sample

contracts = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
thorough = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
"""For each contract, so some two hundred examples in all."""
fuzzing = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
SAMPLES = {contract: encode(sample(schema_of(contract), "any", {})) for contract in CONTRACTS}

ODD_NUMBERS = [
    b"\xff" * 9 + b"\x01",  # -(2**63)
    b"\xfe" + b"\xff" * 8 + b"\x01",  # 2**63 - 1
    b"\x80" * 8 + b"\x80\x01",  # 2**62
    b"\x80" * 8 + b"\x20",  # 2**60
    b"\x80\x80\x80\x80\x10",  # 2**31
    b"\x80\x80\x00",  # 0, longer than it need be
    b"\xff" * 12,
    b"\x01",
    b"\x03",
]


@contracts
@thorough
@given(data=st.data())
def test_what_was_encoded_comes_back(contract: type[Any], data: DataObject) -> None:
    value = data.draw(of.records(contract))
    encoded = encode(value)
    assert decode(encoded, contract) == decode_any(encoded) == value
    assert type(decode_any(encoded)) is contract_of(encoded) is contract
    assert from_row(contract, to_row(value)) == value


@contracts
@thorough
@given(data=st.data())
def test_an_avro_library_writes_the_same_bytes_and_reads_the_same_value(
    contract: type[Any], data: DataObject
) -> None:
    value = data.draw(of.records(contract))
    body = BytesIO()
    fastavro.schemaless_writer(body, schema_of(contract), to_row(value))
    assert encode(value)[10:] == body.getvalue()
    row = fastavro.schemaless_reader(BytesIO(body.getvalue()), schema_of(contract), None)
    assert isinstance(row, dict)
    assert from_row(contract, row) == value


@thorough
@given(of.any_record(), st.data())
def test_a_truncated_record_is_refused(value: NamedTuple, data: DataObject) -> None:
    encoded = encode(value)
    with pytest.raises(MalformedError):
        decode_any(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@thorough
@given(of.any_record(), st.binary(min_size=1, max_size=20))
def test_a_record_with_anything_after_it_is_refused(value: NamedTuple, more: bytes) -> None:
    with pytest.raises(MalformedError, match=f"^{len(more)} bytes follow the end"):
        decode_any(encode(value) + more)


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=100))
def test_an_unknown_fingerprint_is_named_whatever_follows(mark: bytes, body: bytes) -> None:
    data = b"\xc3\x01" + mark + body
    if contract_of(data) is None:
        with pytest.raises(UnknownSchemaError, match=mark.hex()):
            decode_any(data)


def read_or_refused(data: bytes) -> None:
    """The whole promise: bytes are refused, or they are the one encoding of the value they give."""
    try:
        value = decode_any(data)
    except WireError:
        return
    assert encode(value) == data


@fuzzing
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_the_encoding_of_what_they_give(data: bytes) -> None:
    read_or_refused(data)


@contracts
@settings(thorough, max_examples=30)
@given(body=st.binary(max_size=400))
@example(body=b"")
@example(body=bytes(400))
@example(body=b"\xff" * 400)
@example(body=b"\x80" * 400)
@example(body=b"\x02" * 400)
def test_any_body_under_a_known_fingerprint_is_refused_or_the_encoding_of_what_it_gives(
    contract: type[Any], body: bytes
) -> None:
    read_or_refused(SAMPLES[contract][:10] + body)


class Change(NamedTuple):
    """A part of a record's body replaced; places are taken modulo what there is."""

    at: int
    length: int
    new: bytes

    def of(self, data: bytes) -> bytes:
        at = 10 + self.at % (len(data) - 9)
        return data[:at] + self.new + data[at + self.length :]


places = st.integers(0, 0xFFFF)
changes = st.builds(
    Change, places, st.integers(0, 12) | places, st.binary(max_size=8) | st.sampled_from(ODD_NUMBERS)
)


@contracts
@settings(thorough, max_examples=60)
@given(change=changes)
def test_a_changed_record_is_refused_or_the_encoding_of_what_it_gives(
    contract: type[Any], change: Change
) -> None:
    read_or_refused(change.of(SAMPLES[contract]))


@settings(thorough, max_examples=200)
@given(of.any_record(), st.lists(changes, min_size=1, max_size=4))
def test_a_record_changed_in_several_places_is_refused_or_the_encoding_of_what_it_gives(
    value: NamedTuple, several: list[Change]
) -> None:
    data = encode(value)
    for change in several:
        data = change.of(data)
    read_or_refused(data)


@thorough
@given(of.envelopes(), st.data())
def test_no_single_changed_byte_gives_the_same_envelope_or_message(
    envelope: Envelope, data: DataObject
) -> None:
    for encoded in (encode(envelope), envelope.payload):
        value = decode_any(encoded)
        changed = bytearray(encoded)
        changed[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            assert decode_any(bytes(changed)) != value
        except WireError:
            continue


@thorough
@given(of.envelopes())
def test_an_envelope_carries_its_message(envelope: Envelope) -> None:
    again = decode(encode(envelope), Envelope)
    assert encode(decode(again.payload, Message)) == envelope.payload
