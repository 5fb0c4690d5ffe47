"""`namespace = true`: in there is the tunnel and no other way out, whatever dies."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.peer import Echo, Peer, Result
from mock_provider.product import CONFIG, Product, traces, unique_profile
from mock_provider.provider import ENDPOINT_NAME, MockProvider
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import CLIENT, EXIT, INTERNET, LAN_HOST, ROUTER, SERVER
from tests.system.namespace_world import PYTHON, Inside, Machine, clean_up, left, program, ready, within, write_config
from vpnpf.io import netns, process
from vpnpf.tunnels import uplink
from vpnpf.tunnels.namespace import ProfileNamespace
from vpnpf.tunnels.wireguard_device import SOCKETS

pytestmark = pytest.mark.system

PROBES = """
import json, socket, struct, sys
V4, V6 = socket.AF_INET, socket.AF_INET6
DEVICE = sys.argv[1].encode()
WAYS = {
    "internet": (V4, "203.0.113.80", 80, b""), "ipv6": (V6, "2001:db8:80::80", 80, b""),
    "lan": (V4, "192.168.77.66", 4000, b""), "lan dns": (V4, "192.168.77.1", 53, b""),
    "foreign dns": (V4, "203.0.113.80", 53, b""), "dot": (V4, "203.0.113.80", 853, b""),
    "mdns": (V4, "224.0.0.251", 5353, b""), "bound": (V4, "203.0.113.80", 81, DEVICE),
    "bound ipv6": (V6, "2001:db8:80::80", 81, DEVICE),
}
def send(family, address, port, device):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        sock.sendto(b"probe", (address, port))
while True:
    count = int(sys.stdin.readline())
    sent = dict.fromkeys(WAYS, 0)
    for _ in range(count):
        for name, way in WAYS.items():
            try:
                send(*way)
                sent[name] += 1
            except OSError:
                pass
    print(json.dumps(sent))
"""
"""Sends by every way that a leak could take; says how many were not refused at once."""
CONNECTION = """
import json, socket, sys
with socket.create_connection(("203.0.113.80", 7), 10) as sock, socket.socket() as server:
    server.bind((sock.getsockname()[0], 25565))
    server.listen()
    while line := sys.stdin.readline():
        sock.sendall(line.encode())
        print(json.dumps(sock.recv(1000).decode()))
"""
"""Holds a connection to the internet and listens on the tunnel's address."""


@pytest.fixture
def profile():
    name = unique_profile()
    yield name
    clean_up(name)


@pytest.fixture
async def provider():
    async with MockProvider(lan_host=True, ipv6=True) as made:
        yield made


@pytest.fixture
def machine(provider):
    return Machine(provider.lab.client)


@pytest.fixture
def config(provider, profile, tmp_path):
    provider.client_config(tmp_path / "proton.conf")
    return write_config(tmp_path, profile)


def wireguard_go(machine, profile):
    """The one process of this profile's device, outside."""
    argv = f"wireguard-go\0vpf-{profile}\0".encode()
    found = [pid for pid in machine.processes if Path("/proc", str(pid), "cmdline").read_bytes().endswith(argv)]
    assert len(found) == 1
    return found[0]


def machines_resolver():
    return Path("/etc/resolv.conf").read_bytes()


def past_the_tunnel(packet):
    """What leaves beside the tunnel, but for the machine's own word that a port of a dead tunnel is closed."""
    closed = (packet.destination, packet.protocol, packet.destination_port) == (SERVER, socket.IPPROTO_ICMP, 3)
    return leak()(packet) and not closed


async def kill(pid):
    """End a process as a crash would, and wait until it is gone."""
    handle = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    assert await asyncio.to_thread(poll.poll, 5000)
    os.close(handle)


