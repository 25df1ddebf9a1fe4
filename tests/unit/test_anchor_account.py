"""The anchoring account: key files, signing, recognising one's own transactions."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st

from anchor.account import AnchorAccount, create_account_file, load_account
from anchor.core import Fees, Signed
from anchor.errors import SigningKeyError

KEY = bytes(range(1, 33))
ADDRESS = Account.from_key(KEY).address
CONTRACT = "0x00000000000000000000000000000000000000AA"


def signed(account: AnchorAccount, nonce: int = 7) -> Signed:
    return account.sign(chain_id=1, nonce=nonce, gas=50_000, fees=Fees(30, 2), data=b"\x01\x02", to=CONTRACT)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "account.key"
    path.touch(mode=0o600)
    path.write_text(f"0x{KEY.hex()}\n")
    return path


class TestKeyFiles:
    def test_hexadecimal_digits_are_a_key(self, key_file: Path) -> None:
        assert load_account(key_file).address == ADDRESS

    def test_a_keystore_opens_with_its_password(self, key_file: Path, tmp_path: Path) -> None:
        password = tmp_path / "password"
        password.touch(mode=0o600)
        password.write_text("horse battery\n")
        key_file.write_text(json.dumps(Account.encrypt(KEY, "horse battery", kdf="pbkdf2", iterations=2)))
        assert load_account(key_file, password).address == ADDRESS
        password.write_text("wrong")
        with pytest.raises(SigningKeyError, match="does not open with the password"):
            load_account(key_file, password)
        with pytest.raises(SigningKeyError, match="name its password's file"):
            load_account(key_file)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_one_that_others_may_read_is_refused(self, key_file: Path, mode: int) -> None:
        key_file.chmod(mode)
        with pytest.raises(SigningKeyError, match="chmod 600"):
            load_account(key_file)

    @pytest.mark.parametrize(
        "content", ["", "0x", "zz" * 32, "00" * 32, "ff" * 32, KEY.hex()[:-2], "{", "{}"]
    )
    def test_what_is_no_key_is_refused_without_being_shown(self, key_file: Path, content: str) -> None:
        key_file.write_text(content)
        with pytest.raises(SigningKeyError) as caught:
            load_account(key_file, key_file)
        assert not content.strip("{}") or content not in str(caught.value)

    def test_a_missing_one_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SigningKeyError, match=r"nothing\.key"):
            load_account(tmp_path / "nothing.key")

    def test_a_new_one_is_private_and_never_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "new.key"
        account = create_account_file(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert load_account(path).address == account.address
        with pytest.raises(SigningKeyError, match="keep the key"):
            create_account_file(path)

    def test_the_key_is_in_no_repr(self, key_file: Path) -> None:
        assert KEY.hex() not in repr(load_account(key_file))


class TestSigning:
    def test_a_transaction_says_what_was_asked(self) -> None:
        transaction = signed(AnchorAccount(KEY))
        fields = TypedTransaction.from_bytes(HexBytes(transaction.raw)).as_dict()
        assert fields["chainId"] == 1
        assert fields["nonce"] == 7
        assert fields["gas"] == 50_000
        assert fields["value"] == 0
        assert bytes(fields["data"]) == b"\x01\x02"
        assert bytes(fields["to"]).hex() == CONTRACT[2:].lower()
        assert Account.recover_transaction(transaction.raw) == ADDRESS

    def test_the_same_order_gives_the_same_bytes(self) -> None:
        assert signed(AnchorAccount(KEY)) == signed(AnchorAccount(KEY))

    def test_its_own_transactions_are_recognised_whole(self) -> None:
        account = AnchorAccount(KEY)
        transaction = signed(account)
        assert account.recognise(transaction.raw) == transaction

    def test_another_account_s_are_not(self) -> None:
        assert AnchorAccount(KEY).recognise(signed(AnchorAccount(b"\x05" * 32)).raw) is None

    @given(st.binary(max_size=200))
    def test_nor_are_other_bytes(self, raw: bytes) -> None:
        assert AnchorAccount(KEY).recognise(raw) is None
