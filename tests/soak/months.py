"""A month of one profile in a minute: `python -m tests.soak.months`, part of `make soak`.

The supervisor, the workers and the providers are the real ones; the gateway is the mock's, and everything else is a
double that does as it is told. Two providers live their month side by side, each in a process of its own.
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
from pathlib import Path

from mock_provider.perform import Performer
from tests.figures import Figure, show
from tests.soak.trouble import DAY, HEALTHY, LASTS, SERVER, Trouble, calendar, kinds, playback
from tests.soak.virtual import run
from tests.soak.world import Profile
from vpnpf.core.schedule import Timing
from vpnpf.events import LeaseRenewed, PhaseChanged, PortAnnounced, PortLost
from vpnpf.model import Phase
from vpnpf_providers.natpmp import NatPmp
from vpnpf_providers.protonvpn import ProtonVpn

RENEWALS = 57_600
SECONDS = 60.0
GROWTH = 5.0
"""MiB."""
MOMENT = 1.0
"""Seconds. What a gateway ends within them counts as ended: it counts from the request's arrival, we from its departure."""
UNDER_WAY = 5.0
"""Seconds; an exchange that is under way when a fault ends may have sent all its tries (3.75 s) into it."""
COLLECT = (50_000, 20, 20)
"""Garbage is looked for more rarely than usual: a step of the engine makes little, and none of it lasts."""
TIMING = Timing(tunnel=120.0, firewall=60.0, client=300.0, sockets=300.0)
"""Looks at what is not the lease, rarer than usual: they are most of the work, and tell nothing here."""
PROVIDERS = {
    "protonvpn": lambda: (ProtonVpn({}), {"mode": "proton", "lifetime": 60}),
    "natpmp": lambda: (NatPmp({"lifetime": 90}), {"mode": "rfc", "lifetime": 90}),
}


@dataclass
class Month:
    """What came of it."""

    provider: str
    seconds: float = 0.0
    renewals: int = 0
    announced: int = 0
    lost: int = 0
    """Ports that were given up."""
    lost_but_held: Counter[str] = field(default_factory=Counter)
    """Of those, the ones that the gateway still held and would have renewed, by the last fault."""
    unanswered: Counter[str] = field(default_factory=Counter)
    """Of those, the ones that it held, and no answer said so until they would have ended."""
    troubles: Counter[str] = field(default_factory=Counter)
    not_ready: Counter[str] = field(default_factory=Counter)
    """Faults after which a minute of health was not enough."""
    not_ready_seconds: float = 0.0
    untrue_seconds: float = 0.0
    """READY in health, with a port that the gateway does not forward."""
    untrue: Counter[str] = field(default_factory=Counter)
    growth: float = 0.0
    objects: int = 0
    tasks: int = 0
    phase: str = ""


class Watch:
    """Sees to it that what has to hold while the gateway is healthy does."""

    def __init__(self, month: Month) -> None:
        self.month = month
        self.profile: Profile | None = None
        self.after = ""
        """The last fault; empty: it is not long enough ago."""
        self.during = "before the first fault"
        self.faulty = False
        self.untrue = False

    def heard(self, moment) -> None:
        """Take in a notice, at the moment it is made."""
        month, profile = self.month, self.profile
        match moment.notice:
            case LeaseRenewed():
                month.renewals += 1
            case PortAnnounced():
                month.announced += 1
            case PortLost(external_port=port):
                month.lost += 1
                if profile.network.keeps(port, MOMENT):
                    (month.unanswered if self.faulty else month.lost_but_held)[self.during] += 1
            case PhaseChanged(after=phase) if self.after and phase is not Phase.STOPPING:
                if phase is not Phase.READY:
                    self._missed()

    async def healthy(self, after: str, until: float) -> None:
        """Watch until then, and account for the time that the profile is not READY, or only seems to be."""
        profile, now = self.profile, self.profile.clock.now
        self.after = after
        if profile.phase is not Phase.READY:
            self._missed()
        untrue = False
        while (left := until - now()) > 0:
            step = min(left, 30.0)
            if profile.phase is not Phase.READY:
                self.month.not_ready_seconds += step
            elif not profile.has_port():
                self.month.untrue_seconds += step
                untrue = True
            await asyncio.sleep(step)
        if untrue and not self.untrue:
            self.month.untrue[after] += 1
        self.untrue = untrue
        self.after = ""

    def _missed(self) -> None:
        self.month.not_ready[self.after] += 1


async def trouble(profile: Profile, one: Trouble) -> None:
    """Let a fault happen, and come back when the gateway is healthy again."""
    if one.kind == SERVER:
        profile.backend.die(device=bool(one.lasts))
        await profile.backend.arrived.wait()
        return
    performer = Performer(profile.network.behaviour)
    now = profile.clock.now
    plan = playback(one, now())
    while (due := plan.next_due) is not None:
        await asyncio.sleep(max(0.0, due - now()))
        profile.network.catch_up()
        for change in plan.due(now()):
            performer.perform(change, now())
    # What is counted and was not used up is over too.
    performer.put_back(now())
    profile.faults.clear()


