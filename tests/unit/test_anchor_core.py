"""What the anchor core decides, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anchor.core import (
    Alarm,
    Anchored,
    Anchoring,
    Broadcast,
    Effect,
    Fees,
    Mined,
    Policy,
    Publish,
    Signed,
    Submit,
    TreeHead,
    View,
    decide,
    lag,
    noticed,
    postponed,
    replayed,
    resumed,
    submitted,
)
from parley.schemas import AnchorEvent, Hash

GWEI = 10**9
POLICY = Policy(
    chain="eip155:1",
    contract="0x00000000000000000000000000000000000000aa",
    confirmations=3,
    interval=30_000,
    stuck_after=60_000,
    stuck_blocks=3,
    rebroadcast_after=15_000,
    fee_cap=100 * GWEI,
)
HEAD = TreeHead(10, Hash(b"\x10" * 32))
LATER = TreeHead(20, Hash(b"\x20" * 32))
VIEW = View(height=100, nonce=7, anchored=None, base_fee=10 * GWEI, priority_fee=GWEI)
NOW = 1_000_000


def signed(order: Submit, name: bytes = b"first") -> Signed:
    return Signed(name.ljust(32, b"."), b"raw " + name, order.nonce, order.fees)


def states(effects: tuple[Effect, ...]) -> list[str]:
    return [effect.event.state for effect in effects if isinstance(effect, Publish)]


def mined(head: TreeHead = HEAD, block: int = 101, block_hash: bytes = b"A" * 32) -> Anchored:
    return Anchored(head, Mined(b"first".ljust(32, b"."), block, block_hash))


@pytest.fixture
def order() -> Submit:
    _, (order,) = decide(POLICY, Anchoring(), VIEW, HEAD, NOW)
    assert isinstance(order, Submit)
    return order


@pytest.fixture
def waiting(order: Submit) -> Anchoring:
    """Submitted and broadcast, not yet mined."""
    state, _ = decide(POLICY, Anchoring(), VIEW, HEAD, NOW)
    state, _ = submitted(POLICY, state, order, signed(order), NOW)
    return state


@pytest.fixture
def confirmed(waiting: Anchoring) -> Anchoring:
    state, _ = decide(POLICY, waiting, VIEW._replace(height=101, nonce=8, anchored=mined()), HEAD, NOW)
    return state


@pytest.fixture
def final(confirmed: Anchoring) -> Anchoring:
    state, _ = decide(POLICY, confirmed, VIEW._replace(height=103, nonce=8, anchored=mined()), HEAD, NOW)
    return state


class TestSubmitting:
    def test_the_first_checkpoint_is_submitted_with_the_chain_s_next_nonce(self, order: Submit) -> None:
        assert order == Submit(HEAD, 7, Fees(21 * GWEI, GWEI))

    def test_an_empty_log_is_not_anchored(self) -> None:
        assert decide(POLICY, Anchoring(), VIEW, None, NOW)[1] == ()

    def test_the_event_with_the_raw_transaction_comes_before_the_broadcast(self, order: Submit) -> None:
        _, effects = submitted(POLICY, Anchoring(), order, signed(order), NOW)
        publish, broadcast = effects
        assert isinstance(publish, Publish)
        assert publish.event.state == "SUBMITTED"
        assert publish.event.raw_transaction == b"raw first"
        assert broadcast == Broadcast(signed(order))

    def test_nothing_more_is_submitted_while_an_anchor_is_outstanding(self, waiting: Anchoring) -> None:
        assert decide(POLICY, waiting, VIEW, LATER, NOW + 40_000)[1] == (
            Broadcast(waiting.outstanding.attempts[0]),  # type: ignore[union-attr]
        )

    def test_the_next_checkpoint_waits_for_the_interval(self, final: Anchoring) -> None:
        view = VIEW._replace(height=104, nonce=8, anchored=mined())
        assert decide(POLICY, final, view, LATER, NOW + 29_999)[1] == ()
        (order,) = decide(POLICY, final, view, LATER, NOW + 30_000)[1]
        assert order == Submit(LATER, 8, Fees(21 * GWEI, GWEI))

    def test_a_checkpoint_already_anchored_is_not_anchored_again(self, final: Anchoring) -> None:
        view = VIEW._replace(height=104, nonce=8, anchored=mined())
        assert decide(POLICY, final, view, HEAD, NOW + 90_000)[1] == ()

    def test_a_checkpoint_anchored_by_a_former_life_is_followed_not_anchored_again(self) -> None:
        state, effects = decide(POLICY, Anchoring(), VIEW._replace(height=102, anchored=mined()), HEAD, NOW)
        assert states(effects) == ["CONFIRMED"]
        assert state.outstanding is not None
        assert state.outstanding.confirmations == 2

    def test_gas_beyond_the_cap_raises_an_alarm_instead(self) -> None:
        _, (alarm,) = decide(POLICY, Anchoring(), VIEW._replace(base_fee=100 * GWEI), HEAD, NOW)
        assert isinstance(alarm, Alarm)
        assert alarm.kind == "FEE_CAP"

    def test_what_could_not_be_signed_is_tried_later_each_time(self) -> None:
        state = postponed(POLICY, Anchoring(), NOW)
        assert decide(POLICY, state, VIEW, HEAD, NOW + 29_999)[1] == ()
        assert decide(POLICY, state, VIEW, HEAD, NOW + 30_000)[1] != ()
        again = postponed(POLICY, state, NOW)
        assert decide(POLICY, again, VIEW, HEAD, NOW + 59_999)[1] == ()


class TestFollowing:
    def test_each_new_confirmation_is_told_once(self, waiting: Anchoring) -> None:
        view = VIEW._replace(height=101, nonce=8, anchored=mined())
        state, effects = decide(POLICY, waiting, view, HEAD, NOW)
        (publish,) = effects
        assert isinstance(publish, Publish)
        event = publish.event
        assert (event.state, event.block_number, event.confirmations) == ("CONFIRMED", 101, 1)
        assert decide(POLICY, state, view, HEAD, NOW)[1] == ()

    def test_it_is_final_with_the_policy_s_confirmations(self, confirmed: Anchoring) -> None:
        view = VIEW._replace(height=103, nonce=8, anchored=mined())
        state, effects = decide(POLICY, confirmed, view, HEAD, NOW)
        assert states(effects) == ["FINAL"]
        assert state.outstanding is None
        assert state.final == mined()

    def test_what_waits_is_broadcast_again(self, waiting: Anchoring) -> None:
        assert decide(POLICY, waiting, VIEW, HEAD, NOW + 14_999)[1] == ()
        state, effects = decide(POLICY, waiting, VIEW, HEAD, NOW + 15_000)
        assert [type(effect) for effect in effects] == [Broadcast]
        assert decide(POLICY, state, VIEW, HEAD, NOW + 15_001)[1] == ()

    def test_lag_counts_from_when_the_log_outgrew_what_is_final(self, waiting: Anchoring) -> None:
        state, _ = decide(POLICY, waiting, VIEW, LATER, NOW + 5_000)
        assert lag(state, NOW + 6_000) == (20, 6_000)
        view = VIEW._replace(height=103, nonce=8, anchored=mined())
        state, _ = decide(POLICY, state, view, LATER, NOW + 7_000)
        assert lag(state, NOW + 8_000) == (10, 3_000)

    def test_lag_is_known_while_the_chain_is_away(self, final: Anchoring) -> None:
        state = noticed(final, LATER, NOW + 1_000)
        assert lag(state, NOW + 5_000) == (10, 4_000)

    def test_a_log_that_contradicts_itself_meanwhile_is_not_what_is_remembered(
        self, final: Anchoring
    ) -> None:
        state = noticed(noticed(final, LATER, NOW), LATER._replace(root=HEAD.root), NOW)
        assert state.newest == LATER
        assert noticed(state, HEAD, NOW).newest == LATER


class TestStuckTransactions:
    def test_replacement_keeps_nonce_and_head_and_pays_an_eighth_more(self, waiting: Anchoring) -> None:
        _, effects = decide(POLICY, waiting, VIEW._replace(height=103), LATER, NOW + 60_000)
        assert effects == (Submit(HEAD, 7, Fees(23_625_000_000, 1_125_000_000)),)

    def test_replacement_follows_the_market_where_that_is_higher(self, waiting: Anchoring) -> None:
        view = VIEW._replace(height=103, base_fee=30 * GWEI, priority_fee=2 * GWEI)
        _, effects = decide(POLICY, waiting, view, HEAD, NOW + 60_000)
        assert effects == (Submit(HEAD, 7, Fees(62 * GWEI, 2 * GWEI)),)

    def test_a_chain_without_new_blocks_is_no_reason_to_pay_more(self, waiting: Anchoring) -> None:
        _, effects = decide(POLICY, waiting, VIEW._replace(height=102), HEAD, NOW + 600_000)
        assert [type(effect) for effect in effects] == [Broadcast]

    def test_replacement_stops_at_the_fee_cap(self, waiting: Anchoring) -> None:
        policy = replace(POLICY, fee_cap=22 * GWEI)
        _, effects = decide(policy, waiting, VIEW._replace(height=103), HEAD, NOW + 60_000)
        assert [type(effect) for effect in effects] == [Alarm, Broadcast]

    def test_whichever_attempt_is_mined_counts(self, waiting: Anchoring) -> None:
        state, (order,) = decide(POLICY, waiting, VIEW._replace(height=103), HEAD, NOW + 60_000)
        assert isinstance(order, Submit)
        state, _ = submitted(POLICY, state, order, signed(order, b"second"), NOW + 60_000)
        view = VIEW._replace(height=104, nonce=8, anchored=mined(block=104))
        state, effects = decide(POLICY, state, view, HEAD, NOW + 61_000)
        (publish,) = effects
        assert isinstance(publish, Publish)
        assert publish.event.transaction_hash == b"first".ljust(32, b".")
        assert publish.event.raw_transaction == b"raw first"

    def test_a_nonce_spent_otherwise_is_a_failure_and_tried_again_after_a_while(
        self, waiting: Anchoring
    ) -> None:
        state, effects = decide(POLICY, waiting, VIEW._replace(nonce=8), HEAD, NOW + 1_000)
        assert states(effects) == ["FAILED"]
        assert decide(POLICY, state, VIEW._replace(nonce=8), HEAD, NOW + 30_000)[1] == ()
        _, (order,) = decide(POLICY, state, VIEW._replace(nonce=8), HEAD, NOW + 31_000)
        assert isinstance(order, Submit)
        assert order.nonce == 8


class TestReorganisations:
    def test_a_vanished_anchor_is_announced_and_sent_again_as_it_was(self, confirmed: Anchoring) -> None:
        state, effects = decide(POLICY, confirmed, VIEW._replace(height=102), HEAD, NOW)
        assert states(effects) == ["REORGANISED"]
        assert effects[1] == Broadcast(confirmed.outstanding.attempts[0])  # type: ignore[union-attr]
        assert state.outstanding is not None
        assert state.outstanding.mined is None

    def test_an_anchor_in_another_block_starts_its_confirmations_anew(self, confirmed: Anchoring) -> None:
        view = VIEW._replace(height=102, nonce=8, anchored=mined(block=102, block_hash=b"B" * 32))
        _, effects = decide(POLICY, confirmed, view, HEAD, NOW)
        assert states(effects) == ["REORGANISED", "CONFIRMED"]

    def test_the_same_height_with_another_block_hash_is_a_reorganisation(self, confirmed: Anchoring) -> None:
        view = VIEW._replace(height=101, nonce=8, anchored=mined(block_hash=b"B" * 32))
        _, effects = decide(POLICY, confirmed, view, HEAD, NOW)
        assert states(effects) == ["REORGANISED", "CONFIRMED"]

    def test_a_lagging_endpoint_is_not_taken_for_one(self, confirmed: Anchoring) -> None:
        assert decide(POLICY, confirmed, VIEW, HEAD, NOW + 59_999) == (confirmed, ())

    def test_but_a_chain_that_stays_shorter_is(self, confirmed: Anchoring) -> None:
        assert states(decide(POLICY, confirmed, VIEW, HEAD, NOW + 60_000)[1]) == ["REORGANISED"]

    def test_losing_what_was_final_raises_an_alarm_and_anchors_anew(self, final: Anchoring) -> None:
        state, effects = decide(POLICY, final, VIEW._replace(height=104), LATER, NOW + 30_000)
        assert states(effects) == ["REORGANISED"]
        assert [effect.kind for effect in effects if isinstance(effect, Alarm)] == ["FINAL_LOST"]
        assert effects[-1] == Submit(LATER, 7, Fees(21 * GWEI, GWEI))
        assert state.final is None

    def test_a_nonce_that_a_reorganisation_freed_is_filled_first(self, waiting: Anchoring) -> None:
        _, effects = decide(POLICY, waiting, VIEW._replace(height=103, nonce=6), HEAD, NOW + 60_000)
        (order,) = effects
        assert isinstance(order, Submit)
        assert order.nonce == 6
        state, _ = submitted(POLICY, waiting, order, signed(order, b"gap"), NOW + 60_000)
        assert state.outstanding is not None
        assert [attempt.nonce for attempt in state.outstanding.attempts] == [6]


class TestContradictions:
    @pytest.mark.parametrize("known", ["waiting", "confirmed", "final"])
    def test_a_shrunken_log_is_never_anchored(self, known: str, request: pytest.FixtureRequest) -> None:
        state = request.getfixturevalue(known)
        _, effects = decide(POLICY, state, VIEW._replace(height=103), TreeHead(9, HEAD.root), NOW)
        assert next(effect.kind for effect in effects if isinstance(effect, Alarm)) == "ROLLBACK"
        assert not any(isinstance(effect, Submit) for effect in effects)

    def test_nor_is_one_smaller_than_the_contract_knows_though_this_process_does_not(self) -> None:
        view = VIEW._replace(height=110, anchored=mined(LATER))
        _, effects = decide(POLICY, Anchoring(), view, HEAD, NOW)
        assert [effect.kind for effect in effects if isinstance(effect, Alarm)] == ["ROLLBACK"]
        assert not any(isinstance(effect, Submit) for effect in effects)

    def test_another_root_at_the_same_size_is_a_fork(self, final: Anchoring) -> None:
        view = VIEW._replace(height=104, nonce=8, anchored=mined())
        _, (alarm,) = decide(POLICY, final, view, TreeHead(10, Hash(b"\x11" * 32)), NOW + 90_000)
        assert isinstance(alarm, Alarm)
        assert alarm.kind == "FORK"

    def test_an_anchor_on_its_way_is_followed_all_the_same(self, waiting: Anchoring) -> None:
        view = VIEW._replace(height=103, nonce=8, anchored=mined())
        _, effects = decide(POLICY, waiting, view, TreeHead(9, HEAD.root), NOW)
        assert states(effects) == ["FINAL"]


class TestRestart:
    @staticmethod
    def event(state: str, order: Submit, **changes: object) -> AnchorEvent:
        _, effects = submitted(POLICY, Anchoring(), order, signed(order), NOW)
        publish = effects[0]
        assert isinstance(publish, Publish)
        return publish.event._replace(state=state, **changes)  # type: ignore[arg-type]

    def test_a_submitted_transaction_is_broadcast_as_it_was(self, order: Submit) -> None:
        state = resumed(replayed(Anchoring(), self.event("SUBMITTED", order), signed(order)), NOW)
        assert decide(POLICY, state, VIEW, LATER, NOW)[1] == (Broadcast(signed(order)),)

    def test_a_submitted_transaction_that_was_mined_meanwhile_is_only_followed(self, order: Submit) -> None:
        state = resumed(replayed(Anchoring(), self.event("SUBMITTED", order), signed(order)), NOW)
        view = VIEW._replace(height=101, nonce=8, anchored=mined())
        assert states(decide(POLICY, state, view, HEAD, NOW)[1]) == ["CONFIRMED"]

    def test_replacements_are_all_remembered(self, order: Submit) -> None:
        better = replace(order, fees=Fees(30 * GWEI, 2 * GWEI))
        state = replayed(Anchoring(), self.event("SUBMITTED", order), signed(order))
        state = replayed(state, self.event("SUBMITTED", order), signed(better, b"second"))
        assert state.outstanding is not None
        assert [attempt.raw for attempt in state.outstanding.attempts] == [b"raw first", b"raw second"]

    def test_confirmations_go_on_where_they_were(self, order: Submit) -> None:
        told = self.event("CONFIRMED", order, block_number=101, block_hash=b"A" * 32, confirmations=2)
        state = resumed(replayed(Anchoring(), told, signed(order)), NOW)
        view = VIEW._replace(height=102, nonce=8, anchored=mined())
        state, effects = decide(POLICY, state, view, HEAD, NOW)
        assert effects == ()
        assert states(decide(POLICY, state, view._replace(height=103), HEAD, NOW)[1]) == ["FINAL"]

    def test_what_was_final_stays_final(self, order: Submit) -> None:
        told = self.event("FINAL", order, block_number=101, block_hash=b"A" * 32, confirmations=3)
        state = resumed(replayed(Anchoring(), told, signed(order)), NOW)
        view = VIEW._replace(height=110, nonce=8, anchored=mined())
        assert decide(POLICY, state, view, HEAD, NOW)[1] == ()
        assert state.final == mined()

    def test_a_transaction_signed_by_a_former_key_is_left_to_the_contract_to_tell(
        self, order: Submit
    ) -> None:
        state = resumed(replayed(Anchoring(), self.event("SUBMITTED", order), None), NOW)
        assert state.outstanding is None

    @pytest.mark.parametrize("state", ["FAILED", "REORGANISED"])
    def test_what_failed_or_was_taken_back_is_not_taken_for_final(self, order: Submit, state: str) -> None:
        known = replayed(Anchoring(), self.event("FINAL", order, block_number=101, confirmations=3), None)
        known = replayed(known, self.event("REORGANISED", order, block_number=101), None)
        known = replayed(known, self.event(state, order), None)
        assert known.final is None
        assert known.outstanding is None
