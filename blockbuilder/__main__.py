"""``python -m blockbuilder``: the block builder."""

from __future__ import annotations

import sys

from blockbuilder.service import SERVICE, run
from blockbuilder.settings import BuilderSettings
from streams.runtime import run_service

sys.exit(run_service(SERVICE, BuilderSettings, run))
