"""Everything an inbox has told, verified: each record in, what it means out; pure, knows no transport and no application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from parley.directory import Directory
from parley.errors import ParleyError, ProofError, VerificationError
from parley.events import Spoken, prove_spoken, read_spoken
from parley.firehose import event_digest
from parley.receipts import ReceiptVerifier
from parley.schemas import (
    FirehoseEvent,
    MessageId,
    Receipt,
    Rejection,
    TransactionId,
    decode,
    decode_any,
)
from parley.sealed_address import Seal, key_of, open_with_secret, speaker_of
from parley.view import DealView, follow

__all__ = ["Ahead", "Book", "Doubtful", "Expired", "Fact", "Said"]

REMEMBERED_ENDINGS = 65_536
"""Ended transactions that are remembered, so that a receipt repeated late does not bring one back."""


class Said(NamedTuple):
    """A message stands on the firehose; ``receipt`` where it is our own."""

    view: DealView
    spoken: Spoken
    event: FirehoseEvent
    receipt: Receipt | None
    seal: Seal | None = None
    """What we are named by in this transaction, where that is a sealed address."""


class Expired(NamedTuple):
    """A transaction timed out."""

    view: DealView
    event: FirehoseEvent


class Doubtful(NamedTuple):
    """A record that does not verify; nothing of it counts."""

    transaction_id: TransactionId | None
    message_id: MessageId | None
    """Of our own message, where the record is a receipt for it."""
    error: VerificationError


class Ahead(NamedTuple):
    """The record was judged by a later version of the directory than has been read; give it again after that."""

    version: int


Fact = Said | Expired | Rejection | Doubtful | Ahead


class Book:
    """One participant's open transactions, as its inbox tells them."""

    def __init__(
        self, participant: str, directory: Directory, sent: Mapping[MessageId, bytes] | None = None
    ) -> None:
        """``sent`` are the encoded envelopes that wait for an answer: their receipts must hold exactly them."""
        self._participant = participant
        self._directory = directory
        self._receipts = ReceiptVerifier(directory)
        self._views: dict[TransactionId, DealView] = {}
        self._ended: dict[TransactionId, None] = {}
        self._sent = {} if sent is None else sent
        self._seals: dict[TransactionId, Seal] = {}

    def read(self, record: bytes, *, impatient: bool = False, seal: Seal | None = None) -> Fact | None:
        """What the next inbox record means; ``None`` if it tells nothing new.

        ``seal`` is the sealed address that it came by, if it did (``sealed_address.unwrap``). ``impatient`` judges by the directory at hand what :class:`Ahead` would have waited for.
        """
        transaction_id: TransactionId | None = None
        identity: MessageId | None = None
        try:
            value = decode_any(record)
            if isinstance(value, Rejection):
                return value
            receipt = None
            if isinstance(value, Receipt):
                if value.event is None:
                    return None
                receipt, identity, record = value, value.message_id, value.event
                value = decode(record, FirehoseEvent)
            if not isinstance(value, FirehoseEvent):
                error = VerificationError(f"a {type(value).__name__} does not belong in an inbox")
                return Doubtful(None, None, error)
            transaction_id = value.transaction_id
            if value.directory_version > self._directory.version and not impatient:
                return Ahead(value.directory_version)
            if seal is not None:
                self._prove_seal(seal, value)
            return self._follow(record, value, receipt)
        except VerificationError as error:
            return Doubtful(transaction_id, identity, error)
        except ParleyError as error:
            reason = VerificationError(f"an inbox record does not verify: {error}")
            return Doubtful(transaction_id, identity, reason)

    def _follow(self, data: bytes, event: FirehoseEvent, receipt: Receipt | None) -> Said | Expired | None:
        if event.transaction_id in self._ended:
            return None
        before = self._views.get(event.transaction_id)
        spoken = read_spoken(event)
        if receipt is not None:
            self._prove_receipt(event, receipt, spoken)
        if spoken is not None and (receipt is None or event.envelope != self._sent.get(receipt.message_id)):
            prove_spoken(event, spoken, self._directory)
        if receipt is not None and before is None and spoken is not None and spoken.message.terms is None:
            return None  # our own words in a transaction whose opening is no longer kept
        after = follow(before, event, event_digest(data), spoken)
        if after is before and (receipt is None or receipt.message_id not in self._sent):
            return None
        seal = self._seals.get(event.transaction_id)
        self._keep(after)
        if spoken is None:
            return Expired(after, event)
        return Said(after, spoken, event, receipt, seal)

    def _prove_seal(self, seal: Seal, event: FirehoseEvent) -> None:
        """Believe that we are behind a sealed address only if it opens to an address of ours."""
        held = self._directory.holder(key_of(seal.text))
        if held is None or held.signs:
            raise VerificationError(
                "we were reached by an address sealed to a key that is not in the directory"
            )
        opened = open_with_secret(seal.text, seal.secret, held.public_key)
        if (
            opened.transaction_id != event.transaction_id
            or self._directory.reserved_for(opened.address) != self._participant
        ):
            raise VerificationError("we were reached by a sealed address that is not ours; ask the operator")
        if event.transaction_id not in self._ended:
            self._seals[event.transaction_id] = seal

    def _prove_receipt(self, event: FirehoseEvent, receipt: Receipt, spoken: Spoken | None) -> None:
        if spoken is None or spoken.message_id != receipt.message_id:
            raise ProofError("the receipt's event carries another message than the receipt names")
        if speaker_of(spoken.message, self._directory) != self._participant:
            raise ProofError(f"the receipt is for a message by {spoken.message.sender}")
        sent = self._sent.get(receipt.message_id)
        if sent is not None and event.envelope != sent:
            raise ProofError("the receipt's event does not hold the envelope that was sent, byte by byte")
        self._receipts.verify(receipt, event.directory_version)

    def _keep(self, view: DealView) -> None:
        if view.transaction.outcome is None:
            self._views[view.transaction_id] = view
            return
        self._views.pop(view.transaction_id, None)
        self._seals.pop(view.transaction_id, None)
        self._ended[view.transaction_id] = None
        if len(self._ended) > REMEMBERED_ENDINGS:
            del self._ended[next(iter(self._ended))]
