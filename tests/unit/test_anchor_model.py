"""Anchoring against a chain that delays, drops, reorganises and lags, under a process that crashes anywhere."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from anchor.core import (
    Alarm,
    Anchored,
    Anchoring,
    Broadcast,
    Fees,
    Mined,
    Policy,
    Publish,
    Signed,
    Submit,
    TreeHead,
    View,
    decide,
    replayed,
    resumed,
    submitted,
)
from parley.schemas import AnchorEvent, Hash

GWEI = 10**9
POLICY = Policy(
    chain="eip155:31337",
    contract="0x00000000000000000000000000000000000000aa",
    confirmations=4,
    interval=1_000,
    stuck_after=5_000,
    stuck_blocks=2,
    rebroadcast_after=2_000,
    fee_cap=1_000 * GWEI,
)
_RAW = struct.Struct(">QQQQ")


def root_of(size: int) -> Hash:
    return Hash(hashlib.sha256(f"root {size}".encode()).digest())


def sign(order: Submit) -> Signed:
    raw = _RAW.pack(order.head.size, order.nonce, order.fees.max_fee, order.fees.priority_fee)
    return parse(raw)


def parse(raw: bytes) -> Signed:
    _, nonce, max_fee, priority_fee = _RAW.unpack(raw)
    return Signed(hashlib.sha256(raw).digest(), raw, nonce, Fees(max_fee, priority_fee))


@dataclass
class Chain:
    """A chain of blocks that holds at most one of our transactions each, and a pool of those that wait."""

    blocks: list[Signed | None] = field(default_factory=list)
    forks: int = 0
    hashes: list[bytes] = field(default_factory=list)
    pool: dict[int, Signed] = field(default_factory=dict)
    base_fee: int = GWEI
    reverted: list[Signed] = field(default_factory=list)

    def send(self, signed: Signed) -> None:
        waiting = self.pool.get(signed.nonce)
        spent = signed.nonce < self.view(len(self.blocks)).nonce
        cheap = waiting is not None and signed.fees.max_fee * 10 < waiting.fees.max_fee * 11
        if not spent and not cheap:
            self.pool[signed.nonce] = signed

    def mine(self) -> None:
        nonce = self.view(len(self.blocks)).nonce
        found = self.pool.get(nonce)
        taken = found if found is not None and found.fees.max_fee >= self.base_fee else None
        if taken is not None:
            del self.pool[nonce]
            anchored = self.view(len(self.blocks)).anchored
            if anchored is not None and _RAW.unpack(taken.raw)[0] <= anchored.head.size:
                self.reverted.append(taken)
        self.blocks.append(taken)
        self.hashes.append(hashlib.sha256(b"%d on %d" % (self.forks, len(self.blocks))).digest())

    def reorganise(self, depth: int, *, lose: bool) -> None:
        """Replace the last blocks by as many others; their transactions wait again, or are lost."""
        self.forks += 1
        gone = self.blocks[-depth:]
        del self.blocks[-depth:], self.hashes[-depth:]
        if not lose:
            self.pool |= {signed.nonce: signed for signed in gone if signed is not None}
        waiting, self.pool = self.pool, {}
        for _ in range(depth):
            self.mine()
        self.pool = waiting

    def view(self, height: int) -> View:
        anchored = None
        nonce = 0
        for number, signed in enumerate(self.blocks[:height], start=1):
            if signed is None:
                continue
            nonce += 1
            size = _RAW.unpack(signed.raw)[0]
            if anchored is None or size > anchored.head.size:
                place = Mined(signed.transaction_hash, number, self.hashes[number - 1])
                anchored = Anchored(TreeHead(size, root_of(size)), place)
        return View(height, nonce, anchored, self.base_fee, GWEI)


class CrashError(Exception):
    """The process died."""


class AnchoringModel(RuleBasedStateMachine):
    """What must hold, however the chain and the process behave."""

    @initialize()
    def start(self) -> None:
        self.chain = Chain()
        self.topic: list[AnchorEvent] = []
        self.state = Anchoring()
        self.size = 0
        self.now = 1_000_000
        self.chain.mine()

    def step(self, height: int, crash_after: int | None = None) -> None:
        """One turn of the service's loop; the process dies after so many durable steps."""
        checkpoint = TreeHead(self.size, root_of(self.size)) if self.size else None
        left = crash_after

        def durable() -> None:
            nonlocal left
            if left is not None:
                if left == 0:
                    raise CrashError
                left -= 1

        try:
            state, effects = decide(POLICY, self.state, self.chain.view(height), checkpoint, self.now)
            for effect in effects:
                if isinstance(effect, Publish):
                    durable()
                    self.topic.append(effect.event)
            self.state = state
            for effect in effects:
                assert not isinstance(effect, Alarm), effect
                if isinstance(effect, Broadcast):
                    durable()
                    self.chain.send(effect.signed)
                if isinstance(effect, Submit):
                    self.submit(effect, durable)
        except CrashError:
            self.restart()

    def submit(self, order: Submit, durable: object) -> None:
        assert callable(durable)
        durable()
        state, effects = submitted(POLICY, self.state, order, sign(order), self.now)
        for effect in effects:
            durable()
            if isinstance(effect, Publish):
                self.topic.append(effect.event)
                self.state = state
            if isinstance(effect, Broadcast):
                self.chain.send(effect.signed)

    def restart(self) -> None:
        self.state = Anchoring()
        for event in self.topic:
            self.state = replayed(
                self.state, event, parse(event.raw_transaction) if event.raw_transaction else None
            )
        self.state = resumed(self.state, self.now)

    @rule(by=st.integers(1, 5))
    def log_grows(self, by: int) -> None:
        self.size += by

    @rule(by=st.integers(0, 2), blocks=st.integers(1, 2))
    def all_goes_well(self, by: int, blocks: int) -> None:
        self.size += by
        for _ in range(blocks):
            self.now += 1_000
            self.step(len(self.chain.blocks))
            self.chain.mine()
        self.step(len(self.chain.blocks))

    @rule(milliseconds=st.integers(1, 4_000), crash_after=st.none() | st.integers(0, 4))
    def service_turns(self, milliseconds: int, crash_after: int | None) -> None:
        self.now += milliseconds
        self.step(len(self.chain.blocks), crash_after)

    @rule()
    def service_restarts(self) -> None:
        self.restart()

    @rule(blocks=st.integers(1, 4))
    def chain_mines(self, blocks: int) -> None:
        for _ in range(blocks):
            self.chain.mine()

    @rule()
    def node_forgets_what_waits(self) -> None:
        self.chain.pool.clear()

    @rule(factor=st.sampled_from([1, 3, 10]))
    def gas_changes_its_price(self, factor: int) -> None:
        self.chain.base_fee = factor * GWEI

    @precondition(lambda self: len(self.chain.blocks) > POLICY.confirmations)
    @rule(depth=st.integers(1, POLICY.confirmations - 1), lose=st.booleans())
    def chain_reorganises(self, depth: int, lose: bool) -> None:
        self.chain.reorganise(depth, lose=lose)

    @precondition(
        lambda self: not self.chain.forks and self.state.outstanding and self.state.outstanding.mined
    )
    @rule(blocks=st.integers(1, 3))
    def endpoint_lags(self, blocks: int) -> None:
        self.now += 1
        before = len(self.topic)
        self.step(max(1, self.state.height - blocks))
        assert len(self.topic) == before

    @invariant()
    def nothing_reverts(self) -> None:
        assert not self.chain.reverted

    @invariant()
    def a_size_has_one_nonce(self) -> None:
        nonces: dict[int, set[int]] = {}
        for event in self.topic:
            if event.state == "SUBMITTED":
                assert event.raw_transaction is not None
                nonces.setdefault(event.log_size, set()).add(parse(event.raw_transaction).nonce)
        assert all(len(found) == 1 for found in nonces.values())

    @invariant()
    def whatever_is_mined_was_published_before(self) -> None:
        published = {event.transaction_hash for event in self.topic}
        assert all(signed.transaction_hash in published for signed in self.chain.blocks if signed)

    @invariant()
    def final_sizes_only_grow(self) -> None:
        sizes = [event.log_size for event in self.topic if event.state == "FINAL"]
        assert sizes == sorted(set(sizes))

    @invariant()
    def what_is_final_stays_on_the_chain(self) -> None:
        hashes = {signed.transaction_hash for signed in self.chain.blocks if signed}
        assert all(event.transaction_hash in hashes for event in self.topic if event.state == "FINAL")

    def teardown(self) -> None:
        """Once the chain behaves, the newest checkpoint becomes final."""
        if not getattr(self, "size", 0):
            return
        for _ in range(100):
            self.chain.mine()
            self.now += 3_000
            self.step(len(self.chain.blocks))
            if self.state.final is not None and self.state.final.head.size == self.size:
                return
        raise AssertionError(f"size {self.size} never became final: {self.state}")


AnchoringModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnchoring = AnchoringModel.TestCase
