"""The monitor's one file: figures for people, and the cursor they reach to, replaced together; what they mean is the core's.

No key is ever in it: where keys to what goes on still have to be learnt from is kept, and they are learnt there again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from firehose.contents import Traded
from firehose.core import Figures, Instrument, Open, waiting
from parley.errors import CursorError, WireError
from parley.firehose import Cursor, Position
from parley.schemas import Hash, TransactionId, TransactionState, decode, encode

__all__ = ["StateFile", "Watched"]

_FORMAT = 3


class Watched(NamedTuple):
    """Figures, and up to where on each pipeline they count."""

    figures: Figures
    cursor: Cursor
    keys_from: Mapping[int, int] = MappingProxyType({})
    """By pipeline, the offset of the oldest event that granted a key which may still be needed."""


class StateFile:
    """JSON: ``figures`` (see `firehose.core.Figures`), ``cursor`` and ``keys_from`` by pipeline, ``open`` transactions by id: each its
    state in hexadecimal Avro, since when those due are due, and what it trades.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Watched:
        """What was saved last, or nothing yet.

        Raises:
            CursorError: the file is not one of ours.

        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Watched(Figures(), {})
        except (OSError, UnicodeDecodeError) as error:
            raise CursorError(f"{self._path} cannot be read: {error}") from error
        try:
            state = json.loads(text)
            if state["format"] != _FORMAT:
                raise CursorError(
                    f"{self._path} has format {state['format']}, and this software reads {_FORMAT}; move it away to follow from"
                    " the start"
                )
            return Watched(
                _read_figures(state["figures"], state["open"]),
                _read_cursor(state["cursor"]),
                {int(pipeline): int(offset) for pipeline, offset in state["keys_from"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError, InvalidOperation, WireError) as error:
            raise CursorError(
                f"{self._path} is not a monitor's state ({error!r}); move it away to follow from the start"
            ) from error

    def save(self, watched: Watched) -> None:
        """Replace the file whole; on disk when this returns.

        Raises:
            CursorError: it cannot be written.

        """
        figures, cursor, keys_from = watched
        state = {
            "format": _FORMAT,
            "figures": _figures_row(figures),
            "cursor": {
                str(pipeline): {**at._asdict(), "chain": at.chain.hex()}
                for pipeline, at in sorted(cursor.items())
            },
            "keys_from": {str(pipeline): offset for pipeline, offset in sorted(keys_from.items())},
            "open": {
                identity.hex(): [
                    encode(state).hex(),
                    since,
                    [trade.isin, trade.currency, _text(trade.amount)],
                ]
                for identity, (state, since, trade) in figures.open.items()
            },
        }
        draft = self._path.with_name(self._path.name + ".new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(state, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            raise CursorError(
                f"{self._path} cannot be written: {error.strerror}; free space or choose another path"
            ) from error


def _figures_row(figures: Figures) -> dict[str, object]:
    return {
        "events": figures.events,
        "messages": figures.messages,
        "opened": figures.opened,
        "open": len(figures.open),
        "unreadable": figures.unreadable,
        "private": figures.private,
        "unread": figures.unread,
        "outcomes": figures.outcomes,
        "waiting_on": figures.waiting_on,
        "waiting": {name: held._asdict() for name, held in sorted(waiting(figures).items())},
        "kinds": figures.kinds,
        "instruments": {
            isin: {
                "outcomes": instrument.outcomes,
                "settled": {currency: _text(amount) for currency, amount in instrument.settled.items()},
            }
            for isin, instrument in sorted(figures.instruments.items())
        },
    }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


def _read_figures(
    row: dict[str, object], still_open: dict[str, tuple[str, int, tuple[str | None, str | None, str | None]]]
) -> Figures:
    known = {name: row[name] for name in ("events", "messages", "opened", "unreadable", "private")}
    counts = {name: row[name] for name in ("outcomes", "waiting_on", "kinds", "unread")}
    instruments = row["instruments"]
    if not isinstance(instruments, dict):
        raise TypeError("instruments")
    return Figures(
        **known,  # type: ignore[arg-type]
        **counts,  # type: ignore[arg-type]
        instruments={
            isin: Instrument(
                value["outcomes"],
                {currency: Decimal(amount) for currency, amount in value["settled"].items()},
            )
            for isin, value in instruments.items()
        },
        open={
            TransactionId(bytes.fromhex(identity)): Open(
                decode(bytes.fromhex(state), TransactionState),
                int(since),
                Traded(isin, currency, None if amount is None else Decimal(amount)),
            )
            for identity, (state, since, (isin, currency, amount)) in still_open.items()
        },
    )


def _read_cursor(rows: dict[str, dict[str, int | str]]) -> Cursor:
    return {
        int(pipeline): Position(
            int(row["sequence"]), Hash(bytes.fromhex(str(row["chain"]))), int(row["offset"])
        )
        for pipeline, row in rows.items()
    }
