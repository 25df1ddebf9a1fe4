"""``make demo``: the command line around a run, and its exit code."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from rich.console import Console

from deploy.demo.reference import institutions, select, trades
from deploy.folder import CHECKOUT
from parley.errors import ParleyError

if TYPE_CHECKING:
    from deploy.demo.run import Result

__all__ = ["main"]

_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EXIT_BAD: Final = 1
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every trade ended as its scenario says and everything was verified, 1 if not, 130 if interrupted."""
    options = _options(arguments)
    console = Console(stderr=options.json, highlight=False, soft_wrap=False)
    for number in _ENDING_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        result = _run(options, console)
    except ParleyError as error:
        console.print(f"\nThe demonstration stopped: {error}", markup=False)
        if any((options.folder / "logs").glob("*.log")):
            console.print(f"The logs are in {options.folder / 'logs'}.", markup=False)
        return EXIT_BAD
    except OSError as error:
        console.print(f"\nThe demonstration stopped: {error}. Check disk and memory.", markup=False)
        return EXIT_BAD
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything is stopped.")
        return EXIT_INTERRUPTED
    return 0 if result.good else EXIT_BAD


def _run(options: argparse.Namespace, console: Console) -> Result:
    everybody, chosen = institutions(), select(trades(), options.trades)
    banks = sum(each.role == "bank" for each in everybody)
    console.print(f"Parley: {len(chosen)} trades between {banks} banks, on a backbone of their own\n")
    # Loading what follows takes seconds, and people should see at once that something happens.
    from deploy.demo.command import shown  # noqa: PLC0415
    from deploy.demo.folder import DemoFolder  # noqa: PLC0415
    from deploy.demo.run import perform  # noqa: PLC0415
    from deploy.demo.screen import Screen  # noqa: PLC0415
    from deploy.demo.summary import print_summary, summary_row  # noqa: PLC0415
    from deploy.demo.venue import Pace  # noqa: PLC0415

    folder, screen = DemoFolder(options.folder.resolve()), Screen(console)
    pace = Pace(options.rate, options.deadline)
    with folder.taken(keep=options.keep):
        result = perform(folder, everybody, chosen, pace, screen)
        row = json.dumps(summary_row(result), indent=2, ensure_ascii=False)
        folder.summary.write_text(f"{row}\n", encoding="utf-8")
    if options.json:
        print(row)  # noqa: T201 - what was asked for
    else:
        print_summary(result, console)
        screen.say()
        verdict = (
            "Everything is as it must be."
            if result.good
            else "NOT everything is as it must be; see the marks above."
        )
        screen.say(f"{verdict} It took {result.seconds['total']:.0f} s; see {shown(folder.root)}.")
    return result


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # Stopping everything takes seconds; a second signal must not cut that short.
    for number in _ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo",
        description="Run real negotiations between banks on a backbone of their own, and verify what came of them.",
    )
    parser.add_argument(
        "--trades", type=_count, default=600, help="how many of the 600 trades (default: all)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=CHECKOUT / ".parley" / "demo",
        help="where everything goes (default: .parley/demo)",
    )
    parser.add_argument(
        "--deadline", type=_seconds, default=25.0, help="seconds each trade may take (default: 25)"
    )
    parser.add_argument(
        "--rate", type=_seconds, default=40.0, help="trades opened a second at most (default: 40)"
    )
    parser.add_argument("--json", action="store_true", help="print summary.json instead of the summary")
    parser.add_argument("--keep", action="store_true", help="keep the broker's data, the chain, and all keys")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("expected a number of trades, at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 86_400:
        raise argparse.ArgumentTypeError("expected a number more than 0 and less than 86400")
    return number


if __name__ == "__main__":
    sys.exit(main())
