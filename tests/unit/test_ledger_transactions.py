"""Signed chain transactions read from bytes: what comes out, and what is refused at sight."""

from __future__ import annotations

from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from hypothesis import given, settings
from hypothesis import strategies as st

from anchor.ledger.transactions import UnusableTransactionError, read_transaction
from tests.memory_chain import BASE_FEE, CHAIN_ID, ETHER, GWEI, signed, wallet

ALICE = wallet("alice")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

LEGACY: dict[str, Any] = {
    "type": None,
    "maxFeePerGas": None,
    "maxPriorityFeePerGas": None,
    "gasPrice": 5 * GWEI,
}
ACCESS: dict[str, Any] = LEGACY | {
    "type": 1,
    "accessList": [{"address": wallet("token").address, "storageKeys": ["0x" + "00" * 32, "0x" + "01" * 32]}],
}


def reason(raw: bytes) -> str:
    with pytest.raises(UnusableTransactionError) as told:
        read_transaction(raw)
    return told.value.problem.reason


def changed(raw: bytes, field: int, value: bytes) -> bytes:
    """A transaction of type 2 with another value in one field."""
    items = rlp.decode(raw[1:])
    items[field] = value
    return raw[:1] + bytes(rlp.encode(items))


def test_a_transaction_with_a_base_fee_reads_as_it_was_signed() -> None:
    raw = signed(ALICE, 7, data=b"\0call")
    read = read_transaction(raw)
    assert (read.account, read.hash, read.chain_id, read.nonce) == (ALICE.address, keccak(raw), CHAIN_ID, 7)
    assert (read.to, read.value, read.data) == (wallet("somebody").address, ETHER, b"\0call")
    assert (read.gas, read.max_fee, read.priority_fee) == (21_000, 3 * BASE_FEE, GWEI)
    assert read.cost == ETHER + 21_000 * 3 * BASE_FEE


@pytest.mark.parametrize("changes", [LEGACY, ACCESS], ids=["legacy", "with an access list"])
def test_older_types_read_alike(changes: dict[str, Any]) -> None:
    read = read_transaction(signed(ALICE, 3, **changes))
    assert (read.account, read.chain_id, read.nonce) == (ALICE.address, CHAIN_ID, 3)
    assert read.max_fee == read.priority_fee == 5 * GWEI


def test_one_that_creates_a_contract_pays_nobody() -> None:
    assert read_transaction(signed(ALICE, to=b"", data=b"\x60\0", gas=90_000)).to is None


def test_a_legacy_one_without_a_chain_says_so() -> None:
    assert read_transaction(signed(ALICE, **LEGACY | {"chainId": None})).chain_id is None


few = settings(max_examples=15, deadline=None)  # the curve in Python takes some 20 ms each time


@few
@given(
    st.fixed_dictionaries(
        {
            "nonce": st.integers(0, 2**64 - 2),
            "value": st.integers(0, 2**255),
            "gas": st.integers(21_000, 2**63),
            "maxFeePerGas": st.integers(1, 2**200),
            "data": st.binary(max_size=100),
        }
    )
)
def test_whatever_is_signed_reads_as_the_library_that_signed_it_has_it(fields: dict[str, Any]) -> None:
    raw = signed(ALICE, **fields)
    read, other = read_transaction(raw), TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    assert read.account == Account.recover_transaction(raw)
    assert (read.nonce, read.value, read.gas) == (other["nonce"], other["value"], other["gas"])
    assert (read.max_fee, read.data) == (other["maxFeePerGas"], bytes(other["data"]))


@few
@given(st.data())
def test_a_changed_byte_never_leaves_the_same_signer_and_another_meaning(data: st.DataObject) -> None:
    raw = signed(ALICE, 1, data=b"pay")
    place = data.draw(st.integers(0, len(raw) - 1))
    other = raw[:place] + bytes([raw[place] ^ data.draw(st.integers(1, 255))]) + raw[place + 1 :]
    try:
        read = read_transaction(other)
    except UnusableTransactionError:
        return
    assert read.account != ALICE.address


@given(st.binary(max_size=200))
def test_bytes_that_nobody_signed_are_refused_with_a_reason(raw: bytes) -> None:
    assert reason(raw) in {"UNREADABLE", "UNSUPPORTED", "UNSIGNED", "BAD_SIGNATURE"}


class TestWhatIsRefused:
    def test_no_bytes_at_all(self) -> None:
        assert reason(b"") == "UNREADABLE"

    def test_one_that_is_cut_short(self) -> None:
        assert reason(signed(ALICE)[:-1]) == "UNREADABLE"

    def test_one_with_something_behind_it(self) -> None:
        assert reason(signed(ALICE) + b"\0") == "UNREADABLE"

    def test_an_unsigned_one(self) -> None:
        raw = signed(ALICE)
        assert reason(raw[:1] + rlp.encode(rlp.decode(raw[1:])[:9])) == "UNSIGNED"

    def test_an_unsigned_legacy_one(self) -> None:
        items = rlp.decode(signed(ALICE, **LEGACY))
        assert reason(rlp.encode(items[:6])) == "UNSIGNED"
        assert reason(rlp.encode([*items[:6], CHAIN_ID.to_bytes(2), b"", b""])) == "UNSIGNED"

    def test_types_that_carry_what_cannot_be_shown(self) -> None:
        for kind in (0, 3, 4, 0x7F):
            assert reason(bytes([kind]) + signed(ALICE)[1:]) == "UNSUPPORTED"

    def test_a_signature_in_the_upper_half(self) -> None:
        raw = signed(ALICE)
        items = rlp.decode(raw[1:])
        items[-1] = (ORDER - int.from_bytes(items[-1])).to_bytes(32)
        items[-3] = b"" if items[-3] else b"\1"
        assert Account.recover_transaction(raw[:1] + rlp.encode(items)) == ALICE.address
        assert reason(raw[:1] + rlp.encode(items)) == "BAD_SIGNATURE"

    def test_a_signature_that_is_nobodys(self) -> None:
        assert reason(changed(signed(ALICE), -2, b"\xff" * 32)) == "BAD_SIGNATURE"

    def test_numbers_with_a_leading_zero(self) -> None:
        assert reason(changed(signed(ALICE, 7), 1, b"\0\7")) == "UNREADABLE"

    def test_a_receiver_that_is_no_address(self) -> None:
        assert reason(changed(signed(ALICE), 5, b"\1" * 19)) == "UNREADABLE"

    def test_an_access_list_of_something_else(self) -> None:
        raw = signed(ALICE, **ACCESS)
        for wrong in (b"\1", [b"\1"], [[b"\1" * 20, b"\1"]], [[b"\1" * 19, []]], [[b"\1" * 20, [b"\1"]]]):
            items = rlp.decode(raw[1:])
            items[7] = wrong
            assert reason(raw[:1] + rlp.encode(items)) == "UNREADABLE"


class TestTheLeastGas:
    def test_a_transfer_takes_21000(self) -> None:
        assert read_transaction(signed(ALICE)).least_gas == 21_000

    def test_data_takes_at_least_its_floor(self) -> None:
        assert read_transaction(signed(ALICE, data=b"\0\1")).least_gas == 21_000 + 10 + 40

    def test_a_creation_takes_more(self) -> None:
        assert read_transaction(signed(ALICE, to=b"", data=b"\1")).least_gas == 21_000 + 16 + 32_000 + 2

    def test_an_access_list_is_paid_for(self) -> None:
        assert read_transaction(signed(ALICE, **ACCESS)).least_gas == 21_000 + 2_400 + 2 * 1_900
