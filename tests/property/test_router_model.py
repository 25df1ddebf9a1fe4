"""A router with many transactions at once against a naive model of each: finish rules, conflicts, a kind's steps, quotas of open
transactions, and deadlines from a millisecond to months, with commits, rollbacks, deaths and restarts, some after days.

What must come out is foretold record by record when a record is appended; when it is processed, and in how many lives, is
nobody's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parley.schemas import (
    Action,
    FinishRule,
    FirehoseEvent,
    Hash,
    Head,
    Message,
    MessageId,
    Party,
    Rejection,
    Terms,
    TransactionId,
)
from router import handler
from router.core import Limits
from router.quotas import Quotas
from streams.state import NEVER
from tests.dialogue import sealed, transaction_id
from tests.lifecycle_model import Model, Said, identity_of
from tests.memory_router import MemoryRouter, members
from tests.whole_record import message_of

START = 1_800_000_000_000
SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
PIPELINES = 2
PARTIES = ("alice", "bob", "carol")
MEMBERS = members(*PARTIES, "mallory")
REMEMBERED = 5 * SECOND
LASTING = (1, 50, 2 * SECOND, HOUR, 3 * DAY, 28 * DAY, 90 * DAY)
ALMOST_NEVER = 2**50
OPEN_AT_ONCE = 3
"""By one opener on one pipeline."""
OFFER, ACCEPTANCE, REFUSAL = (
    f"application/vnd.parley.agreement.{step}+json" for step in ("offer", "acceptance", "refusal")
)


@pytest.fixture(scope="module", autouse=True)
def written_behind() -> Iterator[None]:
    """Write transactions to router-state a few events late, and never for their age: then only transactions have timers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handler, "WRITE_BEHIND", 3)
        patch.setattr(handler, "WRITE_EVERY", ALMOST_NEVER)
        yield


class Told(NamedTuple):
    """What the firehose says of an event."""

    transaction: TransactionId
    at: int
    message: MessageId | None
    outcome: str | None
    waiting_on: tuple[str, ...]

    @classmethod
    def by(cls, event: FirehoseEvent) -> Told:
        ended = event.ended
        return cls(
            event.transaction_id,
            event.at,
            None if event.envelope is None else identity_of(message_of(event)),
            None if ended is None else ended.outcome,
            () if ended is None else ended.waiting_on,
        )


class Refusal(NamedTuple):
    """What a rejection says."""

    offset: int
    reason: str
    head: Head | None

    @classmethod
    def by(cls, rejection: Rejection) -> Refusal:
        return cls(rejection.ingest_offset, rejection.reason, rejection.head)


@dataclass
class Deal:
    """A transaction, on its pipeline; once it is forgotten its model is as empty as before its opening."""

    id: TransactionId
    pipeline: int
    model: Model
    opening: Message

    @property
    def ended_at(self) -> int | None:
        model = self.model
        return model.said[-1].at if model.said and model.finished else model.timed_out_at

    @property
    def is_open(self) -> bool:
        return bool(self.model.said) and self.ended_at is None

    def is_step(self, message: Message) -> bool:
        """Whether an agreement's steps admit a message that would count without them: offers in strict turns, until one is
        accepted by who is due, or refused by anybody.
        """
        model = self.model
        if model.terms.kind != "agreement":
            return True
        if not model.said:
            two, rule = len(model.parties) == 2, model.terms.finish_rule
            return two and rule == "ANY" and message.content_type == OFFER
        if message.content_type == REFUSAL:
            return message.action == "FINISH"
        turn = message.sender in model.due
        return turn and message.content_type == (OFFER if message.action == "CONTINUE" else ACCEPTANCE)

    @property
    def wakes_at(self) -> int:
        """When time changes it next."""
        model, ended_at = self.model, self.ended_at
        if not model.said:
            return NEVER
        if ended_at is None:
            return model.terms.deadline + 1
        return max(model.terms.open_until, ended_at + REMEMBERED) + 1


