"""What everything is measured against: libsodium's Ed25519 verification with as many threads as there are cores."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

from parley.keys import SignatureClaim, SigningKey, verify_batch

__all__ = ["verifications_per_second"]

_MESSAGE_BYTES = 512
_BATCH = 2_000


def verifications_per_second(seconds: float = 3.0) -> float:
    """Signatures over 512 bytes verified a second, all cores at it."""
    key, message = SigningKey.generate(), os.urandom(_MESSAGE_BYTES)
    claims = [SignatureClaim(key.public, message, key.sign(message))] * _BATCH
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as executor:
        begin, verified = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            assert all(verify_batch(claims, executor, threads))
            verified += _BATCH
        return verified / (time.perf_counter() - begin)
