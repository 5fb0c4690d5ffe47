"""`vpnpf run` with Private Internet Access: tunnels that the provider makes, and a port that stays."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

from mock_provider.capture import leak
from mock_provider.host import Host
from mock_provider.https import Fault
from mock_provider.pia import MockPia
from mock_provider.pia_forward import BAD_SIGNATURE, PORT_EXPIRED, UNAUTHORIZED_CLIENT, busy
from mock_provider.product import traces
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import CLIENT, EXIT
from tests.system.namespace_world import program
from tests.system.pia_world import World, device, failed, ready, talking, world
from tests.system.test_daemon import Asking

__all__ = ["world"]
pytestmark = pytest.mark.system

TORRENT = """\
[profiles.{profile}.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "URL"
username = "USERNAME"
password = {{ file = "qb.password" }}
"""


async def test_the_port_stays_over_a_restart_a_kill_and_another_server(world):
    first, second = world.pia.servers
    before = await traces(world.client)
    async with world.game():
        async with world.run() as product:
            await product.until(ready)
            port = await world.reached(product)
            await product.until(lambda _: product.forward("game")["proofs"]["reachable"]["ok"])
            assert await product.stop() == 0
        assert await traces(world.client) == before
        async with world.run() as product:
            await product.until(ready)
            assert await world.reached(product) == port
            product.signal(signal.SIGKILL)
            await product.ended()
        async with world.run() as product:
            await product.until(ready)
            assert await world.reached(product) == port
            assert await product.stop() == 0
        # The first server registers nobody any more.
        await first.add_key.close()
        await first.registry.forget()
        async with world.run() as product:
            await product.until(ready)
            assert product.state["server"] == {"number": 2, "of": 2}
            assert await world.reached(product, second) == port
            assert await product.stop() == 0
        assert world.logins == [200]
        assert len(first.api.paths("/getSignature")) == 1
        assert not second.api.paths("/getSignature")
        assert len(world.pia.web.list.asked) == 1
    assert await traces(world.client) == before


async def test_what_the_gateway_refuses_is_had_anew_once(world):
    site = world.pia.servers[0]
    # A token that it does not know, a signature that it does not like, a port whose time is over.
    site.api.fail_next(UNAUTHORIZED_CLIENT, path="/getSignature")
    async with world.game():
        async with world.run() as product:
            await product.until(ready)
            port = await world.reached(product)
            assert await product.stop() == 0
        assert world.logins == [200, 200]
        for trouble in (BAD_SIGNATURE, PORT_EXPIRED, busy(port, capital=False)):
            site.api.fail_next(trouble, path="/bindPort")
            async with world.run() as product:
                await product.until(ready)
                assert await world.reached(product) != port
                port = await world.reached(product)
                assert await product.stop() == 0
        assert world.logins == [200, 200]
        # Who refuses every token brings no login after the other.
        site.api.fail_always(UNAUTHORIZED_CLIENT, path="/getSignature")
        site.api.fail_always(BAD_SIGNATURE, path="/bindPort")
        world.pia.servers[1].add_key.fail_always(Fault.HTML)
        async with world.run() as product:
            await product.until(failed, deadline=40)
        assert world.logins == [200, 200, 200]


async def test_a_port_that_somebody_else_has_is_changed(world):
    first = world.pia.servers[0]
    async with world.game():
        async with world.run() as product:
            await product.until(ready)
            port = await world.reached(product)
            assert await product.stop() == 0
        await first.forwards.occupy(port)
        async with world.run() as product:
            await product.until(ready)
            assert await world.reached(product) != port
            assert len(first.api.paths("/getSignature")) == 2


async def test_qbittorrent_has_the_port(tmp_path):
    async with MockPia() as pia, QBittorrent(pia.lab.client, tmp_path / "qbittorrent") as client:
        world = World(pia, tmp_path)
        secret = tmp_path / "qb.password"
        secret.touch(mode=0o600)
        secret.write_text(client.password + "\n")
        world.configure(forwards=TORRENT.replace("URL", client.url).replace("USERNAME", client.username))
        async with world.run() as product:
            await product.until(ready)
            port = product.forward()["external_port"]
            preferences = await client.preferences()
            assert preferences["listen_port"] == port
            assert not preferences["random_port"]
            assert (await pia.peer.connect_tcp(EXIT, port)).connected
            await product.until(lambda _: product.forward()["proofs"]["reachable"]["ok"])
            assert all(proof["ok"] for proof in product.forward()["proofs"].values())
            assert await product.stop() == 0


async def test_a_server_that_forgot_the_key_is_told_it_in_place(world, record_property):
    site = world.pia.servers[0]
    async with world.game(), world.run() as product, talking(world.client):
        state = await product.until(ready)
        port = await world.reached(product)
        interface = state["tunnel"]["interface"]
        was = await device(world.client, interface)
        (key,) = site.registry.keys
        await site.registry.forget()
        began = time.monotonic()
        await site.add_key.until(lambda: site.registry.keys, deadline=30)
        told = time.monotonic() - began
        while not (await world.pia.peer.connect_tcp(EXIT, port, deadline=0.3, send=b"x")).connected:
            assert time.monotonic() - began < 30
        record_property("told again after", round(told, 1))
        record_property("reachable after", round(took := time.monotonic() - began, 1))
        assert took < 15
        assert site.registry.keys == (key,)
        await product.until(ready)
        assert await device(world.client, interface) == was
        assert await world.reached(product) == port
        assert len(site.api.paths("/getSignature")) == 1
        assert product.state["server"]["number"] == 1
        assert world.logins == [200]
        assert await product.stop() == 0


async def test_another_address_for_the_key_is_taken_over_in_place(world):
    site = world.pia.servers[0]
    async with world.game(), world.run() as product, talking(world.client):
        state = await product.until(ready)
        port = await world.reached(product)
        index, (address,) = await device(world.client, state["tunnel"]["interface"])
        site.registry.move_next()
        await site.registry.forget()
        await site.forwards.until(lambda: any(each.address != address for each in site.forwards.bound), deadline=40)
        await product.until(ready)
        now, addresses = await device(world.client, state["tunnel"]["interface"])
        assert now == index
        assert address not in addresses
        assert await world.reached(product) == port
        assert await product.stop() == 0


@pytest.mark.parametrize("tunnel", ["openvpn", "openvpn-tcp"])
async def test_over_openvpn(tmp_path, tunnel):
    async with MockPia(tunnel=tunnel) as pia:
        world = World(pia, tmp_path)
        world.configure()
        before = await traces(world.client)
        ports = set()
        async with world.game():
            for _ in range(2):
                async with world.run() as product:
                    await product.until(ready)
                    ports.add(await world.reached(product))
                    assert await product.stop() == 0
        assert len(ports) == 1
        assert world.logins == [200]
        assert {each.status for each in pia.servers[0].openvpn.attempts} == {200}
        assert await traces(world.client) == before


@pytest.mark.parametrize("tunnel", ["wireguard", "openvpn"])
async def test_in_a_namespace_of_its_own(tmp_path, tunnel):
    async with MockPia(tunnel=tunnel) as pia:
        world = World(pia, tmp_path)
        config = world.configure()
        kind = f'type = "{tunnel}"\n'
        config.write_text(config.read_text().replace(kind, f"{kind}namespace = true\n"))
        ports = set()
        for _ in range(2):
            async with world.run() as product:
                await product.until(ready)
                ports.add(product.forward("game")["external_port"])
                async with program(Beside(product), SERVER) as server:
                    await server.says()
                    assert (await pia.peer.connect_tcp(EXIT, *ports, send=b"in")).data == b"in"
                assert await product.stop() == 0
        assert world.logins == [200]


class Beside(Host):
    """Where a run is, after it went into its namespace."""

    def __init__(self, product):
        super().__init__("beside", "beside")
        self._pid = product.pid

    def _argv(self, argv, env):
        return ("nsenter", f"--net=/proc/{self._pid}/ns/net", *argv)


SERVER = """
import json, socket
with socket.socket() as server:
    server.bind(("", 25565))
    server.listen()
    print(json.dumps("listening"))
    connection, _ = server.accept()
    with connection:
        connection.sendall(connection.recv(100))
"""


FAST = """\
from msgspec.structs import replace
from vpnpf_providers.pia import PrivateInternetAccess


class Fast(PrivateInternetAccess):
    manifest = replace(PrivateInternetAccess.manifest, id="pia_fast")

    async def acquire(self, io, tunnel, request):
        return replace(await super().acquire(io, tunnel, request), lifetime={lifetime})
"""


def accelerate(world, lifetime):
    """The provider as it is, but with leases of so many seconds."""
    package = world.directory / "package"
    info = package / "pia_fast-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pia_fast\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vpnpf.providers]\npia_fast = pia_fast:Fast\n")
    (package / "pia_fast.py").write_text(FAST.format(lifetime=lifetime))
    world.extra = {"PYTHONPATH": str(package)}
    world.configure(provider="pia_fast")


async def test_the_port_stays_open_over_many_binds_and_lost_requests(world):
    site = world.pia.servers[0]
    site.forwards.bind_for = 3.0
    accelerate(world, 3.0)
    async with world.run() as product:
        await product.until(ready)
        assert await product.stop() == 0
    site.forwards.bound.clear()
    await site.forwards.drop()
    world.age_list(days=2)
    async with world.game(), world.run() as product:
        await product.until(ready)
        port = await world.reached(product)

        async def bound(more):
            wanted = len(site.forwards.bound) + more
            await site.forwards.until(lambda: len(site.forwards.bound) >= wanted)
            assert await world.reached(product) == port

        await bound(2)
        assert [asked.client for asked in world.pia.web.list.asked] == [CLIENT, EXIT], "a fresher one by the tunnel"
        site.api.fail_next(Fault.CUT_OFF, path="/bindPort")
        await bound(1)
        site.api.fail_next(Fault.HTML, path="/bindPort")
        await bound(1)
        problems = len(product.notices("problem"))
        await site.api.close()
        await product.until(lambda _: len(product.notices("problem")) > problems)
        await site.api.open()
        await bound(2)
        assert {each.port for each in site.forwards.bound} == {port}
        assert [each.message for each in site.forwards.bound].count("port scheduled for add") == 1, "it never ended"
        assert not site.forwards.ended
        assert [event["external_port"] for event in product.notices("port")] == [port]
        assert len(site.api.paths("/getSignature")) == 1

        # That it ends without binds is shown in test_mock_pia.py.
        assert await product.stop() == 0


async def test_it_can_be_played_with():
    """`python -m mock_provider pia`: what it prints is enough for a run."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mock_provider", "pia", "--servers", "1", stdout=asyncio.subprocess.PIPE
    )
    run = None
    try:
        said = ""
        while "Ctrl-C ends it" not in said:
            line = (await child.stdout.readline()).decode()
            assert line, said
            said += line
        words, status = (
            next(line for line in said.splitlines() if f"vpnpf {it}" in line).split() for it in ("run", "status")
        )
        # Nothing of the machine's own is touched.
        assert all(
            any(word.startswith(f"{name}_DIRECTORY=") and "/mock-pia-" in word for word in words)
            for name in ("STATE", "RUNTIME")
        )
        run = await asyncio.create_subprocess_exec(
            *words, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
        )
        talk = ""
        while "READY" not in talk:
            line = (await run.stderr.readline()).decode()
            assert line, talk
            talk += line
        async with asyncio.timeout(20):
            known = b""
            while b"READY" not in known:  # the file is written a moment later
                asked = await asyncio.create_subprocess_exec(*status, stdout=asyncio.subprocess.PIPE)
                known, _ = await asked.communicate()
        run.terminate()
        await run.communicate()
        child.terminate()
        rest, _ = await child.communicate()
        assert "/bindPort" in rest.decode()
        assert child.returncode == 0
    finally:
        for each in (child, run):
            if each is not None and each.returncode is None:
                each.kill()
                await each.wait()


async def test_restarted_over_its_socket_it_asks_its_provider_while_all_is_blocked(world):
    before = await traces(world.client)
    asking = Asking(world.directory, world.profile)
    tunnels = [leak(site.place.address, site.place.port) for site in world.pia.servers]

    def beside(packet):
        return all(test(packet) for test in tunnels) and not world.services(packet)

    async with world.game(), world.run() as product:
        since = (await product.until(ready))["phase_since"]
        port = await world.reached(product)
        async with world.pia.lab.capture(beside) as leaked:
            await asking.post("restart")
            await product.until(lambda state: ready(state) and state["phase_since"] != since)
            assert await leaked.count() == 0
        assert await world.reached(product) == port
        assert world.logins == [200]
        assert await product.stop() == 0
    assert await traces(world.client) == before
