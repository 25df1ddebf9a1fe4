"""Admission on a real broker: what breaks a rule stands in the dead letters with the reason, and the next is admitted."""

from __future__ import annotations

import pytest

from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, MESSAGE_TYPE, seal
from parley.keys import key_id
from parley.schemas import Envelope, PublicKey, Signature, encode
from streams.catalogue import ADMISSIONS, DEAD_LETTER, DIRECTORY
from streams.handler import Record
from streams.writer import write
from tests.bad_records import SMALL_ORDER
from tests.broker_log import wait_for
from tests.fix_backbone import RunningBackbone, entry_of
from tests.synthetic_ledger import signing_key

pytestmark = pytest.mark.timeout(120)


def dead_letters(running: RunningBackbone) -> list[Record]:
    records = running.reader().read_partition(DEAD_LETTER, 0)
    return [
        record
        for record in records
        if dict(record.headers() or []).get("dead-letter.service") == b"admission-1"
    ]


def refused(running: RunningBackbone, *submissions: bytes) -> list[str]:
    """Submit them, and give the reasons that stand in the dead letters, in order; everything submitted stands there."""
    before = len(dead_letters(running))
    write(running.backbone.connection("registrar"), ADMISSIONS, *submissions)
    wait_for(lambda: len(dead_letters(running)) >= before + len(submissions), lambda: "the dead letters")
    letters = dead_letters(running)[before:]
    assert [letter.value() for letter in letters] == list(submissions)
    reasons = [dict(letter.headers() or [])["dead-letter.reason"] for letter in letters]
    return [reason.decode() if isinstance(reason, bytes) else str(reason) for reason in reasons]


def directory(running: RunningBackbone) -> Directory:
    """The directory, every record of it checked."""
    checked = Directory(running.registrar)
    for record in running.reader().read_partition(DIRECTORY, 0):
        checked.apply(record.value() or b"")
    return checked


def test_an_entry_must_be_signed_by_its_own_keys_and_by_the_registrar(
    running_backbone: RunningBackbone,
) -> None:
    sign = running_backbone.backbone.countersign
    entry = entry_of("unsigned")
    own, other = signing_key("unsigned"), signing_key("somebody else")
    nobody = seal(DIRECTORY_ENTRY_TYPE, entry)
    self_admitted = seal(DIRECTORY_ENTRY_TYPE, entry, own)
    without_possession = sign(nobody)
    by_another = sign(seal(DIRECTORY_ENTRY_TYPE, entry, other))
    own_registrar = seal(DIRECTORY_ENTRY_TYPE, entry, own, other)
    submissions = [nobody, self_admitted, without_possession, by_another, own_registrar]
    reasons = refused(running_backbone, *map(encode, submissions))
    assert all("no signature by key" in reason for reason in reasons), reasons
    assert "unsigned" not in directory(running_backbone)
    running_backbone.join("unsigned")
    assert "unsigned" in directory(running_backbone), "the next is admitted, and the name was not used up"


def test_a_changed_entry_is_refused(running_backbone: RunningBackbone) -> None:
    good = running_backbone.backbone.countersign(
        seal(DIRECTORY_ENTRY_TYPE, entry_of("changed"), signing_key("changed"))
    )
    changed = good._replace(payload=encode(entry_of("changed")._replace(legal_name="Another plc")))
    (reason,) = refused(running_backbone, encode(changed))
    assert "does not verify" in reason


def test_a_name_a_key_and_an_address_have_one_owner(running_backbone: RunningBackbone) -> None:
    running_backbone.join("owner")
    sign = running_backbone.backbone.countersign
    new_key = signing_key("new key")
    public = PublicKey(new_key.id, new_key.public)
    same_name = entry_of("owner", "elsewhere")._replace(signing_keys=(public,))
    same_key = entry_of("owner", "elsewhere")._replace(participant="other")
    same_address = entry_of("other", "owner")._replace(signing_keys=(public,))
    reasons = refused(
        running_backbone,
        encode(sign(seal(DIRECTORY_ENTRY_TYPE, same_name, new_key))),
        encode(sign(seal(DIRECTORY_ENTRY_TYPE, same_key, signing_key("owner")))),
        encode(sign(seal(DIRECTORY_ENTRY_TYPE, same_address, new_key))),
    )
    told = ("owner is admitted already", "a key is in use", "the address owner is owner's")
    assert all(words in reason for words, reason in zip(told, reasons, strict=True))


def test_a_small_order_key_cannot_be_admitted(running_backbone: RunningBackbone) -> None:
    """For such a key anybody's signature may seem to hold."""
    weak = PublicKey(key_id(SMALL_ORDER), SMALL_ORDER)
    payload = encode(entry_of("weak")._replace(signing_keys=(weak,)))
    forged = Signature(weak.key_id, SMALL_ORDER + bytes(32))
    envelope = Envelope(DIRECTORY_ENTRY_TYPE, payload, (forged,))
    (reason,) = refused(running_backbone, encode(running_backbone.backbone.countersign(envelope)))
    assert "does not verify" in reason


def test_nobody_becomes_a_second_registrar(running_backbone: RunningBackbone) -> None:
    entry = entry_of("pretender")._replace(role="REGISTRAR")
    envelope = running_backbone.backbone.countersign(
        seal(DIRECTORY_ENTRY_TYPE, entry, signing_key("pretender"))
    )
    (reason,) = refused(running_backbone, encode(envelope))
    assert "has a registrar already" in reason


def test_what_is_no_entry_is_refused_and_admission_goes_on(running_backbone: RunningBackbone) -> None:
    whole = encode(
        running_backbone.backbone.countersign(seal(DIRECTORY_ENTRY_TYPE, entry_of("cut"), signing_key("cut")))
    )
    reasons = refused(
        running_backbone,
        b"garbage",
        whole[:-1],
        whole + b"\x00",
        b"\xc3\x01" + bytes(8) + whole[10:],
        encode(entry_of("cut")),
        encode(seal(MESSAGE_TYPE, entry_of("cut"), signing_key("cut"))),
    )
    assert all(reason.startswith("PoisonError: not admitted: ") for reason in reasons)
    before = directory(running_backbone)
    running_backbone.join("after-garbage")
    after = directory(running_backbone)
    assert after.version == before.version + 1
    assert "cut" not in after


def test_an_admitted_entry_stands_there_as_it_was_signed(running_backbone: RunningBackbone) -> None:
    running_backbone.join("as-signed")
    held = directory(running_backbone)
    assert held.entry("as-signed") == entry_of("as-signed")
    assert held.owner("as-signed") == "as-signed"
    assert held.speaker(signing_key("as-signed").id) is not None
