"""A simple agreement between two parties: one offers exact terms, the other accepts exactly these, makes a counter-offer, or refuses.

    one party        opens      offer         title and terms
    whoever is due   goes on    offer         other terms instead: a counter-offer
    whoever is due   finishes   acceptance    names the SHA-256 of the content of the offer made last
    either           finishes   refusal       says why; so an offer may be withdrawn too

Each message is signed by who says it, so an agreement is two signatures over the same bytes. Where stands what was said is
folded from the deal's messages (`standing`); what is said are `offer`, `counter`, `accept` and `refuse`. Contents are JSON objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple

from parley.client import Participant
from parley.deal import Accepted, Deal, DealMessage
from parley.errors import AgreementError
from parley.opening import Deadline
from parley.workflows.forms import Form, read_form, text_of

__all__ = [
    "ACCEPTANCE_STEP",
    "KIND",
    "OFFER_STEP",
    "REFUSAL_STEP",
    "Offer",
    "Phase",
    "Standing",
    "accept",
    "counter",
    "offer",
    "refuse",
    "standing",
]

KIND: Final = "agreement"
OFFER_STEP: Final = "application/vnd.parley.agreement.offer+json"
ACCEPTANCE_STEP: Final = "application/vnd.parley.agreement.acceptance+json"
REFUSAL_STEP: Final = "application/vnd.parley.agreement.refusal+json"


class Offer(NamedTuple):
    """What is agreed if it is accepted."""

    title: str
    terms: str
    """Word for word."""


class Phase(StrEnum):
    """How far the parties are."""

    OFFERED = "offered"
    AGREED = "agreed"
    REFUSED = "refused"
    VOID = "void"
    """It was finished, but not by a step that ends an agreement, or other terms were accepted than were offered last."""


class Standing(NamedTuple):
    """Where the parties stand."""

    phase: Phase
    offer: Offer
    """The last one."""
    digest: bytes
    """SHA-256 of its content: what both have signed once it is agreed."""
    by: str
    """Who made it."""
    reason: str = ""
    """Why it was refused, or is void."""


async def offer(
    me: Participant, party: str, terms: Offer, *, deadline: Deadline, readers: Iterable[str] = ()
) -> Deal:
    """Open an agreement with an offer, in private; raises as :meth:`Participant.open`."""
    content = terms._asdict()
    return await me.open(
        [party],
        kind=KIND,
        deadline=deadline,
        content=content,
        content_type=OFFER_STEP,
        private=True,
        readers=readers,
    )


async def counter(deal: Deal, terms: Offer) -> Accepted:
    """Offer other terms instead of those that the other party offered last.

    Raises:
        AgreementError: the last offer is our own, or nothing is on offer.

    """
    _theirs(deal)
    return await deal.send(terms._asdict(), content_type=OFFER_STEP)


async def accept(deal: Deal, offered: Offer | None = None) -> Accepted:
    """Accept the other party's last offer; with ``offered``, only if it is still this one.

    Raises:
        AgreementError: the last offer is our own, is another one, or nothing is on offer.
        RefusedError: the other party was quicker with something else; look at it and decide anew.

    """
    now = _theirs(deal)
    if offered is not None and now.offer != offered:
        raise AgreementError(
            f"{now.by} now offers {now.offer.title!r} on other terms; read them and decide anew"
        )
    return await deal.finish({"offer": now.digest.hex()}, content_type=ACCEPTANCE_STEP)


async def refuse(deal: Deal, reason: str) -> Accepted:
    """End it without an agreement; also takes back an offer of our own."""
    return await deal.finish({"reason": reason}, content_type=REFUSAL_STEP)


def standing(messages: Sequence[DealMessage]) -> Standing:
    """Where the parties stand after these messages, all of the deal from its opening on.

    Raises:
        AgreementError: what was said is no agreement.

    """
    if not messages:
        raise AgreementError("nothing was said; an agreement begins with an offer")
    now = _offered(messages[0])
    for message in messages[1:]:
        now = _after(now, message)
    return now


def _after(now: Standing, message: DealMessage) -> Standing:
    if message.action != "FINISH":
        if message.sender == now.by:
            raise AgreementError(f"{now.by} spoke twice; have the other party answer first")
        return _offered(message)
    try:
        if message.content_type == ACCEPTANCE_STEP:
            named = text_of(_read(message), "offer", AgreementError)
            if named == now.digest.hex() and message.sender != now.by:
                return now._replace(phase=Phase.AGREED)
            return now._replace(
                phase=Phase.VOID, reason=f"{message.sender} accepted {named!r}, which was not on offer"
            )
        if message.content_type == REFUSAL_STEP:
            reason = text_of(_read(message), "reason", AgreementError)
            return now._replace(phase=Phase.REFUSED, reason=reason)
    except AgreementError as error:
        return now._replace(phase=Phase.VOID, reason=str(error))
    return now._replace(phase=Phase.VOID, reason=f"{message.sender} finished with {message.content_type}")


def _offered(message: DealMessage) -> Standing:
    if message.content_type != OFFER_STEP:
        raise AgreementError(f"{message.sender} said {message.content_type} where an offer was due")
    form = _read(message)
    said = Offer(text_of(form, "title", AgreementError), text_of(form, "terms", AgreementError))
    return Standing(Phase.OFFERED, said, sha256(message.content).digest(), message.sender)


def _read(message: DealMessage) -> Form:
    return read_form(message, AgreementError)


def _theirs(deal: Deal) -> Standing:
    now = standing(deal.messages)
    if now.phase is not Phase.OFFERED:
        raise AgreementError(f"it is {now.phase}; open another agreement")
    if now.by == deal.own_name:
        raise AgreementError(f"the last offer is our own; wait for {' and '.join(deal.waiting_on)}")
    return now
