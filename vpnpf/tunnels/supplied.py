"""Tunnels whose configuration the provider makes: which server is meant, and asking for its configuration in time."""

from __future__ import annotations

import asyncio
import ipaddress

from vpnpf.errors import ConfigError, LeaseLost, Misconfigured, NoAnswer, Refused, Transient, Unsupported, Untrusted
from vpnpf.interfaces import Configuration, Offer, TunnelSupply
from vpnpf.io.clock import BootClock
from vpnpf.io.lan import KernelLinks
from vpnpf.model import Endpoint, TunnelPlan
from vpnpf.tunnels.names import mark_of

PATIENCE = 30.0
"""Seconds for the configuration of a tunnel that is to come up: a login may have to come first."""
AGAIN_PATIENCE = 8.0
"""Seconds for another one then."""
IN_PLACE_PATIENCE = 5.0
"""Seconds for another one while a tunnel is up that does not work any more."""
AGAIN_APART = 15.0
"""Seconds after which a server that was told the key anew, and is silent all the same, is told once more."""
NAME = "the provider's configuration"
"""How errors call the text."""
_READING = f"reading {NAME}"
_OTHER = "choose another region, or try again later"


class Supplied:
    """A supply, as a tunnel back end uses it."""

    def __init__(self, supply: TunnelSupply) -> None:
        self._supply = supply
        self._clock = BootClock()
        self._offers: dict[int, Offer] = {}
        """By server, as they were at the last plan."""
        self._again_from = 0.0
        """When `again` may be asked the next time, in seconds on CLOCK_BOOTTIME."""
        self.in_doubt = False
        """Whether a server may have been told the key anew and we did not hear its answer: then a handshake proves nothing
        of our addresses."""

    async def plan(self, server: int, *, interface: str, table: int, mtu: int, lan: bool) -> TunnelPlan:
        """What is known of a tunnel before anybody logs in. Raises Failure."""
        offers = await self._supply.offers()
        offer = self._offers[server] = offers[server % len(offers)]
        return TunnelPlan(
            interface=interface,
            endpoint=offer.endpoint,
            addresses=(),
            mark=mark_of(table),
            table=table,
            mtu=mtu,
            lan=await KernelLinks().prefixes(interface) if lan else (),
            server=server,
            identity=offer.identity,
            server_name=offer.server_name,
            place=offer.place,
            services=offer.services,
        )

    async def configure(self, plan: TunnelPlan, *, again: bool = False) -> Configuration:
        """Ask for the configuration of a tunnel that is to come up. Raises Failure."""
        self.in_doubt = False
        return await self._asked(plan, AGAIN_PATIENCE if again else PATIENCE, again=again)

    async def configure_in_place(self, plan: TunnelPlan) -> Configuration | None:
        """Ask for another configuration of a tunnel that is up and gets no answer. Raises LeaseLost if none is to be had.

        None: nobody could be asked, or one was given a moment ago and does not help.
        """
        if self._clock.now() < self._again_from:
            return None
        self.in_doubt = True
        try:
            given = await self._asked(plan, IN_PLACE_PATIENCE, again=True)
        except Untrusted as error:
            # On another network, say, before somebody has logged in there: the tunnel may be good again by itself.
            self._again_from = self._clock.now() + (error.retry_after or 0.0)
            self.in_doubt = False
            return None
        except (Misconfigured, Unsupported) as error:
            # What is to be done is told by the next start.
            raise LeaseLost(error.doing, error.cause) from error
        except Transient as error:
            self._again_from = self._clock.now() + (error.retry_after or 0.0)
            self.in_doubt = not isinstance(error, Refused)
            return None
        self.in_doubt = False
        self._again_from = self._clock.now() + AGAIN_APART
        return given

    async def _asked(self, plan: TunnelPlan, patience: float, *, again: bool) -> Configuration:
        offer = self._offers.get(plan.server)
        if offer is None or offer.endpoint != plan.endpoint:
            raise Transient("choosing the tunnel's server", "the provider offers another one than at the last plan")
        doing = f"asking for the configuration of a tunnel to {offer.place or plan.endpoint}"
        try:
            async with asyncio.timeout(patience):
                given = await self._supply.configure(plan, offer, again=again)
        except TimeoutError:
            raise NoAnswer(doing, f"not done within {patience:g} s", _OTHER) from None
        if given.gateway:
            try:
                ipaddress.IPv4Address(given.gateway)
            except ValueError:
                raise Transient(_READING, "its gateway is no IPv4 address", _OTHER) from None
        return given


def unreadable(error: ConfigError) -> Transient:
    """What a text is worth that a file would be refused for: another server may give a better one."""
    return Transient(_READING, error.cause, _OTHER)


def elsewhere(endpoint: Endpoint) -> Transient:
    """The text leads to another server than the offer, whom the packet filter does not let out to."""
    return Transient(_READING, f"it does not lead to {endpoint}", _OTHER)
