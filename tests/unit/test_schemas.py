"""The wire's contracts: released schemas never change, old bytes still read, and nothing but its one encoding is a record."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, cast, get_type_hints

import fastavro
import pytest

from parley import schemas
from parley.errors import MalformedError, OversizedError, UnknownSchemaError, WireError
from parley.schemas import (
    CONTRACTS,
    Envelope,
    Message,
    Party,
    Receipt,
    Rejection,
    SealedLeaf,
    Signature,
    binary,
    codec,
    contract_of,
    decode,
    decode_any,
    encode,
    from_row,
    is_a,
    schema_of,
    to_row,
)
from tests.wire_samples import (
    SAMPLES,
    SCHEMAS,
    SchemaFile,
    agrees,
    contract_for,
    locked,
    plain,
    sample,
    schema_files,
)

FILES = schema_files()
LISTED = locked()

MESSAGE = sample(schema_of(Message), "message", {})._replace(
    pipeline=0,
    sequence=1,
    recipients=("bank-b", "bank-c"),
    sent_at=123_456,
    action="CONTINUE",
    terms=None,
    content=b"x" * 30,
    encryption=None,
    references=(),
)
ENCODED = encode(MESSAGE)
PREVIOUS = 10 + 16 + 1 + 1
"""Where `previous` begins in `ENCODED`: after prefix, transaction id, pipeline and sequence."""
PIPELINE = PREVIOUS - 2
RECIPIENTS = ENCODED.index(b"\x04\x0cbank-b\x0cbank-c\x00")
ACTION = RECIPIENTS + 16 + 3


def varint(value: int) -> bytes:
    """Avro's long: zig-zag, seven bits a byte, the lowest first."""
    number = (value << 1) ^ (value >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def spliced(at: int, length: int, replacement: bytes) -> bytes:
    return ENCODED[:at] + replacement + ENCODED[at + length :]


def crc_64_avro(data: bytes) -> bytes:
    """The fingerprint as Avro 1.12 writes the algorithm down, little-endian."""
    empty = 0xC15D213AA4D7A795
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ empty & -(byte & 1)  # noqa: PLW2901  the specification's own loop
        table.append(byte)
    value = empty
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value.to_bytes(8, "little")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_released_schema_file_is_listed_and_has_not_changed(file: SchemaFile) -> None:
    assert file.name in LISTED, "run `python -m tests.wire_samples` and commit what it writes"
    entry = {"sha256": file.sha256, "fingerprint": file.fingerprint}
    assert LISTED[file.name] == entry, "restore the file; a change is a new version"


def test_no_released_schema_file_has_disappeared() -> None:
    assert set(LISTED) == {file.name for file in FILES}


def test_every_released_schema_has_its_sample() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {
        f"{name}.{suffix}" for name in LISTED for suffix in ("bin", "json")
    }


@pytest.mark.parametrize("name", sorted(LISTED))
def test_bytes_written_under_a_released_schema_still_read(name: str) -> None:
    data = (SAMPLES / f"{name}.bin").read_bytes()
    expected = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    assert data[:2] == b"\xc3\x01"
    assert data[2:10].hex() == LISTED[name]["fingerprint"]
    assert agrees(decode(data, contract_for(name)), expected)


def test_a_sample_that_reads_differently_is_noticed() -> None:
    expected = plain(MESSAGE)
    assert agrees(MESSAGE, expected)
    assert not agrees(MESSAGE._replace(content=b""), expected)
    assert not agrees(MESSAGE._replace(recipients=("bank-b",)), expected)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_the_fingerprint_is_the_specifications_crc_of_the_canonical_form(contract: type[Any]) -> None:
    value = sample(schema_of(contract), "any", {})
    source = json.loads((SCHEMAS / f"{_newest(contract)}.avsc").read_text())
    canonical = fastavro.schema.to_parsing_canonical_form(source)
    assert encode(value)[:10] == b"\xc3\x01" + crc_64_avro(canonical.encode())


def test_the_specifications_crc_of_a_known_schema_is_the_published_one() -> None:
    assert crc_64_avro(b'"null"') == 0x63DD24E7CC258F8A.to_bytes(8, "little")


def _newest(contract: type[Any]) -> str:
    versions = [file.name for file in FILES if contract_for(file.name) is contract]
    return max(versions, key=lambda name: int(name.rpartition(".")[2]))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_a_class_has_its_schemas_fields_in_order(contract: type[Any]) -> None:
    def check(schema: Any) -> None:
        if isinstance(schema, list):
            for branch in schema:
                check(branch)
        elif isinstance(schema, dict) and schema["type"] == "array":
            check(schema["items"])
        elif isinstance(schema, dict) and schema["type"] == "record":
            class_ = getattr(schemas, schema["name"].rpartition(".")[2])
            assert list(get_type_hints(class_)) == [field["name"] for field in schema["fields"]]
            for field in schema["fields"]:
                check(field["type"])

    check(schema_of(contract))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_no_two_contracts_share_a_fingerprint(contract: type[Any]) -> None:
    data = encode(sample(schema_of(contract), "any", {}))
    assert contract_of(data) is contract
    assert [other for other in CONTRACTS if is_a(data, other)] == [contract]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_the_bytes_are_the_ones_an_avro_library_writes(contract: type[Any], tmp_path: Path) -> None:
    value = sample(schema_of(contract), "any", {})
    path = tmp_path / "body"
    with path.open("wb") as file:
        fastavro.schemaless_writer(file, schema_of(contract), to_row(value))
    assert encode(value)[10:] == path.read_bytes()


def test_every_schema_file_is_found_by_the_codec() -> None:
    packaged = {entry.name for entry in files("parley.schemas").iterdir() if entry.name.endswith(".avsc")}
    assert packaged == {f"{file.name}.avsc" for file in FILES}
    assert {contract_for(file.name) for file in FILES} == set(CONTRACTS)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_every_truncation_is_refused(contract: type[Any]) -> None:
    data = encode(sample(schema_of(contract), "any", {}))
    for length in range(len(data)):
        with pytest.raises(MalformedError):
            decode(data[:length], contract)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_any_trailing_byte_is_refused(contract: type[Any]) -> None:
    data = encode(sample(schema_of(contract), "any", {}))
    for byte in range(256):
        with pytest.raises(MalformedError, match=f"1 bytes follow the end of the {contract.__name__}"):
            decode(data + bytes([byte]), contract)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_another_contracts_bytes_are_refused_naming_both(contract: type[Any]) -> None:
    data = encode(sample(schema_of(contract), "any", {}))
    others: list[type[Any]] = [other for other in CONTRACTS if other is not contract]
    for other in others:
        found = f"expected a {other.__name__} but this is a {contract.__name__};"
        with pytest.raises(UnknownSchemaError, match=found):
            decode(data, other)


def test_an_unknown_fingerprint_is_named() -> None:
    with pytest.raises(UnknownSchemaError, match="no released schema has the fingerprint 0123456789abcdef"):
        decode(b"\xc3\x01" + bytes.fromhex("0123456789abcdef") + ENCODED[10:], Message)


@pytest.mark.parametrize(
    "data", [b"", b"\xc3", b"\xc3\x01", ENCODED[:9], b"\xc3\x02" + ENCODED[2:], b"{}" * 9]
)
def test_what_is_no_single_object_encoding_is_refused(data: bytes) -> None:
    assert contract_of(data) is None
    with pytest.raises(MalformedError, match="not an Avro single-object encoding"):
        decode_any(data)


def test_more_bytes_than_the_limit_are_refused_and_as_many_are_read() -> None:
    assert decode(ENCODED, Message, len(ENCODED)) == MESSAGE
    with pytest.raises(OversizedError, match=f"{len(ENCODED)} bytes exceed the limit of {len(ENCODED) - 1}"):
        decode(ENCODED, Message, len(ENCODED) - 1)


def test_sixteen_mebibytes_is_the_limit_unless_the_caller_says_otherwise() -> None:
    with pytest.raises(OversizedError):
        decode_any(bytes(codec.DEFAULT_LIMIT + 1))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(spliced(PIPELINE, 1, b"\x80\x00"), id="an integer in two bytes that fits in one"),
        pytest.param(
            spliced(PIPELINE, 1, b"\x80" * 8 + b"\x00"), id="an integer in nine bytes that fits in one"
        ),
        pytest.param(spliced(PIPELINE, 1, b"\x80" * 200 + b"\x00"), id="an endless integer"),
        pytest.param(spliced(PIPELINE, 1, b"\xff" * 9 + b"\x7f"), id="an integer of 70 bits"),
        pytest.param(spliced(PIPELINE, 1, varint(2**31)), id="an int just too large"),
        pytest.param(spliced(PIPELINE, 1, varint(-(2**31) - 1)), id="an int just too small"),
        pytest.param(spliced(PIPELINE, 1, varint(2**62)), id="a long in place of an int"),
        pytest.param(spliced(PREVIOUS, 1, varint(-1)), id="the last branch of a union counted from behind"),
        pytest.param(spliced(PREVIOUS, 33, varint(-2)), id="the first branch of a union counted from behind"),
        pytest.param(spliced(PREVIOUS, 1, b"\x82\x00"), id="a branch of a union in two bytes"),
        pytest.param(spliced(PREVIOUS, 1, varint(2)), id="a branch that the union has not"),
        pytest.param(spliced(ACTION, 1, varint(-1)), id="a symbol counted from behind"),
        pytest.param(spliced(ACTION, 1, varint(3)), id="a symbol that the enum has not"),
        pytest.param(
            spliced(RECIPIENTS, 16, b"\x02\x0cbank-b\x02\x0cbank-c\x00"), id="an array in two blocks"
        ),
        pytest.param(
            spliced(RECIPIENTS, 1, varint(-2) + varint(14)), id="an array's block with its length in bytes"
        ),
        pytest.param(spliced(RECIPIENTS + 15, 1, b"\x80\x00"), id="an array's end in two bytes"),
        pytest.param(spliced(RECIPIENTS + 15, 1, b"\x02"), id="an array's end that is none"),
        pytest.param(spliced(RECIPIENTS, 16, b"\x01\x00"), id="an array of fewer than no items"),
        pytest.param(spliced(RECIPIENTS + 1, 7, b"\x02\xff"), id="text that is not UTF-8"),
        pytest.param(spliced(RECIPIENTS + 1, 7, b"\x06\xed\xa0\x80"), id="half a surrogate pair"),
        pytest.param(spliced(RECIPIENTS + 1, 7, b"\x04\xc0\x80"), id="an overlong NUL"),
    ],
)
def test_a_second_encoding_of_the_same_value_or_a_value_out_of_range_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match="not a valid Message: "):
        decode(data, Message)


