"""Why a gateway may be silent, as far as it can be known from here. Pure."""

from __future__ import annotations

import ipaddress

from vpnpf.core.draft import dead, why_dead
from vpnpf.core.state import Machine


def why_silent(machine: Machine) -> str:
    """The likeliest cause that no answer came, in a few words; empty: the tunnel is not up."""
    tunnel, health = machine.tunnel, machine.health
    if tunnel is None or health is None:
        return ""
    if dead(health) or machine.silent_since is not None:
        why = why_dead(health) if dead(health) else "the server does not answer either"
        return f"the way there is dead: {why}"
    gateway = ipaddress.ip_address(tunnel.gateway) if tunnel.gateway else None
    if gateway is None:
        return "the tunnel has no gateway"
    for lan in tunnel.plan.lan:
        if gateway in ipaddress.ip_network(lan.prefix, strict=False):
            return f"{gateway} is also an address of your own network ({lan.prefix} on {lan.interface})"
    own = [ipaddress.ip_interface(address) for address in tunnel.plan.addresses]
    around = [ipaddress.ip_network(f"{one.ip}/{_widest(one)}", strict=False) for one in own]
    alive = "the tunnel works" + (
        f" (handshake {health.handshake_age:.0f} s old)" if health.handshake_age is not None else ""
    )
    if str(gateway) not in tunnel.plan.dns and not any(gateway in network for network in around):
        return f"{alive}, but {gateway} is not near its address {own[0].ip}: it may be the wrong gateway"
    return f"{alive}: nobody answers there"


def _widest(own: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> int:
    """Providers have their gateway in the /16 of the tunnel's address, or the /64, whatever mask they hand out."""
    return min(own.network.prefixlen, 16 if own.version == 4 else 64)  # noqa: PLR2004 - the version
