"""Decides what the ledger service does next about one deal, by what the deal's record says; no IO, no keys and no clock.

The service keeps no notes of its own. Whatever it does follows from the messages of the deal and one look at the chain, so that
it goes on after a restart as if nothing had happened:

1. To a deal that it cannot serve it objects, once.
2. While something is attached that its last word does not cover, it checks everything and says so.
3. When every party has consented to its READY, and nothing was said since, it checks once more and releases, which ends the deal.
4. A FINISH that consents to something else makes it say what is ready again, which withdraws every consent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import NamedTuple

from anchor.ledger.checks import Attached, Look, read_attached
from anchor.ledger.transactions import read_transaction
from parley.deal import Deal, DealMessage
from parley.errors import MalformedError
from parley.identifiers import is_sealed_address
from parley.schemas import TransactionId
from parley.workflows.ledger import Standing
from parley.workflows.ledger_steps import (
    ORDER,
    Finding,
    Landing,
    Problem,
    Released,
    Report,
    digest_of,
    read_order,
    read_report,
)

__all__ = [
    "Next",
    "Outcome",
    "attachments",
    "derived_id",
    "landings",
    "next_step",
    "objections",
    "report_of",
    "unseen",
]


class Next(Enum):
    """What to do about a deal now."""

    WAIT = auto()
    OBJECT = auto()
    """Say what is wrong with the deal itself."""
    CHECK = auto()
    """Look at everything attached, and say how it is."""
    RELEASE = auto()
    """Look once more; if all is good, FINISH."""


class Outcome(NamedTuple):
    """Where released transactions stand."""

    landings: tuple[Landing, ...]
    is_settled: bool
    """Whether nothing more is to be waited for."""
    unseen: tuple[bytes, ...]
    """Signed transactions that the chain does not know, to be broadcast (again)."""


def objections(deal: Deal, service: str, chain: str) -> tuple[Problem, ...]:
    """Why the service cannot serve the deal, whatever is attached."""
    found = []
    terms, opening = deal.terms, deal.messages[0]
    if terms.finish_rule != "ALL":
        found.append(
            Problem("FINISH_RULE", "a delivery needs the consent of all; open it with the finish rule ALL")
        )
    if deal.parties[-1] != service or any(map(is_sealed_address, deal.parties)):
        found.append(
            Problem("PARTIES", f"a delivery names all its parties, and {service} as the last; open it so")
        )
    if (order := _order_problem(opening, service, chain)) is not None:
        found.append(order)
    if not deal.is_whole:
        found.append(
            Problem(
                "NOT_WHOLE",
                f"something was said that was not addressed to {service}; open another deal, and say all to all",
            )
        )
    return tuple(found)


def _order_problem(opening: DealMessage, service: str, chain: str) -> Problem | None:
    fault = "it is not readable, or of another content type"
    if opening.problem is None and opening.content_type == ORDER:
        try:
            wanted, _ = read_order(opening.content)
        except MalformedError as error:
            fault = str(error)
        else:
            if wanted == chain:
                return None
            return Problem("WRONG_CHAIN", f"the deal is for {wanted[:60]!r}, and {service} serves {chain}")
    return Problem(
        "ORDER", f"the opening is no order of a delivery: {fault}; open it as `open_delivery` does"
    )


def next_step(standing: Standing, parties: Iterable[str], service: str, problems: Sequence[Problem]) -> Next:
    """What to do about a deal that stands so; ``problems`` are our objections to it."""
    if standing.is_released:
        return Next.WAIT
    if problems:
        told = None if standing.word is None else read_report(standing.word.content).problems
        return Next.WAIT if told == tuple(problems) else Next.OBJECT
    if not standing.is_current:
        return Next.CHECK if standing.attachments else Next.WAIT
    consented = standing.consented()
    ready = standing.ready
    if ready is None or not consented:
        return Next.WAIT
    digest = digest_of(ready.content)
    if any(named != digest for party, named in consented.items() if party != service):
        return Next.CHECK
    waiting = {party for party in parties if party != service} - consented.keys()
    return Next.WAIT if waiting else Next.RELEASE


def attachments(deal: Deal, standing: Standing) -> list[Attached]:
    """What is attached now, in the order of its broadcast; what was withdrawn is left out."""
    read = (
        read_attached(standing.attachments[party]) for party in deal.parties if party in standing.attachments
    )
    return [each for each in read if each.transactions or each.problems]


def report_of(
    chain: str,
    parties: Iterable[str],
    service: str,
    found: Sequence[Finding],
    problems: Sequence[Problem] = (),
) -> Report:
    """The service's word on what was found."""
    there = {finding.party for finding in found}
    missing = tuple(party for party in parties if party != service and party not in there)
    return Report(chain, missing, tuple(problems), tuple(found))


def landings(released: Sequence[Released], look: Look, confirmations: int) -> Outcome:
    """Where released transactions stand by this look; an outcome is settled when so many blocks hold it."""
    found: list[Landing] = []
    settled = True
    unseen: list[bytes] = []
    for party, identity, raw in released:
        known = look.found.get(identity)
        if known is not None and known.block is not None:
            held = max(0, look.height - known.block + 1)
            outcome = "MINED" if known.succeeded else "REVERTED"
            detail = "" if known.succeeded else "the chain executed it without effect; see why on the chain"
            found.append(
                Landing(party, identity, outcome, known.block, known.block_hash, held, known.gas_used, detail)
            )
            settled &= held >= confirmations
            continue
        transaction = read_transaction(raw)
        state = look.accounts[transaction.account]
        if state.settled_nonce > transaction.nonce:
            why = f"nonce {transaction.nonce} of {transaction.account} was spent by another transaction"
            found.append(Landing(party, identity, "REPLACED", None, None, 0, None, why))
            continue
        settled = False
        if known is None and state.nonce <= transaction.nonce:
            unseen.append(raw)
        why = "no block held it in time; it may be mined yet"
        found.append(Landing(party, identity, "NOT_MINED", None, None, 0, None, why))
    return Outcome(tuple(found), settled, tuple(unseen))


def unseen(released: Sequence[Released]) -> Outcome:
    """Where released transactions stand while the chain cannot be looked at."""
    why = "the chain could not be looked at in time; look there yourself"
    found = (
        Landing(party, identity, "NOT_MINED", None, None, 0, None, why) for party, identity, _ in released
    )
    return Outcome(tuple(found), is_settled=False, unseen=())


def derived_id(deal: TransactionId, secret: bytes) -> TransactionId:
    """The id of the receipt for a deal: a UUIDv7 that only who knows the secret can tell before it is used.

    The same deal and secret give the same id, so that a receipt opens once however often it is tried.
    """
    number = bytearray(deal[:6] + digest_of(secret + deal)[:10])
    number[6] = 0x70 | number[6] & 0x0F
    number[8] = 0x80 | number[8] & 0x3F
    return TransactionId(bytes(number))