async def test_the_main_job_and_a_torrent_client_that_lives_on(provider, machine, profile, tmp_path):
    inside, resolver = Inside(profile), machines_resolver()
    client = QBittorrent(inside, tmp_path / "qbittorrent")
    provider.client_config(tmp_path / "proton.conf")
    (tmp_path / "qb.password").touch(mode=0o600)
    (tmp_path / "qb.password").write_text(client.password)
    config = tmp_path / "config.toml"
    text = CONFIG.format(
        profile=profile, provider="protonvpn", client=client.kind, url=client.url, username=client.username
    )
    config.write_text(text.replace('"proton.conf"\n', '"proton.conf"\nnamespace = true\n'))
    before = await traces(machine)
    async with provider.lab.capture(leak()) as leaked:
        async with Product(machine, tmp_path, config, profile) as product:
            state = await product.until(lambda state: state["tunnel"])
            assert state["tunnel"]["interface"] not in str((await traces(machine))["links"])
            assert state["namespace"] == f"vpnpf-{profile}"
            async with client:
                await product.until(ready, deadline=30)
                first = product.forward()["external_port"]
                assert (await client.preferences())["listen_port"] == first
                assert (await provider.peer.connect_tcp(EXIT, first)).connected
                await product.until(lambda _: product.forward()["proofs"]["reachable"]["ok"])
                assert await product.stop() == 0
                assert f"qbittorrent-nox ({client.pid})" in product.talk
                async with Product(machine, tmp_path, config, profile) as again:
                    await again.until(ready, deadline=30)
                    port = again.forward()["external_port"]
                    assert (await provider.peer.connect_tcp(EXIT, port)).connected
                    assert await again.stop() == 0
                await client.stop()
            assert left(profile)
        async with Product(machine, tmp_path, config, profile) as product:
            await product.until(lambda state: state["tunnel"])
            assert await product.stop() == 0
        assert await leaked.count() == 0
    assert await traces(machine) == before
    assert not left(profile)
    assert not (SOCKETS / f"vpf-{profile}.sock").exists()
    assert machines_resolver() == resolver


async def test_nothing_leaves_whatever_dies(provider, machine, profile, config, tmp_path):
    everything = provider.lab.capture(past_the_tunnel)
    async with Product(machine, tmp_path, config, profile) as product, everything as leaked:
        device = (await product.until(ready))["tunnel"]["interface"]
        async with program(Inside(profile), PROBES, "eth0") as prober:
            sent = await prober.asked(50)
            assert sent["internet"] == 50
            assert sent["bound"] == sent["bound ipv6"] == 0
            await kill(wireguard_go(machine, profile))
            await prober.asked(200)
            await product.until(lambda state: state["phase"] == "blocked", deadline=30)
            await prober.asked(200)
            await product.until(ready, deadline=30)
            assert (await prober.asked(50))["internet"] == 50
            product.signal(signal.SIGKILL)
            await prober.asked(200)
            await product.ended()
            assert (await prober.asked(200))["internet"] == 200
            await kill(wireguard_go(machine, profile))
            assert not any((await prober.asked(200)).values())
            assert await leaked.count() == 0, leaked.packets
            # With nobody's firewall either, there is still no way out.
            await within(profile).must(("nft", "flush", "ruleset"))
            async with Product(machine, tmp_path, config, profile) as again:
                await again.until(ready, deadline=30)
                assert (await prober.asked(50))["internet"] == 50
                await within(profile).must(("ip", "link", "del", device))
                await within(profile).must(("nft", "flush", "ruleset"))
                assert not any((await prober.asked(200)).values())
                assert await leaked.count() == 0
                await again.until(ready, deadline=30)
                prober.process.kill()
                await prober.process.wait()
                assert await again.stop() == 0
        assert await leaked.count() == 0
    assert not left(profile)


async def test_the_same_program_outside_leaks_by_every_way(provider, machine, profile, config, tmp_path):
    async with Product(machine, tmp_path, config, profile) as product, provider.lab.capture(leak()) as leaked:
        await product.until(ready)
        async with program(machine, PROBES, "eth0") as prober:
            await prober.asked(3)
        await leaked.count()
        ways = Counter((packet.destination, packet.destination_port) for packet in leaked.packets)
        # The first to the LAN's host waits for its ARP, and is sent then.
        assert {way for way in ways if way[1] in {53, 80, 81, 853, 4000, 5353}} == {
            (INTERNET, 80),
            ("2001:db8:80::80", 80),
            (LAN_HOST, 4000),
            (ROUTER, 53),
            (INTERNET, 53),
            (INTERNET, 853),
            ("224.0.0.251", 5353),
            (INTERNET, 81),
            ("2001:db8:80::80", 81),
        }
        assert await product.stop() == 0


