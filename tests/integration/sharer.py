"""One of several processes of a bank: takes what others open, answers it, and says on standard output which transaction it was.

Started with ``holding``, it takes what says "hold" and never deals with it, until it is killed.
"""

import asyncio
import os
import sys

import parley
from parley.errors import ElsewhereError
from parley.identifiers import transaction_text
from parley.kafka import KafkaAccess, KafkaTransport
from tests.synthetic_ledger import signing_key


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def share(bootstrap: str, name: str, registrar: str, manner: str) -> None:
    access = KafkaAccess(bootstrap, name, os.environ["PARLEY_TEST_PASSWORD"])
    me = parley.connect(
        KafkaTransport(access), participant=name, key=signing_key(name), registrar=bytes.fromhex(registrar)
    )
    async with me:
        say("ready")
        async for deal in me.opened():
            say("took", transaction_text(deal.id))
            if manner == "holding" and deal.messages[0].text == "hold":
                await asyncio.Event().wait()
            try:
                await deal.send("yes")
            except ElsewhereError:
                say("lost", transaction_text(deal.id))


if __name__ == "__main__":
    asyncio.run(share(*sys.argv[1:]))
