"""JSON objects as the workflows read them: their texts, with an error that names what is missing."""

from __future__ import annotations

from collections.abc import Mapping

from parley.deal import DealMessage
from parley.errors import EncryptionError, MalformedError, ParleyError

__all__ = ["Form", "read_form", "text_of"]

Form = Mapping[str, object]


def read_form(message: DealMessage, error: type[ParleyError]) -> Form:
    """The object that a message holds; raises ``error`` where it holds none, or none that we can read."""
    try:
        value = message.json()
    except (MalformedError, EncryptionError) as unreadable:
        raise error(f"message {message.sequence} by {message.sender}: {unreadable}") from None
    if not isinstance(value, dict):
        raise error(f"message {message.sequence} by {message.sender} is no JSON object; see its content_type")
    return value


def text_of(form: Form, name: str, error: type[ParleyError]) -> str:
    """A text that the object holds by this name; raises ``error`` where it does not."""
    value = form.get(name)
    if not isinstance(value, str) or not value:
        raise error(f"{name!r} is missing or no text; state it")
    return value
