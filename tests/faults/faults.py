# ruff: noqa: T201 - it talks to a person
"""Hundreds of faults under a stream of probes, and not one leaks: `python -m tests.faults.faults`, part of `make faults`.

Several profiles run side by side, each with a provider, a cable and probes of its own, since most of the time goes by
waiting. Each fault waits until the profile has recovered: READY by looks that are younger than the fault, and a host
on the internet gets in at the port. At the end the rules are taken away by hand, and the same probes have to be seen.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mock_provider.product import traces
from tests.faults.cable import Leaks
from tests.faults.probes import KINDS, Probes
from tests.faults.troubles import LOCKED_DOWN, TROUBLES, Trouble
from tests.faults.world import World
from tests.figures import Figure, show


@dataclass(slots=True)
class Account:
    """What came of it, over all profiles."""

    runs: Counter[str] = field(default_factory=Counter)
    """Faults by name."""
    back: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from the end of a fault until the profile had recovered, by name."""
    probes: int = 0
    leaked: Counter[str] = field(default_factory=Counter)
    """By fault and kind of probe."""
    apart: Counter[str] = field(default_factory=Counter)
    """Seen, but of kinds that the fault counts apart."""
    unseen: int = 0
    """Kinds of probes that the control did not see: a leak of those would not have been noticed either."""
    left: list[str] = field(default_factory=list)
    """What was not as before at the end."""
    seconds: float = 0.0


async def live(account: Account, troubles: Sequence[Trouble], *, lockdown: bool, lifetime: int = 8) -> None:
    """One profile, and all these faults in turn. Raises AssertionError or VpnpfError if it does not recover."""
    async with World(lifetime=lifetime, lockdown=lockdown) as world:
        await world.start()
        await world.ready()
        async with Leaks(world.lab) as leaks, Probes(world.lab.client, world.container) as probes:
            seen = await leaks.count()
            for trouble in troubles:
                begun = datetime.now(UTC)
                await trouble.do(world, probes)
                since = time.monotonic()
                await world.recovered(begun if trouble.looked else None)
                account.back.setdefault(trouble.name, []).append(time.monotonic() - since)
                account.runs[trouble.name] += 1
                await leaks.count()
                for kind, number in leaks.by_kind(seen).items():
                    tally = account.apart if kind in trouble.apart else account.leaked
                    tally[f"{trouble.name}: {kind}"] += number
                seen = len(leaks.packets)
            account.probes += probes.total
            await _control(world, leaks, probes, account)
        world.lockdown = False
        world.configure()
        await world.start()
        await world.ready()
        await world.stop()
        after = await traces(world.lab.client)
        account.left += [key for key in after if key in _COMPARED and after[key] != world.before[key]]


_COMPARED = ("rules", "rules6", "filter", "resolver", "all/src_valid_mark", "all/rp_filter")
"""Of `traces`: the faults themselves change addresses and routes of the uplink."""


async def _control(world: World, leaks: Leaks, probes: Probes, account: Account) -> None:
    """Without rules the same probes are seen."""
    await world.kill()
    client = world.lab.client
    await client.must(("nft", "delete", "table", "inet", "vpnpf"))
    for family in ("-4", "-6"):
        await client.must(("ip", family, "rule", "flush", "protocol", "118"))
    before = len(leaks.packets)
    await probes.more(20)
    await leaks.count()
    seen = leaks.by_kind(before)
    account.unseen += sum(seen[kind.name] == 0 for kind in KINDS)


async def run(runs: int, profiles: int, seed: int, troubles: Sequence[Trouble] = TROUBLES) -> Account:
    """At least so many faults, as many of each kind, shared out to the profiles."""
    begun, account = time.monotonic(), Account()
    each = -(-runs // len(troubles))
    order = [trouble for trouble in troubles for _ in range(each)]
    random.Random(seed).shuffle(order)
    # The first profile is locked down, and has those faults that need it.
    order.sort(key=lambda trouble: trouble is not LOCKED_DOWN)
    share = -(-len(order) // profiles)
    async with asyncio.TaskGroup() as group:
        for number in range(profiles):
            mine = order[number * share : (number + 1) * share]
            random.Random(seed).shuffle(mine)
            group.create_task(live(account, mine, lockdown=number == 0))
    account.seconds = time.monotonic() - begun
    return account


def figures(account: Account, runs: int, probes: int) -> list[Figure]:
    """The rows of the table."""
    return [
        Figure("faults", account.runs.total(), "", at_least=runs),
        Figure("kinds of faults", len(account.runs), ""),
        Figure("probes", account.probes, "", at_least=probes),
        Figure("probes that leaked", account.leaked.total(), "", at_most=0),
        Figure("bound to the uplink, seen after `nft flush ruleset`", account.apart.total(), ""),
        Figure("control: kinds of probes not seen without rules", account.unseen, "", at_most=0),
        Figure("things not as before at the end", len(account.left), "", at_most=0),
        *(
            Figure(f"  recovered, half of them: {name}", sorted(seconds)[len(seconds) // 2], "s")
            for name, seconds in sorted(account.back.items())
        ),
        *(Figure(f"  recovered, at most: {name}", max(seconds), "s") for name, seconds in sorted(account.back.items())),
        Figure("real time", account.seconds, "s"),
    ]


def main() -> int:
    """Do it, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--profiles", type=int, default=5, help="side by side")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    account = asyncio.run(run(options.runs, options.profiles, options.seed))
    for name, number in (account.leaked + account.apart).items():
        print(f"seen: {number} of {name}")
    for name in account.left:
        print(f"not as before: {name}")
    return show("Faults under probes", figures(account, options.runs, 1000 * options.runs))


if __name__ == "__main__":
    sys.exit(main())
