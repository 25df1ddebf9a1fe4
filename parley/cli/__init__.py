"""The command ``parley``: what a participant, a regulator or an auditor does from a terminal."""

from __future__ import annotations

from parley.cli.main import main

__all__ = ["main"]
