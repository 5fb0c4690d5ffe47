"""A home router that forwards ports, for a client without a VPN: the lab's router with a gateway of RFC 6886.

    async with Lab() as lab, HomeRouter(lab) as home:
        ...                                            # the client asks 192.168.77.1 for a mapping
        await home.peer.connect_tcp(home.external_address, port)

It stands beside a `MockProvider` as well: `HomeRouter(provider.lab)`. While it is there, the LAN goes out to the
internet by its external address, as behind any such router; what is not forwarded is unreachable from outside.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mock_provider.gateway import Gateway, Request
from mock_provider.nat import Nat
from mock_provider.peer import Peer
from mock_provider.topology import ROUTER, Lab

EXTERNAL = "203.0.113.1"
"""The router's address on the side of the internet host."""
LAN = "br0"
"""Its device on the side of the client."""
MASQUERADE = f"""
table ip mock_home {{
  chain post {{
    type nat hook postrouting priority srcnat; policy accept
    ip saddr 192.168.77.0/24 oifname "wan-*" snat ip to {EXTERNAL}
  }}
}}
"""


class HomeRouter:
    """The router's gateway and its forwards; an async context manager, which takes them away at the end."""

    gateway: Gateway
    nat: Nat
    peer: Peer
    """On the internet."""

    def __init__(
        self,
        lab: Lab,
        *,
        mode: str = "rfc",
        lifetime: int = 7200,
        on_request: Callable[[Request], None] = lambda _request: None,
    ) -> None:
        self.lab = lab
        self.address = ROUTER
        """Where the client finds its gateway."""
        self.external_address = EXTERNAL
        self._mode = mode
        self._lifetime = lifetime
        self._on_request = on_request
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        host = self.lab.router
        async with contextlib.AsyncExitStack() as stack:
            await host.must(("nft", "-f", "-"), stdin=MASQUERADE)
            stack.push_async_callback(host.must, ("nft", "delete", "table", "ip", "mock_home"))
            self.nat = Nat(host, EXTERNAL)
            await self.nat.start()
            stack.push_async_callback(self.nat.stop)
            self.gateway = await stack.enter_async_context(
                Gateway(
                    host,
                    self.nat,
                    address=ROUTER,
                    mode=self._mode,
                    lifetime=self._lifetime,
                    exit_address=EXTERNAL,
                    on_request=self._on_request,
                )
            )
            self.gateway.interface = LAN
            self.peer = Peer(self.lab.internet)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
