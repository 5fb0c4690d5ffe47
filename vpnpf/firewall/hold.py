"""The lock's second layer: routing rules that lead to the tunnel's table, and an unreachable route at its end.

It blocks what the packet filter lets through while somebody's `nft flush ruleset` has taken our table away. It does
not hold a socket that is bound to the uplink: that is the packet filter's part.
"""

from __future__ import annotations

import asyncio

from vpnpf.core import routes
from vpnpf.errors import Transient
from vpnpf.io import ip
from vpnpf.model import TunnelPlan


class Hold:
    """One plan's rules and unreachable routes."""

    def __init__(self) -> None:
        self._stands: TunnelPlan | None = None
        """Whose were put up and, as far as was seen, are there."""

    async def stand(self, plan: TunnelPlan) -> None:
        """Put them up; what a killed run of another profile left goes. Raises Transient, Unavailable."""
        if self._stands is not None and _same(self._stands, plan):
            return
        for family in await asyncio.to_thread(ip.families):
            done = await ip.force(family, routes.hold(plan, family))
            listing = await ip.listing(family, routes.show_hold(plan))
            if strays := routes.strays(plan, family, listing):
                await ip.force(family, strays)
            if gone := routes.not_held(plan, family, listing):
                raise Transient(
                    "putting up the lock's routes", f"{gone} cannot be set: {ip.complaint(done)} (ip {family})"
                )
        self._stands = plan

    async def missing(self) -> str:
        """Say what somebody took away; empty: nothing, or nothing stands."""
        plan = self._stands
        if plan is None:
            return ""
        for family in await asyncio.to_thread(ip.families):
            gone = routes.not_held(plan, family, await ip.listing(family, routes.show_hold(plan)))
            if gone:
                self._stands = None
                return f"{gone} is gone"
        return ""

    async def clear(self) -> None:
        """Take away all rules of ours and the routes that they lead to, whoever put them up."""
        for family in await asyncio.to_thread(ip.families):
            if lines := routes.undo(await ip.listing(family, ["rule show"])):
                await ip.force(family, lines)
        self._stands = None


def _same(one: TunnelPlan, other: TunnelPlan) -> bool:
    return (one.mark, one.table, one.lan) == (other.mark, other.table, other.lan)
