"""The lifecycle against a naive model: whatever is said, in whatever order and however late, both judge it alike.

The model is `tests.lifecycle_model`. What a router makes of many transactions at once is held against it in `test_router_model.py`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parley import lifecycle
from parley.schemas import (
    Action,
    EventReference,
    FinishRule,
    Hash,
    Head,
    Message,
    MessageId,
    Party,
    Reference,
    Terms,
    TransactionId,
    TransactionState,
    decode,
    encode,
)
from tests import strategies as of
from tests.hiding import sealed_to
from tests.lifecycle_model import Model, Said, identity_of

PIPELINE = 3
REMEMBERED = 5_000
"""How long after its end a transaction is remembered, in ms."""
TRANSACTION = TransactionId(bytes.fromhex("01932c078f107abc9def0123456789ab"))
STRANGER = "nobody.invited"


class TransactionLife(RuleBasedStateMachine):
    """One transaction, driven as the router drives it, on a clock that only goes forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.state: TransactionState | None = None
        self.now = of.NOW
        self.place = 0
        self.contents = 0

    @initialize(terms=of.terms())
    def agree_on_terms(self, terms: Terms) -> None:
        self.model = Model(terms)
        self.sent: list[Message] = []

    # What the rules below are made of.

    def message(self, data: st.DataObject, sender: str, action: Action) -> Message:
        """The message that would count next, with content unlike any before."""
        self.contents += 1
        addresses = [party.address for party in self.model.terms.parties]
        head = self.model.said[-1] if self.model.said else None
        return Message(
            transaction_id=TRANSACTION,
            pipeline=PIPELINE,
            sequence=len(self.model.said),
            previous=None if head is None else head.identity,
            sender=sender,
            recipients=tuple(
                data.draw(
                    st.lists(st.sampled_from([*addresses, "elsewhere"]), min_size=1, max_size=3, unique=True)
                )
            ),
            sent_at=self.now,
            action=action,
            terms=self.model.terms if action == "OPEN" else None,
            content_type="text/plain",
            content=b"%d" % self.contents,
            encryption=None,
            references=(),
        )

    def party(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.model.parties))

    def submit(self, message: Message) -> str:
        """Judge a message as the router does, and hold the verdict and what it changes against the model."""
        before = self.state
        identity = identity_of(message)
        expected = self.model.verdict(message, self.now)
        verdict = self.judged(message, identity)
        assert verdict == expected
        if verdict == "ACCEPTED":
            assert lifecycle.well_formed(message) is None
            self.accept(message, identity)
        assert before == self.state or verdict == "ACCEPTED", "a message that does not count changes nothing"
        self.sent.append(message)
        return verdict

    def judged(self, message: Message, identity: MessageId) -> str:
        if self.state is not None:
            original = lifecycle.duplicate_of(self.state, message, identity)
            if original is not None:
                (said,) = [said for said in self.model.said if said.identity == identity]
                assert original == (said.identity, said.place, said.digest, said.at)
                return "DUPLICATE"
        refusal = lifecycle.judge(self.state, message, self.now)
        if refusal is None:
            return "ACCEPTED"
        conflict = refusal.reason == "SEQUENCE_CONFLICT"
        assert refusal.retriable == conflict
        head = Head(len(self.model.said) - 1, self.model.said[-1].identity) if conflict else None
        assert refusal.head == head, "only who conflicts is told the head"
        assert refusal.detail
        return refusal.reason

    def accept(self, message: Message, identity: MessageId) -> None:
        self.place += 1 + self.contents % 3
        digest = Hash(sha256(identity).digest())
        change = lifecycle.step(self.state, message)
        self.state = lifecycle.recorded(self.state, message, change, identity, self.place, digest, self.now)
        self.model.said.append(Said(message, identity, self.place, digest, self.now))

    # Openings.

    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        opening = self.message(data, self.party(data), "OPEN")
        self.submit(opening._replace(sequence=0, previous=None))

    @rule(data=st.data())
    def a_stranger_opens(self, data: st.DataObject) -> None:
        opening = self.message(data, STRANGER, "OPEN")
        assert self.submit(opening._replace(sequence=0, previous=None)) == "NOT_A_PARTY"

    @precondition(lambda self: self.model.said)
    @rule(data=st.data(), terms=of.terms())
    def open_again_on_other_terms(self, data: st.DataObject, terms: Terms) -> None:
        opening = self.message(data, self.party(data), "OPEN")
        self.submit(opening._replace(sequence=0, previous=None, terms=terms))
        assert self.state is not None
        assert self.state.terms == self.model.terms

    # Messages.

    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self.submit(self.message(data, self.party(data), "CONTINUE"))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.submit(self.message(data, self.party(data), "FINISH"))

    @precondition(lambda self: self.model.said and not self.model.finished)
    @rule(data=st.data())
    def the_due_answer(self, data: st.DataObject) -> None:
        assert self.state is not None
        action: Action = data.draw(st.sampled_from(("CONTINUE", "FINISH")))
        self.submit(self.message(data, data.draw(st.sampled_from(self.state.due)), action))

    @rule(data=st.data())
    def two_speak_at_once(self, data: st.DataObject) -> None:
        first, second = (self.message(data, self.party(data), "CONTINUE") for _ in range(2))
        if self.submit(first) == "ACCEPTED":
            assert self.submit(second) == "SEQUENCE_CONFLICT"

    @precondition(lambda self: self.model.said)
    @rule(data=st.data(), action=st.sampled_from(("CONTINUE", "FINISH")))
    def a_stranger_speaks(self, data: st.DataObject, action: Action) -> None:
        assert self.submit(self.message(data, STRANGER, action)) == "NOT_A_PARTY"

    @precondition(lambda self: self.model.said)
    @rule(data=st.data(), sequence=st.integers(-3, 12) | of.INT)
    def speak_at_any_sequence(self, data: st.DataObject, sequence: int) -> None:
        self.submit(self.message(data, self.party(data), "CONTINUE")._replace(sequence=sequence))

    @precondition(lambda self: self.model.said)
    @rule(data=st.data(), previous=of.message_ids() | st.none())
    def speak_after_any_message(self, data: st.DataObject, previous: MessageId | None) -> None:
        earlier = [said.identity for said in self.model.said]
        previous = data.draw(st.sampled_from([previous, *earlier]))
        self.submit(self.message(data, self.party(data), "CONTINUE")._replace(previous=previous))

    # Repetitions.

    @precondition(lambda self: self.model.said)
    @rule(data=st.data())
    def repeat_what_counted(self, data: st.DataObject) -> None:
        said = data.draw(st.sampled_from(self.model.said))
        assert self.submit(said.message) == "DUPLICATE"

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat_what_was_sent(self, data: st.DataObject) -> None:
        self.submit(data.draw(st.sampled_from(self.sent)))

    @precondition(lambda self: self.model.said)
    @rule(data=st.data())
    def repeat_on_another_pipeline(self, data: st.DataObject) -> None:
        said = data.draw(st.sampled_from(self.model.said))
        assert self.submit(said.message._replace(pipeline=PIPELINE + 1)) != "ACCEPTED"

    @precondition(lambda self: self.model.said)
    @rule(data=st.data())
    def claim_an_accepted_id_at_another_sequence(self, data: st.DataObject) -> None:
        """No forged sequence makes a duplicate of what stands elsewhere (ids are digests, so this needs a collision)."""
        assert self.state is not None
        said = data.draw(st.sampled_from(self.model.said))
        sequence = data.draw(st.integers(-6, 12) | of.INT)
        if sequence == said.message.sequence:
            return
        forged = said.message._replace(sequence=sequence)
        assert lifecycle.duplicate_of(self.state, forged, said.identity) is None

    # Time.

    @rule(milliseconds=st.sampled_from((1, 1_000, 60_000)))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule(data=st.data(), late=st.sampled_from((-1, 0, 1)), action=st.sampled_from(("CONTINUE", "FINISH")))
    def speak_about_the_deadline(self, data: st.DataObject, late: int, action: Action) -> None:
        self.now = max(self.now, self.model.terms.deadline + late)
        self.submit(self.message(data, self.party(data), action))

    @rule(data=st.data(), late=st.sampled_from((-1, 0, 1)), which=st.sampled_from(("deadline", "open_until")))
    def open_about_a_limit(self, data: st.DataObject, late: int, which: str) -> None:
        self.now = max(self.now, getattr(self.model.terms, which) + late)
        opening = self.message(data, self.party(data), "OPEN")
        self.submit(opening._replace(sequence=0, previous=None))

    @precondition(lambda self: self.state is not None and self.state.outcome is None)
    @rule()
    def the_clock_wakes_it(self) -> None:
        assert self.state is not None
        self.now = max(self.now, lifecycle.wakes_at(self.state, REMEMBERED))
        due = self.state.due
        self.state = lifecycle.expired(self.state, self.now)
        self.model.timed_out_at = self.now
        assert self.state.due == due, "who was due stays named"

    @precondition(lambda self: self.state is not None and self.state.outcome is not None)
    @rule(data=st.data())
    def it_is_forgotten_and_its_opening_replayed(self, data: st.DataObject) -> None:
        assert self.state is not None
        opening = self.model.said[0].message
        self.now = max(self.now, lifecycle.wakes_at(self.state, REMEMBERED))
        self.state = None
        self.model.said, self.model.timed_out_at = [], None
        assert self.submit(opening) == "OPENING_EXPIRED"
        assert self.submit(self.message(data, self.party(data), "CONTINUE")) == "UNKNOWN_TRANSACTION"

    # What always holds.

    @invariant()
    def nothing_is_open_before_an_opening_counted(self) -> None:
        assert (self.state is None) == (not self.model.said)

    @invariant()
    def the_state_is_what_the_model_says(self) -> None:
        if self.state is None:
            return
        said = self.model.said
        assert self.state.terms == self.model.terms
        assert self.state.opened_at == said[0].at
        assert list(self.state.finished) == self.model.finishers
        assert list(self.state.due) == self.model.due
        assert lifecycle.message_count(self.state) == len(said)
        assert lifecycle.head_of(self.state) == (len(said) - 1, said[-1].identity)
        assert lifecycle.last_sequence(self.state) == said[-1].place
        assert lifecycle.events_of(self.state) == tuple(EventReference(it.place, it.digest) for it in said)
        assert list(lifecycle.accepted_messages(self.state)) == [
            (it.identity, it.place, it.digest, it.at) for it in said
        ]

    @invariant()
    def the_outcome_is_what_the_model_says(self) -> None:
        if self.state is None:
            return
        terms, ended_at = self.model.terms, None
        if self.model.finished:
            ended_at = self.model.said[-1].at
            assert self.state.outcome == "FINISHED"
        elif self.model.timed_out_at is not None:
            ended_at = self.model.timed_out_at
            assert self.state.outcome == "TIMED_OUT"
            assert self.state.due, "somebody was due"
        else:
            assert self.state.outcome is None
            assert self.state.due, "somebody is due"
        assert self.state.ended_at == ended_at
        wakes = lifecycle.wakes_at(self.state, REMEMBERED)
        if ended_at is None:
            assert wakes == terms.deadline + 1
        else:
            assert wakes == max(terms.open_until + 1, ended_at + REMEMBERED + 1)

    @invariant()
    def nobody_is_due_who_has_finished_or_is_no_party(self) -> None:
        if self.state is not None:
            assert set(self.state.due) <= set(self.model.parties) - set(self.state.finished)

    @invariant()
    def the_state_survives_the_wire(self) -> None:
        if self.state is not None:
            assert decode(encode(self.state), TransactionState) == self.state


