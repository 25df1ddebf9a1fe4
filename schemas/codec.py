"""Avro single-object encoding of the contracts: strict, pure, and unaware of what the records mean.

Single-object encoding (Avro 1.12, "Single-object encoding"): ``C3 01``, the schema's CRC-64-AVRO fingerprint as 8 bytes
little-endian, then the body as :mod:`parley.schemas.binary` writes it. A released schema file never changes; a new version
of a contract is a new file, and bytes written under an old version are resolved to the newest by Avro's schema resolution.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from io import BytesIO
from typing import Any, NamedTuple, TypeVar, cast, get_type_hints

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from parley.errors import MalformedError, OversizedError, UnknownSchemaError

from . import binary, contracts

__all__ = [
    "CONTRACTS",
    "PREFIX_BYTES",
    "contract_of",
    "decode",
    "decode_any",
    "encode",
    "from_row",
    "is_a",
    "schema_of",
    "source_of",
    "to_row",
]

Contract = TypeVar("Contract", bound=NamedTuple)

MARKER = b"\xc3\x01"
PREFIX_BYTES = 10
"""Bytes before the body: marker and fingerprint."""
DEFAULT_LIMIT = 16 * 1024 * 1024
"""Bytes a record may have unless the caller says otherwise."""

_Record = tuple[Any, ...]
_AvroSchema = dict[str, Any]


class _Version(NamedTuple):
    """One released schema file."""

    contract: type[_Record]
    number: int
    prefix: bytes
    source: _AvroSchema
    schema: _AvroSchema


def _class_for(name: str) -> type[_Record]:
    return cast(type[_Record], getattr(contracts, name))


def _released() -> Iterator[_Version]:
    for file in sorted(files(__package__).iterdir(), key=lambda entry: entry.name):
        if found := re.fullmatch(r"[a-z-]+\.(\d+)\.avsc", file.name):
            source = json.loads(file.read_text(encoding="utf-8"))
            mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(source), "CRC-64-AVRO"))
            schema = cast(_AvroSchema, fastavro.parse_schema(source))
            yield _Version(_class_for(source["name"]), int(found[1]), MARKER + mark, source, schema)


_VERSIONS: dict[bytes, _Version] = {version.prefix: version for version in _released()}
_NEWEST: dict[type[_Record], _Version] = {}
for _version in sorted(_VERSIONS.values(), key=lambda version: version.number):
    _NEWEST[_version.contract] = _version

CONTRACTS: tuple[type[_Record], ...] = tuple(_NEWEST)
"""Every contract that has a schema of its own (records nested in others have none)."""


# fastavro speaks dicts; the functions below turn them into tuples and back, each compiled once from the class's fields.

_Convert = Callable[[Any], Any]


def _nested(hint: Any) -> tuple[str, type[_Record]] | None:
    """How a field holds records ("one", "optional" or "many"), and which; ``None`` where it holds none."""
    if hasattr(hint, "_fields"):
        return "one", hint
    many = getattr(hint, "__origin__", None) is tuple
    for argument in getattr(hint, "__args__", ()):
        if hasattr(argument, "_fields"):
            return ("many" if many else "optional"), argument
    return None


def _for_field(how: str, convert: _Convert) -> _Convert:
    if how == "optional":
        return lambda value: None if value is None else convert(value)
    if how == "many":
        return lambda values: tuple(map(convert, values))
    return convert


def _reader(record: type[_Record]) -> _Convert:
    """A function from fastavro's dict, in whatever order, to the tuple."""
    make = record._make  # type: ignore[attr-defined]
    names = record._fields  # type: ignore[attr-defined]
    steps: list[tuple[int, _Convert]] = []
    for index, hint in enumerate(get_type_hints(record).values()):
        if nested := _nested(hint):
            how, inner = nested
            steps.append((index, _for_field(how, _reader(inner))))
        elif getattr(hint, "__origin__", None) is tuple:
            steps.append((index, tuple))

    def read(row: dict[str, Any]) -> Any:
        values = [row[name] for name in names]
        for index, convert in steps:
            values[index] = convert(values[index])
        return make(values)

    return read


def _writer(record: type[_Record]) -> _Convert:
    """A function from the tuple to the dict that fastavro writes."""
    names = record._fields  # type: ignore[attr-defined]
    steps: list[tuple[str, _Convert]] = []
    for name, hint in get_type_hints(record).items():
        if nested := _nested(hint):
            how, inner = nested
            steps.append((name, _for_field(how, _writer(inner))))

    def write(value: _Record) -> dict[str, Any]:
        row = dict(zip(names, value, strict=True))
        for name, convert in steps:
            row[name] = convert(row[name])
        return row

    return write


_READERS: dict[type[_Record], _Convert] = {contract: _reader(contract) for contract in CONTRACTS}
_WRITERS: dict[type[_Record], _Convert] = {contract: _writer(contract) for contract in CONTRACTS}

COMPILED = f"{__package__}.compiled"
"""The module that a build (`deploy.compiled`) makes of :func:`source_of`; a checkout has none."""


def source_of(wanted: Iterable[type[_Record]]) -> str:
    """The source of a module that reads and writes the newest versions of these contracts, as :mod:`.binary` says."""
    versions = [_NEWEST[contract] for contract in wanted]
    return binary.module_source(
        binary.Released(version.contract.__name__, version.source, version.prefix) for version in versions
    )


