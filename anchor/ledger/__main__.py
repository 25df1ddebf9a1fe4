"""``python -m anchor.ledger``: the service that withholds signed chain transactions until their deal finishes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Final

import structlog

from anchor.endpoints import Endpoints
from anchor.ledger.chain import EvmLedger
from anchor.ledger.desk import LedgerDesk
from anchor.ledger.settings import LedgerSettings
from parley.client import Participant, connect
from parley.custody import Signatory, load_signatory
from parley.errors import DirectoryError, ParleyError, TransportError
from parley.grants import KeyRing
from parley.kafka import KafkaTransport
from parley.keys import EncryptionKey
from parley.private_files import read_private
from streams.runtime import Stop, run_service

STARTED: Final = "ledger.started"
WAITING: Final = "ledger.waiting"

_SECRET_OF: Final = b"the ids of the receipts that this key's ledger service opens"
_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0

log = structlog.get_logger()


def run(settings: LedgerSettings, stop: Stop) -> None:
    """Serve until stopped. Raises ParleyError where going on would be wrong or pointless."""
    asyncio.run(_serve(settings, stop))


async def _serve(settings: LedgerSettings, stop: Stop) -> None:
    """One connection after another: a lost one, or a directory that does not list us yet, is waited out."""
    key = load_signatory(settings.key)
    ring = KeyRing([EncryptionKey(read_private(path)) for path in settings.encryption_keys])
    stopping = asyncio.create_task(_until(stop))
    pause = _PAUSE
    while not stop.is_set():
        me = connect(
            KafkaTransport(settings.access()),
            participant=settings.participant,
            key=key,
            registrar=bytes.fromhex(settings.registrar_key),
            decryptor=ring,
        )
        life = asyncio.create_task(_live(settings, me, key))
        await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not life.done():
            life.cancel()  # what is not done with is taken again in the next life
            with suppress(asyncio.CancelledError):
                await life
            return
        error = _cause(life.exception())
        if not isinstance(error, DirectoryError | TransportError):
            stop.set()
            raise error
        log.warning(WAITING, detail=str(error), seconds=pause)
        await asyncio.wait({stopping}, timeout=pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _live(settings: LedgerSettings, me: Participant, key: Signatory) -> None:
    endpoints = Endpoints(settings.endpoints, settings.chain_id, settings.rpc_timeout)
    policy = settings.policy()
    async with me:
        log.info(STARTED, participant=settings.participant, chain=settings.chain, open_deals=len(me.deals))
        await LedgerDesk(me, EvmLedger(endpoints, policy.confirmations), policy, key.sign(_SECRET_OF)).run()


async def _until(stop: Stop) -> None:
    while not await asyncio.to_thread(stop.wait, 1.0):
        pass


def _cause(error: BaseException | None) -> BaseException:
    """The first of what went wrong side by side."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error or ParleyError("the connection ended without a reason; start the service again")


def main() -> int:
    """The exit code of the service."""
    return run_service("ledger", LedgerSettings, run)


if __name__ == "__main__":
    sys.exit(main())
