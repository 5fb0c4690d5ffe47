"""`vpnpf run` over OpenVPN: a real server with user names, a gateway behind it, and a host on the internet."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.openvpn import PASSWORD, USERNAME, Login
from mock_provider.peer import Peer
from mock_provider.product import Product, traces, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.topology import EXIT, INTERNET
from tests.system.openvpn_world import openvpn
from tests.system.test_privileges import NET_ADMIN, TUN, USER, as_user, held, lend, mounted
from vpnpf.tunnels.names import interface_name

pytestmark = pytest.mark.system

TRANSPORTS = {"openvpn": socket.IPPROTO_UDP, "openvpn-tcp": socket.IPPROTO_TCP}


@pytest.fixture
def profile():
    return unique_profile()


def write(directory, provider, profile, *, password=PASSWORD):
    files = [f"server-{number}.ovpn" for number in range(len(provider.servers))]
    for file, site in zip(files, provider.servers, strict=True):
        site.client_config(directory / file)
    secret = directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(f"{password}\n")
    config = directory / "config.toml"
    config.write_text(f"""
[profiles.{profile}]
provider = "protonvpn"
[profiles.{profile}.tunnel]
type = "openvpn"
config = {files}
username = "{USERNAME}"
password = {{ file = "password" }}
[profiles.{profile}.forwards.game]
protocols = ["tcp"]
internal_port = 25565
""")
    return config


@pytest.fixture
def game(profile):
    """A program that waits on its port."""

    def make(provider):
        made = provider.lab.client.socket()
        made.bind(("0.0.0.0", 25565))
        made.listen()
        return made

    return make


def ready(state):
    return state["phase"] == "ready"


def beside(provider, transport):
    """What is a leak at every one of the provider's servers."""
    tests = [leak(site.place.address, site.place.port, transport=transport) for site in provider.servers]
    return lambda packet: all(test(packet) for test in tests)


@pytest.mark.parametrize("tunnel", TRANSPORTS)
async def test_a_port_is_had_kept_and_reached(profile, game, tmp_path, tunnel):
    async with MockProvider(tunnel=tunnel, lifetime=4) as provider:
        config, host = write(tmp_path, provider, profile), provider.lab.client
        before = await traces(host)
        with game(provider):
            async with (
                provider.lab.capture(beside(provider, TRANSPORTS[tunnel])) as leaked,
                Product(host, tmp_path, config, profile) as product,
            ):
                await product.until(ready)
                port = product.forward("game")["external_port"]
                assert (await provider.peer.connect_tcp(EXIT, port)).connected
                await product.until(lambda _: product.forward("game")["proofs"]["reachable"]["ok"])
                # Renewed twice, for longer than one lease.
                granted = len(product.notices("renewed"))
                await product.until(lambda _: len(product.notices("renewed")) >= granted + 2)
                assert product.forward("game")["external_port"] == port
                assert not product.notices("problem")
                assert await product.stop() == 0
                assert await leaked.count() == 0
        # The suffix that the provider wants for port forwarding was added; once, since nobody was asked again.
        assert provider.server.logins == [Login(f"{USERNAME}+pmp", welcome=True)]
        assert not provider.gateway.mappings
        assert await traces(host) == before


async def test_a_killed_openvpn_is_told_and_the_port_comes_back(profile, game, tmp_path):
    async with MockProvider(tunnel="openvpn") as provider:
        config, host = write(tmp_path, provider, profile), provider.lab.client
        with game(provider):
            async with (
                provider.lab.capture(leak()) as leaked,
                Product(host, tmp_path, config, profile) as product,
            ):
                await product.until(ready)
                port = product.forward("game")["external_port"]
                os.kill(*openvpn(host, interface_name(profile)), signal.SIGKILL)
                await product.until(lambda state: state["phase"] == "blocked")
                await product.until(ready)
                assert product.forward("game")["external_port"] == port
                assert (await provider.peer.connect_tcp(EXIT, port)).connected
                assert await product.stop() == 0
                assert await leaked.count() == 0


