"""Decides what anchoring needs next on one chain: no IO, no keys and no clock in here.

The contract is the authority on what is anchored. Each look at the chain is one consistent :class:`View` as of one
block, and these rules follow from it:

1. At most one anchor is outstanding; the next is submitted when it is final. (An anchor vouches for everything before
   it, so nothing is gained by anchoring faster than the chain becomes final.)
2. Every transaction for the outstanding anchor carries the same nonce and the same tree head: only one can be mined.
3. A transaction is published on ``anchors`` before it is broadcast, so a restart knows all that may ever be mined.
4. The outstanding anchor is mined when the contract says so, whichever attempt did it; it is final when the policy's
   number of blocks, its own included, hold it.
5. What the chain takes back (a reorganisation) is announced and sent again.
6. Only growing checkpoints are anchored; one that shrinks, or differs at the same size, raises an alarm instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from parley.schemas import AnchorEvent, AnchorState, Hash

LONGEST_BACKOFF = 600_000
"""Milliseconds between two attempts at most, however often they failed."""


class TreeHead(NamedTuple):
    """What an anchor commits to: the log's number of entries and their RFC 6962 root."""

    size: int
    root: Hash


class Fees(NamedTuple):
    """What a transaction offers for each unit of gas, in wei (EIP-1559)."""

    max_fee: int
    priority_fee: int


class Signed(NamedTuple):
    """A signed transaction, ready to be broadcast as often as it takes."""

    transaction_hash: bytes
    raw: bytes
    nonce: int
    fees: Fees


class Mined(NamedTuple):
    """Where a transaction stands; the block's hash is unknown in what older events tell."""

    transaction_hash: bytes
    block_number: int
    block_hash: bytes | None

    def moved(self, now_at: Mined) -> bool:
        """Whether the chain now holds it in another block, or another transaction in its stead."""
        if self[:2] != now_at[:2]:
            return True
        return self.block_hash is not None and self.block_hash != now_at.block_hash


class Anchored(NamedTuple):
    """The contract's newest anchor of our log."""

    head: TreeHead
    mined: Mined


class View(NamedTuple):
    """One look at the chain; everything is as of block ``height``. Fees are in wei for each unit of gas."""

    height: int
    nonce: int
    """Number of this account's transactions mined so far: the nonce of the next."""
    anchored: Anchored | None
    base_fee: int
    priority_fee: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How to anchor on one chain. Times in milliseconds, ``fee_cap`` in wei for each unit of gas."""

    chain: str
    """CAIP-2, as in ``eip155:1``."""
    contract: str
    confirmations: int
    interval: int
    stuck_after: int
    """A transaction waiting this long, while ``stuck_blocks`` went by, is replaced at a higher price."""
    stuck_blocks: int
    rebroadcast_after: int
    fee_cap: int


@dataclass(frozen=True, slots=True)
class Outstanding:
    """An anchor on its way: submitted, perhaps mined, not yet final."""

    head: TreeHead
    attempts: tuple[Signed, ...]
    """All with one nonce, the best paying last; empty where it was found on the chain."""
    mined: Mined | None = None
    confirmations: int = 0
    tried_at: int = 0
    tried_height: int | None = None
    sent_at: int | None = None
    outgrown_at: int | None = None
    """When the log was first seen larger than this anchor."""

    def raw(self) -> bytes | None:
        """The transaction worth keeping: the mined one if it is ours, else the newest."""
        for attempt in self.attempts:
            if self.mined is not None and attempt.transaction_hash == self.mined.transaction_hash:
                return attempt.raw
        return self.attempts[-1].raw if self.attempts else None


@dataclass(frozen=True, slots=True)
class Anchoring:
    """Everything remembered about anchoring on one chain."""

    final: Anchored | None = None
    outstanding: Outstanding | None = None
    newest: TreeHead | None = None
    """The largest checkpoint seen in this process's life."""
    behind_since: int | None = None
    """When the log was first seen larger than what is final."""
    next_at: int = 0
    """Nothing new is submitted before this time."""
    failures: int = 0
    height: int = 0
    height_at: int = 0


@dataclass(frozen=True, slots=True)
class Publish:
    """Write an event to ``anchors``, durably, before the new state and any later effect counts."""

    event: AnchorEvent