async def test_connections_and_sockets_inside_outlive_a_daemon_that_is_killed(
    provider, machine, profile, config, tmp_path
):
    async with Echo(provider.lab.internet, INTERNET, 7) as echo:
        async with Product(machine, tmp_path, config, profile) as product:
            await product.until(lambda state: state["tunnel"])
            async with program(Inside(profile), CONNECTION) as held:
                assert await held.asked("one") == "one\n"
                await product.until(ready)
                port = product.forward("game")["external_port"]
                product.signal(signal.SIGKILL)
                await product.ended()
                assert await held.asked("two") == "two\n"
                async with Product(machine, tmp_path, config, profile) as again:
                    await again.until(ready)
                    assert again.forward("game")["external_port"] == port
                    assert await held.asked("three") == "three\n"
                    assert (await provider.peer.connect_tcp(EXIT, port)).connected
                    assert len(echo.seen) == 1
                    assert await again.stop() == 0
                    assert "python3" in again.talk
        async with Product(machine, tmp_path, config, profile) as product:
            await product.until(lambda state: state["tunnel"])
            assert await product.stop() == 0
    assert not left(profile)


async def test_killed_at_any_moment_the_next_run_takes_over(provider, machine, profile, config, tmp_path):
    before = await traces(machine)
    async with provider.lab.capture(past_the_tunnel) as leaked:
        for moment in range(10):
            async with Product(machine, tmp_path, config, profile) as product:
                await asyncio.sleep(0.08 + moment * 0.02)  # from before the namespace is made to READY
                product.signal(signal.SIGKILL)
        async with Product(machine, tmp_path, config, profile) as product:
            await product.until(ready)
            assert await product.stop() == 0
        assert await leaked.count() == 0
    assert await traces(machine) == before
    assert not left(profile)


async def test_a_name_that_stands_for_nothing_any_more_is_taken_over(machine, profile, config, tmp_path):
    stale = ProfileNamespace(profile)
    stale.path.touch()
    stale.files.make()
    stale.files.take(("192.0.2.53",))
    async with Product(machine, tmp_path, config, profile) as product:
        await product.until(ready)
        assert "10.2.0.1" in await Inside(profile).must(("cat", "/etc/resolv.conf"))
        assert await product.stop() == 0
    assert not left(profile)


async def test_the_way_out_is_looked_for_outside(provider, machine):
    """With a namespace of our own for this thread, as the engine has it: in there is no way to any server."""
    with machine.inside(), netns.outside() as outside, provider.lab.lan.inside():
        assert await uplink.is_down("198.18.0.1", 0) == ""
        await provider.lab.lan.must(("ip", "route", "del", "default"))
        assert await uplink.is_down(SERVER, 0) != ""
        assert await uplink.is_down(SERVER, 0, outside) == ""
        await machine.must(("ip", "link", "set", "eth0", "down"))
        assert await uplink.is_down(SERVER, 0, outside) != ""


async def test_ipv6_that_is_switched_off_is_so_inside(machine, profile, config, tmp_path):
    for name in ("all", "default"):
        machine.sysctl(f"net.ipv6.conf.{name}.disable_ipv6", 1)
    async with Product(machine, tmp_path, config, profile) as product:
        await product.until(lambda state: state["tunnel"])
        assert await within(profile).must(("ip", "-6", "addr")) == ""
        assert await product.stop() == 0


async def test_names_are_asked_for_inside_and_the_servers_outside(provider, profile, tmp_path):
    client = provider.lab.client
    text = provider.client_config(tmp_path / "proton.conf").read_text()
    (tmp_path / "proton.conf").write_text(text.replace(f"{SERVER}:", f"{ENDPOINT_NAME}:"))
    config = write_config(tmp_path, profile, rest='exit_check = "http://exit.test/"')
    ask = "import socket; print(socket.gethostbyname('inside.test'))"
    async with Product(client, tmp_path, config, profile) as product:
        await product.until(ready)
        assert {query.name for query in provider.isp_dns.log} == {ENDPOINT_NAME}
        assert ENDPOINT_NAME not in [query.name for query in provider.dns.log]
        # This vpnpf has mounts of its own (ip-netns(8)), so only its process leads to the namespace.
        assert not Inside(profile).path.is_mount()
        found = await Inside(profile).run((PYTHON, "-c", ask), env={"RUNTIME_DIRECTORY": str(tmp_path / "runtime")})
        assert (found.stdout.strip(), found.stderr) == (INTERNET, "")
        await product.until(lambda _: "exit.test" in [query.name for query in provider.dns.log])
        assert "inside.test" in [query.name for query in provider.dns.log]
        assert {query.name for query in provider.isp_dns.log} == {ENDPOINT_NAME}
        assert await product.stop() == 0


