"""A signed chain transaction read from its bytes, strictly: what a node would refuse at sight is refused here; asks no chain.

Read are legacy transactions (EIP-155), those with access lists (EIP-2930) and with a base fee (EIP-1559).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple, TypeGuard

import rlp  # type: ignore[import-untyped]
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

from anchor.errors import AnchorError
from parley.workflows.ledger_steps import Problem

__all__ = ["ChainTransaction", "UnusableTransactionError", "read_transaction"]

_TYPED_BELOW: Final = 0x80
"""First bytes below are transaction types (EIP-2718); a legacy transaction begins with an RLP list, 0xc0 or above."""
_EIP_155: Final = 35
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_SIGNATURE_FIELDS: Final = 3
_NAMES: Final = {
    0: ("nonce", "max_fee", "gas", "to", "value", "data"),
    1: ("chain_id", "nonce", "max_fee", "gas", "to", "value", "data", "access_list"),
    2: ("chain_id", "nonce", "priority_fee", "max_fee", "gas", "to", "value", "data", "access_list"),
}
"""The fields of each type that are signed, in order; the signature's three follow."""
_BITS: Final = {"nonce": 64, "gas": 64, "chain_id": 64, "value": 256, "max_fee": 256, "priority_fee": 256}

_Item = bytes | list["_Item"]


class UnusableTransactionError(AnchorError):
    """The bytes are no transaction that could ever be broadcast; ``problem`` says why and what to do."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.problem = Problem(reason, detail)


class ChainTransaction(NamedTuple):
    """A signed transaction. Fees are in wei for each unit of gas."""

    raw: bytes
    hash: bytes
    """Keccak-256 of the bytes, by which the chain knows it."""
    chain_id: int | None
    """``None`` where it names no chain, so that it counts on all."""
    account: str
    """Who signed it: an address, with its checksum (EIP-55)."""
    nonce: int
    to: str | None
    value: int
    data: bytes
    gas: int
    max_fee: int
    priority_fee: int
    least_gas: int
    """What it costs before it does anything; with less gas, no node takes it."""

    @property
    def cost(self) -> int:
        """The most that it can take from its account, in wei."""
        return self.value + self.gas * self.max_fee


@lru_cache(maxsize=4_096)  # recovering the signer takes some 20 ms where the curve is in Python
def read_transaction(raw: bytes) -> ChainTransaction:
    """The transaction in the bytes, and who signed it.

    Raises:
        UnusableTransactionError: UNREADABLE, UNSUPPORTED (a type that is not read here), UNSIGNED or BAD_SIGNATURE.

    """
    kind, items = _split(raw)
    names = _NAMES[kind]
    if len(items) == len(names) or (kind == 0 and _is_unsigned(items)):
        raise UnusableTransactionError(
            "UNSIGNED", "the transaction carries no signature; sign it and attach it again"
        )
    if len(items) != len(names) + _SIGNATURE_FIELDS:
        raise _unreadable(f"it has {len(items)} fields, not {len(names) + _SIGNATURE_FIELDS}")
    fields = dict(zip(names, items, strict=False))
    numbers = {name: _number(fields[name], name, _BITS[name]) for name in names if name in _BITS}
    data, to = fields["data"], fields["to"]
    if not isinstance(data, bytes) or not isinstance(to, bytes) or len(to) not in (0, 20):
        raise _unreadable("its receiver is no address, or its data no bytes")
    addresses, slots = _access_list(fields.get("access_list", []))
    parity, r, s = (_number(item, "signature", 256) for item in items[len(names) :])
    signed = items[: len(names)]
    chain_id = numbers.get("chain_id")
    if kind == 0:
        if parity >= _EIP_155:
            chain_id, parity = divmod(parity - _EIP_155, 2)
            signed += [_minimal(chain_id), b"", b""]
        else:
            parity -= 27
    prefix = bytes([kind]) if kind else b""
    account = _signer(keccak(prefix + rlp.encode(signed)), parity, r, s)
    return ChainTransaction(
        raw=raw,
        hash=keccak(raw),
        chain_id=chain_id,
        account=account,
        nonce=numbers["nonce"],
        to=to_checksum_address(to) if to else None,
        value=numbers["value"],
        data=data,
        gas=numbers["gas"],
        max_fee=numbers["max_fee"],
        priority_fee=numbers.get("priority_fee", numbers["max_fee"]),
        least_gas=_least_gas(data, creates=not to, addresses=addresses, slots=slots),
    )


def _split(raw: bytes) -> tuple[int, list[_Item]]:
    """The transaction's type and fields."""
    kind = raw[0] if raw and raw[0] < _TYPED_BELOW else 0
    if kind not in _NAMES or raw[:1] == b"\0":
        raise UnusableTransactionError(
            "UNSUPPORTED",
            f"transactions of type {kind} are not delivered here; sign one of type 2 (EIP-1559), type 1, or a legacy one",
        )
    try:
        items = rlp.decode(raw[1:] if kind else raw)
    except (RLPException, RecursionError) as error:
        raise _unreadable(f"{error}"[:120]) from None
    if not _is_list(items):
        raise _unreadable("it is no list of fields")
    return kind, items


