"""Ed25519 keys that stay in a hardware module, used through PKCS #11; which key, ``parley.pkcs11_uri`` says.

"Base" is PKCS #11 Base Specification v3.0, "Mechanisms" its Current Mechanisms Specification v3.0.

1. One lock for each module: it is initialised without locking callbacks, so that calls must not overlap (Base §5.4,
   C_Initialize).
2. One session for each token, logged in once: a login holds for the whole process (Base §5.6, C_Login).
3. Handles mean nothing after C_Initialize, and may then stand for another key; each initialisation is a generation,
   and a key of an older one is looked up anew before it signs. A forked child initialises for itself (Base §5.4).
4. A key is believed only after it signed a random challenge that libsodium verifies under its public half, and only
   if the token says that it cannot be read out (Base §4.9, CKA_SENSITIVE and CKA_EXTRACTABLE).
5. A refused PIN is not tried again, nor is one try left used up: tokens lock.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Any, Final, NamedTuple

from parley.errors import (
    HardwareError,
    NoModuleError,
    NoTokenError,
    NoTokenKeyError,
    PinError,
)
from parley.keys import key_id, verify
from parley.pkcs11_uri import TokenKey
from parley.private_files import read_private
from parley.schemas import KeyId

try:
    import pkcs11
    from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, TokenFlag
except ImportError as error:
    raise NoModuleError(
        "keys in a hardware module need one more package; install it with: pip install 'parley-ledger[hardware]'"
    ) from error

__all__ = ["HardwareKey", "ListedKey", "list_keys", "public_point", "require_tries"]

_EDWARDS25519: Final = b"\x13\x0cedwards25519"
"""CKA_EC_PARAMS: the curve's name as a DER PrintableString (Mechanisms §2.3.5)."""
_POINT_HEADER: Final = b"\x04\x20"
"""Of CKA_EC_POINT: a DER OCTET STRING of 32 bytes (Mechanisms §2.3.5); later versions have the bare 32 bytes."""
_CHALLENGE: Final = b"parley hardware key self-test\0"
_PIN_LENGTH: Final = 256

_LOST: Final = (
    pkcs11.DeviceError,
    pkcs11.DeviceRemoved,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.TokenNotPresent,
    pkcs11.UserNotLoggedIn,
)
"""What a module says when token, session or handles are gone: worth one new beginning."""
_PIN_REFUSED: Final = (
    pkcs11.PinExpired,
    pkcs11.PinIncorrect,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.PinLocked,
    pkcs11.UserPinNotInitialized,
)


class ListedKey(NamedTuple):
    """An Ed25519 key in a token."""

    label: str
    token_id: bytes
    """CKA_ID."""
    public: bytes
    """32 bytes."""

    @property
    def id(self) -> KeyId:
        """The id under which the ledger knows it, 16 bytes."""
        return key_id(self.public)