async def test_killed_itself_it_leaves_no_openvpn_and_no_way_out(profile, game, tmp_path):
    async with MockProvider(tunnel="openvpn") as provider:
        config, host = write(tmp_path, provider, profile), provider.lab.client
        before = await traces(host)
        async with provider.lab.capture(leak()) as leaked:
            async with Product(host, tmp_path, config, profile) as product:
                await product.until(lambda state: state["tunnel"] is not None)
                (pid,) = openvpn(host, interface_name(profile))
                ended = os.pidfd_open(pid)
                product.signal(signal.SIGKILL)
                await product.ended()
            await readable(ended)
            os.close(ended)
            assert not (await Peer(host).connect_tcp(INTERNET, 7000, deadline=0.3)).connected
            assert await leaked.count() == 0
        with game(provider):
            async with Product(host, tmp_path, config, profile) as product:
                await product.until(ready)
                assert await product.stop() == 0
        assert await traces(host) == before


@pytest.fixture
def place():
    """A directory that every user can reach: pytest's own are 0700."""
    directory = Path("/var/tmp", f"vpnpf-{os.getpid()}-{unique_profile()}")
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


async def test_one_privilege_is_enough_without_root(profile, game, place):
    """As deploy/systemd/vpnpf@.service runs it; openvpn has no more than that either."""
    async with MockProvider(tunnel="openvpn") as provider:
        config, host = write(place, provider, profile), provider.lab.client
        for name in ("state", "runtime"):
            (place / name).mkdir(mode=0o700)
        lend(place)
        os.chown(host.resolver, USER, USER)
        wrap = (*mounted(TUN), *as_user(USER, "net_admin"))
        before = await traces(host)
        with game(provider):
            async with Product(host, place, config, profile, wrap=wrap) as product:
                await product.until(ready)
                assert held(product.pid) == (USER, {NET_ADMIN})
                assert held(*openvpn(host, interface_name(profile))) == (USER, {NET_ADMIN})
                assert await product.stop() == 0
        assert await traces(host) == before


async def test_a_wrong_password_is_said_once_and_not_tried_again(profile, tmp_path):
    async with MockProvider(tunnel="openvpn") as provider:
        config = write(tmp_path, provider, profile, password="wrong")
        async with Product(provider.lab.client, tmp_path, config, profile) as product:
            await product.until(lambda state: state["phase"] == "failed")
            (problem,) = product.state["problems"]
            assert problem["kind"] == "misconfigured"
            assert "password" in problem["message"]
            assert problem["retry_at"] is None
            assert len(product.notices("problem")) == 1
            assert "wrong" not in product.talk
            assert await product.stop() == 0
        assert provider.server.logins == [Login(f"{USERNAME}+pmp", welcome=False)]


@pytest.mark.parametrize("tunnel", TRANSPORTS)
async def test_a_server_that_dies_is_left_for_the_next(profile, game, tmp_path, tunnel):
    """Over UDP a server that dies says nothing, so it is the questions and pings without an answer that tell."""
    async with MockProvider(tunnel=tunnel, servers=2) as provider:
        config, host = write(tmp_path, provider, profile), provider.lab.client
        with game(provider):
            async with (
                provider.lab.capture(beside(provider, TRANSPORTS[tunnel])) as leaked,
                Product(host, tmp_path, config, profile) as product,
            ):
                await product.until(ready)
                died = asyncio.get_running_loop().time()
                await provider.server.kill()
                await product.until(lambda state: state["server"]["number"] == 2 and ready(state), deadline=60)
                assert asyncio.get_running_loop().time() - died < 45
                port = product.forward("game")["external_port"]
                assert (await provider.peer.connect_tcp(provider.servers[1].exit_address, port)).connected
                assert await leaked.count() == 0
                assert await product.stop() == 0


async def readable(descriptor):
    """Wait until a descriptor has something to read: of a process, its end."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, done.set)
    async with asyncio.timeout(5):
        await done.wait()
    loop.remove_reader(descriptor)
