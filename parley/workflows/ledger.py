"""Delivery to a chain: the parties' signed chain transactions are withheld until all consent, then broadcast all together.

The steps, each open to all parties unless said otherwise:

1. Whoever opens the deal (kind ``ledger-delivery``, finish rule ALL) names the chain, the other parties, and the ledger service
   as the last party.
2. Each party attaches its transactions, encrypted to the service, so that nobody can broadcast them early. Attaching again
   replaces them, attaching none withdraws them.
3. The service says CHECK while something is missing or wrong, and READY once everybody's are good: what each does, without its
   signature.
4. Each party that agrees consents, by a FINISH that names the digest of the READY. Whatever else is said withdraws all consents.
5. The service looks at the chain once more and releases: its FINISH is the last, and ends the deal. Only now it broadcasts.
6. What became of it stands in a transaction of its own (kind ``ledger-receipt``), opened by the service with the signed
   transactions and finished with the chain's word.

A deal that times out broadcasts nothing. Nothing here needs a chain: signing is the party's affair, the rest the service's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from parley.client import Participant
from parley.deal import Accepted, Deal, DealMessage
from parley.errors import (
    AttachmentError,
    LapsedError,
    LedgerError,
    MalformedError,
    RefusedError,
    VerificationError,
)
from parley.identifiers import shown_name, transaction_text
from parley.opening import Deadline
from parley.schemas import Hash, Head, MessageId, Reference
from parley.workflows.ledger_steps import (
    ATTACHMENT,
    BROADCAST,
    CHECK,
    CONSENT,
    DELIVERY_KIND,
    ORDER,
    READY,
    RECEIPT,
    RECEIPT_KIND,
    RELEASE,
    ChainReceipt,
    Report,
    digest_of,
    read_broadcast,
    read_consent,
    read_receipt,
    read_report,
    write_attachment,
    write_consent,
    write_order,
)

__all__ = ["SERVICE", "LedgerDelivery", "Standing", "chain_receipt", "open_delivery", "standing"]

SERVICE = "ledger"
"""The participant that withholds and broadcasts, unless the operator names it otherwise."""


class Standing(NamedTuple):
    """Where a delivery stands, by what was said so far; service and parties see the same."""

    attachments: Mapping[str, DealMessage]
    """The newest of each party."""
    word: DealMessage | None
    """The service's newest CHECK or READY."""
    finished: Mapping[str, DealMessage]
    """The parties' FINISHes that nothing has withdrawn."""
    is_released: bool

    @property
    def is_current(self) -> bool:
        """Whether the service's word is about all that is attached now."""
        return self.word is not None and all(
            each.sequence < self.word.sequence for each in self.attachments.values()
        )

    @property
    def ready(self) -> DealMessage | None:
        """The READY that may be consented to."""
        word = self.word
        return word if word is not None and word.content_type == READY and self.is_current else None

    def consented(self) -> Mapping[str, Hash | None]:
        """What each party that has finished consented to; ``None`` where it finished with something else."""
        return {party: _consent(said) for party, said in self.finished.items()}


def standing(messages: Iterable[DealMessage], service: str = SERVICE) -> Standing:
    """Where a delivery stands after these messages."""
    attachments: dict[str, DealMessage] = {}
    finished: dict[str, DealMessage] = {}
    word: DealMessage | None = None
    is_released = False
    for said in messages:
        if said.action == "FINISH":
            finished[said.sender] = said
            is_released |= said.sender == service and said.content_type == RELEASE
            continue
        finished.clear()
        if said.sender == service and said.content_type in (CHECK, READY):
            word = said
        elif said.sender != service and said.content_type == ATTACHMENT:
            attachments[said.sender] = said
    return Standing(attachments, word, finished, is_released)


