"""What the generated models of ISO 20022 say of themselves, and whether a message keeps to it.

The models have no types of their own and are heavy to load, so they are loaded here by name, the wanted message alone.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
import threading
import typing
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from types import ModuleType
from typing import Any, Final, NamedTuple

from parley.errors import AmountError, ElementError

__all__ = [
    "CONFIRMATION",
    "INSTRUCTION",
    "STATUS_ADVICE",
    "Field",
    "MessageType",
    "Plan",
    "check",
    "model_class",
    "plan_of",
]

_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:"
_LOADING: Final = threading.Lock()


class MessageType(NamedTuple):
    """A message of ISO 20022, in the version written here and the versions read here."""

    name: str
    """As in ``sese.023.001.11``."""
    earlier: tuple[str, ...] = ()
    """Versions whose elements are all in this one."""

    @property
    def namespace(self) -> str:
        """Of its documents."""
        return _NAMESPACE + self.name


INSTRUCTION: Final = MessageType("sese.023.001.11", ("sese.023.001.09", "sese.023.001.10"))
STATUS_ADVICE: Final = MessageType("sese.024.001.12")
CONFIRMATION: Final = MessageType("sese.025.001.11")


class Field(NamedTuple):
    """A field of a model: the element's or attribute's name in the document, and what it may hold."""

    name: str
    attribute: str
    type: Any
    several: bool
    required: bool
    pattern: re.Pattern[str] | None
    min_length: int
    max_length: int | None
    max_occurs: int | None
    minimum: Decimal | None
    total_digits: int | None
    fraction_digits: int | None


class Plan(NamedTuple):
    """What a model says of itself."""

    fields: dict[str, Field]
    choice: bool


def plan_of(model: object) -> Plan:
    """What the class of this model, or this class, says of itself."""
    kind: Any = model if isinstance(model, type) else type(model)
    return _plan(kind)


@cache
def _plan(model: Any) -> Plan:
    hints = typing.get_type_hints(model)
    fields = [_field(each, hints[each.name]) for each in dataclasses.fields(model)]
    return Plan({field.name: field for field in fields}, "Choice" in model.__name__)


def _field(field: dataclasses.Field[Any], hint: Any) -> Field:
    says = field.metadata
    kind = says.get("type")
    name = {"Attribute": "@", None: ""}.get(kind, "") + says.get("name", "")
    inner = [each for each in typing.get_args(hint) if each is not type(None)]
    return Field(
        name=name,
        attribute=field.name,
        type=inner[0] if inner else hint,
        several=typing.get_origin(hint) is list,
        required=bool(says.get("required", False)),
        pattern=re.compile(says["pattern"]) if "pattern" in says else None,
        min_length=says.get("min_length", 0),
        max_length=says.get("max_length"),
        max_occurs=says.get("max_occurs"),
        minimum=says.get("min_inclusive"),
        total_digits=says.get("total_digits"),
        fraction_digits=says.get("fraction_digits"),
    )


def check(model: object, path: str) -> None:
    """Raise ElementError or AmountError for the first thing in the model that the standard does not let be."""
    plan = plan_of(model)
    given = []
    for field in plan.fields.values():
        value = getattr(model, field.attribute)
        where = f"{path}/{field.name}" if field.name else path
        if value is None or value == []:
            if field.required:
                raise ElementError(where, "is missing; the standard requires it")
            continue
        given.append(field.name)
        for each_path, each in _each(value, where):
            if dataclasses.is_dataclass(each):
                check(each, each_path)
            elif isinstance(each, str):
                _check_text(field, each, each_path)
            elif isinstance(each, Decimal):
                _check_number(field, each, each_path)
        if field.max_occurs is not None and len(value) > field.max_occurs:
            raise ElementError(where, f"stands here {len(value)} times; at most {field.max_occurs} may")
    if plan.choice and len(given) != 1:
        options = ", ".join(plan.fields)
        raise ElementError(
            path, f"must hold exactly one of {options}, and holds {' and '.join(given) or 'none'}"
        )


def _each(value: object, path: str) -> Iterator[tuple[str, object]]:
    if not isinstance(value, list):
        yield path, value
        return
    for number, each in enumerate(value, 1):
        yield f"{path}[{number}]", each


def _check_text(field: Field, text: str, path: str) -> None:
    if field.pattern is not None and field.pattern.fullmatch(text) is None:
        raise ElementError(path, f"{text[:60]!r} does not have the form {field.pattern.pattern}; correct it")
    if not field.min_length <= len(text) <= (len(text) if field.max_length is None else field.max_length):
        raise ElementError(
            path,
            f"{text[:60]!r} has {len(text)} characters, and {field.min_length} to {field.max_length} may be",
        )


def _check_number(field: Field, number: Decimal, path: str) -> None:
    if field.minimum is not None and number < field.minimum:
        raise AmountError(
            path, f"{number} is less than {field.minimum}; directions have elements of their own"
        )
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise AmountError(path, f"{number} is no number; write digits and a point")
    if field.fraction_digits is not None and -exponent > field.fraction_digits:
        raise AmountError(
            path, f"{number} has more than {field.fraction_digits} digits after the point; round it"
        )
    if field.total_digits is not None and len(digits) + max(exponent, 0) > field.total_digits:
        raise AmountError(path, f"{number} has more than {field.total_digits} digits; correct it")


@cache
def model_class(message: MessageType) -> type[Any]:
    """The generated class of a message, under the name that its document has."""
    underscored = message.name.replace(".", "_")
    with _LOADING:
        module = _models(f"python_iso20022.{message.name[:4]}", f"{underscored}.models")
    found = getattr(module, message.name.replace(".", "").capitalize())
    meta = type("Meta", (), {"name": "Document", "namespace": message.namespace})
    return dataclasses.dataclass(type("Document", (found,), {"Meta": meta, "__module__": found.__module__}))


def _models(package: str, module: str) -> ModuleType:
    """A module of a package without the package's own import, which would load all its messages: 5 s instead of half one."""
    if package in sys.modules:
        return importlib.import_module(f"{package}.{module}")
    root = importlib.import_module(package.rpartition(".")[0])
    bare = ModuleType(package)
    bare.__path__ = [f"{root.__path__[0]}/{package.rpartition('.')[2]}"]
    sys.modules[package] = bare
    try:
        return importlib.import_module(f"{package}.{module}")
    finally:
        del sys.modules[package]
