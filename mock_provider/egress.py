"""An exit that peers see and that is not the address whose ports are forwarded.

Seen on real servers: NAT-PMP names one address and forwards its ports, while what the customer sends leaves from
another. Whoever tells the swarm the port beside the address that it sees (a tracker does) is not reached then.

    async with OtherEgress(provider.lab.server) as egress:
        ...                                    # peers see egress.address; ports are open at EXIT
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from mock_provider.host import Host
from mock_provider.wireguard import NETWORK

ADDRESS = "198.51.100.12"
RULES = f"""
table ip mock_egress {{
  chain post {{
    type nat hook postrouting priority srcnat - 10; policy accept
    ip saddr {NETWORK} oifname "eth0" snat ip to {ADDRESS}
  }}
  chain rest {{
    type filter hook input priority filter; policy accept
    ip daddr {ADDRESS} meta l4proto {{ tcp, udp }} reject with icmp type host-unreachable
  }}
}}
"""


class OtherEgress:
    """Customers go out by another address while this is entered; an async context manager."""

    def __init__(self, server: Host) -> None:
        self._server = server
        self.address = ADDRESS
        """What peers see."""

    async def __aenter__(self) -> Self:
        await self._server.must(("ip", "addr", "add", f"{ADDRESS}/24", "dev", "eth0"))
        await self._server.must(("nft", "-f", "-"), stdin=RULES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.must(("nft", "delete", "table", "ip", "mock_egress"))
        await self._server.must(("ip", "addr", "del", f"{ADDRESS}/24", "dev", "eth0"))
