"""Avro's binary encoding, narrowed so that a value has exactly one encoding; which schema a body has is the codec's affair.

Follows Avro 1.12, "Binary encoding", and reads only what it would write itself: integers in their fewest bytes and within
the range of ``int`` or ``long``, an array as one block without a byte count, indices of unions and enums from 0. Every Avro
library reads it; no two byte strings mean the same record, so nobody can change a record's hash and keep its meaning. What
reading costs is bounded by the bytes given and by :data:`MAXIMUM_ITEMS`.

The router reads two records and writes three for each message, so each schema becomes straight Python, a field after the
other without a call between. It is the source of one module: the codec runs it where it is made, and `deploy.compiled` lets
mypyc make machine code of it. For that, every name in a function is of one type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple, cast

from parley.errors import MalformedError

from . import contracts

__all__ = [
    "MAXIMUM_ITEMS",
    "MisfitError",
    "Read",
    "Released",
    "Write",
    "fault",
    "module_source",
    "reader",
    "run",
]

MAXIMUM_ITEMS = 65_536
"""Items an array may have: few bytes must not make much work."""

Read = Callable[[bytes, int], tuple[Any, int]]
"""From bytes and a place in them to the value there and the place after it. Where the bytes end early it raises
``IndexError`` or gives a place beyond their end; text that is not UTF-8 raises ``UnicodeDecodeError``.
"""
Write = Callable[[Any], bytes]
"""From a value to its encoding. Where a field does not fit it raises :class:`MisfitError` or ``UnicodeEncodeError``, and
:func:`fault` knows which.
"""

_RANGES = {"int": (-(1 << 31), (1 << 31) - 1), "long": (-(1 << 63), (1 << 63) - 1)}
_LONGEST = 63

_IMPORTS = """\
from __future__ import annotations

from typing import Any

from parley.errors import MalformedError
from parley.schemas import contracts
from parley.schemas.binary import MisfitError, encoded, encoded_text, item_count, length, long_number

