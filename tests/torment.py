"""Processes killed, suspended and started again by a plan that a seed determines; knows nothing of what they do.

Strikes come in rounds. Some of the processes are spared for the second half of each, to see how soon all is well again.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.process import ChildProcess

__all__ = ["Blow", "Fate", "Launch", "Torment", "fates"]

STARTED, AT_WORK, WENT_ON = "started", "at work", "went on"
_HARMLESS = (STARTED, AT_WORK, WENT_ON)
_LOOK_SECONDS = 0.05
_START_SECONDS = 60.0
_PROBE_SECONDS = 0.01
_PLACES_SECONDS = 120.0
"""How much longer it may take until everybody has died at each of its places, on a machine with time to spare."""

Launch = Callable[[str], tuple[ChildProcess, Callable[[], bool]]]
"""Starts the process, to die at the place given (``PARLEY_CRASH_AT``; none: to live); also gives what tells that it is at work."""


class Fate(NamedTuple):
    """How a life ends."""

    place: str
    """Where the process kills itself; "" where it is struck from outside."""
    early: bool
    """Struck while it starts; else once it is at work."""
    lasting: float
    """Seconds from then until it is struck."""
    suspended: bool
    """Struck by SIGSTOP, and so gone on with; else killed."""
    away: float
    """Seconds from the blow to the next life, or to SIGCONT."""


class Blow(NamedTuple):
    """What befell a process, in ms since the Unix epoch."""

    at: int
    victim: str
    what: str

    def __str__(self) -> str:
        return f"{self.at} {self.victim} {self.what}"


_SPARED = Fate("", early=False, lasting=math.inf, suspended=False, away=0.0)


def fates(seed: str, victim: str, places: Sequence[str], longest: float, *, suspends: bool) -> Iterator[Fate]:
    """The lives of a process, without end: at each place it dies once, and in between at any moment.

    A life is at most ``longest`` seconds of work. Of five blows one meets a process that starts, and one suspends; of five absences two are such that others have to notice.
    """
    chance = random.Random(f"{seed}/{victim}")
    left = chance.sample(places, len(places))
    while True:
        early, suspended = chance.random() < 0.2, suspends and chance.random() < 0.2
        lasting = chance.uniform(0.2, 2) if early else chance.uniform(0.5, longest)
        yield Fate("", early, lasting, suspended, _away(chance))
        if left and not suspended:  # what goes on cannot be told where to die
            yield Fate(left.pop(), early=False, lasting=math.inf, suspended=False, away=_away(chance))


def _away(chance: random.Random) -> float:
    return chance.uniform(0.5, 9) if chance.random() < 0.4 else 0.0


class Victim:
    """One process, in whatever life it is; the first one is under way and at work."""

    def __init__(
        self, name: str, process: ChildProcess, launch: Launch, plan: Iterator[Fate], *, rests: bool
    ) -> None:
        self.name, self.process = name, process
        self.rests = rests
        """Whether it is spared in the second half of each round."""
        self._launch, self._plan = launch, plan
        self._fate = next(plan)
        self._at_work: Callable[[], bool] | None = None
        """Asked until it is, while the process starts."""
        self._resting = False
        self._back_at: float | None = None
        """When it comes back; ``None`` while it is there."""
        self._ends_at = time.monotonic() + self._fate.lasting

    @property
    def is_at_work(self) -> bool:
        return self._back_at is None and self._at_work is None

    def look(self) -> Iterator[str]:
        """Do what is to be done now, and tell what befell the process."""
        now, fate = time.monotonic(), self._fate
        if self._back_at is not None:
            if now >= self._back_at:
                yield from self._bring_back(_SPARED if self._resting else next(self._plan))
            return
        if self.process.exit_code is not None:
            self._back_at = now + fate.away
            yield self._ending()
            return
        if self._at_work is not None and self._at_work():
            self._at_work = None
            self._ends_at = now + fate.lasting
            yield AT_WORK
        if now >= self._ends_at:
            self._back_at = now + fate.away
            if fate.suspended:
                os.killpg(self.process.pid, signal.SIGSTOP)
                yield "suspended"
            else:
                self.process.kill()
                yield "killed"

    def _ending(self) -> str:
        if self._fate.place and self.process.exit_code == -signal.SIGKILL:
            return f"died at {self._fate.place}"
        return f"ended by itself: {self.process.obituary()}"

    def _bring_back(self, fate: Fate) -> Iterator[str]:
        if self._fate.suspended:
            os.killpg(self.process.pid, signal.SIGCONT)
            yield WENT_ON
        else:
            self.process, self._at_work = self._launch(fate.place)
            yield STARTED
        self._fate, self._back_at = fate, None
        # One that starts gets its time once it is at work, unless it is to be met before.
        waits = self._at_work is not None and not fate.early
        self._ends_at = math.inf if waits else time.monotonic() + fate.lasting

    def rest(self) -> None:
        """Strike it no more, but let it die where it was told to; whenever it comes back, it stays."""
        self._resting = True
        if self._back_at is None and not self._fate.place:
            self._fate, self._ends_at = _SPARED, math.inf

    def expose(self) -> None:
        """Strike one that rested at once, and go on with its plan."""
        self._resting = False
        if not self._fate.place and self._back_at is None:
            self._fate, self._ends_at = _SPARED._replace(lasting=0.0), time.monotonic()


class Torment:
    """Some processes, tormented side by side."""

    def __init__(self, seed: str, round_seconds: float) -> None:
        self.blows: list[Blow] = []
        self._seed = seed
        self._half = round_seconds / 2
        self._victims: list[Victim] = []
        self._places: set[tuple[str, str]] = set()
        self._needed = self._took = 0.0

    def add(
        self,
        name: str,
        process: ChildProcess,
        launch: Launch,
        places: Sequence[str] = (),
        *,
        rests: bool,
        longest: float,
        suspends: bool = True,
    ) -> None:
        """Have a process that is at work struck from now on; ``launch`` begins its further lives."""
        self._places |= {(name, place) for place in places}
        plan = fates(self._seed, name, places, longest, suspends=suspends)
        self._victims.append(Victim(name, process, launch, plan, rests=rests))

    def run(self, seconds: float) -> None:
        """Strike for so long, and on until everybody died at each of its places; then all are brought to work, and stay so."""
        began = time.monotonic()
        resting, probed_at = False, began
        while (now := time.monotonic()) < began + seconds or self._left():
            patience = seconds + _PLACES_SECONDS * self.slowness
            assert now < began + patience, f"nobody died at {self._left()}; {self.told()}"
            if (second_half := (now - began) // self._half % 2 == 1) != resting:
                resting = second_half
                self._let_rest(resting)
            self._look()
            if now > probed_at + 1:
                probed_at = now
                self._probe()
        for victim in self._victims:
            victim.rest()
        while not all(victim.is_at_work for victim in self._victims):
            assert time.monotonic() < now + _START_SECONDS * self.slowness, (
                f"not at work again: {self.told()}"
            )
            self._look()

    def _let_rest(self, resting: bool) -> None:
        for victim in self._victims:
            if victim.rests and resting:
                victim.rest()
            elif victim.rests:
                victim.expose()

    def _look(self) -> None:
        for victim in self._victims:
            self._note(victim, victim.look())
        time.sleep(_LOOK_SECONDS)

    def _probe(self) -> None:
        """See how long it takes to work for a hundredth of a second."""
        began, worked = time.monotonic(), time.thread_time()
        while time.thread_time() < worked + _PROBE_SECONDS:
            pass
        self._needed += time.thread_time() - worked
        self._took += time.monotonic() - began

    @property
    def slowness(self) -> float:
        """How much longer everything took here than it would have with a processor of its own; at least 1."""
        return max(1.0, self._took / self._needed) if self._needed else 1.0

    def _note(self, victim: Victim, told: Iterator[str]) -> None:
        for what in told:
            self.blows.append(Blow(time.time_ns() // 1_000_000, victim.name, what))
            assert "by itself" not in what, f"seed {self._seed}: {victim.name} {what}"

    def _left(self) -> set[tuple[str, str]]:
        """Where who has not died yet."""
        return self._places - {(blow.victim, blow.what.removeprefix("died at ")) for blow in self.blows}

    def moments(self, *victims: str) -> list[int]:
        """When one of these died, was suspended, or went on after that, and when one was started while all were gone; in ms."""
        moments = []
        there = {victim.name for victim in self._victims if victim.name.startswith(victims)}
        for at, victim, what in self.blows:
            if not victim.startswith(victims):
                continue
            if what in (AT_WORK, WENT_ON):
                there.add(victim)
            elif what != STARTED:
                there.discard(victim)
            if what not in (STARTED, AT_WORK) or (what == STARTED and not there):
                moments.append(at)
        return moments

    def starts(self, *victims: str) -> list[int]:
        """How long each start of these took, of those that came to work; in ms."""
        took, began = [], dict[str, int]()
        for at, victim, what in self.blows:
            if what == STARTED:
                began[victim] = at
            elif what == AT_WORK and victim.startswith(victims):
                took.append(at - began[victim])
        return took

    def write(self, path: Path) -> None:
        """Every blow, a line each."""
        path.write_text("".join(f"{blow}\n" for blow in self.blows), encoding="utf-8")

    def told(self) -> str:
        """For people: how often each was struck."""
        return ", ".join(
            f"{victim.name} {sum(blow.victim == victim.name and blow.what not in _HARMLESS for blow in self.blows)}"
            for victim in self._victims
        )
