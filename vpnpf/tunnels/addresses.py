"""What follows from a tunnel's own addresses. Pure."""

from __future__ import annotations

import ipaddress

from vpnpf.model import LanPrefix

NOBODY = "192.0.0.8/32"
"""A device's address until it is given one: the IPv4 dummy address (RFC 7600). Without an address there could be no way
through the device, and with none a reverse path filter drops what comes back beside it, also a loose one."""


def gateway_of(own: str, dns: tuple[str, ...]) -> str:
    """Where providers have their gateway: the resolver in the tunnel's own /24 if there is one, else its first host.

    `own` is an address with prefix length.
    """
    interface = ipaddress.ip_interface(own)
    around = ipaddress.ip_network(f"{interface.ip}/{min(24, interface.network.prefixlen)}", strict=False)
    for server in dns:
        if ipaddress.ip_address(server) in around:
            return server
    return str(around.network_address + 1)


def beside(tunnel: tuple[str, ...], lan: tuple[LanPrefix, ...]) -> tuple[LanPrefix, ...]:
    """The LANs that hold none of the tunnel's addresses: where both have the same, the tunnel's are meant.

    Else a hostile LAN could pose as the provider's resolver or gateway by choosing its prefix.
    """
    ours = [ipaddress.ip_interface(address).ip for address in tunnel]
    return tuple(each for each in lan if not any(address in ipaddress.ip_network(each.prefix) for address in ours))
