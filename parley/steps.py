"""The steps of the known kinds of transaction: what may follow what, said by whom; a table, and nothing that acts on it.

A step is a message's action with its `content_type`, which is visible also where the content is encrypted. The table says, for
each kind that has an entry:

1. Which steps may open it, and which may follow each step.
2. Who may say a step: the opener, any other party, the last of the parties, any party, or only who is due (`parley.lifecycle`, rule 6), which with two
   parties is strict turns. Where the table lets any party say a FINISH, a party may withdraw without its turn.
3. Which reference to another transaction a step must carry, by its relation.
4. How many parties there are, and what the finish rule is.

A kind without an entry is free: anything may be said in it. So is a transaction in which a step was taken that the table does not
know, because its operator had switched the rules of that kind off, or because it was opened before there were any.

The router refuses by this table; a client can ask it what may be said next. An audit does not judge by it: an operator may choose
to enforce nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from parley.identifiers import shown_name
from parley.schemas import Action, FinishRule, Message, Terms, TransactionState

__all__ = [
    "FREE",
    "STEP_RULES",
    "KindRules",
    "SaidBy",
    "StepRule",
    "allowed_steps",
    "step_fault",
    "step_number",
]

SaidBy = Literal["OPENER", "OTHER", "SERVICE", "ANY", "DUE"]
"""The opener; any other party; the last of the parties, which serves the others; any party; whoever is due."""

FREE: Final = -1
"""In place of a step's number: no rules apply to what follows."""


class StepRule(NamedTuple):
    """One step of a kind of transaction."""

    name: str
    action: Action
    content_type: str
    """Written exactly so."""
    by: SaidBy
    after: tuple[str, ...] = ()
    """The names of the steps that it may follow; of an opening, none."""
    refers: str | None = None
    """The relation of a reference that it must carry, to another transaction."""


class KindRules(NamedTuple):
    """The steps of one kind of transaction. A step's number is its place here and stands in states: new steps come last."""

    steps: tuple[StepRule, ...]
    parties: range
    finish_rule: FinishRule

    def after(self, number: int | None) -> tuple[StepRule, ...]:
        """The steps that may follow the one with this number, or open the transaction."""
        if number is None:
            return tuple(step for step in self.steps if step.action == "OPEN")
        last = self.steps[number].name
        return tuple(step for step in self.steps if last in step.after)


_TWO: Final = range(2, 3)

_AGREEMENT: Final = "application/vnd.parley.agreement."
_OTC: Final = "application/vnd.parley.otc."
_LEDGER: Final = "application/vnd.parley.ledger."
_ISO: Final = "application/vnd.iso20022."
_OFFER: Final = f"{_AGREEMENT}offer+json"
_AMENDMENT: Final = f"{_OTC}amendment+json"
_CANCELLATION: Final = f"{_OTC}cancellation+json"
_INSTRUCTION: Final = f"{_ISO}sese.023.001.11+xml"
_STATUS: Final = f"{_ISO}sese.024.001.12+xml"
_OFFERED: Final = ("offer", "counter-offer")
_UNRELEASED: Final = ("order", "attachment", "check", "ready", "consent")
_CAPTURED: Final = ("capture", "amendment", "later amendment", "later cancellation")

STEP_RULES: Final[Mapping[str, KindRules]] = {
    "agreement": KindRules(
        (
            StepRule("offer", "OPEN", _OFFER, "OPENER"),
            StepRule("counter-offer", "CONTINUE", _OFFER, "DUE", _OFFERED),
            StepRule(
                "acceptance",
                "FINISH",
                f"{_AGREEMENT}acceptance+json",
                "DUE",
                _OFFERED,
            ),
            StepRule("refusal", "FINISH", f"{_AGREEMENT}refusal+json", "ANY", _OFFERED),
        ),
        _TWO,
        "ANY",
    ),
    "otc-trade": KindRules(
        (
            StepRule("capture", "OPEN", f"{_OTC}capture+json", "OPENER"),
            StepRule("affirmation", "FINISH", f"{_OTC}affirmation+json", "DUE", _CAPTURED),
            StepRule("amendment", "CONTINUE", _AMENDMENT, "ANY", ("capture", "amendment", "later amendment")),
            StepRule("cancellation", "FINISH", _CANCELLATION, "ANY", _CAPTURED),
            StepRule("later amendment", "OPEN", _AMENDMENT, "OPENER", refers="amends"),
            StepRule("later cancellation", "OPEN", _CANCELLATION, "OPENER", refers="cancels"),
        ),
        _TWO,
        "ANY",
    ),
    "delivery-versus-payment": KindRules(
        (
            StepRule("receiver's instruction", "OPEN", _INSTRUCTION, "OPENER"),
            StepRule("commitment", "CONTINUE", _INSTRUCTION, "OTHER", ("receiver's instruction",)),
            StepRule("cash confirmation", "CONTINUE", _STATUS, "OPENER", ("commitment",)),
            StepRule("settlement", "FINISH", f"{_ISO}sese.025.001.11+xml", "OTHER", ("cash confirmation",)),
            StepRule("refusal", "FINISH", _STATUS, "ANY", ("receiver's instruction",)),
            # Who has committed, or has blocked the cash, waits for the other, and can no longer withdraw.
            StepRule("decline", "FINISH", _STATUS, "DUE", ("commitment", "cash confirmation")),
        ),
        _TWO,
        "ANY",
    ),
    "ledger-delivery": KindRules(
        (
            StepRule("order", "OPEN", f"{_LEDGER}order+json", "OPENER"),
            StepRule("attachment", "CONTINUE", f"{_LEDGER}attachment+json", "ANY", _UNRELEASED),
            StepRule("check", "CONTINUE", f"{_LEDGER}check+json", "SERVICE", _UNRELEASED),
            StepRule("ready", "CONTINUE", f"{_LEDGER}ready+json", "SERVICE", _UNRELEASED),
            StepRule("consent", "FINISH", f"{_LEDGER}consent+json", "ANY", ("ready", "consent")),
            StepRule("release", "FINISH", f"{_LEDGER}release+json", "SERVICE", ("consent",)),
        ),
        range(2, 33),
        "ALL",
    ),
    "ledger-receipt": KindRules(
        (
            StepRule("broadcast", "OPEN", f"{_LEDGER}broadcast+json", "OPENER", refers="delivers"),
            StepRule("chain's word", "FINISH", f"{_LEDGER}receipt+json", "OPENER", ("broadcast",)),
        ),
        range(2, 33),
        "ANY",
    ),
}
"""By kind of transaction. An operator may switch kinds off (the router's setting ``free_kinds``)."""

