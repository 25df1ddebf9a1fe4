"""What is said in a delivery to a chain: each step's content as a value, written and read; who may say what, and when, is
``parley.workflows.ledger``'s affair.

Contents are JSON. Bytes are hexadecimal after ``0x``, digests and message ids hexadecimal alone; amounts in wei are decimal
texts, because JSON's numbers lose digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from parley.errors import MalformedError
from parley.identifiers import parse_transaction_id, transaction_text
from parley.schemas import Hash, MessageId, TransactionId
from parley.workflows.fields import Fields, read_hexadecimal

__all__ = [
    "ATTACHMENT",
    "BROADCAST",
    "CHECK",
    "CONSENT",
    "DELIVERY_KIND",
    "MAXIMUM_BYTES",
    "MAXIMUM_IN_DEAL",
    "MAXIMUM_TRANSACTIONS",
    "ORDER",
    "READY",
    "RECEIPT",
    "RECEIPT_KIND",
    "RELEASE",
    "Broadcast",
    "ChainReceipt",
    "Finding",
    "Landing",
    "Problem",
    "Promise",
    "Released",
    "Report",
    "digest_of",
    "read_attachment",
    "read_broadcast",
    "read_consent",
    "read_order",
    "read_receipt",
    "read_report",
    "write_attachment",
    "write_broadcast",
    "write_consent",
    "write_order",
    "write_receipt",
    "write_report",
]

DELIVERY_KIND: Final = "ledger-delivery"
RECEIPT_KIND: Final = "ledger-receipt"

ORDER: Final = "application/vnd.parley.ledger.order+json"
"""Opens a delivery: which chain."""
ATTACHMENT: Final = "application/vnd.parley.ledger.attachment+json"
"""A party's signed chain transactions, for the service's eyes alone."""
CHECK: Final = "application/vnd.parley.ledger.check+json"
"""The service: something is missing or wrong."""
READY: Final = "application/vnd.parley.ledger.ready+json"
"""The service: everybody's are good, and this is what they do."""
CONSENT: Final = "application/vnd.parley.ledger.consent+json"
"""A party's FINISH: broadcast just that."""
RELEASE: Final = "application/vnd.parley.ledger.release+json"
"""The service's FINISH, which ends the deal: it is broadcast."""
BROADCAST: Final = "application/vnd.parley.ledger.broadcast+json"
"""Opens a receipt: the signed transactions, for all parties."""
RECEIPT: Final = "application/vnd.parley.ledger.receipt+json"
"""Finishes a receipt: what became of them on the chain."""

MAXIMUM_TRANSACTIONS: Final = 16
"""In one attachment."""
MAXIMUM_IN_DEAL: Final = 64
"""In all attachments of one deal together, so that a report of them fits into one message."""
MAXIMUM_BYTES: Final = 131_072
"""Of all signed transactions of one deal, for the same reason."""


class Problem(NamedTuple):
    """Why something cannot be broadcast."""

    reason: str
    """For programs, such as ``WRONG_CHAIN``."""
    detail: str
    """For people: what to do."""


class Promise(NamedTuple):
    """What one chain transaction does, without its signature: nobody can broadcast it from this."""

    digest: Hash
    """SHA-256 of the signed transaction: shows later that the one broadcast is the one meant."""
    hash: bytes
    """By which the chain will know it, 32 bytes."""
    account: str
    """Who signed it: an address, with its checksum (EIP-55)."""
    nonce: int
    to: str | None
    """The address paid or called; ``None`` where it creates a contract."""
    value: int
    """Wei."""
    data: bytes
    gas: int
    max_fee: int
    """Wei for each unit of gas, at most."""


class Finding(NamedTuple):
    """What the service found in one party's attachment; its promises are empty where not all of it could be read."""

    party: str
    message_id: MessageId
    problems: tuple[Problem, ...]
    promises: tuple[Promise, ...]


class Report(NamedTuple):
    """The service's word on a deal: content of CHECK and of READY."""

    chain: str
    """That the service serves; CAIP-2."""
    missing: tuple[str, ...]
    """Parties that have attached nothing."""
    problems: tuple[Problem, ...]
    """With the deal itself, whatever is attached."""
    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        """Whether all of it could be broadcast."""
        return not (self.missing or self.problems or any(finding.problems for finding in self.findings))

    def finding(self, message_id: MessageId) -> Finding | None:
        """What was found in this attachment."""
        return next((each for each in self.findings if each.message_id == message_id), None)


class Released(NamedTuple):
    """A signed transaction that is no longer withheld."""

    party: str
    hash: bytes
    raw: bytes


class Broadcast(NamedTuple):
    """What a receipt opens with."""

    deal: TransactionId
    chain: str
    report: Hash
    """SHA-256 of the READY that all consented to."""
    transactions: tuple[Released, ...]


class Landing(NamedTuple):
    """What became of one transaction on the chain."""

    party: str
    hash: bytes
    outcome: str
    """MINED, REVERTED (in a block, but without effect), REPLACED (another one took its nonce) or NOT_MINED (in time; it may be
    mined yet)."""
    block: int | None
    block_hash: bytes | None
    confirmations: int
    """Blocks that held it when this was said, its own included."""
    gas_used: int | None
    detail: str = ""