@dataclass(frozen=True, slots=True)
class Submit:
    """Sign this anchor and hand the transaction to :func:`submitted`."""

    head: TreeHead
    nonce: int
    fees: Fees


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send a transaction that was published before (again, perhaps)."""

    signed: Signed


AlarmKind: TypeAlias = Literal["ROLLBACK", "FORK", "FEE_CAP", "FINAL_LOST"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something a person must look at."""

    kind: AlarmKind
    detail: str


Effect: TypeAlias = Publish | Submit | Broadcast | Alarm
Step: TypeAlias = tuple[Anchoring, tuple[Effect, ...]]


def decide(policy: Policy, state: Anchoring, view: View, checkpoint: TreeHead | None, now: int) -> Step:
    """The state after a look at the chain and at the log, and what to do, in order.

    ``checkpoint`` is the log's newest, its signature verified, or ``None`` while there is none; ``now`` is in ms
    since the Unix epoch.
    """
    if view.height < state.height and now - state.height_at < policy.stuck_after:
        return state, ()  # an endpoint that lags behind tells of the past, not of a reorganisation
    state = replace(state, height=view.height, height_at=now)
    alarms = _contradictions(state, view, checkpoint)
    if not alarms:
        state = noticed(state, checkpoint, now)
    state, followed = _follow(policy, state, view, now)
    effects = [*alarms, *followed]
    if state.outstanding is None and checkpoint is not None and not alarms and now >= state.next_at:
        reached = [anchored.head.size for anchored in (state.final, view.anchored) if anchored is not None]
        if checkpoint.size > max(reached, default=0):
            effects.append(_offer(policy, view, checkpoint))
    return state, tuple(effects)


def submitted(policy: Policy, state: Anchoring, order: Submit, signed: Signed, now: int) -> Step:
    """The state once ``order`` is signed: publish it first, then broadcast it."""
    outstanding = state.outstanding
    if outstanding is None or outstanding.head != order.head:
        outstanding = Outstanding(order.head, (signed,))
    else:  # attempts for a nonce that a reorganisation freed can no longer be mined before this one
        same = tuple(attempt for attempt in outstanding.attempts if attempt.nonce == signed.nonce)
        outstanding = replace(outstanding, attempts=(*same, signed))
    outstanding = replace(outstanding, tried_at=now, tried_height=state.height, sent_at=now)
    event = _event(policy, "SUBMITTED", outstanding, now)
    state = replace(state, outstanding=outstanding, next_at=now + policy.interval)
    return state, (Publish(event), Broadcast(signed))


def postponed(policy: Policy, state: Anchoring, now: int) -> Anchoring:
    """The state after an order could not be signed or paid: the next try waits longer each time."""
    outstanding = replace(state.outstanding, tried_at=now) if state.outstanding else None
    return replace(_backed_off(policy, state, now), outstanding=outstanding)


def replayed(state: Anchoring, event: AnchorEvent, signed: Signed | None) -> Anchoring:
    """The state after one more event of this chain and contract, read back from ``anchors`` on start.

    ``signed`` is the event's ``raw_transaction``, parsed, or ``None`` where it carries none.
    """
    head = TreeHead(event.log_size, event.root)
    known = state.outstanding if state.outstanding and state.outstanding.head == head else None
    attempts = known.attempts if known else ()
    if signed is not None and all(
        attempt.transaction_hash != signed.transaction_hash for attempt in attempts
    ):
        attempts = (*(attempt for attempt in attempts if attempt.nonce == signed.nonce), signed)
    outstanding: Outstanding | None = Outstanding(head, attempts) if attempts else None
    final = state.final
    height = state.height
    if event.state in ("CONFIRMED", "FINAL") and event.block_number is not None:
        mined = Mined(event.transaction_hash, event.block_number, event.block_hash)
        outstanding = Outstanding(head, attempts, mined, event.confirmations)
        height = event.block_number + event.confirmations - 1
        if event.state == "FINAL":
            outstanding, final = None, Anchored(head, mined)
    elif event.state == "REORGANISED" and final is not None and final.head == head:
        final = None
    elif event.state == "FAILED":
        outstanding = None
    return replace(state, outstanding=outstanding, final=final, height=height)


def resumed(state: Anchoring, now: int) -> Anchoring:
    """The state once every event is replayed: from here on the clock runs for what was on its way."""
    outstanding = replace(state.outstanding, tried_at=now) if state.outstanding else None
    return replace(state, outstanding=outstanding, height_at=now)


