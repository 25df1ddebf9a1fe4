"""The anchor service on a real broker and a real chain that drops, reorganises, prices out and restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from prometheus_client import REGISTRY
from web3 import HTTPProvider, Web3

from anchor.account import AnchorAccount, create_account_file
from anchor.contract import INTERFACE, origin_id
from anchor.core import Policy, TreeHead
from anchor.deployment import deploy
from anchor.endpoints import Endpoints
from anchor.events import AnchorEvents, read_history
from anchor.evm import EvmChain
from anchor.service import (
    ALARM,
    CHAIN_AWAY,
    CHAIN_BACK,
    CHECKPOINT_REFUSED,
    REFUSED,
    AnchorService,
)
from anchor.source import CheckpointSource
from anchor.verify import verify_anchor
from deploy.anvil import Anvil
from deploy.folder import StackFolder
from deploy.kafka import Kafka
from parley.checkpoint import Checkpoint, sign_checkpoint
from parley.keys import SigningKey
from parley.note import NoteSigner
from parley.schemas import AnchorEvent, Hash
from streams.catalogue import Role
from streams.connection import KafkaConnection
from streams.errors import FencedError
from streams.provisioning import Provisioner, User

CHAIN_ID = 31337
CHAIN = f"eip155:{CHAIN_ID}"
ORIGIN = "parley.example/log"
GWEI = 10**9
PATIENCE = 60.0
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def connection(kafka: Kafka) -> KafkaConnection:
    """The anchor's own user, with no more permissions than in a stack."""
    provisioner = Provisioner(kafka.admin)
    provisioner.provision_topics(1)
    provisioner.provision_users([User("anchor", Role.ANCHOR, "anchor-password")])
    return KafkaConnection(kafka.bootstrap, "anchor", "anchor-password")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    """A chain for these tests alone, for they reorganise it; it mines when told to."""
    with Anvil(StackFolder(tmp_path_factory.mktemp("chain"))) as anvil:
        anvil.call("evm_setIntervalMining", 0)
        yield anvil


@dataclass
class Log:
    """A log as the block builder leaves it on disk: nothing but a signed checkpoint."""

    checkpoint: Path
    signer: NoteSigner = field(default_factory=lambda: NoteSigner(ORIGIN, SigningKey.generate()))

    def root(self, size: int) -> Hash:
        return Hash(size.to_bytes(32))

    def head(self, size: int) -> TreeHead:
        return TreeHead(size, self.root(size))

    def grow(self, size: int, root: Hash | None = None) -> None:
        note = sign_checkpoint(Checkpoint(ORIGIN, size, root or self.root(size)), self.signer)
        draft = self.checkpoint.with_suffix(".new")
        draft.write_bytes(note)
        draft.replace(self.checkpoint)


