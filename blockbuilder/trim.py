"""``python -m blockbuilder.trim``: deletes the past of the topics that anchored blocks have made superfluous.

Kafka deletes no single record, only everything before one. So what was purged from the block store goes from the topics
with everything before it, as far as ``blockbuilder.past`` allows; or with time, as the catalogue's retention has it. The
connection's user must be a super user: no service may delete records. It is told as every service is, by ``PARLEY_TRIM_…``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from blockbuilder.progress import progress
from blockbuilder.trimmer import Cut, Trimmer
from parley.blocks import BlockStore, from_folder
from parley.erasure import read_statement
from parley.errors import ParleyError
from parley.identifiers import parse_transaction_id
from parley.lookup import Lookup
from parley.note import parse_verifier_key
from streams.settings import ServiceSettings

__all__ = ["TrimSettings", "main"]


class TrimSettings(ServiceSettings):
    """Of ``python -m blockbuilder.trim``."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_TRIM_")

    delivery_group: str = "delivery/deliveries"
    """The consumer group of the delivery stage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command: 0 done, 1 refused (told in one line), 2 a wrong command line or setting."""
    parser = argparse.ArgumentParser(prog="python -m blockbuilder.trim", description=__doc__)
    parser.add_argument("store", type=Path, help="the block store's folder")
    parser.add_argument("--log-key", type=Path, required=True, help="file with the log's verifier key")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="as far as may be, on every pipeline")
    which.add_argument(
        "--statement",
        help="as far as everything goes that this erasure transaction names; refused if it may not",
    )
    which.add_argument(
        "--before",
        action="append",
        type=_place,
        metavar="PIPELINE:EVENT",
        help="everything before this event; refused if it may not go; repeatable",
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would go, and delete nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        return _run(options, TrimSettings())
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            print(f"trim: setting {name}: {problem['msg']}", file=sys.stderr)
        return 2
    except ParleyError as error:
        print(f"trim: {error}", file=sys.stderr)
    except OSError as error:
        print(f"trim: {error.filename}: {error.strerror}; see the path and who may read it", file=sys.stderr)
    return 1


def _place(text: str) -> tuple[int, int]:
    pipeline, _, sequence = text.partition(":")
    return int(pipeline), int(sequence)


def _run(options: argparse.Namespace, settings: TrimSettings) -> int:
    key = parse_verifier_key(options.log_key.read_text(encoding="utf-8", errors="replace").strip())
    store = BlockStore(from_folder(options.store), key)
    trimmer = Trimmer(settings.connection(), options.store, store, settings.delivery_group)
    wanted = None if options.all else dict(options.before or _named(store, options.statement))
    with progress(quiet=options.json) as tell:
        cuts = trimmer.cuts(wanted, tell)
        if not options.dry_run:
            trimmer.delete(cuts)
    if options.json:
        print(json.dumps({"dry_run": options.dry_run, "cuts": [_row(cut) for cut in cuts]}))
        return 0
    doing = "would go" if options.dry_run else "are gone"
    for cut in cuts:
        print(
            f"pipeline {cut.pipeline}: {cut.bound.deleted} events before event {cut.bound.sequence} {doing};"
            f" {cut.bound.reason}"
        )
    if not cuts:
        print("nothing may go, or nothing is left to go")
    return 0


def _named(store: BlockStore, statement: str) -> dict[int, int]:
    """The first event that stays, by pipeline, once all that a statement names is gone."""
    lookup = Lookup(store)
    place = lookup.transaction(parse_transaction_id(statement))
    after: dict[int, int] = {}
    for pipeline, listed in read_statement(store.block(place.height).transactions[place.leaf_index]).named():
        after[pipeline] = max(after.get(pipeline, 0), listed.sequence + 1)
    return after


def _row(cut: Cut) -> dict[str, object]:
    return {
        "pipeline": cut.pipeline,
        "first_event_kept": cut.bound.sequence,
        "events_deleted": cut.bound.deleted,
        "reason": cut.bound.reason,
        "offsets": {topic: offset for (topic, _), offset in sorted(cut.offsets.items())},
    }


if __name__ == "__main__":
    sys.exit(main())
