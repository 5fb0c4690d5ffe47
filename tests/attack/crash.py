"""T1 to T3: things that die, races, and others who take the rules away."""

from __future__ import annotations

import itertools
import signal
import time

from mock_provider.peer import Echo
from tests.attack.attack import Attack
from tests.attack.probes import DNS_LAN, DNS_LAN6, DNS_UPLINK, TCP, UDP, UDP6, Probe, Tally, bound, probing
from tests.attack.world import (
    Score,
    Side,
    by_address,
    half_routes,
    named,
    owned_rules,
    product,
    switched,
    tables,
    under_probes,
    until,
    wg_quick,
)
from vpnpf.firewall.nft import Nft
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import Ruleset, script
from vpnpf.io.clock import BootClock
from vpnpf.model import BOTH, FirewallPolicy, FirewallStage, ForwardRule, PolicyMode, PortPolicy, TunnelPlan
from vpnpf.model import Endpoint as Address

EVERYTHING = (UDP, TCP, UDP6, DNS_LAN, DNS_UPLINK, bound(UDP), bound(TCP), bound(UDP6))
INNER = (Probe("container", "udp", UDP.target, 4480),)
SWAPS = 60
TRACKING = "table inet other {\nchain in {\ntype filter hook input priority 0\nct state new accept\n}\n}\n"


async def with_container(made: Side) -> None:
    await made.make_container()


# -- T1: kill -9 -----------------------------------------------------------------------------------


async def tunnel_killed(made: Side) -> Score:
    async def act(_tally: Tally) -> None:
        await made.kill_tunnel()

    return await under_probes(made, EVERYTHING, act, inner=INNER)


async def daemon_killed(made: Side) -> Score:
    async def act(_tally: Tally) -> None:
        await made.kill_daemon()

    return await under_probes(made, (bound(UDP), bound(TCP), bound(UDP6)), act)


async def both_killed(made: Side) -> Score:
    async def act(_tally: Tally) -> None:
        await made.kill_daemon()
        await made.kill_tunnel()

    return await under_probes(made, EVERYTHING, act, inner=INNER)


async def flow_from_before(made: Side) -> Score:
    """A flow that both ends know, from before the rules stand, must not go on beside the tunnel."""
    flow = (bound(UDP),)
    # Connection tracking begins with the first table that asks for it: anybody's.
    await made.client.must(("nft", "-f", "-"), stdin=TRACKING)
    async with (
        Echo(made.provider.lab.internet, flow[0].target, flow[0].port) as far,
        probing(made.client, flow) as tally,
    ):
        await far.until(5)
        await (product if made.guarded else switched(half_routes, by_state))(made)
        capture = await made.watch(flow)
        await tally.more(300)
        leaked = await capture.count()
    return Score(tally.sent, leaked)


def by_state(made: Side) -> str:
    """A kill switch that begins as many rule sets do."""
    return by_address(made).replace('oifname "lo" accept', 'oifname "lo" accept; ct state established,related accept')


# -- T2: races -------------------------------------------------------------------------------------

PLAN = TunnelPlan(
    interface="tun0",
    endpoint=Address("198.51.100.10", 51820),
    addresses=("10.2.0.2/32",),
    dns=("10.2.0.1",),
    mark=0xCA6C,
    table=51820,
)


def policies():
    """One stage after the other, each time with another port."""
    for number, stage in enumerate(itertools.cycle(FirewallStage)):
        rule = ForwardRule("torrent", BOTH, 40000 + number % 7, 40000 + number % 7, None)
        yield FirewallPolicy(stage, PLAN, PortPolicy(PolicyMode.ALLOW_LIST), (rule,))


def bare(ruleset: Ruleset) -> str:
    """The same rules as a transaction that deletes the table and makes it anew, with policies and no last rule."""
    text = script(ruleset, BootClock().now())
    kept = [line for line in text.splitlines(keepends=True) if "everything else" not in line]
    return f"add table inet vpnpf\ndelete table inet vpnpf\n{''.join(kept)}"


