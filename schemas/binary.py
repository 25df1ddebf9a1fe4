"""Avro's binary encoding, narrowed so that a value has exactly one encoding; which schema a body has is the codec's affair.

Follows Avro 1.12, "Binary encoding", and reads only what it would write itself: integers in their fewest bytes and within
the range of ``int`` or ``long``, an array as one block without a byte count, indices of unions and enums from 0. Every Avro
library reads it; no two byte strings mean the same record, so nobody can change a record's hash and keep its meaning. What
reading costs is bounded by the bytes given and by :data:`MAXIMUM_ITEMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from parley.errors import MalformedError

__all__ = ["MAXIMUM_ITEMS", "Read", "Write", "reader", "writer"]

MAXIMUM_ITEMS = 65_536
"""Items an array may have: few bytes must not make much work."""

Read = Callable[[bytes, int], tuple[Any, int]]
"""From bytes and a place in them to the value there and the place after it; beyond the end, ``IndexError``."""
Write = Callable[[bytearray, Any], None]
"""Append a value's encoding."""

_INT = (-(1 << 31), (1 << 31) - 1)
_LONG = (-(1 << 63), (1 << 63) - 1)
_LONGEST = 63
_Codec = tuple[Read, Write]


def reader(schema: Any, classes: Mapping[str, Any] | None = None) -> Read:
    """What reads a body of the schema (as JSON says it); records become the class of their name, or else plain tuples."""
    return _codec(schema, {} if classes is None else classes, {})[0]


def writer(schema: Any, classes: Mapping[str, Any]) -> Write:
    """What writes a body of the schema; it raises ``MalformedError`` naming the field that does not fit."""
    return _codec(schema, classes, {})[1]


def _codec(schema: Any, classes: Mapping[str, Any], named: dict[str, _Codec]) -> _Codec:
    if isinstance(schema, list):
        absent, present = schema
        assert absent == "null", "the contracts' unions are of null and one other"
        return _optional(*_codec(present, classes, named))
    if isinstance(schema, str):
        return named[schema] if schema in named else _PRIMITIVES[schema]
    kind = schema["type"]
    if kind == "array":
        return _array(*_codec(schema["items"], classes, named))
    if kind == "fixed":
        made = _fixed(schema["size"])
    elif kind == "enum":
        made = _enum(schema["symbols"])
    else:
        assert kind == "record", f"the contracts have no {kind}"
        fields = [(field["name"], *_codec(field["type"], classes, named)) for field in schema["fields"]]
        made = _record(classes.get(schema["name"]), fields)
    named[schema["name"]] = made
    return made


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    number = data[at]
    at += 1
    if number > 127:
        number &= 127
        shift = 7
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > _LONGEST:
                raise MalformedError("an integer has more than ten bytes")
        if byte == 0:
            raise MalformedError("an integer is longer than it need be")
    return (number >> 1) ^ -(number & 1), at


def _write_number(out: bytearray, value: int) -> None:
    number = value << 1 if value >= 0 else ~(value << 1)
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def _integer(lowest: int, highest: int) -> _Codec:
    def read(data: bytes, at: int) -> tuple[int, int]:
        number = data[at]
        if number < 128:
            return (number >> 1) ^ -(number & 1), at + 1
        value, at = _read_number(data, at)
        if not lowest <= value <= highest:
            raise MalformedError(f"{value} is beyond {lowest} to {highest}")
        return value, at

    def write(out: bytearray, value: Any) -> None:
        if type(value) is not int or not lowest <= value <= highest:
            raise MalformedError(f"{value!r} is not an integer of {lowest} to {highest}")
        _write_number(out, value)

    return read, write


def _read_boolean(data: bytes, at: int) -> tuple[bool, int]:
    byte = data[at]
    if byte > 1:
        raise MalformedError(f"a boolean is 0 or 1, not {byte}")
    return byte == 1, at + 1


def _write_boolean(out: bytearray, value: Any) -> None:
    if type(value) is not bool:
        raise MalformedError(f"{value!r} is not a boolean")
    out.append(value)


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size = data[at]
    if size < 128 and not size & 1:
        start = at + 1
        end = start + (size >> 1)
    else:
        size, start = _read_number(data, at)
        end = start + size
    if not start <= end <= len(data):
        raise MalformedError(f"{end - start} bytes are announced and {len(data) - start} are there")
    return data[start:end], end


