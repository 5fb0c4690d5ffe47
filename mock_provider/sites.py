"""A server of the provider with all that belongs to it: tunnel, gateway, exit, resolver and a customer.

    async with MockProvider(servers=2) as provider:
        first, second = provider.servers
        first.client_config(tmp_path / "first.conf")
        await first.mute()

All live in the same namespace. They share nothing else: keys, endpoints, addresses in the tunnel, leases and exits
are each one's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mock_provider.dns import Dns
from mock_provider.gateway import Gateway, Request
from mock_provider.nat import Nat
from mock_provider.openvpn import OpenVpnServer
from mock_provider.panel import Panel
from mock_provider.topology import Lab
from mock_provider.wireguard import Client, Place, WireGuardServer
from vpnpf.model import Protocol

TUNNELS = ("wireguard", "openvpn", "openvpn-tcp")


@dataclass(frozen=True, slots=True)
class Settings:
    """What all servers of a provider have in common."""

    lifetime: int = 60
    mode: str = "proton"
    ipv6: bool = False
    on_request: Callable[[Request], None] = lambda _request: None
    tunnel: str = TUNNELS[0]
    """One of TUNNELS."""
    panel: bool = False
    """Whether customers have a port switch of their own at the provider."""


class Site:
    """One server; an async context manager."""

    server: WireGuardServer
    nat: Nat
    gateway: Gateway
    dns: Dns
    """Its resolver in the tunnel, at the gateway's address."""
    customer: Client
    """The first customer."""
    panel: Panel | None = None
    """The first customer's port switch, if the provider has such a thing."""

    def __init__(self, lab: Lab, number: int, settings: Settings) -> None:
        self.place = Place.of(number)
        self._lab = lab
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter, settings, host = self._stack.enter_async_context, self._settings, self._lab.server
        place = self.place
        try:
            self.server = await enter(self._server())
            self.nat = Nat(host, place.exit, f"mock_dnat{place.suffix}")
            await self.nat.start()
            self.gateway = await enter(
                Gateway(
                    host,
                    self.nat,
                    address=place.gateway,
                    mode=settings.mode,
                    lifetime=settings.lifetime,
                    exit_address=place.exit,
                    on_request=settings.on_request,
                )
            )
            self.gateway.interface = self.server.interface
            self.dns = await enter(Dns(host, place.gateway))
            self.customer = await self.server.add_client()
            if settings.panel:
                self.panel = await enter(Panel(host, place.gateway, self.customer, place.suffix))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _server(self) -> WireGuardServer:
        lab, ipv6 = self._lab, self._settings.ipv6
        match self._settings.tunnel:
            case "openvpn":
                return OpenVpnServer(lab, ipv6=ipv6, place=self.place)
            case "openvpn-tcp":
                return OpenVpnServer(lab, ipv6=ipv6, place=self.place, transport=Protocol.TCP)
            case _:
                return WireGuardServer(lab, ipv6=ipv6, place=self.place)

    @property
    def exit_address(self) -> str:
        """Where the internet sees its customers, and knocks."""
        return self.place.exit

    def client_config(self, path: Path) -> Path:
        """Write its first customer's file; returns its path."""
        return self.customer.write(path)

    async def mute(self) -> None:
        """It goes silent both ways, and nobody is told."""
        await self.server.mute()

    async def unmute(self) -> None:
        """Its packets pass again."""
        await self.server.unmute()

    async def kill(self) -> None:
        """It dies: its port answers with ICMP, its sessions are forgotten."""
        await self.server.kill()

    async def restart(self) -> None:
        """It comes back with its keys and customers, and no session."""
        await self.server.restart()