async def open_delivery(
    me: Participant,
    others: Iterable[str],
    *,
    chain: str,
    deadline: Deadline,
    statement: str = "",
    references: Sequence[Reference] = (),
    private: bool = False,
    readers: Iterable[str] = (),
    service: str = SERVICE,
) -> LedgerDelivery:
    """Open a delivery on ``chain`` (CAIP-2, such as ``eip155:1``) with the other parties; errors as for ``Participant.open``."""
    deal = await me.open(
        [*others, service],
        kind=DELIVERY_KIND,
        deadline=deadline,
        content=write_order(chain, statement),
        content_type=ORDER,
        finish_rule="ALL",
        references=references,
        private=private,
        readers=readers,
    )
    return LedgerDelivery(deal, service)


class LedgerDelivery:
    """One delivery in a party's hands: attach, look at what is ready, consent, await the release."""

    def __init__(self, deal: Deal, service: str = SERVICE) -> None:
        """``deal`` is one that we opened, or that came to us. Raises LedgerError if it is no delivery by this service."""
        self.deal = deal
        self.service = service
        if deal.kind != DELIVERY_KIND or deal.parties[-1] != service or deal.terms.finish_rule != "ALL":
            raise LedgerError(
                f"transaction {transaction_text(deal.id)} is no delivery by {service}: that is of the kind {DELIVERY_KIND}, "
                f"ends by the finish rule ALL, and has {service} as the last of its parties"
            )

    @property
    def standing(self) -> Standing:
        """Where it stands now."""
        return standing(self.deal.messages, self.service)

    @property
    def report(self) -> Report | None:
        """The service's newest word."""
        word = self.standing.word
        return None if word is None else _report(word)

    async def attach(self, *transactions: bytes, readers: Iterable[str] = ()) -> Report:
        """Hand our signed transactions to the service, in the order of their broadcast; returns once it has found them good.

        ``readers`` may read them besides, where the operator demands it of encrypted messages. Without transactions, those
        attached before are withdrawn.

        Raises:
            AttachmentError: the service finds fault with them; sign others and attach again.
            LedgerError: it objects to the deal itself.
            LapsedError: the deal ended before it answered.
            RefusedError, TransportError, EncryptionError: as for ``Deal.send``.

        """
        mine = await self._hand_over(write_attachment(transactions), (self.service, *readers))
        while not (
            self.standing.is_current and self.standing.attachments[self.deal.own_name].message_id == mine
        ):
            await self._listen()
        report = self._unobjected()
        finding = report.finding(mine)
        if finding is not None:
            if finding.problems:
                raise AttachmentError(finding.problems)
            if [each.digest for each in finding.promises] != [digest_of(raw) for raw in transactions]:
                raise VerificationError(
                    f"{self.service} promises to broadcast other transactions than we attached; keep its message as evidence"
                )
        elif transactions:
            raise LedgerError(f"{self.service} does not mention what we attached; attach it again")
        return report

    async def _hand_over(self, content: bytes, readers: tuple[str, ...]) -> MessageId:
        """Send an attachment, after whatever others say meanwhile: it depends on none of that."""
        head: Head | None = None
        while True:
            try:
                accepted: Accepted = await self.deal.send(
                    content, content_type=ATTACHMENT, readers=readers, after=head
                )
            except RefusedError as error:
                if error.reason != "SEQUENCE_CONFLICT":
                    raise
                head = error.head
            else:
                return accepted.message.message_id

    async def ready(self) -> Report:
        """What would be broadcast, once everybody's transactions are good: look at it before you consent.

        Raises:
            LedgerError: the service objects to the deal itself.
            LapsedError: the deal ended before.

        """
        while (word := self.standing.ready) is None:
            self._unobjected()
            await self._listen()
        return _report(word)

    async def consent(self, report: Report) -> None:
        """Agree, for good unless anything else is said, that just what this report names is broadcast.

        Raises:
            LedgerError: the service's word is another by now; look at it.
            LapsedError: the deal ended before.
            RefusedError, TransportError: as for ``Deal.send``.

        """
        while True:
            head, word = self.deal.head, self.standing.ready
            if word is None or _report(word) != report:
                raise LedgerError(f"{self.service} has said something else since; see what is ready now")
            content = write_consent(digest_of(word.content))
            try:
                await self.deal.finish(content, content_type=CONSENT, after=head)
            except RefusedError as error:
                if error.reason != "SEQUENCE_CONFLICT":
                    raise
            else:
                return
            while self.deal.head == head:
                await self._listen()

    async def released(self) -> Report:
        """What is broadcast, once all have consented, ourselves first, and the service has released it.

        Raises:
            LedgerError: something was said since our consent, which withdraws it; see what is ready now.
            LapsedError: the deal timed out; nothing was broadcast.

        """
        while self.deal.outcome is None:
            if self.deal.own_name not in self.standing.finished:
                raise LedgerError(
                    "our consent does not stand, or was withdrawn by what was said since; see what is ready now"
                )
            await self._listen()
        report = self.report
        if self.deal.outcome != "FINISHED" or not self.standing.is_released or report is None:
            raise LapsedError(self._how_it_ended())
        return report

    def _unobjected(self) -> Report:
        """The service's word, if it has said anything, and nothing against the deal itself."""
        report = self.report
        if report is None:
            return Report("", (), (), ())
        if report.problems:
            raise LedgerError("; ".join(f"{reason}: {detail}" for reason, detail in report.problems))
        return report

    async def _listen(self) -> None:
        try:
            await anext(self.deal)
        except StopAsyncIteration:
            if self.deal.outcome != "FINISHED":
                raise LapsedError(self._how_it_ended()) from None

    def _how_it_ended(self) -> str:
        who = ", ".join(map(shown_name, self.deal.waiting_on)) or "nobody"
        return f"the deal ended ({self.deal.outcome}) while {who} was due, so that nothing was broadcast; open another"

    def __repr__(self) -> str:
        return f"LedgerDelivery({self.deal!r})"


