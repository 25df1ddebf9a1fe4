"""The suite's vocabulary for Hypothesis: any record that a contract admits, and names, terms, messages and dialogues that
could occur.

What is well formed here is well formed by `parley.lifecycle`; whether it would be accepted is for the test to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from parley import schemas
from parley.envelope import MESSAGE_TYPE, message_id, seal
from parley.firehose import chain_hash
from parley.keys import SigningKey
from parley.schemas import (
    CONTRACTS,
    ZERO_HASH,
    Ending,
    Envelope,
    FinishRule,
    FirehoseEvent,
    Hash,
    Message,
    MessageId,
    Party,
    Terms,
    TransactionId,
    encode,
    schema_of,
)

__all__ = [
    "KEYS",
    "NOW",
    "any_record",
    "dialogues",
    "endings",
    "envelopes",
    "firehoses",
    "hashes",
    "message_ids",
    "messages",
    "names",
    "parties",
    "records",
    "terms",
    "times",
    "transaction_ids",
]

NOW = 1_780_000_000_000
"""A time in ms about which the suite's clocks stand."""
KEYS = tuple(SigningKey(sha256(b"suite key %d" % number).digest()) for number in range(8))
"""Signing keys, made once: drawing fresh ones would only be slower."""

INT = st.integers(-(1 << 31), (1 << 31) - 1)
LONG = st.integers(-(1 << 63), (1 << 63) - 1)


# Any record that a contract admits, sensible or not: built from its schema alone.


def _values(schema: Any, named: dict[str, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    if isinstance(schema, list):
        return st.one_of(*(_values(branch, named) for branch in schema))
    if isinstance(schema, str):
        return named[schema]
    kind = schema["type"]
    if kind == "array":
        return st.lists(_values(schema["items"], named), max_size=3).map(tuple)
    if kind == "fixed":
        made = st.binary(min_size=schema["size"], max_size=schema["size"])
    elif kind == "enum":
        made = st.sampled_from(schema["symbols"])
    elif kind == "record":
        class_ = getattr(schemas, schema["name"].rpartition(".")[2])
        made = st.tuples(*(_values(field["type"], named) for field in schema["fields"])).map(class_._make)
    else:
        return named[kind]
    named[schema["name"]] = made
    return made


def _all_values(contract: type[Any]) -> SearchStrategy[Any]:
    primitives: dict[str, SearchStrategy[Any]] = {
        "null": st.none(),
        "boolean": st.booleans(),
        "int": INT,
        "long": LONG,
        "bytes": st.binary(max_size=200),
        "string": st.text(max_size=80),
    }
    return _values(schema_of(contract), primitives)


_RECORDS = {contract: _all_values(contract) for contract in CONTRACTS}


def records(contract: type[Any]) -> SearchStrategy[Any]:
    """Any record of the contract: every field takes every value that its schema admits."""
    return _RECORDS[contract]


def any_record() -> SearchStrategy[NamedTuple]:
    """Any record of any contract."""
    return st.one_of(*_RECORDS.values())


# What could occur.


def hashes() -> SearchStrategy[Hash]:
    return st.binary(min_size=32, max_size=32).map(Hash)


def message_ids() -> SearchStrategy[MessageId]:
    return hashes().map(MessageId)


def times() -> SearchStrategy[int]:
    """Moments within a day of `NOW`, in ms."""
    return st.integers(NOW - 86_400_000, NOW + 86_400_000)


@st.composite
def transaction_ids(draw: DrawFn) -> TransactionId:
    """Any UUIDv7, of any time."""
    number = draw(st.integers(0, (1 << 128) - 1))
    return TransactionId((number & ~(0xF << 76) & ~(0b11 << 62) | 0x7 << 76 | 0b10 << 62).to_bytes(16, "big"))


@st.composite
def names(draw: DrawFn) -> str:
    """A name that a participant or an address may have."""
    ends = "abcdefghijklmnopqrstuvwxyz0123456789"
    first = draw(st.sampled_from(ends))
    if draw(st.booleans()):
        return first
    return first + draw(st.text(ends + ".-", max_size=126)) + draw(st.sampled_from(ends))


def parties(minimum: int = 2, maximum: int = 5) -> SearchStrategy[tuple[Party, ...]]:
    """Parties with names and addresses of their own."""
    return st.lists(
        st.builds(Party, names(), names()),
        min_size=minimum,
        max_size=maximum,
        unique_by=(lambda party: party.participant, lambda party: party.address),
    ).map(tuple)


@st.composite
def terms(draw: DrawFn, among: SearchStrategy[tuple[Party, ...]] | None = None) -> Terms:
    """Terms whose opening counts at `NOW`, and whose deadline is after it."""
    rules: SearchStrategy[FinishRule] = st.sampled_from(("ANY", "ALL"))
    return Terms(
        kind=draw(st.sampled_from(("delivery-versus-payment", "agreement", "otc-trade"))),
        parties=draw(parties() if among is None else among),
        deadline=NOW + draw(st.integers(1, 86_400_000)),
        open_until=NOW + draw(st.integers(1, 86_400_000)),
        finish_rule=draw(rules),
    )


def _said(
    draw: DrawFn, opening: Message | None, of: Terms, transaction_id: TransactionId, pipeline: int
) -> Message:
    """A message with nothing yet before it."""
    addresses = [party.address for party in of.parties]
    return Message(
        transaction_id=transaction_id,
        pipeline=pipeline,
        sequence=0,
        previous=None,
        sender=draw(st.sampled_from(of.parties)).participant,
        recipients=tuple(draw(st.lists(st.sampled_from(addresses), min_size=1, unique=True))),
        sent_at=draw(times()),
        action="OPEN",
        terms=of if opening is None else None,
        content_type=draw(st.sampled_from(("application/json", "text/plain", "application/octet-stream"))),
        content=draw(st.binary(max_size=100)),
        encryption=None,
        references=(),
    )


@st.composite
def dialogues(
    draw: DrawFn, minimum: int = 1, maximum: int = 6, finished: bool = False
) -> tuple[Message, ...]:
    """The messages of one transaction in order, each linked to the one before; the last one ends it if ``finished``.

    No party says FINISH before the end; under the rule ALL every party says it there.
    """
    of = draw(terms())
    transaction_id, pipeline = draw(transaction_ids()), draw(st.integers(0, 63))
    said: list[Message] = []
    while len(said) < minimum or (len(said) < maximum and draw(st.booleans())):
        said.append(_said(draw, said[0] if said else None, of, transaction_id, pipeline))
    spoken = [message._replace(action="CONTINUE") if place else message for place, message in enumerate(said)]
    if finished:
        last = [party.participant for party in of.parties]
        for sender in last if of.finish_rule == "ALL" else last[:1]:
            closing = _said(draw, spoken[0], of, transaction_id, pipeline)
            spoken.append(closing._replace(action="FINISH", sender=sender))
    return _linked(spoken)


def _linked(spoken: Sequence[Message]) -> tuple[Message, ...]:
    linked: list[Message] = []
    previous: MessageId | None = None
    for sequence, message in enumerate(spoken):
        linked.append(message._replace(sequence=sequence, previous=previous))
        previous = message_id(encode(linked[-1]))
    return tuple(linked)


@st.composite
def messages(draw: DrawFn) -> Message:
    """Any well-formed message: an opening or a later one."""
    dialogue = draw(dialogues(finished=draw(st.booleans())))
    return draw(st.sampled_from(dialogue))


@st.composite
def envelopes(draw: DrawFn) -> Envelope:
    """A well-formed message in an envelope with one to three valid signatures."""
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique_by=lambda key: key.id))
    return seal(MESSAGE_TYPE, draw(messages()), *keys)


