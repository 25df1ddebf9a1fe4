"""``python -m parley.cli``: the same as ``parley``."""

from __future__ import annotations

import sys

from parley.cli.main import main

sys.exit(main())
