"""Checkpoints onto chains, and what became of them; which checkpoint there is, is the block builder's affair."""

from __future__ import annotations

import sys
from contextlib import suppress

# A package under web3 raises the interpreter's recursion limit to 100,000 when it is imported, far beyond what the stack
# holds: hostile JSON, nested deep enough, would then end the process instead of raising RecursionError. It is imported
# here first, and the limit is put back.
_limit = sys.getrecursionlimit()
with suppress(ImportError):
    import py_ecc  # noqa: F401
sys.setrecursionlimit(_limit)