TransactionLife.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestTransactionLife = TransactionLife.TestCase


@settings(max_examples=30, deadline=None)
@given(of.dialogues(finished=True))
def test_a_dialogue_without_a_fault_ends_with_its_last_message(dialogue: tuple[Message, ...]) -> None:
    state = None
    for place, message in enumerate(dialogue):
        assert state is None or state.outcome is None
        assert lifecycle.well_formed(message) is None
        assert lifecycle.judge(state, message, of.NOW) is None
        change = lifecycle.step(state, message)
        identity = identity_of(message)
        state = lifecycle.recorded(state, message, change, identity, place, Hash(bytes(32)), of.NOW)
    assert state is not None
    assert (state.outcome, state.due, state.ended_at) == ("FINISHED", (), of.NOW)


PARTIES = (Party("bank-a", "bank-a.desk"), Party("bank-b", "bank-b.desk"))
TERMS = Terms("agreement", PARTIES, of.NOW + 60_000, of.NOW + 1_000, "ANY")
OPENING = Message(
    TRANSACTION, 0, 0, None, "bank-a", ("bank-b.desk",), of.NOW, "OPEN", TERMS, "text/plain", b"", None, ()
)
LATER = OPENING._replace(sequence=1, previous=identity_of(OPENING), action="CONTINUE", terms=None)


