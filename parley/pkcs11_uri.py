"""PKCS #11 URIs (RFC 7512): reading and writing them, and which key one names; no token is touched.

Strict: what the grammar of §2.3 does not allow is refused, and so is what we could not honour. A PIN never
stands in a URI (``pin-value``), which would put it on command lines and in logs; ``pin-source`` names its file.
No error repeats a value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from parley.errors import KeystoreError

__all__ = ["SCHEME", "Attribute", "Pkcs11Uri", "TokenKey", "parse_pkcs11_uri", "token_key"]

SCHEME: Final = "pkcs11:"

_PATH_ATTRIBUTES: Final = frozenset(
    {
        *("token", "manufacturer", "serial", "model"),
        *("object", "type", "id"),
        *("library-manufacturer", "library-version", "library-description"),
        *("slot-manufacturer", "slot-description", "slot-id"),
    }
)
_QUERY_ATTRIBUTES: Final = frozenset({"pin-source", "pin-value", "module-name", "module-path"})
_ENCODED: Final = "%[0-9A-Fa-f]{2}"
_RESERVED: Final = re.escape(":[]@!$'()*+,=")
_PATH_VALUE: Final = re.compile(rf"(?:[A-Za-z0-9\-._~{_RESERVED}&]|{_ENCODED})*", re.ASCII)
_QUERY_VALUE: Final = re.compile(rf"(?:[A-Za-z0-9\-._~{_RESERVED}/?|]|{_ENCODED})*", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_NARROWER: Final = {
    "type": re.compile(r"public|private|cert|secret-key|data", re.ASCII),
    "library-version": re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII),
    "slot-id": re.compile(r"[0-9]+", re.ASCII),
}
_HONOURED: Final = frozenset({"token", "manufacturer", "serial", "model", "object", "type", "id"})
"""Path attributes by which a token or a key is chosen here."""


class Attribute(NamedTuple):
    """One attribute, its value decoded: UTF-8 but for ``id``, which is any bytes."""

    name: str
    value: bytes


class Pkcs11Uri(NamedTuple):
    """A URI taken apart; ``str`` puts it together again."""

    path: tuple[Attribute, ...] = ()
    query: tuple[Attribute, ...] = ()

    def value(self, name: str) -> bytes | None:
        """The value of the first attribute of this name; an empty one is there, and is not ``None``."""
        return next((value for found, value in (*self.path, *self.query) if found == name), None)

    def text(self, name: str) -> str | None:
        """The same as text."""
        value = self.value(name)
        return None if value is None else value.decode()

    def __str__(self) -> str:
        path = ";".join(f"{name}={_encoded(name, value, ':[]@!$()*+,=&')}" for name, value in self.path)
        query = "&".join(f"{name}={_encoded(name, value, ':[]@!$()*+,=/?|')}" for name, value in self.query)
        return f"{SCHEME}{path}?{query}" if self.query else f"{SCHEME}{path}"


class TokenKey(NamedTuple):
    """Which key is meant: the module that reaches the token, what token and key must be like, where the PIN is."""

    module: Path
    """The vendor's library."""
    token: str | None
    serial: str | None
    manufacturer: str | None
    model: str | None
    label: str | None
    """CKA_LABEL of the key."""
    id: bytes | None
    """CKA_ID of the key."""
    pin_file: Path | None
    """Holds the PIN in its first line, for its owner's eyes alone; only needed to log in."""

    def __str__(self) -> str:
        """Token and key, as errors name them."""
        key = self.label if self.label is not None else None if self.id is None else self.id.hex()
        token = self.token if self.token is not None else self.serial
        return f"token {token}" if key is None else f"key {key} in token {token}"