def _functions() -> dict[str, Any]:
    """What reads and writes the newest versions, by name: compiled where a build has put it there, made here elsewhere."""
    made = binary.run(source_of(CONTRACTS))
    return made | vars(import_module(COMPILED)) if find_spec(COMPILED) else made


_FUNCTIONS = _functions()
_ENCODERS: dict[type[_Record], binary.Write] = {
    contract: _FUNCTIONS[f"write_{contract.__name__}"] for contract in CONTRACTS
}


def resolving(strict: binary.Read, old: _AvroSchema, newest: _AvroSchema, convert: _Convert) -> binary.Read:
    """What reads bytes of an old version as the newest: strictly as they were written, then by Avro's resolution."""

    def read(data: bytes, at: int) -> tuple[Any, int]:
        _, end = strict(data, at)
        if end > len(data):
            raise IndexError
        return convert(fastavro.schemaless_reader(BytesIO(data[at:end]), old, newest)), end

    return read


def _decoder(version: _Version) -> binary.Read:
    newest = _NEWEST[version.contract]
    if version is newest:
        return cast(binary.Read, _FUNCTIONS[f"read_{version.contract.__name__}"])
    convert = _READERS[version.contract]
    return resolving(binary.reader(version.source), version.schema, newest.schema, convert)


_DECODERS = {prefix: _decoder(version) for prefix, version in _VERSIONS.items()}


def encode(value: NamedTuple) -> bytes:
    """The record's single-object encoding under the newest version of its contract.

    Raises:
        MalformedError: a field is not what the schema says (the message names it), or ``value`` is of no contract.

    """
    contract = type(value)
    write = _ENCODERS.get(contract)
    if write is None:
        raise MalformedError(f"a {contract.__name__} is no contract of its own; encode what holds it")
    try:
        return write(value)
    except (binary.MisfitError, UnicodeEncodeError):
        fault = binary.fault(_NEWEST[contract].source, value)
        raise MalformedError(
            f"{contract.__name__} cannot be encoded: {fault}; mend the field and send again"
        ) from None


def decode(data: bytes, contract: type[Contract], limit: int = DEFAULT_LIMIT) -> Contract:
    """The record of the given contract that ``data`` encodes, whichever released version wrote it.

    Raises:
        OversizedError: ``data`` is longer than ``limit`` bytes.
        UnknownSchemaError: no released schema has the fingerprint, or it is another contract's.
        MalformedError: truncated, trailing bytes, values that are not of the schema, or not their one encoding.

    """
    value = decode_any(data, limit)
    if type(value) is contract:
        return value
    raise UnknownSchemaError(
        f"expected a {contract.__name__} but this is a {type(value).__name__}; send the right record"
    )


def decode_any(data: bytes, limit: int = DEFAULT_LIMIT) -> NamedTuple:
    """The record that ``data`` encodes, of whichever contract its fingerprint names; errors as for :func:`decode`."""
    if len(data) > limit:
        raise OversizedError(
            f"{len(data):,} bytes exceed the limit of {limit:,}; send a large payload by its hash instead"
        )
    mark = data[:PREFIX_BYTES]
    read = _DECODERS.get(mark)
    if read is None:
        raise _unknown(data)
    try:
        value, end = read(data, PREFIX_BYTES)
    except IndexError:
        raise MalformedError(f"the {_name_of(mark)} ends early; send all of its bytes") from None
    except MalformedError as error:
        raise MalformedError(f"not a valid {_name_of(mark)}: {error}; encode it again") from None
    except UnicodeDecodeError as error:
        raise MalformedError(f"not a valid {_name_of(mark)}: text is not UTF-8 ({error.reason})") from None
    if end > len(data):
        raise MalformedError(f"the {_name_of(mark)} ends early; send all of its bytes")
    if end < len(data):
        raise MalformedError(
            f"{len(data) - end} bytes follow the end of the {_name_of(mark)}; send one record only"
        )
    return cast(NamedTuple, value)


def _name_of(mark: bytes) -> str:
    return _VERSIONS[mark].contract.__name__


def _unknown(data: bytes) -> MalformedError | UnknownSchemaError:
    if len(data) < PREFIX_BYTES or data[:2] != MARKER:
        return MalformedError(
            "not an Avro single-object encoding (it does not begin with C3 01 and a fingerprint)"
        )
    mark = data[2:PREFIX_BYTES].hex()
    return UnknownSchemaError(
        f"no released schema has the fingerprint {mark}; use a released schema, or upgrade the reader"
    )


def contract_of(data: bytes) -> type[_Record] | None:
    """Which contract ``data`` says it is, by its first ten bytes alone; ``None`` where no released schema says so."""
    version = _VERSIONS.get(data[:PREFIX_BYTES])
    return None if version is None else version.contract


def is_a(data: bytes, contract: type[_Record]) -> bool:
    """Whether ``data`` says it is a record of this contract."""
    return contract_of(data) is contract


def schema_of(contract: type[_Record]) -> _AvroSchema:
    """The newest Avro schema of a contract, as fastavro parsed it (for Avro container files)."""
    return _NEWEST[contract].schema


def to_row(value: NamedTuple) -> dict[str, Any]:
    """The dict that an Avro container file of this contract takes."""
    return cast(dict[str, Any], _WRITERS[type(value)](value))


def from_row(contract: type[Contract], row: dict[str, Any]) -> Contract:
    """The record that a row of an Avro container file holds."""
    return cast(Contract, _READERS[contract](row))