def accepted(state: TransactionState | None, message: Message, at: int = of.NOW) -> TransactionState:
    """The state after a message that must count."""
    assert lifecycle.judge(state, message, at) is None
    change = lifecycle.step(state, message)
    place = 0 if state is None else lifecycle.message_count(state)
    return lifecycle.recorded(state, message, change, identity_of(message), place, Hash(bytes(32)), at)


def reply(state: TransactionState, sender: str, action: Action = "CONTINUE") -> Message:
    """The next message, addressed to nobody in particular."""
    head = lifecycle.head_of(state)
    return LATER._replace(
        sequence=head.sequence + 1,
        previous=head.message_id,
        sender=sender,
        recipients=("elsewhere",),
        action=action,
    )


@pytest.mark.parametrize("rule", ["ANY", "ALL"])
@pytest.mark.parametrize("action", ["CONTINUE", "FINISH"])
def test_a_message_counts_at_the_deadline_and_not_after_it(rule: FinishRule, action: Action) -> None:
    state = accepted(None, OPENING._replace(terms=TERMS._replace(finish_rule=rule)))
    message = reply(state, "bank-b", action)
    assert lifecycle.judge(state, message, TERMS.deadline) is None
    refusal = lifecycle.judge(state, message, TERMS.deadline + 1)
    assert refusal is not None
    assert (refusal.reason, refusal.retriable) == ("DEADLINE_PASSED", False)
    assert refusal.detail == f"the deadline was {TERMS.deadline} and this came 1 ms after it"


