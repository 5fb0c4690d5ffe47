"""The lines of `core.routes`, carried out and looked after. For every back end that has a device of its own."""

from __future__ import annotations

from vpnpf.core import routes
from vpnpf.errors import Transient
from vpnpf.io import ip
from vpnpf.model import TunnelPlan
from vpnpf.tunnels.whole import in_thread


async def set_up(plan: TunnelPlan) -> None:
    """Addresses, routes and rules, all or an error; then call `clear`. Raises Transient, Unavailable."""
    # Else a TUN device gets a link-local address by chance, and its route in main. Without IPv6 there is no such setting.
    await ip.force(ip.V4, [f"link set {plan.interface} addrgenmode none"])
    for family, carried in await in_thread(_families, plan.interface):
        # By force: where the lock holds already, its rules are there and their lines fail.
        done = await ip.force(family, routes.bring_up(plan, family, carried=carried))
        if gone := await _missing(plan, family, carried=carried):
            raise Transient("setting addresses and routes", f"{gone} cannot be set: {ip.complaint(done)} (ip {family})")


async def heal(plan: TunnelPlan) -> str:
    """Put back what somebody took; say what was missing, empty: nothing. Raises Transient if it stays missing."""
    found = ""
    for family, carried in await in_thread(_families, plan.interface):
        if gone := await _missing(plan, family, carried=carried):
            found = found or gone
            # What stands already makes its line fail; `-force` goes on with the next.
            done = await ip.force(family, routes.bring_up(plan, family, carried=carried))
            if gone := await _missing(plan, family, carried=carried):
                cause = f"{gone} cannot be set: {ip.complaint(done)} (ip {family})"
                raise Transient("putting the tunnel's routes back", cause)
    return found


async def keep_only(plan: TunnelPlan) -> None:
    """Take all addresses off the device that are not the plan's, and put back what went with them. Raises Transient."""
    for family, _ in await in_thread(_families, plan.interface):
        listing = await ip.listing(family, [f"addr show dev {plan.interface}"])
        if lines := routes.strange(plan, listing):
            await ip.force(family, lines)
    await heal(plan)


async def clear(table: int) -> None:
    """Take our rules away, and our routes of that table. Not where a lock holds them: they are the lock's then."""
    for family in await in_thread(ip.families):
        await ip.force(family, routes.take_down(table))


async def _missing(plan: TunnelPlan, family: str, *, carried: bool) -> str:
    return routes.missing(plan, family, await ip.listing(family, routes.show(plan)), carried=carried)


def _families(interface: str) -> list[tuple[str, bool]]:
    return [(family, ip.carried(interface, family)) for family in ip.families()]
