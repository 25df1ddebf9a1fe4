"""The past of a pipeline may go as far as nobody needs it, and the reason why not further is a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockbuilder import trim
from blockbuilder.errors import TrimError
from blockbuilder.past import Bound, Kept, bound, concerns
from blockbuilder.trimmer import Cut
from parley.firehose import event_digest
from parley.identifiers import transaction_text
from parley.schemas import (
    DeliveryBatch,
    FirehoseEvent,
    Hash,
    MessageId,
    Receipt,
    Rejection,
    decode,
    encode,
)
from tests.fix_ledger import LOG, SealedLedger
from tests.purging import admit_operator, state, target
from tests.synthetic_ledger import Ledger, signing_key

FAR = 1 << 40


def firehose(ledger: Ledger, pipeline: int = 0, start: int = 0) -> Iterator[Kept]:
    """As the topic keeps it from an event on: offsets are not dense."""
    for sequence, event in enumerate(ledger.firehose[pipeline]):
        if sequence >= start:
            yield Kept(2 * sequence + 7, event)


def sealed_in(made: SealedLedger, blocks: int | None = None) -> dict[int, Hash]:
    """What the first blocks hold of pipeline 0."""
    store = made.store()
    return {
        listed.sequence: listed.digest
        for height in range(len(store) if blocks is None else blocks)
        for one in store.block(height).transactions
        if one.record.pipeline == 0
        for listed in one.record.events
    }


def ingest_offset(ledger: Ledger, sequence: int) -> int:
    return decode(ledger.firehose[0][sequence], FirehoseEvent).ingest_offset


@pytest.fixture
def made(sealed: SealedLedger) -> SealedLedger:
    """Two sealed trades of four events each, then one that is open, and another sealed."""
    sealed.ledger.trade(0)
    sealed.ledger.trade(0)
    sealed.seal()
    sealed.ledger.open(0)
    sealed.ledger.trade(0)
    sealed.seal()
    return sealed


def test_an_event_of_an_open_transaction_stays_and_all_after_it(made: SealedLedger) -> None:
    found = bound(0, firehose(made.ledger), sealed_in(made), FAR)
    assert found is not None
    assert (found.sequence, found.offset, found.deleted) == (8, 23, 8)
    assert found.ingest_offset == ingest_offset(made.ledger, 7) + 1
    opened = decode(made.ledger.firehose[0][8], FirehoseEvent).transaction_id
    assert (
        f"event 8 of pipeline 0 stands in no anchored block: transaction {transaction_text(opened)} is open"
        in (found.reason)
    )


def test_what_no_anchor_vouches_for_stays(made: SealedLedger) -> None:
    found = bound(0, firehose(made.ledger), sealed_in(made, 0), FAR)
    assert found == Bound(0, 7, 0, 0, found.reason if found else "")
    assert found is not None
    assert "or its block is not final on a chain yet" in found.reason


def test_what_the_routers_state_may_lack_stays(made: SealedLedger) -> None:
    found = bound(0, firehose(made.ledger), sealed_in(made), 5)
    assert found is not None
    assert (found.sequence, found.deleted) == (5, 5)
    assert "the router's state may lack what changed from event 5" in found.reason


def test_the_newest_event_stays(sealed: SealedLedger) -> None:
    sealed.ledger.trade(0)
    sealed.seal()
    found = bound(0, firehose(sealed.ledger), sealed_in(sealed), FAR)
    assert found is not None
    assert (found.sequence, found.deleted, found.reason) == (3, 3, "the newest event stays, to go on from")


def test_no_more_goes_than_is_wanted(made: SealedLedger) -> None:
    found = bound(0, firehose(made.ledger), sealed_in(made), FAR, 3)
    assert found is not None
    assert (found.sequence, found.deleted, found.reason) == (3, 3, "no more was asked for")


def test_what_is_gone_already_needs_no_block(made: SealedLedger) -> None:
    found = bound(0, firehose(made.ledger, start=5), sealed_in(made), FAR)
    assert found is not None
    assert (found.sequence, found.deleted) == (8, 3)
    again = bound(0, firehose(made.ledger, start=8), sealed_in(made), FAR)
    assert again is not None
    assert (again.sequence, again.deleted, again.ingest_offset) == (8, 0, 0)


def test_an_empty_firehose_has_no_past() -> None:
    assert bound(0, [], {}, FAR) is None


def test_an_event_that_is_not_the_one_in_its_block_ends_it(made: SealedLedger) -> None:
    sealed = sealed_in(made) | {2: Hash(bytes(32))}
    with pytest.raises(TrimError, match="event 2 of pipeline 0 is not the one in its block"):
        bound(0, firehose(made.ledger), sealed, FAR)


@given(data=st.data())
def test_whatever_is_sealed_and_written_only_a_prefix_of_it_goes(data: st.DataObject) -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.trade(0)
    events = ledger.firehose[0]
    sealed = {
        sequence: event_digest(events[sequence])
        for sequence in data.draw(st.sets(st.integers(0, len(events) - 1)))
    }
    written, wanted = data.draw(st.integers(0, 14)), data.draw(st.none() | st.integers(0, 14))
    found = bound(0, firehose(ledger), sealed, written, wanted)
    assert found is not None
    missing = next(number for number in range(len(events) + 1) if number not in sealed)
    limits = [missing, written, len(events) - 1] + ([] if wanted is None else [wanted])
    assert found.sequence == found.deleted == min(limits)


class TestABatchOfDeliveries:
    def test_concerns_an_event_that_it_holds_itself_or_in_a_receipt(self, made: SealedLedger) -> None:
        event = made.ledger.firehose[0][5]
        receipt = encode(
            Receipt(
                MessageId(bytes(32)), Hash(bytes(32)), event, 0, 0, 1, b"", signing_key("r").id, bytes(64)
            )
        )
        for item in (event, receipt):
            batch = encode(DeliveryBatch((made.ledger.firehose[0][1], item)))
            assert concerns(batch, 0, 5)
            assert not concerns(batch, 0, 6)

    def test_concerns_none_if_it_holds_refusals_and_receipts_of_repetitions(self) -> None:
        rejection = encode(
            Rejection(0, 1, 2, 3, MessageId(bytes(32)), None, None, "CLOSED", False, "too late", None)
        )
        receipt = encode(
            Receipt(MessageId(bytes(32)), Hash(bytes(32)), None, 0, 0, 1, b"", signing_key("r").id, bytes(64))
        )
        assert not concerns(encode(DeliveryBatch((rejection, receipt))), 0, 0)


class TestTheCommand:
    @pytest.fixture
    def line(self, made: SealedLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        (tmp_path / "log.vkey").write_text(str(LOG.verifier_key))
        (tmp_path / "password").write_text("secret")
        monkeypatch.setenv("PARLEY_TRIM_KAFKA_BOOTSTRAP", "127.0.0.1:1")
        monkeypatch.setenv("PARLEY_TRIM_KAFKA_USERNAME", "admin")
        monkeypatch.setenv("PARLEY_TRIM_KAFKA_PASSWORD_FILE", str(tmp_path / "password"))
        return [str(made.folder), "--log-key", str(tmp_path / "log.vkey")]

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        """What a trimmer without a broker was asked for, and told to delete."""
        asked: list[object] = []
        cut = Cut(1, Bound(4, 9, 8, 4, "no more was asked for"), {("firehose", 1): 9, ("ingest", 1): 8})

        class Deaf:
            def __init__(self, *_: object) -> None: ...
            def cuts(self, wanted: object, _tell: object) -> list[Cut]:
                asked.append(wanted)
                return [cut]

            def delete(self, cuts: list[Cut]) -> None:
                asked.append(cuts)

        monkeypatch.setattr(trim, "Trimmer", Deaf)
        return asked

    def test_goes_as_far_as_may_be_or_as_far_as_is_said(
        self, line: list[str], asked: list[object], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert trim.main([*line, "--all", "--dry-run"]) == 0
        assert asked == [None]
        assert (
            "pipeline 1: 4 events before event 4 would go; no more was asked for" in capsys.readouterr().out
        )
        assert trim.main([*line, "--before", "0:7", "--before", "1:4", "--json"]) == 0
        assert asked[1] == {0: 7, 1: 4}
        assert isinstance(asked[2], list)
        told = json.loads(capsys.readouterr().out)
        assert told["cuts"][0]["offsets"] == {"firehose": 9, "ingest": 8}

    def test_goes_as_far_as_a_statement_names_something(
        self, made: SealedLedger, line: list[str], asked: list[object]
    ) -> None:
        admit_operator(made)
        deal = made.ledger.trade(1)
        made.seal()
        stated = state(made, target(made, deal, 0, 2))
        made.seal()
        assert trim.main([*line, "--statement", transaction_text(stated.id)]) == 0
        assert asked[0] == {1: 3}

    def test_says_in_one_line_what_is_wrong(
        self, line: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert trim.main(["nowhere", *line[1:], "--all"]) == 1
        assert "missing from the block store" in capsys.readouterr().err
        assert trim.main([line[0], "--log-key", "nowhere", "--all"]) == 1
        assert "trim: nowhere: No such file or directory" in capsys.readouterr().err
        monkeypatch.delenv("PARLEY_TRIM_KAFKA_USERNAME")
        assert trim.main([*line, "--all"]) == 2
        assert "trim: setting kafka_username: Field required" in capsys.readouterr().err
        for wrong in ("7", "a:b", "0:"):
            with pytest.raises(SystemExit):
                trim.main([*line, "--before", wrong])
