"""`python -m router`: one router process."""

from __future__ import annotations

import sys

from router.service import SERVICE, run
from router.settings import RouterSettings
from streams.runtime import run_service

sys.exit(run_service(SERVICE, RouterSettings, run))