def test_an_opening_counts_until_its_limit_and_the_deadline_and_not_after_either() -> None:
    assert lifecycle.judge(None, OPENING, TERMS.open_until) is None
    late = lifecycle.judge(None, OPENING, TERMS.open_until + 1)
    assert late is not None
    assert late.reason == "OPENING_EXPIRED"
    short = OPENING._replace(terms=TERMS._replace(deadline=TERMS.open_until - 10))
    assert lifecycle.judge(None, short, TERMS.open_until - 10) is None
    too_late = lifecycle.judge(None, short, TERMS.open_until - 9)
    assert too_late is not None
    assert too_late.reason == "DEADLINE_PASSED"


@pytest.mark.parametrize(
    "change",
    [
        {"previous": MessageId(bytes(32))},
        {"previous": identity_of(OPENING)},
        {"sequence": 1},
        {"sequence": 3},
    ],
)
def test_a_message_needs_both_the_next_sequence_and_the_link_to_the_head(change: dict[str, Any]) -> None:
    state = accepted(None, OPENING)
    state = accepted(state, reply(state, "bank-b"))
    following = reply(state, "bank-a")
    assert lifecycle.judge(state, following, of.NOW) is None
    refusal = lifecycle.judge(state, following._replace(**change), of.NOW)
    assert refusal is not None
    assert (refusal.reason, refusal.retriable) == ("SEQUENCE_CONFLICT", True)
    assert refusal.head == lifecycle.head_of(state)
    assert "the head is message 1; read it, then send message 2 linked to it" in refusal.detail


