"""A bank's application that may die at any moment: opens deals, answers what comes, and keeps a journal of what it was told.

Run as a process of its own: ``python -m tests.trading``, told by the environment (see `Desk`). It goes on by itself where an
earlier life was killed: the open deals are inherited, and what was not acknowledged comes again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import parley
from parley.client import Participant
from parley.deal import Accepted, Deal, Received, TimedOut
from parley.errors import ElsewhereError, RefusedError
from parley.grants import KeyRing
from parley.identifiers import transaction_text
from parley.kafka import KafkaAccess, KafkaTransport
from parley.schemas import FinishRule, TransactionId
from tests.synthetic_ledger import encryption_key, signing_key

__all__ = ["READY", "Desk", "Journal", "Life"]

READY = "at work"
_PREFIX = "TRADING_"


@dataclass(frozen=True, slots=True)
class Desk:
    """What one life of the application is told."""

    bootstrap: str
    registrar: str
    """Public key in hexadecimal."""
    bank: str
    counterparties: str
    """Names, by commas."""
    journal: str
    opens_until: float
    """Seconds since the Unix epoch."""
    every: float
    """Seconds between openings."""

    def environment(self) -> dict[str, str]:
        return {f"{_PREFIX}{name.upper()}": str(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def read(cls) -> Self:
        told = {name: os.environ[f"{_PREFIX}{name.upper()}"] for name in cls.__slots__}
        return cls(
            told["bootstrap"],
            told["registrar"],
            told["bank"],
            told["counterparties"],
            told["journal"],
            float(told["opens_until"]),
            float(told["every"]),
        )

    def connect(self) -> Participant:
        return parley.connect(
            KafkaTransport(KafkaAccess(self.bootstrap, self.bank, f"password-of-{self.bank}")),
            participant=self.bank,
            key=signing_key(self.bank),
            registrar=bytes.fromhex(self.registrar),
            decryptor=KeyRing([encryption_key(self.bank)]),
            answer_within=600,
        )


# The journal -----------------------------------------------------------------------------------------------------------


class Life(NamedTuple):
    """What one life of the application was told, in order."""

    taken: list[tuple[int, int]]
    """Pipeline and sequence of each message that it took."""
    timed_out: list[tuple[str, tuple[str, ...]]]
    """Transaction and who was due."""
    accepted: dict[str, tuple[int, int]]
    """By message id, where a receipt says that it stands."""
    refused: dict[str, str]
    """By message id, the reason."""
    unverified: list[str]


class Journal:
    """A file with a line for each thing told, whole as soon as it is written, whatever kills its writer."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)

    def begin(self) -> None:
        """Open it, to go on with a new life."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.write("life", time.time_ns() // 1_000_000)

    def write(self, what: str, *facts: object) -> None:
        os.write(self._file, json.dumps([what, *facts]).encode() + b"\n")

    def lives(self) -> list[Life]:
        """What it holds, by life."""
        lives: list[Life] = []
        for what, *facts in self._lines():
            if what == "life":
                lives.append(Life([], [], {}, {}, []))
            elif what == "taken":
                lives[-1].taken.append((facts[0], facts[1]))
            elif what == "timed out":
                lives[-1].timed_out.append((facts[0], tuple(facts[1])))
            elif what == "accepted":
                lives[-1].accepted[facts[0]] = facts[1], facts[2]
            elif what == "refused":
                lives[-1].refused[facts[0]] = facts[1]
            else:
                lives[-1].unverified.append(facts[0])
        return lives

    def _lines(self) -> Iterator[list[Any]]:
        if self._path.exists():
            yield from map(json.loads, self._path.read_text(encoding="utf-8").splitlines())


# The application -------------------------------------------------------------------------------------------------------


class Trading:
    """One life of it. Of sixteen times that something is due it stays silent once and speaks out of turn twice."""

    def __init__(self, desk: Desk, me: Participant, journal: Journal) -> None:
        self._desk = desk
        self._me = me
        self._journal = journal
        self._busy: set[TransactionId] = set()
        self._chance = random.Random()

    async def run(self) -> None:
        """Trade until killed."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._go_on(tasks))
            tasks.create_task(self._open_deals(tasks))
            async for event in self._me.inbox():
                if isinstance(event, Received):
                    self._journal.write("taken", event.message.pipeline, event.message.firehose_sequence)
                    tasks.create_task(self._answer(event.deal))
                elif isinstance(event, TimedOut):
                    self._journal.write("timed out", transaction_text(event.deal.id), event.waiting_on)
                else:
                    self._journal.write("unverified", str(event.error))

    async def _go_on(self, tasks: asyncio.TaskGroup) -> None:
        async for deal in self._me.inherited():
            tasks.create_task(self._answer(deal))

    async def _open_deals(self, tasks: asyncio.TaskGroup) -> None:
        others = self._desk.counterparties.split(",")
        while time.time() < self._desk.opens_until:
            tasks.create_task(self._open(self._chance.sample(others, self._chance.randint(1, len(others)))))
            await asyncio.sleep(self._desk.every)

    async def _open(self, parties: list[str]) -> None:
        lasting = self._chance.choice((0.5, 2.0, 15.0, 15.0, 15.0))
        rule: FinishRule = self._chance.choice(("ANY", "ALL"))
        with self._refusals():
            deal = await self._me.open(
                parties,
                kind="two minutes",
                deadline=timedelta(seconds=lasting),
                content=b"shall we?",
                finish_rule=rule,
            )
            first = deal.messages[0]
            self._journal.write("accepted", first.message_id.hex(), first.pipeline, first.firehose_sequence)

    async def _answer(self, deal: Deal) -> None:
        """Say what is due, and again where somebody else came first."""
        head = None
        while deal.outcome is None and deal.id not in self._busy and deal.head != head:
            head = deal.head
            whim = self._chance.randrange(16)
            if (self._desk.bank not in deal.waiting_on and whim > 1) or whim == 15:
                return
            self._busy.add(deal.id)
            try:
                with self._refusals():
                    last = len(deal.messages) > 2
                    said = await (deal.finish(b"done") if last else deal.send(b"go on"))
                    self._note(said)
            finally:
                self._busy.discard(deal.id)

    def _note(self, said: Accepted) -> None:
        message = said.message
        self._journal.write("accepted", message.message_id.hex(), message.pipeline, message.firehose_sequence)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Note a refusal and go on: what came first is read next, and what is late is late.

        A life that begins while the one before is not missed yet has to wait for its deals.
        """
        try:
            yield
        except ElsewhereError:
            return
        except RefusedError as error:
            self._journal.write("refused", error.rejection.message_id.hex(), error.reason)


async def main() -> None:
    desk = Desk.read()
    journal = Journal(desk.journal)
    async with desk.connect() as me:
        journal.begin()
        print(READY, flush=True)  # noqa: T201 - for who started us
        await Trading(desk, me, journal).run()


if __name__ == "__main__":
    asyncio.run(main())
