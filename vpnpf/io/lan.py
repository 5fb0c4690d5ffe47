"""The machine's own links: which private prefixes are directly connected."""

from __future__ import annotations

import ipaddress
import json

from vpnpf.io.process import must
from vpnpf.model import LanPrefix

PRIVATE = tuple(
    ipaddress.ip_network(prefix)
    for prefix in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)
"""RFC 1918, RFC 3927, RFC 4193, RFC 4291 section 2.5.6: addresses that nobody routes on the internet."""


class KernelLinks:
    """The kernel's list of addresses (`interfaces.Lan`)."""

    async def prefixes(self, without: str) -> tuple[LanPrefix, ...]:
        """Private prefixes on connected links other than the device `without` and the loopback."""
        shown = await must(("ip", "-j", "addr", "show", "up"), doing="listing this machine's links")
        return private(json.loads(shown or "[]"), without)


def private(links: list[dict[str, object]], without: str) -> tuple[LanPrefix, ...]:
    """Pick the private prefixes out of what `ip -j addr` prints. Pure."""
    found = set()
    for link in links:
        name, flags, addresses = link.get("ifname"), link.get("flags", ()), link.get("addr_info", ())
        if not isinstance(flags, list) or not isinstance(addresses, list) or name == without:
            continue
        if "LOOPBACK" in flags or "POINTOPOINT" in flags:
            continue
        for address in addresses:
            prefix = ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
            if prefix.prefixlen == prefix.max_prefixlen:
                continue
            if any(prefix.version == net.version and prefix.subnet_of(net) for net in PRIVATE):  # type: ignore[arg-type]
                found.add(LanPrefix(str(name), str(prefix)))
    return tuple(sorted(found, key=lambda lan: (lan.interface, lan.prefix)))