async def test_profiles_with_namespaces_run_side_by_side(tmp_path):
    names = unique_profile(), unique_profile()
    async with MockProvider(servers=2) as provider:
        machine, products = Machine(provider.lab.client), []
        for number, name in enumerate(names):
            provider.servers[number].client_config(tmp_path / f"{number}.conf")
            config = write_config(tmp_path, name, f"{number}.conf")
            products.append(Product(machine, tmp_path, config, name))
        async with products[0] as one, products[1] as other:
            await asyncio.gather(one.until(ready), other.until(ready))
            tunnels = [product.state["tunnel"]["endpoint"] for product in (one, other)]
            assert len(set(tunnels)) == 2
            assert await asyncio.gather(one.stop(), other.stop()) == [0, 0]
    assert not [path for name in names for path in left(name)]


async def test_a_port_inside_is_reached_by_a_published_one(provider, machine, profile, config, tmp_path):
    config.write_text(
        config.read_text().replace(
            "namespace = true", f'namespace = true\npublish = ["{CLIENT}:7007", "127.0.0.1:7008"]'
        )
    )
    async with Product(machine, tmp_path, config, profile) as product:
        await product.until(lambda state: state["tunnel"])
        async with Echo(within(profile), "0.0.0.0", 7007) as echo:
            for neighbour, address in ((provider.lab.lan, CLIENT), (machine, CLIENT)):
                knock = await Peer(neighbour).connect_tcp(address, 7007, send=b"hello")
                assert knock.data == b"hello"
            assert {seen.source for seen in echo.seen} == {"127.0.0.1"}
        # Nobody is there inside: the connection ends.
        refused = await Peer(machine).connect_tcp("127.0.0.1", 7008, send=b"hello")
        assert refused.data == b""
        assert refused.result is not Result.TIMED_OUT
        assert await product.stop() == 0
    assert (await Peer(provider.lab.lan).connect_tcp(CLIENT, 7007)).result is Result.REFUSED
    assert not left(profile)


async def test_a_port_that_is_taken_cannot_be_published(machine, profile, config, tmp_path):
    config.write_text(config.read_text().replace("namespace = true", 'namespace = true\npublish = ["127.0.0.1:7009"]'))
    async with Echo(machine, "127.0.0.1", 7009), Product(machine, tmp_path, config, profile) as product:
        assert await product.ended() == 69
    assert "publishing 127.0.0.1:7009" in product.talk
    assert not left(profile)


async def test_ended_while_it_is_made_it_is_removed(profile, monkeypatch):
    """Told to end when `ip netns add` has made it, and before we know that it has."""
    really = process.must

    async def told_to_end(argv, **more):
        await really(argv, **more)
        raise asyncio.CancelledError

    async def begin_and_leave():
        namespace = ProfileNamespace(profile)
        with netns.outside() as outside:
            with pytest.raises(asyncio.CancelledError):
                await namespace.move_in(outside)
            assert namespace.exists
            assert namespace.leave() == ""

    monkeypatch.setattr(process, "must", told_to_end)
    with ThreadPoolExecutor(1) as elsewhere:  # who comes back to a mount namespace is in its root directory
        await asyncio.get_running_loop().run_in_executor(elsewhere, lambda: asyncio.run(begin_and_leave()))
    assert not left(profile)


async def test_a_run_that_cannot_begin_leaves_no_namespace(provider, machine, profile, config, tmp_path):
    text = (tmp_path / "proton.conf").read_text()
    (tmp_path / "proton.conf").write_text(text.replace(f"{SERVER}:", "no-such-name.invalid:"))
    impatient = {"RES_OPTIONS": "timeout:1 attempts:1"}
    async with Product(machine, tmp_path, config, profile, env=impatient) as product:
        assert await product.ended() == 75
    assert not left(profile)


async def test_without_the_privilege_it_says_so(machine, profile, config, tmp_path):
    drop = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", "--no-new-privs")
    async with Product(machine, tmp_path, config, profile, wrap=drop) as product:
        assert await product.ended() == 77
    assert "CAP_SYS_ADMIN" in product.talk
    assert not left(profile)