def parse_pkcs11_uri(text: str) -> Pkcs11Uri:
    """Read a URI (RFC 7512 §2.3).

    Raises:
        KeystoreError: it is none; the message names the attribute and repeats no value.

    """
    if text[: len(SCHEME)].lower() != SCHEME:
        raise KeystoreError(
            "a PKCS #11 URI begins with pkcs11:; such as pkcs11:token=parley;object=signing-1"
        )
    path, mark, query = text[len(SCHEME) :].partition("?")
    uri = Pkcs11Uri(
        tuple(_attribute(part, _PATH_VALUE) for part in path.split(";")) if path else (),
        tuple(_attribute(part, _QUERY_VALUE) for part in query.split("&")) if query else (),
    )
    if mark and not query:
        raise _refused("query", "is empty; leave the question mark out")
    path_names = [name for name, _ in uri.path]
    query_names = [name for name, _ in uri.query if name in _QUERY_ATTRIBUTES]  # a vendor's may be repeated
    for names in (path_names, query_names):
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise _refused(twice, "stands there twice; keep one")
    if misplaced := _QUERY_ATTRIBUTES.intersection(path_names):
        raise _refused(min(misplaced), "belongs after the question mark")
    if misplaced := _PATH_ATTRIBUTES.intersection(name for name, _ in uri.query):
        raise _refused(min(misplaced), "belongs before the question mark")
    if {"pin-source", "pin-value"} <= set(query_names):
        raise _refused("pin-value", "and pin-source exclude each other; keep pin-source")
    return uri


def token_key(uri: Pkcs11Uri, folder: Path = Path()) -> TokenKey:
    """Which token, and which key in it, a URI names to us; paths in it are relative to ``folder``.

    Raises:
        KeystoreError: it names no module or no token, carries a PIN, or asks for what is not looked at here.

    """
    asked = {name for name, _ in (*uri.path, *uri.query)}
    if "pin-value" in asked:
        raise _refused(
            "pin-value", "would show the PIN; put it in a file of mode 0600 and name that: pin-source"
        )
    if unknown := asked - _HONOURED - {"pin-source", "module-path"}:
        raise _refused(
            min(unknown), "is not looked at here; name token or serial, object or id, module-path, pin-source"
        )
    if not asked & {"token", "serial"}:
        raise _refused("token", "or serial is missing; say which token is meant")
    if uri.text("type") not in {None, "private"}:
        raise _refused("type", "must be private where a key signs; or leave it out")
    module, source = uri.text("module-path"), uri.text("pin-source")
    if not module:
        raise _refused("module-path", "is missing; name the library that came with the token")
    if source is not None and (source in {"", "file:"} or source.startswith("|")):
        raise _refused("pin-source", "must name a file; commands are not run")
    return TokenKey(
        module=folder / module,
        token=uri.text("token"),
        serial=uri.text("serial"),
        manufacturer=uri.text("manufacturer"),
        model=uri.text("model"),
        label=uri.text("object"),
        id=uri.value("id"),
        pin_file=None if source is None else folder / re.sub(r"^file:(//(?=/))?", "", source),
    )


def _attribute(part: str, allowed: re.Pattern[str]) -> Attribute:
    name, equals, encoded = part.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise KeystoreError(
            "PKCS #11 URI: each attribute is name=value; separate them by ; and, after ?, by &"
        )
    if not allowed.fullmatch(encoded):
        raise _refused(
            name, "has a character that must be percent-encoded, or a percent sign that encodes nothing"
        )
    value = unquote_to_bytes(encoded)
    try:
        text = "" if name == "id" else value.decode()
    except UnicodeDecodeError:
        raise _refused(name, "is not UTF-8") from None
    if "\0" in text:
        raise _refused(name, "holds a zero byte")
    if name in _NARROWER and not _NARROWER[name].fullmatch(text):
        raise _refused(name, "is none of the values that RFC 7512 allows")
    return Attribute(name, value)


def _encoded(name: str, value: bytes, safe: str) -> str:
    """Percent-encoded where needed; the whole of an ``id``, as RFC 7512 §2.3 recommends."""
    return "".join(f"%{byte:02X}" for byte in value) if name == "id" else quote_from_bytes(value, safe)


def _refused(name: str, why: str) -> KeystoreError:
    return KeystoreError(f"PKCS #11 URI: {name} {why}")
