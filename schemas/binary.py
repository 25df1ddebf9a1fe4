"""Avro's binary encoding, narrowed so that a value has exactly one encoding; which schema a body has is the codec's affair.

Follows Avro 1.12, "Binary encoding", and reads only what it would write itself: integers in their fewest bytes and within
the range of ``int`` or ``long``, an array as one block without a byte count, indices of unions and enums from 0. Every Avro
library reads it; no two byte strings mean the same record, so nobody can change a record's hash and keep its meaning. What
reading costs is bounded by the bytes given and by :data:`MAXIMUM_ITEMS`.

The router reads two records and writes three for each message, so each schema is compiled once to straight Python, a
field after the other without a call between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import count
from typing import Any, cast

from parley.errors import MalformedError

__all__ = ["MAXIMUM_ITEMS", "Read", "Write", "reader", "writer"]

MAXIMUM_ITEMS = 65_536
"""Items an array may have: few bytes must not make much work."""

Read = Callable[[bytes, int], tuple[Any, int]]
"""From bytes and a place in them to the value there and the place after it. Where the bytes end early it raises
``IndexError`` or gives a place beyond their end; text that is not UTF-8 raises ``UnicodeDecodeError``.
"""
Write = Callable[[Any], bytes]
"""From a value to its encoding; ``MalformedError`` names the field that does not fit."""

_RANGES = {"int": (-(1 << 31), (1 << 31) - 1), "long": (-(1 << 63), (1 << 63) - 1)}
_LONGEST = 63


def reader(schema: Any, classes: Mapping[str, Any] | None = None) -> Read:
    """What reads a body of the schema (as JSON says it); records become the class of their name, or else plain tuples."""
    source = _Source({} if classes is None else classes)
    source.line(0, "def read(data, at):")
    source.read(schema, "value", 1)
    source.line(1, "return value, at")
    return cast(Read, source.compiled("read"))


def writer(schema: Any, classes: Mapping[str, Any], prefix: bytes = b"") -> Write:
    """What writes ``prefix`` and then a body of the schema, a record."""
    source = _Source(classes)
    name = source.write_record(schema, prefix)
    write = cast(Write, source.compiled(name))

    def checked(value: Any) -> bytes:
        try:
            return write(value)
        except (_MisfitError, UnicodeEncodeError):
            raise _fault(schema, value, classes) from None

    return checked


class _Source:
    """The source of one function, and the names it uses."""

    def __init__(self, classes: Mapping[str, Any]) -> None:
        self._classes = classes
        self._named: dict[str, Any] = {}
        self._lines: list[str] = []
        self._numbers = count()
        self._names: dict[str, Any] = {
            "new": tuple.__new__,
            "long_number": _long_number,
            "length": _length,
            "items": _items,
            "malformed": MalformedError,
            "misfit": _MisfitError,
            "encoded": _encoded,
            "text": _text,
            "join": b"".join,
        }

    def compiled(self, name: str) -> Any:
        exec("\n".join(self._lines), self._names)  # noqa: S102  the source is ours and made from our schemas alone
        return self._names[name]

    def line(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def _name(self, hint: str, value: Any = None) -> str:
        """A new name; with a value, one that the function finds it under."""
        name = f"{hint}_{next(self._numbers)}"
        if value is not None:
            self._names[name] = value
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

    def read(self, schema: Any, target: str, depth: int) -> None:
        kind, schema = self._resolve(schema)
        getattr(self, f"_read_{kind}")(schema, target, depth)

    def _read_number(self, kind: str, target: str, depth: int) -> None:
        lowest, highest = _RANGES[kind]
        self.line(depth, f"{target} = data[at]")
        self.line(depth, f"if {target} < 128:")
        self.line(depth + 1, f"{target} = ({target} >> 1) ^ -({target} & 1)")
        self.line(depth + 1, "at += 1")
        self.line(depth, "else:")
        self.line(depth + 1, f"{target}, at = long_number(data, at, {lowest}, {highest})")

    _read_int = _read_long = _read_number

    def _read_bytes(self, _: Any, target: str, depth: int) -> None:
        # Lengths of one byte and of two are read in place: nearly all are.
        self.line(depth, "size = data[at]")
        self.line(depth, "if size < 128 and not size & 1:")
        self.line(depth + 1, "size >>= 1")
        self.line(depth + 1, "at += 1")
        self.line(depth, "elif not size & 1 and 0 < data[at + 1] < 128:")
        self.line(depth + 1, "size = (size & 127 | data[at + 1] << 7) >> 1")
        self.line(depth + 1, "at += 2")
        self.line(depth, "else:")
        self.line(depth + 1, "size, at = length(data, at)")
        self.line(depth, f"{target} = data[at : at + size]")
        self.line(depth, "at += size")

    def _read_string(self, schema: Any, target: str, depth: int) -> None:
        self._read_bytes(schema, target, depth)
        self.line(depth, f"{target} = {target}.decode()")

    def _read_boolean(self, _: Any, target: str, depth: int) -> None:
        self.line(depth, f"{target} = data[at]")
        self.line(depth, f"if {target} > 1:")
        self.line(depth + 1, f"raise malformed(f'a boolean is 0 or 1, not {{{target}}}')")
        self.line(depth, f"{target} = {target} == 1")
        self.line(depth, "at += 1")

    def _read_fixed(self, schema: Any, target: str, depth: int) -> None:
        self.line(depth, f"{target} = data[at : at + {schema['size']}]")
        self.line(depth, f"at += {schema['size']}")

    def _read_enum(self, schema: Any, target: str, depth: int) -> None:
        symbols = schema["symbols"]
        assert len(symbols) <= 64, "an index is one byte"
        self.line(depth, "size = data[at]")
        self.line(depth, f"if size >= {2 * len(symbols)} or size & 1:")
        self.line(depth + 1, f"raise malformed('a number is given that is none of {', '.join(symbols)}')")
        self.line(depth, f"{target} = {self._name('symbols', tuple(symbols))}[size >> 1]")
        self.line(depth, "at += 1")

    def _read_optional(self, schema: Any, target: str, depth: int) -> None:
        self.line(depth, "size = data[at]")
        self.line(depth, "at += 1")
        self.line(depth, "if size == 0:")
        self.line(depth + 1, f"{target} = None")
        self.line(depth, "elif size == 2:")
        self.read(schema, target, depth + 1)
        self.line(depth, "else:")
        self.line(depth + 1, "raise malformed(f'byte {size} says neither absent nor present')")

    def _read_array(self, schema: Any, target: str, depth: int) -> None:
        item, append = self._name("item"), self._name("append")
        self.line(depth, "if data[at] == 0:")
        self.line(depth + 1, f"{target} = ()")
        self.line(depth + 1, "at += 1")
        self.line(depth, "else:")
        self.line(depth + 1, "size, at = items(data, at)")
        self.line(depth + 1, f"{target} = []")
        self.line(depth + 1, f"{append} = {target}.append")
        self.line(depth + 1, "for _ in range(size):")
        self.read(schema["items"], item, depth + 2)
        self.line(depth + 2, f"{append}({item})")
        self.line(depth + 1, "if data[at] != 0:")
        self.line(depth + 2, "raise malformed('an array is one block')")
        self.line(depth + 1, f"{target} = tuple({target})")
        self.line(depth + 1, "at += 1")

    def _read_record(self, schema: Any, target: str, depth: int) -> None:
        fields = [self._name(field["name"]) for field in schema["fields"]]
        for name, field in zip(fields, schema["fields"], strict=True):
            self.read(field["type"], name, depth)
        made = f"({', '.join(fields)},)"
        class_ = self._classes.get(schema["name"])
        self.line(
            depth,
            f"{target} = " + (made if class_ is None else f"new({self._name('class', class_)}, {made})"),
        )

    # Writing: for a value in the variable `source`, a condition that it fits (where there is one to ask), and its encoding as a
    # list of expressions. A record is one question and one join; which field is at fault is looked for afterwards.

    def write(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
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
        return f"type({source}) is str", [f"text({source})"]

    def _write_boolean(self, _: Any, source: str) -> tuple[str | None, list[str]]:
        return f"type({source}) is bool", [rf"(b'\x01' if {source} else b'\x00')"]

    def _write_fixed(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        return f"type({source}) is bytes and len({source}) == {schema['size']}", [source]

    def _write_enum(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        places = self._name("places", {symbol: _encoded(at) for at, symbol in enumerate(schema["symbols"])})
        return f"type({source}) is str and {source} in {places}", [f"{places}[{source}]"]

    def _write_optional(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        condition, parts = self.write(schema, source)
        present = f"join((b'\\x02', {', '.join(parts)}))"
        return (
            None if condition is None else f"({source} is None or {condition})",
            [rf"(b'\x00' if {source} is None else {present})"],
        )

    def _write_array(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        item = self._name("item")
        condition, parts = self.write(schema["items"], item)
        name = self._name("array")
        self.line(0, f"def {name}(items):")
        self.line(1, "out = [encoded(len(items))]")
        self.line(1, f"for {item} in items:")
        if condition is not None:
            self.line(2, f"if not ({condition}):")
            self.line(3, "raise misfit")
        self.line(2, f"out += ({', '.join(parts)},)")
        self.line(1, r"out.append(b'\x00')")
        self.line(1, "return join(out)")
        fits = f"isinstance({source}, tuple) and len({source}) <= {MAXIMUM_ITEMS}"
        return fits, [rf"({name}({source}) if {source} else b'\x00')"]

    def _write_record(self, schema: Any, source: str) -> tuple[str | None, list[str]]:
        return None, [f"{self.write_record(schema)}({source})"]

    def write_record(self, schema: Any, prefix: bytes = b"") -> str:
        """The name of a function that writes this record after a prefix; it raises ``_MisfitError`` where the value does not fit."""
        _, schema = self._resolve(schema)
        class_ = self._name("class", self._classes[schema["name"]])
        fields = [self._name(field["name"]) for field in schema["fields"]]
        written = [
            self.write(field["type"], name) for name, field in zip(fields, schema["fields"], strict=True)
        ]
        name = self._name("write")
        self.line(0, f"def {name}(value):")
        self.line(1, f"if type(value) is not {class_}:")
        self.line(2, "raise misfit")
        self.line(1, f"{', '.join(fields)}, = value")
        if conditions := [condition for condition, _ in written if condition is not None]:
            self.line(1, f"if not ({' and '.join(conditions)}):")
            self.line(2, "raise misfit")
        parts = ([repr(prefix)] if prefix else []) + [part for _, parts in written for part in parts]
        self.line(1, f"return join(({', '.join(parts)},))")
        return name


class _MisfitError(Exception):
    """A value is not of its schema; nothing says where."""


def _fault(schema: Any, value: Any, classes: Mapping[str, Any]) -> MalformedError:
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
        fits, what = _demand(kind, schema, value, classes)
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


def _demand(kind: str, schema: Any, value: Any, classes: Mapping[str, Any]) -> tuple[bool, str]:
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
    return type(value) is classes[schema["name"]], f"a {schema['name']}"


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
def _encoded(value: int) -> bytes:
    """An integer's encoding; kept, because times, offsets and lengths come again within a batch."""
    number = value << 1 if value >= 0 else ~(value << 1)
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(value: str) -> bytes:
    data = value.encode()
    return _encoded(len(data)) + data


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


def _long_number(data: bytes, at: int, lowest: int, highest: int) -> tuple[int, int]:
    value, at = _number(data, at)
    if not lowest <= value <= highest:
        raise MalformedError(f"{value} is beyond {lowest} to {highest}")
    return value, at


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The length of bytes or text that is not 0 to 63."""
    if data[at] < 128:
        raise MalformedError("a length is negative")
    size, at = _number(data, at)
    if not 0 <= size <= len(data) - at:
        raise MalformedError(f"{size} bytes are announced and {len(data) - at} are there")
    return size, at


def _items(data: bytes, at: int) -> tuple[int, int]:
    """How many items an array's block has."""
    size = data[at]
    size, at = ((size >> 1) ^ -(size & 1), at + 1) if size < 128 else _number(data, at)
    if not 0 < size <= MAXIMUM_ITEMS:
        raise MalformedError(f"an array is one block of at most {MAXIMUM_ITEMS} items, not {size}")
    return size, at