def noticed(state: Anchoring, checkpoint: TreeHead | None, now: int) -> Anchoring:
    """The state once the log's growth is seen, and with it since when what is final is behind; the chain may be away."""
    known = state.newest
    if checkpoint is None or (known is not None and checkpoint != known and checkpoint.size <= known.size):
        return state
    outstanding = state.outstanding
    if outstanding and outstanding.outgrown_at is None and checkpoint.size > outstanding.head.size:
        outstanding = replace(outstanding, outgrown_at=now)
    behind = checkpoint.size > (state.final.head.size if state.final else 0)
    since = (state.behind_since if state.behind_since is not None else now) if behind else None
    return replace(state, newest=checkpoint, outstanding=outstanding, behind_since=since)


def lag(state: Anchoring, now: int) -> tuple[int, int]:
    """How far what is final is behind the log: entries, and milliseconds since the log first outgrew it."""
    final_size = state.final.head.size if state.final else 0
    entries = max(0, state.newest.size - final_size) if state.newest else 0
    return entries, 0 if state.behind_since is None else max(0, now - state.behind_since)


def _contradictions(state: Anchoring, view: View, checkpoint: TreeHead | None) -> tuple[Alarm, ...]:
    """Why a checkpoint must not be anchored, its signature notwithstanding: it takes back what was said before."""
    said = {
        "a checkpoint seen before": state.newest,
        "the anchor on its way": state.outstanding.head if state.outstanding else None,
        "the final anchor": state.final.head if state.final else None,
        "the anchor in the contract": view.anchored.head if view.anchored else None,
    }
    for what, head in said.items():
        if checkpoint is None or head is None:
            continue
        if checkpoint.size < head.size:
            detail = f"the log's checkpoint has size {checkpoint.size}, but {what} has size {head.size}"
            return (Alarm("ROLLBACK", f"{detail}; restore the log, it must never shrink"),)
        if checkpoint.size == head.size and checkpoint.root != head.root:
            detail = f"at size {head.size} the checkpoint's root is {checkpoint.root.hex()}"
            return (
                Alarm("FORK", f"{detail}, but that of {what} is {head.root.hex()}; find out who signed both"),
            )
    return ()


def _follow(policy: Policy, state: Anchoring, view: View, now: int) -> Step:
    """See what became of the final and of the outstanding anchor."""
    state, effects = _final_checked(policy, state, view, now)
    outstanding = state.outstanding
    anchored = view.anchored
    awaited = outstanding.head.size if outstanding else (state.final.head.size if state.final else 0) + 1
    if anchored is not None and anchored.head.size >= awaited:
        state, more = _confirmed(policy, state, view.height, anchored, now)
    elif outstanding is not None:
        state, more = _waiting(policy, state, outstanding, view, now)
    else:
        more = ()
    return state, (*effects, *more)


def _final_checked(policy: Policy, state: Anchoring, view: View, now: int) -> Step:
    """Finality is a convention; where a chain breaks it all the same, say so and anchor anew."""
    final = state.final
    if final is None:
        return state, ()
    there = view.anchored
    if there is not None and there.head.size > final.head.size:
        return state, ()
    if there is not None and there.head == final.head and not final.mined.moved(there.mined):
        return state, ()
    lost = _event(policy, "REORGANISED", Outstanding(final.head, (), final.mined), now)
    detail = f"the chain took back the final anchor of size {final.head.size}; raise `confirmations`"
    return replace(state, final=None), (Publish(lost), Alarm("FINAL_LOST", detail))


def _confirmed(policy: Policy, state: Anchoring, height: int, anchored: Anchored, now: int) -> Step:
    """The contract holds our outstanding anchor, or a newer one that this process did not know of."""
    outstanding = state.outstanding
    if outstanding is None or outstanding.head != anchored.head:
        outgrown_at = outstanding.outgrown_at if outstanding else None
        outstanding = Outstanding(anchored.head, (), outgrown_at=outgrown_at)
    effects: list[Effect] = []
    if outstanding.mined is not None and outstanding.mined.moved(anchored.mined):
        effects.append(Publish(_event(policy, "REORGANISED", outstanding, now)))
        outstanding = replace(outstanding, mined=None, confirmations=0)
    confirmations = min(height - anchored.mined.block_number + 1, policy.confirmations)
    if outstanding.mined is None or confirmations > outstanding.confirmations:
        outstanding = replace(outstanding, mined=anchored.mined, confirmations=confirmations)
        settled = confirmations >= policy.confirmations
        effects.append(Publish(_event(policy, "FINAL" if settled else "CONFIRMED", outstanding, now)))
        if settled:
            since = outstanding.outgrown_at
            final = replace(state, final=anchored, outstanding=None, behind_since=since, failures=0)
            return final, tuple(effects)
    return replace(state, outstanding=outstanding, failures=0), tuple(effects)