class RouterLife(RuleBasedStateMachine):
    """A clock that only goes forwards, and ever more deals."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(remembered=REMEMBERED, quotas=Quotas(open_transactions=OPEN_AT_ONCE))
        self.router = MemoryRouter(MEMBERS, limits, pipelines=PIPELINES)
        self.now = START
        self.deals: list[Deal] = []
        self.events: list[list[Told]] = [[] for _ in range(PIPELINES)]
        self.refusals: list[list[Refusal]] = [[] for _ in range(PIPELINES)]
        self.contents = 0
        self.caught_up = True

    # What the rules below are made of.

    def append(self, pipeline: int, message: Message | None) -> None:
        """Put a message (or a tick) on ingest, and foretell what comes of it."""
        offset = self.router.append(None if message is None else sealed(message), self.now, pipeline)
        self.caught_up = False
        self.foretell_what_time_does(pipeline)
        if message is None:
            return
        (deal,) = (deal for deal in self.deals if deal.id == message.transaction_id)
        model, identity = deal.model, identity_of(message)
        verdict = model.verdict(message, self.now)
        if verdict == "ACCEPTED" and not deal.is_step(message):
            verdict = "STEP_NOT_ALLOWED"
        if (
            verdict == "ACCEPTED"
            and not model.said
            and self.opened_by(message.sender, pipeline) >= OPEN_AT_ONCE
        ):
            verdict = "RATE_LIMITED"
        if verdict == "ACCEPTED":
            place = len(self.events[pipeline])
            model.said.append(Said(message, identity, place, Hash(bytes(32)), self.now))
            outcome = "FINISHED" if model.finished else None
            self.events[pipeline].append(Told(deal.id, self.now, identity, outcome, ()))
        elif verdict != "DUPLICATE":
            conflict = verdict == "SEQUENCE_CONFLICT"
            head = Head(len(model.said) - 1, model.said[-1].identity) if conflict else None
            self.refusals[pipeline].append(Refusal(offset, verdict, head))

    def foretell_what_time_does(self, pipeline: int) -> None:
        """Every deadline that has passed, in their order; and what is forgotten is so before the next is judged."""
        on = [deal for deal in self.deals if deal.pipeline == pipeline]
        for deal in sorted(on, key=lambda deal: (deal.wakes_at, deal.id)):
            if deal.wakes_at > self.now:
                continue
            if deal.ended_at is None:
                due = tuple(deal.model.due)
                deal.model.timed_out_at = self.now
                self.events[pipeline].append(Told(deal.id, self.now, None, "TIMED_OUT", due))
            else:
                deal.model = Model(deal.model.terms)

    def opened_by(self, opener: str, pipeline: int) -> int:
        """How many transactions of the opener are open on the pipeline."""
        return sum(
            deal.is_open and deal.opening.sender == opener for deal in self.deals if deal.pipeline == pipeline
        )

    def deal(self, data: st.DataObject) -> Deal:
        return data.draw(st.sampled_from(self.deals[-6:]))

    def message(self, deal: Deal, sender: str, action: Action, content_type: str = "") -> Message:
        """What would count next, with content unlike any before; an opening where nothing was said."""
        self.contents += 1
        model = deal.model
        if not model.said:
            return deal.opening
        return deal.opening._replace(
            sequence=len(model.said),
            previous=model.said[-1].identity,
            sender=sender,
            action=action,
            terms=None,
            content_type=content_type or (OFFER if action == "CONTINUE" else ACCEPTANCE),
            content=b"%d" % self.contents,
        )

    # What is said.

    @rule(
        kind=st.sampled_from(("free", "free", "agreement")),
        opener=st.sampled_from(PARTIES[:2]),
        content_type=st.sampled_from((OFFER, OFFER, "text/plain")),
        rules=st.sampled_from(("ANY", "ANY", "ALL")),
        parties=st.sampled_from((PARTIES[:2], PARTIES)),
        pipeline=st.integers(0, PIPELINES - 1),
        lasting=st.sampled_from(LASTING),
        open_for=st.sampled_from((0, 10, HOUR)),
    )
    def open(
        self,
        kind: str,
        opener: str,
        content_type: str,
        rules: FinishRule,
        parties: tuple[str, ...],
        pipeline: int,
        lasting: int,
        open_for: int,
    ) -> None:
        identity = transaction_id(f"deal {len(self.deals)}")
        terms = Terms(
            kind,
            tuple(Party(name, name) for name in parties),
            self.now + lasting,
            self.now + open_for,
            rules,
        )
        others = tuple(name for name in parties if name != opener)
        opening = Message(
            identity, pipeline, 0, None, opener, others, self.now, "OPEN", terms, content_type, b"", None, ()
        )
        self.deals.append(Deal(identity, pipeline, Model(terms), opening))
        self.append(pipeline, opening)

    @rule(data=st.data(), action=st.sampled_from(("CONTINUE", "FINISH")))
    def go_on(self, data: st.DataObject, action: Action) -> None:
        deal = self.deal(data)
        sender = data.draw(st.sampled_from(deal.model.parties))
        self.append(deal.pipeline, self.message(deal, sender, action))

    @rule(
        data=st.data(),
        action=st.sampled_from(("CONTINUE", "FINISH")),
        content_type=st.sampled_from((OFFER, ACCEPTANCE, REFUSAL, "text/plain")),
    )
    def take_any_step(self, data: st.DataObject, action: Action, content_type: str) -> None:
        deal = self.deal(data)
        sender = data.draw(st.sampled_from(deal.model.parties))
        self.append(deal.pipeline, self.message(deal, sender, action, content_type))

    @rule(data=st.data())
    def both_finish(self, data: st.DataObject) -> None:
        deal = data.draw(st.sampled_from([deal for deal in self.deals if len(deal.model.parties) == 2]))
        for sender in deal.model.parties:
            self.append(deal.pipeline, self.message(deal, sender, "FINISH"))

    @rule(data=st.data())
    def two_speak_at_once(self, data: st.DataObject) -> None:
        """Whatever is committed, rolled back or killed between the two."""
        deal = self.deal(data)
        first = self.message(deal, "alice", "CONTINUE")
        second = self.message(deal, "bob", "FINISH")
        self.append(deal.pipeline, first)
        if data.draw(st.booleans()):
            self.router.step()
        self.append(deal.pipeline, second)

    @initialize()
    def begin(self) -> None:
        self.open("free", "alice", "", "ANY", PARTIES[:2], 0, HOUR, HOUR)

    @precondition(lambda self: any(deal.model.said for deal in self.deals))
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        deal = data.draw(st.sampled_from([deal for deal in self.deals if deal.model.said]))
        self.append(deal.pipeline, data.draw(st.sampled_from(deal.model.said)).message)

    @rule(data=st.data())
    def replay_an_opening(self, data: st.DataObject) -> None:
        deal = self.deal(data)
        self.append(deal.pipeline, deal.opening)

    @rule(data=st.data())
    def a_stranger_speaks(self, data: st.DataObject) -> None:
        deal = self.deal(data)
        if deal.model.said:
            self.append(deal.pipeline, self.message(deal, "mallory", "FINISH"))

    # Time.

    @rule(ms=st.sampled_from((1, 49, SECOND, HOUR, 2 * DAY, 20 * DAY)))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule(data=st.data(), late=st.sampled_from((-1, 0, 1)), action=st.sampled_from(("CONTINUE", "FINISH")))
    def speak_about_the_deadline(self, data: st.DataObject, late: int, action: Action) -> None:
        deal = self.deal(data)
        self.now = max(self.now, deal.model.terms.deadline + late)
        self.append(deal.pipeline, self.message(deal, "bob", action))

    @rule(pipeline=st.integers(0, PIPELINES - 1))
    def tick(self, pipeline: int) -> None:
        self.append(pipeline, None)

    @rule(pipeline=st.integers(0, PIPELINES - 1), early=st.booleans())
    def tick_when_the_next_is_due(self, pipeline: int, early: bool) -> None:
        """As the processor does on an idle pipeline; a moment too early, nothing comes of it."""
        self.commit()
        if (due := self.router.next_due(pipeline)) < ALMOST_NEVER:
            self.now = max(self.now, due - early)
            self.append(pipeline, None)

    # What the process does.

    @rule()
    def commit(self) -> None:
        self.router.step()
        self.caught_up = True

    @rule(count=st.integers(0, 3))
    def commit_some(self, count: int) -> None:
        self.router.step(count)

    @rule(count=st.integers(0, 3))
    def be_rolled_back(self, count: int) -> None:
        self.router.abort(count)

    @rule(count=st.integers(0, 3))
    def die(self, count: int) -> None:
        self.router.die(count)

    @rule(days=st.integers(0, 40))
    def restart_after_days(self, days: int) -> None:
        self.now += days * DAY
        self.router.restart()

    # What always holds.

    @invariant()
    def nothing_comes_that_was_not_foretold(self) -> None:
        for pipeline in range(PIPELINES):
            told = [Told.by(event) for event in self.router.events(pipeline)]
            assert told == self.events[pipeline][: len(told)]
            refused = [Refusal.by(each) for each in self.router.rejections() if each.pipeline == pipeline]
            assert refused == self.refusals[pipeline][: len(refused)]
            if self.caught_up:
                assert len(told) == len(self.events[pipeline])
                assert len(refused) == len(self.refusals[pipeline])

    @precondition(lambda self: self.caught_up)
    @invariant()
    def what_is_remembered_wakes_when_it_must(self) -> None:
        for pipeline in range(PIPELINES):
            on = [deal for deal in self.deals if deal.pipeline == pipeline and deal.model.said]
            remembered, due = self.router.transactions(pipeline), self.router.next_due(pipeline)
            if again := remembered.keys() - {deal.id for deal in on}:
                # What was forgotten a restart may take from the firehose again; the next record has it forgotten.
                assert all(remembered[key].outcome is not None for key in again)
                assert due <= self.now
            else:
                assert len(remembered) == len(on)
                assert min(due, ALMOST_NEVER) == min([deal.wakes_at for deal in on] + [ALMOST_NEVER])

    def teardown(self) -> None:
        """In the end everything ends, each when it is due."""
        self.commit()
        for pipeline in range(PIPELINES):
            while self.router.next_due(pipeline) < ALMOST_NEVER:
                self.tick_when_the_next_is_due(pipeline, early=False)
                self.commit()
        self.nothing_comes_that_was_not_foretold()
        assert all(not deal.model.said for deal in self.deals)


RouterLife.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRouterLife = RouterLife.TestCase
