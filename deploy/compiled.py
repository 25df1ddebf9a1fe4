"""Builds a copy of the router's packages in which the path of a message is machine code; the sources stay what is true.

mypyc, which comes with mypy, compiles them as they are. It needs a C compiler and fetches nothing; where there is none the
router runs interpreted. Only what runs for others is compiled (`make up`, `make bench`): whoever changes the code runs it as
it stands.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.errors import SetupError
from deploy.folder import CHECKOUT, RUNTIME
from deploy.setup import Part, alone
from parley.schemas import (
    DeliveryBatch,
    Envelope,
    FirehoseEvent,
    Message,
    PipelineState,
    Receipt,
    TransactionState,
)
from parley.schemas.codec import source_of

__all__ = ["HOT_MODULES", "compiled_root", "compiled_tree", "main", "require_compiler"]

PACKAGES: Final = ("parley", "streams", "router")
"""What a router process imports of ours."""

HOT_CONTRACTS: Final = (
    Envelope,
    Message,
    FirehoseEvent,
    Receipt,
    DeliveryBatch,
    TransactionState,
    PipelineState,
)
"""What is read or written for each message; the codec makes the others' functions when it is imported."""

HOT_CODEC: Final = "parley/schemas/compiled.py"
"""Where the codec looks for their functions."""

HOT_MODULES: Final = (
    HOT_CODEC,
    "parley/schemas/codec.py",
    "parley/directory.py",
    "parley/envelope.py",
    "parley/firehose.py",
    "parley/keys.py",
    "parley/lifecycle.py",
    "parley/merkle.py",
    "parley/receipts.py",
    "router/core.py",
    "router/counting.py",
    "router/handler.py",
    "streams/state.py",
    "streams/timers.py",
)
"""What runs for each message. Left out is what gained nothing that could be measured (`parley.steps`, `parley.identifiers`,
`router.quotas`), and `streams.tally`: a compiled class takes no weak references.
"""

# Annotations say all that is needed of other modules, and no setting of ours or of the user's is to change what is built.
_OPTIONS: Final = ("--config-file=", "--follow-imports=silent", "--ignore-missing-imports")
# The second level of optimisation takes the compiler twice as long and gains nothing that could be measured.
_SETTINGS: Final = {"MYPYC_OPT_LEVEL": "1", "MYPYC_DEBUG_LEVEL": "0"}
_LEFT_BEHIND: Final = ("build", ".mypy_cache")
_COMPILERS: Final = ("cc", "gcc", "clang")


def main() -> int:
    """Build the tree if it is not of the present sources; the exit code, 0 also where that cannot be, which is told."""
    part = compiled_tree()
    if part.done():
        return 0
    try:
        require_compiler()
        with alone(RUNTIME / ".lock"):
            if not part.done():
                _show(part)
    except (SetupError, OSError) as error:
        print(f"  The router runs interpreted, which is slower: {error}")
    except KeyboardInterrupt:
        print("\nCompiling was interrupted; the next run begins anew.", file=sys.stderr)
        return 130
    return 0


def compiled_root(checkout: Path = CHECKOUT, runtime: Path = RUNTIME) -> Path:
    """Where to run the router from: the compiled tree if it is of the present sources, the checkout if it is not."""
    part = compiled_tree(checkout, runtime)
    return part.path if part.done() else checkout


def compiled_tree(checkout: Path = CHECKOUT, runtime: Path = RUNTIME) -> Part:
    """The tree as a part of the runtime folder, with the digest of all that it is built from."""
    return Part(
        "the router, compiled",
        runtime / "compiled",
        _digest(checkout),
        lambda draft, progress: _build(checkout, draft, progress),
    )


def require_compiler() -> str:
    """The C compiler to use.

    Raises:
        SetupError: there is none, or Python's headers are missing.
    """
    configured = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    candidates = (shlex.split(configured)[0], *_COMPILERS)
    compiler = next((name for name in candidates if shutil.which(name)), None)
    if compiler is None:
        raise SetupError(
            "there is no C compiler. To have it compiled, install one (Debian: apt install gcc)."
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
        raise SetupError(f"{headers} has no Python.h. To have it compiled, install {package}.")
    return configured if compiler == candidates[0] else compiler


def _show(part: Part) -> None:
    columns = (TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(highlight=False), transient=True) as progress:
        progress.console.print("  compiling the router; once, until its sources change …")
        part.run(progress)


def _build(checkout: Path, draft: Path, progress: Progress) -> None:
    task = progress.add_task("compiling the router", total=None)
    for name, source in _sources(checkout):
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, draft / name)
    (draft / HOT_CODEC).write_text(source_of(HOT_CONTRACTS), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-P", "-m", "mypyc", *_OPTIONS, *HOT_MODULES],
        cwd=draft,
        env=os.environ | _SETTINGS | {"CC": require_compiler()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    progress.remove_task(task)
    if result.returncode != 0:
        raise SetupError(f"it cannot be compiled:\n{result.stdout[-3000:]}")
    for name in _LEFT_BEHIND:
        shutil.rmtree(draft / name, ignore_errors=True)


def _sources(checkout: Path) -> list[tuple[str, Path]]:
    """Every file of the packages, by its name in the tree, in order; `parley/schemas` is a link in the checkout and a folder here."""
    folders = [checkout / package for package in PACKAGES] + [checkout / "parley" / "schemas"]
    return sorted(
        (str(file.relative_to(checkout)), file)
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    )


def _digest(checkout: Path) -> str:
    """Of the sources, of this module, which says what is done with them, of mypy, and of the Python that is to load the result."""
    digest = hashlib.sha256(f"{sys.version} {sysconfig.get_config_var('SOABI')} {version('mypy')}".encode())
    for name, source in [*_sources(checkout), ("", Path(__file__))]:
        content = source.read_bytes()
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
