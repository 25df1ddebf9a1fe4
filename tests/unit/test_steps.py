"""The table of steps: what it admits along each kind's way, what it says when it does not, and that it contradicts nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import pytest

import parley
from parley.client import Participant
from parley.encryption import MessageKey, encrypt
from parley.errors import RefusedError
from parley.schemas import FinishRule, Message, Party, Reference, Rejection, TransactionState
from parley.steps import FREE, STEP_RULES, StepRule, allowed_steps, step_fault
from router.core import Limits
from tests.dialogue import Dialogue, sealed, transaction_id
from tests.memory_backbone import MemoryBackbone
from tests.memory_router import MemoryRouter, members
from tests.synthetic_ledger import signing_key

START = 1_800_000_000_000
PARTIES = ("alice", "bob", "carol")
MEMBERS = members(*PARTIES)
OTHER_DEAL = transaction_id("the trade that it is about")


class Talk:
    """A transaction of a kind at a router that enforces its steps."""

    def __init__(
        self,
        kind: str,
        parties: int | None = None,
        rule: FinishRule | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.rules = STEP_RULES[kind]
        parties = parties or min(len(PARTIES), self.rules.parties[-1])
        self.router = MemoryRouter(MEMBERS, limits)
        self.dialogue = Dialogue.between(*PARTIES[:parties], opened_at=START)
        self.dialogue.terms = self.dialogue.terms._replace(
            kind=kind, finish_rule=rule or self.rules.finish_rule
        )
        self.now = START

    def message(self, sender: str, step: StepRule) -> Message:
        references = () if step.refers is None else (refers_to(step.refers),)
        said = self.dialogue.message(sender, step.action)
        return said._replace(content_type=step.content_type, references=references)

    def offer(self, message: Message) -> Rejection | None:
        """What the router answers to it; if it counts, it is the head from here on."""
        before = len(self.router.rejections())
        self.now += 1
        self.router.append(sealed(message), self.now)
        self.router.step()
        if new := self.router.rejections()[before:]:
            return new[0]
        self.dialogue.send(message)
        return None

    def say(self, sender: str, name: str) -> Rejection | None:
        """What the router answers to the step of that name."""
        return self.offer(self.message(sender, self.step(name)))

    def step(self, name: str) -> StepRule:
        return next(step for step in self.rules.steps if step.name == name)

    @property
    def outcome(self) -> str | None:
        return self.router.transactions()[self.dialogue.id].outcome


def refers_to(relation: str) -> Reference:
    return Reference(relation, OTHER_DEAL, None, None, None)


class Way(NamedTuple):
    kind: str
    said: tuple[tuple[str, str], ...]


WAYS = (
    Way("agreement", (("alice", "offer"), ("bob", "acceptance"))),
    Way("agreement", (("alice", "offer"), ("alice", "refusal"))),
    Way(
        "agreement",
        (("alice", "offer"), ("bob", "counter-offer"), ("alice", "counter-offer"), ("bob", "acceptance")),
    ),
    Way("agreement", (("bob", "offer"), ("alice", "counter-offer"), ("bob", "refusal"))),
    Way("otc-trade", (("alice", "capture"), ("bob", "affirmation"))),
    Way(
        "otc-trade",
        (("alice", "capture"), ("alice", "amendment"), ("bob", "amendment"), ("alice", "affirmation")),
    ),
    Way("otc-trade", (("alice", "capture"), ("bob", "cancellation"))),
    Way("otc-trade", (("alice", "later amendment"), ("bob", "affirmation"))),
    Way("otc-trade", (("alice", "later cancellation"), ("bob", "affirmation"))),
    Way(
        "delivery-versus-payment",
        (
            ("alice", "receiver's instruction"),
            ("bob", "commitment"),
            ("alice", "cash confirmation"),
            ("bob", "settlement"),
        ),
    ),
    Way("delivery-versus-payment", (("alice", "receiver's instruction"), ("bob", "refusal"))),
    Way("delivery-versus-payment", (("alice", "receiver's instruction"), ("alice", "refusal"))),
    Way(
        "delivery-versus-payment",
        (("alice", "receiver's instruction"), ("bob", "commitment"), ("alice", "decline")),
    ),
    Way(
        "ledger-delivery",
        (
            ("alice", "order"),
            ("bob", "attachment"),
            ("carol", "check"),
            ("alice", "attachment"),
            ("carol", "ready"),
            ("alice", "consent"),
            ("bob", "attachment"),
            ("carol", "ready"),
            ("bob", "consent"),
            ("alice", "consent"),
            ("carol", "release"),
        ),
    ),
    Way("ledger-receipt", (("carol", "broadcast"), ("carol", "chain's word"))),
)


@pytest.mark.parametrize(
    "way", WAYS, ids=lambda way: f"{way.kind}: {', '.join(name for _, name in way.said)}"
)
def test_each_way_through_a_kind_is_accepted_to_its_end(way: Way) -> None:
    talk = Talk(way.kind)
    for sender, name in way.said:
        assert talk.say(sender, name) is None
    assert talk.outcome == "FINISHED"


@pytest.mark.parametrize("kind", STEP_RULES)
def test_every_step_of_every_kind_is_on_some_way(kind: str) -> None:
    walked = {name for way in WAYS if way.kind == kind for _, name in way.said}
    steps = STEP_RULES[kind].steps
    assert walked == {step.name for step in steps}
    assert {name for step in steps for name in step.after} <= {step.name for step in steps}
    assert all(bool(step.after) == (step.action != "OPEN") for step in steps)


@pytest.mark.parametrize("kind", STEP_RULES)
def test_what_follows_a_step_is_told_apart_by_action_and_content_type(kind: str) -> None:
    rules = STEP_RULES[kind]
    for number in (None, *range(len(rules.steps))):
        following = [(step.action, step.content_type) for step in rules.after(number)]
        assert len(set(following)) == len(following)


@pytest.mark.parametrize("kind", STEP_RULES)
def test_a_transaction_can_be_ended_after_every_step_that_does_not_end_it(kind: str) -> None:
    rules = STEP_RULES[kind]
    for number, step in enumerate(rules.steps):
        if step.action != "FINISH":
            ways_on = [rules.steps.index(each) for each in rules.after(number)]
            reached = set(ways_on)
            while ways_on:
                further = {rules.steps.index(each) for each in rules.after(ways_on.pop())} - reached
                reached |= further
                ways_on.extend(further)
            assert any(rules.steps[each].action == "FINISH" for each in reached)


def test_a_number_means_the_same_step_for_ever() -> None:
    """States hold these numbers: a step may be added at a kind's end, and none may be moved or taken out."""
    names = {kind: tuple(step.name for step in rules.steps) for kind, rules in STEP_RULES.items()}
    released = {
        "agreement": ("offer", "counter-offer", "acceptance", "refusal"),
        "otc-trade": (
            "capture",
            "affirmation",
            "amendment",
            "cancellation",
            "later amendment",
            "later cancellation",
        ),
        "delivery-versus-payment": (
            "receiver's instruction",
            "commitment",
            "cash confirmation",
            "settlement",
            "refusal",
            "decline",
        ),
        "ledger-delivery": ("order", "attachment", "check", "ready", "consent", "release"),
        "ledger-receipt": ("broadcast", "chain's word"),
    }
    assert set(names) == set(released)
    for kind, steps in released.items():
        assert names[kind][: len(steps)] == steps


