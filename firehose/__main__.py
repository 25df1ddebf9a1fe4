"""``python -m firehose``: a regulator's monitor, whose Kafka user need read nothing but the firehose."""

from __future__ import annotations

import sys

from firehose.service import SERVICE, run
from firehose.settings import MonitorSettings
from streams.runtime import run_service

sys.exit(run_service(SERVICE, MonitorSettings, run))
