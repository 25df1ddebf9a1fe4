"""Who can read what: one test for each cell of the table in docs/privacy.md, and that the table names them all.

One record for all: a private deal between alpha and beta; a channel that alpha opened with beta, gamma and delta, in which gamma is
replaced by epsilon; and a deal between alpha and beta on the channel, which is under way while that happens. The auditor is granted
deal and channel from the start. The supervisor is given, afterwards, the private deal and the channel's first epoch.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from parley.disclosure import DISCLOSURE_TYPE, write_disclosure
from parley.schemas import Message
from tests.dialogue import Dialogue
from tests.private_speech import NOW, Room, granted_to, read, reader

TABLE = Path(__file__).parents[2] / "docs" / "privacy.md"


class Record(NamedTuple):
    """What was said, in its order, and which messages are which."""

    everything: list[Message]
    private_deal: list[Message]
    before: Message
    after: Message
    deal_before: Message
    deal_after: Message


@pytest.fixture(scope="module")
def record() -> Record:
    private = Room("alpha", ["beta"], seed="private", readers=["auditor"])
    private_deal = [private.open(b"words"), private.say("beta", b"words"), private.say("alpha", b"words")]
    channel = Room("alpha", ["beta", "gamma", "delta"], seed="channel", name="desk", readers=["auditor"])
    opening, before = channel.open(), channel.say("beta", b"words")
    deal = Dialogue.between("alpha", "beta", opened_at=NOW, seed="deal")
    deal_before = channel.encrypted(deal.message("alpha", content=b"words"))
    deal.send(deal_before)
    changed = channel.next_epoch("beta", "delta", "epsilon")
    after = channel.encrypted(
        Dialogue.between("beta", "alpha", opened_at=NOW, seed="post").message("beta", content=b"words")
    )
    deal_after = channel.encrypted(deal.message("beta", content=b"words"))
    said = [*private_deal, opening, before, deal_before, changed, after, deal_after]
    alpha = reader("alpha")
    for message in said:
        read(alpha, message)
    keys = [*alpha.transaction_keys(private.id), *alpha.epoch_keys(channel.id)]
    disclosing = Dialogue.between("alpha", "supervisor", opened_at=NOW, seed="disclosure").message(
        "alpha", content=write_disclosure("supervisor", "request 17", keys)
    )
    disclosure = granted_to(disclosing._replace(content_type=DISCLOSURE_TYPE), "alpha", "supervisor")
    return Record([*said, disclosure], private_deal, before, after, deal_before, deal_after)


def reads(name: str, record: Record, *messages: Message) -> bool:
    """Whether somebody who was shown the whole record reads these; all of them or none."""
    by = reader(name)
    for message in record.everything:
        read(by, message)
    contents = {read(by, message).content for message in messages}
    assert contents in ({b"words"}, {None})
    return contents == {b"words"}


def test_a_party_reads_its_private_deal(record: Record) -> None:
    assert reads("beta", record, *record.private_deal)


def test_a_member_reads_no_private_deal_of_others(record: Record) -> None:
    assert not reads("delta", record, *record.private_deal)


def test_an_added_member_reads_no_private_deal_of_others(record: Record) -> None:
    assert not reads("epsilon", record, *record.private_deal)


def test_a_removed_member_reads_no_private_deal_of_others(record: Record) -> None:
    assert not reads("gamma", record, *record.private_deal)


def test_a_regulator_with_a_grant_reads_the_private_deal(record: Record) -> None:
    assert reads("auditor", record, *record.private_deal)


def test_a_regulator_with_a_disclosure_reads_the_private_deal(record: Record) -> None:
    assert reads("supervisor", record, *record.private_deal)


def test_the_operator_reads_no_private_deal(record: Record) -> None:
    assert not reads("operator", record, *record.private_deal)


def test_everybody_else_reads_no_private_deal(record: Record) -> None:
    assert not reads("mallory", record, *record.private_deal)


def test_a_party_that_is_a_member_reads_what_was_posted_before(record: Record) -> None:
    assert reads("beta", record, record.before)


def test_a_member_reads_what_was_posted_before(record: Record) -> None:
    assert reads("delta", record, record.before)


def test_an_added_member_reads_nothing_posted_before(record: Record) -> None:
    assert not reads("epsilon", record, record.before)


def test_a_removed_member_keeps_what_was_posted_before(record: Record) -> None:
    assert reads("gamma", record, record.before)


def test_a_regulator_with_a_grant_reads_what_was_posted_before(record: Record) -> None:
    assert reads("auditor", record, record.before)


def test_a_regulator_with_a_disclosure_reads_what_was_posted_before(record: Record) -> None:
    assert reads("supervisor", record, record.before)


def test_the_operator_reads_nothing_posted_before(record: Record) -> None:
    assert not reads("operator", record, record.before)


def test_everybody_else_reads_nothing_posted_before(record: Record) -> None:
    assert not reads("mallory", record, record.before)


def test_a_party_that_is_a_member_reads_what_was_posted_after(record: Record) -> None:
    assert reads("beta", record, record.after)


def test_a_member_reads_what_was_posted_after(record: Record) -> None:
    assert reads("delta", record, record.after)


def test_an_added_member_reads_what_was_posted_after(record: Record) -> None:
    assert reads("epsilon", record, record.after)


def test_a_removed_member_reads_nothing_posted_after(record: Record) -> None:
    assert not reads("gamma", record, record.after)


def test_a_regulator_with_a_grant_reads_what_was_posted_after(record: Record) -> None:
    assert reads("auditor", record, record.after)


def test_a_regulator_with_a_disclosure_reads_nothing_posted_after(record: Record) -> None:
    assert not reads("supervisor", record, record.after)


def test_the_operator_reads_nothing_posted_after(record: Record) -> None:
    assert not reads("operator", record, record.after)


def test_everybody_else_reads_nothing_posted_after(record: Record) -> None:
    assert not reads("mallory", record, record.after)


def test_a_party_reads_its_deal_on_the_channel(record: Record) -> None:
    assert reads("beta", record, record.deal_before, record.deal_after)


def test_a_member_reads_a_deal_on_the_channel(record: Record) -> None:
    assert reads("delta", record, record.deal_before, record.deal_after)


def test_an_added_member_reads_a_deal_on_the_channel_from_then_on(record: Record) -> None:
    assert not reads("epsilon", record, record.deal_before)
    assert reads("epsilon", record, record.deal_after)


def test_a_removed_member_reads_a_deal_on_the_channel_until_then(record: Record) -> None:
    assert reads("gamma", record, record.deal_before)
    assert not reads("gamma", record, record.deal_after)


def test_a_regulator_with_a_grant_reads_a_deal_on_the_channel(record: Record) -> None:
    assert reads("auditor", record, record.deal_before, record.deal_after)


def test_a_regulator_with_a_disclosure_reads_a_deal_on_the_channel_until_then(record: Record) -> None:
    assert reads("supervisor", record, record.deal_before)
    assert not reads("supervisor", record, record.deal_after)


def test_the_operator_reads_no_deal_on_the_channel(record: Record) -> None:
    assert not reads("operator", record, record.deal_before, record.deal_after)


def test_everybody_else_reads_no_deal_on_the_channel(record: Record) -> None:
    assert not reads("mallory", record, record.deal_before, record.deal_after)


def test_each_cell_of_the_table_names_a_test_and_each_test_is_named() -> None:
    rows = [
        line.strip("|\n").split("|")
        for line in TABLE.read_text(encoding="utf-8").splitlines()
        if "`test_" in line
    ]
    cells = [cell for _, *row in rows for cell in row]
    named = [re.findall(r"`(test_\w+)`", cell) for cell in cells]
    assert all(len(names) == 1 for names in named)
    defined = {
        node.name
        for node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    own = {test_each_cell_of_the_table_names_a_test_and_each_test_is_named.__name__}
    assert sorted(name for names in named for name in names) == sorted(defined - own)
    assert {len(row) for row in rows} == {5}
