"""Whatever is purged when: every root, every proof made before and the audit hold, and no byte of a body is left."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockbuilder.core import Limits
from parley.audit import audit
from parley.blocks import sealed_event
from parley.errors import PurgedError
from parley.lookup import Lookup
from parley.proof import make_proof, verify_proof
from parley.schemas import FirehoseEvent, PurgedEvent
from tests.fix_ledger import LOG, SealedLedger
from tests.purging import admit_operator, holds, purge, state, target
from tests.synthetic_ledger import Deal

VKEY = str(LOG.verifier_key)


class Play:
    """Acts on a ledger whose every message says something of its own; knows which of these words must be gone."""

    def __init__(self, made: SealedLedger) -> None:
        self.made = made
        self.deals: list[Deal] = []
        self.said: dict[tuple[bytes, int], bytes] = {}
        self.proofs: dict[tuple[bytes, int], bytes] = {}
        self.gone: set[tuple[bytes, int]] = set()
        self.named: set[tuple[bytes, int]] = set()

    def words(self, deal: Deal | None, number: int) -> bytes:
        count = len(self.said)
        # Words that compress well, around some that are found nowhere else.
        return b"please settle " * 20 + sha256(b"%d" % count).digest() + b" with kind regards" * 20

    def trade(self, pipeline: int, messages: int, *, expire: bool) -> None:
        words = self.words(None, 0)
        deal = self.made.ledger.open(pipeline, content=words)
        self.said[deal.id, 0] = words
        for number in range(1, messages):
            self.said[deal.id, number] = words = self.words(deal, number)
            last = number == messages - 1 and not expire
            deal.say(("bank-0", "bank-1")[number % 2], "FINISH" if last else "CONTINUE", words)
        if expire or messages == 1:
            deal.expire()
        self.deals.append(deal)

    def seal(self) -> None:
        self.made.seal()
        lookup = Lookup(self.made.store())
        for identity, number in self.said.keys() - self.proofs.keys():
            place = lookup.transaction(identity)._replace(event_index=number)  # type: ignore[arg-type]
            self.proofs[identity, number] = make_proof(lookup, place)

    def state(self, choice: int) -> None:
        """Name some messages of a sealed deal that nobody named before."""
        self.seal()
        deal = self.deals[choice % len(self.deals)]
        left = [
            number
            for identity, number in self.said
            if identity == deal.id and (identity, number) not in self.named
        ]
        chosen = [number for number in left if (choice >> number) % 3 != 0]
        if chosen:
            state(self.made, target(self.made, deal, *chosen))
            self.named |= {(deal.id, number) for number in chosen}

    def purge(self) -> None:
        self.seal()
        assert purge(self.made) == 0
        self.gone = set(self.named)


@settings(max_examples=40, deadline=None)
@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("trade"), st.integers(0, 1), st.integers(1, 5), st.booleans()),
            st.tuples(st.just("state"), st.integers(0, 1 << 12)),
            st.tuples(st.just("state"), st.integers(0, 1 << 12)),
            st.tuples(st.just("seal")),
            st.tuples(st.just("purge")),
        ),
        min_size=1,
        max_size=16,
    ),
    limits=st.builds(Limits, st.integers(1, 4), st.sampled_from([1, 3_000, 1 << 20]), st.just(1 << 20)),
)
def test_every_root_every_earlier_proof_and_the_audit_hold_and_no_byte_of_a_body_is_left(
    script: list[tuple[object, ...]], limits: Limits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = SealedLedger(tmp_path_factory.mktemp("log") / "store", limits)
    admit_operator(made)
    play = Play(made)
    play.trade(0, 3, expire=False)
    for act, *numbers in script:
        match act, *numbers:
            case "trade", int(pipeline), int(messages), bool(expire):
                play.trade(pipeline, messages, expire=expire)
            case "state", int(choice):
                play.state(choice)
            case "seal":
                play.seal()
            case "purge":
                play.purge()
    play.state(7)
    play.purge()
    store = made.store()
    assert [store.encoded_header(height) for height in range(len(store))] == made.headers
    report = audit(store, made.ledger.registrar.public, dict(enumerate(made.ledger.firehose)))
    assert report.violations == ()
    assert (report.purged, report.purges_due) == (len(play.gone), 0)
    lookup = Lookup(store)
    for (identity, number), words in play.said.items():
        before = play.proofs[identity, number]
        assert verify_proof(before, VKEY).message.content == words
        place = lookup.transaction(identity)._replace(event_index=number)  # type: ignore[arg-type]
        standing = sealed_event(store.block(place.height).transactions[place.leaf_index].events[number])
        assert isinstance(standing, PurgedEvent if (identity, number) in play.gone else FirehoseEvent)
        if (identity, number) in play.gone:
            with pytest.raises(PurgedError):
                make_proof(lookup, place)
        assert verify_proof(make_proof(lookup, place, before), VKEY).message.content == words
    marks = {key: words[280:312] for key, words in play.said.items()}
    assert {key for key, mark in marks.items() if not holds(made.folder, mark)} == play.gone
