"""The machine's own links: which private prefixes are directly connected."""

from __future__ import annotations

import ipaddress
import json

from vpnpf.core.networks import Network, is_private
from vpnpf.errors import Transient
from vpnpf.io.process import must
from vpnpf.model import LanPrefix

_NO_LAN = {"LOOPBACK", "POINTOPOINT"}


class KernelLinks:
    """The kernel's list of addresses (`interfaces.Lan`)."""

    async def prefixes(self, without: str) -> tuple[LanPrefix, ...]:
        """Private prefixes on connected links other than the device `without`, tunnels and the loopback.

        Raises Transient if the list cannot be had, Unavailable without `ip`.
        """
        doing = "listing this machine's links"
        shown = await must(("ip", "-j", "addr", "show", "up"), doing=doing)
        try:
            links = json.loads(shown or "[]")
        except (ValueError, RecursionError) as error:
            raise Transient(doing, f"ip wrote no JSON: {error}") from error
        return private(links, without)


def private(links: object, without: str) -> tuple[LanPrefix, ...]:
    """Pick the private prefixes out of what `ip -j addr` prints. Pure; what is not understood counts for nothing."""
    found = set()
    for link in links if isinstance(links, list) else ():
        # For a link that was not asked for, `ip` prints an empty object.
        match link:
            case {"ifname": str(name), "flags": list(flags), "addr_info": list(addresses)}:
                if name != without and _NO_LAN.isdisjoint(map(str, flags)):
                    found |= {LanPrefix(name, str(prefix)) for prefix in map(_prefix, addresses) if prefix}
    return tuple(sorted(found, key=lambda lan: (lan.interface, lan.prefix)))


def _prefix(address: object) -> Network | None:
    """The private prefix that an address puts on its link, or None."""
    match address:
        # With a peer (ip-address(8)), that and not our own address says what is on the link.
        case {"address": str(near), "prefixlen": int(length)} | {"local": str(near), "prefixlen": int(length)}:
            try:
                prefix = ipaddress.ip_network(f"{near}/{length}", strict=False)
            except ValueError:
                return None
            if prefix.prefixlen < prefix.max_prefixlen and is_private(prefix):
                return prefix
    return None
