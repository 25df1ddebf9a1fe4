"""Where ``parley`` begins and ends: loads the command asked for and no other, and turns errors into one line and an exit code.

0: done, and good. 1: refused, not verified, or not reachable. 2: the command line itself is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from parley.cli.output import complain
from parley.errors import ParleyError

__all__ = ["main"]

COMMANDS = {
    "keygen": "keys",
    "keys": "keys",
    "join": "joining",
    "registrar": "registrar",
    "rotate": "rotating",
    "revoke": "changing",
    "address": "changing",
    "account": "accounts",
    "sign": "changing",
    "who": "who",
    "send": "messages",
    "inbox": "messages",
    "waiting": "waiting",
    "dvp": "dvp",
    "otc": "otc",
    "channel": "channels",
    "disclose": "disclosing",
    "watch": "watching",
    "tx": "transactions",
    "verify": "verification",
    "receipt": "receipts",
    "audit": "auditing",
    "erase": "erasing",
    "operator": "operator",
}
"""Each command and the module that holds it, in the order of the help text."""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application with the command that the arguments name; with all of them where they name none."""
    app = typer.Typer(
        name="parley",
        help="Negotiate, watch and verify on a Parley ledger. Errors are one line on standard error; exit code 0 is good.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_keep_names)
    wanted = arguments[0] if arguments and arguments[0] in COMMANDS else None
    modules = dict.fromkeys(COMMANDS.values()) if wanted is None else (COMMANDS[wanted],)
    for module in modules:
        import_module(f"parley.cli.{module}").register(app)
    return app


def _keep_names() -> None:
    """Keeps the command's name on the command line even where only one command is loaded."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``parley`` and give its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        build(arguments)(list(arguments), prog_name="parley")
    except ParleyError as error:
        complain(str(error))
        return 1
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    return 0
