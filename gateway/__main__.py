"""``python -m gateway``: keeps PostgreSQL up to date with the topics; ``--rebuild`` drops what it has and begins anew."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from gateway.service import SERVICE, run
from gateway.settings import GatewaySettings
from streams.runtime import run_service

parser = argparse.ArgumentParser(prog=SERVICE, add_help=False)
parser.add_argument("--rebuild", action="store_true")
ours, others = parser.parse_known_args()
sys.exit(run_service(SERVICE, GatewaySettings, partial(run, rebuild=ours.rebuild), others))
