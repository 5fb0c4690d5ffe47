"""The faults that are done to a profile that runs. Each ends with everything outside the product whole again."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mock_provider.topology import CLIENT, CLIENT6, ROUTER, ROUTER6
from tests.faults.probes import BOUND, Probes
from tests.faults.world import World

Doing = Callable[[World, Probes], Awaitable[None]]
EACH = 15
"""Probes of each kind that are sent at least while something is wrong."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault."""

    name: str
    do: Doing
    apart: frozenset[str] = frozenset()
    """Kinds of probes that are counted apart: what stands against them is what the fault takes away."""
    looked: bool = False
    """Whether it is over only when the rules were looked at again."""


async def tunnel_killed(world: World, probes: Probes) -> None:
    await world.kill_tunnel()
    await probes.more(EACH)


async def killed(world: World, probes: Probes) -> None:
    await world.kill()
    await probes.more(EACH)
    await world.start()


async def stopped(world: World, probes: Probes) -> None:
    """Under lockdown the lock stays."""
    assert await world.stop() == 0
    await probes.more(EACH)
    await world.start()


async def both_killed(world: World, probes: Probes) -> None:
    await world.kill()
    await world.kill_tunnel()
    await probes.more(EACH)
    await world.start()


async def cable_out(world: World, probes: Probes) -> None:
    await world.lab.router.must(("ip", "link", "set", "p-client", "down"))
    await probes.more(EACH)
    await world.lab.router.must(("ip", "link", "set", "p-client", "up"))


async def server_dead(world: World, probes: Probes) -> None:
    await world.provider.server.kill()
    await probes.more(EACH)
    await world.provider.server.restart()


async def server_silent(world: World, probes: Probes) -> None:
    await world.provider.server.mute()
    await probes.more(EACH)
    await world.provider.server.unmute()


async def gateway_anew(world: World, probes: Probes) -> None:
    await world.provider.gateway.vanish(forget=True)
    await probes.more(EACH)
    await world.provider.gateway.come_back()


async def filter_flushed(world: World, probes: Probes) -> None:
    await world.lab.client.must(("nft", "flush", "ruleset"))
    await probes.more(EACH)


async def device_deleted(world: World, probes: Probes) -> None:
    await world.lab.client.must(("ip", "link", "del", world.interface))
    await probes.more(EACH)


async def routes_pushed(world: World, probes: Probes) -> None:
    """As a hostile DHCP server does (option 121, TunnelVision), and the default route goes meanwhile."""
    pushed = [("0.0.0.0/1", ROUTER), ("128.0.0.0/1", ROUTER), ("::/1", ROUTER6), ("8000::/1", ROUTER6)]
    lines = [f"route add {prefix} via {gateway}" for prefix, gateway in pushed]
    lines += [f"route del default via {ROUTER}", f"route del default via {ROUTER6}"]
    await _lines(world, lines)
    await probes.more(EACH)
    lines = [f"route add default via {ROUTER}", f"route add default via {ROUTER6}"]
    await _lines(world, lines + [f"route del {prefix} via {gateway}" for prefix, gateway in pushed])


async def address_changed(world: World, probes: Probes) -> None:
    """As after another DHCP lease: the device goes down, and comes back with other addresses."""
    number = 3 if f"{CLIENT}/" in await world.lab.client.must(("ip", "addr", "show", "dev", "eth0")) else 2
    own, own6 = (f"{address[:-1]}{number}" for address in (CLIENT, CLIENT6))
    await _lines(world, ["link set eth0 down", "addr flush dev eth0 scope global", "link set eth0 up"])
    await probes.more(EACH)
    lines = [f"addr add {own}/24 dev eth0", f"addr add {own6}/64 dev eth0 nodad"]
    await _lines(world, [*lines, f"route add default via {ROUTER}", f"route add default via {ROUTER6}"])


async def routing_deleted(world: World, probes: Probes) -> None:
    table = await _table(world)
    for family in ("-4", "-6"):
        await world.lab.client.must(("ip", family, "rule", "flush", "protocol", "118"))
        await world.lab.client.run(("ip", family, "route", "flush", "table", table))
    await probes.more(EACH)


async def stopped_and_tunnel_killed(world: World, probes: Probes) -> None:
    """The product is held still (SIGSTOP) while its tunnel dies, and goes on later."""
    os.kill(world.product.pid, signal.SIGSTOP)
    try:
        await world.kill_tunnel()
        await probes.more(EACH)
    finally:
        os.kill(world.product.pid, signal.SIGCONT)


async def _lines(world: World, lines: list[str]) -> None:
    await world.lab.client.must(("ip", "-batch", "-"), stdin="\n".join(lines) + "\n")


async def _table(world: World) -> str:
    """The routing table of the tunnel, from its rule."""
    for line in (await world.lab.client.must(("ip", "-4", "rule"))).splitlines():
        if "not from all fwmark" in line:
            return line.split(" lookup ")[1].split()[0]
    raise AssertionError("there is no rule of the tunnel")


LOCKED_DOWN = Trouble("under lockdown: vpnpf stopped, started again", stopped)
TROUBLES = (
    LOCKED_DOWN,
    Trouble("the tunnel's program killed", tunnel_killed),
    Trouble("vpnpf killed, started again", killed),
    Trouble("both killed, started again", both_killed),
    Trouble("the cable out and in", cable_out),
    Trouble("the server dead and back", server_dead),
    Trouble("the server silent for a moment", server_silent),
    Trouble("the gateway gone, back without mappings", gateway_anew),
    Trouble("nft flush ruleset", filter_flushed, BOUND, looked=True),
    Trouble("the tunnel's device deleted", device_deleted),
    Trouble("routes pushed, default route gone", routes_pushed),
    Trouble("the uplink down, back with another address", address_changed),
    Trouble("our rules and routes deleted", routing_deleted, looked=True),
    Trouble("vpnpf held still while the tunnel dies", stopped_and_tunnel_killed),
)