def endings() -> SearchStrategy[Ending]:
    """How a transaction may have ended."""
    references = st.tuples(st.integers(0, 1 << 40), hashes()).map(schemas.EventReference._make)
    return st.builds(
        Ending,
        outcome=st.sampled_from(("FINISHED", "TIMED_OUT")),
        kind=st.just("agreement"),
        opened_at=times(),
        waiting_on=st.lists(names(), max_size=3).map(tuple),
        events=st.lists(references, max_size=4).map(tuple),
    )


@st.composite
def firehoses(
    draw: DrawFn, pipelines: int = 1, minimum: int = 0, maximum: int = 8
) -> tuple[tuple[int, bytes], ...]:
    """What the firehose of some pipelines holds from its start, in an order a subscriber may see: offset and encoded event.

    Offsets grow but are not dense, as on a transactional topic.
    """
    heads = dict.fromkeys(range(pipelines), (0, ZERO_HASH, 0))
    told: list[tuple[int, bytes]] = []
    for pipeline in draw(st.lists(st.sampled_from(range(pipelines)), min_size=minimum, max_size=maximum)):
        sequence, chain, offset = heads[pipeline]
        offset += draw(st.integers(0, 3))
        event = encode(
            FirehoseEvent(
                pipeline=pipeline,
                sequence=sequence,
                chain=chain,
                ingest_offset=sequence,
                at=NOW + sequence,
                directory_version=1,
                transaction_id=draw(transaction_ids()),
                envelope=draw(st.none() | st.binary(max_size=20)),
                ended=draw(st.none() | endings()),
            )
        )
        told.append((offset, event))
        heads[pipeline] = (sequence + 1, chain_hash(chain, Hash(sha256(event).digest())), offset + 1)
    return tuple(told)