def test_an_opening_that_is_no_step_is_refused_and_told_what_would_open() -> None:
    talk = Talk("agreement")
    refused = talk.offer(talk.dialogue.message("alice"))
    assert refused is not None
    assert (refused.reason, refused.retriable, refused.sender) == ("STEP_NOT_ALLOWED", False, "alice")
    assert refused.detail == (
        "OPEN with the content type 'text/plain' is no step that may open such a transaction; what may open such a"
        " transaction is the offer (OPEN, application/vnd.parley.agreement.offer+json) by the opener"
    )


def test_a_step_that_does_not_follow_is_refused_and_told_what_follows_and_from_whom() -> None:
    talk = Talk("delivery-versus-payment")
    talk.say("alice", "receiver's instruction")
    refused = talk.say("bob", "settlement")
    assert refused is not None
    assert refused.detail == (
        "FINISH with the content type 'application/vnd.iso20022.sese.025.001.11+xml' is no step that may follow the"
        " receiver's instruction; what may follow the receiver's instruction is the commitment (CONTINUE,"
        " application/vnd.iso20022.sese.023.001.11+xml) by bob, or the refusal (FINISH,"
        " application/vnd.iso20022.sese.024.001.12+xml) by any party"
    )


def test_who_is_not_due_may_not_accept_its_own_offer() -> None:
    talk = Talk("agreement")
    talk.say("alice", "offer")
    refused = talk.say("alice", "acceptance")
    assert refused is not None
    assert refused.detail.startswith(
        "the acceptance is not its sender's to say now; what may follow the offer is"
    )
    assert (
        "the acceptance (FINISH, application/vnd.parley.agreement.acceptance+json) by bob" in refused.detail
    )
    assert talk.say("bob", "acceptance") is None


