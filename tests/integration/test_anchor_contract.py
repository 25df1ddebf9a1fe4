"""The anchor contract, its deployment, and the reading of its anchors, on a real EVM node."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.exceptions import ContractLogicError
from web3.types import TxReceipt

from anchor.__main__ import main
from anchor.account import AnchorAccount, create_account_file, load_account
from anchor.contract import INTERFACE, compiled_contract, origin_id
from anchor.core import Fees, TreeHead
from anchor.deployment import deploy, deploy_once
from anchor.endpoints import Endpoints
from anchor.errors import (
    ChainUnreachableError,
    DeploymentError,
    NonceSpentError,
    TransactionError,
    UnderpricedError,
    UnfundedError,
    WrongChainError,
)
from anchor.verify import verify_anchor, verify_contract
from deploy.anvil import Anvil
from parley.errors import ProofError
from parley.schemas import Hash

CHAIN_ID = 31337
ORIGIN = "parley.example/log"
LOG = origin_id(ORIGIN)
NOWHERE = "http://127.0.0.1:1"


def root(size: int) -> Hash:
    return Hash(bytes([size % 255 + 1]) * 32)


@pytest.fixture
def web3(anvil: Anvil) -> Iterator[Web3]:
    """The node, mining each transaction at once; what a test changes of it is undone."""
    anvil.call("evm_setIntervalMining", 0)
    anvil.call("evm_setAutomine", True)
    snapshot = anvil.call("evm_snapshot")
    yield Web3(HTTPProvider(anvil.rpc))
    anvil.call("evm_revert", snapshot)
    anvil.call("evm_setAutomine", False)
    anvil.call("evm_setIntervalMining", 1)


@pytest.fixture
def endpoints(anvil: Anvil) -> Endpoints:
    return Endpoints([anvil.rpc], CHAIN_ID, timeout=5)


@pytest.fixture
def account(anvil: Anvil, web3: Web3, tmp_path: Path) -> AnchorAccount:
    account = create_account_file(tmp_path / "account.key")
    anvil.fund(account.address, 10**18)
    return account


@pytest.fixture
def owner(web3: Web3) -> ChecksumAddress:
    return next(iter(web3.eth.accounts))


@pytest.fixture
def stranger(web3: Web3) -> ChecksumAddress:
    return list(web3.eth.accounts)[1]


@pytest.fixture
def contract(web3: Web3, owner: ChecksumAddress) -> Contract:
    compiled = compiled_contract()
    factory = web3.eth.contract(abi=compiled.interface, bytecode=compiled.deployment_code)
    address = web3.eth.wait_for_transaction_receipt(factory.constructor().transact({"from": owner}))[
        "contractAddress"
    ]
    return cast(Contract, web3.eth.contract(address=address, abi=compiled.interface))


def sent(contract: Contract, sender: str, function: str, *arguments: Any) -> TxReceipt:
    transaction = contract.get_function_by_name(function)(*arguments).transact({"from": sender})
    return contract.w3.eth.wait_for_transaction_receipt(transaction)


class TestRules:
    def test_the_event_tells_log_size_root_and_where_the_one_before_stands(
        self, contract: Contract, owner: ChecksumAddress
    ) -> None:
        first = sent(contract, owner, "anchor", LOG, 5, root(5))
        second = sent(contract, owner, "anchor", LOG, 9, root(9))
        (event,) = contract.events.Anchored().process_receipt(second)
        assert dict(event["args"]) == {
            "origin": LOG,
            "size": 9,
            "root": root(9),
            "previous_size": 5,
            "previous_block": first["blockNumber"],
        }

    def test_latest_is_the_newest_anchor_of_that_log_alone(
        self, contract: Contract, owner: ChecksumAddress
    ) -> None:
        receipt = sent(contract, owner, "anchor", LOG, 5, root(5))
        assert contract.functions.latest(LOG).call() == (5, root(5), receipt["blockNumber"])
        assert contract.functions.latest(origin_id("another.example/log")).call() == (0, bytes(32), 0)

    def test_the_largest_size_fits(self, contract: Contract, owner: ChecksumAddress) -> None:
        receipt = sent(contract, owner, "anchor", LOG, 2**64 - 1, root(1))
        assert contract.functions.latest(LOG).call() == (2**64 - 1, root(1), receipt["blockNumber"])

    @pytest.mark.parametrize("size", [0, 4, 5])
    def test_only_a_growing_size_is_taken(
        self, contract: Contract, owner: ChecksumAddress, size: int
    ) -> None:
        sent(contract, owner, "anchor", LOG, 5, root(5))
        with pytest.raises(ContractLogicError, match="size must grow"):
            sent(contract, owner, "anchor", LOG, size, root(size))

    def test_an_empty_root_is_refused(self, contract: Contract, owner: ChecksumAddress) -> None:
        with pytest.raises(ContractLogicError, match="root is empty"):
            sent(contract, owner, "anchor", LOG, 5, bytes(32))

    def test_only_the_owner_anchors(self, contract: Contract, stranger: ChecksumAddress) -> None:
        with pytest.raises(ContractLogicError, match="only the owner anchors"):
            sent(contract, stranger, "anchor", LOG, 5, root(5))

    def test_it_takes_no_money(self, contract: Contract, owner: ChecksumAddress) -> None:
        with pytest.raises(ContractLogicError):
            contract.w3.eth.estimate_gas({"from": owner, "to": contract.address, "value": 1})  # type: ignore[typeddict-item]


class TestOwnership:
    def test_it_passes_once_the_successor_accepts(
        self, contract: Contract, owner: ChecksumAddress, stranger: ChecksumAddress
    ) -> None:
        sent(contract, owner, "offer_ownership", stranger)
        assert contract.functions.owner().call() == owner
        sent(contract, stranger, "accept_ownership")
        assert contract.functions.owner().call() == stranger
        sent(contract, stranger, "anchor", LOG, 5, root(5))
        with pytest.raises(ContractLogicError, match="only the owner anchors"):
            sent(contract, owner, "anchor", LOG, 6, root(6))

    def test_only_the_owner_offers_it(self, contract: Contract, stranger: ChecksumAddress) -> None:
        with pytest.raises(ContractLogicError, match="only the owner offers"):
            sent(contract, stranger, "offer_ownership", stranger)

    def test_nobody_else_accepts_it(
        self, contract: Contract, owner: ChecksumAddress, stranger: ChecksumAddress
    ) -> None:
        sent(contract, owner, "offer_ownership", stranger)
        with pytest.raises(ContractLogicError, match="only the successor accepts"):
            sent(contract, owner, "accept_ownership")

    def test_an_offer_can_be_taken_back_and_is_used_up(
        self, contract: Contract, owner: ChecksumAddress, stranger: ChecksumAddress
    ) -> None:
        sent(contract, owner, "offer_ownership", stranger)
        sent(contract, owner, "offer_ownership", "0x" + "0" * 40)
        with pytest.raises(ContractLogicError, match="only the successor accepts"):
            sent(contract, stranger, "accept_ownership")
        sent(contract, owner, "offer_ownership", stranger)
        sent(contract, stranger, "accept_ownership")
        with pytest.raises(ContractLogicError, match="only the successor accepts"):
            sent(contract, stranger, "accept_ownership")


class TestCost:
    """The figures that the contract's comment states."""

    def test_the_first_anchor_of_a_log(self, contract: Contract, owner: ChecksumAddress) -> None:
        assert sent(contract, owner, "anchor", LOG, 2**63, root(5))["gasUsed"] <= 71_600

    def test_every_further_one(self, contract: Contract, owner: ChecksumAddress) -> None:
        sent(contract, owner, "anchor", LOG, 5, root(5))
        assert sent(contract, owner, "anchor", LOG, 2**64 - 1, root(9))["gasUsed"] <= 37_400

    def test_deploying(self, web3: Web3, endpoints: Endpoints, account: AnchorAccount) -> None:
        deploy(endpoints, account)
        spent = web3.eth.get_block("latest")["gasUsed"]
        assert spent <= 330_000


