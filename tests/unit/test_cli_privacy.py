"""Private speech on the command line, against the router's own decisions in memory and the block store that comes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from parley.cli import main
from parley.envelope import message_id
from parley.grants import KeyRing
from parley.identifiers import parse_transaction_id
from parley.lookup import Lookup
from parley.proof import make_proof, verify_proof
from parley.reading import Reader
from parley.schemas import FirehoseEvent, decode, encode
from tests.fix_desks import STORE, Run
from tests.fix_ledger import LOG, SealedLedger
from tests.memory_backbone import MemoryBackbone
from tests.synthetic_ledger import encryption_key, signing_key

SECRET = "we would go down to 98.75"


@pytest.fixture
def backbone(desk_backbone: MemoryBackbone) -> MemoryBackbone:
    return desk_backbone


@pytest.fixture
def sealed(seal_all: Callable[[], SealedLedger]) -> Callable[[], SealedLedger]:
    return seal_all


def private_deal(run: Run, *options: str) -> str:
    (opened,) = run("alpha", "send", SECRET, "--to", "beta", "--private", *options)
    return str(opened["transaction"])


def test_a_private_deal_is_negotiated_like_any_other(run: Run) -> None:
    identity = private_deal(run)
    (received,) = run("beta", "inbox", "--once")
    assert (received["content"], received["access"]) == (SECRET, "GRANT")
    run("beta", "send", "agreed", "--deal", identity)
    (answer,) = run("alpha", "inbox", "--once")
    assert (answer["content"], answer["access"]) == ("agreed", "GRANT")
    (finished,) = run("alpha", "send", "done", "--deal", identity, "--finish")
    assert finished["outcome"] == "FINISHED"


def test_people_are_told_how_a_message_was_read(run: Run, told: Callable[..., str]) -> None:
    private_deal(run)
    assert f"opens: {SECRET}  [private, read by grant]" in told("beta", "inbox", "--once")


def test_one_message_for_some_readers_only(run: Run) -> None:
    (opened,) = run("alpha", "send", "hello", "--to", "beta", "--to", "gamma")
    identity = str(opened["transaction"])
    run("alpha", "send", SECRET, "--deal", identity, "--reader", "beta")
    assert [event["content"] for event in run("beta", "inbox", "--once")] == ["hello", SECRET]
    heard = run("gamma", "inbox", "--once")
    assert [(event["content"], event["access"]) for event in heard] == [("hello", "CLEAR"), (None, "NONE")]


def test_tx_show_decrypts_what_we_may_read_and_says_what_we_may_not(
    run: Run, told: Callable[..., str], sealed: Callable[[], SealedLedger]
) -> None:
    identity = private_deal(run, "--reader", "regulator")
    run("alpha", "send", "done", "--deal", identity, "--finish")
    sealed()
    for name in ("alpha", "beta", "regulator"):
        rows = run(name, "tx", "show", identity, *STORE)
        assert [row.get("content") for row in rows] == [SECRET, "done", None]
        assert f"{SECRET}  [private, read by grant]" in told(name, "tx", "show", identity, *STORE)
    rows = run("gamma", "tx", "show", identity, *STORE)
    assert [(row["access"], row["content"]) for row in rows[:2]] == [("NONE", None)] * 2
    assert "not readable by gamma" in str(rows[0]["unreadable"])
    assert "(encrypted: not readable by gamma" in told("gamma", "tx", "show", identity, *STORE)


def test_tx_show_without_a_profile_says_that_it_is_encrypted(
    run: Run, sealed: Callable[[], SealedLedger], capsys: pytest.CaptureFixture[str]
) -> None:
    identity = private_deal(run)
    run("alpha", "send", "done", "--deal", identity, "--finish")
    sealed()
    capsys.readouterr()
    assert main(["tx", "show", identity, *STORE]) == 0
    assert capsys.readouterr().out.count(": (encrypted)") == 2


def test_padding_shows_in_the_size_alone(run: Run, backbone: MemoryBackbone) -> None:
    run("alpha", "send", "yes", "--to", "beta", "--padded")
    (received,) = run("beta", "inbox", "--once")
    assert received["content"] == "yes"


def test_a_hidden_party_reads_a_private_deal(run: Run, backbone: MemoryBackbone) -> None:
    run("alpha", "send", SECRET, "--hidden", "beta", "--private", "--padded")
    (event,) = [event for pipeline in backbone.pipelines for event in pipeline.firehose]
    assert b"beta" not in event
    assert SECRET.encode() not in event
    (received,) = run("beta", "inbox", "--once")
    assert received["content"] == SECRET


class TestChannels:
    @pytest.fixture
    def channel(self, run: Run) -> str:
        (made,) = run(
            "alpha",
            "channel",
            "create",
            "syndicate",
            "--member",
            "beta",
            "--member",
            "gamma",
            "--reader",
            "regulator",
        )
        assert (made["name"], made["members"], made["epoch"]) == ("syndicate", ["alpha", "beta", "gamma"], 0)
        return str(made["channel"])

    def test_members_post_and_read(self, run: Run, channel: str) -> None:
        run("beta", "send", SECRET, "--channel", channel)
        heard = run("gamma", "inbox", "--once")
        assert [(event["sender"], event["access"]) for event in heard] == [
            ("alpha", "CHANNEL"),
            ("beta", "CHANNEL"),
        ]
        assert heard[1]["content"] == SECRET

    def test_deals_are_opened_on_it(self, run: Run, channel: str, sealed: Callable[[], SealedLedger]) -> None:
        (opened,) = run("alpha", "send", SECRET, "--to", "beta", "--channel", channel)
        identity = str(opened["transaction"])
        run("alpha", "send", "done", "--deal", identity, "--finish")
        run("alpha", "channel", "remove", channel, "--member", "gamma")
        sealed()
        for name in ("beta", "gamma", "regulator"):
            rows = run(name, "tx", "show", identity, *STORE)
            assert [row.get("content") for row in rows] == [SECRET, "done", None]
            assert rows[0]["access"] == "CHANNEL"
        assert run("delta", "tx", "show", identity, *STORE)[0]["content"] is None

    def test_it_is_changed_by_its_opener_and_listed_by_its_members(self, run: Run, channel: str) -> None:
        (added,) = run("alpha", "channel", "add", channel, "--member", "delta")
        assert (added["epoch"], added["members"]) == (1, ["alpha", "beta", "gamma", "delta"])
        (removed,) = run("alpha", "channel", "remove", channel, "--member", "gamma")
        assert (removed["epoch"], removed["members"]) == (2, ["alpha", "beta", "delta"])
        (renewed,) = run("alpha", "channel", "renew", channel, "--lasting", "1h")
        assert (renewed["epoch"], renewed["members"]) == (3, ["alpha", "beta", "delta"])
        (seen,) = run("delta", "channel", "show")
        assert seen == renewed
        (left,) = run("gamma", "channel", "show")
        assert left["epoch"] == 1

    def test_who_is_no_member_and_who_is_not_its_opener_are_told(
        self, channel: str, told: Callable[..., str]
    ) -> None:
        assert "no key to channel" in told("delta", "send", "x", "--channel", channel)
        assert "only alpha" in told("beta", "channel", "add", channel, "--member", "delta")
        shown = told("beta", "channel", "show")
        assert "syndicate" in shown
        assert "alpha, beta, gamma" in shown


class TestDisclosure:
    def test_a_regulator_reads_what_was_disclosed_and_proves_it_against_the_block(
        self, run: Run, told: Callable[..., str], sealed: Callable[[], SealedLedger]
    ) -> None:
        identity = private_deal(run)
        run("alpha", "send", "done", "--deal", identity, "--finish")
        (disclosed,) = run(
            "alpha", "disclose", identity, "--to", "regulator", "--statement", "request 17/2026"
        )
        assert (disclosed["scope"], disclosed["to"]) == ("TRANSACTION", "regulator")
        ledger = sealed()
        rows = run("regulator", "tx", "show", identity, *STORE)
        assert [(row["content"], row["access"]) for row in rows[:2]] == [
            (SECRET, "DISCLOSURE"),
            ("done", "DISCLOSURE"),
        ]
        assert "[private, read by disclosure]" in told("regulator", "tx", "show", identity, *STORE)
        assert run("gamma", "tx", "show", identity, *STORE)[0]["content"] is None

        # The same words by the library: the proof holds the message that the key opens, and its block.
        lookup = Lookup(ledger.store())
        regulator = Reader("regulator", KeyRing([encryption_key("regulator")]))
        for block in ledger.store().blocks():
            for transaction in block.transactions:
                for number, data in enumerate(transaction.events):
                    place = lookup.transaction(decode(data, FirehoseEvent).transaction_id)
                    proof = make_proof(lookup, place._replace(event_index=number))
                    proved = verify_proof(proof, LOG.verifier_key, signing_key("registrar").public)
                    regulator.read(proved.message, proved.message_id)
        place = lookup.transaction(parse_transaction_id(identity))
        proved = verify_proof(make_proof(lookup, place._replace(event_index=0)), LOG.verifier_key)
        assert proved.message_id == message_id(encode(proved.message))
        assert regulator.read(proved.message, proved.message_id).content == SECRET.encode()

    def test_one_message_of_an_open_deal(self, run: Run, sealed: Callable[[], SealedLedger]) -> None:
        identity = private_deal(run)
        run("alpha", "send", "this one", "--deal", identity)
        run("beta", "disclose", identity, "--to", "regulator", "--message", "1")
        run("alpha", "send", "done", "--deal", identity, "--finish")
        sealed()
        rows = run("regulator", "tx", "show", identity, *STORE)
        assert [row["content"] for row in rows[:3]] == [None, "this one", None]

    def test_what_the_inbox_no_longer_keeps_is_disclosed_from_a_block_store(
        self, run: Run, told: Callable[..., str], backbone: MemoryBackbone, sealed: Callable[[], SealedLedger]
    ) -> None:
        identity = private_deal(run)
        run("alpha", "send", "done", "--deal", identity, "--finish")
        sealed()
        backbone.inboxes["alpha"].clear()
        assert "nothing to disclose" in told("alpha", "disclose", identity, "--to", "regulator")
        assert "name the block store" in told(
            "alpha", "disclose", identity, "--to", "regulator", "--message", "0"
        )
        assert "has no message 7" in told(
            "alpha", "disclose", identity, "--to", "regulator", "--message", "7", *STORE
        )
        run("alpha", "disclose", identity, "--to", "regulator", "--message", "0", *STORE)
        Path("log").rename("older")
        sealed()
        rows = run("regulator", "tx", "show", identity, *STORE)
        assert [row["content"] for row in rows[:2]] == [SECRET, None]

    def test_a_channels_epoch(self, run: Run, sealed: Callable[[], SealedLedger]) -> None:
        (made,) = run("alpha", "channel", "create", "desk", "--member", "beta")
        channel = str(made["channel"])
        run("beta", "send", SECRET, "--channel", channel)
        run("beta", "disclose", channel, "--to", "regulator", "--epoch")
        run("alpha", "channel", "add", channel, "--member", "gamma")
        sealed()
        rows = run("regulator", "tx", "show", channel, *STORE)
        assert [row["content"] for row in rows if row["event"] == "message"] == [
            '{"name": "desk"}',
            SECRET,
            "",
        ]


def test_verify_says_that_the_content_is_encrypted(
    run: Run, sealed: Callable[[], SealedLedger], capsys: pytest.CaptureFixture[str]
) -> None:
    identity = private_deal(run)
    run("alpha", "send", "done", "--deal", identity, "--finish")
    sealed()
    assert main(["tx", "prove", identity, *STORE, "--message", "0"]) == 0
    capsys.readouterr()
    assert main(["verify", f"{identity}.proof", "--log-key", "log.vkey"]) == 0
    assert "(encrypted;" in capsys.readouterr().out
    assert main(["verify", f"{identity}.proof", "--log-key", "log.vkey", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["encrypted"], shown["content"]) == (True, None)


def test_nobody_elses_terminal_or_file_ever_shows_what_was_said_in_private(
    run: Run,
    told: Callable[..., str],
    backbone: MemoryBackbone,
    desks: Path,
    sealed: Callable[[], SealedLedger],
) -> None:
    """Everything that a stranger can type, and every byte of the public files, searched for planted words."""
    identity = private_deal(run)
    (made,) = run("alpha", "channel", "create", "planted name", "--member", "beta")
    run("alpha", "send", f"posted: {SECRET}", "--channel", str(made["channel"]))
    run("alpha", "send", SECRET, "--deal", identity, "--finish")
    run("alpha", "disclose", identity, "--to", "regulator", "--statement", "planted statement")
    sealed()
    shown = "".join(
        told("gamma", *arguments)
        for arguments in (
            ("tx", "show", identity, *STORE),
            ("tx", "show", identity, *STORE, "--json"),
            ("inbox", "--once"),
            ("waiting",),
            ("channel", "show"),
            ("disclose", identity, "--to", "regulator"),
            ("send", "x", "--channel", str(made["channel"])),
            ("send", "x", "--deal", identity),
        )
    )
    assert "not readable by gamma" in shown
    files = b"".join(path.read_bytes() for path in (desks / "log").rglob("*") if path.is_file())
    record = b"".join(event for each in backbone.pipelines for event in each.firehose)
    states = repr([each.states for each in backbone.pipelines])
    inboxes = b"".join(item.value for inbox in backbone.inboxes.values() for item in inbox)
    assert len(files) > 1_000
    for word in (SECRET, "planted name", "planted statement"):
        assert word not in shown + states
        assert word.encode() not in files + record + inboxes
