"""Puts acknowledgements on the record: of the messages that asked for one, once the application has dealt with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

from parley.acknowledgement import (
    ACKNOWLEDGEMENT_KIND,
    ACKNOWLEDGEMENT_TYPE,
    AT_ONCE,
    Acknowledged,
    Acknowledgements,
    references_to,
)
from parley.errors import ParleyError, RefusedError, TransportError
from parley.heard import Accepted, InboxEvent, Received
from parley.schemas import Message, Party, Reference

__all__ = ["Acknowledger"]

_LASTS: Final = timedelta(minutes=10)
"""How long the two messages of an acknowledgement may take."""
_GATHERING: Final = 0.2
"""Seconds in which messages dealt with share one acknowledgement."""
_AGAIN: Final = 5.0
"""Seconds until one that could not be sent is tried again."""
_SETTLING: Final = 10.0
"""Seconds that leaving waits for what is owed."""


class Host(Protocol):
    """What acknowledging needs of its client."""

    participant: str

    def opening(
        self,
        parties: list[str | Party],
        *,
        kind: str,
        deadline: timedelta,
        content: bytes,
        content_type: str,
        references: tuple[Reference, ...],
        pipeline: int,
    ) -> Message: ...
    async def submit(self, message: Message) -> Accepted: ...


class _Owed(NamedTuple):
    offset: int
    asker: str | Party
    pipeline: int
    message: Acknowledged


class Acknowledger:
    """What one participant owes; an event counts as dealt with only when its acknowledgement is on the record."""

    def __init__(
        self, host: Host, known: Acknowledgements, done: Callable[[int], None], *, willing: bool
    ) -> None:
        """``known`` are the acknowledgements on the record; ``done`` is told the offset of each event that is dealt with.

        Who is not ``willing`` acknowledges nothing.
        """
        self._host = host
        self._known = known
        self._done = done
        self._willing = willing
        self._owed: list[_Owed] = []
        self._task: asyncio.Task[None] | None = None

    def dealt_with(self, offset: int, event: InboxEvent | None) -> None:
        """The application is done with an event; acknowledge it where that was asked for."""
        owed = self._owe(offset, event)
        if owed is None:
            self._done(offset)
            return
        self._owed.append(owed)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(
                self._pay(), name=f"parley {self._host.participant} acknowledges"
            )

    def _owe(self, offset: int, event: InboxEvent | None) -> _Owed | None:
        if not (self._willing and isinstance(event, Received) and event.message.wants_acknowledgement):
            return None
        deal, message = event
        name = deal.own_name
        if ":" in name and name not in deal.names:
            return None  # signing for it would tell who is behind the sealed address
        acknowledged = Acknowledged(deal.id, message.message_id)
        if any(each.by == self._host.participant for each in self._known.of(message.message_id, deal.id)):
            return None
        named = {party.participant: party for party in deal.terms.parties}
        return _Owed(offset, named.get(message.sender, message.sender), deal.pipeline, acknowledged)

    async def _pay(self) -> None:
        """Acknowledge until nothing is owed, those of one asker and pipeline together."""
        await asyncio.sleep(_GATHERING)
        while self._owed:
            first = self._owed[0]
            together = [
                each for each in self._owed if (each.asker, each.pipeline) == (first.asker, first.pipeline)
            ][:AT_ONCE]
            try:
                await self._acknowledge(first, references_to(each.message for each in together))
            except TransportError:
                await asyncio.sleep(_AGAIN)
                continue
            except RefusedError as error:
                if error.retriable:
                    await asyncio.sleep(_AGAIN)
                    continue
            except ParleyError:
                pass  # the asker is no longer in the directory, or another process has the share and takes what is not saved
            for each in together:
                self._owed.remove(each)
                self._done(each.offset)

    async def _acknowledge(self, owed: _Owed, references: tuple[Reference, ...]) -> None:
        opening = self._host.opening(
            [owed.asker],
            kind=ACKNOWLEDGEMENT_KIND,
            deadline=_LASTS,
            content=b"",
            content_type=ACKNOWLEDGEMENT_TYPE,
            references=references,
            pipeline=owed.pipeline,
        )
        accepted = await self._host.submit(opening)
        # What counts is on the record by now; without this the transaction only ends later, at its deadline.
        with suppress(ParleyError):
            await accepted.deal.finish(b"", content_type=ACKNOWLEDGEMENT_TYPE)

    async def settle(self) -> None:
        """Wait for what is owed, for a while; what is not on the record by then comes again, and is acknowledged then."""
        if self._task is not None and not self._task.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLING):
                    await asyncio.shield(self._task)

    async def end(self) -> None:
        """Acknowledge nothing more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
