"""The exit address's port forwards: real DNAT in the server's namespace, changed in place.

What is not forwarded is answered with ICMP host unreachable, so that a test can tell "no forward at the
exit" (unreachable) from "the client has no listener" (refused) and "the client's firewall drops" (timed out).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from mock_provider.host import Host
from mock_provider.natpmp import Dnat
from mock_provider.topology import EXIT
from vpnpf.model import Protocol

RULES = """
table ip {table} {{
  map to_tcp {{ type inet_service : ipv4_addr . inet_service
  }}
  map to_udp {{ type inet_service : ipv4_addr . inet_service
  }}
  chain exit {{
    type nat hook prerouting priority dstnat; policy accept
    ip daddr {address} dnat ip to tcp dport map @to_tcp
    ip daddr {address} dnat ip to udp dport map @to_udp
  }}
  chain rest {{
    type filter hook input priority filter; policy accept
    ip daddr {address} meta l4proto {{ tcp, udp }} reject with icmp type host-unreachable
  }}
}}
"""


class Nat:
    """The rules; `apply` keeps them what the gateway's mappings are."""

    def __init__(self, host: Host, address: str = EXIT, table: str = "mock_dnat") -> None:
        self._host = host
        self._table = table
        self.address = address
        """Where the internet knocks."""

    async def start(self) -> None:
        """Make the table. It goes with the namespace."""
        await self._host.must(("nft", "-f", "-"), stdin=RULES.format(table=self._table, address=self.address))

    async def stop(self) -> None:
        """Take the table away again."""
        await self._host.must(("nft", "delete", "table", "ip", self._table))

    async def apply(self, remove: Iterable[Dnat], add: Iterable[Dnat]) -> None:
        """Change the forwards in one transaction. Raises Transient."""
        lines = [f"delete element ip {self._table} to_{rule.protocol} {{ {rule.external_port} }}" for rule in remove]
        lines += [
            f"add element ip {self._table} to_{rule.protocol} "
            f"{{ {rule.external_port} : {rule.address} . {rule.internal_port} }}"
            for rule in add
        ]
        if lines:
            await self._host.must(("nft", "-f", "-"), stdin="\n".join(lines) + "\n")

    async def read(self) -> frozenset[Dnat]:
        """What the kernel has."""
        listed = json.loads(await self._host.must(("nft", "-j", "list", "table", "ip", self._table)))
        return frozenset(
            Dnat(Protocol(item["map"]["name"].removeprefix("to_")), external, *target["concat"])
            for item in listed["nftables"]
            if "map" in item
            for external, target in item["map"].get("elem", ())
        )
