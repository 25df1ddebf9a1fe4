"""The regulator's monitor: what it counts, that it notices what is missing, and that a restart counts nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pydantic import ValidationError

from firehose.core import Figures, Held, Instrument, observe, waiting
from firehose.service import Monitor
from firehose.settings import MonitorSettings
from firehose.state import StateFile, Watched
from parley.encryption import EpochKey, encrypt
from parley.errors import CursorError, FirehoseError
from parley.grants import make_grants
from parley.kafka import TopicRecord
from parley.keystore import Cost, Keystore
from parley.schemas import ChannelEpoch, FinishRule, FirehoseEvent, Message, TransactionId, decode
from parley.workflows.settlement.advice import Status, write_advice
from parley.workflows.settlement.confirmation import write_confirmation
from parley.workflows.settlement.instruction import Money
from parley.workflows.settlement.steps import ADVICE_STEP, CONFIRMATION_STEP, INSTRUCTION_STEP
from parley.workflows.settlement.writing import write_instruction
from tests.hiding import sealed_to
from tests.private_speech import keys_of, reader
from tests.settlement import DELIVERY, RECEIPT, TODAY
from tests.synthetic_ledger import HOUR, START, Deal, Ledger, encryption_key

ISIN = "DE0001102580"


def opening(isin: str = ISIN, amount: object = "14243.00") -> bytes:
    return json.dumps({"isin": isin, "currency": "EUR", "settlement_amount": amount}).encode()


def said(text: str, status: str) -> bytes:
    return json.dumps({"text": text, "status": status}).encode()


class SettlementLedger(Ledger):
    """A ledger on which everything said is a document of a delivery versus payment."""

    def settle(self, last: bytes, step: str, amount: Money = RECEIPT.amount) -> None:
        self.content_type = INSTRUCTION_STEP
        deal = self.open(content=write_instruction(replace(RECEIPT, amount=amount)))
        deal.say("bank-1", content=write_instruction(DELIVERY))
        self.content_type = step
        deal.say("bank-1", "FINISH", last)


class TradingLedger(Ledger):
    """A ledger on which everything said is JSON."""

    content_type = "application/json"

    def settle(self, pipeline: int = 0, status: str = "settled", amount: object = "14243.00") -> None:
        deal = self.open(pipeline, content=opening(amount=amount))
        deal.say("bank-1", content=said("I commit", "committed"))
        deal.say("bank-1", "FINISH", said("done", status))


class PrivateLedger(TradingLedger):
    """A ledger on which all is private; the key to each transaction is granted to ``readers`` in its opening."""

    def __init__(self, *readers: str) -> None:
        self.readers = readers
        self.keys: dict[TransactionId, EpochKey] = {}
        super().__init__()

    def conceal(self, message: Message) -> Message:
        key = self.keys.setdefault(message.transaction_id, EpochKey.generate())
        own = ChannelEpoch(message.transaction_id, 0)
        return encrypt(
            message,
            key.transaction_key(message.transaction_id).message_key(message.sequence, message.sender),
            channel=own,
            grants=() if message.terms is None else make_grants(key, message, own, keys_of(*self.readers)),
        )


@pytest.fixture
def ledger() -> TradingLedger:
    return TradingLedger()


def records_of(ledger: Ledger) -> list[TopicRecord]:
    return [
        TopicRecord(pipeline, 2 * sequence, event)
        for pipeline, events in enumerate(ledger.firehose)
        for sequence, event in enumerate(events)
    ]


def events_of(ledger: Ledger) -> list[FirehoseEvent]:
    return [decode(record.value, FirehoseEvent) for record in records_of(ledger)]


def figures_of(ledger: Ledger) -> Figures:
    return observe(Figures(), events_of(ledger))


def test_a_settled_trade_counts_by_kind_and_instrument(ledger: TradingLedger) -> None:
    ledger.settle()
    figures = figures_of(ledger)
    assert (figures.events, figures.messages, figures.opened) == (3, 3, 1)
    assert figures.outcomes == {"settled": 1}
    assert figures.kinds == {"dvp": {"settled": 1}}
    assert figures.instruments == {ISIN: Instrument({"settled": 1}, {"EUR": Decimal("14243.00")})}
    assert figures.open == {}


def test_a_declined_trade_settles_nothing(ledger: TradingLedger) -> None:
    ledger.settle(status="declined")
    assert figures_of(ledger).instruments == {ISIN: Instrument({"declined": 1}, {})}


@pytest.mark.parametrize(
    ("last", "step", "outcome"),
    [
        (write_confirmation(RECEIPT, TODAY), CONFIRMATION_STEP, "settled"),
        (write_advice(RECEIPT, Status.UNMATCHED), ADVICE_STEP, "mismatched"),
        (write_advice(RECEIPT, Status.REJECTED), ADVICE_STEP, "declined"),
        (b"<a/>", ADVICE_STEP, "finished"),
        (b'{"status":"settled"}', "text/plain", "finished"),
    ],
)
def test_documents_of_a_settlement_count_by_instrument_and_by_how_the_last_one_ends_it(
    last: bytes, step: str, outcome: str
) -> None:
    ledger = SettlementLedger()
    ledger.settle(last, step)
    ledger.settle(last, step, Money(Decimal("0.10"), "EUR"))
    settled = {"EUR": Decimal("14243.10")} if outcome == "settled" else {}
    assert figures_of(ledger).instruments == {RECEIPT.isin: Instrument({outcome: 2}, settled)}


def test_an_instruction_that_cannot_be_read_counts_by_kind_alone() -> None:
    ledger = SettlementLedger()
    ledger.content_type = INSTRUCTION_STEP
    ledger.open(content=b"<Document/>").expire()
    assert figures_of(ledger).kinds == {"dvp": {"timed_out": 1}}
    assert figures_of(ledger).instruments == {}


def test_a_timeout_counts_for_whoever_was_due(ledger: TradingLedger) -> None:
    ledger.open(content=opening()).expire()
    figures = figures_of(ledger)
    assert figures.outcomes == {"timed_out": 1}
    assert figures.waiting_on == {"bank-1": 1}
    assert figures.instruments[ISIN].outcomes == {"timed_out": 1}


def test_hidden_parties_that_were_due_are_counted_together(ledger: TradingLedger) -> None:
    for address in ("bank-1", "bank-2"):
        text = sealed_to(address).text
        ledger.open(0, ("bank-0", text)).expire()
    assert figures_of(ledger).waiting_on == {"hidden": 2}


def test_what_waits_on_whom_is_told_with_the_longest_wait_and_the_first_deadline(
    ledger: TradingLedger,
) -> None:
    first = ledger.open(deadline=START + 5_000)
    second = ledger.open(1, deadline=START + 3_000)
    third = ledger.open(1, ("bank-0", "bank-1", "bank-2"), deadline=START + 4_000)
    second.say("bank-1")
    ledger.trade()
    ledger.open(1).expire()

    def since(deal: Deal) -> int:
        return deal.last_event.at

    assert waiting(figures_of(ledger)) == {
        "bank-0": Held(1, since(second), START + 3_000),
        "bank-1": Held(2, since(first), START + 4_000),
        "bank-2": Held(1, since(third), START + 4_000),
    }


def test_hidden_parties_that_are_due_are_counted_together_and_once_in_a_transaction(
    ledger: TradingLedger,
) -> None:
    ledger.open(0, ("bank-0", sealed_to("bank-1").text, sealed_to("bank-2").text))
    assert {name: held.transactions for name, held in waiting(figures_of(ledger)).items()} == {"hidden": 1}


@given(st.lists(st.sampled_from(["open", "CONTINUE", "FINISH"]), max_size=30), st.data())
def test_who_times_out_is_who_was_waited_for(steps: list[str], data: st.DataObject) -> None:
    """What the monitor works out of the messages is what the record says at the end, for both finish rules."""
    banks = ("bank-0", "bank-1", "bank-2")
    ledger = TradingLedger()
    still_open: list[Deal] = []
    for action in steps:
        if action == "open" or not still_open:
            rule: FinishRule = data.draw(st.sampled_from(["ANY", "ALL"]))
            still_open.append(ledger.open(0, banks, rule=rule))
            continue
        deal = data.draw(st.sampled_from(still_open))
        deal.say(data.draw(st.sampled_from(banks)), "FINISH" if action == "FINISH" else "CONTINUE")
        if deal.state is not None and deal.state.outcome is not None:
            still_open.remove(deal)
    before = figures_of(ledger)
    due = [name for deal in still_open if deal.state is not None for name in deal.state.due]
    assert {name: held.transactions for name, held in waiting(before).items()} == Counter(due)
    for deal in still_open:
        deal.expire()
    assert figures_of(ledger).waiting_on == Counter(due)
    assert waiting(figures_of(ledger)) == {}


def test_what_is_open_is_told_apart_from_what_ended(ledger: TradingLedger) -> None:
    ledger.open(content=opening())
    ledger.settle()
    figures = figures_of(ledger)
    assert figures.opened - sum(figures.outcomes.values()) == len(figures.open) == 1


def test_amounts_are_added_exactly(ledger: TradingLedger) -> None:
    for amount in ("0.10", "0.20", 3):
        ledger.settle(amount=amount)
    assert figures_of(ledger).instruments[ISIN].settled == {"EUR": Decimal("3.30")}


@pytest.mark.parametrize("amount", ["1e999999", "-5", "a lot", None, [], "9" * 40])
def test_an_amount_that_is_none_is_not_added(ledger: TradingLedger, amount: object) -> None:
    ledger.settle(amount=amount)
    assert figures_of(ledger).instruments == {ISIN: Instrument({"settled": 1}, {})}


@given(content=st.binary() | st.just(b"[" * 100_000) | st.just(b'{"isin":7,"currency":[]}'))
def test_content_that_cannot_be_read_still_counts_by_kind(content: bytes) -> None:
    ledger = TradingLedger()
    ledger.open(content=content).say("bank-1", "FINISH", content)
    assert figures_of(ledger).kinds == {"dvp": {"finished": 1}}


@given(cut=st.integers(0, 9))
def test_the_figures_do_not_depend_on_how_events_are_batched(cut: int) -> None:
    ledger = Ledger()
    ledger.trade()
    ledger.open(content=opening()).expire()
    ledger.trade(pipeline=1)
    events = events_of(ledger)
    assert observe(observe(Figures(), events[:cut]), events[cut:]) == observe(Figures(), events)


def test_an_event_that_carries_no_message_is_counted_as_unreadable(ledger: TradingLedger) -> None:
    ledger.open()
    (event,) = events_of(ledger)
    assert observe(Figures(), [event._replace(envelope=b"garbage")]).unreadable == 1


class TestWhatIsPrivate:
    def test_counts_like_what_is_in_clear_where_a_key_is_granted(self, ledger: TradingLedger) -> None:
        private = PrivateLedger("regulator")
        for each in (ledger, private):
            each.settle()
            each.open(content=opening()).expire()
        figures = observe(Figures(), events_of(private), reader("regulator"))
        assert (figures.private, figures.unread) == (4, {})
        assert figures.instruments == figures_of(ledger).instruments
        assert figures.outcomes == {"settled": 1, "timed_out": 1}

    @pytest.mark.parametrize("by", [None, "regulator", "another"])
    def test_is_counted_as_unread_by_kind_where_no_key_is_granted(self, by: str | None) -> None:
        private = PrivateLedger("somebody")
        private.settle()
        figures = observe(Figures(), events_of(private), None if by is None else reader(by))
        assert (figures.private, figures.unread) == (3, {"dvp": 3})
        assert figures.kinds == {"dvp": {"finished": 1}}
        assert figures.instruments == {}

    def test_that_is_said_in_a_transaction_whose_opening_is_no_longer_kept_is_of_some_other_kind(
        self,
    ) -> None:
        private = PrivateLedger("regulator")
        private.settle()
        assert observe(Figures(), events_of(private)[1:2], reader("regulator")).unread == {"other": 1}


class TestTheMonitor:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "monitor.json"

    def test_a_restart_counts_nothing_twice_and_misses_nothing(
        self, path: Path, ledger: TradingLedger
    ) -> None:
        ledger.settle()
        ledger.open(content=opening())
        monitor = Monitor(StateFile(path), 0)
        monitor.take(records_of(ledger))
        monitor.save(0, always=True)
        ledger.settle(pipeline=1)
        again = Monitor(StateFile(path), 0)
        assert again.positions == {0: 7}
        again.take(records_of(ledger))
        assert again.watched.figures == figures_of(ledger)

    def test_a_restart_learns_again_the_keys_that_it_still_needs(self, path: Path) -> None:
        private = PrivateLedger("regulator")
        private.settle()
        deal = private.open(content=opening())
        monitor = Monitor(StateFile(path), 0, reader("regulator"))
        monitor.take(records_of(private))
        monitor.save(0, always=True)
        deal.say("bank-1", "FINISH", said("done", "settled"))
        again = Monitor(StateFile(path), 0, reader("regulator"))
        assert again.positions == {0: 6}
        again.take(records_of(private)[3:])
        assert again.watched.figures == observe(Figures(), events_of(private), reader("regulator"))
        assert again.watched.figures.unread == {}
        again.save(0, always=True)
        assert Monitor(StateFile(path), 0, reader("regulator")).positions == {0: 9}

    def test_a_restart_that_is_cut_short_loses_no_place_to_learn_keys_from(self, path: Path) -> None:
        private = PrivateLedger("regulator")
        for pipeline in (0, 1):
            private.open(pipeline, content=opening())
        monitor = Monitor(StateFile(path), 0, reader("regulator"))
        monitor.take(records_of(private))
        monitor.save(0, always=True)
        private.settle(pipeline=1)
        cut_short = Monitor(StateFile(path), 0, reader("regulator"))
        cut_short.take([record for record in records_of(private) if record.partition == 1])
        cut_short.save(0, always=True)
        assert StateFile(path).load().keys_from == {0: 0, 1: 0}

    def test_the_key_of_a_channel_is_needed_beyond_the_channels_end_until_its_deadline(
        self, path: Path
    ) -> None:
        private = PrivateLedger("regulator")
        private.open(kind="channel", deadline=private.now + HOUR).say("bank-1", "FINISH")
        monitor = Monitor(StateFile(path), 0, reader("regulator"))
        monitor.take(records_of(private))
        assert monitor.watched.keys_from == {0: 0}
        private.now += HOUR
        private.open()
        monitor.take(records_of(private)[2:])
        assert monitor.watched.keys_from == {0: 4}

    def test_no_key_is_ever_saved(self, path: Path) -> None:
        private = PrivateLedger("regulator")
        private.open(content=opening())
        monitor = Monitor(StateFile(path), 0, reader("regulator"))
        monitor.take(records_of(private))
        monitor.save(0, always=True)
        (key,) = private.keys.values()
        secrets = [key.secret, *(key.transaction_key(identity).secret for identity in private.keys)]
        assert monitor.watched.figures.unread == {}
        assert not any(secret.hex() in path.read_text() for secret in secrets)

    def test_a_missing_event_stops_it_and_what_was_good_stays(
        self, path: Path, ledger: TradingLedger
    ) -> None:
        ledger.settle()
        records = records_of(ledger)
        monitor = Monitor(StateFile(path), 0)
        monitor.take(records[:1])
        with pytest.raises(FirehoseError, match="missing"):
            monitor.take(records[2:])
        monitor.save(0, always=True)
        assert StateFile(path).load().figures.events == 1

    def test_a_changed_event_stops_it_at_the_next(self, path: Path, ledger: TradingLedger) -> None:
        ledger.settle()
        first, second, _ = records_of(ledger)
        changed = bytearray(first.value)
        changed[-40] ^= 1
        monitor = Monitor(StateFile(path), 0)
        monitor.take([first._replace(value=bytes(changed))])
        with pytest.raises(FirehoseError, match="another history"):
            monitor.take([second])

    def test_it_saves_once_an_interval(self, path: Path, ledger: TradingLedger) -> None:
        monitor = Monitor(StateFile(path), 10)
        ledger.settle()
        records = records_of(ledger)
        monitor.take(records[:1])
        monitor.save(100)
        monitor.take(records[1:])
        monitor.save(105)
        assert StateFile(path).load().figures.events == 1
        monitor.save(110)
        assert StateFile(path).load().figures.events == 3

    def test_what_is_saved_is_what_is_loaded(self, path: Path, ledger: TradingLedger) -> None:
        ledger.settle()
        ledger.open(content=opening())
        ledger.open(1).expire()
        private = PrivateLedger("somebody", "regulator")
        private.open()
        monitor = Monitor(StateFile(path), 0, reader("regulator"))
        monitor.take([record._replace(partition=0) for record in records_of(private)])
        StateFile(path).save(monitor.watched)
        assert StateFile(path).load() == monitor.watched
        monitor = Monitor(StateFile(path.with_name("clear.json")), 0)
        monitor.take(records_of(ledger))
        StateFile(path).save(monitor.watched)
        assert StateFile(path).load() == monitor.watched

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 3, "figures": {}}'])
    def test_a_file_that_is_not_its_own_is_left_alone(self, path: Path, text: str) -> None:
        path.write_text(text)
        with pytest.raises(CursorError):
            Monitor(StateFile(path), 0)
        assert path.read_text() == text

    @pytest.mark.parametrize("state", ["00", "no hexadecimal", 7])
    def test_an_open_transaction_that_cannot_be_read_is_told(
        self, path: Path, ledger: TradingLedger, state: object
    ) -> None:
        ledger.open()
        monitor = Monitor(StateFile(path), 0)
        monitor.take(records_of(ledger))
        monitor.save(0, always=True)
        saved = json.loads(path.read_text())
        (row,) = saved["open"].values()
        row[0] = state
        path.write_text(json.dumps(saved))
        with pytest.raises(CursorError, match="move it away to follow from the start"):
            Monitor(StateFile(path), 0)

    def test_a_file_of_an_earlier_format_is_told_with_what_to_do(self, path: Path) -> None:
        path.write_text('{"format": 2}')
        with pytest.raises(CursorError, match="has format 2, and this software reads 3; move it away"):
            Monitor(StateFile(path), 0)

    def test_what_waits_is_in_the_file_and_served_with_the_metrics(
        self, path: Path, ledger: TradingLedger
    ) -> None:
        deal = ledger.open(deadline=START + 5_000)
        monitor = Monitor(StateFile(path), 0)
        monitor.take(records_of(ledger))
        monitor.save(0, always=True)
        since = deal.last_event.at
        told = {"transactions": 1, "since": since, "until": START + 5_000}
        assert json.loads(path.read_text())["figures"]["waiting"] == {"bank-1": told}
        Monitor(StateFile(path), 0)
        shown = {
            name: REGISTRY.get_sample_value(f"parley_monitor_waiting_{name}", {"participant": "bank-1"})
            for name in ("transactions", "since_timestamp_seconds", "until_timestamp_seconds")
        }
        assert list(shown.values()) == [1, since / 1_000, START / 1_000 + 5]

    def test_without_a_file_it_starts_at_the_beginning(self, path: Path) -> None:
        assert StateFile(path).load() == Watched(Figures(), {})


def settings(**more: object) -> MonitorSettings:
    return MonitorSettings.model_validate(
        {
            "kafka_bootstrap": "localhost:1",
            "kafka_username": "monitor",
            "kafka_password_file": "password",
            "state_file": "state.json",
            **more,
        }
    )


def test_a_monitor_with_a_keystore_reads_by_its_encryption_keys(tmp_path: Path) -> None:
    keystore = Keystore.create(tmp_path / "keys", "regulator", "secret", cost=Cost(1, 8_192))
    keystore.add("encryption", encryption_key("regulator"))
    keystore.save()
    (tmp_path / "password").write_text("secret\n")
    by = settings(keystore=tmp_path / "keys", keystore_password_file=tmp_path / "password").reader()
    private = PrivateLedger("regulator")
    private.settle()
    assert by is not None
    assert observe(Figures(), events_of(private), by).unread == {}


@pytest.mark.parametrize("alone", ["keystore", "keystore_password_file"])
def test_a_keystore_without_its_password_is_refused_before_anything_runs(alone: str) -> None:
    assert settings().reader() is None
    with pytest.raises(ValidationError, match="go together"):
        settings(**{alone: "file"})
