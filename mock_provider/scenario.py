"""What goes wrong when: timed lines as data, and what they mean at any moment. Pure; time is an argument.

    at 30s rotate                            something happens at a moment
    every 300s refuse 1                      ... and again and again, first after 300 s
    from 10m every 300s reset-epoch          ... from a moment on
    from 10m to 1h every 300s announce 3     ... until before another
    from 60s to 90s loss 20%                 a switch is on for a while, and then as it was before
    at 2m delay 100ms-2s                     a switch is on from a moment on
    at 5m delay off                          ... and off again
    every 10m loss 50% for 30s               a switch is on again and again
    at 3m gone 20s                           the gateway goes away and comes back with its mappings
    at 9m restart 20s                        ... or without them, and with a new epoch
    seed 7                                   chance goes another way, in each run the same
    # a comment

Of lines that set the same switch the one that began last holds, and of those that began together the last in
the file. Times count from the start of the scenario. `scenario_text.parse` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class As(Enum):
    """In place of a value."""

    BEFORE = "as it was before the scenario"


@dataclass(frozen=True, slots=True)
class Set:
    """Set a switch."""

    switch: str
    """The attribute of Faults. "gone" has the values "gone", "restart" and False."""
    value: object
    """Or `As.BEFORE`."""


@dataclass(frozen=True, slots=True)
class Do:
    """Let something happen."""

    event: str
    """As it is written: "reset-epoch"."""
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a scenario wants done."""

    at: float
    """Seconds since the scenario began."""
    action: Set | Do
    text: str
    """The line that wants it."""


@dataclass(frozen=True, slots=True)
class Times:
    """Moments: one, or one each `period` from `first` to before `end`; in milliseconds, so that sums are exact."""

    first: int
    period: int | None = None
    end: int | None = None

    def after(self, moment: int) -> int | None:
        """The first of them later than `moment`, or None."""
        if moment < self.first:
            return self.first
        if self.period is None:
            return None
        found = moment + self.period - (moment - self.first) % self.period
        return None if self.end is not None and found >= self.end else found

    def last(self, moment: int) -> int | None:
        """The last of them that is not later than `moment`, or None."""
        if moment < self.first:
            return None
        if self.period is None:
            return self.first
        moment = moment if self.end is None else min(moment, self.end - 1)
        return moment - (moment - self.first) % self.period


@dataclass(frozen=True, slots=True)
class Statement:
    """One line."""

    times: Times
    action: Set | Do
    lasts: int | None
    """Milliseconds that a switch is on, None if it stays on; 0 for what happens at a moment."""
    text: str

    def next(self, moment: int) -> int | None:
        """When it next begins or ends after `moment`."""
        moments = [self.times.after(moment), self._end(moment)]
        return min((at for at in moments if at is not None and at > moment), default=None)

    def begun(self, moment: int) -> int | None:
        """When it began, if the switch is on at `moment`; else None."""
        end = self._end(moment)
        return self.times.last(moment) if end is None or end > moment else None

    def _end(self, moment: int) -> int | None:
        """When what began last until `moment` ends or ended; None: never, or nothing has begun."""
        begun = self.times.last(moment)
        return None if begun is None or self.lasts is None else begun + self.lasts


@dataclass(frozen=True, slots=True)
class Scenario:
    """All lines of a scenario, in order."""

    statements: tuple[Statement, ...] = ()
    seed: int | None = None
    """For `Faults.reseed`."""

    def next_after(self, moment: float) -> float | None:
        """When a line next begins or ends after `moment`; None: never. At times that brings no change."""
        found = self._next(_milliseconds(moment))
        return None if found is None else found / 1000

    def changes(self, after: float, until: float) -> Iterator[Change]:
        """What to do after one moment and until another, that included, in order. Whoever starts says `after=-1`."""
        moment, stop = _milliseconds(after), _milliseconds(until)
        while (found := self._next(moment)) is not None and found <= stop:
            moment = found
            yield from self._at(moment)

    def _next(self, moment: int) -> int | None:
        return min((at for one in self.statements if (at := one.next(moment)) is not None), default=None)

    def _at(self, moment: int) -> Iterator[Change]:
        done = set()
        for one in self.statements:
            match one.action:
                case Do() as action if one.times.last(moment) == moment:
                    yield Change(moment / 1000, action, one.text)
                case Set(switch) if switch not in done:
                    done.add(switch)
                    old, _ = self._holds(switch, moment - 1)
                    new, text = self._holds(switch, moment)
                    if new != old:
                        yield Change(moment / 1000, Set(switch, new), text or f"{switch.replace('_', '-')} as before")

    def _holds(self, switch: str, moment: int) -> tuple[object, str]:
        """The value of a switch and the line that gives it; `As.BEFORE` if none does."""
        latest: tuple[int, object, str] = (-1, As.BEFORE, "")
        for one in self.statements:
            if isinstance(one.action, Set) and one.action.switch == switch:
                begun = one.begun(moment)
                if begun is not None and begun >= latest[0]:
                    latest = (begun, one.action.value, one.text)
        return latest[1:]


def _milliseconds(moment: float) -> int:
    """The whole milliseconds that have passed; up to 1 us early, since sums with a clock's time are rounded."""
    return math.floor(moment * 1000 + 0.001)


class Playback:
    """A scenario on a clock: says what is due, each thing once."""

    def __init__(self, scenario: Scenario, start: float) -> None:
        self.scenario = scenario
        self.start = start
        """When the scenario began, on the same clock as `now`."""
        self._done = -1.0

    @property
    def next_due(self) -> float | None:
        """When to ask again; None: nothing will change any more."""
        found = self.scenario.next_after(self._done)
        return None if found is None else self.start + found

    def due(self, now: float) -> tuple[Change, ...]:
        """What to do now, in order."""
        after, self._done = self._done, max(self._done, now - self.start)
        return tuple(self.scenario.changes(after, self._done))
