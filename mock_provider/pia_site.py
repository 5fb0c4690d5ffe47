"""A server of PIA with all that belongs to it: tunnel, exit, registration of keys, logins by its address, forwards.

first, second = pia.servers
first.registry, first.add_key             # what it knows, and the HTTPS service before it
first.forwards, first.api                 # likewise for port forwarding
first.meta                                # logins by the server's address
await first.mute()
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from mock_provider.dns import Dns
from mock_provider.https import Answer, Asked, Https
from mock_provider.nat import Nat
from mock_provider.pia_account import PiaAccount
from mock_provider.pia_forward import PORT as API_PORT
from mock_provider.pia_forward import PortForwarding, Signer
from mock_provider.pia_list import META_PORT, OPENVPN_TCP_PORT, OPENVPN_UDP_PORT, WIREGUARD_PORT, ListedServer
from mock_provider.pia_openvpn import PiaOpenVpnServer
from mock_provider.pia_pki import servers_authority
from mock_provider.pia_register import Registry
from mock_provider.pia_web import Logins
from mock_provider.topology import Lab
from mock_provider.wireguard import Place, WireGuardServer
from vpnpf.model import Protocol

META_OTHER_PORT = 8080
DNS = ("10.0.0.243", "10.0.0.242")
"""The resolvers in the tunnel, the same for all servers."""
PORTS = {"wireguard": WIREGUARD_PORT, "openvpn": OPENVPN_UDP_PORT, "openvpn-tcp": OPENVPN_TCP_PORT}


@dataclass(frozen=True, slots=True)
class Common:
    """What all servers share."""

    account: PiaAccount
    signer: Signer
    names: dict[str, str]
    tunnel: str = "wireguard"


class PiaSite:
    """One server; an async context manager."""

    server: WireGuardServer
    nat: Nat
    registry: Registry
    add_key: Https
    forwards: PortForwarding
    api: Https
    meta: Https

    def __init__(self, lab: Lab, number: int, common: Common) -> None:
        hidden = WIREGUARD_PORT + number if common.tunnel == "wireguard" and number else 0
        self.place = replace(Place.of(number), port=PORTS[common.tunnel], hidden_port=hidden)
        self.cn = f"amsterdam{401 + number}"
        self._lab = lab
        self._common = common
        self._stack = contextlib.AsyncExitStack()

    @property
    def listed(self) -> ListedServer:
        """As the list has it."""
        return ListedServer(self.place.address, self.cn)

    @property
    def exit_address(self) -> str:
        """Where the internet sees its customers, and knocks."""
        return self.place.exit

    @property
    def services(self) -> tuple[Https, ...]:
        """Its services over HTTPS."""
        return self.add_key, self.api, self.meta

    @property
    def openvpn(self) -> PiaOpenVpnServer:
        """The tunnel's server, if it is OpenVPN."""
        assert isinstance(self.server, PiaOpenVpnServer)
        return self.server

    async def __aenter__(self) -> Self:
        enter, host, common, place = self._stack.enter_async_context, self._lab.server, self._common, self.place
        try:
            self.server = await enter(self._server())
            self.nat = Nat(host, place.exit, f"mock_dnat{place.suffix}")
            await self.nat.start()
            await enter(Dns(host, place.gateway, common.names))
            self.registry = Registry(self.server, common.account, DNS)
            self.forwards = PortForwarding(self.nat, common.account, common.signer, self._has)
            self._stack.push_async_callback(self.forwards.stop)
            logins = Logins(common.account)
            self.add_key = self._service(WIREGUARD_PORT, self.registry.answer)
            self.api = self._service(API_PORT, self.forwards.answer, place.gateway)
            self.meta = self._service(META_PORT, logins.answer)
            other = self._service(META_OTHER_PORT, logins.answer)
            for each in (self.add_key, self.api, self.meta, other):
                await enter(each)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _service(self, port: int, answer: Callable[[Asked], Awaitable[Answer]], *more: str) -> Https:
        names = {self.cn: servers_authority().context(self.cn)}
        return Https(self._lab.server, (self.place.address, *more), port, names, answer)

    def _server(self) -> WireGuardServer:
        if self._common.tunnel == "wireguard":
            return WireGuardServer(self._lab, place=self.place)
        return PiaOpenVpnServer(
            self._lab,
            place=self.place,
            transport=Protocol.UDP if self._common.tunnel == "openvpn" else Protocol.TCP,
            account=self._common.account,
            authority=servers_authority(),
            cn=self.cn,
            dns=DNS[0],
        )

    def _has(self, address: str) -> bool:
        """Whether somebody's tunnel to this server has the address."""
        if isinstance(self.server, PiaOpenVpnServer):
            return ipaddress.ip_address(address) in ipaddress.ip_network(self.place.network)
        return self.registry.has(address)

    def present(self, cn: str) -> None:
        """Show another machine's certificate at its HTTPS services; empty: its own again."""
        context = servers_authority().context(cn) if cn else None
        for each in self.services:
            each.present(context)

    async def mute(self) -> None:
        """The tunnel goes silent both ways, and nobody is told."""
        await self.server.mute()

    async def unmute(self) -> None:
        """Its packets pass again."""
        await self.server.unmute()

    async def kill(self) -> None:
        """It dies: the tunnel's port answers with ICMP, its sessions are forgotten; nothing can be registered."""
        await self.server.kill()
        await self.add_key.close()
        await self.api.close()
