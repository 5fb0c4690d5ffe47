"""Ninety days of a profile with PIA in two minutes: `python -m tests.soak.pia`, part of `make soak`.

Supervisor, workers and provider are the real ones. A hundred times something goes wrong with PIA, with the machine or with
vpnpf, and the port has to stay all the same, unless PIA itself lets it go.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from tests.contract.pia_world import MONTH
from tests.figures import Figure, show
from tests.soak.months import COLLECT, resident
from tests.soak.pia_profile import Profile
from tests.soak.pia_troubles import DAY, Trouble, calendar
from tests.soak.virtual import run
from vpnpf import supervisor as supervising
from vpnpf.events import PortAnnounced
from vpnpf.hub import Moment
from vpnpf.model import Phase

DAYS, TROUBLES, FORCED = 90.0, 100, 2
LOOK = 60.0
"""Seconds between two looks at whether the port is bound."""
RECOVERS = 780.0
"""Seconds after a trouble until the port has to be bound again: services that gave no token are asked every 600 s in the end, the
engine comes every 66 s, a try takes 45 s at most, and a minute passes between two looks."""
LOGINS = 120
"""Tries to log in that there may be in an hour, whoever is asked: ten rounds (two at once, then after 1, 2, 5 and 10 min) at twelve
services, which are four by name and four at the servers of each of two regions."""
PLANNED = "renewed before its end"
COARSE = 300.0
"""Seconds of the longest sleep in the short form, in place of 15."""


@dataclass
class Quarter:
    """What came of it."""

    seed: int
    seconds: float = 0.0
    troubles: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    """Of the port, by what forced it."""
    unforced: Counter[str] = field(default_factory=Counter)
    """By the last trouble."""
    looks: int = 0
    without: Counter[str] = field(default_factory=Counter)
    """Minutes without a bound port, by the trouble that they belong to."""
    healthy_without: Counter[str] = field(default_factory=Counter)
    """Of those, the ones in health."""
    not_ready: int = 0
    """Looks in health at which the port was bound and the profile not READY."""
    longest: float = 0.0
    """Seconds from the end of a trouble until the port was bound."""
    renewals: int = 0
    logins: int = 0
    most_in_an_hour: int = 0
    denied: int = 0
    denied_troubles: int = 0
    too_soon: int = 0
    missed: int = 0
    spare: int = 0
    """Signatures that were asked for, beyond one for each port that was announced."""
    planned_at: list[float] = field(default_factory=list)
    """Days at which a signature was replaced before its end."""
    growth: float = 0.0
    phase: str = ""


class Life:
    """The days as they go."""

    def __init__(self, quarter: Quarter) -> None:
        self.quarter = quarter
        self.profile = Profile(quarter.seed, self._heard)
        self.last: int | None = None
        """The port that was announced last."""
        self.during = "at first"
        """The last trouble."""
        self.ended: float | None = None
        """Since when all is well; None: it is not."""
        self.began = 0.0

    def _heard(self, moment: Moment) -> None:
        if not isinstance(moment.notice, PortAnnounced):
            return
        port = moment.notice.lease.external_port
        if self.last is not None and port != self.last:
            reasons = self.profile.far.change()
            if reasons:
                self.quarter.changes[reasons[-1]] += 1
                if reasons[-1] == PLANNED:
                    self.quarter.planned_at.append((self.profile.clock.now() - self.began) / DAY)
            else:
                self.quarter.unforced[self.during] += 1
        self.profile.far.reasons.clear()
        self.last = port

    async def watch(self, until: float) -> None:
        """Look once a minute until then whether the port is bound."""
        quarter, profile, now = self.quarter, self.profile, self.profile.clock.now
        while (left := until - now()) > 0:
            await asyncio.sleep(min(LOOK, left))
            quarter.looks += 1
            since = 0.0 if self.ended is None else now() - self.ended
            if profile.has_port():
                quarter.not_ready += since > RECOVERS and profile.supervisor.machine.phase is not Phase.READY
                continue
            quarter.without[self.during] += 1
            quarter.longest = max(quarter.longest, since)
            if since > RECOVERS:
                quarter.healthy_without[self.during] += 1

    async def meet(self, one: Trouble) -> None:
        """Let something go wrong, until it is over."""
        quarter, profile = self.quarter, self.profile
        self.during, self.ended = one.kind.name, None
        quarter.troubles[one.kind.name] += 1
        quarter.denied_troubles += "wrong password" in one.kind.name
        one.kind.begin(profile)
        await profile.obey()
        await self.watch(profile.clock.now() + one.lasts)
        one.kind.end(profile)
        self.ended = profile.clock.now()


async def live(quarter: Quarter, days: float, troubles: list[Trouble], signed_for: float) -> None:
    """Live so many days, from the first port on."""
    life = Life(quarter)
    profile, far = life.profile, life.profile.far
    far.signed_for = signed_for
    profile.start()
    while not profile.has_port():  # noqa: ASYNC110 - a port has no event of its own
        await asyncio.sleep(1.0)
    began = life.began = profile.clock.now()
    far.reasons.clear()
    memory = 0.0
    for one in troubles:
        if not memory and one.at > DAY:
            memory = resident()
        await life.watch(began + one.at)
        await life.meet(one)
    await life.watch(began + days * DAY)
    quarter.growth = resident() - memory
    quarter.phase = str(profile.supervisor.machine.phase)
    quarter.renewals, quarter.missed = len(far.binds), far.missed
    quarter.logins, quarter.denied, quarter.too_soon = len(far.logins), far.denied, far.too_soon
    quarter.most_in_an_hour = far.most_in_an_hour
    quarter.spare = len(far.signatures) - 1 - quarter.changes.total() - quarter.unforced.total()
    await profile.stop()


def lived(
    seed: int,
    days: float = DAYS,
    troubles: list[Trouble] | None = None,
    *,
    signed_for: float = MONTH,
    coarse: bool = False,
) -> Quarter:
    """All of it, in this process; `signed_for`: seconds from a signature to its end."""
    quarter = Quarter(seed)
    begun = time.monotonic()
    gc.set_threshold(*COLLECT)
    usual = supervising.LONGEST_SLEEP
    supervising.LONGEST_SLEEP = COARSE if coarse else usual
    try:
        planned = calendar(days, TROUBLES, FORCED, seed) if troubles is None else troubles
        run(live(quarter, days, planned, signed_for))
    finally:
        supervising.LONGEST_SLEEP = usual
    quarter.seconds = time.monotonic() - begun
    return quarter


def figures(quarter: Quarter, days: float, count: int) -> list[Figure]:
    """The rows of one seed."""
    name = f"seed {quarter.seed}"
    forced = quarter.changes.total() - quarter.changes[PLANNED]
    return [
        Figure(f"{name}: troubles", quarter.troubles.total(), "", at_least=count),
        Figure(f"{name}: ports bound", quarter.renewals, "", at_least=round(days * DAY / 450 * 0.8)),
        Figure(f"{name}: changes of the port", quarter.changes.total() + quarter.unforced.total()),
        Figure(f"{name}: of those, forced by the server", forced),
        Figure(f"{name}: of those, renewed before the signature's end", quarter.changes[PLANNED]),
        Figure(f"{name}: of those, for nothing", quarter.unforced.total(), "", at_most=0),
        Figure(f"{name}: signatures asked for, beyond one a port", quarter.spare, "", at_most=0),
        Figure(f"{name}: without a bound port, in all", quarter.without.total(), "min"),
        Figure(
            f"{name}: of that, {RECOVERS:g} s after a trouble or later",
            quarter.healthy_without.total(),
            "min",
            at_most=0,
        ),
        Figure(f"{name}: bound and not READY, in health", quarter.not_ready, "min", at_most=0),
        Figure(f"{name}: longest from a trouble's end to the port", quarter.longest, "s", at_most=RECOVERS),
        Figure(f"{name}: bound again after it had run out", quarter.missed),
        Figure(f"{name}: logins", quarter.logins),
        Figure(f"{name}: most logins in an hour", quarter.most_in_an_hour, "", at_most=LOGINS),
        Figure(f"{name}: logins refused", quarter.denied, "", at_most=quarter.denied_troubles),
        Figure(f"{name}: logins before PIA's wait was over", quarter.too_soon, "", at_most=0),
        Figure(f"{name}: memory, last day against second", quarter.growth, "MiB", at_most=5),
        Figure(f"{name}: real time", quarter.seconds, "s"),
    ]


def tell(quarter: Quarter) -> None:
    """Print what is behind the numbers."""
    planned = ", ".join(f"day {day:.1f}" for day in quarter.planned_at) or "none"
    print(f"seed {quarter.seed}: signatures renewed before their end: {planned}")  # noqa: T201
    for what, found in (
        ("minutes without a port, by trouble", quarter.without),
        ("changes for nothing, after", quarter.unforced),
        ("without a port in health, after", quarter.healthy_without),
    ):
        for kind, number in sorted((+found).items()):
            print(f"seed {quarter.seed}: {what}: {kind} ({number})")  # noqa: T201


def main() -> int:
    """Live the days, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=float, default=DAYS)
    parser.add_argument("--seeds", type=int, default=4, help="how many seeds, from 1 on (default: 4)")
    chosen = parser.parse_args()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(lived, seed, chosen.days) for seed in range(1, chosen.seeds + 1)]
        quarters = [one.result() for one in running]
    rows = [figure for quarter in quarters for figure in figures(quarter, chosen.days, TROUBLES)]
    code = show(f"{chosen.days:g} days with PIA in virtual time", rows)
    for quarter in quarters:
        tell(quarter)
    return code


if __name__ == "__main__":
    sys.exit(main())
