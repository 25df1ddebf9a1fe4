"""The opening of a transaction as a message: parties, terms and times put together; in clear, and not sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from parley.composing import Content, content_of, recipients
from parley.directory import Directory
from parley.errors import DirectoryError, MalformedError
from parley.schemas import FinishRule, Message, Party, Reference, Terms, TransactionId
from parley.sealed_address import Hidden, seal_address

__all__ = ["OPENING_COUNTS_FOR", "Deadline", "Invitations", "write_opening"]

OPENING_COUNTS_FOR = 120_000
"""How long an opening may take to arrive unless said otherwise, in ms."""

Deadline = datetime | timedelta
"""A moment (with its time zone), or how long from now."""


class Invitations:
    """Puts the parties of the transactions that one participant opens as their terms name them."""

    def __init__(self, own: Party, directory: Directory, operator: str) -> None:
        """For the participant ``own``; ``operator`` is the entry whose encryption keys hidden parties' addresses are sealed to."""
        self._own = own
        self._directory = directory
        self._operator = operator
        self.hidden: dict[str, str] = {}
        """Whom we hide in openings that wait for an answer, by sealed address."""

    def parties(
        self, others: Iterable[str | Party | Hidden], transaction_id: TransactionId
    ) -> tuple[Party, ...]:
        """Ourselves and the others, each once.

        Raises:
            DirectoryError: somebody is not in the directory, or cannot be hidden.

        """
        invited = [self._party(party, transaction_id) for party in others]
        return (self._own, *(party for party in invited if party.participant != self._own.participant))

    def answered(self, terms: Terms) -> None:
        """Forget whom an opening hid, now that it is answered."""
        for party in terms.parties:
            self.hidden.pop(party.participant, None)

    def _party(self, party: str | Party | Hidden, transaction_id: TransactionId) -> Party:
        if isinstance(party, Party):
            return party
        if isinstance(party, Hidden):
            text = self._sealed(party, transaction_id)
            self.hidden[text] = party.participant
            return Party(text, text)
        return Party(party, self._default_address(party))

    def _sealed(self, party: Hidden, transaction_id: TransactionId) -> str:
        """The party's sealed address for a transaction that we open."""
        entry = self._directory.entry(self._operator)
        keys = self._directory.encryption_keys(self._operator)
        if entry is None or entry.role != "OPERATOR" or not keys:
            raise DirectoryError(
                f"{self._operator} is no operator who lists an encryption key, so nobody can be hidden; ask the operator"
            )
        address = party.address or self._default_address(party.participant)
        if self._directory.owner(address) != party.participant:
            raise DirectoryError(f"{address} is not an address of {party.participant}; use one of its entry")
        return seal_address(address, keys[-1], transaction_id, self._own.participant).text

    def _default_address(self, name: str) -> str:
        entry = self._directory.entry(name)
        if entry is None:
            raise DirectoryError(f"{name} is not in the directory; only admitted participants can be parties")
        return entry.addresses[0]


def write_opening(
    transaction_id: TransactionId,
    parties: Sequence[Party],
    now: int,
    pipelines: Sequence[int],
    *,
    kind: str,
    deadline: Deadline,
    content: Content,
    content_type: str | None,
    finish_rule: FinishRule,
    to: Iterable[str] | None,
    known: Mapping[str, str],
    references: Sequence[Reference],
    open_until: Deadline | None,
) -> Message:
    """The message by which the first of the parties opens a transaction at ``now`` (ms), on any of the pipelines (at least one).

    ``known`` are the participants behind sealed addresses, who may be named in ``to``.

    Raises:
        MalformedError: a deadline has no time zone, or ``to`` names who is no other party.

    """
    sender = parties[0].participant
    ends = _moment(deadline, now)
    terms = Terms(
        kind=kind,
        parties=tuple(parties),
        deadline=ends,
        open_until=min(ends, now + OPENING_COUNTS_FOR) if open_until is None else _moment(open_until, now),
        finish_rule=finish_rule,
    )
    data, media_type = content_of(content, content_type)
    return Message(
        transaction_id=transaction_id,
        pipeline=pipelines[int.from_bytes(transaction_id[8:], "big") % len(pipelines)],
        sequence=0,
        previous=None,
        sender=sender,
        recipients=recipients(terms.parties, sender, to, known),
        sent_at=now,
        action="OPEN",
        terms=terms,
        content_type=media_type,
        content=data,
        encryption=None,
        references=tuple(references),
    )


def _moment(deadline: Deadline, now: int) -> int:
    if isinstance(deadline, timedelta):
        return now + deadline // timedelta(milliseconds=1)
    if deadline.tzinfo is None:
        raise MalformedError("a deadline without a time zone is ambiguous; give one such as datetime.UTC")
    return (deadline - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
