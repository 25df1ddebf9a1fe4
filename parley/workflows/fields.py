"""A JSON object's fields, read by what each must be; what they mean is the affair of the step that they stand in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from parley.errors import MalformedError

__all__ = ["Fields", "read_hexadecimal"]

T = TypeVar("T")


class Fields:
    """A JSON object's fields, each asked for by what it must be; raises MalformedError for another."""

    def __init__(self, values: object, where: str = "the content") -> None:
        if not isinstance(values, Mapping):
            raise MalformedError(f"{where} is not a JSON object; see the step's content type")
        self._values = values

    @classmethod
    def of(cls, content: bytes) -> Fields:
        """Of a message's content."""
        try:
            return cls(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise MalformedError(f"the content is not JSON ({error}); see the step's content type") from None

    def text(self, name: str) -> str:
        """A text, which may be empty."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise MalformedError(f"{name} is not a text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise MalformedError(f"{name} is not a list of texts")
        return tuple(map(str, values))

    def each(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """A list of objects, each as ``read`` gives it."""
        return tuple(read(Fields(value, f"an item of {name}")) for value in self._list(name))

    def whole(self, name: str) -> int:
        """A whole number from 0."""
        value = self._values.get(name)
        if type(value) is not int or value < 0:
            raise MalformedError(f"{name} is not a whole number from 0")
        return value

    def amount(self, name: str) -> int:
        """A number of up to 256 bits, written as a decimal text."""
        digits = self.text(name)
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 78):
            raise MalformedError(f"{name} is not a decimal number of wei")
        return int(digits)

    def binary(self, name: str) -> bytes:
        """Bytes, written after ``0x``."""
        return read_hexadecimal(self.text(name), name)

    def hexadecimal(self, name: str, length: int) -> bytes:
        """So many bytes, written without ``0x``."""
        value = read_hexadecimal(f"0x{self.text(name)}", name)
        if len(value) != length:
            raise MalformedError(f"{name} has not {length} bytes")
        return value

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """What ``read`` gives, or ``None`` where the field is null or not there."""
        return None if self._values.get(name) is None else read(name)

    def _list(self, name: str) -> list[object]:
        value = self._values.get(name)
        if not isinstance(value, list):
            raise MalformedError(f"{name} is not a list")
        return value


def read_hexadecimal(text: str, name: str) -> bytes:
    """The bytes that ``text`` writes after ``0x``; raises MalformedError, which names the field."""
    digits = text.removeprefix("0x")
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        value = b""
    if value.hex() != digits.lower() or digits == text:
        raise MalformedError(f"{name} is not hexadecimal after 0x")
    return value
