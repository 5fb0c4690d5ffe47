"""The mock provider with real packets: natpmpc asks through a real tunnel, and the internet knocks at the exit."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import struct
import time

import pytest

from mock_provider.capture import leak
from mock_provider.faults import Fate
from mock_provider.natpmp import Dnat
from mock_provider.peer import Echo, Peer, Result
from mock_provider.provider import ENDPOINT_NAME, MockProvider
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import EXIT, INTERNET, ROUTER, SERVER
from mock_provider.wireguard import GATEWAY, GATEWAY6, Device
from vpnpf.model import Protocol

pytestmark = pytest.mark.system

MAP_UDP = bytes.fromhex("000100000000000100 00003c")
MAP_TCP = bytes.fromhex("000200000000000100 00003c")


@pytest.fixture
async def tunnel(provider) -> Device:
    return await provider.server.bring_up(provider.customer, provider.lab.client)


async def natpmpc(provider: MockProvider, *arguments: str) -> tuple[int, str]:
    done = await provider.lab.client.run(["natpmpc", *arguments, "-g", GATEWAY])
    return done.status, done.stdout + done.stderr


async def map_both(provider: MockProvider) -> int:
    """The documented loop, once; returns the external port."""
    ports = set()
    for protocol in ("udp", "tcp"):
        status, said = await natpmpc(provider, "-a", "1", "0", protocol, "60")
        assert status == 0, said
        ports.add(int(re.search(r"Mapped public port (\d+)", said)[1]))
    assert len(ports) == 1
    return ports.pop()


@contextlib.contextmanager
def asking(provider: MockProvider, *, connected: bool = True):
    with provider.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if connected:
            sock.connect((GATEWAY, 5351))
        yield sock


async def ask(sock: socket.socket, data: bytes, deadline: float = 1.0) -> bytes:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(deadline):
        await loop.sock_sendall(sock, data)
        return await loop.sock_recv(sock, 100)


def external(answer: bytes) -> int:
    assert answer[2:4] == b"\0\0"
    return struct.unpack_from("!H", answer, 10)[0]


# -- the gateway ----------------------------------------------------------------------------------


async def test_natpmpc_gets_a_port_and_the_internet_comes_through_it(provider, tunnel):
    status, said = await natpmpc(provider)
    assert status == 0
    assert f"Public IP address : {EXIT}" in said
    port = await map_both(provider)
    rules = {Dnat(protocol, port, "10.2.0.2", port) for protocol in Protocol}
    assert await provider.nat.read() == provider.gateway.mappings == rules

    assert (await provider.peer.connect_tcp(EXIT, port)).result is Result.REFUSED, "nothing listens yet"
    other = port - 1
    assert (await provider.peer.connect_tcp(EXIT, other)).result is Result.UNREACHABLE, "not forwarded"
    async with Echo(provider.lab.client, "10.2.0.2", port) as listener:
        outcome = await provider.peer.connect_tcp(EXIT, port, send=b"hello")
        assert (outcome.result, outcome.data) == (Result.CONNECTED, b"hello")
        assert (await provider.peer.send_udp(EXIT, port, b"datagram")).data == b"datagram"
        assert [(seen.protocol, seen.source) for seen in listener.seen] == [("tcp", INTERNET), ("udp", INTERNET)]


async def test_an_asymmetric_mapping_arrives_at_its_internal_port_and_the_sixth_is_refused(provider, tunnel):
    port = await map_both(provider)
    for internal in (50001, 50002, 50003, 50004):
        status, said = await natpmpc(provider, "-a", "0", str(internal), "tcp", "60")
        assert status == 0
        further = int(re.search(rf"Mapped public port (\d+) protocol TCP to local port {internal} ", said)[1])
        assert further != port
    async with Echo(provider.lab.client, "10.2.0.2", internal):
        assert (await provider.peer.connect_tcp(EXIT, further)).connected
    status, said = await natpmpc(provider, "-a", "0", "50005", "tcp", "60")
    assert status != 0
    assert provider.gateway.log[-1].granted == (4, 50005, 0, 0)
    assert len(await provider.nat.read()) == 6


async def test_what_is_not_renewed_ends(provider, tunnel):
    provider.gateway.lifetime = 1
    began = time.monotonic()
    port = await map_both(provider)
    await provider.gateway.until(lambda: not provider.gateway.mappings)
    assert 0.9 < time.monotonic() - began < 1.9
    assert await provider.nat.read() == frozenset()
    assert (await provider.peer.connect_tcp(EXIT, port)).result is Result.UNREACHABLE


async def test_rotation_moves_the_forward_at_the_next_renewal(provider, tunnel):
    port = await map_both(provider)
    provider.gateway.rotate()
    async with Echo(provider.lab.client, "10.2.0.2", port):
        assert (await provider.peer.connect_tcp(EXIT, port)).connected, "not before"
    fresh = await map_both(provider)
    assert fresh != port
    async with Echo(provider.lab.client, "10.2.0.2", fresh):
        assert (await provider.peer.connect_tcp(EXIT, fresh)).connected
        assert (await provider.peer.send_udp(EXIT, fresh)).connected
    assert (await provider.peer.connect_tcp(EXIT, port)).result is Result.UNREACHABLE


async def test_refusal_is_icmp_that_the_kernel_believes(provider, tunnel):
    provider.gateway.refuse_next()
    status, said = await natpmpc(provider)
    assert status != 0
    assert "the gateway does not support nat-pmp" in said
    provider.gateway.refuse = True
    with asking(provider) as sock:
        for data in (b"\0\0", MAP_UDP):
            with pytest.raises(ConnectionRefusedError):
                await ask(sock, data)
        provider.gateway.refuse = False
        assert external(await ask(sock, MAP_UDP))
    assert [request.fate for request in provider.gateway.log] == [Fate.REFUSED] * 3 + [Fate.ANSWERED]


async def test_silence_and_lost_answers(provider, tunnel):
    gateway = provider.gateway
    with asking(provider) as sock:
        gateway.silent_next()
        with pytest.raises(TimeoutError):
            await ask(sock, MAP_UDP, deadline=0.1)
        assert not gateway.mappings
        gateway.lose_answers = True
        with pytest.raises(TimeoutError):
            await ask(sock, MAP_UDP, deadline=0.1)
        assert len(gateway.mappings) == 1
        gateway.lose_answers = False
        assert external(await ask(sock, MAP_TCP)) in gateway.external_ports
    assert [request.fate for request in gateway.log] == [Fate.SILENT, Fate.ANSWER_LOST, Fate.ANSWERED]
    assert [request.opcode for request in gateway.log] == [1, 1, 2]
    assert gateway.log[0].at < gateway.log[1].at < gateway.log[2].at


@pytest.mark.parametrize(
    ("wrong", "source"), [("port", (GATEWAY, 6667)), ("address", (EXIT, 5351)), (True, (EXIT, 5351))]
)
async def test_answers_from_a_wrong_source_arrive_and_are_told_apart(provider, tunnel, wrong, source):
    provider.gateway.wrong_source = wrong
    loop = asyncio.get_running_loop()
    with asking(provider, connected=False) as sock:
        async with asyncio.timeout(1):
            await loop.sock_sendto(sock, MAP_UDP, (GATEWAY, 5351))
            _, sender = await loop.sock_recvfrom(sock, 100)
    assert sender == source


async def test_delayed_and_doubled_answers(provider, tunnel):
    provider.gateway.delay = 0.15
    provider.gateway.duplicate = True
    loop = asyncio.get_running_loop()
    with asking(provider) as sock:
        began = time.monotonic()
        answer = await ask(sock, MAP_UDP)
        assert time.monotonic() - began >= 0.15
        async with asyncio.timeout(1):
            assert await loop.sock_recv(sock, 100) == answer


async def test_tcp_differs_in_the_kernel_too(provider, tunnel):
    provider.gateway.tcp_differs = True
    with asking(provider) as sock:
        udp, tcp = external(await ask(sock, MAP_UDP)), external(await ask(sock, MAP_TCP))
    assert udp != tcp
    assert await provider.nat.read() == {
        Dnat(Protocol.UDP, udp, "10.2.0.2", udp),
        Dnat(Protocol.TCP, tcp, "10.2.0.2", tcp),
    }


async def test_a_gateway_that_restarts_forgets_and_starts_its_epoch_again(provider, tunnel):
    with asking(provider) as sock:
        await ask(sock, MAP_UDP)
        assert struct.unpack_from("!I", await ask(sock, b"\0\0"), 4)[0] > 10**6
        await provider.gateway.reset_epoch()
        assert await provider.nat.read() == frozenset()
        assert struct.unpack_from("!I", await ask(sock, b"\0\0"), 4)[0] <= 1


async def test_every_customer_has_mappings_of_its_own():
    async with MockProvider(neighbour=True) as provider:
        lab = provider.lab
        await provider.server.bring_up(provider.customer, lab.client)
        await provider.server.bring_up(await provider.server.add_client(), lab.neighbour)
        port = await map_both(provider)
        done = await lab.neighbour.run(["natpmpc", "-a", "1", "0", "tcp", "60", "-g", GATEWAY])
        theirs = int(re.search(r"Mapped public port (\d+)", done.stdout)[1])
        assert theirs != port
        async with Echo(lab.client, "10.2.0.2", port), Echo(lab.neighbour, "10.2.0.3", theirs) as listener:
            assert (await provider.peer.connect_tcp(EXIT, theirs)).connected
            assert (await Peer(lab.client).connect_tcp("10.2.0.3", theirs)).connected, "and customers see each other"
            await listener.until(2)
            assert [seen.source for seen in listener.seen] == [INTERNET, "10.2.0.2"]


async def test_mode_rfc_refuses_internal_port_0_and_grants_a_wish():
    async with MockProvider(mode="rfc", lifetime=7200) as provider:
        await provider.server.bring_up(provider.customer, provider.lab.client)
        status, _ = await natpmpc(provider, "-a", "1", "0", "tcp", "60")
        assert status != 0
        status, said = await natpmpc(provider, "-a", "40000", "6881", "tcp", "7200")
        assert "Mapped public port 40000 protocol TCP to local port 6881 liftime 7200" in said
        async with Echo(provider.lab.client, "10.2.0.2", 6881):
            assert (await provider.peer.connect_tcp(EXIT, 40000)).connected


# -- the tunnel -----------------------------------------------------------------------------------


async def test_the_internet_sees_the_exit_address_and_the_cable_only_the_tunnel(provider, tunnel):
    async with provider.lab.capture(leak()) as leaked, Echo(provider.lab.internet, INTERNET, 7000) as web:
        from_client = Peer(provider.lab.client)
        assert (await from_client.connect_tcp(INTERNET, 7000, send=b"x")).connected
        assert (await from_client.send_udp(INTERNET, 7000)).connected
        assert [seen.source for seen in web.seen] == [EXIT, EXIT]
        assert await leaked.count() == 0
        await tunnel.remove()
        assert (await from_client.send_udp(INTERNET, 7000)).connected
        assert await leaked.count() == 1, "the control: without the tunnel it is seen"


async def test_a_silent_server_comes_back_with_the_session_and_a_killed_one_without(provider, tunnel):
    from_client = Peer(provider.lab.client)
    async with Echo(provider.lab.internet, INTERNET, 7000):
        assert (await from_client.send_udp(INTERNET, 7000)).connected
        assert (await provider.server.handshakes())[provider.customer.public_key] > 0
        await provider.server.mute()
        assert not (await from_client.send_udp(INTERNET, 7000, deadline=0.1)).connected
        await provider.server.unmute()
        assert (await from_client.send_udp(INTERNET, 7000)).connected
        await provider.server.kill()
        assert not (await from_client.send_udp(INTERNET, 7000, deadline=0.1)).connected
        await provider.server.restart()
        assert (await provider.server.handshakes())[provider.customer.public_key] == 0
        await tunnel.remove()
        await provider.server.bring_up(provider.customer, provider.lab.client)
        assert (await from_client.send_udp(INTERNET, 7000)).connected
        port = await map_both(provider)
        assert port, "the gateway's sockets outlive the device"


async def test_a_revoked_key_gets_no_handshake(provider):
    await provider.server.revoke(provider.customer)
    await provider.server.bring_up(provider.customer, provider.lab.client)
    with asking(provider) as sock, pytest.raises(TimeoutError):
        await ask(sock, MAP_UDP, deadline=0.2)
    assert provider.gateway.log == []


async def test_ipv6_in_the_tunnel_if_asked_for(tmp_path):
    async with MockProvider(ipv6=True) as provider:
        client = provider.customer
        assert client.address6 == "2a07:b944::2:2"
        assert f"Address = 10.2.0.2/32, {client.address6}/128" in provider.client_config(tmp_path / "c").read_text()
        device = await provider.server.bring_up(client, provider.lab.client)
        lines = f"addr add {client.address6}/128 dev {device.name} nodad\nroute add {GATEWAY6} dev {device.name}\n"
        await provider.lab.client.must(["ip", "-batch", "-"], stdin=lines)
        async with Echo(provider.lab.server, GATEWAY6, 7000):
            # Longer than WireGuard's 5 s between two tries of a handshake.
            assert (await Peer(provider.lab.client).send_udp(GATEWAY6, 7000, deadline=12.0)).connected


# -- the rest of the far side ---------------------------------------------------------------------


async def test_both_resolvers_answer_and_remember(provider, tunnel):
    script = "import socket,sys; print(socket.gethostbyname(sys.argv[1]))"
    client = provider.lab.client
    assert await client.must(["python3", "-c", script, ENDPOINT_NAME]) == f"{SERVER}\n"
    client.resolver.write_text(f"nameserver {GATEWAY}\n")
    assert await client.must(["python3", "-c", script, "tracker.test"]) == f"{INTERNET}\n"
    assert [(query.client, query.name) for query in provider.dns.log] == [("10.2.0.2", "tracker.test")]
    assert {(query.client, query.name) for query in provider.isp_dns.log} == {("192.168.77.2", ENDPOINT_NAME)}
    assert provider.isp_dns.address == ROUTER


async def test_a_real_qbittorrent_wants_a_login_and_remembers_its_settings(provider, tunnel, tmp_path):
    host = provider.lab.client
    async with QBittorrent(host, tmp_path / "qbt", listen_port=45000, interface=tunnel.name) as client:
        assert (await client._exchange("GET", "/api/v2/app/preferences"))[0] == 403
        assert (await client._exchange("POST", "/api/v2/auth/login", {"username": "admin", "password": "no"}))[
            1
        ] == "Fails."
        preferences = await client.preferences()
        wanted = {
            "listen_port": 45000,
            "upnp": False,
            "dht": False,
            "lsd": False,
            "current_network_interface": tunnel.name,
        }
        assert {key: preferences[key] for key in wanted} == wanted
        port = await map_both(provider)
        await client.set_preferences({"listen_port": port})
        async with asyncio.timeout(5):
            while not (await provider.peer.connect_tcp(EXIT, port)).connected:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        await client.stop()
        assert (await provider.peer.connect_tcp(EXIT, port)).result is Result.REFUSED
        await client.start()
        assert (await client.preferences())["listen_port"] == port
        pid = client.pid
        assert pid in host.processes
    assert pid not in host.processes


async def test_a_knock_that_nobody_answers_times_out(provider, tunnel):
    port = await map_both(provider)
    rule = f"table inet t {{ chain i {{ type filter hook input priority 0; tcp dport {port} drop; }}\n}}\n"
    await provider.lab.client.must(["nft", "-f", "-"], stdin=rule)
    outcome = await provider.peer.connect_tcp(EXIT, port, deadline=0.2)
    assert outcome.result is Result.TIMED_OUT
    assert 0.2 <= outcome.seconds < 0.5


async def test_a_provider_that_was_started_is_stopped_once_or_twice():
    provider = await MockProvider.start(lifetime=2)
    assert provider.gateway.lifetime == 2
    hosts = provider.lab.hosts
    await provider.stop()
    await provider.stop()
    assert not any(host.path.exists() for host in hosts)


async def test_the_gateway_says_so_when_it_broke(provider, tunnel, monkeypatch):
    async def broken(*_arguments):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(provider.nat, "apply", broken)
    with asking(provider) as sock:
        sock.send(MAP_UDP)
        with pytest.raises(OSError, match="no"):
            await provider.gateway.until(lambda: bool(provider.gateway.log))
    monkeypatch.undo()
    with pytest.raises(OSError, match="no"):
        await provider.stop()
