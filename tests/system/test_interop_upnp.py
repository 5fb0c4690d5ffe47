"""UPnP with a real gateway: miniupnpd, on the client's LAN and behind a WireGuard tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from mock_provider.capture import leak
from mock_provider.topology import CLIENT, INTERNET, LAN_HOST, ROUTER, SERVER, Lab
from mock_provider.wireguard import GATEWAY, NETWORK, WireGuardServer
from tests.system.test_interop_miniupnpd import CHAINS, OUTSIDE, SAYS
from vpnpf.errors import Misconfigured, NoAnswer, Transient
from vpnpf.firewall.nft import Nft
from vpnpf.io import ssdp, upnp
from vpnpf.io.clock import BootClock
from vpnpf.io.sockets import KernelSockets
from vpnpf.model import Endpoint, FirewallPolicy, FirewallStage, PolicyMode, PortPolicy, Protocol, TunnelPlan
from vpnpf.protocol.ssdp import GROUP, PORT, TARGETS, search

pytestmark = pytest.mark.system

TCP, UDP = Protocol.TCP, Protocol.UDP
HTTP = 5555
VERSIONS = {"IGDv1": "force_igd_desc_v1=yes\n", "IGDv2": ""}
CONFIG = """
ext_ip={external}
ext_ifname={outside}
listening_ip={inside}
http_port={http}
enable_upnp=yes
enable_natpmp=no
secure_mode=yes
ipv6_disable=yes
uuid=5d8f1f0a-0000-4000-8000-000000000001
upnp_table_name=mini
upnp_nat_table_name=mini
upnp_forward_chain=mini_forward
upnp_nat_chain=mini_pre
upnp_nat_postrouting_chain=mini_post
{version}allow 1024-65535 {prefix} 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


def at(host, work):
    """Do something in a host's namespace, with an event loop of its own; its sockets are the host's."""

    def run():
        with host.inside():
            return asyncio.run(work())

    return asyncio.to_thread(run)


async def listens(port, protocol):
    return any(found.protocol is protocol for found in await KernelSockets().listening(port))


@contextlib.asynccontextmanager
async def daemon(host, tmp_path, *, inside, outside, prefix, version=""):
    """miniupnpd in a namespace, for the clients of `prefix` behind the device `inside`."""
    await host.must(("nft", "-f", "-"), stdin=CHAINS)
    config = tmp_path / "miniupnpd.conf"
    config.write_text(
        CONFIG.format(external=SAYS, inside=inside, outside=outside, http=HTTP, prefix=prefix, version=version)
    )
    with (tmp_path / "miniupnpd.log").open("wb") as log:
        child = await host.popen(
            ("miniupnpd", "-d", "-f", str(config), "-P", str(tmp_path / "miniupnpd.pid")), stdout=log, stderr=log
        )

        async def up():
            while not (await listens(PORT, UDP) and await listens(HTTP, TCP)):  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.01)

        try:
            await at(host, lambda: asyncio.wait_for(up(), 10))
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()  # it minds SIGTERM only when something else wakes it up
            await child.wait()


@pytest.fixture(params=VERSIONS)
async def home(request, tmp_path):
    """A lab whose router is a UPnP gateway for the LAN; `lab.kind` is the service that it offers."""
    async with (
        Lab(lan_host=True) as lab,
        daemon(
            lab.router,
            tmp_path,
            inside="br0",
            outside="wan-internet",
            prefix="192.168.77.0/24",
            version=VERSIONS[request.param],
        ),
    ):
        lab.kind = f"urn:schemas-upnp-org:service:WANIPConnection:{request.param[-1]}"
        yield lab


def igd(address):
    return upnp.find("eth0", address, ROUTER)


# -- what a mapping goes through ------------------------------------------------------------------


async def test_add_get_renew_and_delete_in_both_protocols(home):
    async def work():
        gateway = await igd(CLIENT)
        assert gateway._service.service_type == home.kind
        assert await gateway.external_address() == SAYS
        for protocol in (TCP, UDP):
            assert await gateway.get_mapping(protocol, 40000) is None
            granted = await gateway.add_mapping(protocol, 40000, 30000, 600)
            assert (granted.external_port, granted.internal_port, granted.address) == (40000, 30000, CLIENT)
            assert 590 <= granted.lifetime <= 600
            held = await gateway.get_mapping(protocol, 40000)
            assert (held.external_port, held.internal_port, held.address) == (40000, 30000, CLIENT)
            assert 590 <= held.lifetime <= 600
            await gateway.add_mapping(protocol, 40000, 30000, 1200)
            renewed = await gateway.get_mapping(protocol, 40000)
            assert 1190 <= renewed.lifetime <= 1200
        await gateway.delete_mapping(TCP, 40000)
        assert await gateway.get_mapping(TCP, 40000) is None
        assert (await gateway.get_mapping(UDP, 40000)).internal_port == 30000
        await gateway.delete_mapping(UDP, 40000)
        await gateway.delete_mapping(UDP, 40000)

    await at(home.client, work)