async def chain_receipt(
    receipt: Deal, delivery: LedgerDelivery | None = None, service: str = SERVICE
) -> ChainReceipt:
    """The chain's word on a delivery, from the transaction of kind ``ledger-receipt`` in which the service tells it; waits for it.

    With the ``delivery`` given, what was broadcast is held against what all consented to.

    Raises:
        LedgerError: it is no receipt by the service, or ended without the chain's word.
        VerificationError: something else was broadcast than all consented to.

    """
    opening = receipt.messages[0] if receipt.messages else None
    if opening is None or receipt.kind != RECEIPT_KIND or opening.sender != service:
        raise LedgerError(
            f"transaction {transaction_text(receipt.id)} is no receipt by {service}, which is of the kind {RECEIPT_KIND}"
        )
    if opening.content_type == BROADCAST and delivery is not None:
        _check_broadcast(opening, delivery)
    while receipt.outcome is None:
        try:
            await anext(receipt)
        except StopAsyncIteration:
            break
    for said in reversed(receipt.messages):
        if said.sender == service and said.content_type == RECEIPT:
            return read_receipt(said.content)
    raise LedgerError(
        f"the receipt ended ({receipt.outcome}) without the chain's word; look for the transactions on the chain yourself"
    )


def _check_broadcast(opening: DealMessage, delivery: LedgerDelivery) -> None:
    broadcast = read_broadcast(opening.content)
    word = delivery.standing.word
    promised = (
        [] if word is None else [each.digest for one in _report(word).findings for each in one.promises]
    )
    told = [digest_of(each.raw) for each in broadcast.transactions]
    if (
        broadcast.deal != delivery.deal.id
        or word is None
        or broadcast.report != digest_of(word.content)
        or told != promised
    ):
        raise VerificationError(
            f"{delivery.service} tells of another broadcast than all consented to; keep both messages as evidence"
        )


def _consent(said: DealMessage) -> Hash | None:
    try:
        return read_consent(said.content) if said.content_type == CONSENT else None
    except MalformedError:
        return None


def _report(word: DealMessage) -> Report:
    if word.problem is not None:
        raise word.problem
    return read_report(word.content)
