"""Purges of a synthetic ledger: an operator's statements on its record, and what a purged store must not hold any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import fastavro

from blockbuilder.purge import main
from parley.envelope import seal
from parley.erasure import ERASURE_KIND, PURGE_TYPE, target_of
from parley.keys import SigningKey
from parley.lookup import Lookup
from parley.schemas import FinishRule, Purge, PurgeTarget, encode
from tests.fix_ledger import LOG, SealedLedger
from tests.synthetic_ledger import Deal, signing_key

OPERATOR, REGULATOR = "operator", "regulator"
REASON = "GDPR Art. 17"
REQUESTED_BY = "data protection authority, case 7"


def admit_operator(made: SealedLedger) -> None:
    """The operator and the regulator join."""
    made.ledger.admit(OPERATOR, "OPERATOR")
    made.ledger.admit(REGULATOR, "REGULATOR")


def target(made: SealedLedger, deal: Deal, *messages: int) -> PurgeTarget:
    """These messages of a sealed deal, or all."""
    lookup = Lookup(made.store())
    place = lookup.transaction(deal.id)
    return target_of(lookup.store.block(place.height).transactions[place.leaf_index], messages)


def state(
    made: SealedLedger,
    *targets: PurgeTarget,
    operator: str = OPERATOR,
    keys: Sequence[SigningKey] = (),
    kind: str = ERASURE_KIND,
    content_type: str = PURGE_TYPE,
    payload_type: str = PURGE_TYPE,
    reason: str = REASON,
    rule: FinishRule = "ANY",
    content: bytes | None = None,
) -> Deal:
    """A purge statement on the firehose, finished by its operator alone; not sealed yet."""
    ledger = made.ledger
    purge = Purge(targets, reason, REQUESTED_BY, ledger.now)
    signed = seal(payload_type, purge, *(keys or (signing_key(operator),)))
    other = REGULATOR if operator != REGULATOR else OPERATOR
    before, ledger.content_type = ledger.content_type, content_type
    try:
        deal = ledger.open(
            1, (operator, other), kind=kind, rule=rule, content=encode(signed) if content is None else content
        )
        ledger.content_type = "text/plain"
        deal.say(operator, "FINISH")
    finally:
        ledger.content_type = before
    return deal


def arguments(made: SealedLedger, *which: str) -> list[str]:
    """The command line of a purge of the ledger's store."""
    log_key = made.folder.parent / "log.vkey"
    log_key.write_text(f"{LOG.verifier_key}\n")
    registrar = made.ledger.registrar.public.hex()
    return [str(made.folder), "--log-key", str(log_key), "--registrar", registrar, *which]


def purge(made: SealedLedger, *which: str) -> int:
    """Run the command in this process."""
    return main(arguments(made, *(which or ("--all",))))


def contents(folder: Path) -> Iterator[bytes]:
    """Every byte string in a store's files: the files as they are, and what is compressed in block files."""
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield data
            if data[:4] == b"Obj\x01":
                for row in fastavro.reader(BytesIO(data)):
                    assert isinstance(row, dict)
                    yield row["leaf"]
                    yield from row["events"]


def holds(folder: Path, body: bytes) -> bool:
    """Whether a body can be found anywhere in a store."""
    return any(body in found for found in contents(folder))
