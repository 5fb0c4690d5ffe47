"""Private Internet Access as a whole: lab, account, sites, signed list, servers with port forwarding, a peer outside.

async with MockPia(servers=2) as pia:
    config = write_config(tmp_path, pia, profile)          # mock_provider.pia_config
    child = Product(pia.lab.client, tmp_path, config, profile, env=environment(tmp_path))
    ...
    pia.account.attempts                                   # who logged in
    pia.web.www.fail_next(Fault.SLOW)                      # and how that went
    pia.catalogue.trouble = ListTrouble.BAD_SIGNATURE
    pia.servers[0].api.fail_next(UNAUTHORIZED_CLIENT)
    await pia.servers[0].registry.forget()
    await pia.peer.connect_tcp(EXIT, port)

Regions: nl_amsterdam with the servers; us_chicago and be_brussels, which answer and forward no ports; de_frankfurt, which
forwards them and is refused; pt_lisbon, which is offline. `padding` adds others that are offline, to make the list as
long as the real one.

Written from what is known of the wire, apart from the product's own code for it.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self

from mock_provider.dns import Dns
from mock_provider.https import Https
from mock_provider.nat import Nat
from mock_provider.peer import Peer
from mock_provider.pia_account import DAY, PiaAccount
from mock_provider.pia_forward import BIND_FOR, Signer
from mock_provider.pia_list import META_PORT, Catalogue, ListedRegion, ListedServer
from mock_provider.pia_pki import list_key, servers_authority
from mock_provider.pia_site import DNS, Common, PiaSite
from mock_provider.pia_web import Logins, PiaWeb
from mock_provider.sites import TUNNELS
from mock_provider.topology import ROUTER, Lab
from mock_provider.wireguard import WireGuardServer

REGION = "nl_amsterdam"
ELSEWHERE = {
    "us_chicago": ListedServer("198.51.100.131", "chicago418"),
    "be_brussels": ListedServer("198.51.100.132", "brussels402"),
}
"""Machines that answer, and have no tunnels."""
REFUSED = ListedServer("198.51.100.133", "frankfurt403")
OFFLINE = ListedServer("198.51.100.134", "lisbon401")


class MockPia:
    """A provider that is up from entry to exit."""

    lab: Lab
    servers: tuple[PiaSite, ...]
    """All of the main region's; what follows is the first one's."""
    server: WireGuardServer
    nat: Nat
    web: PiaWeb
    catalogue: Catalogue
    isp_dns: Dns
    """The resolver of the client's LAN, 192.168.77.1."""
    peer: Peer
    """On the internet."""

    def __init__(
        self,
        *,
        servers: int = 1,
        tunnel: str = TUNNELS[0],
        bind_for: float = BIND_FOR,
        token_lifetime: float = DAY,
        padding: int = 0,
    ) -> None:
        self.tunnel = tunnel
        """One of `sites.TUNNELS`."""
        self.account = PiaAccount(token_lifetime=token_lifetime)
        self.signer = Signer()
        """Of what the forwards' payloads are signed with."""
        self._number = servers
        self._bind_for = bind_for
        self._padding = padding
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        try:
            self.lab = await enter(Lab())
            sites = [PiaSite(self.lab, number, self._common()) for number in range(self._number)]
            self.catalogue = Catalogue(self._regions(sites), list_key())
            self.web = await enter(PiaWeb(self.lab.internet, self.account, self.catalogue))
            self.isp_dns = await enter(Dns(self.lab.router, ROUTER, self.web.names))
            await self._outside()
            self.servers = tuple([await enter(site) for site in sites])
            for site in self.servers:
                site.forwards.bind_for = self._bind_for
            self.server, self.nat = self.servers[0].server, self.servers[0].nat
            self.peer = Peer(self.lab.internet)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def ca(self) -> str:
        """The servers' authority, in PEM."""
        return servers_authority().pem

    @property
    def list_key(self) -> str:
        """What the list is signed with, in PEM."""
        return list_key().public_pem

    def _common(self) -> Common:
        return Common(self.account, self.signer, {}, self.tunnel)

    def _regions(self, sites: list[PiaSite]) -> list[ListedRegion]:
        chicago, brussels = ELSEWHERE.values()
        listed = [
            ListedRegion(REGION, "Netherlands", "NL", tuple(site.listed for site in sites)),
            ListedRegion("us_chicago", "US Chicago", "US", (chicago,), port_forward=False),
            ListedRegion("be_brussels", "Belgium", "BE", (brussels,), port_forward=False),
            ListedRegion("de_frankfurt", "DE Frankfurt", "DE", (REFUSED,)),
            ListedRegion("pt_lisbon", "Portugal", "PT", (OFFLINE,), offline=True),
        ]
        padding = (
            ListedRegion(f"far_{number}", f"Far Away {number}", "AQ", (OFFLINE,), offline=True, geo=True)
            for number in range(self._padding)
        )
        return [*listed, *padding]

    async def _outside(self) -> None:
        """Addresses and machines of the other regions, and the resolvers that all tunnels lead to."""
        host = self.lab.server
        far = [each.address for each in (*ELSEWHERE.values(), REFUSED)]
        batch = [f"addr add {address}/24 dev eth0" for address in far]
        batch += [f"addr add {address}/32 dev lo" for address in DNS]
        await host.must(("ip", "-batch", "-"), stdin="\n".join(batch) + "\n")
        for address in DNS:
            await self._stack.enter_async_context(Dns(host, address, self.web.names))
        logins = Logins(self.account)
        for each in ELSEWHERE.values():
            names = {each.cn: servers_authority().context(each.cn)}
            await self._stack.enter_async_context(Https(host, (each.address,), META_PORT, names, logins.answer))
