"""XML bytes as a stream of elements with their paths, in bounded time and memory; which elements may occur is the sink's.

What a plain document does not need is refused before it costs anything: a DTD (so there are no entities to expand and
nothing external to fetch), encodings outside UTF-8, UTF-16, US-ASCII and ISO 8859-1, and whatever exceeds the limits.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, NoReturn, Protocol
from xml.parsers import expat  # DTDs, the way to its known attacks, are refused as they begin

from parley.errors import ElementError, UnreadableXmlError, UnsafeXmlError

__all__ = ["LIMITS", "Limits", "Sink", "walk"]

_ENCODINGS: Final = frozenset({"utf-8", "utf-16", "us-ascii", "ascii", "iso-8859-1"})
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_XML: Final = "{http://www.w3.org/XML/1998/namespace}"


class Limits(NamedTuple):
    """What a document may cost."""

    octets: int = 1 << 20
    """Length of the whole, in bytes. The fullest sese.023 that custodians exchange has some 30 kB."""
    depth: int = 32
    """Elements within each other. The deepest of sese.023 has 11."""
    elements: int = 5_000
    """How many there may be."""


LIMITS: Final = Limits()


class Sink(Protocol):
    """Takes what a document holds, in its order. Tags are ``{namespace}name``."""

    def start(self, path: str, tag: str, attributes: dict[str, str]) -> None:
        """An element begins. ``path`` is that of its parent, ending in ``/``, and its own name."""

    def end(self, path: str, tag: str, text: str) -> None:
        """An element ends; ``text`` is its own, empty if it has children."""


def walk(data: bytes, sink: Sink, limits: Limits = LIMITS) -> None:
    """Give each element of the document to the sink.

    Raises UnsafeXmlError, UnreadableXmlError, ElementError for text between elements, and what the sink raises.
    """
    if len(data) > limits.octets:
        raise UnsafeXmlError(
            f"the document has {len(data):,} bytes, and {limits.octets:,} is the limit; "
            "send one instruction a document, and what is large by reference"
        )
    parser = expat.ParserCreate(namespace_separator="}")
    reader = _Reader(sink, limits)
    parser.buffer_text = True
    parser.XmlDeclHandler = reader.declaration
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise UnreadableXmlError(
            f"line {error.lineno}, column {error.offset + 1}{reader.near()}: {expat.ErrorString(error.code)}; "
            "have the sender write it as well-formed XML in UTF-8"
        ) from None


class _Reader:
    """Where in the document we are."""

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self._sink = sink
        self._limits = limits
        self._paths: list[str] = []
        self._tags: list[str] = []
        self._texts: list[list[str]] = []
        self._elements = 0

    def near(self) -> str:
        return f", in {self._paths[-1]}" if self._paths else ""

    def declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise UnreadableXmlError(
                f"encoding {encoding[:40]!r} is not read here; send the document in UTF-8"
            )

    def doctype(self, *_declared: object) -> NoReturn:
        raise UnsafeXmlError("the document declares a document type (DTD); ISO 20022 has none: take it out")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > self._limits.elements:
            raise UnsafeXmlError(
                f"more than {self._limits.elements:,} elements{self.near()}; send one instruction a document"
            )
        if len(self._paths) >= self._limits.depth:
            raise UnsafeXmlError(f"more than {self._limits.depth} elements deep{self.near()}; no message is")
        if self._paths:
            self._leave_no_text()
        path = f"{self._paths[-1] if self._paths else ''}/{name.rpartition('}')[2]}"
        tag = _qualified(name)
        self._sink.start(path, tag, {_qualified(key): value for key, value in attributes.items()})
        self._paths.append(path)
        self._tags.append(tag)
        self._texts.append([])

    def text(self, text: str) -> None:
        self._texts[-1].append(text)

    def end(self, _name: str) -> None:
        path, tag, pieces = self._paths[-1], self._tags.pop(), self._texts.pop()
        self._sink.end(path, tag, "".join(pieces))
        self._paths.pop()

    def _leave_no_text(self) -> None:
        pieces = self._texts[-1]
        if pieces:
            if _BLANK.fullmatch("".join(pieces)) is None:
                raise ElementError(self._paths[-1], "has text between its elements; take it out")
            pieces.clear()


def _qualified(name: str) -> str:
    return "{" + name if "}" in name else name
