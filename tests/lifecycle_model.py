"""A transaction as a naive list of what was said, judged by rules 1 to 7 of `parley.lifecycle` as they are written.

It shares no code with them, and forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from parley.envelope import message_id
from parley.schemas import Hash, Message, MessageId, Terms, encode

__all__ = ["Model", "Said", "identity_of"]


def identity_of(message: Message) -> MessageId:
    return message_id(encode(message))


@dataclass
class Said:
    """A message that counted, and where."""

    message: Message
    identity: MessageId
    place: int
    digest: Hash
    at: int


@dataclass
class Model:
    """A transaction as a list of what was said."""

    terms: Terms
    said: list[Said] = field(default_factory=list)
    timed_out_at: int | None = None

    @property
    def parties(self) -> list[str]:
        return [party.participant for party in self.terms.parties]

    @property
    def finishers(self) -> list[str]:
        """Who has said FINISH, in order, each once."""
        names: list[str] = []
        for said in self.said:
            if said.message.action == "CONTINUE":
                names = []
            elif said.message.action == "FINISH" and said.message.sender not in names:
                names.append(said.message.sender)
        return names

    @property
    def finished(self) -> bool:
        needed = 1 if self.terms.finish_rule == "ANY" else len(self.terms.parties)
        return len(self.finishers) >= needed

    @property
    def due(self) -> list[str]:
        if self.finished:
            return []
        head = self.said[-1].message
        addressed, others = [], []
        for party in self.terms.parties:
            if party.participant != head.sender and party.participant not in self.finishers:
                others.append(party.participant)
                if party.address in head.recipients:
                    addressed.append(party.participant)
        return addressed or others or [head.sender]

    def verdict(self, message: Message, at: int) -> str:
        """ACCEPTED, DUPLICATE, or the reason for refusing a message appended at `at`."""
        if any(said.message == message for said in self.said):
            return "DUPLICATE"
        if not self.said:
            return self.verdict_on_opening(message, at)
        if message.sender not in self.parties:
            return "NOT_A_PARTY"
        if self.finished:
            return "CLOSED"
        if self.timed_out_at is not None or at > self.terms.deadline:
            return "DEADLINE_PASSED"
        head = self.said[-1]
        follows = message.sequence == len(self.said) and message.previous == head.identity
        return "ACCEPTED" if follows else "SEQUENCE_CONFLICT"

    @staticmethod
    def verdict_on_opening(message: Message, at: int) -> str:
        if message.terms is None:
            return "UNKNOWN_TRANSACTION"
        if message.sender not in [party.participant for party in message.terms.parties]:
            return "NOT_A_PARTY"
        if at > message.terms.open_until:
            return "OPENING_EXPIRED"
        if at > message.terms.deadline:
            return "DEADLINE_PASSED"
        return "ACCEPTED"