def test_who_has_committed_waits_and_cannot_withdraw() -> None:
    talk = Talk("delivery-versus-payment")
    talk.say("alice", "receiver's instruction")
    talk.say("bob", "commitment")
    refused = talk.say("bob", "decline")
    assert refused is not None
    assert refused.reason == "STEP_NOT_ALLOWED"


def test_only_the_last_of_the_parties_may_speak_as_the_service() -> None:
    talk = Talk("ledger-delivery")
    talk.say("alice", "order")
    talk.say("bob", "attachment")
    refused = talk.say("bob", "ready")
    assert refused is not None
    assert "the ready (CONTINUE, application/vnd.parley.ledger.ready+json) by carol" in refused.detail


def test_what_was_refused_changes_nothing_of_what_may_follow() -> None:
    talk = Talk("agreement")
    talk.say("alice", "offer")
    talk.say("alice", "acceptance")
    talk.offer(talk.dialogue.message("bob"))
    assert talk.say("bob", "counter-offer") is None
    assert talk.say("alice", "acceptance") is None


def test_the_same_content_type_with_another_action_is_another_step() -> None:
    talk = Talk("agreement")
    talk.say("alice", "offer")
    acceptance = talk.message("bob", talk.step("acceptance"))
    refused = talk.offer(acceptance._replace(action="CONTINUE"))
    assert refused is not None
    assert refused.reason == "STEP_NOT_ALLOWED"


@pytest.mark.parametrize(
    "references",
    [
        pytest.param((), id="none"),
        pytest.param((refers_to("cancels"),), id="another relation"),
        pytest.param((Reference("amends", None, None, 5, "elsewhere"),), id="to no transaction"),
    ],
)
def test_a_reference_that_lacks_is_asked_for(references: tuple[Reference, ...]) -> None:
    talk = Talk("otc-trade")
    opening = talk.message("alice", talk.step("later amendment"))
    refused = talk.offer(opening._replace(references=references))
    assert refused is not None
    assert refused.detail == (
        "the later amendment must carry a reference of the relation 'amends' to another transaction; add it and send it"
        " again"
    )
    assert talk.offer(opening) is None


def test_a_transaction_does_not_refer_to_itself() -> None:
    talk = Talk("otc-trade")
    opening = talk.message("alice", talk.step("later amendment"))
    itself = Reference("amends", opening.transaction_id, None, None, None)
    assert talk.offer(opening._replace(references=(itself,))) is not None


def test_too_many_parties_are_refused_by_number() -> None:
    refused = Talk("agreement", parties=3).say("alice", "offer")
    assert refused is not None
    assert refused.detail == "a transaction of the kind agreement has 2 parties; open it among so many"


def test_another_finish_rule_is_refused_by_name() -> None:
    refused = Talk("agreement", rule="ALL").say("alice", "offer")
    assert refused is not None
    assert refused.detail == "a transaction of the kind agreement has the finish rule ANY; open it with that"


def test_a_kind_that_the_operator_frees_takes_anything() -> None:
    talk = Talk("agreement", parties=3, rule="ALL", limits=Limits(free_kinds=frozenset({"agreement"})))
    assert talk.offer(talk.dialogue.message("alice")) is None
    assert talk.offer(talk.dialogue.message("carol")) is None


def test_a_transaction_that_left_its_steps_while_its_kind_was_free_stays_free() -> None:
    """The rules are on again after a restart: what was open before goes on as it began."""
    talk = Talk("agreement", limits=Limits(free_kinds=frozenset({"agreement"})))
    talk.say("alice", "offer")
    talk.offer(talk.dialogue.message("bob"))
    enforcing = MemoryRouter(MEMBERS)
    enforcing.topics, enforcing.committed = talk.router.topics, talk.router.committed
    enforcing.restart()
    talk.router = enforcing
    assert talk.router.transactions()[talk.dialogue.id].step == FREE
    assert talk.offer(talk.dialogue.message("alice", "FINISH")) is None
    assert talk.outcome == "FINISHED"


def test_a_kind_that_no_table_knows_is_free() -> None:
    router = MemoryRouter(MEMBERS)
    dialogue = Dialogue.between("alice", "bob", opened_at=START)
    router.append(dialogue.say("alice"), START)
    router.step()
    state = router.transactions()[dialogue.id]
    assert state.step == FREE
    assert allowed_steps(state, "bob") == ()


