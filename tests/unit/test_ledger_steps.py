"""What is said in a delivery to a chain: written and read again, and refused by the field that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.errors import MalformedError
from parley.identifiers import new_transaction_id
from parley.schemas import Hash, MessageId
from parley.workflows.ledger_steps import (
    MAXIMUM_TRANSACTIONS,
    Broadcast,
    ChainReceipt,
    Finding,
    Landing,
    Problem,
    Promise,
    Released,
    Report,
    read_attachment,
    read_broadcast,
    read_consent,
    read_order,
    read_receipt,
    read_report,
    write_attachment,
    write_broadcast,
    write_consent,
    write_order,
    write_receipt,
    write_report,
)

hashes = st.binary(min_size=32, max_size=32)
whole = st.integers(0, 2**53)
wei = st.integers(0, 2**256 - 1)
texts = st.text(max_size=20)
deals = st.integers(0, 2**47).map(new_transaction_id)
problems = st.lists(st.builds(Problem, texts, texts), max_size=2).map(tuple)
promises = st.builds(
    Promise,
    hashes.map(Hash),
    hashes,
    texts,
    whole,
    st.none() | texts,
    wei,
    st.binary(max_size=9),
    whole,
    wei,
)
findings = st.builds(
    Finding, texts, hashes.map(MessageId), problems, st.lists(promises, max_size=2).map(tuple)
)
reports = st.builds(
    Report, texts, st.lists(texts, max_size=2).map(tuple), problems, st.lists(findings, max_size=2).map(tuple)
)
broadcasts = st.builds(
    Broadcast,
    deals,
    texts,
    hashes.map(Hash),
    st.lists(st.builds(Released, texts, hashes, st.binary(max_size=9)), max_size=3).map(tuple),
)
landings = st.builds(
    Landing,
    texts,
    hashes,
    texts,
    st.none() | whole,
    st.none() | hashes,
    whole,
    st.none() | whole,
    texts,
)
receipts = st.builds(ChainReceipt, deals, texts, st.lists(landings, max_size=3).map(tuple))


@given(reports)
def test_a_report_reads_as_it_was_written(report: Report) -> None:
    assert read_report(write_report(report)) == report


@given(broadcasts, receipts)
def test_so_do_broadcasts_and_receipts(broadcast: Broadcast, receipt: ChainReceipt) -> None:
    assert read_broadcast(write_broadcast(broadcast)) == broadcast
    assert read_receipt(write_receipt(receipt)) == receipt


@given(texts, texts, st.lists(st.binary(max_size=9), max_size=MAXIMUM_TRANSACTIONS), hashes)
def test_so_does_what_parties_say(chain: str, statement: str, raws: list[bytes], digest: bytes) -> None:
    assert read_order(write_order(chain, statement)) == (chain, statement)
    assert read_attachment(write_attachment(raws)) == tuple(raws)
    assert read_consent(write_consent(Hash(digest))) == digest


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | texts,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["chain", "transactions", "report", "deal"]), inner)
        ),
    )
)
def test_any_other_json_is_refused_by_an_error_of_ours(value: Any) -> None:
    content = json.dumps(value).encode()
    for read in (read_report, read_broadcast, read_receipt, read_consent):
        with pytest.raises(MalformedError):
            read(content)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"transactions": "0x00"}', "transactions is not a list"),
        (b'{"transactions": [1]}', "transactions is not a list of texts"),
        (b'{"transactions": ["00"]}', "transactions is not hexadecimal after 0x"),
        (b'{"transactions": ["0x0 0"]}', "transactions is not hexadecimal after 0x"),
        (b'{"transactions": ["0x0"]}', "transactions is not hexadecimal after 0x"),
        (write_attachment([b""] * (MAXIMUM_TRANSACTIONS + 1)), "at most 16 transactions; this one has 17"),
    ],
)
def test_a_wrong_attachment_is_told_by_its_field(content: bytes, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        read_attachment(content)


def test_a_number_that_is_no_number_of_wei_is_told_by_its_field() -> None:
    promise = Promise(Hash(bytes(32)), bytes(32), "0x", 0, None, 1, b"", 1, 1)
    good = write_report(Report("eip155:1", (), (), (Finding("alice", MessageId(bytes(32)), (), (promise,)),)))
    for wrong in (b'"-1"', b'"1e9"', b"1", '"\u0661"'.encode(), b'"' + b"9" * 79 + b'"'):
        with pytest.raises(MalformedError, match="value"):
            read_report(good.replace(b'"value":"1"', b'"value":' + wrong))


def test_a_report_is_good_only_if_nothing_is_missing_or_wrong() -> None:
    problem = Problem("UNSIGNED", "sign it")
    finding = Finding("alice", MessageId(bytes(32)), (), ())
    assert Report("eip155:1", (), (), (finding,)).is_good
    assert not Report("eip155:1", ("bob",), (), (finding,)).is_good
    assert not Report("eip155:1", (), (problem,), (finding,)).is_good
    assert not Report("eip155:1", (), (), (finding._replace(problems=(problem,)),)).is_good
