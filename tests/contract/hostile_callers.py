"""Who asks the hostile servers: every torrent client that is registered, the mock's port switch, and each call of PIA's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from msgspec.structs import replace

from mock_provider.mock_vpn import MockVpn
from tests.contract import pia_world
from tests.contract.certificates import Authority
from vpnpf import plugins
from vpnpf.interfaces import ClientOptions, Credentials, Http, HttpResponse, TorrentClient
from vpnpf.model import Endpoint, ForwardSpec, ListenSettings, MappingRequest, PolicyMode, ProviderPolicy
from vpnpf.model import Protocol as Transport
from vpnpf.plugins import Group
from vpnpf.testing import Asked, FakeClock, FakeHttp, FakeIO, Fate, a_tunnel, scripted
from vpnpf_providers.pia import PrivateInternetAccess

PASSWORD = pia_world.PASSWORD
TOKEN = "canary-token-0123456789"
SECRETS = {PASSWORD, TOKEN}
"""What no text may hold; the callers add to it."""
CLIENT = "client.test"
TRUSTED = "the test's"
"""The authority of the good certificates."""


@dataclass(frozen=True)
class Caller:
    """Somebody who asks, and what he asks for."""

    name: str
    ask: Callable[[Http], Awaitable[object]]
    hosts: tuple[str, ...] = (CLIENT,)
    tls: bool = True
    easy: bool = False
    """Whether he waits for no more than that it went well, which a web page can say, too."""
    holds: bool = False
    """Whether he asks to keep what he has: then nothing that passes may cost it."""


def clients() -> Iterator[Caller]:
    """Each call of each torrent client's plug-in that is registered; its Web UI is on another machine."""
    for name in plugins.names(Group.CLIENTS):
        plugin = plugins.client(name)
        device = "tun0" if plugin.manifest.sets_device else ""
        calls: dict[str, tuple[object, ...]] = {
            "probe": (),
            "get_listen": (),
            "set_listen": (ListenSettings(6881, device),),
        }
        if plugin.manifest.tests_port:
            calls["test_port"] = ()
        for what, arguments in calls.items():

            async def ask(
                http: Http,
                plugin: type[TorrentClient] = plugin,
                what: str = what,
                given: tuple[object, ...] = arguments,
            ) -> object:
                made = plugin(http, ClientOptions(f"https://{CLIENT}", "admin", lambda: PASSWORD))
                return await getattr(made, what)(*given)

            yield Caller(f"{name} {what}", ask)


def switch(what: str) -> Caller:
    """The mock's provider with a port switch, whose panel is the tunnel's gateway."""
    tunnel = a_tunnel()

    async def ask(http: Http) -> object:
        io = FakeIO(scripted({}))
        io.http = http
        made = MockVpn({"token": TOKEN})
        if what == "get_switch":
            return await made.get_switch(io, tunnel)
        return await made.set_switch(io, tunnel, ProviderPolicy(PolicyMode.BLOCK_ALL))

    return Caller(f"mock_vpn {what}", ask, (tunnel.gateway,), tls=False, easy=what == "set_switch")


class _Partly:
    """HTTP (`interfaces.Http`) whose requests to one path are the hostile server's, and all others the service's."""

    def __init__(self, service: pia_world.PiaService, path: str, http: Http, *, inside: bool) -> None:
        self._path, self._http = path, http
        self._honest = FakeHttp(lambda asked: service.answer(_as_known(asked), inside=inside))

    async def request(self, method: str, url: str, **rest) -> HttpResponse:  # type: ignore[no-untyped-def]
        whose = self._http if self._path in urlsplit(url).path else self._honest
        return await whose.request(method, url, **rest)


def _as_known(asked: Asked) -> Asked:
    return replace(asked, ca=pia_world.AUTHORITY) if asked.ca else asked


def pia(what: str) -> Caller:
    """One of the calls that PIA is asked by, after all others went well."""
    path = {"token": "oken", "list": "/vpninfo/"}.get(what, f"/{what}")
    hosts = (*pia_world.NAMES, pia_world.LIST, *(f"nlamsterdam40{n}" for n in (0, 1)))

    async def ask(http: Http) -> object:
        clock = FakeClock()
        service = pia_world.PiaService(clock.now, clock.wall)
        trusted = Authority.made(TRUSTED).pem
        made = PrivateInternetAccess(pia_world.options(ca=trusted, region="nl_amsterdam"))
        outside = service.outside(clock)
        honest = _Partly(service, "nowhere", http, inside=False)
        hostile = _Partly(service, path, http, inside=False)
        try:
            if what in ("token", "list"):
                outside.http = hostile
                if what == "list":
                    return await made.regions(outside)
                return await made.log_in(outside, Credentials(pia_world.USER, PASSWORD))
            outside.http = honest
            offer = (await made.offers(outside, "wireguard"))[0]
            outside.http = hostile
            configuration = await made.configure(outside, "wireguard", offer)
            if what == "addKey":
                return configuration
            io = FakeIO(lambda _: Fate.SILENT, clock=clock, address=pia_world.OWN, account=outside)
            io.http = _Partly(service, "nowhere" if what == "bindPort" else path, http, inside=True)
            tunnel = a_tunnel(pia_world.GATEWAY, f"{pia_world.OWN}/32")
            plan = replace(
                tunnel.plan, endpoint=Endpoint("198.51.100.10", 1337, Transport.UDP), server_name=service.current
            )
            tunnel = replace(tunnel, plan=plan)
            held = await made.acquire(io, tunnel, MappingRequest(ForwardSpec("torrent")))
            io.http = _Partly(service, path, http, inside=True)
            return await made.acquire(io, tunnel, MappingRequest(ForwardSpec("torrent"), held, renewal=True))
        finally:
            SECRETS.update(service.secrets)

    return Caller(f"pia {what}", ask, hosts, easy=what == "bindPort", holds=what == "bindPort")


async def bare(http: Http) -> object:
    """A request without anybody who looks at the answer."""
    return await http.request("POST", f"https://{CLIENT}/", form={"password": PASSWORD})


CALLERS = (
    *clients(),
    *map(switch, ("get_switch", "set_switch")),
    *map(pia, ("token", "list", "addKey", "getSignature", "bindPort")),
)