class HardwareKey:
    """A signing key in a token (a `parley.custody.Signatory`). Safe between threads; a forked child may use it too."""

    __slots__ = ("_generation", "_module", "_private", "id", "public", "reference")

    def __init__(self, reference: TokenKey, module: _Module) -> None:
        """Not for callers, who ``open`` or ``generate`` one."""
        self.reference: TokenKey = reference
        self._module = module
        self._private, self.public = _try_out(reference, module)
        self._generation = module.generation
        self.id: KeyId = key_id(self.public)

    @classmethod
    def open(cls, reference: TokenKey) -> HardwareKey:
        """The key that a reference names, tried out.

        Raises:
            NoModuleError: the module cannot be loaded.
            NoTokenError: no token, or more than one, fits.
            PinError: the PIN is missing or refused.
            NoTokenKeyError: no key, or more than one, fits, or it is not one to sign with.
            HardwareError: the module answered something else.

        """
        module = _module(reference.module)
        with module.lock, _told(reference):
            return cls(reference, module)

    @classmethod
    def generate(cls, reference: TokenKey) -> HardwareKey:
        """A new key, made in the token, never to leave it; under the label and id of the reference.

        Raises:
            NoTokenKeyError: no label is named, or one of this label or id is there already.
            HardwareError: as ``open``.

        """
        if not reference.label:
            raise NoTokenKeyError("a new key needs a name: say object=… in the URI")
        module = _module(reference.module)
        with module.lock, _told(reference):
            session = module.session(reference)
            taken: list[dict[Attribute, Any]] = [{Attribute.LABEL: reference.label}]
            taken += [] if reference.id is None else [{Attribute.ID: reference.id}]
            if any(next(iter(_objects(session, ObjectClass.PRIVATE_KEY, each)), None) for each in taken):
                raise NoTokenKeyError(f"{reference}: is there already; choose another object and id")
            identity = secrets.token_bytes(8) if reference.id is None else reference.id
            with session.token.open(rw=True) as writing:  # the login holds for it too
                writing.create_domain_parameters(
                    KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: _EDWARDS25519}, local=True
                ).generate_keypair(
                    mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,  # Mechanisms §2.3.10
                    store=True,
                    id=identity,
                    label=reference.label,
                    private_template={
                        Attribute.SENSITIVE: True,
                        Attribute.EXTRACTABLE: False,
                        Attribute.PRIVATE: True,
                        Attribute.SIGN: True,
                    },
                )
            return cls(reference._replace(id=identity), module)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of ``message`` (Mechanisms §2.3.14, CKM_EDDSA without parameters).

        Where session or token are lost, both are opened anew, once.

        Raises:
            NoTokenError, PinError, NoTokenKeyError: the token did not come back as it was.
            HardwareError: the module refused for another reason.

        """
        with self._module.lock, _told(self.reference):
            if self._generation == self._module.generation:
                try:
                    return _signed(self._private, message)
                except _LOST:
                    self._module.start_over()
            private, public = _try_out(self.reference, self._module)
            if public != self.public:
                raise NoTokenKeyError(
                    f"{self.reference}: another key is there now; put the token back, or start again with the new key"
                )
            self._private, self._generation = private, self._module.generation
            return _signed(private, message)

    def __repr__(self) -> str:
        return f"HardwareKey({self.id.hex()})"


def list_keys(reference: TokenKey) -> tuple[ListedKey, ...]:
    """The Ed25519 keys of a token, by label; those whose public half it does not show are left out.

    Raises:
        HardwareError: as ``HardwareKey.open``.

    """
    module = _module(reference.module)
    with module.lock, _told(reference):
        session = module.session(reference)
        found = []
        for private in _objects(session, ObjectClass.PRIVATE_KEY, {Attribute.KEY_TYPE: KeyType.EC_EDWARDS}):
            with suppress(NoTokenKeyError):
                public = _public_half(private, reference)
                found.append(ListedKey(private[Attribute.LABEL], private[Attribute.ID], public))
        return tuple(sorted(found))


def public_point(encoded: bytes) -> bytes:
    """The public key (32 bytes) in a CKA_EC_POINT: a DER OCTET STRING, or bare as later versions of the specification have it.

    Raises:
        NoTokenKeyError: it is neither.

    """
    point = encoded.removeprefix(_POINT_HEADER) if len(encoded) == 34 else encoded
    if len(point) != 32:
        raise NoTokenKeyError(f"the token's public key is not an Ed25519 point: {len(encoded)} bytes")
    return point


def require_tries(flags: TokenFlag) -> None:
    """Refuse to log in where a wrong PIN would lock the token, or it is locked (Base §3.2, CK_TOKEN_INFO).

    Raises:
        PinError: no try, or only one, is left.

    """
    if flags & TokenFlag.USER_PIN_LOCKED:
        raise PinError("the token is locked after too many wrong PINs; its security officer must unlock it")
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise PinError(
            "one try is left before the token locks, and it is not used up here;"
            " log in once with the vendor's tool and the right PIN, which resets the count"
        )


class _Module:
    """A loaded library: its lock, its sessions, and how often it was initialised."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = RLock()
        self.generation = 0
        self._sessions: dict[bytes, pkcs11.Session] = {}
        self._refused: set[bytes] = set()
        self._current = True

    def start_over(self) -> None:
        """Initialise the library again; what was opened before is gone."""
        self.forget()
        self._library()

    def forget(self) -> None:
        """Take everything opened so far for lost; the library is initialised when it is used next."""
        self.generation += 1
        self._sessions.clear()
        self._current = False

    def session(self, reference: TokenKey) -> pkcs11.Session:
        """The session of the token that fits, logged in."""
        token = self._token(reference)
        session = self._sessions.get(token.serial)
        if session is None:
            session = self._sessions[token.serial] = self._log_in(token, reference)
        return session

    def _library(self) -> Any:
        if not self._current:
            with suppress(pkcs11.PKCS11Error):  # it may be gone already, in a forked child or with the token
                pkcs11.lib(str(self.path)).finalize()
            self._current = True
        try:
            return pkcs11.lib(str(self.path))
        except pkcs11.PKCS11Error as error:
            self._current = False
            if self.path.exists():
                why = f"cannot be used ({str(error) or type(error).__name__}); check its own settings"
            else:
                why = "is not there; install it, or mend module-path"
            raise NoModuleError(f"the PKCS #11 module {self.path} {why}") from error

    def _token(self, reference: TokenKey) -> pkcs11.Token:
        wanted = {
            "label": reference.token,
            "serial": None if reference.serial is None else reference.serial.encode(),
            "manufacturer_id": reference.manufacturer,
            "model": reference.model,
        }
        tokens: list[pkcs11.Token] = [
            slot.get_token() for slot in self._library().get_slots(token_present=True)
        ]
        fitting = [
            token
            for token in tokens
            if token.flags & TokenFlag.TOKEN_INITIALIZED
            and all(value is None or getattr(token, name) == value for name, value in wanted.items())
        ]
        if len(fitting) != 1:
            self.forget()  # some modules look for tokens only when they are initialised
            there = ", ".join(sorted(token.label for token in tokens if token.label)) or "none"
            raise NoTokenError(
                f"{reference}: {'no token fits' if not fitting else 'several tokens fit; name its serial too'};"
                f" there are: {there}. Put it in, or check the URI"
            )
        return fitting[0]

    def _log_in(self, token: pkcs11.Token, reference: TokenKey) -> pkcs11.Session:
        if reference.pin_file is None:
            raise PinError(
                f"{reference}: its PIN is needed; name its file in the URI: ?pin-source=file:/path"
            )
        lines = read_private(reference.pin_file, "PIN file").splitlines()
        pin = lines[0] if lines else b""
        tried = sha256(token.serial + b"\0" + pin).digest()
        if not 0 < len(pin) <= _PIN_LENGTH:
            raise PinError(f"{reference.pin_file}: holds no PIN; write it into the first line")
        if tried in self._refused:
            raise PinError(
                f"{reference}: the PIN was refused before and is not tried again; correct its file"
            )
        require_tries(token.flags)
        try:
            return token.open(user_pin=pin.decode())
        except UnicodeDecodeError:
            raise PinError(f"{reference.pin_file}: the PIN is not UTF-8") from None
        except _PIN_REFUSED as error:
            self._refused.add(tried)
            raise PinError(
                f"{reference}: the PIN is refused ({type(error).__name__}{_tries(token)});"
                " correct its file before the next start, since tokens lock"
            ) from None