def _waiting(policy: Policy, state: Anchoring, outstanding: Outstanding, view: View, now: int) -> Step:
    """The contract does not hold the outstanding anchor (yet, or any more)."""
    effects: list[Effect] = []
    if outstanding.mined is not None:
        effects.append(Publish(_event(policy, "REORGANISED", outstanding, now)))
        outstanding = replace(
            outstanding, mined=None, confirmations=0, sent_at=None, tried_at=now, tried_height=view.height
        )
    if not outstanding.attempts:  # somebody else's, and gone: the next one is ours
        return replace(state, outstanding=None), tuple(effects)
    last = outstanding.attempts[-1]
    if view.nonce > last.nonce:
        why = f"nonce {last.nonce} was spent by a transaction that did not anchor it (reverted, or not ours)"
        effects.append(Publish(_event(policy, "FAILED", outstanding, now, why)))
        return replace(_backed_off(policy, state, now), outstanding=None), tuple(effects)
    tried_height = view.height if outstanding.tried_height is None else outstanding.tried_height
    outstanding = replace(outstanding, tried_height=tried_height)
    if now - outstanding.tried_at >= policy.stuck_after and view.height - tried_height >= policy.stuck_blocks:
        fees = _raised(policy, view, last.fees)
        if fees is not None:
            effects.append(Submit(outstanding.head, view.nonce, fees))
            return replace(state, outstanding=outstanding), tuple(effects)
        effects.append(_capped(policy, view))
    if outstanding.sent_at is None or now - outstanding.sent_at >= policy.rebroadcast_after:
        effects.append(Broadcast(last))
        outstanding = replace(outstanding, sent_at=now)
    return replace(state, outstanding=outstanding), tuple(effects)


def _offer(policy: Policy, view: View, checkpoint: TreeHead) -> Effect:
    if view.base_fee + view.priority_fee > policy.fee_cap:
        return _capped(policy, view)
    return Submit(checkpoint, view.nonce, _suggested(policy, view))


def _suggested(policy: Policy, view: View) -> Fees:
    """Room for the base fee to double (six full blocks) before the transaction gets stuck."""
    return Fees(min(2 * view.base_fee + view.priority_fee, policy.fee_cap), view.priority_fee)


def _raised(policy: Policy, view: View, paid: Fees) -> Fees | None:
    """Fees that replace a waiting transaction: each an eighth (12.5%) higher at least, as nodes ask; ``None`` over the cap."""
    least = Fees(*(-(-fee * 9 // 8) for fee in paid))
    wanted = _suggested(policy, view)
    max_fee = max(least.max_fee, wanted.max_fee)
    priority_fee = min(max(least.priority_fee, wanted.priority_fee), max_fee)
    return None if max_fee > policy.fee_cap else Fees(max_fee, priority_fee)


def _capped(policy: Policy, view: View) -> Alarm:
    asked = view.base_fee + view.priority_fee
    return Alarm(
        "FEE_CAP", f"gas costs {asked:,} wei; the cap is {policy.fee_cap:,} wei: wait, or raise the fee cap"
    )


def _backed_off(policy: Policy, state: Anchoring, now: int) -> Anchoring:
    wait = min(policy.interval << min(state.failures, 16), max(LONGEST_BACKOFF, policy.interval))
    return replace(state, failures=state.failures + 1, next_at=now + wait)


def _event(
    policy: Policy, state: AnchorState, outstanding: Outstanding, now: int, detail: str = ""
) -> AnchorEvent:
    mined = outstanding.mined
    return AnchorEvent(
        chain=policy.chain,
        contract=policy.contract,
        log_size=outstanding.head.size,
        root=outstanding.head.root,
        state=state,
        transaction_hash=mined.transaction_hash if mined else outstanding.attempts[-1].transaction_hash,
        block_number=mined.block_number if mined else None,
        block_hash=mined.block_hash if mined else None,
        confirmations=outstanding.confirmations,
        raw_transaction=outstanding.raw(),
        at=now,
        detail=detail,
    )
