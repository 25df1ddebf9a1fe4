"""``python -m blockbuilder.purge``: takes out of a block store the bodies that statements on the record name.

It needs no broker, and works on any copy of a store: with ``--all`` on one restored from an old copy, everything that was
ever purged is purged from it, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypedDict

from blockbuilder.eraser import BlockEraser
from blockbuilder.erasure import Spot, spots_of, without
from blockbuilder.progress import Tell, progress
from parley.blocks import BlockStore, SealedTransaction, from_folder
from parley.erasure import ERASURE_KIND, Statement, directory_of, prove_statement, told
from parley.errors import ErasureError, ParleyError
from parley.identifiers import parse_transaction_id
from parley.lookup import Lookup, Place
from parley.note import parse_verifier_key
from parley.schemas import StatementPlace

__all__ = ["Plan", "carry_out", "main", "plan_all", "plan_one"]


class Plan(NamedTuple):
    """What is to be purged."""

    statements: list[Statement]
    spots: dict[Spot, StatementPlace]
    """What still has a body, and on whose account it goes."""
    refused: list[str]
    """Why other erasures on the record name nothing, a sentence each."""


def plan_one(lookup: Lookup, registrar: bytes, transactions: Iterable[str]) -> Plan:
    """The plan that carries out the statements in these transactions.

    Raises:
        ErasureError: a statement does not count, or names what may not be purged.
        ProofError, DirectoryError: it is not in the store, or the store does not verify.

    """
    directory = directory_of(lookup.store, registrar)
    plan = Plan([], {}, [])
    for identity in map(parse_transaction_id, transactions):
        place = lookup.transaction(identity)
        _add(plan, lookup, place, prove_statement(_at(lookup, place), directory))
    return plan


def plan_all(lookup: Lookup, registrar: bytes, tell: Tell) -> Plan:
    """The plan that carries out every statement in the store that counts; those that do not are told in ``refused``.

    Raises:
        ProofError, DirectoryError: the store does not verify.

    """
    store = lookup.store
    directory = directory_of(store, registrar)
    plan = Plan([], {}, [])
    for height in range(len(store)):
        for index, sealed in enumerate(store.block(height).transactions):
            if sealed.record.kind == ERASURE_KIND:
                try:
                    statement = prove_statement(sealed, directory)
                    _add(plan, lookup, Place(height, index, len(sealed.events) - 1), statement)
                except ErasureError as error:
                    plan.refused.append(str(error))
        tell("reading blocks", height + 1, len(store))
    return plan


def _at(lookup: Lookup, place: Place) -> SealedTransaction:
    return lookup.store.block(place.height).transactions[place.leaf_index]


def _add(plan: Plan, lookup: Lookup, place: Place, statement: Statement) -> None:
    spots = spots_of(lookup, statement, place.height)
    plan.statements.append(statement)
    for spot in spots:
        plan.spots.setdefault(spot, statement.place)


def carry_out(plan: Plan, store: BlockStore, eraser: BlockEraser, tell: Tell) -> None:
    """Purge what the plan names, block by block; killed at any moment, the same again completes it.

    The eraser must have been held since before the store was read, or else what another purge took out comes back.

    Raises:
        StoreError: a block could not be replaced; those before it are.
        ProofError: a block does not verify, so it is left as it is.

    """
    by_height: defaultdict[int, dict[Spot, StatementPlace]] = defaultdict(dict)
    for spot, place in plan.spots.items():
        by_height[spot.height][spot] = place
    for done, (height, spots) in enumerate(sorted(by_height.items()), 1):
        eraser.replace(without(store.block(height), spots))
        tell("rewriting blocks", done, len(by_height))
    eraser.clear_staged(len(store))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command: 0 done, 1 refused (told in one line), 2 a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m blockbuilder.purge", description=__doc__)
    parser.add_argument("store", type=Path, help="the block store's folder")
    parser.add_argument("--log-key", type=Path, required=True, help="file with the log's verifier key")
    parser.add_argument("--registrar", required=True, help="the registrar's public key (hexadecimal)")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--statement", action="append", help="carry out this erasure transaction; repeatable")
    which.add_argument("--all", action="store_true", help="carry out every statement on the record")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be purged, and purge nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        registrar = bytes.fromhex(options.registrar)
    except ValueError:
        registrar = b""
    if len(registrar) != 32:
        parser.error("--registrar is a public key of 64 hexadecimal digits")
    try:
        return _run(options, registrar)
    except ParleyError as error:
        print(f"purge: {error}", file=sys.stderr)
    except OSError as error:
        print(f"purge: {error.filename}: {error.strerror}; see the path and who may read it", file=sys.stderr)
    return 1


def _run(options: argparse.Namespace, registrar: bytes) -> int:
    key = parse_verifier_key(options.log_key.read_text(encoding="utf-8", errors="replace").strip())
    with ExitStack() as held:
        tell = held.enter_context(progress(quiet=options.json))
        eraser = None if options.dry_run else held.enter_context(BlockEraser(options.store))
        lookup = Lookup(BlockStore(from_folder(options.store), key))
        if options.all:
            plan = plan_all(lookup, registrar, tell)
        else:
            plan = plan_one(lookup, registrar, options.statement)
        if eraser is not None:
            carry_out(plan, lookup.store, eraser, tell)
    result = _result(plan, dry_run=options.dry_run)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    for reason in plan.refused:
        print(f"purge: left alone: {reason}", file=sys.stderr)
    doing = "would be purged" if options.dry_run else "purged"
    print(
        f"{result['purged']} bodies {doing} from {len(result['blocks'])} blocks, {result['gone']} gone before"
    )
    return 0


class Result(TypedDict):
    dry_run: bool
    statements: list[dict[str, str | int]]
    blocks: list[int]
    purged: int
    gone: int
    refused: list[str]


def _result(plan: Plan, *, dry_run: bool) -> Result:
    named = {event for statement in plan.statements for event in statement.named()}
    return Result(
        dry_run=dry_run,
        statements=[told(statement) for statement in plan.statements],
        blocks=sorted({spot.height for spot in plan.spots}),
        purged=len(plan.spots),
        gone=len(named) - len(plan.spots),
        refused=plan.refused,
    )


if __name__ == "__main__":
    sys.exit(main())