def test_under_all_a_party_that_finishes_twice_counts_once() -> None:
    third = Party("bank-c", "bank-c.desk")
    state = accepted(
        None, OPENING._replace(terms=TERMS._replace(finish_rule="ALL", parties=(*PARTIES, third)))
    )
    for sender in ("bank-b", "bank-b", "bank-c", "bank-b", "bank-c"):
        state = accepted(state, reply(state, sender, "FINISH"))
        assert state.outcome is None
        assert "bank-a" in state.due
    assert (state.finished, state.due) == (("bank-b", "bank-c"), ("bank-a",))
    state = accepted(state, reply(state, "bank-a", "FINISH"))
    assert (state.outcome, state.due) == ("FINISHED", ())


def test_under_all_a_further_word_withdraws_every_finish_before_it() -> None:
    state = accepted(None, OPENING._replace(terms=TERMS._replace(finish_rule="ALL")))
    state = accepted(state, reply(state, "bank-b", "FINISH"))
    state = accepted(state, reply(state, "bank-a"))
    assert (state.finished, state.outcome) == ((), None)
    state = accepted(state, reply(state, "bank-a", "FINISH"))
    assert (state.finished, state.outcome) == (("bank-a",), None)


@pytest.mark.parametrize("open_for", [1_000, 50_000])
def test_what_has_ended_is_remembered_until_its_opening_can_no_longer_be_replayed(open_for: int) -> None:
    opening = OPENING._replace(terms=TERMS._replace(open_until=of.NOW + open_for))
    state = accepted(None, opening)
    assert lifecycle.wakes_at(state, REMEMBERED) == TERMS.deadline + 1
    ended = accepted(state, reply(state, "bank-b", "FINISH"), of.NOW + 10)
    forgotten = lifecycle.wakes_at(ended, REMEMBERED)
    assert forgotten == of.NOW + max(open_for, 10 + REMEMBERED) + 1
    replayed = lifecycle.judge(None, opening, forgotten)
    assert replayed is not None
    assert replayed.reason == "OPENING_EXPIRED"


@pytest.mark.parametrize("sequence", [-(2**31), -2, -1, 1, 2, 2**31 - 1])
def test_no_other_sequence_makes_a_duplicate(sequence: int) -> None:
    state = accepted(None, OPENING)
    identity = identity_of(OPENING)
    assert lifecycle.duplicate_of(state, OPENING, identity) is not None
    assert lifecycle.duplicate_of(state, OPENING._replace(sequence=sequence), identity) is None


@pytest.mark.parametrize("message", [OPENING, LATER, LATER._replace(action="FINISH")])
def test_what_agrees_with_its_action_is_well_formed(message: Message) -> None:
    assert lifecycle.well_formed(message) is None


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(OPENING._replace(sequence=1), id="an opening later than the first"),
        pytest.param(OPENING._replace(previous=MessageId(bytes(32))), id="an opening after a message"),
        pytest.param(OPENING._replace(terms=None), id="an opening without terms"),
        pytest.param(LATER._replace(sequence=0), id="a later message in the first place"),
        pytest.param(LATER._replace(previous=None), id="a later message after nothing"),
        pytest.param(LATER._replace(terms=TERMS), id="a later message with terms"),
        pytest.param(LATER._replace(action="OPEN"), id="a later message that opens"),
        pytest.param(LATER._replace(sequence=-1), id="a sequence below zero"),
        pytest.param(LATER._replace(pipeline=-1), id="a pipeline below zero"),
        pytest.param(LATER._replace(recipients=()), id="nobody to receive it"),
        pytest.param(LATER._replace(recipients=("bank-b.desk",) * 2), id="the same recipient twice"),
        pytest.param(
            LATER._replace(recipients=tuple(f"bank-{number}" for number in range(33))), id="33 recipients"
        ),
        pytest.param(LATER._replace(sender="Bank A"), id="a sender that is no name"),
        pytest.param(
            LATER._replace(transaction_id=TransactionId(bytes(16))), id="a transaction id that is no UUIDv7"
        ),
    ],
)
def test_what_contradicts_itself_is_not_well_formed(message: Message) -> None:
    refusal = lifecycle.well_formed(message)
    assert refusal is not None
    assert (refusal.reason, refusal.retriable, refusal.head) == ("MALFORMED", False, None)