_Said = tuple[Action, str]


def _numbers(rules: KindRules, number: int | None) -> dict[_Said, int]:
    """The numbers of the steps that may follow, by action and content type."""
    return {(step.action, step.content_type): rules.steps.index(step) for step in rules.after(number)}


_FOLLOWING: Final[dict[str, dict[int | None, dict[_Said, int]]]] = {
    kind: {number: _numbers(rules, number) for number in (None, *range(len(rules.steps)))}
    for kind, rules in STEP_RULES.items()
}


def step_number(state: TransactionState | None, message: Message) -> int:
    """The number of the step that a message takes, whoever says it; ``FREE`` where no rules apply, or it takes none of them."""
    terms = _terms(state, message)
    following = _FOLLOWING.get(terms.kind)
    if following is None or (state is not None and state.step == FREE):
        return FREE
    return following[None if state is None else state.step].get((message.action, message.content_type), FREE)


def step_fault(state: TransactionState | None, message: Message) -> str | None:
    """Why a message, which is the transaction's next, is no step that may be taken now; it says what may be, and by whom."""
    terms = _terms(state, message)
    rules = STEP_RULES.get(terms.kind)
    if rules is None or (state is not None and state.step == FREE):
        return None
    if state is None and (fault := _terms_fault(rules, terms)):
        return fault
    number = step_number(state, message)
    if number == FREE:
        said = f"{message.action} with the content type {message.content_type[:128]!r}"
        return f"{said} is no step that may {_place(rules, state)}; {_instead(rules, state)}"
    step = rules.steps[number]
    if state is not None and not _may_say(step.by, state, message.sender):
        return f"the {step.name} is not its sender's to say now; {_instead(rules, state)}"
    if step.refers is not None and not any(
        reference.relation == step.refers and reference.transaction_id not in (None, message.transaction_id)
        for reference in message.references
    ):
        return (
            f"the {step.name} must carry a reference of the relation {step.refers!r} to another transaction;"
            " add it and send it again"
        )
    return None


def allowed_steps(state: TransactionState, participant: str) -> tuple[StepRule, ...]:
    """What a party (as the terms name it) may say next; nothing where it must wait, the transaction has ended or is free."""
    rules = STEP_RULES.get(state.terms.kind)
    if rules is None or state.step == FREE or state.outcome is not None:
        return ()
    return tuple(step for step in rules.after(state.step) if _may_say(step.by, state, participant))


def _terms(state: TransactionState | None, message: Message) -> Terms:
    terms = message.terms if state is None else state.terms
    assert terms is not None
    return terms


def _terms_fault(rules: KindRules, terms: Terms) -> str | None:
    parties = rules.parties
    if len(terms.parties) not in parties:
        number = str(parties[0]) if len(parties) == 1 else f"{parties[0]} to {parties[-1]}"
        return f"a transaction of the kind {terms.kind} has {number} parties; open it among so many"
    if terms.finish_rule != rules.finish_rule:
        return f"a transaction of the kind {terms.kind} has the finish rule {rules.finish_rule}; open it with that"
    return None


def _opener(state: TransactionState) -> str:
    return state.terms.parties[state.opener].participant


def _service(state: TransactionState) -> str:
    return state.terms.parties[-1].participant


def _may_say(by: SaidBy, state: TransactionState, sender: str) -> bool:
    match by:
        case "ANY":
            return True
        case "DUE":
            return sender in state.due
        case "OPENER":
            return sender == _opener(state)
        case "OTHER":
            return sender != _opener(state)
        case "SERVICE":
            return sender == _service(state)


def _place(rules: KindRules, state: TransactionState | None) -> str:
    return "open such a transaction" if state is None else f"follow the {rules.steps[state.step].name}"


def _instead(rules: KindRules, state: TransactionState | None) -> str:
    """What may be said instead, and by whom."""
    options = [
        f"the {step.name} ({step.action}, {step.content_type}) by {_who(step.by, state)}"
        for step in rules.after(None if state is None else state.step)
    ]
    return f"what may {_place(rules, state)} is " + ", or ".join(options)


def _who(by: SaidBy, state: TransactionState | None) -> str:
    if state is None:
        return "the opener"
    opener = _opener(state)
    match by:
        case "ANY":
            return "any party"
        case "DUE":
            return _names(state.due)
        case "OPENER":
            return _names([opener])
        case "OTHER":
            return _names(party for party, _ in state.terms.parties if party != opener)
        case "SERVICE":
            return _names([_service(state)])


def _names(parties: Iterable[str]) -> str:
    return " or ".join(map(shown_name, parties))