async def live(month: Month, days: float, each: int, servers: int, seed: int, lasts: tuple[int, ...]) -> None:
    """Live so many days."""
    provider, gateway = PROVIDERS[month.provider]()
    watch = Watch(month)
    memory, objects = 0.0, 0
    async with Profile(provider, watch.heard, timing=TIMING, **gateway) as profile:
        watch.profile = profile
        await asyncio.sleep(10)
        begun = profile.clock.now()
        troubles = calendar(days, each, servers, seed, lasts)
        for number, one in enumerate(troubles):
            if not memory and one.at >= min(DAY, days * DAY / 2):
                memory, objects = resident(), len(gc.get_objects())
            await asyncio.sleep(begun + one.at - profile.clock.now())
            name = watch.during = f"{one.kind} for {one.lasts} s"
            watch.faulty = True
            await trouble(profile, one)
            month.troubles[one.kind] += 1
            await asyncio.sleep(UNDER_WAY)
            watch.faulty = False
            await asyncio.sleep(HEALTHY - UNDER_WAY)
            following = troubles[number + 1].at if number + 1 < len(troubles) else days * DAY
            await watch.healthy(name, begun + following)
        month.growth, month.objects = resident() - memory, len(gc.get_objects()) - objects
        month.phase = str(profile.phase)
    month.tasks = len(asyncio.all_tasks() - {asyncio.current_task()})


def resident() -> float:
    """MiB that this process has in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def lived(provider: str, days: float, each: int, servers: int, seed: int = 1, lasts: tuple[int, ...] = LASTS) -> Month:
    """A whole month, in this process."""
    month = Month(provider)
    begun = time.monotonic()
    gc.set_threshold(*COLLECT)
    run(live(month, days, each, servers, seed, lasts))
    month.seconds = time.monotonic() - begun
    return month


def figures(month: Month, days: float, each: int, servers: int) -> list[Figure]:
    """The rows of one provider."""
    name = month.provider
    share = days / 30
    fewest = min(month.troubles[kind] for kind in kinds())
    return [
        Figure(f"{name}: renewals", month.renewals, "", at_least=round(RENEWALS * share * 0.97)),
        Figure(f"{name}: faults of each of {len(kinds())} kinds", fewest, "", at_least=each),
        Figure(f"{name}: changes of the server", month.troubles[SERVER], "", at_least=servers),
        Figure(f"{name}: ports lost that the gateway held", month.lost_but_held.total(), "", at_most=0),
        Figure(f"{name}: ports given up in a fault, held and not confirmed", month.unanswered.total()),
        Figure(f"{name}: ports given up that the gateway had ended", month.lost - month.unanswered.total()),
        Figure(f"{name}: ports announced", month.announced),
        Figure(f"{name}: a minute of health, and not READY", month.not_ready.total(), "", at_most=0),
        Figure(f"{name}: time of that", month.not_ready_seconds, "s", at_most=0),
        Figure(f"{name}: a minute of health, READY, and no forward", month.untrue_seconds, "s", at_most=0),
        Figure(f"{name}: memory, last day against first", month.growth, "MiB", at_most=GROWTH),
        Figure(f"{name}: objects, last day against first", month.objects),
        Figure(f"{name}: tasks left", month.tasks, "", at_most=0),
        Figure(
            f"{name}: real time for {RENEWALS:,} renewals",
            month.seconds * RENEWALS / month.renewals,
            "s",
            at_most=SECONDS,
        ),
        Figure(f"{name}: real time in all", month.seconds, "s"),
    ]


def tell(month: Month) -> None:
    """Print after which faults something was not as it has to be."""
    for what, found in (
        ("given up although held, after", month.lost_but_held),
        ("given up, held and not confirmed, in", month.unanswered),
        ("not READY a minute after", month.not_ready),
        ("from here on READY without a forward, a minute after", month.untrue),
    ):
        for kind, count in sorted((+found).items()):
            print(f"{month.provider}: {what}: {kind} ({count} times)")  # noqa: T201


def main() -> int:
    """Live the months, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--each", type=int, default=100, help="faults of each kind (default: 100)")
    parser.add_argument("--servers", type=int, default=30, help="changes of the server (default: 30)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    days, each, servers = options.days, options.each, options.servers
    with ProcessPoolExecutor(len(PROVIDERS), mp_context=get_context("spawn")) as pool:
        running = [pool.submit(lived, name, days, each, servers, options.seed) for name in PROVIDERS]
        months = [one.result() for one in running]
    rows = [figure for month in months for figure in figures(month, days, each, servers)]
    code = show(f"{days:g} days in virtual time, seed {options.seed}", rows)
    for month in months:
        tell(month)
    return code


if __name__ == "__main__":
    sys.exit(main())
