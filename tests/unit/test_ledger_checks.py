"""What the ledger service finds wrong with what is attached, by one look at the chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from anchor.ledger.checks import Attached, Slot, findings
from anchor.ledger.core import derived_id, landings
from anchor.ledger.transactions import read_transaction
from parley.identifiers import is_transaction_id
from parley.schemas import MessageId, TransactionId
from parley.workflows.ledger_steps import MAXIMUM_BYTES, Problem, Released
from tests.memory_chain import BASE_FEE, CHAIN_ID, ETHER, GWEI, MemoryChain, signed, wallet

ALICE, BOB = wallet("alice"), wallet("bob")
OTHER = TransactionId(b"another deal....")
LEGACY: dict[str, Any] = {
    "type": None,
    "maxFeePerGas": None,
    "maxPriorityFeePerGas": None,
    "gasPrice": 5 * GWEI,
    "chainId": None,
}


@dataclass
class World:
    """A chain, and what alice and bob attach."""

    chain: MemoryChain = field(default_factory=MemoryChain)
    taken: dict[Slot, TransactionId] = field(default_factory=dict)

    def judge(self, alice: list[bytes], bob: list[bytes] | None = None) -> list[list[Problem]]:
        given = [
            Attached(name, MessageId(bytes(32)), tuple(map(read_transaction, raws)), ())
            for name, raws in (("alice", alice), ("bob", bob or []))
        ]
        every = [each for one in given for each in one.transactions]
        look = self.chain.look([each.account for each in every], [each.hash for each in every])
        accounts = {"alice": frozenset({ALICE.address}), "bob": frozenset({BOB.address, ALICE.address})}
        return [list(each.problems) for each in findings(given, accounts, CHAIN_ID, look, self.taken.get)]

    def reasons(self, *alice: bytes) -> list[str]:
        return [problem.reason for problem in self.judge(list(alice))[0]]


@pytest.fixture
def world() -> World:
    made = World()
    made.chain.fund(ALICE, BOB)
    return made


def test_good_transactions_are_found_good(world: World) -> None:
    assert world.judge([signed(ALICE), signed(ALICE, 1)], [signed(BOB)]) == [[], []]


class TestEachFaultHasItsReason:
    def test_another_chain(self, world: World) -> None:
        assert world.reasons(signed(ALICE, chainId=1)) == ["WRONG_CHAIN"]

    def test_a_chain_that_is_not_named(self, world: World) -> None:
        assert world.reasons(signed(ALICE, **LEGACY)) == ["WRONG_CHAIN"]

    def test_an_account_that_is_not_attested_to_the_party(self, world: World) -> None:
        (problem,) = world.judge([signed(BOB)])[0]
        assert problem.reason == "WRONG_SIGNER"
        assert ALICE.address in problem.detail

    def test_one_that_is_mined(self, world: World) -> None:
        world.chain.broadcast(signed(ALICE))
        world.chain.mine()
        (problem,) = world.judge([signed(ALICE)])[0]
        assert problem == Problem("ALREADY_MINED", "it stands in block 11 already; sign a new one")

    def test_one_that_was_broadcast_early(self, world: World) -> None:
        world.chain.broadcast(signed(ALICE))
        assert world.reasons(signed(ALICE)) == ["ALREADY_BROADCAST"]

    def test_a_nonce_that_is_spent(self, world: World) -> None:
        world.chain.broadcast(signed(ALICE, value=1))
        world.chain.mine()
        assert world.reasons(signed(ALICE)) == ["NONCE_SPENT"]

    def test_a_nonce_that_would_wait_for_another(self, world: World) -> None:
        assert world.reasons(signed(ALICE, 1)) == ["NONCE_GAP"]

    def test_a_nonce_that_another_waiting_transaction_has(self, world: World) -> None:
        world.chain.broadcast(signed(ALICE, value=1))
        assert world.reasons(signed(ALICE)) == ["NONCE_TAKEN"]

    def test_a_nonce_that_another_deal_has_released(self, world: World) -> None:
        world.taken[ALICE.address, 0] = OTHER
        assert world.reasons(signed(ALICE)) == ["NONCE_TAKEN"]

    def test_a_nonce_that_stands_twice_in_the_deal(self, world: World) -> None:
        alice, bob = world.judge([signed(ALICE)], [signed(ALICE, value=1)])
        assert (alice, [problem.reason for problem in bob]) == ([], ["NONCE_TAKEN"])

    def test_too_little_gas(self, world: World) -> None:
        assert world.reasons(signed(ALICE, gas=20_999)) == ["GAS_TOO_LOW"]

    def test_more_gas_than_a_block_holds(self, world: World) -> None:
        assert world.reasons(signed(ALICE, gas=30_000_001)) == ["GAS_TOO_HIGH"]

    def test_a_fee_below_the_chains(self, world: World) -> None:
        assert world.reasons(signed(ALICE, maxFeePerGas=BASE_FEE - 1, maxPriorityFeePerGas=1)) == [
            "FEE_TOO_LOW"
        ]

    def test_a_tip_above_the_whole_fee(self, world: World) -> None:
        assert world.reasons(signed(ALICE, maxPriorityFeePerGas=4 * BASE_FEE)) == ["FEE_TOO_LOW"]

    def test_more_than_the_account_has(self, world: World) -> None:
        assert world.reasons(signed(ALICE, value=100 * ETHER)) == ["UNFUNDED"]

    def test_more_together_than_the_account_has(self, world: World) -> None:
        (problem,) = world.judge([signed(ALICE, value=60 * ETHER), signed(ALICE, 1, value=60 * ETHER)])[0]
        assert problem.reason == "UNFUNDED"
        assert problem.detail.startswith("transaction 2 of 2: ")

    def test_more_bytes_than_fit_into_a_report(self, world: World) -> None:
        half = b"\1" * (MAXIMUM_BYTES // 2)
        gas = 21_000 + 40 * len(half)
        alice, bob = world.judge([signed(ALICE, data=half, gas=gas)], [signed(BOB, data=half, gas=gas)])
        assert (alice, [problem.reason for problem in bob]) == ([], ["TOO_LARGE"])


class TestWhatBecomesOfReleasedTransactions:
    RAW = signed(ALICE)
    RELEASED = (Released("alice", read_transaction(RAW).hash, RAW),)

    def outcome(self, world: World, confirmations: int = 1) -> tuple[str, bool, int]:
        world.chain.confirmations = confirmations
        look = world.chain.look([ALICE.address], [self.RELEASED[0].hash])
        (landing,), settled, unseen = landings(self.RELEASED, look, confirmations)
        return landing.outcome, settled, len(unseen)

    def test_what_the_chain_does_not_know_is_broadcast(self, world: World) -> None:
        assert self.outcome(world) == ("NOT_MINED", False, 1)

    def test_what_waits_is_not_broadcast_again(self, world: World) -> None:
        world.chain.broadcast(self.RAW)
        assert self.outcome(world) == ("NOT_MINED", False, 0)

    def test_what_is_mined_is_settled_once_enough_blocks_hold_it(self, world: World) -> None:
        world.chain.broadcast(self.RAW)
        world.chain.mine()
        assert self.outcome(world, confirmations=2) == ("MINED", False, 0)
        world.chain.mine()
        assert self.outcome(world, confirmations=2) == ("MINED", True, 0)

    def test_what_had_no_effect_is_told_so(self, world: World) -> None:
        world.chain.broadcast(self.RAW)
        world.chain.reverting.add(self.RELEASED[0].hash)
        world.chain.mine()
        assert self.outcome(world) == ("REVERTED", True, 0)

    def test_what_lost_its_nonce_is_settled_once_enough_blocks_hold_the_other(self, world: World) -> None:
        world.chain.broadcast(signed(ALICE, value=1))
        world.chain.mine()
        assert self.outcome(world, confirmations=2) == ("NOT_MINED", False, 0)
        world.chain.mine()
        assert self.outcome(world, confirmations=2) == ("REPLACED", True, 0)


def test_the_id_of_a_receipt_follows_from_the_deal_and_the_secret_alone() -> None:
    deal = TransactionId(bytes.fromhex("01932c078f107abc9def0123456789ab"))
    one = derived_id(deal, b"secret")
    assert is_transaction_id(one)
    assert one == derived_id(deal, b"secret")
    assert len({one, derived_id(deal, b"another"), derived_id(one, b"secret"), deal}) == 4