@dataclass
class World:
    """One log, one contract, one account; anchoring quickly."""

    anvil: Anvil
    connection: KafkaConnection
    log: Log
    account: AnchorAccount
    contract: str
    folder: Path

    @property
    def web3(self) -> Web3:
        return Web3(HTTPProvider(self.anvil.rpc))

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints([self.anvil.rpc], CHAIN_ID, timeout=5)

    def policy(self) -> Policy:
        return Policy(CHAIN, self.contract, 3, 10, 200, 2, 50, 500 * GWEI)

    def service(
        self,
        *,
        endpoints: Endpoints | None = None,
        contract: str | None = None,
        account: AnchorAccount | None = None,
    ) -> AnchorService:
        address = contract or self.contract
        return AnchorService(
            Policy(CHAIN, address, 3, 10, 200, 2, 50, 500 * GWEI),
            EvmChain(endpoints or self.endpoints, address, ORIGIN, account or self.account),
            CheckpointSource(str(self.log.checkpoint), self.log.signer.verifier_key),
            lambda: AnchorEvents(self.connection, CHAIN, address),
        )

    def events(self) -> list[AnchorEvent]:
        """What stands on the topic about this contract."""
        return read_history(self.connection, CHAIN, self.contract)

    def told(self, size: int) -> list[str]:
        return [event.state for event in self.events() if event.log_size == size]

    def mine(self, blocks: int = 1) -> None:
        self.anvil.call("anvil_mine", hex(blocks))

    def anchored_sizes(self) -> list[int]:
        """The sizes that the chain's events name, oldest first."""
        contract = self.web3.eth.contract(address=Web3.to_checksum_address(self.contract), abi=INTERFACE)
        logs = contract.events.Anchored().get_logs(
            from_block=0, argument_filters={"origin": origin_id(ORIGIN)}
        )
        return [entry["args"]["size"] for entry in logs]

    def mined(self) -> int:
        """How many transactions of the account are on the chain, the contract's deployment aside."""
        return self.web3.eth.get_transaction_count(Web3.to_checksum_address(self.account.address)) - 1

    def until(
        self, service: AnchorService, reached: Callable[[], bool], each_turn: Callable[[], None] | None = None
    ) -> None:
        """Take turns, and let the chain mine, until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, f"not reached in {PATIENCE} s: {service.state}"
            service.turn(0.0)
            (each_turn or self.mine)()

    def until_final(self, service: AnchorService, size: int) -> None:
        self.until(service, lambda: service.state.final is not None and service.state.final.head.size == size)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "checkpoint")


@pytest.fixture
def world(chain: Anvil, connection: KafkaConnection, log: Log, tmp_path: Path) -> Iterator[World]:
    account = create_account_file(tmp_path / "account.key")
    chain.fund(account.address, 10**18)
    chain.call("evm_setAutomine", True)
    contract = deploy(Endpoints([chain.rpc], CHAIN_ID, timeout=5), account)
    chain.call("evm_setAutomine", False)
    yield World(chain, connection, log, account, contract, tmp_path)
    chain.call("anvil_dropAllTransactions")


class TestAnchoring:
    def test_a_checkpoint_becomes_final_and_an_auditor_finds_it(self, world: World) -> None:
        world.log.grow(5)
        service = world.service()
        world.until_final(service, 5)
        assert world.told(5) == ["SUBMITTED", "CONFIRMED", "CONFIRMED", "FINAL"]
        event = world.events()[-1]
        found = verify_anchor(world.endpoints, world.contract, ORIGIN, world.log.head(5))
        assert found.transaction_hash == event.transaction_hash
        assert (found.block_number, found.block_hash) == (event.block_number, event.block_hash)
        assert found.confirmations >= event.confirmations == 3

    def test_the_metrics_tell_how_far_behind_what_is_final_is(self, world: World) -> None:
        world.log.grow(5)
        service = world.service()
        service.turn(0.0)
        assert REGISTRY.get_sample_value("parley_anchor_lag_entries") == 5
        world.until_final(service, 5)
        assert REGISTRY.get_sample_value("parley_anchor_lag_entries") == 0
        assert REGISTRY.get_sample_value("parley_anchor_lag_seconds") == 0
        assert REGISTRY.get_sample_value("parley_anchor_final_size") == 5
        assert REGISTRY.get_sample_value("parley_anchor_chain_up") == 1

    def test_each_growth_is_anchored_once_and_in_order(self, world: World) -> None:
        service = world.service()
        for size in (3, 8, 21):
            world.log.grow(size)
            world.until_final(service, size)
        assert world.anchored_sizes() == [3, 8, 21]
        assert world.mined() == 3

    def test_what_is_anchored_is_the_newest_not_each(self, world: World) -> None:
        world.log.grow(3)
        service = world.service()
        service.turn(0.0)
        world.log.grow(4)
        world.log.grow(5)
        world.until_final(service, 5)
        assert world.anchored_sizes() == [3, 5]

    def test_an_empty_log_is_left_alone(self, world: World) -> None:
        service = world.service()
        service.turn(0.0)
        assert service.state.outstanding is None

    def test_a_restart_goes_on_without_anchoring_again(self, world: World) -> None:
        world.log.grow(5)
        first = world.service()
        first.turn(0.0)
        second = world.service()
        world.until_final(second, 5)
        third = world.service()
        for _ in range(5):
            third.turn(0.0)
            world.mine()
        assert world.mined() == 1
        assert world.told(5) == ["SUBMITTED", "CONFIRMED", "CONFIRMED", "FINAL"]

    def test_a_second_process_takes_over_and_the_first_stops(self, world: World) -> None:
        world.log.grow(5)
        first = world.service()
        second = world.service()
        with pytest.raises(FencedError):
            first.turn(0.0)
        world.until_final(second, 5)
        assert world.mined() == 1

    def test_lost_events_do_not_anchor_twice(self, world: World) -> None:
        world.log.grow(5)
        world.until_final(world.service(), 5)
        amnesiac = world.service(contract=world.contract.lower())  # finds no events under this spelling
        world.until_final(amnesiac, 5)
        assert world.mined() == 1


class TestCrashes:
    def start(self, world: World, **variables: str) -> subprocess.Popen[bytes]:
        folder = world.folder
        (folder / "log.vkey").write_text(f"{world.log.signer.verifier_key}\n")
        (folder / "kafka.password").write_text("anchor-password")
        settings = {
            "KAFKA_BOOTSTRAP": world.connection.bootstrap,
            "KAFKA_USERNAME": "anchor",
            "KAFKA_PASSWORD_FILE": str(folder / "kafka.password"),
            "CHECKPOINT": str(world.log.checkpoint),
            "LOG_KEY_FILE": str(folder / "log.vkey"),
            "CHAIN": CHAIN,
            "RPC": f"{NOWHERE} {world.anvil.rpc}",
            "CONTRACT": world.contract,
            "KEY_FILE": str(folder / "account.key"),
            "INTERVAL": "0.1",
            "POLL": "0.1",
        }
        environment = (
            os.environ | {f"PARLEY_ANCHOR_{key}": value for key, value in settings.items()} | variables
        )
        with (folder / "anchor.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "anchor"], env=environment, stdout=output, stderr=output
            )

    @pytest.mark.parametrize(
        "place",
        ["anchor.signed", "stream.committing", "stream.committed", "anchor.published", "anchor.broadcast"],
    )
    def test_killed_anywhere_each_size_is_anchored_once(self, world: World, place: str) -> None:
        world.log.grow(5)
        killed = self.start(world, PARLEY_CRASH_AT=place)
        assert killed.wait(PATIENCE) == -signal.SIGKILL
        process = self.start(world)
        try:
            deadline = time.monotonic() + PATIENCE
            while "FINAL" not in world.told(5):
                assert time.monotonic() < deadline, (world.folder / "anchor.log").read_text()
                world.mine()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                    pytest.fail((world.folder / "anchor.log").read_text())
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0
        assert world.anchored_sizes() == [5]
        assert world.mined() == 1
        published = {event.transaction_hash for event in world.events()}
        if place != "anchor.signed":
            assert len(published) == 1


class TestTroubleOnTheChain:
    def test_a_transaction_that_nodes_forgot_is_sent_again(self, world: World) -> None:
        world.log.grow(5)
        service = world.service()
        service.turn(0.0)
        assert service.state.outstanding is not None
        sent = service.state.outstanding.attempts[0]
        world.anvil.call("anvil_dropTransaction", f"0x{sent.transaction_hash.hex()}")
        world.until_final(service, 5)
        assert service.state.final is not None
        assert service.state.final.mined.transaction_hash == sent.transaction_hash

    def test_a_stuck_transaction_is_replaced_at_a_higher_price(self, world: World) -> None:
        world.log.grow(5)
        service = world.service()
        service.turn(0.0)
        assert service.state.outstanding is not None
        price = 3 * service.state.outstanding.attempts[0].fees.max_fee

        def dear_block() -> None:
            world.anvil.call("anvil_setNextBlockBaseFeePerGas", hex(price))
            world.mine()

        def replaced() -> bool:
            outstanding = service.state.outstanding
            return outstanding is not None and len(outstanding.attempts) > 1

        world.until(service, replaced, dear_block)
        world.until_final(service, 5)
        assert world.anchored_sizes() == [5]
        assert world.mined() == 1
        assert world.told(5)[:2] == ["SUBMITTED", "SUBMITTED"]
        raw = [event.raw_transaction or b"" for event in world.events() if event.state == "SUBMITTED"]
        fees = [signed.fees for signed in map(world.account.recognise, raw) if signed is not None]
        assert fees[1].max_fee >= fees[0].max_fee * 9 / 8
        assert fees[1].priority_fee >= fees[0].priority_fee * 9 / 8

    def test_a_reorganisation_is_told_and_healed(self, world: World) -> None:
        world.log.grow(5)
        service = world.service()
        world.until(service, lambda: "CONFIRMED" in world.told(5))
        world.anvil.call("anvil_reorg", 2, [])
        world.until_final(service, 5)
        told = world.told(5)
        assert told[0] == "SUBMITTED"
        assert "REORGANISED" in told
        assert told[-1] == "FINAL"
        assert world.anchored_sizes() == [5]
        assert world.mined() == 1

    def test_a_chain_that_went_back_behind_what_was_final_is_anchored_again(self, world: World) -> None:
        snapshot = world.anvil.call("evm_snapshot")
        world.log.grow(5)
        service = world.service()
        world.until_final(service, 5)
        world.anvil.call("evm_revert", snapshot)
        with structlog.testing.capture_logs() as logs:
            world.until(service, lambda: "REORGANISED" in world.told(5))
            world.until_final(service, 5)
        assert any(entry["event"] == ALARM and entry["kind"] == "FINAL_LOST" for entry in logs)
        assert world.anchored_sizes() == [5]

    def test_a_nonce_used_by_someone_else_is_a_failure_that_heals(self, world: World) -> None:
        world.log.grow(5)
        service = world.service()
        service.turn(0.0)
        world.anvil.call("anvil_dropAllTransactions")
        nonce = world.mined() + 1
        world.anvil.call("anvil_setNonce", world.account.address, hex(nonce + 1))
        world.until_final(service, 5)
        assert world.told(5)[:3] == ["SUBMITTED", "FAILED", "SUBMITTED"]
        assert world.anchored_sizes() == [5]

    def test_a_chain_that_is_away_is_waited_for(self, world: World) -> None:
        world.log.grow(5)
        endpoints = Endpoints([NOWHERE], CHAIN_ID, timeout=1)
        service = world.service(endpoints=endpoints)
        with structlog.testing.capture_logs() as logs:
            pauses = [service.turn(1.0) for _ in range(8)]
            endpoints._endpoints[:] = world.endpoints._endpoints
            service.turn(1.0)
        assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
        assert [entry["event"] for entry in logs if entry["event"].startswith("anchor.chain")] == [
            CHAIN_AWAY,
            CHAIN_BACK,
        ]
        world.until_final(service, 5)

    def test_a_chain_restarted_from_its_disk_still_proves_its_anchors(
        self, connection: KafkaConnection, tmp_path: Path
    ) -> None:
        folder = StackFolder(tmp_path / "stack")
        log = Log(tmp_path / "checkpoint")
        account = create_account_file(tmp_path / "account.key")
        with Anvil(folder) as anvil:
            anvil.fund(account.address, 10**18)
            endpoints = Endpoints([anvil.rpc], CHAIN_ID, timeout=5)
            world = World(anvil, connection, log, account, deploy(endpoints, account), tmp_path)
            log.grow(5)
            world.until_final(world.service(), 5)
        with Anvil(folder) as anvil:
            world = World(anvil, connection, log, account, world.contract, tmp_path)
            service = world.service()
            service.turn(0.0)
            assert verify_anchor(world.endpoints, world.contract, ORIGIN, log.head(5)).confirmations >= 3
            log.grow(9)
            world.until_final(service, 9)
            assert world.mined() == 2


class TestRefusing:
    def refused(self, service: AnchorService) -> list[str]:
        with structlog.testing.capture_logs() as logs:
            service.turn(0.0)
            service.turn(0.0)
        assert service.state.outstanding is None
        return [f"{entry['event']} {entry['detail']}" for entry in logs if entry["log_level"] == "error"]

    def test_a_checkpoint_that_another_key_signed(self, world: World) -> None:
        service = world.service()
        Log(world.log.checkpoint).grow(5)
        (told,) = self.refused(service)
        assert told.startswith(CHECKPOINT_REFUSED)

    def test_a_checkpoint_smaller_than_what_is_anchored(self, world: World) -> None:
        world.log.grow(5)
        world.until_final(world.service(), 5)
        world.log.grow(4)
        (told,) = self.refused(world.service())
        assert told.startswith(ALARM)
        assert "must never shrink" in told
        assert world.anchored_sizes() == [5]

    def test_a_checkpoint_with_another_root_than_is_anchored(self, world: World) -> None:
        world.log.grow(5)
        world.until_final(world.service(), 5)
        world.log.grow(5, Hash(b"\x66" * 32))
        (told,) = self.refused(world.service())
        assert told.startswith(ALARM)
        assert "who signed both" in told

    def test_a_contract_that_is_not_there(self, world: World) -> None:
        world.log.grow(5)
        (told,) = self.refused(world.service(contract="0x00000000000000000000000000000000000000AA"))
        assert "no anchor contract" in told

    def test_another_chain_than_the_settings_name(self, world: World) -> None:
        world.log.grow(5)
        (told,) = self.refused(world.service(endpoints=Endpoints([world.anvil.rpc], 1, timeout=5)))
        assert "serves chain 31337, not 1" in told

    def test_an_account_that_does_not_own_the_contract(self, world: World) -> None:
        world.log.grow(5)
        (told,) = self.refused(world.service(account=AnchorAccount(b"\x01" * 32)))
        assert told.startswith(REFUSED)
        assert "only the owner anchors" in told

    def test_an_account_without_funds_until_it_has_some(self, world: World) -> None:
        world.log.grow(5)
        service = world.service()
        world.anvil.fund(world.account.address, 0)
        (told,) = self.refused(service)
        assert "has 0 wei" in told
        world.anvil.fund(world.account.address, 10**18)
        world.until_final(service, 5)