def _is_list(item: object) -> TypeGuard[list[_Item]]:
    return isinstance(item, list)


def _is_unsigned(items: list[_Item]) -> bool:
    """Whether a legacy transaction ends as EIP-155 has it before signing: chain id, 0, 0."""
    return len(items) == len(_NAMES[0]) + _SIGNATURE_FIELDS and items[-2:] == [b"", b""]


def _number(item: _Item, name: str, bits: int) -> int:
    if not isinstance(item, bytes) or item[:1] == b"\0" or len(item) * 8 > bits:
        raise _unreadable(f"its {name} is no number of up to {bits} bits")
    return int.from_bytes(item)


def _minimal(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _access_list(item: _Item) -> tuple[int, int]:
    """How many addresses and storage slots are announced (EIP-2930)."""
    slots = 0
    if not _is_list(item):
        raise _unreadable("its access list is no list")
    for entry in item:
        if not _is_list(entry) or len(entry) != 2 or not _is_list(entry[1]):
            raise _unreadable("its access list has an entry that is not an address and slots")
        address, keys_there = entry
        if not _is_bytes(address, 20) or not all(_is_bytes(key, 32) for key in keys_there):
            raise _unreadable("its access list names what is no address or no slot")
        slots += len(keys_there)
    return len(item), slots


def _is_bytes(item: object, length: int) -> bool:
    return isinstance(item, bytes) and len(item) == length


def _signer(digest: bytes, parity: int, r: int, s: int) -> str:
    if s > _HALF_ORDER:
        raise UnusableTransactionError(
            "BAD_SIGNATURE",
            "its signature is in the form that chains refuse (EIP-2: s in the upper half); sign it again",
        )
    try:
        public = Signature(vrs=(parity, r, s)).recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError, ValueError):
        raise UnusableTransactionError(
            "BAD_SIGNATURE",
            "its signature is nobody's; sign the transaction again and change nothing after that",
        ) from None
    return str(public.to_checksum_address())


def _least_gas(data: bytes, *, creates: bool, addresses: int, slots: int) -> int:
    """Gas taken before anything is done (Yellow Paper, g0, with EIP-2028, EIP-2930, EIP-3860 and EIP-7623)."""
    zeros = data.count(0)
    others = len(data) - zeros
    words = (len(data) + 31) // 32
    usual = 21_000 + 4 * zeros + 16 * others + 2_400 * addresses + 1_900 * slots
    if creates:
        usual += 32_000 + 2 * words
    return max(usual, 21_000 + 10 * (zeros + 4 * others))


def _unreadable(why: str) -> UnusableTransactionError:
    return UnusableTransactionError(
        "UNREADABLE", f"these bytes are no signed transaction: {why}; attach what your wallet signed, whole"
    )