async def test_a_mapping_that_is_not_renewed_ends(home):
    async def work():
        gateway = await igd(CLIENT)
        await gateway.add_mapping(TCP, 40000, 30000, 2)
        async with asyncio.timeout(10):
            while await gateway.get_mapping(TCP, 40000):  # noqa: ASYNC110 - the gateway tells nobody
                await asyncio.sleep(0.2)

    await at(home.client, work)


async def test_the_internet_comes_in_by_the_mapping_and_not_without(home):
    loop = asyncio.get_running_loop()

    async def knock():
        with home.internet.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind((INTERNET, 0))
            far.sendto(b"knock", (OUTSIDE, 40000))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    return await loop.sock_recvfrom(listener, 100)
            return None

    with home.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((CLIENT, 30000))
        assert await knock() is None

        async def add():
            await (await igd(CLIENT)).add_mapping(UDP, 40000, 30000, 600)

        await at(home.client, add)
        data, (source, _) = await knock()
        assert (data, source) == (b"knock", INTERNET)

        async def delete():
            await (await igd(CLIENT)).delete_mapping(UDP, 40000)

        await at(home.client, delete)
        assert await knock() is None


async def test_another_clients_port_leads_to_another_port(home):
    async def first():
        return await (await igd(LAN_HOST)).add_mapping(TCP, 40000, 30000, 600)

    async def second():
        gateway = await igd(CLIENT)
        granted = await gateway.add_mapping(TCP, 40000, 30000, 600)
        return granted, await gateway.get_mapping(TCP, granted.external_port)

    assert (await at(home.lan, first)).external_port == 40000
    granted, held = await at(home.client, second)
    assert granted.external_port != 40000
    assert held.address == CLIENT

    async def still():
        return await (await igd(LAN_HOST)).get_mapping(TCP, 40000)

    assert (await at(home.lan, still)).address == LAN_HOST


async def test_what_the_gateway_does_not_allow(home):
    async def work():
        gateway = await igd(CLIENT)
        with pytest.raises(Misconfigured, match="error 606: not authorised"):
            await gateway.add_mapping(TCP, 80, 80, 600)
        assert await gateway.get_mapping(TCP, 80) is None

    await at(home.client, work)


async def test_a_gateway_without_upnp_is_no_answer_and_a_stopped_one_refuses(home):
    async def work():
        gateway = await igd(CLIENT)
        await gateway.add_mapping(TCP, 40000, 30000, 600)
        return gateway

    gateway = await at(home.client, work)
    for pid in home.router.processes:
        await home.router.must(("kill", "-9", str(pid)))

    async def again():
        with pytest.raises(Transient):
            await gateway.add_mapping(TCP, 40000, 30000, 600)
        with pytest.raises(NoAnswer):
            await igd(CLIENT)

    await at(home.client, again)


# -- how it is found ------------------------------------------------------------------------------


def searches(packet):
    """UDP to port 1900 that the client sent."""
    return packet.outbound and (packet.protocol, packet.destination_port) == (socket.IPPROTO_UDP, PORT)


async def test_the_gateway_is_asked_directly_and_nobody_else(home):
    async with home.capture(searches) as seen:
        await at(home.client, lambda: igd(CLIENT))
        assert await seen.count() == len(TARGETS)
        assert {packet.destination for packet in seen.packets} == {ROUTER}
        assert all(target.encode() in packet.payload for target, packet in zip(TARGETS, seen.packets, strict=True))


async def test_a_gateway_that_hears_multicast_only_is_found(home):
    rule = f"table ip deaf {{ chain i {{ type filter hook input priority 0; ip daddr {ROUTER} udp dport {PORT} drop; }}\n}}"
    await home.router.must(("nft", "-f", "-"), stdin=rule)
    async with home.capture(searches) as seen:

        async def work():
            return await (await igd(CLIENT)).external_address()

        assert await at(home.client, work) == SAYS
        assert await seen.count() == 3 * len(TARGETS)
        assert [packet.destination for packet in seen.packets[-5:]] == [GROUP] * 5


# -- through a tunnel -----------------------------------------------------------------------------


@pytest.fixture
def late(monkeypatch):
    """Waits, in the loop that searched, until its sockets are closed and no further answer can come."""
    monkeypatch.setattr(ssdp, "_LINGER", 1.0)

    async def closed():
        await asyncio.gather(*ssdp._lingering)

    return closed


