"""Which networks can be a LAN. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network

PRIVATE: tuple[Network, ...] = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"))
)
"""RFC 1918, RFC 3927, RFC 4193, RFC 4291 section 2.5.6: addresses that nobody routes on the internet."""


def is_private(prefix: Network) -> bool:
    """Whether all of a prefix is private."""
    return any(
        prefix.version == wider.version and prefix.prefixlen >= wider.prefixlen and prefix.network_address in wider
        for wider in PRIVATE
    )