def test_the_step_is_remembered_through_a_restart() -> None:
    talk = Talk("agreement")
    talk.say("alice", "offer")
    talk.router.restart()
    refused = talk.say("alice", "acceptance")
    assert refused is not None
    assert refused.reason == "STEP_NOT_ALLOWED"


def test_the_opener_is_remembered_wherever_it_stands_among_the_parties() -> None:
    talk = Talk("agreement")
    assert talk.say("bob", "offer") is None
    assert talk.router.transactions()[talk.dialogue.id].opener == 1


def test_a_party_can_ask_what_it_may_say() -> None:
    talk = Talk("delivery-versus-payment")
    talk.say("alice", "receiver's instruction")
    state = talk.router.transactions()[talk.dialogue.id]
    assert [step.name for step in allowed_steps(state, "alice")] == ["refusal"]
    assert [step.name for step in allowed_steps(state, "bob")] == ["commitment", "refusal"]
    talk.say("bob", "refusal")
    assert allowed_steps(talk.router.transactions()[talk.dialogue.id], "bob") == ()


@pytest.mark.parametrize("kind", STEP_RULES)
@pytest.mark.parametrize("sender", PARTIES)
def test_what_a_party_may_say_is_what_the_router_accepts(kind: str, sender: str) -> None:
    for opening in STEP_RULES[kind].after(None):
        for step in STEP_RULES[kind].steps:
            talk = Talk(kind)
            if step.action == "OPEN" or sender not in (each for each, _ in talk.dialogue.terms.parties):
                continue
            assert talk.offer(talk.message("alice", opening)) is None
            allowed = allowed_steps(talk.router.transactions()[talk.dialogue.id], sender)
            accepted = talk.offer(talk.message(sender, step)) is None
            assert accepted == ((step.action, step.content_type) in {(may[1], may[2]) for may in allowed})


def test_a_private_message_is_judged_by_its_step_as_a_clear_one_is() -> None:
    talk = Talk("agreement")
    key = MessageKey(bytes(range(32)))
    assert talk.offer(encrypt(talk.message("alice", talk.step("offer")), key)) is None
    refused = talk.offer(encrypt(talk.message("alice", talk.step("acceptance")), key))
    assert refused is not None
    assert refused.reason == "STEP_NOT_ALLOWED"
    assert talk.offer(encrypt(talk.message("bob", talk.step("acceptance")), key)) is None


async def test_a_deal_tells_what_we_may_say_and_the_router_refuses_what_else_we_do() -> None:
    backbone = MemoryBackbone("alpha", "beta")
    async with connected(backbone, "alpha") as alpha, connected(backbone, "beta") as beta:
        offer, counter, acceptance, refusal = STEP_RULES["agreement"].steps
        mine = await alpha.open(
            ["beta"],
            kind="agreement",
            deadline=timedelta(minutes=5),
            content={"price": "98.75"},
            content_type=offer.content_type,
        )
        theirs = await anext(beta.opened())
        assert mine.next_steps == (refusal,)
        assert theirs.next_steps == (counter, acceptance, refusal)
        with pytest.raises(RefusedError, match="STEP_NOT_ALLOWED"):
            await mine.finish({}, content_type=acceptance.content_type)
        await theirs.finish({}, content_type=acceptance.content_type)
        assert theirs.outcome == "FINISHED"
        assert not theirs.next_steps


async def test_a_deal_of_a_free_kind_tells_of_no_steps() -> None:
    backbone = MemoryBackbone("alpha", "beta")
    async with connected(backbone, "alpha") as alpha:
        deal = await alpha.open(["beta"], kind="dvp", deadline=timedelta(minutes=5), content=b"")
        assert deal.next_steps == ()


def connected(backbone: MemoryBackbone, name: str) -> Participant:
    return parley.connect(
        backbone.transport(),
        participant=name,
        key=signing_key(name),
        registrar=backbone.registrar.public,
        clock=lambda: backbone.now,
    )


def test_a_hidden_party_that_is_due_is_told_of_in_short() -> None:
    hidden = "sealed:" + "0" * 32 + ":" + "A" * 320
    dialogue = Dialogue.between("alice", "bob", opened_at=START)
    parties = (Party("alice", "alice"), Party(hidden, hidden))
    terms = dialogue.terms._replace(kind="agreement", parties=parties)
    state = TransactionState(terms, START, (), (hidden,), bytes(80), None, None, opener=0, step=0)
    fault = step_fault(state, dialogue.message("alice", "FINISH"))
    assert fault is not None
    assert "by a sealed address (AAAAAAAA…), or" in fault
    assert hidden not in fault