class ChainReceipt(NamedTuple):
    """What a receipt finishes with."""

    deal: TransactionId
    chain: str
    transactions: tuple[Landing, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every transaction took effect on the chain."""
        return all(landing.outcome == "MINED" for landing in self.transactions)


def digest_of(content: bytes) -> Hash:
    """SHA-256, by which contents and signed transactions are named."""
    return Hash(sha256(content).digest())


# Writing -------------------------------------------------------------------------------------------------------------------


def write_order(chain: str, statement: str = "") -> bytes:
    """A delivery's opening: the chain (CAIP-2), and what it is for, in words."""
    return _written({"chain": chain, "statement": statement})


def write_attachment(transactions: Iterable[bytes]) -> bytes:
    """Signed transactions in the order in which they are to be broadcast; none withdraws those attached before."""
    return _written({"transactions": [_hexadecimal(raw) for raw in transactions]})


def write_report(report: Report) -> bytes:
    """The content of a CHECK or a READY."""
    findings = [
        {
            "party": finding.party,
            "message": finding.message_id.hex(),
            "problems": [problem._asdict() for problem in finding.problems],
            "transactions": [
                promise._asdict()
                | {
                    "digest": promise.digest.hex(),
                    "hash": _hexadecimal(promise.hash),
                    "value": str(promise.value),
                    "data": _hexadecimal(promise.data),
                    "max_fee": str(promise.max_fee),
                }
                for promise in finding.promises
            ],
        }
        for finding in report.findings
    ]
    problems = [problem._asdict() for problem in report.problems]
    return _written(
        {"chain": report.chain, "missing": report.missing, "problems": problems, "findings": findings}
    )


def write_consent(report: Hash) -> bytes:
    """The content of a CONSENT or a RELEASE: the digest of the READY's content."""
    return _written({"report": report.hex()})


def write_broadcast(broadcast: Broadcast) -> bytes:
    """The content of a BROADCAST."""
    transactions = [
        {"party": party, "hash": _hexadecimal(identity), "raw": _hexadecimal(raw)}
        for party, identity, raw in broadcast.transactions
    ]
    return _written(
        {
            "deal": transaction_text(broadcast.deal),
            "chain": broadcast.chain,
            "report": broadcast.report.hex(),
            "transactions": transactions,
        }
    )


def write_receipt(receipt: ChainReceipt) -> bytes:
    """The content of a RECEIPT."""
    transactions = [
        landing._asdict()
        | {
            "hash": _hexadecimal(landing.hash),
            "block_hash": None if landing.block_hash is None else _hexadecimal(landing.block_hash),
        }
        for landing in receipt.transactions
    ]
    return _written(
        {"deal": transaction_text(receipt.deal), "chain": receipt.chain, "transactions": transactions}
    )


# Reading: each raises MalformedError that names the field ------------------------------------------------------------------


def read_order(content: bytes) -> tuple[str, str]:
    """Chain and statement of an ORDER."""
    fields = Fields.of(content)
    return fields.text("chain"), fields.text("statement")


def read_attachment(content: bytes) -> tuple[bytes, ...]:
    """The signed transactions of an ATTACHMENT, as the party wrote them."""
    transactions = Fields.of(content).texts("transactions")
    if len(transactions) > MAXIMUM_TRANSACTIONS:
        raise MalformedError(
            f"an attachment has at most {MAXIMUM_TRANSACTIONS} transactions; this one has {len(transactions)}"
        )
    return tuple(read_hexadecimal(text, "transactions") for text in transactions)


def read_report(content: bytes) -> Report:
    """A CHECK's or READY's content."""
    fields = Fields.of(content)
    return Report(
        fields.text("chain"),
        fields.texts("missing"),
        fields.each("problems", _read_problem),
        fields.each("findings", _read_finding),
    )


def read_consent(content: bytes) -> Hash:
    """The digest that a CONSENT or a RELEASE names."""
    return Hash(Fields.of(content).hexadecimal("report", 32))


def read_broadcast(content: bytes) -> Broadcast:
    """A BROADCAST's content."""
    fields = Fields.of(content)
    return Broadcast(
        parse_transaction_id(fields.text("deal")),
        fields.text("chain"),
        Hash(fields.hexadecimal("report", 32)),
        fields.each(
            "transactions",
            lambda each: Released(each.text("party"), each.binary("hash"), each.binary("raw")),
        ),
    )


def read_receipt(content: bytes) -> ChainReceipt:
    """A RECEIPT's content."""
    fields = Fields.of(content)
    return ChainReceipt(
        parse_transaction_id(fields.text("deal")),
        fields.text("chain"),
        fields.each("transactions", _read_landing),
    )


def _read_problem(fields: Fields) -> Problem:
    return Problem(fields.text("reason"), fields.text("detail"))


def _read_finding(fields: Fields) -> Finding:
    return Finding(
        fields.text("party"),
        MessageId(fields.hexadecimal("message", 32)),
        fields.each("problems", _read_problem),
        fields.each("transactions", _read_promise),
    )


def _read_promise(fields: Fields) -> Promise:
    return Promise(
        Hash(fields.hexadecimal("digest", 32)),
        fields.binary("hash"),
        fields.text("account"),
        fields.whole("nonce"),
        fields.optional("to", fields.text),
        fields.amount("value"),
        fields.binary("data"),
        fields.whole("gas"),
        fields.amount("max_fee"),
    )


def _read_landing(fields: Fields) -> Landing:
    return Landing(
        fields.text("party"),
        fields.binary("hash"),
        fields.text("outcome"),
        fields.optional("block", fields.whole),
        fields.optional("block_hash", fields.binary),
        fields.whole("confirmations"),
        fields.optional("gas_used", fields.whole),
        fields.text("detail"),
    )


def _hexadecimal(value: bytes) -> str:
    return f"0x{value.hex()}"


def _written(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()