async def rules_swapped(made: Side) -> Score:
    wanted = policies()
    nft = Nft(prefix=("ip", "netns", "exec", made.client.name))
    probes = (bound(UDP), bound(UDP6))
    if made.guarded:
        await nft.apply(next(wanted), BootClock().now())
    else:
        await made.client.must(("nft", "-f", "-"), stdin=bare(render(next(wanted))))
    capture = await made.watch(probes)
    swaps = 0
    async with probing(made.client, probes, rate=8000) as tally:
        until = time.monotonic() + 30
        while swaps < SWAPS or (not made.guarded and len(capture.packets) == 0):
            if made.guarded:
                reading = await nft.apply(next(wanted), BootClock().now())
                assert reading.intact, reading.evidence
            else:
                await made.client.must(("nft", "-f", "-"), stdin=bare(render(next(wanted))))
            swaps += 1
            assert time.monotonic() < until, "no leak seen: this proves nothing on this kernel"
    leaked = await capture.count()
    return Score(tally.sent, leaked, note=f"{swaps} swaps")


async def cycles(made: Side) -> Score:
    """The tunnel goes and comes, three times; vpnpf by crash and new start, since a clean stop is meant to open."""

    async def act(_tally: Tally) -> str:
        started = time.monotonic()
        for _ in range(3):
            if made.guarded:
                await made.kill_daemon()
                await made.kill_tunnel()
                await made.start()
            else:
                path = str(made.directory / f"{made.tunnel}.conf")
                for verb in ("down", "up"):
                    environment = "WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go"
                    await made.client.must(("env", environment, "wg-quick", verb, path))
        return f"{(time.monotonic() - started) / 3:.2f} s a cycle" if made.guarded else ""

    return await under_probes(made, EVERYTHING[:-1], act)


async def stopped(made: Side) -> Score:
    """A clean stop, after which the lock is to hold until somebody opens it."""
    probes = (UDP, TCP, UDP6, *EVERYTHING[3:])

    async def act(_tally: Tally) -> None:
        if made.product is not None:
            assert await made.product.stop() == 0
        else:
            await made.client.must(("wg-quick", "down", str(made.directory / f"{made.tunnel}.conf")))

    return await under_probes(made, probes, act)


async def locked_down(made: Side) -> None:
    await product(made, lock="lockdown")


# -- T3: nft flush ruleset -------------------------------------------------------------------------


async def flushed_and_tunnel_lost(made: Side) -> Score:
    """The second layer alone: no rule stands, nobody puts them back, the tunnel is dead, and the routes lead nowhere."""

    async def act(_tally: Tally) -> None:
        if made.product is not None:
            made.product.signal(signal.SIGSTOP)
        await made.client.must(("nft", "flush", "ruleset"))
        await made.kill_tunnel()

    return await under_probes(made, (UDP, TCP, UDP6, DNS_LAN, DNS_LAN6), act, inner=INNER)


async def flushed_and_bound(made: Side) -> Score:
    """Who is bound to the uplink leaks until the rules are back: counted from then on, and the gap is told."""
    probes = (bound(UDP), bound(TCP), bound(UDP6))
    capture = await made.watch(probes)
    async with probing(made.client, probes) as tally:
        flushed = time.monotonic()
        await made.client.must(("nft", "flush", "ruleset"))
        note = ""
        if made.guarded:
            await until(lambda: tables(made.client), lambda names: "inet vpnpf" in names, deadline=30)
            gap = time.monotonic() - flushed
            note = f"rules back after {gap:.2f} s"
        in_the_gap = await capture.count()
        await tally.more(300)
    leaked = await capture.count()
    if made.guarded:
        return Score(tally.sent, leaked - in_the_gap, note=f"{note}, {in_the_gap} until then")
    return Score(tally.sent, leaked, named(capture.packets, probes))


ATTACKS = (
    Attack(
        "T1a",
        "kill -9 of the tunnel program",
        "wg-quick, no kill switch",
        tunnel_killed,
        wg_quick,
        before=with_container,
    ),
    Attack("T1b", "kill -9 of the daemon", "rules owned by a process", daemon_killed, owned_rules),
    Attack("T1c", "kill -9 of both", "rules owned by a process", both_killed, owned_rules, before=with_container),
    Attack("T1d", "flow open before the rules", "established accepted", flow_from_before, None, None),
    Attack("T2a", "rules swapped under load", "delete and make anew", rules_swapped, None, guard=None),
    Attack("T2b", "crash and start, 3 times", "wg-quick down, up", cycles, wg_quick),
    Attack("T2c", "clean stop under lockdown", "wg-quick down", stopped, wg_quick, locked_down),
    Attack(
        "T3a",
        "nft flush, then the tunnel dies",
        "kill switch, no routes layer",
        flushed_and_tunnel_lost,
        switched(half_routes, by_address),
        before=with_container,
    ),
    Attack(
        "T3b",
        "nft flush, socket bound to uplink",
        "kill switch without a watcher",
        flushed_and_bound,
        switched(half_routes, by_address),
    ),
)
