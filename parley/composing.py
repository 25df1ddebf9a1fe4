"""The parts of a message that is to be said: its content as bytes, and whom it is for; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from parley.errors import MalformedError
from parley.schemas import Party

__all__ = ["Content", "content_of", "recipients"]

Content = bytes | str | Mapping[str, object]
"""Bytes as they are, text (UTF-8), or an object to be written as JSON."""


def recipients(
    parties: Sequence[Party], sender: str, to: Iterable[str] | None, known: Mapping[str, str]
) -> tuple[str, ...]:
    """The addresses of the parties named in ``to``, or of all but the sender; raises MalformedError for a stranger.

    ``known`` gives the participants behind sealed addresses, who may be named by either.
    """
    by_name = {party.participant: party.address for party in parties}
    names = [name for name in by_name if name != sender] if to is None else list(to)
    by_name |= {name: text for text, name in known.items() if text in by_name}
    if missing := next((name for name in names if name not in by_name or name == sender), None):
        raise MalformedError(f"{missing} is not another party of this transaction; name its other parties")
    return tuple(by_name[name] for name in names)


def content_of(content: Content, content_type: str | None) -> tuple[bytes, str]:
    """The bytes to send and their media type."""
    if isinstance(content, str):
        return content.encode(), content_type or "text/plain; charset=utf-8"
    if isinstance(content, Mapping):
        try:
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise MalformedError(
                f"the content cannot be written as JSON: {error}; encode it yourself"
            ) from None
        return text.encode(), content_type or "application/json"
    return bytes(content), content_type or "application/octet-stream"