@contextlib.asynccontextmanager
async def tunnel(lab):
    """A WireGuard tunnel that no route leads into: whatever is not bound to it leaves by eth0."""
    async with WireGuardServer(lab) as server:
        customer = await server.add_client()
        device = await server.bring_up(customer, lab.client)
        for half in ("0.0.0.0/1", "128.0.0.0/1"):
            await lab.client.must(("ip", "route", "del", half, "dev", device.name))
        yield server, device, customer.address


async def test_in_a_tunnel_not_one_packet_leaves_beside_it(lab, tmp_path, late):
    async with tunnel(lab) as (server, device, own):

        def find():
            return upnp.find(device.name, own, GATEWAY)

        async with lab.capture(leak()) as leaked:

            async def nobody():
                with pytest.raises(NoAnswer):
                    await find()

            await at(lab.client, nobody)  # so both searches have been made
            assert await leaked.count() == 0

            async def work():
                gateway = await find()
                granted = await gateway.add_mapping(TCP, 40000, 40000, 600)
                await gateway.delete_mapping(TCP, granted.external_port)
                await late()
                return granted

            async with daemon(lab.server, tmp_path, inside=server.interface, outside="eth0", prefix=NETWORK):
                granted = await at(lab.client, work)
            assert (granted.external_port, granted.address) == (40000, own)
            assert await leaked.count() == 0

            await device.remove()

            async def gone():
                with pytest.raises(Transient) as caught:
                    await find()
                assert not isinstance(caught.value, NoAnswer)

            await at(lab.client, gone)
            assert await leaked.count() == 0


async def test_the_same_search_without_the_device_leaks(lab):
    """The control: what the binding prevents is there, and the capture sees it."""
    async with tunnel(lab), lab.capture(leak()) as leaked:
        with lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for host in (GATEWAY, GROUP):
                sock.sendto(search(TARGETS[0], host), (host, PORT))
            await leaked.seen(2)
        assert {packet.destination for packet in leaked.packets} == {GATEWAY, GROUP}


async def test_in_a_tunnel_multicast_works_where_no_filter_is_in_the_way(lab, tmp_path, monkeypatch, late):
    monkeypatch.setattr(ssdp, "_DIRECT", ())
    async with (
        tunnel(lab) as (server, device, own),
        daemon(lab.server, tmp_path, inside=server.interface, outside="eth0", prefix=NETWORK),
        lab.capture(leak()) as leaked,
    ):

        async def work():
            address = await (await upnp.find(device.name, own, GATEWAY)).external_address()
            await late()
            return address

        assert await at(lab.client, work) == SAYS
        assert await leaked.count() == 0


async def test_behind_our_own_firewall_the_gateway_is_found_directly_and_not_by_multicast(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(ssdp, "_LINGER", 0.0)  # so that the filter alone keeps the kernel's answers in
    async with (
        tunnel(lab) as (server, device, own),
        daemon(lab.server, tmp_path, inside=server.interface, outside="eth0", prefix=NETWORK),
        lab.capture(leak()) as leaked,
    ):
        await lab.client.must(("wg", "set", device.name, "fwmark", "0x51820"))
        plan = TunnelPlan(device.name, Endpoint(SERVER, 51820), (f"{own}/32",), mark=0x51820)
        policy = FirewallPolicy(FirewallStage.CONNECTED, plan, PortPolicy(PolicyMode.BLOCK_ALL))

        async def work():
            clock = BootClock()
            await Nft(clock=clock.now).apply(policy, clock.now())
            gateway = await upnp.find(device.name, own, GATEWAY)
            assert (await gateway.add_mapping(UDP, 40000, 40000, 600)).external_port == 40000
            monkeypatch.setattr(ssdp, "_DIRECT", ())
            with pytest.raises(NoAnswer):
                await upnp.find(device.name, own, GATEWAY)

        await at(lab.client, work)
        assert await leaked.count() == 0


async def test_an_answer_that_finds_nobody_would_leak(lab, tmp_path, monkeypatch):
    """The control of staying there: a socket that is closed at once makes the kernel answer beside the tunnel."""
    monkeypatch.setattr(ssdp, "_LINGER", 0.0)
    async with (
        tunnel(lab) as (server, device, own),
        daemon(lab.server, tmp_path, inside=server.interface, outside="eth0", prefix=NETWORK),
        lab.capture(leak()) as leaked,
    ):
        # Whether an answer is still on its way when the first has come is for chance to say; it leaks once one is.
        for _ in range(50):
            await at(lab.client, lambda: upnp.find(device.name, own, GATEWAY))
            if await leaked.count():
                break
        assert leaked.packets
        assert leaked.packets[0].protocol == socket.IPPROTO_ICMP