_MODULES: Final[dict[Path, _Module]] = {}


def _module(path: Path) -> _Module:
    """The one of this library: a process loads it once, whoever asks."""
    path = path.resolve()
    return _MODULES.setdefault(path, _Module(path))


def _begin_in_child() -> None:
    """A forked child has the parent's handles, which are not its own, and locks that nobody may ever release."""
    for module in _MODULES.values():
        module.lock = RLock()
        module.forget()


os.register_at_fork(after_in_child=_begin_in_child)


@contextmanager
def _told(reference: TokenKey) -> Iterator[None]:
    """Turns what a module answers into our errors."""
    try:
        yield
    except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised, pkcs11.DeviceRemoved) as error:
        raise NoTokenError(f"{reference}: the token is gone ({type(error).__name__}); put it back") from error
    except pkcs11.PKCS11Error as error:
        raise HardwareError(
            f"{reference}: the module answered {type(error).__name__}{f' ({error})' if str(error) else ''};"
            " check the token with its vendor's tool"
        ) from error


def _try_out(reference: TokenKey, module: _Module) -> tuple[Any, bytes]:
    """The private key that is meant, and its public half, which it is shown to belong to."""
    private = _private_key(module.session(reference), reference)
    public = _public_half(private, reference)
    challenge = _CHALLENGE + secrets.token_bytes(32)
    if not verify(public, challenge, _signed(private, challenge)):
        raise NoTokenKeyError(
            f"{reference}: its signature does not verify under the public key beside it;"
            " it is no Ed25519 key, or the public one belongs to another"
        )
    return private, public


