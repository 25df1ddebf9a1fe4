"""Every kind of ingest record that must be refused, by name: how it is made in the middle of a good dialogue, and the answer due.

The dialogue is alice's with bob, opened and answered once; mallory is a member but no party, ghost is nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from parley.envelope import MESSAGE_TYPE, countersign, message_id, seal
from parley.keys import SigningKey
from parley.schemas import Envelope, KeyId, Message, Party, Reason, Signature, TransactionId, decode, encode
from tests.dialogue import Dialogue, sealed, transaction_id
from tests.synthetic_ledger import signing_key

__all__ = ["BAD_RECORDS", "BadRecord"]

SMALL_ORDER = bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")
"""An encoded point of order 2."""


class BadRecord(NamedTuple):
    """``make(dialogue, now)`` gives the record; ``told`` is the address that hears of it, where a signature proves one."""

    reason: Reason
    make: Callable[[Dialogue, int], bytes]
    told: str | None = None
    retriable: bool = False


def _next(dialogue: Dialogue, now: int) -> bytes:
    return sealed(dialogue.message("alice"))


def _truncated_payload(dialogue: Dialogue, now: int) -> bytes:
    payload = encode(dialogue.message("alice"))[:-3]
    return encode(countersign(Envelope(MESSAGE_TYPE, payload, ()), signing_key("alice")))


def _signed_by(*keys: SigningKey) -> Callable[[Dialogue, int], bytes]:
    return lambda dialogue, now: encode(seal(MESSAGE_TYPE, dialogue.message("alice"), *keys))


def _changed_after_signing(dialogue: Dialogue, now: int) -> bytes:
    envelope = decode(_next(dialogue, now), Envelope)
    return encode(envelope._replace(payload=encode(dialogue.message("alice", content=b"changed"))))


def _signature(signature: bytes) -> Callable[[Dialogue, int], bytes]:
    """Under alice's key id, whatever the message."""
    return lambda dialogue, now: encode(
        Envelope(
            MESSAGE_TYPE,
            encode(dialogue.message("alice")),
            (Signature(signing_key("alice").id, signature),),
        )
    )


def _second_signature_wrong(dialogue: Dialogue, now: int) -> bytes:
    envelope = decode(_next(dialogue, now), Envelope)
    (good,) = envelope.signatures
    return encode(envelope._replace(signatures=(good, good._replace(signature=bytes(64)))))


def _small_order_key(dialogue: Dialogue, now: int) -> bytes:
    """A key for which a signature holds for about every second message, whoever makes it."""
    forged = SMALL_ORDER + bytes(32)
    payload = encode(dialogue.message("alice"))
    return encode(Envelope(MESSAGE_TYPE, payload, (Signature(_small_order_id(), forged),)))


def _small_order_id() -> KeyId:
    return KeyId(message_id(SMALL_ORDER)[:16])


def _changed(
    change: Callable[[Message, int], Message], sender: str = "alice"
) -> Callable[[Dialogue, int], bytes]:
    return lambda dialogue, now: sealed(change(dialogue.message(sender), now))


def _opening(
    change: Callable[[Message, int], Message] = lambda message, now: message, sender: str = "alice"
) -> Callable[[Dialogue, int], bytes]:
    """Another transaction's opening."""

    def make(dialogue: Dialogue, now: int) -> bytes:
        other = Dialogue.between("alice", "bob", opened_at=now, seed="another")
        return sealed(change(other.message(sender), now))

    return make


def _with_terms(**changes: Callable[[int], object]) -> Callable[[Message, int], Message]:
    def change(message: Message, now: int) -> Message:
        assert message.terms is not None
        values = {name: value(now) for name, value in changes.items()}
        return message._replace(terms=message.terms._replace(**values))  # type: ignore[arg-type]

    return change


