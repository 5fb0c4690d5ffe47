# ruff: noqa: T201 - it talks to a person
"""kill -9 at every step of a life, then a restart: `python -m tests.faults.kills`, part of `make faults`.

`killer.py` counts the steps (files, sockets, programs) of each part of a life and kills at one of them. What is left
then has to be safe, and the next start has to bring all of it back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from mock_provider.product import traces
from tests.faults.cable import Leaks
from tests.faults.life import KILLER, PARTS, WITHIN, Account, Life, Point
from tests.faults.probes import KINDS, Probes
from tests.faults.world import World
from tests.figures import Figure, show

SETTLED = 5.0
"""Seconds after which nobody is still writing a file."""


async def _check(world: World) -> list[str]:
    """The steps of `vpnpf check-config`: there should be nothing to be killed at."""
    log = world.directory / "check.log"
    argv = (sys.executable, str(KILLER), str(log), "0", "start", "before", "vpnpf", "check-config", "--config")
    await world.lab.client.must((*argv, str(world.config)))
    return log.read_text().splitlines()


def _left_in_etc(begun: float) -> list[Path]:
    """What is written beside the resolver's file and was not moved into its place; others may be at it just now."""
    made = [(path, path.stat().st_mtime) for path in Path("/etc").glob(".resolv.conf*")]
    return [path for path, when in made if begun < when < time.time() - SETTLED]


def chosen(steps: dict[str, list[str]], number: int) -> list[Point]:
    """So many points spread evenly over all there are; a program that is started is two: before it, and in its midst."""
    points = []
    for part, names in steps.items():
        for at, name in enumerate(names, 1):
            points.append(Point(part, at))
            if name.startswith("process"):
                points.append(Point(part, at, "during"))
    if number >= len(points):
        return points
    return [points[index * len(points) // number] for index in range(number)]


async def live(
    account: Account, points: Callable[[dict[str, list[str]]], Sequence[Point]], parts: Sequence[str]
) -> None:
    """One profile: count, unless that is done, then its share of the points."""
    async with World(lifetime=60) as world:
        async with Leaks(world.lab) as leaks, Probes(world.lab.client, world.container) as probes:
            await probes.more(20)
            await leaks.count()
            seen = leaks.by_kind()
            account.unseen += sum(seen[kind.name] == 0 for kind in KINDS)
            life = Life(world, leaks, account)
            await life.begin()
            steps = {part: await life.count(part) for part in parts}
            account.steps = account.steps or steps
            account.checked = await _check(world)
            for point in points(account.steps):
                await life.point(point)
            account.probes += probes.total
        await world.start()
        await world.ready()
        await world.stop()
        after = await traces(world.lab.client)
        account.wrong += [f"at the end: {path} was left" for path in _left_in_etc(account.begun)]
        account.wrong += [f"at the end: {key} differs" for key in after if after[key] != world.before[key]]


async def run(number: int, profiles: int, parts: Sequence[str] = PARTS) -> Account:
    """So many points, shared out to profiles that run side by side."""
    begun, account = time.monotonic(), Account()
    async with asyncio.TaskGroup() as group:
        for share in range(profiles):
            group.create_task(live(account, lambda steps, share=share: chosen(steps, number)[share::profiles], parts))
    account.seconds = time.monotonic() - begun
    return account


def figures(account: Account, number: int) -> list[Figure]:
    """The rows of the table."""
    kinds = Counter(step.split()[0] for steps in account.steps.values() for step in steps)
    back = sorted(account.back)
    return [
        *(Figure(f"steps of {part}", len(steps)) for part, steps in account.steps.items()),
        *(Figure(f"steps that are of a {kind}", count) for kind, count in sorted(kinds.items())),
        Figure("steps of check-config, which changes nothing", len(account.checked), "", at_most=0),
        Figure("killed at a step", account.killed.total(), "", at_least=number),
        *(Figure(f"  of {part}", count) for part, count in account.killed.items()),
        Figure("steps that a run did not come to", account.missed),
        Figure("things wrong after a kill or a restart", len(account.wrong), "", at_most=0),
        Figure("restart to READY, at most", back[-1], "s", at_most=WITHIN),
        Figure("restart to READY, 95 of 100", back[len(back) * 95 // 100], "s"),
        Figure("probes", account.probes),
        Figure("probes that leaked", account.leaked, "", at_most=0),
        Figure("control: kinds of probes not seen before there were rules", account.unseen, "", at_most=0),
        Figure("real time", account.seconds, "s"),
    ]


def main() -> int:
    """Do it, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000, help="as many as there are, if that is fewer")
    parser.add_argument("--profiles", type=int, default=4, help="side by side")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part of a life")
    options = parser.parse_args()
    account = asyncio.run(run(options.points, options.profiles, options.part or PARTS))
    for line in account.wrong:
        print(f"wrong: {line[:600]}")
    return show("kill -9 at each step", figures(account, min(100, options.points)))


if __name__ == "__main__":
    sys.exit(main())