new: Any = tuple.__new__
"""


class MisfitError(Exception):
    """A value is not of its schema; nothing says where."""


class Released(NamedTuple):
    """A contract that a module is made for."""

    name: str
    """Its class in `parley.schemas.contracts`."""
    schema: Any
    """As JSON says it; a record."""
    prefix: bytes
    """What is written before the body."""


def module_source(released: Iterable[Released]) -> str:
    """The source of a module with ``read_<name>``, a :data:`Read`, and ``write_<name>``, a :data:`Write`, of each contract."""
    source = _Source()
    for name, schema, prefix in released:
        source.reader(f"read_{name}", schema)
        source.writer(f"write_{name}", schema, prefix)
    return source.text()


def reader(schema: Any) -> Read:
    """What reads a body of the schema, whose records become plain tuples: no class has the fields of an old version."""
    source = _Source(plain=True)
    source.reader("read", schema)
    return cast(Read, run(source.text())["read"])


def run(source: str) -> dict[str, Any]:
    """The names of a module of this source."""
    names: dict[str, Any] = {"__name__": f"{__name__}.made"}
    exec(source, names)  # noqa: S102  the source is ours and made from our schemas alone
    return names


class _Source:
    """The source of one module: functions, and the constants that they use."""

    def __init__(self, *, plain: bool = False) -> None:
        self._plain = plain
        self._named: dict[str, Any] = {}
        self._constants: list[str] = []
        self._lines: list[str] = []
        self._numbers = count()
        self._declared: set[str] = set()

    def text(self) -> str:
        return "\n".join([_IMPORTS, *self._constants, *self._lines, ""])

    def _line(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def _name(self, hint: str) -> str:
        return f"{hint}_{next(self._numbers)}"

    def _anything(self, name: str) -> str:
        """A variable to be assigned to that holds things of more than one type; it is said once."""
        said = name in self._declared
        self._declared.add(name)
        return name if said else f"{name}: Any"

    def _constant(self, hint: str, kind: str, value: str) -> str:
        """The name of a constant of the module."""
        name = self._name(hint)
        self._constants.append(f"{name}: {kind} = {value}")
        return name

    def _resolve(self, schema: Any) -> tuple[str, Any]:
        """A schema's kind, and the schema that defines it where it has a name."""
        if isinstance(schema, list):
            absent, present = schema
            assert absent == "null", "the contracts' unions are of null and one other"
            return "optional", present
        if isinstance(schema, str):
            return (
                (self._named[schema]["type"], self._named[schema])
                if schema in self._named
                else (schema, schema)
            )
        if "name" in schema:
            self._named[schema["name"]] = schema
        return schema["type"], schema

    # Reading: leave the value in `target` and the place after it in `at`.

    def reader(self, name: str, schema: Any) -> None:
        self._named = {}
        value = self._name("value")
        self._line(0, f"def {name}(data: bytes, at: int) -> tuple[Any, int]:")
        self._line(1, "size: int")
        self._read(schema, value, 1)
        self._line(1, f"return {value}, at")

    def _read(self, schema: Any, target: str, depth: int) -> None:
        kind, schema = self._resolve(schema)
        getattr(self, f"_read_{kind}")(schema, target, depth)

    def _read_number(self, kind: str, target: str, depth: int) -> None:
        lowest, highest = _RANGES[kind]
        self._line(depth, f"{target} = data[at]")
        self._line(depth, f"if {target} < 128:")
        self._line(depth + 1, f"{target} = ({target} >> 1) ^ -({target} & 1)")
        self._line(depth + 1, "at += 1")
        self._line(depth, "else:")
        self._line(depth + 1, f"{target}, at = long_number(data, at, {lowest}, {highest})")

    _read_int = _read_long = _read_number

    def _read_bytes(self, _: Any, target: str, depth: int, how: str = "") -> None:
        # Lengths of one byte and of two are read in place: nearly all are.
        self._line(depth, "size = data[at]")
        self._line(depth, "if size < 128 and not size & 1:")
        self._line(depth + 1, "size >>= 1")
        self._line(depth + 1, "at += 1")
        self._line(depth, "elif not size & 1 and 0 < data[at + 1] < 128:")
        self._line(depth + 1, "size = (size & 127 | data[at + 1] << 7) >> 1")
        self._line(depth + 1, "at += 2")
        self._line(depth, "else:")
        self._line(depth + 1, "size, at = length(data, at)")
        self._line(depth, f"{target} = data[at : at + size]{how}")
        self._line(depth, "at += size")

    def _read_string(self, schema: Any, target: str, depth: int) -> None:
        self._read_bytes(schema, target, depth, ".decode()")

    def _read_boolean(self, _: Any, target: str, depth: int) -> None:
        self._line(depth, "size = data[at]")
        self._line(depth, "if size > 1:")
        self._line(depth + 1, "raise MalformedError(f'a boolean is 0 or 1, not {size}')")
        self._line(depth, f"{target} = size == 1")
        self._line(depth, "at += 1")

    def _read_fixed(self, schema: Any, target: str, depth: int) -> None:
        self._line(depth, f"{target} = data[at : at + {schema['size']}]")
        self._line(depth, f"at += {schema['size']}")

    def _read_enum(self, schema: Any, target: str, depth: int) -> None:
        symbols = schema["symbols"]
        assert len(symbols) <= 64, "an index is one byte"
        name = self._constant("symbols", "tuple[str, ...]", repr(tuple(symbols)))
        self._line(depth, "size = data[at]")
        self._line(depth, f"if size >= {2 * len(symbols)} or size & 1:")
        self._line(
            depth + 1, f"raise MalformedError('a number is given that is none of {', '.join(symbols)}')"
        )
        self._line(depth, f"{target} = {name}[size >> 1]")
        self._line(depth, "at += 1")

    def _read_optional(self, schema: Any, target: str, depth: int) -> None:
        self._line(depth, "size = data[at]")
        self._line(depth, "at += 1")
        self._line(depth, "if size == 0:")
        self._line(depth + 1, f"{self._anything(target)} = None")
        self._line(depth, "elif size == 2:")
        self._read(schema, target, depth + 1)
        self._line(depth, "else:")
        self._line(depth + 1, "raise MalformedError(f'byte {size} says neither absent nor present')")

    def _read_array(self, schema: Any, target: str, depth: int) -> None:
        item, items, many, turn = (self._name(hint) for hint in ("item", "items", "many", "turn"))
        self._line(depth, "if data[at] == 0:")
        self._line(depth + 1, f"{self._anything(target)} = ()")
        self._line(depth + 1, "at += 1")
        self._line(depth, "else:")
        # Not `size`, which the items' lengths change: mypyc asks the variable again before each turn.
        self._line(depth + 1, f"{many}, at = item_count(data, at)")
        self._line(depth + 1, f"{items}: list[Any] = []")
        self._line(depth + 1, f"for {turn} in range({many}):")
        self._read(schema["items"], item, depth + 2)
        self._line(depth + 2, f"{items}.append({item})")
        self._line(depth + 1, "if data[at] != 0:")
        self._line(depth + 2, "raise MalformedError('an array is one block')")
        self._line(depth + 1, f"{target} = tuple({items})")
        self._line(depth + 1, "at += 1")

    def _read_record(self, schema: Any, target: str, depth: int) -> None:
        fields = [self._name(field["name"]) for field in schema["fields"]]
        for name, field in zip(fields, schema["fields"], strict=True):
            self._read(field["type"], name, depth)
        made = f"({', '.join(fields)},)"
        self._line(
            depth, f"{target} = {made}" if self._plain else f"{target} = new({self._class(schema)}, {made})"
        )

    # Writing: for a value in the variable `source`, a condition that it fits (where there is one to ask), and its encoding as a
    # list of expressions. A record is one question and one join; which field is at fault is looked for afterwards.

    def writer(self, name: str, schema: Any, prefix: bytes) -> None:
        self._named = {}
        self._write_fields(name, schema, prefix)

    def _class(self, schema: Any) -> str:
        return self._constant("class", "Any", f"contracts.{schema['name']}")

    def _write(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        kind, schema = self._resolve(schema)
        condition, parts = getattr(self, f"_write_{kind}")(schema, source)
        return condition, parts

    def _write_number(self, kind: str, source: str) -> tuple[str | None, list[str]]:
        lowest, highest = _RANGES[kind]
        return f"type({source}) is int and {lowest} <= {source} <= {highest}", [f"encoded({source})"]

    _write_int = _write_long = _write_number

    def _write_bytes(self, _: Any, source: str) -> tuple[str | None, list[str]]:
        return f"type({source}) is bytes", [f"encoded(len({source}))", source]

    def _write_string(self, _: Any, source: str) -> tuple[str | None, list[str]]:
        return f"type({source}) is str", [f"encoded_text({source})"]

    def _write_boolean(self, _: Any, source: str) -> tuple[str | None, list[str]]:
        return f"type({source}) is bool", [rf"(b'\x01' if {source} else b'\x00')"]

    def _write_fixed(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        return f"type({source}) is bytes and len({source}) == {schema['size']}", [source]

    def _write_enum(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        table = {symbol: encoded(at) for at, symbol in enumerate(schema["symbols"])}
        places = self._constant("places", "dict[str, bytes]", repr(table))
        return f"type({source}) is str and {source} in {places}", [f"{places}[{source}]"]

    def _write_optional(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        condition, parts = self._write(schema, source)
        present = f"b''.join((b'\\x02', {', '.join(parts)}))"
        return (
            None if condition is None else f"({source} is None or {condition})",
            [rf"(b'\x00' if {source} is None else {present})"],
        )

    def _write_array(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        item = self._name("item")
        condition, parts = self._write(schema["items"], item)
        name = self._name("array")
        self._line(0, f"def {name}(items: Any) -> bytes:")
        self._line(1, "out = [encoded(len(items))]")
        self._line(1, f"for {item} in items:")
        if condition is not None:
            self._line(2, f"if not ({condition}):")
            self._line(3, "raise MisfitError")
        self._line(2, f"out += ({', '.join(parts)},)")
        self._line(1, r"out.append(b'\x00')")
        self._line(1, "return b''.join(out)")
        fits = f"isinstance({source}, tuple) and len({source}) <= {MAXIMUM_ITEMS}"
        return fits, [rf"({name}({source}) if {source} else b'\x00')"]

    def _write_record(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        name = self._name("write")
        self._write_fields(name, schema)
        return None, [f"{name}({source})"]

    def _write_fields(self, name: str, schema: Any, prefix: bytes = b"") -> None:
        """A function of this name that writes the record after a prefix."""
        _, schema = self._resolve(schema)
        fields = [self._name(field["name"]) for field in schema["fields"]]
        written = [
            self._write(field["type"], field_name)
            for field_name, field in zip(fields, schema["fields"], strict=True)
        ]
        self._line(0, f"def {name}(value: Any) -> bytes:")
        self._line(1, f"if type(value) is not {self._class(schema)}:")
        self._line(2, "raise MisfitError")
        self._line(1, f"{', '.join(fields)}, = value")
        if conditions := [condition for condition, _ in written if condition is not None]:
            self._line(1, f"if not ({' and '.join(conditions)}):")
            self._line(2, "raise MisfitError")
        parts = ([repr(prefix)] if prefix else []) + [part for _, parts in written for part in parts]
        self._line(1, f"return b''.join(({', '.join(parts)},))")


def fault(schema: Any, value: Any) -> MalformedError:
    """What is wrong with a value that could not be written, by the path of its field."""
    named: dict[str, Any] = {}

    def look(schema: Any, value: Any, path: str) -> tuple[str, Any, str] | None:
        """The path, the value and what it should be, of the first that does not fit."""
        if isinstance(schema, list):
            return None if value is None else look(schema[1], value, path)
        if isinstance(schema, str):
            schema = named.get(schema, {"type": schema})
        elif "name" in schema:
            named[schema["name"]] = schema
        kind = schema["type"]
        fits, what = _demand(kind, schema, value)
        if not fits:
            return path, value, what
        inner: Iterable[tuple[Any, Any, str]] = ()
        if kind == "array":
            inner = ((schema["items"], item, path) for item in value)
        elif kind == "record":
            inner = (
                (field["type"], part, f"{path}.{field['name']}".lstrip("."))
                for field, part in zip(schema["fields"], value, strict=True)
            )
        return next((found for each in inner if (found := look(*each)) is not None), None)

    found = look(schema, value, "")
    assert found is not None, "what could not be written has a fault"
    return _unfit(*found)


def _demand(kind: str, schema: Any, value: Any) -> tuple[bool, str]:
    """Whether a value itself, its items and fields aside, is of a kind; and what it should be."""
    if kind in _RANGES:
        lowest, highest = _RANGES[kind]
        return type(value) is int and lowest <= value <= highest, f"an integer of {lowest} to {highest}"
    if kind == "bytes":
        return type(value) is bytes, "bytes"
    if kind == "string":
        return type(value) is str and _is_encodable(value), "text" + (
            " that UTF-8 can hold" if type(value) is str else ""
        )
    if kind == "boolean":
        return type(value) is bool, "a boolean"
    if kind == "fixed":
        return type(value) is bytes and len(value) == schema["size"], f"{schema['size']} bytes"
    if kind == "enum":
        symbols = schema["symbols"]
        return type(value) is str and value in symbols, f"one of {', '.join(symbols)}"
    if kind == "array":
        return isinstance(value, tuple) and len(value) <= MAXIMUM_ITEMS, (
            f"a tuple of at most {MAXIMUM_ITEMS} items"
        )
    return type(value) is getattr(contracts, schema["name"]), f"a {schema['name']}"


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unfit(path: str, value: Any, what: str) -> MalformedError:
    shown = f"{len(value)} bytes" if type(value) is bytes else f"a {type(value).__name__}"
    if type(value) in (int, str):
        shown = repr(value)[:80]
    return MalformedError(f"{path}: {shown} is not {what}" if path else f"{shown} is not {what}")


@lru_cache(maxsize=65_536)
def encoded(value: int) -> bytes:
    """An integer's encoding; kept, because times, offsets and lengths come again within a batch."""
    number = value << 1 if value >= 0 else ~(value << 1)
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encoded_text(value: str) -> bytes:
    data = value.encode()
    return encoded(len(data)) + data


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An integer of more than one byte."""
    number = data[at] & 127
    shift = 7
    while True:
        at += 1
        byte = data[at]
        number |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift > _LONGEST:
            raise MalformedError("an integer has more than ten bytes")
    if byte == 0:
        raise MalformedError("an integer is longer than it need be")
    return (number >> 1) ^ -(number & 1), at + 1


def long_number(data: bytes, at: int, lowest: int, highest: int) -> tuple[int, int]:
    value, at = _number(data, at)
    if not lowest <= value <= highest:
        raise MalformedError(f"{value} is beyond {lowest} to {highest}")
    return value, at


def length(data: bytes, at: int) -> tuple[int, int]:
    """The length of bytes or text that is not 0 to 63."""
    if data[at] < 128:
        raise MalformedError("a length is negative")
    size, at = _number(data, at)
    if not 0 <= size <= len(data) - at:
        raise MalformedError(f"{size} bytes are announced and {len(data) - at} are there")
    return size, at


def item_count(data: bytes, at: int) -> tuple[int, int]:
    """How many items an array's block has."""
    size = data[at]
    size, at = ((size >> 1) ^ -(size & 1), at + 1) if size < 128 else _number(data, at)
    if not 0 < size <= MAXIMUM_ITEMS:
        raise MalformedError(f"an array is one block of at most {MAXIMUM_ITEMS} items, not {size}")
    return size, at