BAD_RECORDS: dict[str, BadRecord] = {
    # Bytes
    "an empty record": BadRecord("MALFORMED", lambda *_: b""),
    "garbage": BadRecord("MALFORMED", lambda *_: b"\x00garbage\xff" * 9),
    "only a fingerprint": BadRecord("MALFORMED", lambda *of: _next(*of)[:10]),
    "a truncated envelope": BadRecord("MALFORMED", lambda *of: _next(*of)[:-1]),
    "bytes after the envelope": BadRecord("MALFORMED", lambda *of: _next(*of) + b"\x00"),
    "a truncated message, well signed": BadRecord("MALFORMED", _truncated_payload),
    "a fingerprint that nobody released": BadRecord(
        "UNKNOWN_SCHEMA", lambda *of: b"\xc3\x01" + bytes(8) + _next(*of)[10:]
    ),
    "another contract's record": BadRecord(
        "UNKNOWN_SCHEMA", lambda dialogue, now: encode(dialogue.message("alice"))
    ),
    "another contract's record in an envelope": BadRecord(
        "UNKNOWN_SCHEMA",
        lambda dialogue, now: encode(
            seal(MESSAGE_TYPE, decode(_next(dialogue, now), Envelope), signing_key("alice"))
        ),
    ),
    "another payload type": BadRecord(
        "MALFORMED",
        lambda dialogue, now: encode(seal("text/plain", dialogue.message("alice"), signing_key("alice"))),
    ),
    "a payload of 2 MB": BadRecord(
        "TOO_LARGE", lambda dialogue, now: sealed(dialogue.message("alice", content=bytes(2_000_000)))
    ),
    # Fields that do not agree with each other
    "no recipient": BadRecord("MALFORMED", _changed(lambda message, now: message._replace(recipients=()))),
    "a recipient named twice": BadRecord(
        "MALFORMED", lambda dialogue, now: sealed(dialogue.message("alice", recipients=["bob", "bob"]))
    ),
    "a transaction id that is no UUIDv7": BadRecord(
        "MALFORMED", _changed(lambda message, now: message._replace(transaction_id=TransactionId(bytes(16))))
    ),
    "a second opening by action alone": BadRecord(
        "MALFORMED", _changed(lambda message, now: message._replace(action="OPEN"))
    ),
    "an opening without terms": BadRecord(
        "MALFORMED", _opening(lambda message, now: message._replace(terms=None))
    ),
    "an opening with one party": BadRecord(
        "MALFORMED", _opening(_with_terms(parties=lambda now: (Party("alice", "alice"),)))
    ),
    # Who signed
    "a sender whom nobody admitted": BadRecord(
        "UNKNOWN_SENDER", _changed(lambda message, now: message._replace(sender="ghost"))
    ),
    "a key that nobody has": BadRecord("UNKNOWN_KEY", _signed_by(signing_key("alice's old key"))),
    "another member's key": BadRecord("KEY_NOT_VALID", _signed_by(signing_key("mallory"))),
    "a second signature by another member": BadRecord(
        "KEY_NOT_VALID", _signed_by(signing_key("alice"), signing_key("mallory"))
    ),
    "no signature": BadRecord("BAD_SIGNATURE", _signed_by()),
    "nine signatures": BadRecord("BAD_SIGNATURE", _signed_by(*[signing_key("alice")] * 9)),
    "a payload changed after signing": BadRecord("BAD_SIGNATURE", _changed_after_signing),
    "a signature of zeros": BadRecord("BAD_SIGNATURE", _signature(bytes(64))),
    "a signature of one byte": BadRecord("BAD_SIGNATURE", _signature(b"\x01")),
    "a signature with a small-order point": BadRecord("BAD_SIGNATURE", _signature(SMALL_ORDER + bytes(32))),
    "a second signature that does not verify": BadRecord("BAD_SIGNATURE", _second_signature_wrong),
    "a small-order key": BadRecord("UNKNOWN_KEY", _small_order_key),
    # What was said
    "a message for another pipeline": BadRecord(
        "WRONG_PIPELINE", _changed(lambda message, now: message._replace(pipeline=7)), "alice", retriable=True
    ),
    "an opening for another pipeline": BadRecord(
        "WRONG_PIPELINE", _opening(lambda message, now: message._replace(pipeline=1)), "alice", retriable=True
    ),
    "an opening that counted until a moment ago": BadRecord(
        "OPENING_EXPIRED", _opening(_with_terms(open_until=lambda now: now - 1)), "alice"
    ),
    "an opening after its own deadline": BadRecord(
        "DEADLINE_PASSED", _opening(_with_terms(deadline=lambda now: now - 1)), "alice"
    ),
    "a deadline beyond what the operator allows": BadRecord(
        "MALFORMED", _opening(_with_terms(deadline=lambda now: now + 93 * 86_400_000)), "alice"
    ),
    "an opening that would count for ever": BadRecord(
        "MALFORMED", _opening(_with_terms(open_until=lambda now: 1 << 60)), "alice"
    ),
    "a message to a transaction that nobody opened": BadRecord(
        "UNKNOWN_TRANSACTION",
        _changed(lambda message, now: message._replace(transaction_id=transaction_id("nobody's"))),
        "alice",
    ),
    "a stranger's message": BadRecord(
        "NOT_A_PARTY", lambda dialogue, now: sealed(dialogue.message("mallory")), "mallory"
    ),
    "a stranger's opening": BadRecord("NOT_A_PARTY", _opening(sender="mallory"), "mallory"),
    "a sequence already taken": BadRecord(
        "SEQUENCE_CONFLICT",
        _changed(lambda message, now: message._replace(sequence=1)),
        "alice",
        retriable=True,
    ),
    "a sequence too far": BadRecord(
        "SEQUENCE_CONFLICT",
        _changed(lambda message, now: message._replace(sequence=3)),
        "alice",
        retriable=True,
    ),
    "a link to another message": BadRecord(
        "SEQUENCE_CONFLICT",
        _changed(lambda message, now: message._replace(previous=message_id(b"another"))),
        "alice",
        retriable=True,
    ),
    "a second opening of the same transaction": BadRecord(
        "SEQUENCE_CONFLICT",
        lambda dialogue, now: sealed(
            Dialogue(dialogue.id, dialogue.terms).message("alice", content=b"again")
        ),
        "alice",
        retriable=True,
    ),
    "an address that nobody has": BadRecord(
        "UNKNOWN_ADDRESS",
        lambda dialogue, now: sealed(dialogue.message("alice", recipients=["bob", "nowhere"])),
        "alice",
    ),
    "an address that cannot be": BadRecord(
        "UNKNOWN_ADDRESS",
        lambda dialogue, now: sealed(dialogue.message("alice", recipients=["No Such Place! " * 9_000])),
        "alice",
    ),
    "a party at another's address": BadRecord(
        "UNKNOWN_ADDRESS",
        _opening(_with_terms(parties=lambda now: (Party("alice", "alice"), Party("bob", "mallory")))),
        "alice",
    ),
}
