"""A profile: the one file that says who we are, where the backbone is and whom to believe; holds no secret itself.

TOML, such as::

    participant = "alpha-bank"
    bootstrap = "kafka.ledger.example:9093"
    registrar = "…"                       # the registrar's public key, 64 hexadecimal digits
    password_file = "kafka.password"      # of the Kafka user
    admission = "…"                       # optional: admission's public encryption key, to join with
    keystore = "alpha-bank.keys"
    keystore_password_file = "keys.password"   # optional: asked for otherwise
    signing_key = "pkcs11:token=…;object=…?module-path=…&pin-source=file:…"   # optional: where it is not in the keystore

Paths are relative to the file. Unknown keys are refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parley.errors import ProfileError

if TYPE_CHECKING:
    from parley.kafka import KafkaAccess

__all__ = ["Profile", "load_profile"]

_REQUIRED: Final = ("participant", "bootstrap", "registrar")
_OPTIONAL: Final = (
    "admission",
    "address",
    "username",
    "password_file",
    "keystore",
    "keystore_password_file",
    "signing_key",
    "security",
    "mechanism",
    "ca_file",
)
_SECURITY: Final = {"SASL_PLAINTEXT", "SASL_SSL"}
_MECHANISMS: Final = {"SCRAM-SHA-256", "SCRAM-SHA-512"}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile file says, its paths made whole."""

    path: Path
    participant: str
    address: str
    bootstrap: str
    registrar: bytes
    """The registrar's public key, 32 bytes: the directory is judged by it."""
    admission: bytes | None
    """Admission's public encryption key, 32 bytes: the password of a new Kafka user is sealed to it."""
    username: str
    password_file: Path | None
    keystore: Path | None
    keystore_password_file: Path | None
    signing_key: str | None
    """Where the signing key is if not in the keystore: a PKCS #11 URI, or a file with its seed."""
    security: str
    mechanism: str
    ca_file: Path | None

    def access(self) -> KafkaAccess:
        """How Kafka is reached.

        Raises:
            ProfileError: there is no password file, or it cannot be read.

        """
        from parley.kafka import KafkaAccess  # noqa: PLC0415  the driver is loaded where it is needed

        if self.password_file is None:
            raise ProfileError(
                f"{self.path} names no password_file; add the one of the Kafka user {self.username}"
            )
        return KafkaAccess(
            self.bootstrap,
            self.username,
            read_password(self.password_file),
            security="SASL_SSL" if self.security == "SASL_SSL" else "SASL_PLAINTEXT",
            mechanism="SCRAM-SHA-512" if self.mechanism == "SCRAM-SHA-512" else "SCRAM-SHA-256",
            ca_file=None if self.ca_file is None else str(self.ca_file),
        )


def read_password(path: Path) -> str:
    """The first line of a password file; raises ProfileError if it cannot be read or is empty."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"the password file {path} cannot be read: {error}") from error
    if not lines or not lines[0]:
        raise ProfileError(f"the password file {path} is empty; write the password in its first line")
    return lines[0]


def load_profile(path: Path) -> Profile:
    """Read a profile file.

    Raises:
        ProfileError: it cannot be read, or a key is missing, unknown or wrong.

    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(
            f"there is no profile {path}; write one, or name it with --profile or PARLEY_PROFILE"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"the profile {path} cannot be read: {error}") from error
    text = _checked(path, values)
    registrar = _public_key(path, "registrar", text["registrar"])
    admission = _public_key(path, "admission", text["admission"]) if "admission" in text else None
    security = text.get("security", "SASL_PLAINTEXT")
    mechanism = text.get("mechanism", "SCRAM-SHA-256")
    if security not in _SECURITY or mechanism not in _MECHANISMS:
        raise ProfileError(
            f"{path}: security is one of {', '.join(sorted(_SECURITY))}, mechanism of {', '.join(sorted(_MECHANISMS))}"
        )

    def file(key: str) -> Path | None:
        return path.parent / text[key] if key in text else None

    return Profile(
        path=path,
        participant=text["participant"],
        address=text.get("address", text["participant"]),
        bootstrap=text["bootstrap"],
        registrar=registrar,
        admission=admission,
        username=text.get("username", text["participant"]),
        password_file=file("password_file"),
        keystore=file("keystore"),
        keystore_password_file=file("keystore_password_file"),
        signing_key=text.get("signing_key"),
        security=security,
        mechanism=mechanism,
        ca_file=file("ca_file"),
    )


def _checked(path: Path, values: Mapping[str, object]) -> dict[str, str]:
    if unknown := sorted(set(values) - {*_REQUIRED, *_OPTIONAL}):
        raise ProfileError(
            f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join((*_REQUIRED, *_OPTIONAL))}"
        )
    if missing := [key for key in _REQUIRED if key not in values]:
        raise ProfileError(f"{path}: the key {missing[0]!r} is missing")
    text = {key: value for key, value in values.items() if isinstance(value, str) and value}
    if wrong := sorted(set(values) - set(text)):
        raise ProfileError(f"{path}: {wrong[0]} must be a text that is not empty")
    return text


def _public_key(path: Path, whose: str, digits: str) -> bytes:
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ProfileError(f"{path}: {whose} must be {whose}'s public key, 64 hexadecimal digits")
    return key
