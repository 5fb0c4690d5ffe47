"""A day with 20 % loss each way and a refusal every five minutes: `python -m tests.soak.loss`, part of `make soak`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass

from mock_provider.perform import Performer
from mock_provider.scenario import Playback
from mock_provider.scenario_text import parse
from tests.figures import Figure, show
from tests.soak.virtual import run
from tests.soak.world import Profile
from vpnpf.events import LeaseRenewed, PortAnnounced
from vpnpf_providers.protonvpn import ProtonVpn

SCENARIO = """
at 0s loss 20%
at 0s answer-loss 20%
every 300s refuse 1
"""
WITHOUT = 0.001
"""Share of the time that there may be no port."""


@dataclass(frozen=True, slots=True)
class Day:
    """What came of it."""

    seconds: float
    """In real time."""
    looks: int
    """One each second."""
    without: int
    """Looks at which no port was held, or one that the gateway did not forward."""
    renewals: int
    changes: int
    restarts: int
    refusals: int


async def live(hours: float, seed: int) -> Day:
    """Live so many hours, from the first port on."""
    begun = time.monotonic()
    heard: Counter[type] = Counter()
    looks = without = refusals = 0
    async with Profile(ProtonVpn({}), lambda moment: heard.update([type(moment.notice)])) as profile:
        while not profile.has_port():  # noqa: ASYNC110 - a port has no event of its own
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        profile.faults.reseed(seed)
        performer = Performer(profile.network.behaviour)
        start = profile.clock.now()
        playback = Playback(parse(SCENARIO), start)
        while (now := profile.clock.now()) < start + hours * 3600:
            while (due := playback.next_due) is not None and due <= now:
                for change in playback.due(due):
                    performer.perform(change, now)
                    refusals += "refuse" in change.text
            looks += 1
            without += not profile.has_port()
            await asyncio.sleep(1.0)
        changes, restarts = heard[PortAnnounced] - 1, profile.backend.ups - 1
    return Day(time.monotonic() - begun, looks, without, heard[LeaseRenewed], changes, restarts, refusals)


def figures(day: Day, hours: float) -> list[Figure]:
    """The rows of the table."""
    return [
        Figure("time without a port", 100 * day.without / day.looks, "%", at_most=100 * WITHOUT),
        Figure("restarts of the tunnel", day.restarts, "", at_most=0),
        Figure("changes of the port", day.changes, "", at_most=0),
        Figure("renewals", day.renewals, "", at_least=round(hours * 120 * 0.95)),
        Figure("refused datagrams", day.refusals, "", at_least=int(hours * 12) - 1),
        Figure("real time", day.seconds, "s"),
    ]


def main() -> int:
    """Live the day, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    day = run(live(options.hours, options.seed))
    title = f"{options.hours:g} hours of protonvpn at 20 % loss each way, seed {options.seed}"
    return show(title, figures(day, options.hours))


if __name__ == "__main__":
    sys.exit(main())
