"""ISO 20022 messages as typed elements, by the generated models; what a message means is its reader's.

The only module that touches `xsdata`, which binds elements to the models' fields but checks neither lengths nor patterns,
digits, choices or repetitions: `models` does, of everything in the document. Elements out of their order are read all
the same; the content of supplementary data is not read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeAlias

from xsdata.exceptions import ConverterError, ParserError, XmlContextError
from xsdata.formats.dataclass.context import XmlContext
from xsdata.formats.dataclass.parsers.bases import NodeParser
from xsdata.formats.dataclass.parsers.config import ParserConfig
from xsdata.formats.dataclass.serializers import XmlSerializer
from xsdata.formats.dataclass.serializers.config import SerializerConfig
from xsdata.models.datatype import XmlDate, XmlDateTime

from parley.errors import AmountError, ElementError, WrongDocumentError
from parley.workflows.settlement.document import LIMITS, Limits, walk
from parley.workflows.settlement.models import MessageType, check, model_class, plan_of

__all__ = ["Content", "Element", "read", "write"]

_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:"
_XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_LOCATIONS: Final = frozenset({f"{_XSI}schemaLocation", f"{_XSI}noNamespaceSchemaLocation"})
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_CONTEXT: Final = XmlContext()
_CONFIG: Final = ParserConfig(fail_on_unknown_attributes=True, fail_on_converter_warnings=True)

Content: TypeAlias = str | Decimal | date | Mapping[str, "Content"] | Sequence["Content"]
"""What an element is written from: a value, or its children by name (an attribute's begins with ``@``, its own value's is
empty), or several of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Element:
    """An element that is there, with its path; it and all that is in it hold what the standard lets them."""

    path: str
    _model: object

    def at(self, *names: str) -> Element | None:
        """The element that these names lead to, the first of its kind, or None."""
        found = self
        for name in names:
            value = getattr(found._model, plan_of(found._model).fields[name].attribute)
            if isinstance(value, list):
                value = value[0] if value else None
            if value is None:
                return None
            found = Element(f"{found.path}/{name}", value)
        return found

    def need(self, *names: str, why: str) -> Element:
        """As `at`; raises ElementError, saying why it is needed, where it is missing."""
        found = self.at(*names)
        if found is None:
            raise ElementError("/".join((self.path, *names)), f"is missing; {why}")
        return found

    def all(self, name: str) -> list[Element]:
        """Every element of this name, in its order."""
        value = getattr(self._model, plan_of(self._model).fields[name].attribute)
        values = value if isinstance(value, list) else [] if value is None else [value]
        return [Element(f"{self.path}/{name}[{n}]", each) for n, each in enumerate(values, 1)]

    def names(self) -> list[str]:
        """Which elements are in it."""
        plan = plan_of(self._model)
        return [
            name
            for name, field in plan.fields.items()
            if getattr(self._model, field.attribute) not in (None, [])
        ]

    def text(self) -> str:
        """Its value as text."""
        value = self._model.value if isinstance(self._model, Enum) else self._model
        if not isinstance(value, str):
            raise TypeError(f"{self.path} holds no text")
        return value

    def attribute(self, name: str) -> str:
        """The value of an attribute that the standard requires."""
        return str(getattr(self._model, plan_of(self._model).fields[f"@{name}"].attribute))

    def decimal(self) -> Decimal:
        """Its value as a number."""
        value = self._model
        if dataclasses.is_dataclass(value):
            value = getattr(value, plan_of(value).fields[""].attribute)
        if not isinstance(value, Decimal):
            raise TypeError(f"{self.path} holds no number")
        return value

    def date(self) -> date:
        """The calendar day, as its writer's clock had it."""
        if not isinstance(self._model, XmlDate | XmlDateTime):
            raise TypeError(f"{self.path} holds no date")
        try:
            return date(self._model.year, self._model.month, self._model.day)
        except ValueError:
            raise ElementError(
                self.path, f"{self._model} is no day of our calendar; write YYYY-MM-DD"
            ) from None


def read(message: MessageType, data: bytes, limits: Limits = LIMITS) -> Element:
    """The content of a document that holds this message: the element under ``Document``.

    Raises UnsafeXmlError, UnreadableXmlError, WrongDocumentError, ElementError or AmountError.
    """
    binding = _Binding(message)
    walk(data, binding, limits)
    return binding.content()


def write(message: MessageType, content: Content) -> bytes:
    """The document, UTF-8 and indented, whose ``Document`` holds this content.

    Raises ElementError or AmountError where the content is not what the standard lets it be.
    """
    model = _built(model_class(message), content, "/Document")
    check(model, "/Document")
    config = SerializerConfig(xml_declaration=True, indent="  ")
    namespaces: dict[str | None, str] = {None: message.namespace}
    text = XmlSerializer(context=_CONTEXT, config=config).render(model, ns_map=namespaces)
    return text.encode()


