"""A purge takes bodies out of blocks on a statement that stands on the record, and out of nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blockbuilder.eraser import BlockEraser
from blockbuilder.erasure import Spot, without
from blockbuilder.errors import SecondPurgeError
from blockbuilder.purge import main as purge_command
from blockbuilder.store import BlockFolder
from deploy.folder import CHECKOUT
from parley.audit import AuditReport, audit
from parley.blocks import Block, SealedTransaction, block_path, encode_block
from parley.cli import main as parley
from parley.envelope import MESSAGE_TYPE, message_id, seal
from parley.erasure import PURGE_TYPE, directory_of, prove_statement, read_statement
from parley.errors import ErasureError, ProofError, PurgedError
from parley.firehose import event_digest
from parley.identifiers import transaction_text
from parley.lookup import Lookup
from parley.proof import make_proof, verify_proof
from parley.replay import replay
from parley.schemas import (
    BlockHeader,
    Ending,
    Envelope,
    EventReference,
    FirehoseEvent,
    Hash,
    Message,
    MessageId,
    Purge,
    PurgedEvent,
    PurgeTarget,
    Receipt,
    StatementPlace,
    TransactionId,
    decode,
    encode,
    is_a,
)
from streams.crashpoint import VARIABLE
from tests.fix_ledger import LOG, SealedLedger
from tests.purging import (
    OPERATOR,
    REASON,
    REGULATOR,
    REQUESTED_BY,
    admit_operator,
    arguments,
    holds,
    purge,
    state,
    target,
)
from tests.synthetic_ledger import HOUR, START, Deal, signing_key

BODY = b"the client, born on 1 April 1970"
VKEY = str(LOG.verifier_key)
NOWHERE = StatementPlace(TransactionId(bytes(16)), 1, 3)
NO_ENDING = Ending("TIMED_OUT", "", 0, (), ())
NO_HEADER = BlockHeader(0, Hash(bytes(32)), Hash(bytes(32)), 1, 0, 0, 0, 0, (), 0, Hash(bytes(32)))


@pytest.fixture
def made(sealed: SealedLedger) -> SealedLedger:
    """A store with two sealed trades, one of which says what must go; operator and regulator have joined."""
    admit_operator(sealed)
    sealed.ledger.trade(1)
    return sealed


@pytest.fixture
def deal(made: SealedLedger) -> Deal:
    """The deal whose second message must go."""
    deal = made.ledger.open(0)
    deal.say("bank-1", content=BODY)
    deal.say("bank-0", content=b"thank you")
    deal.say("bank-1", "FINISH", b"done")
    made.seal()
    return deal


@pytest.fixture
def statement(made: SealedLedger, deal: Deal) -> Deal:
    """The statement by which that message goes, in a block."""
    stated = state(made, target(made, deal, 1))
    made.seal()
    return stated


def files(made: SealedLedger) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in made.folder.rglob("*")
        if path.is_file() and path.name != ".purge.lock"
    }


def audited(made: SealedLedger, *, firehose: bool = True) -> AuditReport:
    topics = dict(enumerate(made.ledger.firehose)) if firehose else None
    return audit(made.store(), made.ledger.registrar.public, topics)


def only(report: AuditReport) -> str:
    assert len(report.violations) == 1, [str(violation) for violation in report.violations]
    return str(report.violations[0])


def proof_of(made: SealedLedger, deal: Deal, message: int, copy: bytes | None = None) -> bytes:
    lookup = Lookup(made.store())
    return make_proof(lookup, lookup.transaction(deal.id)._replace(event_index=message), copy)


def force(made: SealedLedger, deal: Deal, message: int, place: StatementPlace) -> None:
    """Take a body out of a block file without asking whether it may go."""
    lookup = Lookup(made.store())
    found = lookup.transaction(deal.id)
    block = lookup.store.block(found.height)
    left = without(block, {Spot(found.height, found.leaf_index, message): place})
    (made.folder / block_path(found.height)).write_bytes(encode_block(left))


class TestAPurge:
    def test_takes_the_body_out_of_every_file_and_leaves_the_rest(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        assert holds(made.folder, BODY)
        headers, before = made.headers, made.store()
        assert purge(made) == 0
        assert not holds(made.folder, BODY)
        assert holds(made.folder, b"thank you")
        after = made.store()
        assert [after.encoded_header(height) for height in range(len(after))] == headers
        assert after.checkpoint == before.checkpoint
        for one, other in zip(before.blocks(), after.blocks(), strict=True):
            assert one.leaves() == other.leaves()

    def test_leaves_digest_place_and_time_and_the_statement_in_its_place(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        purge(made)
        lookup = Lookup(made.store())
        place = lookup.transaction(deal.id)
        sealed = lookup.store.block(place.height).transactions[place.leaf_index]
        assert [is_a(event, PurgedEvent) for event in sealed.events] == [False, True, False, False]
        original = made.ledger.firehose[0][1]
        instead = decode(sealed.events[1], PurgedEvent)
        assert (instead.sequence, instead.digest) == sealed.record.events[1]
        assert instead.size == len(original)
        assert instead.statement == StatementPlace(statement.id, 1, 5)

    def test_again_changes_nothing(
        self, made: SealedLedger, statement: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        purge(made)
        before = files(made)
        capsys.readouterr()
        assert purge(made, "--all", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["purged"], told["gone"], told["blocks"]) == (0, 1, [])
        assert files(made) == before

    def test_that_is_only_tried_tells_what_it_would_do_and_does_nothing(
        self, made: SealedLedger, statement: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert purge(made, "--statement", transaction_text(statement.id), "--dry-run", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["dry_run"], told["purged"], told["gone"]) == (True, 1, 0)
        assert told["statements"] == [
            {
                "purged_at": told["statements"][0]["purged_at"],
                "purged_by": OPERATOR,
                "reason": REASON,
                "requested_by": REQUESTED_BY,
                "statement": transaction_text(statement.id),
            }
        ]
        assert holds(made.folder, BODY)
        assert not (made.folder / ".purging").exists()

    def test_of_a_whole_transaction_leaves_nothing_of_it_but_its_record(
        self, made: SealedLedger, deal: Deal
    ) -> None:
        state(made, target(made, deal))
        made.seal()
        assert purge(made) == 0
        for body in (BODY, b"thank you", b"done", b"I have 1,000 EUR"):
            assert holds(made.folder, body) is (body == b"I have 1,000 EUR")  # the other trade opens so, too
        report = audited(made)
        assert report.violations == ()
        assert (report.purged, report.purges_due) == (4, 0)

    def test_of_several_transactions_in_several_blocks_takes_one_statement(
        self, made: SealedLedger, deal: Deal
    ) -> None:
        other = made.ledger.open(1, content=b"another client")
        other.expire()
        made.seal()
        state(made, target(made, deal, 1, 3), target(made, other))
        made.seal()
        assert purge(made) == 0
        assert not holds(made.folder, BODY)
        assert not holds(made.folder, b"another client")
        assert audited(made).good
        assert audited(made).purged == 3

    def test_goes_on_beside_a_builder(self, made: SealedLedger, statement: Deal) -> None:
        with BlockFolder(made.folder):
            assert purge(made) == 0
        assert not holds(made.folder, BODY)

    def test_takes_away_what_a_crashed_purge_left(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        height = Lookup(made.store()).transaction(deal.id).height
        left = made.folder / ".purging"
        left.mkdir()
        shutil.copy(made.folder / block_path(height), left / "block-99")
        assert purge(made) == 0
        assert list(left.iterdir()) == []
        assert not holds(made.folder, BODY)

    @pytest.mark.parametrize("already", [False, True])
    def test_takes_away_the_copies_that_a_crashed_builder_left(
        self, made: SealedLedger, deal: Deal, statement: Deal, *, already: bool
    ) -> None:
        height = Lookup(made.store()).transaction(deal.id).height
        pending, size = made.folder / ".pending", len(made.headers)
        leftovers = [pending / f"block-{height}-{number}" for number in range(2)]
        for leftover in leftovers:
            os.link(made.folder / block_path(height), leftover)
        if already:
            purge(made)
            os.link(made.folder / block_path(height + 1), leftovers[0])
        (pending / f"block-{size}-next").write_bytes(b"being staged by a builder")
        assert purge(made) == 0
        assert [path.name for path in pending.iterdir()] == [f"block-{size}-next"]
        assert not holds(made.folder, BODY)

    def test_brings_a_store_restored_from_an_old_copy_up_to_the_record(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        height = Lookup(made.store()).transaction(deal.id).height
        old = (made.folder / block_path(height)).read_bytes()
        purge(made)
        (made.folder / block_path(height)).write_bytes(old)
        assert audited(made).purges_due == 1
        purge(made)
        assert not holds(made.folder, BODY)


class TestRefused:
    def refused(self, made: SealedLedger, capsys: pytest.CaptureFixture[str], stated: Deal) -> str:
        before = files(made)
        assert purge(made, "--statement", transaction_text(stated.id)) == 1
        told = capsys.readouterr().err
        assert told.startswith("purge: ")
        assert told.count("\n") == 1
        assert files(made) == before
        assert holds(made.folder, BODY)
        return told

    def test_without_a_statement_in_a_block(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stated = state(made, target(made, deal, 1))
        assert "is in none of the" in self.refused(made, capsys, stated)

    def test_on_a_transaction_of_another_kind(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stated = state(made, target(made, deal, 1), kind="agreement")
        made.seal()
        assert "a purge is stated in one of 'erasure'" in self.refused(made, capsys, stated)

    def test_on_the_word_of_who_is_no_operator(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stated = state(made, target(made, deal, 1), operator="bank-2")
        made.seal()
        assert "does not list it as an operator" in self.refused(made, capsys, stated)

    def test_on_a_statement_that_another_signed(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stated = state(made, target(made, deal, 1), keys=(signing_key("bank-2"),))
        made.seal()
        assert "is not a valid one of that operator's" in self.refused(made, capsys, stated)

    def test_on_a_statement_whose_signature_does_not_verify_or_is_missing(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        named = Purge((target(made, deal, 1),), REASON, REQUESTED_BY, 0)
        good = seal(PURGE_TYPE, named, signing_key(OPERATOR))
        forged = good._replace(signatures=(good.signatures[0]._replace(signature=bytes(64)),))
        unsigned = good._replace(signatures=())
        first, second = (state(made, content=encode(envelope)) for envelope in (forged, unsigned))
        made.seal()
        assert "is not a valid one of that operator's" in self.refused(made, capsys, first)
        assert "is not signed" in self.refused(made, capsys, second)

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"content_type": "text/plain"}, "which is no purge statement"),
            ({"payload_type": "application/vnd.parley.message+avro"}, "not of a purge"),
            ({"content": b"nothing"}, "no readable purge statement"),
            ({"reason": ""}, "its reason is not one line"),
            ({"reason": "two\nlines"}, "its reason is not one line"),
        ],
    )
    def test_on_what_is_no_statement(
        self,
        made: SealedLedger,
        deal: Deal,
        capsys: pytest.CaptureFixture[str],
        changes: dict[str, object],
        why: str,
    ) -> None:
        stated = state(made, target(made, deal, 1), **changes)  # type: ignore[arg-type]
        made.seal()
        assert why in self.refused(made, capsys, stated)

    def test_on_a_statement_that_names_nothing_or_something_twice(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        nothing, twice = state(made), state(made, target(made, deal, 1), target(made, deal, 1, 2))
        made.seal()
        assert "names no event" in self.refused(made, capsys, nothing)
        assert "names an event twice" in self.refused(made, capsys, twice)

    def test_while_the_regulators_consent_is_asked_for_and_withheld(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stated = state(made, target(made, deal, 1), rule="ALL")
        made.seal()
        assert "is in none of the" in self.refused(made, capsys, stated)
        stated.expire()
        made.seal()
        assert "timed out, so its statement does not count" in self.refused(made, capsys, stated)

    def test_but_not_once_the_regulator_has_consented(self, made: SealedLedger, deal: Deal) -> None:
        stated = state(made, target(made, deal, 1), rule="ALL")
        stated.say(REGULATOR, "FINISH")
        made.seal()
        assert purge(made, "--statement", transaction_text(stated.id)) == 0
        assert not holds(made.folder, BODY)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (
                lambda named: named._replace(transaction_id=signing_key("y").seed[:16]),
                "did not end at event",
            ),
            (lambda named: named._replace(ending=99), "is not where the statement says"),
            (lambda named: named._replace(ending=2), "did not end at event 2 of pipeline 0"),
            (
                lambda named: named._replace(events=(EventReference(1, Hash(bytes(32))),)),
                "has no event 1 with the digest",
            ),
            (
                lambda named: named._replace(events=(EventReference(0, named.events[0].digest),)),
                "has no event 0 with the digest",
            ),
        ],
    )
    def test_for_what_the_blocks_do_not_have(
        self,
        made: SealedLedger,
        deal: Deal,
        capsys: pytest.CaptureFixture[str],
        change: Callable[[PurgeTarget], PurgeTarget],
        why: str,
    ) -> None:
        stated = state(made, change(target(made, deal, 1)))
        made.seal()
        assert why in self.refused(made, capsys, stated)

    def test_for_a_timeout_which_has_no_body(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        late = made.ledger.open(0)
        late.expire()
        made.seal()
        named = target(made, late)
        lookup = Lookup(made.store())
        place = lookup.transaction(late.id)
        last = lookup.store.block(place.height).transactions[place.leaf_index].record.events[-1]
        stated = state(made, named._replace(events=(last,)))
        made.seal()
        assert "which has no body to purge" in self.refused(made, capsys, stated)

    def test_for_a_statement_itself(
        self, made: SealedLedger, deal: Deal, statement: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lookup = Lookup(made.store())
        place = lookup.transaction(statement.id)
        sealed = lookup.store.block(place.height).transactions[place.leaf_index]
        named = PurgeTarget(statement.id, 1, sealed.ending_sequence, sealed.record.events[:1])
        stated = state(made, named)
        made.seal()
        assert "it accounts for what is missing, and stays" in self.refused(made, capsys, stated)
        with pytest.raises(ErasureError, match="accounts for what is missing"):
            target(made, statement)

    def test_for_what_was_sealed_no_earlier_than_the_statement(
        self, made: SealedLedger, deal: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        quick = made.ledger.open(0)
        quick.say("bank-1", "FINISH", BODY)
        ending = EventReference(quick.last_event.sequence, Hash(bytes(32)))
        stated = state(made, PurgeTarget(quick.id, 0, ending.sequence, (ending,)))
        made.seal()
        assert "which is not a later one; state it again" in self.refused(made, capsys, stated)

    def test_for_messages_that_are_not_there_or_gone(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        purge(made)
        with pytest.raises(ErasureError, match="messages 0 to 3, and no message 4"):
            target(made, deal, 4)
        with pytest.raises(ErasureError, match=r"message 1 of .* has been purged already"):
            target(made, deal, 1)
        assert [named.sequence for named in target(made, deal).events] == [0, 2, 3]
        state(made, target(made, deal))
        made.seal()
        purge(made)
        with pytest.raises(ErasureError, match="has been purged already"):
            target(made, deal)

    def test_with_all_the_others_are_carried_out_and_told(
        self, made: SealedLedger, deal: Deal, statement: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        state(made, target(made, deal, 2), operator="bank-2")
        made.seal()
        assert purge(made) == 0
        told = capsys.readouterr()
        assert "left alone: the purge statement of bank-2 does not count" in told.err
        assert "1 bodies purged from 1 blocks" in told.out
        assert holds(made.folder, b"thank you")

    def test_on_a_store_that_does_not_verify(
        self, made: SealedLedger, deal: Deal, statement: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        height = Lookup(made.store()).transaction(deal.id).height
        path = made.folder / block_path(height)
        path.write_bytes(path.read_bytes()[:-20])
        assert purge(made) == 1
        assert "not a readable Avro container" in capsys.readouterr().err

    def test_while_another_process_purges(
        self, made: SealedLedger, statement: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with BlockEraser(made.folder):
            assert purge(made) == 1
            assert "another process purges it" in capsys.readouterr().err
            with pytest.raises(SecondPurgeError):
                BlockEraser(made.folder)

    def test_on_a_disk_that_reads_otherwise_than_it_was_written(
        self, made: SealedLedger, deal: Deal, statement: Deal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(BlockEraser, "_write", lambda _self, path, data: path.write_bytes(data[:-1]))
        height = Lookup(made.store()).transaction(deal.id).height
        before = (made.folder / block_path(height)).read_bytes()
        assert purge(made) == 1
        assert (made.folder / block_path(height)).read_bytes() == before

    def test_on_a_folder_that_is_not_there(
        self, made: SealedLedger, statement: Deal, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = arguments(made, "--all")
        assert purge_command([str(made.folder / "nowhere"), *line[1:]]) == 1
        assert "No such file or directory" in capsys.readouterr().err


class TestKilled:
    @pytest.mark.parametrize("step", ["blockbuilder.purge.written:1", "blockbuilder.purge.replaced:1"])
    def test_at_any_step_the_old_or_the_new_block_stands_and_the_same_again_completes_it(
        self, made: SealedLedger, deal: Deal, statement: Deal, step: str
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "blockbuilder.purge", *arguments(made, "--all")],
            cwd=CHECKOUT,
            env=os.environ | {VARIABLE: step},
            check=False,
            capture_output=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        report = audited(made)
        assert report.violations == ()
        assert (report.purged, report.purges_due) == ((0, 1) if "written" in step else (1, 0))
        assert holds(made.folder, BODY) is ("written" in step)
        assert purge(made) == 0
        assert not holds(made.folder, BODY)
        assert list((made.folder / ".purging").iterdir()) == []
        assert audited(made).purged == 1


class TestTheAudit:
    def test_accounts_for_what_was_purged_with_the_firehose_and_without(
        self, made: SealedLedger, statement: Deal
    ) -> None:
        assert (audited(made).purged, audited(made).purges_due) == (0, 1)
        signatures = audited(made).signatures
        purge(made)
        for report in (audited(made), audited(made, firehose=False)):
            assert report.violations == ()
            assert (report.purged, report.purges_due) == (1, 0)
            assert report.signatures == signatures - 1

    def test_finds_a_body_that_no_statement_names(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        force(made, deal, 2, StatementPlace(statement.id, 1, 5))
        assert "event 2 of pipeline 0 has no body, and the statement" in only(audited(made))

    def test_finds_a_body_whose_statement_is_nowhere(self, made: SealedLedger, deal: Deal) -> None:
        force(made, deal, 1, NOWHERE)
        told = only(audited(made))
        assert told.startswith("purge in block")
        assert "does not name it or does not count" in told

    def test_finds_a_body_whose_statement_does_not_count(self, made: SealedLedger, deal: Deal) -> None:
        stated = state(made, target(made, deal, 1), operator="bank-2")
        made.seal()
        force(made, deal, 1, StatementPlace(stated.id, 1, 5))
        assert "does not name it or does not count" in only(audited(made))

    def test_finds_a_body_whose_statement_is_not_of_a_later_block(
        self, made: SealedLedger, deal: Deal
    ) -> None:
        quick = made.ledger.open(0)
        quick.say("bank-1", "FINISH", BODY)
        events = made.ledger.firehose[0]
        named = EventReference(len(events) - 1, event_digest(events[-1]))
        stated = state(made, PurgeTarget(quick.id, 0, named.sequence, (named,)))
        made.seal()
        force(made, quick, 1, StatementPlace(stated.id, 1, 5))
        assert "which is not a later one" in only(audited(made))

    def test_finds_that_a_statement_was_purged(self, made: SealedLedger, deal: Deal, statement: Deal) -> None:
        purge(made)
        force(made, statement, 1, StatementPlace(statement.id, 1, 5))
        assert "belongs to a purge statement, which is never purged" in only(audited(made))

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"chain": Hash(b"x" * 32)}, "commits to another history"),
            ({"at": 1}, "comes before the event before it"),
            ({"size": 7}, "bytes of events, but its header says"),
            ({"digest": Hash(b"x" * 32)}, "are not those that its record commits to"),
            ({"sequence": 2}, "are not those that its record commits to"),
            ({"statement": NOWHERE}, "does not name it or does not count"),
        ],
    )
    def test_finds_what_a_gap_says_wrong(
        self, made: SealedLedger, deal: Deal, statement: Deal, change: dict[str, object], why: str
    ) -> None:
        purge(made)
        lookup = Lookup(made.store())
        place = lookup.transaction(deal.id)
        block = lookup.store.block(place.height)
        sealed = block.transactions[place.leaf_index]
        said = decode(sealed.events[1], PurgedEvent)._replace(**change)  # type: ignore[arg-type]
        events = (sealed.events[0], encode(said), *sealed.events[2:])
        transactions = list(block.transactions)
        transactions[place.leaf_index] = sealed._replace(events=events)
        changed = block._replace(transactions=tuple(transactions))
        (made.folder / block_path(place.height)).write_bytes(encode_block(changed))
        report = audited(made)
        assert any(why in str(violation) for violation in report.violations), report.violations

    def test_still_finds_a_wrong_signature_beside_a_gap(self, made: SealedLedger) -> None:
        deal = made.ledger.open(0)
        deal.say("bank-1", content=BODY)
        deal.say("bank-0", keys=(signing_key("bank-2"),))
        deal.say("bank-1", "FINISH")
        made.seal()
        state(made, target(made, deal, 1))
        made.seal()
        purge(made)
        assert not holds(made.folder, BODY)
        assert "event 2 is signed by key" in only(audited(made))


Change = Callable[[FirehoseEvent, Message | None], tuple[FirehoseEvent, Message | None]]


def changed_event(**fields: object) -> Change:
    def change(event: FirehoseEvent, message: Message | None) -> tuple[FirehoseEvent, Message | None]:
        return event._replace(**fields), None if "envelope" in fields else message  # type: ignore[arg-type]

    return change


def changed_message(**fields: object) -> Change:
    def change(event: FirehoseEvent, message: Message | None) -> tuple[FirehoseEvent, Message | None]:
        assert message is not None
        return event, message._replace(**fields)  # type: ignore[arg-type]

    return change


class TestWhatIsLeftOfATransaction:
    """Judged with its messages 1 and 3 (of 0 to 4) purged, and one of the others changed and signed again."""

    @pytest.fixture
    def whole(self, sealed: SealedLedger) -> SealedTransaction:
        deal = sealed.ledger.open(0)
        for sender in ("bank-1", "bank-0", "bank-1"):
            deal.say(sender, content=BODY)
        deal.say("bank-0", "FINISH")
        (*_, block) = sealed.seal()
        return block.transactions[0]

    def faults(
        self, sealed: SealedLedger, whole: SealedTransaction, number: int | None, change: Change
    ) -> list[str]:
        events = list(whole.events)
        listed = list(whole.record.events)
        if number is not None:
            event = decode(events[number], FirehoseEvent)
            message = None
            if event.envelope is not None:
                message = decode(decode(event.envelope, Envelope).payload, Message)
            event, message = change(event, message)
            if message is not None:
                envelope = seal(MESSAGE_TYPE, message, signing_key(message.sender))
                event = event._replace(envelope=encode(envelope))
            events[number] = encode(event)
            listed[number] = listed[number]._replace(digest=event_digest(events[number]))
        last = decode(events[-1], FirehoseEvent)
        if number != len(events) - 1 and last.ended is not None:
            events[-1] = encode(last._replace(ended=last.ended._replace(events=tuple(listed[:-1]))))
        record = whole.record._replace(events=tuple(listed))
        left = SealedTransaction(record, encode(record), tuple(events))
        block = Block(NO_HEADER, b"", (left,), ())
        spots = {Spot(0, 0, gone): NOWHERE for gone in (1, 3)}
        done = replay(without(block, spots).transactions[0], sealed.ledger.directory)
        return [fault.detail for fault in done.faults]

    def test_has_no_fault_if_it_had_none(self, sealed: SealedLedger, whole: SealedTransaction) -> None:
        assert self.faults(sealed, whole, None, changed_event()) == []

    @pytest.mark.parametrize(
        ("number", "change", "why"),
        [
            (2, changed_message(sequence=7), "does not link to the message before it"),
            (2, changed_message(transaction_id=bytes(16)), "another transaction or pipeline"),
            (2, changed_message(sender="bank-2"), "who is not a party"),
            (2, changed_message(recipients=()), "should have been refused as MALFORMED"),
            (2, changed_event(at=START + 2 * HOUR), "came after the deadline"),
            (2, changed_event(sequence=9), "stands at firehose sequence 9"),
            (2, changed_event(pipeline=1), "belongs to another transaction or pipeline"),
            (2, changed_event(directory_version=1), "not bank-0's at directory version 1"),
            (2, changed_event(ended=NO_ENDING), "says that it ends the transaction"),
            (2, changed_event(envelope=b"x"), "cannot be read"),
            (0, changed_event(at=START), "came at another time than the record says"),
            (4, changed_event(ended=None), "ends the transaction by the rules, but does not say so"),
            (4, changed_event(ended=NO_ENDING), "with outcome, kind, opened_at, events other than"),
            (4, changed_event(envelope=None), "is a timeout, which the record does not say"),
        ],
    )
    def test_is_still_judged_by_what_it_says(
        self, sealed: SealedLedger, whole: SealedTransaction, number: int, change: Change, why: str
    ) -> None:
        faults = self.faults(sealed, whole, number, change)
        assert any(why in fault for fault in faults), faults

    def test_a_gap_where_a_timeout_was_is_a_fault(self, sealed: SealedLedger) -> None:
        sealed.ledger.open(0).expire()
        (*_, block) = sealed.seal()
        gone = without(block, {Spot(0, 0, 1): NOWHERE})
        faults = replay(gone.transactions[0], sealed.ledger.directory).faults
        assert [fault.detail for fault in faults] == [
            "is missing, but was a timeout, which has no body to purge"
        ]


class TestAProof:
    def test_made_before_verifies_unchanged(self, made: SealedLedger, deal: Deal, statement: Deal) -> None:
        before = proof_of(made, deal, 1)
        purge(made)
        assert verify_proof(before, VKEY).message.content == BODY

    def test_of_another_message_of_the_transaction_is_made_as_ever(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        purge(made)
        assert verify_proof(proof_of(made, deal, 2), VKEY).message.content == b"thank you"

    def test_of_a_purged_message_says_when_by_whom_and_why_it_is_gone(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        purge(made)
        with pytest.raises(
            PurgedError, match=r"message 1 of transaction .* was purged on .* by operator"
        ) as told:
            proof_of(made, deal, 1)
        for word in (REASON, REQUESTED_BY, transaction_text(statement.id), "--body"):
            assert word in str(told.value)

    def test_is_made_from_a_holders_copy_whatever_form_it_has(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        event, older = made.ledger.firehose[0][1], proof_of(made, deal, 1)
        receipt = encode(
            Receipt(
                MessageId(bytes(32)),
                event_digest(event),
                event,
                0,
                0,
                1,
                b"",
                signing_key("router").id,
                bytes(64),
            )
        )
        purge(made)
        proofs = {proof_of(made, deal, 1, copy) for copy in (event, receipt, older)}
        assert len(proofs) == 1
        assert verify_proof(proofs.pop(), VKEY).message.content == BODY

    @pytest.mark.parametrize(
        ("copy", "why"),
        [
            (b"nothing", "the copy cannot be read"),
            (encode(PurgedEvent(0, Hash(bytes(32)), Hash(bytes(32)), 0, 0, NOWHERE)), "without the event"),
        ],
    )
    def test_is_not_made_from_something_else(
        self, made: SealedLedger, deal: Deal, statement: Deal, copy: bytes, why: str
    ) -> None:
        purge(made)
        with pytest.raises(ProofError, match=why):
            proof_of(made, deal, 1, copy)
        with pytest.raises(ProofError, match="its digest is another"):
            proof_of(made, deal, 1, made.ledger.firehose[0][2])

    def test_is_not_made_where_the_statement_does_not_name_the_event(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        force(made, deal, 2, StatementPlace(statement.id, 1, 5))
        with pytest.raises(ProofError, match="the statement that it refers to does not name it"):
            proof_of(made, deal, 2)
        trade = Lookup(made.store()).ending(1, 3)
        sealed = made.store().block(trade.height).transactions[trade.leaf_index]
        force(made, deal, 1, StatementPlace(sealed.record.transaction_id, 1, 3))
        with pytest.raises(ProofError, match=r"no statement says why: .* stated in one of 'erasure'"):
            proof_of(made, deal, 1)

    def test_is_not_made_where_the_statement_is_nowhere(self, made: SealedLedger, deal: Deal) -> None:
        force(made, deal, 1, NOWHERE._replace(ending=99))
        with pytest.raises(ProofError, match="is gone, and no statement says why: event 99 of pipeline 1"):
            proof_of(made, deal, 1)


def test_an_erasure_that_cannot_be_read_names_nothing(made: SealedLedger, statement: Deal) -> None:
    lookup = Lookup(made.store())
    place = lookup.transaction(statement.id)
    sealed = lookup.store.block(place.height).transactions[place.leaf_index]
    opening = decode(sealed.events[0], FirehoseEvent)
    for event in (
        opening._replace(envelope=b"nothing"),
        opening._replace(pipeline=0),
        opening._replace(envelope=None),
    ):
        with pytest.raises(
            ErasureError, match=r"holds no readable purge statement|does not open with a clear"
        ):
            read_statement(sealed._replace(events=(encode(event), *sealed.events[1:])))
    assert read_statement(sealed).operator == OPERATOR


def test_an_erasure_judged_before_its_operator_was_admitted_does_not_count(
    made: SealedLedger, statement: Deal
) -> None:
    lookup = Lookup(made.store())
    place = lookup.transaction(statement.id)
    sealed = lookup.store.block(place.height).transactions[place.leaf_index]
    directory = directory_of(lookup.store, made.ledger.registrar.public)
    assert prove_statement(sealed, directory).operator == OPERATOR
    early = encode(decode(sealed.events[0], FirehoseEvent)._replace(directory_version=1))
    with pytest.raises(ErasureError, match=r"does not count: .* at directory version 1"):
        prove_statement(sealed._replace(events=(early, *sealed.events[1:])), directory)


class TestReaders:
    @pytest.fixture
    def log_key(self, tmp_path: Path) -> Path:
        path = tmp_path / "log.vkey"
        path.write_text(VKEY)
        return path

    def test_a_purged_message_is_shown_with_what_is_left_and_why(
        self,
        made: SealedLedger,
        deal: Deal,
        statement: Deal,
        log_key: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        purge(made)
        show = [
            "tx",
            "show",
            transaction_text(deal.id),
            "--store",
            str(made.folder),
            "--log-key",
            str(log_key),
        ]
        capsys.readouterr()
        assert parley(show) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "purged on 2027-01-15" in lines[1]
        assert f"by operator, because: {REASON} (requested by {REQUESTED_BY}, statement" in lines[1]
        assert "thank you" in lines[2]
        assert parley([*show, "--json"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["event"] for row in rows] == ["message", "purged", "message", "message", "sealed"]
        assert rows[1]["statement"] == transaction_text(statement.id)
        assert rows[1]["digest"] == event_digest(made.ledger.firehose[0][1]).hex()

    def test_a_proof_is_made_at_the_command_line_with_ones_own_copy(
        self,
        made: SealedLedger,
        deal: Deal,
        statement: Deal,
        log_key: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        own, output = tmp_path / "own", tmp_path / "new.proof"
        own.write_bytes(proof_of(made, deal, 1))
        purge(made)
        prove = ["tx", "prove", transaction_text(deal.id), "--store", str(made.folder), "--message", "1"]
        prove += ["--log-key", str(log_key), "--output", str(output)]
        assert parley(prove) == 1
        assert "was purged on" in capsys.readouterr().err
        assert parley([*prove, "--body", str(own)]) == 0
        assert verify_proof(output.read_bytes(), VKEY).message.content == BODY

    @pytest.mark.parametrize(
        ("options", "code", "why"),
        [
            (["--message", "1"], 1, "message 1 of transaction"),
            (["--message", "9"], 1, "and no message 9"),
            (["--reason", " "], 1, "this cannot be stated: its reason is not one line"),
            (["--store", "nowhere"], 1, "nowhere is not a folder"),
            (["--message", "2", "01890000-0000-7000-8000-000000000000"], 2, "--message needs exactly one"),
        ],
    )
    def test_what_cannot_be_stated_is_refused_before_anything_is_sent(
        self,
        made: SealedLedger,
        deal: Deal,
        statement: Deal,
        log_key: Path,
        capsys: pytest.CaptureFixture[str],
        options: list[str],
        code: int,
        why: str,
    ) -> None:
        purge(made)
        line = ["erase", transaction_text(deal.id), "--store", str(made.folder), "--log-key", str(log_key)]
        line += ["--with", REGULATOR, "--reason", REASON, "--requested-by", REQUESTED_BY]
        assert parley([*line, *options]) == code
        assert why in " ".join(capsys.readouterr().err.split())

    def test_an_audit_counts_at_the_command_line(
        self, made: SealedLedger, statement: Deal, log_key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        purge(made)
        capsys.readouterr()
        line = ["audit", str(made.folder), "--log-key", str(log_key), "--json"]
        assert parley([*line, "--registrar", made.ledger.registrar.public.hex()]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["good"], told["purged"], told["purges_due"]) == (True, 1, 0)
        assert [(one["statement"], one["bodies"]) for one in told["purges"]] == [
            (transaction_text(statement.id), 1)
        ]
        assert parley([*line[:-1], "--registrar", made.ledger.registrar.public.hex()]) == 0
        assert "1 bodies purged on 2027-01-15" in capsys.readouterr().out

    def test_a_message_id_that_is_not_found_may_be_a_purged_ones(
        self, made: SealedLedger, deal: Deal, statement: Deal
    ) -> None:
        purge(made)
        with pytest.raises(ProofError, match="or it is one of 1 that were purged"):
            Lookup(made.store()).message(MessageId(bytes(32)))
        head = message_id_of(made.ledger.firehose[0][2])
        assert Lookup(made.store()).message(head).event_index == 2


def message_id_of(event: bytes) -> MessageId:
    envelope = decode(event, FirehoseEvent).envelope
    assert envelope is not None
    return message_id(decode(envelope, Envelope).payload)
