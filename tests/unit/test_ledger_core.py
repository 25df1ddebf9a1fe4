"""What the ledger service does next, by what was said so far."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from anchor.ledger.core import Next, next_step, objections
from parley.deal import Deal, DealMessage
from parley.schemas import Action, FinishRule, MessageId, Party, Terms
from parley.workflows.ledger import standing
from parley.workflows.ledger_steps import (
    ATTACHMENT,
    CHECK,
    CONSENT,
    ORDER,
    READY,
    RELEASE,
    Problem,
    Report,
    digest_of,
    write_attachment,
    write_consent,
    write_order,
    write_report,
)
from tests.memory_chain import CHAIN

PARTIES = ("alice", "bob", "ledger")
GOOD = write_report(Report(CHAIN, (), (), ()))
CONSENTING = write_consent(digest_of(GOOD))
WRONG = Problem("WRONG_CHAIN", "another chain")

Said = tuple[str, str, bytes]

ORDERED: Said = ("alice", ORDER, write_order(CHAIN))
ATTACHED: Said = ("alice", ATTACHMENT, write_attachment([b"raw"]))
CHECKED: Said = ("ledger", CHECK, GOOD)
PREPARED: Said = ("ledger", READY, GOOD)
CONSENTED: tuple[Said, Said] = (("alice", CONSENT, CONSENTING), ("bob", CONSENT, CONSENTING))


def messages(*said: Said) -> list[DealMessage]:
    def action(number: int, content_type: str) -> Action:
        if number == 0:
            return "OPEN"
        return "FINISH" if content_type in (CONSENT, RELEASE) else "CONTINUE"

    return [
        DealMessage(
            MessageId(number.to_bytes(32)),
            number,
            sender,
            action(number, content_type),
            content_type,
            content,
            0,
            0,
            number,
        )
        for number, (sender, content_type, content) in enumerate(said)
    ]


def step(*said: Said, problems: tuple[Problem, ...] = ()) -> Next:
    return next_step(standing(messages(*said), "ledger"), PARTIES, "ledger", problems)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((ORDERED,), Next.WAIT),
        ((ORDERED, ATTACHED), Next.CHECK),
        ((ORDERED, ATTACHED, CHECKED), Next.WAIT),
        ((ORDERED, ATTACHED, CHECKED, ATTACHED), Next.CHECK),
        ((ORDERED, ATTACHED, PREPARED), Next.WAIT),
        ((ORDERED, ATTACHED, PREPARED, CONSENTED[0]), Next.WAIT),
        ((ORDERED, ATTACHED, PREPARED, *CONSENTED), Next.RELEASE),
        ((ORDERED, ATTACHED, PREPARED, *CONSENTED, ATTACHED), Next.CHECK),
        (
            (ORDERED, ATTACHED, PREPARED, CONSENTED[0], ("bob", "text/plain", b"wait"), CONSENTED[1]),
            Next.WAIT,
        ),
        ((ORDERED, ATTACHED, CHECKED, *CONSENTED), Next.WAIT),
        ((ORDERED, ATTACHED, PREPARED, ("bob", CONSENT, write_consent(digest_of(b"other")))), Next.CHECK),
        ((ORDERED, ATTACHED, PREPARED, ("bob", CONSENT, b"yes")), Next.CHECK),
        ((ORDERED, ATTACHED, PREPARED, *CONSENTED, ("ledger", RELEASE, CONSENTING)), Next.WAIT),
    ],
)
def test_each_standing_has_one_next_step(said: tuple[Said, ...], expected: Next) -> None:
    assert step(*said) is expected


def test_a_party_cannot_speak_the_services_words() -> None:
    pretended = ("bob", READY, GOOD)
    assert step(ORDERED, ATTACHED, pretended, *CONSENTED) is Next.CHECK
    assert step(ORDERED, ATTACHED, PREPARED, ("bob", RELEASE, CONSENTING), CONSENTED[0]) is Next.CHECK


def test_an_objection_is_said_once() -> None:
    told = write_report(Report(CHAIN, (), (WRONG,), ()))
    assert step(ORDERED, problems=(WRONG,)) is Next.OBJECT
    assert step(ORDERED, ("ledger", CHECK, told), ATTACHED, problems=(WRONG,)) is Next.WAIT


class TestWhatTheServiceObjectsTo:
    def reasons(
        self,
        *parties: str,
        order: bytes = write_order(CHAIN),
        rule: FinishRule = "ALL",
        is_whole: bool = True,
    ) -> list[str]:
        terms = Terms("ledger-delivery", tuple(Party(name, name) for name in parties), 1, 1, rule)
        opening = messages(("alice", ORDER, order))
        deal = SimpleNamespace(terms=terms, parties=parties, messages=opening, is_whole=is_whole)
        return [problem.reason for problem in objections(cast("Deal", deal), "ledger", CHAIN)]

    def test_nothing_where_all_is_as_it_should_be(self) -> None:
        assert self.reasons(*PARTIES) == []

    def test_a_finish_rule_by_which_one_decides_for_all(self) -> None:
        assert self.reasons(*PARTIES, rule="ANY") == ["FINISH_RULE"]

    def test_parties_among_whom_it_is_not_the_last(self) -> None:
        assert self.reasons("alice", "ledger", "bob") == ["PARTIES"]

    def test_a_party_that_is_hidden(self) -> None:
        sealed = f"sealed:{'0' * 32}:{'A' * 320}"
        assert self.reasons("alice", sealed, "ledger") == ["PARTIES"]

    def test_an_order_for_another_chain_or_none(self) -> None:
        assert self.reasons(*PARTIES, order=write_order("eip155:1")) == ["WRONG_CHAIN"]
        assert self.reasons(*PARTIES, order=b"please deliver") == ["ORDER"]

    def test_words_that_were_not_for_its_ears(self) -> None:
        assert self.reasons(*PARTIES, is_whole=False) == ["NOT_WHOLE"]