class _Binding:
    """Binds a document's elements to the models as they come."""

    def __init__(self, message: MessageType) -> None:
        self._message = message
        self._class = model_class(message)
        self._namespace = "{" + message.namespace + "}"
        self._given = self._namespace
        self._parser = NodeParser(config=_CONFIG, context=_CONTEXT)
        self._queue: list[Any] = []
        self._objects: list[Any] = []
        self._seen: list[set[str]] = []
        self._skipping = 0

    def start(self, path: str, tag: str, attributes: dict[str, str]) -> None:
        if not self._queue:
            self._open(tag)
        if self._skipping or path.endswith("/SplmtryData/Envlp"):
            self._skipping += 1
            if self._skipping > 1:
                return
        namespace, _, name = tag.rpartition("}")
        if namespace + "}" != self._given:
            raise ElementError(path, f"is of another namespace, {namespace[1:][:80]!r}; write it without one")
        for attribute in attributes:
            if attribute.startswith(_XSI) and attribute not in _LOCATIONS:
                raise ElementError(path, f"has the attribute xsi:{attribute[len(_XSI) :]}; leave it out")
        own = {key: value for key, value in attributes.items() if key not in _LOCATIONS}
        tag = self._namespace + name
        if self._seen:
            self._forbid_another(path, tag)
        try:
            self._parser.start(self._class, self._queue, self._objects, tag, own, {})
        except (ParserError, XmlContextError):
            raise ElementError(
                path, f"is no element of {self._message.name} in this place; take it out"
            ) from None
        self._seen.append(set())

    def end(self, path: str, tag: str, text: str) -> None:
        if self._skipping:
            self._skipping -= 1
            if self._skipping:
                return
            text = ""
        number = _takes_number(self._queue[-1])
        if number:
            text = text.strip(" \t\r\n")
            if _DECIMAL.fullmatch(text) is None:
                raise AmountError(
                    path, f"{text[:40]!r} is no number; write digits and a point, as in 1234.56"
                )
        elif number is None and text.strip(" \t\r\n"):
            raise ElementError(
                path, f"holds the text {text.strip()[:40]!r} where elements belong; see the standard"
            )
        if not text and number is not None:
            raise ElementError(path, "is empty; give it a value or leave it out")
        node = self._queue[-1]
        unknown = self._unknown_attribute(node)
        if unknown is not None:
            raise ElementError(path, f"has the attribute {unknown!r}, which it may not have; take it out")
        name = self._namespace + tag.rpartition("}")[2]
        try:
            self._parser.end(self._queue, self._objects, name, text, None)
        except (ParserError, ConverterError, XmlContextError, ValueError):
            raise ElementError(
                path, f"{text[:40]!r} is not among the values it may have; see the standard"
            ) from None
        self._seen.pop()

    def content(self) -> Element:
        """What was read, checked."""
        model = self._objects[-1][1]
        check(model, "/Document")
        root = Element("/Document", model)
        return root.need(*root.names(), why="it is the message")

    def _open(self, tag: str) -> None:
        namespace, _, name = tag.rpartition("}")
        versions = [self._message.name, *self._message.earlier]
        if name != "Document":
            raise WrongDocumentError(
                f"the root element is {name[:80]!r}; it must be Document: take the message out of its envelope"
            )
        if namespace[1:] not in [_NAMESPACE + version for version in versions]:
            raise WrongDocumentError(
                f"/Document is of namespace {namespace[1:][:120]!r}; it must be {_NAMESPACE}… with one of "
                f"{', '.join(versions)}"
            )
        self._given = namespace + "}"

    def _forbid_another(self, path: str, tag: str) -> None:
        if tag in self._seen[-1]:
            meta = getattr(self._queue[-1], "meta", None)
            if meta is not None and not any(var.list_element for var in meta.find_children(tag)):
                raise ElementError(path, "stands here twice; leave one")
        self._seen[-1].add(tag)

    @staticmethod
    def _unknown_attribute(node: Any) -> str | None:
        attributes = getattr(node, "attrs", {})
        unknown = [key for key in attributes if node.meta.find_attribute(key) is None]
        return unknown[0][:80] if unknown else None


def _takes_number(node: Any) -> bool | None:
    """Whether an element's own text is a number; None if it holds elements instead of text."""
    var = getattr(node, "var", None)
    if var is None:
        var = node.meta.text
    return None if var is None else Decimal in var.types


def _built(model: type[Any], content: Content, path: str) -> Any:
    """A model, or a simple value, from what it is written from."""
    if issubclass(model, XmlDate) and isinstance(content, date):
        return XmlDate.from_date(content)
    if issubclass(model, Enum):
        try:
            return model(content)
        except ValueError:
            raise ElementError(path, f"{str(content)[:40]!r} is not among the values it may have") from None
    if not isinstance(content, Mapping):
        return content
    plan = plan_of(model)
    values = {}
    for name, inner in content.items():
        field = plan.fields[name]
        where = f"{path}/{name}" if name else path
        if isinstance(inner, Sequence) and not isinstance(inner, str):
            values[field.attribute] = [_built(field.type, each, where) for each in inner]
        else:
            built = _built(field.type, inner, where)
            values[field.attribute] = [built] if field.several else built
    return model(**values)
