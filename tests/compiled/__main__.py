"""`python -m tests.compiled`: tests of what is compiled, on the compiled tree; takes pytest's options.

The tree comes before the checkout on the path, and nothing may come before the tree: neither the working folder nor what
pytest would put there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from deploy.compiled import compiled_root, require_compiler
from deploy.errors import SetupError
from deploy.folder import CHECKOUT
from tests.compiled.replay import import_path

PROOFS: Final = ("compiled/proof_of_build.py", "compiled/proof_of_equality.py")
"""Named so that they are collected only where they are asked for."""
# Of what is compiled; the router's restarts and refusals are most of what may go wrong in it.
SHARED: Final = (
    "unit/test_directory.py",
    "unit/test_directory_changes.py",
    "unit/test_envelope.py",
    "unit/test_firehose_follower.py",
    "unit/test_key_validity.py",
    "unit/test_keys.py",
    "unit/test_merkle.py",
    "unit/test_receipts.py",
    "unit/test_router_grants.py",
    "unit/test_router_quotas.py",
    "unit/test_router_receipts.py",
    "unit/test_router_refusals.py",
    "unit/test_router_restart.py",
    "unit/test_router_sealed.py",
    "unit/test_router_time.py",
    "unit/test_schemas.py",
    "unit/test_streams_state.py",
    "unit/test_streams_timers.py",
    "property/test_codec_properties.py",
    "property/test_directory_model.py",
    "property/test_lifecycle_model.py",
    "property/test_merkle_properties.py",
    "property/test_router_model.py",
    "property/test_router_recovery.py",
)

REPLACING: Final = (
    "unit/test_router_time.py::test_deadlines_of_many_at_one_moment_end_them_in_several_commits",
)
"""Tests that put another value in a constant's place, which machine code does not look up."""


def main() -> int:
    """pytest's exit code; 0, with a line that says so, where nothing can be compiled."""
    root = compiled_root()
    if root == CHECKOUT:
        try:
            require_compiler()
        except SetupError as missing:
            print(f"The compiled router is not tested: {missing}")  # noqa: T201 - for whoever runs the tests
            return 0
        print("There is no compiled tree of the present sources; run 'make compile'.", file=sys.stderr)  # noqa: T201
        return 1
    tests = [f"tests/{name}" for name in (*PROOFS, *SHARED)]
    left_out = [f"--deselect=tests/{name}" for name in REPLACING]
    command = [sys.executable, "-m", "pytest", "--import-mode=append", *left_out, *sys.argv[1:], *tests]
    return subprocess.run(command, cwd=CHECKOUT, env=os.environ | import_path(root), check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