def _signed(private: Any, message: bytes) -> bytes:
    return bytes(private.sign(message, mechanism=Mechanism.EDDSA))


def _objects(session: pkcs11.Session, kind: ObjectClass, wanted: dict[Attribute, Any]) -> Iterator[Any]:
    return iter(list(session.get_objects({Attribute.CLASS: kind, **wanted})))


def _private_key(session: pkcs11.Session, reference: TokenKey) -> Any:
    wanted: dict[Attribute, Any] = {}
    if reference.label is not None:
        wanted[Attribute.LABEL] = reference.label
    if reference.id is not None:
        wanted[Attribute.ID] = reference.id
    if not wanted:
        raise NoTokenKeyError(f"{reference}: name the key, by object=… or id=… in the URI")
    found = list(_objects(session, ObjectClass.PRIVATE_KEY, wanted))
    if len(found) != 1:
        raise NoTokenKeyError(
            f"{reference}: {'no such key' if not found else 'several keys fit; name its id too'};"
            " `parley keys list --hardware` shows them, `parley keygen --hardware` makes one"
        )
    key = found[0]
    if key.key_type != KeyType.EC_EDWARDS:
        raise NoTokenKeyError(
            f"{reference}: is no Edwards curve key; make one with `parley keygen --hardware`"
        )
    if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
        raise NoTokenKeyError(
            f"{reference}: may be read out of the token; make one that may not with `parley keygen --hardware`"
        )
    return key


def _public_half(private: Any, reference: TokenKey) -> bytes:
    """The public key that bears the private one's CKA_ID (Base §4.9 asks for the same)."""
    wanted = {Attribute.KEY_TYPE: KeyType.EC_EDWARDS, Attribute.ID: private[Attribute.ID]}
    found = list(_objects(private.session, ObjectClass.PUBLIC_KEY, wanted))
    if len(found) != 1:
        raise NoTokenKeyError(
            f"{reference}: the token shows {'no public key' if not found else 'several public keys'} of its id;"
            " keep the one made with it"
        )
    return public_point(found[0][Attribute.EC_POINT])


def _tries(token: pkcs11.Token) -> str:
    """What the token says of tries left, which it need not (Base §3.2, CK_TOKEN_INFO)."""
    flags = token.slot.get_token().flags
    if flags & TokenFlag.USER_PIN_LOCKED:
        return "; it is locked now"
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        return "; one try is left"
    return "; at least one try is used up" if flags & TokenFlag.USER_PIN_COUNT_LOW else ""
