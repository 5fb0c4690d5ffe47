"""A port of the home router, without a VPN: `vpnpf run` as a whole, and the providers against real gateways."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from mock_provider.home_router import EXTERNAL, HomeRouter
from mock_provider.peer import Echo, Peer
from mock_provider.product import Product, traces, unique_profile
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import CLIENT, INTERNET, LAN_HOST, ROUTER, SERVER, Lab
from mock_provider.wireguard import GATEWAY
from tests.system.test_interop_miniupnpd import OUTSIDE, SAYS, Miniupnpd
from tests.system.test_interop_upnp import at, daemon
from tests.system.test_udp import HostIO
from vpnpf.firewall.nft import Nft
from vpnpf.interfaces import TunnelOptions
from vpnpf.io.clock import BootClock
from vpnpf.io.udp import TunnelIO
from vpnpf.model import (
    BOTH,
    Endpoint,
    FirewallPolicy,
    FirewallStage,
    ForwardSpec,
    MappingRequest,
    PortPolicy,
    Tunnel,
    TunnelPlan,
)
from vpnpf.protocol.announcement import Announcement
from vpnpf.testing import FakeAccount, a_tunnel
from vpnpf.tunnels.none import NoTunnel
from vpnpf_providers.gateway import Gateway
from vpnpf_providers.router import Router

pytestmark = pytest.mark.system

PROOFS = ("tunnel", "lease", "firewall", "client", "listening", "reachable")
LAN = a_tunnel(ROUTER, f"{CLIENT}/24", interface="eth0")
CONFIG = """\
[profiles.{profile}]
provider = "router"
tunnel = {{ type = "none" }}
{more}
"""
CLIENT_CONFIG = """\
forwards.torrent = {{ client = "qb" }}
[clients.qb]
type = "qbittorrent"
url = "{url}"
username = "{username}"
password = {{ file = "qb.password" }}
"""


@pytest.fixture
async def lab():
    async with Lab(lan_host=True) as made:
        yield made


@pytest.fixture
def profile():
    return unique_profile()


def written(directory, profile, more):
    config = directory / "config.toml"
    config.write_text(CONFIG.format(profile=profile, more=more))
    return config


def ready(state):
    return state["phase"] == "ready"


def proven(product, name, *proofs):
    found = product.forward(name)["proofs"]
    return all(found[proof]["ok"] for proof in proofs)


async def first_traces(lab):
    """What is there before, once the kernel knows the router: a run makes it ask."""
    await lab.client.must(("ping", "-c1", ROUTER))
    return await traces(lab.client)


# -- the whole of it ------------------------------------------------------------------------------


@pytest.mark.parametrize("speaks", ["natpmp-only", "both", "pcp-only"])
async def test_a_torrent_client_behind_the_router(lab, profile, tmp_path, speaks):
    before = await first_traces(lab)
    async with HomeRouter(lab) as home, QBittorrent(lab.client, tmp_path / "qbittorrent") as client:
        home.gateway.machine.speaks = speaks
        secret = tmp_path / "qb.password"
        secret.touch(mode=0o600)
        secret.write_text(client.password + "\n")
        await client.set_preferences({"current_network_interface": "eth0"})
        config = written(tmp_path, profile, CLIENT_CONFIG.format(url=client.url, username=client.username))
        async with Product(lab.client, tmp_path, config, profile) as product:
            await product.until(ready)
            port = product.forward()["external_port"]
            assert product.forward()["proofs"]["reachable"]["ok"] is None
            # A neighbour on the LAN proves nothing about the router.
            assert (await Peer(lab.lan).connect_tcp(CLIENT, port)).connected
            assert (await home.peer.connect_tcp(EXTERNAL, port)).connected
            await product.until(lambda _: proven(product, "torrent", *PROOFS))
            assert " 1 tcp" in product.forward()["proofs"]["reachable"]["evidence"]
            assert "router" in product.forward()["proofs"]["tunnel"]["evidence"]
            preferences = await client.preferences()
            assert preferences["listen_port"] == port
            assert preferences["current_network_interface"] == ""
            assert not preferences["upnp"]
            # Nothing is blocked, in either direction.
            async with Echo(lab.internet, INTERNET, 7000), Echo(lab.client, CLIENT, 7001):
                assert (await Peer(lab.client).connect_tcp(INTERNET, 7000)).connected
                assert (await Peer(lab.lan).connect_tcp(CLIENT, 7001)).connected
            assert await product.stop() == 0
        assert not home.gateway.mappings
    assert await traces(lab.client) == before


async def test_a_fixed_port_is_redirected_to(lab, profile, tmp_path):
    before = await first_traces(lab)
    more = 'forwards.game = { protocols = ["tcp"], internal_port = 25565, external_port = 40000 }'
    other = 'forwards.web = { protocols = ["tcp"], internal_port = 8080 }'
    config = written(tmp_path, profile, f"{more}\n{other}")
    async with (
        HomeRouter(lab) as home,
        Echo(lab.client, CLIENT, 25565),
        Echo(lab.client, CLIENT, 8080),
        Product(lab.client, tmp_path, config, profile) as product,
    ):
        await product.until(ready)
        assert product.forward("game")["external_port"] == 40000
        for name in ("game", "web"):
            outcome = await home.peer.connect_tcp(EXTERNAL, product.forward(name)["external_port"], send=b"hello")
            assert outcome.data == b"hello"
        await product.until(lambda _: all(proven(product, name, "reachable", "listening") for name in ("game", "web")))
        assert await product.stop() == 0
        assert not home.gateway.mappings
    assert await traces(lab.client) == before


async def test_another_address_leads_to_another_mapping(lab, profile, tmp_path):
    config = written(tmp_path, profile, 'forwards.game = { protocols = ["tcp"], internal_port = 25565 }')
    async with (
        HomeRouter(lab) as home,
        Echo(lab.client, "0.0.0.0", 25565),
        Product(lab.client, tmp_path, config, profile) as product,
    ):
        await product.until(ready)
        moved = "addr del {}/24 dev eth0\naddr add 192.168.77.9/24 dev eth0\nroute replace default via {} dev eth0\n"
        await lab.client.must(("ip", "-batch", "-"), stdin=moved.format(CLIENT, ROUTER))
        await home.gateway.until(lambda: any(rule.address == "192.168.77.9" for rule in home.gateway.mappings), 40)
        await product.until(ready)
        assert (await home.peer.connect_tcp(EXTERNAL, product.forward("game")["external_port"])).connected
        assert await product.stop() == 0


async def test_without_a_router_that_forwards_it_says_what_to_switch_on(lab, profile, tmp_path):
    config = written(tmp_path, profile, 'forwards.game = { protocols = ["tcp"], internal_port = 25565 }')
    async with Product(lab.client, tmp_path, config, profile) as product:
        await product.until(lambda state: bool(state["problems"]), 30)
        assert "UPnP" in product.state["problems"][0]["hint"]
        assert await product.stop() == 0


async def test_without_a_default_route_it_says_so_and_changes_nothing(lab, profile, tmp_path):
    await lab.client.must(("ip", "route", "del", "default"))
    config = written(tmp_path, profile, 'forwards.game = { protocols = ["tcp"], internal_port = 25565 }')
    before = await traces(lab.client)
    async with Product(lab.client, tmp_path, config, profile) as product:
        assert await product.ended() == 75
    assert "no default route" in product.talk
    assert await traces(lab.client) == before


# -- the packet filter without a tunnel -----------------------------------------------------------


async def test_what_was_applied_is_read_back_in_every_stage_and_tampering_noticed(lab):
    async def work():
        plan = await NoTunnel(TunnelOptions("home", (), "/nowhere")).plan()
        clock = BootClock()
        firewall = Nft(clock=clock.now)
        for stage in FirewallStage:
            assert (await firewall.apply(FirewallPolicy(stage, plan, PortPolicy()), clock.now())).intact
        return firewall

    firewall = await at(lab.client, work)
    await lab.client.must(("nft", "add", "rule", "inet", "vpnpf", "input", "drop"))

    async def look():
        reading = await firewall.read()
        await firewall.remove()
        return reading

    assert not (await at(lab.client, look)).intact


# -- real gateways --------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", [Gateway, Router])
@pytest.mark.parametrize(("protocol", "version"), [("auto", 2), ("pcp", 2), ("nat-pmp", 0)])
async def test_pcp_and_nat_pmp_of_miniupnpd(lab, tmp_path, plugin, protocol, version):
    spec = ForwardSpec("torrent")
    async with Miniupnpd(lab, tmp_path) as running:
        io, provider = HostIO(lab.client, LAN), plugin({"protocol": protocol})
        lease = await provider.acquire(io, LAN, MappingRequest(spec))
        assert (lease.exit_address, lease.protocols, lease.lifetime) == (SAYS, BOTH, 7200)
        assert lease.external_port == lease.internal_port
        assert (f'"protocol": "{"pcp" if version else "nat-pmp"}"') in lease.token
        async with Echo(lab.client, CLIENT, lease.internal_port):
            assert (await Peer(lab.internet).connect_tcp(OUTSIDE, lease.external_port, send=b"x")).data == b"x"
            assert (await Peer(lab.internet).send_udp(OUTSIDE, lease.external_port, b"x")).data == b"x"
        renewed = await plugin({}).acquire(io, LAN, MappingRequest(spec, lease, renewal=True))
        assert (renewed.external_port, renewed.token) == (lease.external_port, lease.token)
        again = await plugin({}).acquire(io, LAN, MappingRequest(spec, renewed))
        assert again.external_port == lease.external_port
        assert len(re.findall("dnat ip", await running.rules())) == 2
        await plugin({}).release(io, LAN, again)
        assert "dnat ip" not in await running.rules()


async def test_upnp_of_miniupnpd(lab, tmp_path):
    spec = ForwardSpec("torrent")

    async def work():
        io, provider = TunnelIO(LAN, BootClock(), FakeAccount()), Router({})
        lease = await provider.acquire(io, LAN, MappingRequest(spec))
        renewed = await Router({}).acquire(io, LAN, MappingRequest(spec, lease, renewal=True))
        return lease, renewed

    async def end():
        await Router({}).release(TunnelIO(LAN, BootClock(), FakeAccount()), LAN, renewed)

    async with daemon(lab.router, tmp_path, inside="br0", outside="wan-internet", prefix="192.168.77.0/24"):
        lease, renewed = await at(lab.client, work)
        assert (lease.exit_address, lease.epoch) == (SAYS, None)
        assert '"protocol": "upnp"' in lease.token
        assert (renewed.external_port, renewed.token) == (lease.external_port, lease.token)
        async with Echo(lab.client, CLIENT, lease.internal_port):
            assert (await Peer(lab.internet).connect_tcp(OUTSIDE, lease.external_port, send=b"x")).data == b"x"
        await at(lab.client, end)
        assert "dnat ip" not in await lab.router.must(("nft", "list", "chain", "inet", "mini", "mini_pre"))


# -- announcements --------------------------------------------------------------------------------


async def heard(host, provider, tunnel, says):
    """What a provider hears; `says` makes the gateway speak once it listens."""

    async def work():
        async with asyncio.timeout(3):
            return await provider.listen(TunnelIO(tunnel, BootClock(), FakeAccount()), tunnel)

    listening = asyncio.create_task(at(host, work))
    speaking = asyncio.create_task(_again_and_again(says))
    try:
        return await listening
    finally:
        speaking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await speaking


async def _again_and_again(says):
    while True:
        await asyncio.sleep(0.1)
        await says()


async def test_the_router_is_heard_on_the_lan_and_nobody_else(lab):
    async with HomeRouter(lab) as home:
        got = await heard(lab.client, Router({}), LAN, lambda: home.gateway.announce(1))
        assert got == Announcement(0, got.epoch, EXTERNAL)
        other = a_tunnel(LAN_HOST, f"{CLIENT}/24", interface="eth0")
        with pytest.raises(TimeoutError):
            await heard(lab.client, Router({}), other, lambda: home.gateway.announce(1))


@pytest.mark.parametrize("let_in", [True, False])
async def test_the_gateway_is_heard_through_the_tunnel_behind_our_own_firewall(provider, let_in):
    client = provider.lab.client
    device = await provider.server.bring_up(provider.customer, client)
    await client.must(("wg", "set", device.name, "fwmark", "0x51820"))
    own = f"{provider.customer.address}/32"
    plan = TunnelPlan(device.name, Endpoint(SERVER, 51820), (own,), mark=0x51820, gateway=GATEWAY if let_in else None)
    tunnel = Tunnel(plan, "test", GATEWAY)
    policy = FirewallPolicy(FirewallStage.CONNECTED, plan, PortPolicy())

    async def block():
        clock = BootClock()
        assert (await Nft(clock=clock.now).apply(policy, clock.now())).intact

    await at(client, block)
    # The gateway cannot send to a customer that has not come yet.
    assert (await client.run(("natpmpc", "-g", GATEWAY))).status == 0
    listening = heard(client, Gateway({}), tunnel, lambda: provider.gateway.announce(1))
    if let_in:
        assert (await listening).version == 0
    else:
        with pytest.raises(TimeoutError):
            await listening
