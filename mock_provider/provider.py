"""The whole provider: lab, VPN server, NAT-PMP gateway, exit, resolvers and a peer on the internet.

async with MockProvider(lifetime=4) as provider:
    config = provider.client_config(tmp_path / "proton.conf")
    child = await provider.lab.client.popen([...])
    await provider.gateway.until(lambda: provider.gateway.mappings)
    provider.gateway.rotate()
    outcome = await provider.peer.connect_tcp(EXIT, port)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mock_provider.dns import Dns
from mock_provider.gateway import Gateway, Request
from mock_provider.nat import Nat
from mock_provider.panel import Panel
from mock_provider.peer import Peer
from mock_provider.sites import TUNNELS, Settings, Site
from mock_provider.topology import EXIT, ROUTER, SERVER, Lab
from mock_provider.wireguard import GATEWAY, Client, WireGuardServer


def endpoint_name(number: int) -> str:
    """The name of a VPN server, from 0, that the ISP's resolver knows."""
    return f"node-{number + 1}.vpn.test"


ENDPOINT_NAME = endpoint_name(0)


class MockProvider:
    """A provider that is up from entry to exit, or from `start` to `stop`."""

    lab: Lab
    servers: tuple[Site, ...]
    """All of them; what follows is the first one's."""
    server: WireGuardServer
    nat: Nat
    gateway: Gateway
    dns: Dns
    """The provider's resolver in the tunnel, 10.2.0.1."""
    isp_dns: Dns
    """The resolver of the client's LAN, 192.168.77.1: whoever asks it has leaked, unless it is for the endpoint."""
    peer: Peer
    """On the internet."""
    customer: Client
    """The first customer, 10.2.0.2."""

    def __init__(
        self,
        *,
        lifetime: int = 60,
        mode: str = "proton",
        neighbour: bool = False,
        lan_host: bool = False,
        ipv6: bool = False,
        on_request: Callable[[Request], None] = lambda _request: None,
        servers: int = 1,
        tunnel: str = TUNNELS[0],
        panel: bool = False,
    ) -> None:
        self._settings = Settings(lifetime, mode, ipv6, on_request, tunnel, panel)
        self._servers = servers
        self._neighbour = neighbour
        self._lan_host = lan_host
        self._stack = contextlib.AsyncExitStack()
        self._started = False
        self.exit_address = EXIT
        self.gateway_address = GATEWAY
        self.endpoint = SERVER

    @classmethod
    async def start(
        cls,
        *,
        lifetime: int = 60,
        mode: str = "proton",
        neighbour: bool = False,
        lan_host: bool = False,
        ipv6: bool = False,
        on_request: Callable[[Request], None] = lambda _request: None,
        servers: int = 1,
        tunnel: str = TUNNELS[0],
        panel: bool = False,
    ) -> Self:
        """Bring it up; whoever calls this calls `stop`, or enters what is returned."""
        provider = cls(
            lifetime=lifetime,
            mode=mode,
            neighbour=neighbour,
            lan_host=lan_host,
            ipv6=ipv6,
            on_request=on_request,
            servers=servers,
            tunnel=tunnel,
            panel=panel,
        )
        return await provider.__aenter__()

    async def __aenter__(self) -> Self:
        if self._started:
            return self
        self._started = True
        enter = self._stack.enter_async_context
        try:
            self.lab = await enter(Lab(neighbour=self._neighbour, lan_host=self._lan_host))
            self.servers = tuple([await enter(Site(self.lab, each, self._settings)) for each in range(self._servers)])
            first = self.servers[0]
            self.server, self.nat, self.gateway, self.dns = first.server, first.nat, first.gateway, first.dns
            self.customer = first.customer
            self.isp_dns = await enter(Dns(self.lab.router, ROUTER, self._names()))
            self.peer = Peer(self.lab.internet)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def panel(self) -> Panel:
        """The first customer's port switch; only with MockProvider(panel=True)."""
        panel = self.servers[0].panel
        assert panel, "the provider was made without panel=True"
        return panel

    def _names(self) -> dict[str, str]:
        return {endpoint_name(number): site.place.address for number, site in enumerate(self.servers)}

    async def stop(self) -> None:
        """Take everything away; nothing happens the second time."""
        await self._stack.aclose()

    def client_config(self, path: Path) -> Path:
        """Write the first customer's file, as the provider's site would give it out; returns its path."""
        return self.customer.write(path)
