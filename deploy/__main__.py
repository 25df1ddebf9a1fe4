"""``python -m deploy up|status|logs|down``: a backbone that stays, in ``.parley/stack`` of the checkout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from deploy.errors import NotRunningError
from deploy.folder import CHECKOUT, StackFolder
from deploy.process import last_lines
from deploy.resident import PartStatus, part_statuses, start_resident, stop_resident
from parley.errors import ParleyError


def main() -> int:
    """The exit code of the command."""
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=CHECKOUT / ".parley" / "stack", help="where it keeps everything"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the backbone, and return once it works")
    commands.add_parser("status", help="show each part; exit code 0 only if all are healthy")
    logs = commands.add_parser("logs", help="show the end of its logs")
    logs.add_argument("part", nargs="?", help="of this part only")
    logs.add_argument("--lines", type=int, default=10)
    commands.add_parser("down", help="stop the backbone; its data stays")
    commands.add_parser("run", help="be the backbone's process, in the foreground")
    options = parser.parse_args()
    folder = StackFolder(options.folder.resolve())
    actions: dict[str, Callable[[], int]] = {
        "up": lambda: _up(folder),
        "status": lambda: _status(folder),
        "logs": lambda: _logs(folder, options.part, options.lines),
        "down": lambda: _down(folder),
        "run": lambda: _run(folder),
    }
    try:
        return actions[options.command]()
    except ParleyError as error:
        print(error, file=sys.stderr)
    except ValidationError as error:
        for problem in error.errors():
            name = "".join(str(part) for part in problem["loc"]).upper()
            print(f"PARLEY_STACK_{name}: {problem['msg']}", file=sys.stderr)
    except OSError as error:
        print(f"{error}. Check the disk and who owns {folder.root}.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _up(folder: StackFolder) -> int:
    endpoints = start_resident(folder, tell=print)
    print(f"Kafka       {endpoints.kafka_bootstrap}  (user {endpoints.admin_username},")
    print(f"            password in {endpoints.admin_password_file})")
    if endpoints.postgres_dsn is not None:
        print(f"PostgreSQL  {endpoints.postgres_dsn}")
    print(f"chain       {endpoints.evm_rpc}")
    print("See it with 'make status' and 'make logs', stop it with 'make down'.")
    return 0


def _status(folder: StackFolder) -> int:
    statuses = part_statuses(folder)
    if not statuses:
        raise NotRunningError("No backbone runs here; start one with 'make up'.")
    table = Table(box=None, header_style="bold")
    for heading in ("part", "pid", "port", "up since", "healthy"):
        table.add_column(heading)
    for status in statuses:
        table.add_row(status.name, *_cells(status))
    Console().print(table)
    return 0 if all(status.healthy for status in statuses) else 1


def _cells(status: PartStatus) -> tuple[str, str, str, str]:
    return (
        str(status.pid or "-"),
        str(status.port or "-"),
        f"{status.since:%Y-%m-%d %H:%M:%S}" if status.since is not None else "-",
        "[green]yes[/green]" if status.healthy else f"[red]no: {status.problem}[/red]",
    )


def _logs(folder: StackFolder, part: str | None, lines: int) -> int:
    files = sorted(folder.logs.glob("*.log"))
    if part is not None:
        files = [file for file in files if file.stem == part]
    if not files:
        known = ", ".join(sorted(file.stem for file in folder.logs.glob("*.log"))) or "none yet"
        raise NotRunningError(f"There is no such log; there are: {known}.")
    for file in files:
        print(f"== {file}")
        print("\n".join(last_lines(file, lines)))
    return 0


def _down(folder: StackFolder) -> int:
    try:
        stop_resident(folder)
    except NotRunningError as nothing:
        print(nothing)
    else:
        print(f"Stopped. Its data stays in {folder.root}.")
    return 0


def _run(folder: StackFolder) -> int:
    from deploy.supervisor import supervise  # noqa: PLC0415 - the others need not wait for the chain's client

    return supervise(folder)


if __name__ == "__main__":
    raise SystemExit(main())
