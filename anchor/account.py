"""The account that anchors: its key read from a file, its transactions signed and read back; it never meets the chain."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from anchor.core import Fees, Signed
from anchor.errors import SigningKeyError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from eth_typing import ChecksumAddress

_LARGEST_FILE: Final = 64 * 1024


class AnchorAccount:
    """Signs with one key. Holds it for the life of the process; it is in no message, log or repr."""

    def __init__(self, key: bytes) -> None:
        """Take a secp256k1 private key, 32 bytes. Raises SigningKeyError if it is not one."""
        try:
            self._account: LocalAccount = Account.from_key(key)
        except Exception:  # noqa: BLE001 - the key libraries' errors may quote the key
            raise SigningKeyError("not a private key: expected 32 bytes below the curve's order") from None

    def __repr__(self) -> str:
        return f"AnchorAccount({self.address})"

    @property
    def address(self) -> ChecksumAddress:
        """The account's address, with its checksum (EIP-55)."""
        return self._account.address

    def sign(self, *, chain_id: int, nonce: int, gas: int, fees: Fees, data: bytes, to: str | None) -> Signed:
        """An EIP-1559 transaction without value, signed; the same arguments give the same bytes.

        ``to`` is the contract called, or ``None`` to create one.
        """
        transaction: dict[str, Any] = {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.priority_fee,
            "value": 0,
            "data": data,
        }
        if to is not None:
            transaction["to"] = to
        signed = self._account.sign_transaction(transaction)
        return Signed(bytes(signed.hash), bytes(signed.raw_transaction), nonce, fees)

    def recognise(self, raw: bytes) -> Signed | None:
        """The transaction in ``raw`` if this account signed it, else ``None``."""
        try:
            sender = Account.recover_transaction(HexBytes(raw))
            fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        except Exception:  # noqa: BLE001 - whatever is wrong with the bytes, they are not ours
            return None
        if sender != self.address:
            return None
        fees = Fees(int(fields["maxFeePerGas"]), int(fields["maxPriorityFeePerGas"]))
        return Signed(keccak(raw), raw, int(fields["nonce"]), fees)


def load_account(key_file: Path, password_file: Path | None = None) -> AnchorAccount:
    """The account whose key is in ``key_file``: 64 hexadecimal digits, or an Ethereum keystore (version 3).

    Raises:
        SigningKeyError: a file is missing, others may read it, the password is wrong, or there is no key in it.

    """
    content = _secret(key_file)
    if not content.lstrip().startswith("{"):
        return AnchorAccount(_unhex(key_file, content))
    if password_file is None:
        raise SigningKeyError(f"{key_file} is an encrypted keystore; name its password's file as well")
    try:
        key = bytes(
            Account.decrypt(cast("dict[str, Any]", json.loads(content)), _secret(password_file).strip())
        )
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise SigningKeyError(
            f"{key_file} does not open with the password in {password_file}: {error}"
        ) from None
    return AnchorAccount(key)


def create_account_file(path: Path) -> AnchorAccount:
    """A new key in a new file that only its owner may read. Raises SigningKeyError if the file exists."""
    account: LocalAccount = Account.create()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(account.key.hex().removeprefix("0x") + "\n")
    except OSError as error:
        raise SigningKeyError(
            f"{path} cannot be written: {error.strerror}; keep the key that is there"
        ) from error
    return AnchorAccount(bytes(account.key))


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise SigningKeyError(f"others may read {path}; run: chmod 600 {path}")
            return file.read(_LARGEST_FILE).decode()
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be read: {error.strerror}; check the setting") from error
    except UnicodeDecodeError:
        raise SigningKeyError(f"{path} holds no key: expected text") from None


def _unhex(path: Path, content: str) -> bytes:
    digits = content.strip().removeprefix("0x")
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise SigningKeyError(f"{path} holds no key: expected 64 hexadecimal digits or a keystore")
    return key