@pytest.mark.parametrize("byte", range(2, 256))
def test_a_boolean_is_zero_or_one(byte: int) -> None:
    rejection = sample(schema_of(Rejection), "rejection", {})._replace(detail="", head=None, retry_at=None)
    data = encode(rejection)
    assert data[-4:] == b"\x01\x00\x00\x00"
    with pytest.raises(MalformedError):
        decode(data[:-4] + bytes([byte]) + data[-3:], Rejection)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("count", [2**16 + 1, 2**31, 2**60, 2**62, 2**63 - 1, -1, -2, -(2**60), -(2**63)])
@pytest.mark.parametrize("followed_by", [b"", bytes(100_000)])
def test_an_absurd_count_of_items_is_refused_at_once(count: int, followed_by: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(ENCODED[:RECIPIENTS] + varint(count) + followed_by, Message)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("length", [2**16, 2**31, 2**40, 2**62, 2**63 - 1, -1, -2, -(2**31), -(2**63)])
def test_an_absurd_length_is_refused_at_once(length: int) -> None:
    with pytest.raises(MalformedError, match=r"bytes are announced and|a length is negative"):
        decode(spliced(RECIPIENTS + 1, 1, varint(length)), Message)


@pytest.mark.timeout(10)
def test_an_endless_integer_is_refused_at_its_eleventh_byte() -> None:
    for length in (10, 1_000_000):
        with pytest.raises(MalformedError, match="an integer has more than ten bytes"):
            decode(spliced(PIPELINE, 1, b"\x80" * length + b"\x01"), Message)


@pytest.mark.timeout(10)
def test_a_megabyte_of_tiny_items_is_refused_at_once() -> None:
    references = varint(200_000) + bytes(5 * 200_000) + b"\x00"
    with pytest.raises(MalformedError, match="an array is one block of at most 65536 items, not 200000"):
        decode(ENCODED[:-1] + references, Message)


def test_an_array_may_have_as_many_items_as_the_limit_and_no_more() -> None:
    most = MESSAGE._replace(recipients=("",) * binary.MAXIMUM_ITEMS)
    assert decode(encode(most), Message) == most
    with pytest.raises(MalformedError, match="recipients: a tuple is not a tuple of at most 65536 items"):
        encode(MESSAGE._replace(recipients=("",) * (binary.MAXIMUM_ITEMS + 1)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pipeline", 2**31),
        ("pipeline", -(2**31) - 1),
        ("sequence", 2**64),
        ("sent_at", 2**63),
        ("sent_at", -(2**63) - 1),
        ("sent_at", 1.5),
        ("sent_at", True),
        ("sent_at", None),
        ("sent_at", "1"),
        ("previous", bytes(31)),
        ("previous", bytes(33)),
        ("previous", "x" * 32),
        ("transaction_id", bytes(15)),
        ("transaction_id", None),
        ("sender", b"bank-a"),
        ("sender", "\ud800"),
        ("recipients", "bank-b"),
        ("recipients", ["bank-b"]),
        ("recipients", None),
        ("content", "text"),
        ("content", bytearray(1)),
        ("action", "SHOUT"),
        ("action", None),
        ("action", []),
        ("terms", ()),
        ("terms", Party("a", "b")),
        ("references", (None,)),
    ],
    ids=repr,
)
def test_a_value_that_is_not_of_the_schema_is_refused_naming_the_field(field: str, value: object) -> None:
    with pytest.raises(MalformedError, match=f"Message cannot be encoded: {field}: .*; mend the field"):
        encode(MESSAGE._replace(**{field: value}))


def test_a_fault_deep_in_a_record_is_named_by_its_path() -> None:
    terms = sample(schema_of(Message), "message", {}).terms
    broken = MESSAGE._replace(terms=terms._replace(parties=(Party("bank-a", 1),)))  # type: ignore[arg-type]
    with pytest.raises(MalformedError, match=r"terms\.parties\.address: 1 is not text"):
        encode(broken)


def test_the_largest_and_smallest_numbers_come_back() -> None:
    for number in (2**63 - 1, -(2**63), 2**31, 0, -1):
        assert decode(encode(MESSAGE._replace(sent_at=number)), Message).sent_at == number
    for number in (2**31 - 1, -(2**31), 0, -1):
        assert decode(encode(MESSAGE._replace(sequence=number)), Message).sequence == number


def test_a_record_nested_in_others_has_no_encoding_of_its_own() -> None:
    with pytest.raises(MalformedError, match="a Party is no contract of its own; encode what holds it"):
        encode(Party("bank-a", "bank-a"))


def test_a_boolean_that_is_only_true_enough_is_refused() -> None:
    rejection = sample(schema_of(Rejection), "rejection", {})
    with pytest.raises(MalformedError, match="retriable: 1 is not a boolean"):
        encode(rejection._replace(retriable=1))


def test_a_row_of_a_container_file_is_the_record() -> None:
    leaf = SealedLeaf(b"leaf", (b"one", b"two"))
    assert from_row(SealedLeaf, to_row(leaf)) == leaf
    envelope = Envelope("type", b"payload", (Signature(MESSAGE.transaction_id, b"sig"),))
    assert from_row(Envelope, to_row(envelope)) == envelope


class TestANewVersion:
    """What happens when `receipt.2.avsc` appears: version 1 is read strictly, then resolved to the newest."""

    def test_old_bytes_take_the_new_fields_default(self) -> None:
        source = json.loads((SCHEMAS / "receipt.1.avsc").read_text())
        *before, last = source["fields"]
        note = {"name": "note", "type": "string", "default": "none"}
        newer = {**source, "fields": [note, last, *before]}
        old = sample(schema_of(Receipt), "receipt", {})
        read = self.resolving(source, newer)
        row, end = read(encode(old), 10)
        assert row.pop("note") == "none"
        assert from_row(Receipt, row) == old
        assert end == len(encode(old))

    def test_old_bytes_are_read_as_strictly(self) -> None:
        source = json.loads((SCHEMAS / "receipt.1.avsc").read_text())
        read = self.resolving(source, source)
        data = encode(sample(schema_of(Receipt), "receipt", {}))
        for length in range(10, len(data)):
            with pytest.raises((WireError, IndexError)):
                read(data[:length], 10)

    @staticmethod
    def resolving(old: dict[str, Any], new: dict[str, Any]) -> binary.Read:
        return codec.resolving(
            binary.reader(old),
            cast(dict[str, Any], fastavro.parse_schema(old)),
            cast(dict[str, Any], fastavro.parse_schema(new)),
            dict,
        )
