"""Whatever is said, ended and admitted: the log holds it once and whole, and an audit finds no fault."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockbuilder.core import Limits
from parley.audit import audit
from parley.schemas import TransactionId
from tests.fix_ledger import SealedLedger
from tests.synthetic_ledger import Deal

ACTS = ("trade", "open", "answer", "finish", "expire", "seal", "admit")


class Play:
    """Acts on a ledger; remembers which transactions have ended."""

    def __init__(self, made: SealedLedger) -> None:
        self.made = made
        self.ledger = made.ledger
        self.open: list[Deal] = []
        self.ended: set[TransactionId] = set()

    def act(self, act: str, number: int) -> None:
        if act == "trade":
            self.ended.add(self.ledger.trade(number % 2).id)
        elif act == "open":
            self.open.append(self.ledger.open(number % 2))
        elif act == "admit":
            self.ledger.admit(f"bank-{self.ledger.directory.version}")
        elif act == "seal":
            self.made.seal()
        elif self.open:
            self.go_on(self.open[number % len(self.open)], act)

    def go_on(self, deal: Deal, act: str) -> None:
        if act == "answer" and self.ledger.now < deal.terms.deadline:
            deal.say("bank-1")
            return
        if act == "finish" and self.ledger.now < deal.terms.deadline:
            deal.say("bank-0", "FINISH")
        else:
            deal.expire()
        self.open.remove(deal)
        self.ended.add(deal.id)


@settings(max_examples=40, deadline=None)
@given(
    script=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 7)), max_size=40),
    limits=st.builds(
        Limits, st.integers(1, 4), st.sampled_from([1, 3_000, 1 << 20]), st.sampled_from([0, 2_000, 1 << 20])
    ),
)
def test_every_ended_transaction_is_in_exactly_one_block_and_an_audit_finds_no_fault(
    script: list[tuple[str, int]], limits: Limits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = SealedLedger(tmp_path_factory.mktemp("log"), limits)
    play = Play(made)
    for act, number in script:
        play.act(act, number)
    made.seal()
    store = made.store()
    sealed = [one.record.transaction_id for block in store.blocks() for one in block.transactions]
    assert sorted(sealed) == sorted(play.ended)
    records = [entry.leaf for block in store.blocks() for entry in block.entries]
    assert records == made.ledger.directory_records
    report = audit(store, made.ledger.registrar.public, dict(enumerate(made.ledger.firehose)))
    assert report.violations == ()
    assert report.transactions == report.finished + report.timed_out == len(play.ended)
