"""Following the firehose: gaps, forks and repetitions are told apart, and a follower resumes where it stopped."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.errors import CursorError, FirehoseError, WireError
from parley.firehose import CursorFile, Follower, Position, chain_hash, event_digest
from parley.schemas import ZERO_HASH, FirehoseEvent, Hash, TransactionId, decode, encode
from tests.strategies import NOW, firehoses, hashes

TRANSACTION = TransactionId(bytes.fromhex("01932c078f107abc9def0123456789ab"))


def event(sequence: int, chain: Hash, content: bytes = b"", pipeline: int = 0) -> bytes:
    return encode(FirehoseEvent(pipeline, sequence, chain, sequence, NOW, 1, TRANSACTION, content, None))


def chained(length: int, content: bytes = b"", pipeline: int = 0) -> list[bytes]:
    """The first events of a pipeline."""
    told: list[bytes] = []
    chain = ZERO_HASH
    for sequence in range(length):
        told.append(event(sequence, chain, content, pipeline))
        chain = chain_hash(chain, event_digest(told[-1]))
    return told


@pytest.fixture
def follower() -> Follower:
    """One that has followed the first two of `EVENTS`, read at offsets 0 and 1."""
    following = Follower()
    for offset, record in enumerate(EVENTS[:2]):
        following.follow(record, offset)
    return following


EVENTS = chained(5)


def test_the_chain_hash_is_the_digest_of_the_hash_before_and_the_events_digest() -> None:
    digest = event_digest(EVENTS[0])
    assert digest == sha256(EVENTS[0]).digest()
    assert chain_hash(ZERO_HASH, digest) == sha256(bytes(32) + digest).digest()


def test_an_event_that_comes_next_is_given(follower: Follower) -> None:
    assert follower.follow(EVENTS[2], 7) == decode(EVENTS[2], FirehoseEvent)
    chain = decode(EVENTS[3], FirehoseEvent).chain
    assert follower.cursor == {0: Position(3, chain, 8)}


def test_a_pipeline_begins_at_its_start(follower: Follower) -> None:
    (first,) = chained(1, pipeline=9)
    assert follower.follow(first, 0) is not None
    with pytest.raises(FirehoseError, match="pipeline 8: events 0 to 0 are missing before this one"):
        follower.follow(event(1, ZERO_HASH, pipeline=8), 1)


def test_an_event_followed_before_is_passed_over_and_nothing_moves(follower: Follower) -> None:
    before = dict(follower.cursor)
    assert follower.follow(EVENTS[1], 1) is None
    assert follower.follow(EVENTS[0], 99) is None
    assert follower.cursor == before


def test_missing_events_are_named(follower: Follower) -> None:
    before = dict(follower.cursor)
    with pytest.raises(FirehoseError, match="pipeline 0: events 2 to 3 are missing before this one; resume"):
        follower.follow(EVENTS[4], 4)
    assert follower.cursor == before
    assert follower.follow(EVENTS[2], 2) is not None, "the follower goes on once the gap is filled"


def test_an_event_of_another_history_is_refused(follower: Follower) -> None:
    fork = chained(3, b"what was not said")
    before = dict(follower.cursor)
    with pytest.raises(
        FirehoseError, match="event 2 commits to another history than the one followed; keep both"
    ):
        follower.follow(fork[2], 2)
    assert follower.cursor == before


def test_a_first_event_with_a_past_is_refused() -> None:
    with pytest.raises(FirehoseError, match="another history"):
        Follower().follow(event(0, Hash(b"\x01" * 32)), 0)


def test_an_event_changed_at_the_tail_is_found_with_the_next_one(follower: Follower) -> None:
    chain = decode(EVENTS[2], FirehoseEvent).chain
    follower.follow(event(2, chain, b"changed"), 2)
    with pytest.raises(FirehoseError, match="another history"):
        follower.follow(EVENTS[3], 3)


@pytest.mark.parametrize(("pipeline", "sequence"), [(0, -1), (-1, 0), (0, -(2**63))])
def test_an_event_below_zero_is_not_taken_for_one_followed_before(
    follower: Follower, pipeline: int, sequence: int
) -> None:
    with pytest.raises(FirehoseError, match="is below zero; keep it as evidence"):
        follower.follow(event(sequence, ZERO_HASH, pipeline=pipeline), 2)


@pytest.mark.parametrize("record", [b"", b"garbage", EVENTS[2][:-1], EVENTS[2] + b"\x00"])
def test_what_is_no_event_is_an_error_of_the_wire(follower: Follower, record: bytes) -> None:
    before = dict(follower.cursor)
    with pytest.raises(WireError):
        follower.follow(record, 2)
    assert follower.cursor == before


def test_a_followers_cursor_is_its_own() -> None:
    start = {0: Position(0, ZERO_HASH, 0)}
    Follower(start).follow(EVENTS[0], 0)
    assert start == {0: Position(0, ZERO_HASH, 0)}


@settings(max_examples=40, deadline=None)
@given(firehoses(pipelines=3), st.data())
def test_whoever_stops_and_resumes_anywhere_ends_where_the_steady_do(
    told: tuple[tuple[int, bytes], ...], data: st.DataObject
) -> None:
    steady = Follower()
    for offset, record in told:
        assert steady.follow(record, offset) == decode(record, FirehoseEvent)
    stopped = data.draw(st.integers(0, len(told)))
    again = data.draw(st.integers(0, stopped))
    resuming = Follower()
    for offset, record in told[:stopped]:
        resuming.follow(record, offset)
    resumed = Follower(resuming.cursor)
    fresh = [resumed.follow(record, offset) for offset, record in told[again:]]
    assert fresh[: stopped - again] == [None] * (stopped - again), "each event is given once"
    assert None not in fresh[stopped - again :]
    assert resumed.cursor == steady.cursor


@settings(max_examples=40, deadline=None)
@given(firehoses(pipelines=2, minimum=2), st.data())
def test_an_event_left_out_is_always_noticed_if_another_follows_it(
    told: tuple[tuple[int, bytes], ...], data: st.DataObject
) -> None:
    missing = data.draw(st.integers(0, len(told) - 1))
    pipeline = decode(told[missing][1], FirehoseEvent).pipeline
    rest = told[missing + 1 :]
    followed_by_another = any(decode(record, FirehoseEvent).pipeline == pipeline for _, record in rest)
    follower = Follower()
    try:
        for offset, record in told[:missing] + rest:
            follower.follow(record, offset)
    except FirehoseError:
        assert followed_by_another
    else:
        assert not followed_by_another


class TestACursorFile:
    def test_that_is_not_there_is_an_empty_cursor(self, tmp_path: Path) -> None:
        assert CursorFile(tmp_path / "cursor").load() == {}

    @settings(max_examples=25, deadline=None)
    @given(
        st.dictionaries(
            st.integers(0, 2**31 - 1),
            st.builds(Position, st.integers(0, 2**63 - 1), hashes(), st.integers(0, 2**63 - 1)),
            max_size=4,
        )
    )
    def test_gives_back_what_was_saved(
        self, tmp_path_factory: pytest.TempPathFactory, cursor: dict[int, Position]
    ) -> None:
        file = CursorFile(tmp_path_factory.mktemp("cursor") / "cursor.json")
        file.save({5: Position(1, ZERO_HASH, 1)})
        file.save(cursor)
        assert file.load() == cursor

    def test_lets_a_follower_resume(self, tmp_path: Path) -> None:
        file = CursorFile(tmp_path / "cursor.json")
        follower = Follower(file.load())
        for offset, record in enumerate(EVENTS[:3]):
            follower.follow(record, offset)
        file.save(follower.cursor)
        resumed = Follower(CursorFile(tmp_path / "cursor.json").load())
        assert [resumed.follow(record, offset) is None for offset, record in enumerate(EVENTS)] == [
            True,
            True,
            True,
            False,
            False,
        ]

    def test_leaves_nothing_but_itself(self, tmp_path: Path) -> None:
        file = CursorFile(tmp_path / "cursor.json")
        file.save({0: Position(1, ZERO_HASH, 1)})
        assert [path.name for path in tmp_path.iterdir()] == ["cursor.json"]

    def test_is_not_mistaken_for_another_beside_it(self, tmp_path: Path) -> None:
        """Drafts have names of their own: two subscribers may keep cursors in one folder."""
        (tmp_path / "cursor.new").write_text("somebody else's")
        CursorFile(tmp_path / "cursor.json").save({})
        assert (tmp_path / "cursor.new").read_text() == "somebody else's"

    def test_that_cannot_be_written_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(CursorError, match=r"cannot be written .*; give it a folder"):
            CursorFile(tmp_path / "no folder" / "cursor.json").save({})

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "null",
            "7",
            "[" * 100_000,
            '{"a": {}}',
            '{"0": {}}',
            '{"0": null}',
            '{"0": {"sequence": 1, "offset": 1}}',
            *(
                json.dumps({"0": {"sequence": sequence, "chain": chain, "offset": offset}})
                for sequence, chain, offset in [
                    (1, "00" * 31, 1),
                    (1, "00" * 33, 1),
                    (1, "zz" * 32, 1),
                    (1, None, 1),
                    (1, 7, 1),
                    (-1, "00" * 32, 1),
                    (1, "00" * 32, -1),
                    (1.5, "00" * 32, 1),
                    (1, "00" * 32, float("inf")),
                    (True, "00" * 32, 1),
                    ("1", "00" * 32, 1),
                ]
            ),
        ],
        ids=lambda text: repr(text[:60]),
    )
    def test_that_is_none_is_refused_with_what_to_do(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "cursor.json"
        path.write_text(text)
        with pytest.raises(CursorError, match=r"is not a cursor .*; move it away to follow from the start"):
            CursorFile(path).load()
        assert path.read_text() == text, "it is left for who moves it"

    def test_that_is_not_text_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "cursor.json"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(CursorError):
            CursorFile(path).load()