@pytest.mark.parametrize(
    "terms",
    [
        pytest.param(TERMS._replace(parties=PARTIES[:1]), id="one party"),
        pytest.param(TERMS._replace(parties=()), id="no party"),
        pytest.param(TERMS._replace(parties=(PARTIES[0], PARTIES[0])), id="a party twice"),
        pytest.param(
            TERMS._replace(parties=tuple(Party(f"bank-{number}", "desk") for number in range(33))),
            id="33 parties",
        ),
        pytest.param(TERMS._replace(parties=(PARTIES[0], Party("Bank B", "desk"))), id="no name"),
        pytest.param(TERMS._replace(parties=(PARTIES[0], Party("bank-b", "a desk"))), id="no address"),
        pytest.param(TERMS._replace(kind=""), id="no kind"),
        pytest.param(TERMS._replace(kind="k" * 65), id="a kind too long"),
        pytest.param(TERMS._replace(kind="a\nb"), id="a kind of two lines"),
        pytest.param(TERMS._replace(deadline=0), id="no deadline"),
        pytest.param(TERMS._replace(open_until=-1), id="no moment to open until"),
    ],
)
def test_terms_that_cannot_bind_are_not_well_formed(terms: Terms) -> None:
    refusal = lifecycle.well_formed(OPENING._replace(terms=terms))
    assert refusal is not None
    assert refusal.reason == "MALFORMED"


SEALED = sealed_to("bank-b.desk").text
HIDING = TERMS._replace(parties=(PARTIES[0], Party(SEALED, SEALED)))


def test_a_party_may_be_a_sealed_address_and_speak_by_it() -> None:
    opening = OPENING._replace(terms=HIDING, recipients=(SEALED,))
    assert lifecycle.well_formed(opening) is None
    state = accepted(None, opening)
    assert state.due == (SEALED,)
    stranger = lifecycle.judge(state, reply(state, sealed_to("bank-c").text), of.NOW)
    assert stranger is not None
    assert stranger.reason == "NOT_A_PARTY"
    answer = reply(state, SEALED, "FINISH")
    assert lifecycle.well_formed(answer) is None
    state = accepted(state, answer)
    assert (state.finished, state.outcome) == ((SEALED,), "FINISHED")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(OPENING._replace(sender=SEALED, terms=HIDING), id="a hidden opener"),
        pytest.param(LATER._replace(sender=SEALED[:-1]), id="a sender with a sealed address cut short"),
        pytest.param(
            OPENING._replace(terms=HIDING._replace(parties=(PARTIES[0], Party("bank-b", SEALED)))),
            id="a party that is named and sealed",
        ),
        pytest.param(
            OPENING._replace(terms=HIDING._replace(parties=(PARTIES[0], Party(SEALED, "bank-b")))),
            id="a party that is sealed at a clear address",
        ),
        pytest.param(
            OPENING._replace(
                terms=HIDING._replace(parties=(PARTIES[0], Party(SEALED, sealed_to("bank-c").text)))
            ),
            id="a party of two sealed addresses",
        ),
        pytest.param(
            OPENING._replace(terms=HIDING._replace(parties=(Party(SEALED, SEALED),) * 2)),
            id="one party twice",
        ),
    ],
)
def test_a_sealed_address_stands_for_both_name_and_address_and_opens_nothing(message: Message) -> None:
    refusal = lifecycle.well_formed(message)
    assert refusal is not None
    assert refusal.reason == "MALFORMED"


def test_references_and_content_type_have_limits() -> None:
    reference = Reference("pays", None, None, None, None)
    assert lifecycle.well_formed(OPENING._replace(references=(reference,) * 64)) is None
    assert lifecycle.well_formed(OPENING._replace(references=(reference,) * 65)) is not None
    assert lifecycle.well_formed(OPENING._replace(content_type="x" * 256)) is not None


@settings(max_examples=30, deadline=None)
@given(of.messages())
def test_every_message_of_the_vocabulary_is_well_formed(message: Message) -> None:
    assert lifecycle.well_formed(message) is None
