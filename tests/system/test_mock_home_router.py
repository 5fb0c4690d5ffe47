"""A home router with real packets: the client has no VPN, and the internet knocks at the router."""

from __future__ import annotations

import re

import pytest

from mock_provider.faults import Fate
from mock_provider.home_router import EXTERNAL, HomeRouter
from mock_provider.natpmp import Dnat
from mock_provider.peer import Echo, Peer, Result
from mock_provider.topology import CLIENT, EXIT, INTERNET, ROUTER, Host, Lab
from vpnpf.model import Protocol

pytestmark = pytest.mark.system


async def natpmpc(lab: Lab, *arguments: str) -> tuple[int, str]:
    done = await lab.client.run(["natpmpc", *arguments, "-g", ROUTER])
    return done.status, done.stdout + done.stderr


async def map_both(lab: Lab, wish: int = 40000, internal: int = 6881) -> int:
    ports = set()
    for protocol in ("udp", "tcp"):
        status, said = await natpmpc(lab, "-a", str(wish), str(internal), protocol, "7200")
        assert status == 0, said
        ports.add(int(re.search(r"Mapped public port (\d+)", said)[1]))
    (port,) = ports
    return port


async def ruleset(host: Host) -> str:
    return await host.must(["nft", "list", "ruleset"])


async def test_a_peer_connects_in_through_the_routers_port(lab):
    async with HomeRouter(lab) as home:
        status, said = await natpmpc(lab)
        assert status == 0
        assert f"Public IP address : {EXTERNAL}" in said
        port = await map_both(lab)
        assert port == 40000
        rules = {Dnat(protocol, port, CLIENT, 6881) for protocol in Protocol}
        assert await home.nat.read() == home.gateway.mappings == rules
        assert (await home.peer.connect_tcp(EXTERNAL, port)).result is Result.REFUSED, "nothing listens yet"
        async with Echo(lab.client, CLIENT, 6881) as listener:
            outcome = await home.peer.connect_tcp(EXTERNAL, port, send=b"hello")
            assert outcome.data == b"hello"
            assert (await home.peer.send_udp(EXTERNAL, port, b"datagram")).data == b"datagram"
            assert [seen.source for seen in listener.seen] == [INTERNET, INTERNET]
        assert (await home.peer.connect_tcp(EXTERNAL, port + 1)).result is Result.UNREACHABLE


async def test_the_lan_goes_out_by_the_external_address_while_it_is_there(lab):
    before = await ruleset(lab.router)
    async with Echo(lab.internet, INTERNET, 7000) as web:
        async with HomeRouter(lab):
            assert (await Peer(lab.client).connect_tcp(INTERNET, 7000, send=b"x")).connected
        assert (await Peer(lab.client).connect_tcp(INTERNET, 7000, send=b"x")).connected
        assert [seen.source for seen in web.seen] == [EXTERNAL, CLIENT]
    assert await ruleset(lab.router) == before
    status, _ = await natpmpc(lab)
    assert status != 0, "nobody is there to ask"


async def test_its_faults_are_those_of_every_gateway(lab):
    async with HomeRouter(lab, lifetime=1) as home:
        home.gateway.refuse_next()
        status, said = await natpmpc(lab)
        assert status != 0
        assert "the gateway does not support nat-pmp" in said
        status, said = await natpmpc(lab, "-a", "1", "0", "tcp", "60")
        assert status != 0, "internal port 0 is for VPN providers"
        port = await map_both(lab)
        assert port
        await home.gateway.until(lambda: not home.gateway.mappings)
        home.gateway.says_address = "100.64.0.7"
        assert "Public IP address : 100.64.0.7" in (await natpmpc(lab))[1]
        assert home.gateway.log[0].fate is Fate.REFUSED


async def test_it_stands_beside_a_vpn_provider(provider):
    lab = provider.lab
    async with HomeRouter(lab) as home:
        port = await map_both(lab)
        async with Echo(lab.client, CLIENT, 6881):
            assert (await home.peer.connect_tcp(EXTERNAL, port)).connected
        device = await provider.server.bring_up(provider.customer, lab.client)
        done = await lab.client.run(["natpmpc", "-a", "1", "0", "tcp", "60", "-g", "10.2.0.1"])
        assert done.status == 0
        (exit_port,) = provider.gateway.external_ports
        async with Echo(lab.client, "10.2.0.2", exit_port):
            assert (await provider.peer.connect_tcp(EXIT, exit_port)).connected
        await device.remove()


async def test_two_exits_of_one_entry_leave_nothing(lab):
    before = await ruleset(lab.router)
    home = HomeRouter(lab)
    for _ in range(2):
        async with home:
            assert home.gateway.mappings == frozenset()
    assert await ruleset(lab.router) == before