def _write_bytes(out: bytearray, value: Any) -> None:
    if type(value) is not bytes:
        raise MalformedError(f"a {type(value).__name__} is not bytes")
    _write_number(out, len(value))
    out += value


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    text, at = _read_bytes(data, at)
    try:
        return text.decode(), at
    except UnicodeDecodeError as error:
        raise MalformedError(f"text is not UTF-8 ({error.reason})") from None


def _write_string(out: bytearray, value: Any) -> None:
    if type(value) is not str:
        raise MalformedError(f"a {type(value).__name__} is not text")
    try:
        text = value.encode()
    except UnicodeEncodeError as error:
        raise MalformedError(f"text has no UTF-8 ({error.reason})") from None
    _write_number(out, len(text))
    out += text


_PRIMITIVES: dict[str, _Codec] = {
    "boolean": (_read_boolean, _write_boolean),
    "int": _integer(*_INT),
    "long": _integer(*_LONG),
    "bytes": (_read_bytes, _write_bytes),
    "string": (_read_string, _write_string),
}


def _fixed(size: int) -> _Codec:
    def read(data: bytes, at: int) -> tuple[bytes, int]:
        end = at + size
        if end > len(data):
            raise IndexError
        return data[at:end], end

    def write(out: bytearray, value: Any) -> None:
        if type(value) is not bytes:
            raise MalformedError(f"a {type(value).__name__} is not bytes")
        if len(value) != size:
            raise MalformedError(f"{len(value)} bytes are not the {size} it has")
        out += value

    return read, write


def _enum(symbols: list[str]) -> _Codec:
    places = {symbol: place for place, symbol in enumerate(symbols)}

    def read(data: bytes, at: int) -> tuple[str, int]:
        place, at = _read_number(data, at)
        if not 0 <= place < len(symbols):
            raise MalformedError(f"there is no symbol {place} of {', '.join(symbols)}")
        return symbols[place], at

    def write(out: bytearray, value: Any) -> None:
        place = places.get(value) if type(value) is str else None
        if place is None:
            raise MalformedError(f"{value!r} is none of {', '.join(symbols)}")
        _write_number(out, place)

    return read, write


def _optional(read_present: Read, write_present: Write) -> _Codec:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        branch = data[at]
        if branch == 0:
            return None, at + 1
        if branch != 2:
            raise MalformedError(f"byte {branch} says neither absent nor present")
        return read_present(data, at + 1)

    def write(out: bytearray, value: Any) -> None:
        if value is None:
            out.append(0)
        else:
            out.append(2)
            write_present(out, value)

    return read, write


def _array(read_item: Read, write_item: Write) -> _Codec:
    def read(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        count, at = _read_number(data, at)
        if count == 0:
            return (), at
        if not 0 < count <= MAXIMUM_ITEMS:
            raise MalformedError(f"an array is one block of at most {MAXIMUM_ITEMS} items, not {count}")
        items = []
        for _ in range(count):
            item, at = read_item(data, at)
            items.append(item)
        if data[at] != 0:
            raise MalformedError("an array is one block")
        return tuple(items), at + 1

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, tuple) or len(value) > MAXIMUM_ITEMS:
            raise MalformedError(f"a {type(value).__name__} is not a tuple of at most {MAXIMUM_ITEMS} items")
        if value:
            _write_number(out, len(value))
            for item in value:
                write_item(out, item)
        out.append(0)

    return read, write


def _record(class_: Any, fields: list[tuple[str, Read, Write]]) -> _Codec:
    make = tuple if class_ is None else class_._make
    readers = [read for _, read, _ in fields]
    writers = [write for _, _, write in fields]

    def read(data: bytes, at: int) -> tuple[Any, int]:
        values = []
        for read_field in readers:
            value, at = read_field(data, at)
            values.append(value)
        return make(values), at

    def write(out: bytearray, value: Any) -> None:
        if type(value) is not class_:
            raise MalformedError(f"a {type(value).__name__} is not a {class_.__name__}")
        place = 0
        try:
            for write_field in writers:
                write_field(out, value[place])
                place += 1
        except MalformedError as error:
            raise MalformedError(f"{fields[place][0]}: {error}") from None

    return read, write
