"""Our PCP against miniupnpd, and against the mock gateway through a real tunnel, with packets from the internet."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import struct

import pytest

from mock_provider.peer import Echo, Peer
from mock_provider.provider import MockProvider
from mock_provider.topology import CLIENT, EXIT, INTERNET, ROUTER
from mock_provider.wireguard import GATEWAY
from tests.system.test_interop_miniupnpd import OUTSIDE, SAYS, Miniupnpd
from tests.system.test_udp import HostIO
from vpnpf.errors import Misconfigured, OtherVersion, WishRefused
from vpnpf.model import BOTH, Protocol
from vpnpf.protocol import announcement, pcp
from vpnpf.protocol.announcement import Announcement
from vpnpf.protocol.epoch import pcp_lost
from vpnpf.protocol.pcp_gateway import PcpGateway
from vpnpf.testing import a_tunnel

pytestmark = pytest.mark.system

UDP, TCP = Protocol.UDP, Protocol.TCP
OTHER = b"another one!"
LAN = a_tunnel(ROUTER, f"{CLIENT}/24", interface="eth0")
"""The client's cable to the router, as if it were a tunnel."""
RULE = re.compile(r"0x(6|11) th dport (\d+) dnat ip to ([\d.]+):(\d+)")


@pytest.fixture
async def daemon(lab, tmp_path):
    async with Miniupnpd(lab, tmp_path) as running:
        yield running


@pytest.fixture
def gateway(lab, daemon) -> PcpGateway:
    return PcpGateway(HostIO(lab.client, LAN), ROUTER)


async def rules(daemon) -> set[tuple[Protocol, int, int]]:
    """What the daemon told the kernel: protocol, external port, internal port of the client."""
    listed = await daemon.rules()
    found = RULE.findall(listed)
    assert len(found) == listed.count("dnat")
    assert {address for _, _, address, _ in found} <= {CLIENT}
    return {(TCP if number == "6" else UDP, int(external), int(internal)) for number, external, _, internal in found}


# -- miniupnpd ------------------------------------------------------------------------------------


async def test_a_sign_of_life(gateway):
    first, second = await gateway.announce(), await gateway.announce()
    assert 0 <= first.seconds <= second.seconds < 60
    assert not pcp_lost(first, second)


async def test_one_port_in_both_protocols_and_the_internet_comes_through_it(lab, daemon, gateway):
    given = await gateway.map(BOTH, 6881, 40000, 7200, nonce=gateway.new_nonce())
    assert (given.internal_port, given.external_port, given.external_address) == (6881, 40000, SAYS)
    assert given.lifetime == 7200
    assert await rules(daemon) == {(TCP, 40000, 6881), (UDP, 40000, 6881)}
    peer = Peer(lab.internet)
    async with Echo(lab.client, CLIENT, 6881) as listener:
        assert (await peer.connect_tcp(OUTSIDE, 40000, send=b"hello")).data == b"hello"
        assert (await peer.send_udp(OUTSIDE, 40000, b"datagram")).data == b"datagram"
        assert {(seen.protocol, seen.source) for seen in listener.seen} == {("tcp", INTERNET), ("udp", INTERNET)}
        assert not (await peer.connect_tcp(OUTSIDE, 40001, deadline=0.5)).connected


async def test_renewing_with_the_nonce_keeps_the_port(daemon, gateway):
    nonce = gateway.new_nonce()
    held = await gateway.map(BOTH, 6881, 40000, 7200, nonce=nonce)
    for lifetime, granted in ((7200, 7200), (1, 120), (2**32 - 1, 86400)):
        fresh = await gateway.map(
            BOTH,
            6881,
            held.external_port,
            lifetime,
            nonce=nonce,
            external_address=held.external_address,
            exact=True,
            renewal=True,
        )
        assert (fresh.external_port, fresh.external_address, fresh.lifetime) == (40000, SAYS, granted)
        assert not pcp_lost(held.epoch, fresh.epoch)
        assert await rules(daemon) == {(TCP, 40000, 6881), (UDP, 40000, 6881)}


async def test_the_end_needs_the_nonce(daemon, gateway):
    nonce = gateway.new_nonce()
    await gateway.map(BOTH, 6881, 40000, 7200, nonce=nonce)
    with pytest.raises(Misconfigured, match="not authorized") as told:
        await gateway.unmap(BOTH, 6881, OTHER)
    assert told.value.retry_after == 1800, "the daemon says 0, which is no time to wait"
    assert len(await rules(daemon)) == 2
    await gateway.unmap(BOTH, 6881, nonce)
    assert await rules(daemon) == set()
    await gateway.unmap(BOTH, 6881, nonce)


