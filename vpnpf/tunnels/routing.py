"""The lines of `routes`, carried out and looked after. For every back end that has a device of its own."""

from __future__ import annotations

from pathlib import Path

from vpnpf.errors import Transient
from vpnpf.io import process
from vpnpf.model import TunnelPlan
from vpnpf.tunnels import routes
from vpnpf.tunnels.whole import in_thread

PROC = Path("/proc")


async def set_up(plan: TunnelPlan) -> None:
    """Addresses, routes and rules, all or an error; then call `clear`. Raises Transient, Unavailable."""
    # Else a TUN device gets a link-local address by chance, and its route in main. Without IPv6 there is no such setting.
    await _force(routes.FAMILIES[0], [f"link set {plan.interface} addrgenmode none"])
    for family, carried in await in_thread(_families, plan.interface):
        lines = routes.bring_up(plan, family, carried=carried)
        await process.must(("ip", family, "-batch", "-"), doing="setting addresses and routes", stdin=_batch(lines))


async def heal(plan: TunnelPlan) -> str:
    """Put back what somebody took; say what was missing, empty: nothing. Raises Transient if it stays missing."""
    found = ""
    for family, carried in await in_thread(_families, plan.interface):
        if gone := await _missing(plan, family, carried=carried):
            found = found or gone
            # What stands already makes its line fail; `-force` goes on with the next.
            await _force(family, routes.bring_up(plan, family, carried=carried))
            if gone := await _missing(plan, family, carried=carried):
                raise Transient("putting the tunnel's routes back", f"{gone} cannot be set (ip {family})")
    return found


async def clear(interface: str, table: int) -> None:
    """Take our rules away, and our routes of that table. Nothing happens where there are none."""
    for family, _ in await in_thread(_families, interface):
        await _force(family, routes.take_down(table))


async def _missing(plan: TunnelPlan, family: str, *, carried: bool) -> str:
    return routes.missing(plan, family, await _force(family, routes.show(plan)), carried=carried)


async def _force(family: str, lines: list[str]) -> str:
    """Run all lines though some fail; returns what they wrote."""
    done = await process.run(("ip", "-N", family, "-force", "-batch", "-"), stdin=_batch(lines))
    return done.stdout


def _families(interface: str) -> list[tuple[str, bool]]:
    """Each family that the kernel has, and whether the device carries it: IPv6 may be switched off on some devices.

    Where the kernel has no IPv6 at all, none can leave, and `ip -6` would fail.
    """
    v4, v6 = routes.FAMILIES
    if not (PROC / "net/if_inet6").exists():
        return [(v4, True)]
    try:
        switched_off = (PROC / "sys/net/ipv6/conf" / interface / "disable_ipv6").read_text().strip()
    except OSError:  # there is no such device
        switched_off = "1"
    return [(v4, True), (v6, switched_off == "0")]


def _batch(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