class TestInterface:
    def test_what_callers_use_is_part_of_what_the_compiler_says(self) -> None:
        def essence(entry: Any) -> Any:
            if isinstance(entry, dict):
                return {key: essence(value) for key, value in sorted(entry.items())}
            return [essence(value) for value in entry] if isinstance(entry, list) else entry

        compiled = [essence(entry) for entry in compiled_contract().interface]
        assert all(essence(entry) in compiled for entry in INTERFACE)


class TestDeployment:
    def test_a_second_deployment_finds_the_first(
        self, endpoints: Endpoints, account: AnchorAccount, tmp_path: Path
    ) -> None:
        file = tmp_path / "contract"
        address, new = deploy_once(endpoints, account, file)
        assert new
        assert deploy_once(endpoints, account, file) == (address, False)

    def test_a_chain_that_lost_the_contract_gets_it_anew(
        self, endpoints: Endpoints, account: AnchorAccount, tmp_path: Path
    ) -> None:
        file = tmp_path / "contract"
        file.write_text("0x00000000000000000000000000000000000000aa\n")
        address, new = deploy_once(endpoints, account, file)
        assert new
        assert file.read_text() == f"{address}\n"

    def test_other_code_at_the_address_is_never_passed_off_as_ours(
        self, anvil: Anvil, endpoints: Endpoints, account: AnchorAccount, tmp_path: Path
    ) -> None:
        file = tmp_path / "contract"
        address, _ = deploy_once(endpoints, account, file)
        anvil.call("anvil_setCode", address, "0x6001")
        with pytest.raises(DeploymentError, match="other code stands"):
            deploy_once(endpoints, account, file)
        with pytest.raises(ProofError, match="other code"):
            verify_contract(endpoints, address)

    def test_an_account_without_funds_is_told_what_it_needs(
        self, endpoints: Endpoints, tmp_path: Path
    ) -> None:
        with pytest.raises(UnfundedError, match="has 0 wei"):
            deploy(endpoints, create_account_file(tmp_path / "poor.key"))

    def test_the_key_file_is_its_owner_s_alone_and_kept(self, account: AnchorAccount, tmp_path: Path) -> None:
        file = tmp_path / "account.key"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert load_account(file).address == account.address

    def test_the_command_prints_the_address_and_nothing_else(
        self, anvil: Anvil, account: AnchorAccount, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        key, file = str(tmp_path / "account.key"), str(tmp_path / "contract")
        arguments = ["--rpc", anvil.rpc, "--chain", f"eip155:{CHAIN_ID}", "--key-file", key]
        assert main(["deploy", *arguments, "--address-file", file]) == 0
        first = capsys.readouterr()
        assert main(["deploy", *arguments, "--address-file", file]) == 0
        second = capsys.readouterr()
        assert first.out == second.out == Path(file).read_text()
        assert "stood already" in second.err


class TestBroadcasting:
    @pytest.fixture
    def hand_mined(self, anvil: Anvil, web3: Web3) -> None:
        anvil.call("evm_setAutomine", False)

    @staticmethod
    def transaction(account: AnchorAccount, gwei: int, nonce: int = 0) -> bytes:
        fees = Fees(gwei * 10**9, gwei * 10**9)
        to = account.address
        return account.sign(chain_id=CHAIN_ID, nonce=nonce, gas=30_000, fees=fees, data=b"", to=to).raw

    @pytest.mark.usefixtures("hand_mined")
    def test_what_is_there_already_is_no_error(self, endpoints: Endpoints, account: AnchorAccount) -> None:
        raw = self.transaction(account, 10)
        endpoints.broadcast(raw)
        endpoints.broadcast(raw)

    @pytest.mark.usefixtures("hand_mined")
    def test_a_cheaper_rival_of_what_waits_is_underpriced(
        self, endpoints: Endpoints, account: AnchorAccount
    ) -> None:
        endpoints.broadcast(self.transaction(account, 10))
        with pytest.raises(UnderpricedError):
            endpoints.broadcast(self.transaction(account, 9))

    @pytest.mark.usefixtures("hand_mined")
    def test_an_eighth_more_replaces_it(self, endpoints: Endpoints, account: AnchorAccount) -> None:
        endpoints.broadcast(self.transaction(account, 8))
        endpoints.broadcast(self.transaction(account, 9))

    def test_a_nonce_that_is_used_up_is_said_to_be(
        self, endpoints: Endpoints, account: AnchorAccount
    ) -> None:
        endpoints.broadcast(self.transaction(account, 10))
        with pytest.raises(NonceSpentError):
            endpoints.broadcast(self.transaction(account, 20))

    def test_an_account_without_funds_is_told(self, endpoints: Endpoints) -> None:
        with pytest.raises(UnfundedError):
            endpoints.broadcast(self.transaction(AnchorAccount(b"\x02" * 32), 10))

    def test_bytes_that_are_no_transaction_are_refused(self, endpoints: Endpoints) -> None:
        with pytest.raises(TransactionError, match="refused the transaction"):
            endpoints.broadcast(b"\x02\xc0")


class TestEndpoints:
    def test_a_dead_endpoint_is_passed_over_and_not_asked_again(self, anvil: Anvil) -> None:
        endpoints = Endpoints([NOWHERE, anvil.rpc], CHAIN_ID, timeout=5)
        assert endpoints.ask(lambda web3: web3.eth.chain_id) == CHAIN_ID
        assert endpoints.current == anvil.rpc.removeprefix("http://")

    def test_none_answering_is_said_without_showing_keys(self) -> None:
        with pytest.raises(ChainUnreachableError, match=r"127\.0\.0\.1:1") as caught:
            Endpoints([f"{NOWHERE}/v3/secret"], CHAIN_ID, timeout=5).ask(lambda web3: web3.eth.chain_id)
        assert "secret" not in str(caught.value)

    def test_another_chain_is_refused(self, anvil: Anvil) -> None:
        with pytest.raises(WrongChainError, match="serves chain 31337, not 1"):
            Endpoints([anvil.rpc], 1, timeout=5).ask(lambda web3: web3.eth.chain_id)


class TestVerifying:
    @pytest.fixture
    def anchored(self, contract: Contract, owner: ChecksumAddress) -> dict[int, TxReceipt]:
        return {size: sent(contract, owner, "anchor", LOG, size, root(size)) for size in (5, 9, 20)}

    @pytest.mark.parametrize("size", [5, 9, 20])
    @pytest.mark.parametrize("hinted", [True, False])
    def test_every_anchor_is_found_with_its_place(
        self,
        endpoints: Endpoints,
        contract: Contract,
        anchored: dict[int, TxReceipt],
        size: int,
        hinted: bool,
    ) -> None:
        receipt = anchored[size]
        hint = receipt["blockNumber"] if hinted else None
        found = verify_anchor(
            endpoints, contract.address, ORIGIN, TreeHead(size, root(size)), block_number=hint
        )
        assert found.transaction_hash == receipt["transactionHash"]
        assert found.block_number == receipt["blockNumber"]
        assert found.confirmations == anchored[20]["blockNumber"] - receipt["blockNumber"] + 1
        block = contract.w3.eth.get_block(receipt["blockNumber"])
        assert found.mined_at == block["timestamp"] * 1000

    def test_the_command_prints_its_place(
        self,
        anvil: Anvil,
        contract: Contract,
        anchored: dict[int, TxReceipt],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        where = ["--rpc", anvil.rpc, "--chain", f"eip155:{CHAIN_ID}", "--contract", contract.address]
        what = ["--origin", ORIGIN, "--size", "9", "--root"]
        assert main(["verify", *where, *what, root(9).hex()]) == 0
        assert json.loads(capsys.readouterr().out)["block"] == anchored[9]["blockNumber"]
        assert main(["verify", *where, *what, root(10).hex()]) == 1
        assert "two histories" in capsys.readouterr().err

    def test_a_wrong_hint_does_no_harm(
        self, endpoints: Endpoints, contract: Contract, anchored: dict[int, TxReceipt]
    ) -> None:
        found = verify_anchor(endpoints, contract.address, ORIGIN, TreeHead(5, root(5)), block_number=10**9)
        assert found.block_number == anchored[5]["blockNumber"]

    def test_another_root_is_evidence_of_two_histories(
        self, endpoints: Endpoints, contract: Contract, anchored: dict[int, TxReceipt]
    ) -> None:
        with pytest.raises(ProofError, match="two histories"):
            verify_anchor(endpoints, contract.address, ORIGIN, TreeHead(9, root(10)))

    @pytest.mark.parametrize("size", [4, 10, 21])
    def test_a_size_never_anchored_is_said_to_be(
        self, endpoints: Endpoints, contract: Contract, anchored: dict[int, TxReceipt], size: int
    ) -> None:
        with pytest.raises(ProofError, match=f"size {size} is not anchored"):
            verify_anchor(endpoints, contract.address, ORIGIN, TreeHead(size, root(size)))

    def test_another_log_s_anchor_proves_nothing(
        self, endpoints: Endpoints, contract: Contract, anchored: dict[int, TxReceipt]
    ) -> None:
        with pytest.raises(ProofError, match="is not anchored"):
            verify_anchor(endpoints, contract.address, "another.example/log", TreeHead(9, root(9)))

    def test_the_contract_s_code_is_recognised(self, endpoints: Endpoints, contract: Contract) -> None:
        verify_contract(endpoints, contract.address)

    def test_an_address_without_code_is_refused(self, endpoints: Endpoints) -> None:
        empty = to_checksum_address("0x" + "ab" * 20)
        with pytest.raises(ProofError, match="no code"):
            verify_contract(endpoints, empty)
