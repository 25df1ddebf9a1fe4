"""What participants send: one transaction's messages, each linked to the one before, signed and encoded; nothing judges them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from parley.custody import Signatory
from parley.envelope import MESSAGE_TYPE, message_id, seal
from parley.schemas import Action, FinishRule, Message, MessageId, Party, Terms, TransactionId, encode
from tests.synthetic_ledger import signing_key

__all__ = ["Dialogue", "sealed", "transaction_id"]


def transaction_id(seed: str) -> TransactionId:
    """A UUIDv7 that is always the same for the same seed."""
    identity = bytearray(sha256(seed.encode()).digest()[:16])
    identity[6] = 0x70 | identity[6] & 0x0F
    identity[8] = 0x80 | identity[8] & 0x3F
    return TransactionId(bytes(identity))


def sealed(message: Message, *keys: Signatory) -> bytes:
    """The ingest record of a message: signed by its sender's key of the suite, or by the keys given."""
    return encode(seal(MESSAGE_TYPE, message, *(keys or (signing_key(message.sender),))))


@dataclass
class Dialogue:
    """One transaction as its parties hold it, on the assumption that all they sent was accepted."""

    id: TransactionId
    terms: Terms
    pipeline: int = 0
    sequence: int = 0
    previous: MessageId | None = None

    @classmethod
    def between(
        cls,
        *parties: str,
        opened_at: int,
        lasting: int = 60_000,
        open_for: int = 30_000,
        rule: FinishRule = "ANY",
        pipeline: int = 0,
        seed: str = "",
    ) -> Dialogue:
        """A dialogue of these participants, each at the address of its own name; times in ms."""
        terms = Terms(
            "dvp",
            tuple(Party(name, name) for name in parties),
            opened_at + lasting,
            opened_at + open_for,
            rule,
        )
        return cls(transaction_id(f"{seed}{parties}{opened_at}{pipeline}"), terms, pipeline)

    def message(
        self,
        sender: str,
        action: Action | None = None,
        content: bytes = b"",
        recipients: Sequence[str] | None = None,
    ) -> Message:
        """What the sender would say next; by default to all others."""
        others = tuple(party.address for party in self.terms.parties if party.participant != sender)
        opens = self.sequence == 0
        return Message(
            transaction_id=self.id,
            pipeline=self.pipeline,
            sequence=self.sequence,
            previous=self.previous,
            sender=sender,
            recipients=others if recipients is None else tuple(recipients),
            sent_at=self.terms.deadline,
            action=action or ("OPEN" if opens else "CONTINUE"),
            terms=self.terms if opens else None,
            content_type="text/plain",
            content=content,
            encryption=None,
            references=(),
        )

    def say(
        self,
        sender: str,
        action: Action | None = None,
        content: bytes = b"",
        recipients: Sequence[str] | None = None,
    ) -> bytes:
        """The record of the sender's next message, which is the head from here on."""
        return self.send(self.message(sender, action, content, recipients))

    def send(self, message: Message) -> bytes:
        """The record of a message, which is the head from here on."""
        self.sequence = message.sequence + 1
        self.previous = message_id(encode(message))
        return sealed(message)