async def test_a_busy_port_is_another_one_or_with_exact_none(daemon, gateway):
    """The daemon says yes to PREFER_FAILURE and gives another port all the same, where it finds the port in use."""
    nonce = gateway.new_nonce()
    await gateway.map(BOTH, 6881, 40000, 7200, nonce=nonce)
    assert (await gateway.map(BOTH, 6882, 40000, 7200, nonce=nonce)).external_port == 40001
    before = await rules(daemon)
    with pytest.raises(WishRefused):
        await gateway.map(BOTH, 6883, 40000, 7200, nonce=nonce, exact=True)
    assert await rules(daemon) == before


@pytest.mark.parametrize("taken", BOTH)
async def test_a_port_that_is_free_in_one_protocol_only_is_evaded_in_both(daemon, gateway, taken):
    await gateway.map((taken,), 6881, 40000, 7200, nonce=OTHER)
    with pytest.raises(WishRefused):
        await gateway.map(BOTH, 6882, 40000, 7200, nonce=gateway.new_nonce(), exact=True)
    assert await rules(daemon) == {(taken, 40000, 6881)}
    assert (await gateway.map(BOTH, 6882, 40000, 7200, nonce=gateway.new_nonce())).external_port == 40001
    assert await rules(daemon) == {(taken, 40000, 6881), (TCP, 40001, 6882), (UDP, 40001, 6882)}


async def test_a_port_that_the_router_uses_itself_is_not_taken_for_the_one_that_was_wished(lab, daemon, gateway):
    with lab.router.socket(socket.AF_INET, socket.SOCK_DGRAM) as busy:
        busy.bind((OUTSIDE, 40000))
        nonce = gateway.new_nonce()
        with pytest.raises(WishRefused):
            await gateway.map(BOTH, 6881, 40000, 7200, nonce=nonce, exact=True)
        assert await rules(daemon) == set()
        assert (await gateway.map(BOTH, 6881, 40000, 7200, nonce=nonce)).external_port == 40001


async def test_filters_are_understood(gateway):
    filters = (pcp.Filter("203.0.113.0/24"), pcp.Filter("192.0.2.66", 6881))
    assert (await gateway.map(BOTH, 6881, 40000, 7200, nonce=OTHER, filters=filters)).external_port == 40000


async def test_a_nat_on_the_way_is_noticed(daemon, gateway, monkeypatch):
    monkeypatch.setattr(gateway.io, "own_address", lambda _gateway: "10.2.0.2")
    with pytest.raises(Misconfigured, match="address mismatch"):
        await gateway.map(BOTH, 6881, 40000, 7200, nonce=OTHER)
    assert await rules(daemon) == set()


async def test_it_announces_itself_when_it_starts_and_when_its_address_changed(lab, tmp_path):
    loop = asyncio.get_running_loop()
    with lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as group:
        group.bind((announcement.GROUP, announcement.PORT))
        here = struct.pack("4s4s", socket.inet_aton(announcement.GROUP), socket.inet_aton(CLIENT))
        group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, here)

        async def heard(version: int) -> Announcement:
            async with asyncio.timeout(5):
                while True:
                    data, source = await loop.sock_recvfrom(group, 1101)
                    assert source == (ROUTER, 5351)
                    said = announcement.parse(data)
                    if said is not None and said.version == version:
                        return said

        async with Miniupnpd(lab, tmp_path) as daemon:
            assert (await heard(2)).epoch < 60
            daemon._process.send_signal(signal.SIGUSR1)
            await PcpGateway(HostIO(lab.client, LAN), ROUTER).announce()  # it minds the signal only when woken up
            said = await heard(0)
            assert (said.address, said.epoch < 60) == (SAYS, True)


# -- the mock gateway, through a real tunnel ------------------------------------------------------


async def test_through_a_tunnel():
    async with MockProvider(mode="rfc", lifetime=7200) as provider:
        device = await provider.server.bring_up(provider.customer, provider.lab.client)
        tunnel = a_tunnel(GATEWAY, "10.2.0.2/32", interface=device.name)
        gateway = PcpGateway(HostIO(provider.lab.client, tunnel), GATEWAY)
        with pytest.raises(OtherVersion) as told:
            await gateway.announce()
        assert told.value.version == 0

        provider.gateway.machine.speaks = "both"
        nonce = gateway.new_nonce()
        given = await gateway.map(BOTH, 6881, 40000, 7200, nonce=nonce)
        assert (given.external_port, given.external_address) == (40000, EXIT)
        async with Echo(provider.lab.client, "10.2.0.2", 6881):
            assert (await provider.peer.connect_tcp(EXIT, 40000)).connected
            assert (await provider.peer.send_udp(EXIT, 40000)).connected
        with pytest.raises(Misconfigured):
            await gateway.map(BOTH, 6881, 40000, 7200, nonce=gateway.new_nonce(), renewal=True)

        assert (await gateway.map((TCP,), 6882, 40001, 7200, nonce=nonce)).external_port == 40001
        for internal in (6881, 6882):
            await gateway.unmap(BOTH, internal, nonce)
        assert not provider.gateway.mappings
        assert await provider.nat.read() == frozenset()
        assert "pcp tcp internal 6881, wish 40000, 7200 s" in str(provider.gateway.log[1])
