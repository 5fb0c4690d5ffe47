"""`vpnpf run` with a provider that makes the tunnel's configuration: what a person and a torrent client see of it."""

from __future__ import annotations

import sys
import time

import pytest

from mock_provider.capture import leak
from mock_provider.product import Product, traces, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import CLIENT, EXIT, INTERNET
from tests.contract.tunnels import SHORT, source_seen
from tests.system.namespace_world import Inside, Machine, clean_up, left, program, ready
from tests.system.supplied_world import API, Registrar, past_both, register

pytestmark = pytest.mark.system

CONFIG = """
[profiles.{profile}]
provider = "counter"
[profiles.{profile}.tunnel]
type = "wireguard"
{more}
[profiles.{profile}.forwards.{forward}
"""
LOCKDOWN = """
[profiles.{profile}.lock]
mode = "lockdown"
"""
TORRENT = """torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "{url}"
username = "{username}"
password = {{ file = "qb.password" }}
"""
GAME = """game]
protocols = ["tcp"]
internal_port = 25565
"""
LISTENS = """
import json, socket, sys
with socket.socket() as server:
    server.bind(("", 25565))
    server.listen()
    print(json.dumps("listening"))
    sys.stdin.readline()
"""
TRICKLE = """
import json, socket, sys, time
print(json.dumps("sends"))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try:
        sock.sendto(b"x", (sys.argv[1], 7))
    except OSError:
        pass
    time.sleep(0.1)
"""


@pytest.fixture
def profile():
    name = unique_profile()
    yield name
    clean_up(name)


@pytest.fixture
async def provider():
    async with MockProvider() as made:
        yield made


@pytest.fixture
async def api(provider):
    async with Registrar(provider.servers[0]) as made:
        yield made


def write(directory, profile, forward, more=""):
    config = directory / "config.toml"
    config.write_text(CONFIG.format(profile=profile, forward=forward, more=more))
    return config


async def test_a_key_that_the_server_forgets_costs_seconds_and_no_device(
    provider, api, profile, tmp_path, record_property
):
    host = provider.lab.client
    for name, value in (("all", 0), ("default", 2), ("eth0", 2)):
        host.sysctl(f"net.ipv4.conf.{name}.rp_filter", value)
    client = QBittorrent(host, tmp_path / "qbittorrent")
    (tmp_path / "qb.password").touch(mode=0o600)
    (tmp_path / "qb.password").write_text(client.password)
    forward = TORRENT.format(url=client.url, username=client.username)
    config, before = write(tmp_path, profile, forward), await traces(host)
    async with (
        client,
        provider.lab.capture(past_both) as leaked,
        Product(host, tmp_path, config, profile, env=register(tmp_path / "plugin")) as product,
    ):
        state = await product.until(ready)
        assert state["tunnel"]["addresses"] == ["10.2.0.50/32"]
        first, device = product.forward()["external_port"], state["tunnel"]["interface"]
        assert (await provider.peer.connect_tcp(EXIT, first)).connected
        number = (await host.must(("cat", f"/sys/class/net/{device}/ifindex"))).strip()
        api.renumber = True
        async with program(host, TRICKLE, INTERNET) as sends:
            assert await sends.says() == "sends"
            await api.forget()
            begun = time.monotonic()
            while await source_seen(provider, deadline=SHORT) != EXIT:
                assert time.monotonic() < begun + 15
            flows = time.monotonic() - begun
            state = await product.until(lambda state: ready(state) and state["tunnel"]["addresses"] == ["10.2.0.51/32"])
            follows = time.monotonic() - begun
        record_property("seconds until traffic flows", flows)
        record_property("seconds until the port follows", follows)
        assert flows < 10
        assert (await host.must(("cat", f"/sys/class/net/{device}/ifindex"))).strip() == number
        port = product.forward()["external_port"]
        assert (await client.preferences())["listen_port"] == port
        assert (await provider.peer.connect_tcp(EXIT, port)).connected
        assert [notice["remedy"] for notice in product.notices("remedy")] == ["re-key"]
        assert await product.stop() == 0
        assert await leaked.count() == 0
    assert await traces(host) == before


async def test_in_a_network_namespace_it_is_asked_for_outside(provider, api, profile, tmp_path):
    machine = Machine(provider.lab.client)
    config, before = write(tmp_path, profile, GAME, "namespace = true"), await traces(machine)
    async with (
        provider.lab.capture(past_both) as leaked,
        Product(machine, tmp_path, config, profile, env=register(tmp_path / "plugin")) as product,
    ):
        await product.until(ready)
        async with program(Inside(profile), LISTENS) as game, program(Inside(profile), TRICKLE, INTERNET):
            assert await game.says() == "listening"
            port = product.forward("game")["external_port"]
            assert (await provider.peer.connect_tcp(EXIT, port)).connected
            api.renumber = True
            await api.forget()
            await product.until(lambda state: ready(state) and state["tunnel"]["addresses"] == ["10.2.0.51/32"])
            port = product.forward("game")["external_port"]
            assert (await provider.peer.connect_tcp(EXIT, port)).connected
        assert await product.stop() == 0
        assert await leaked.count() == 0
    assert await traces(machine) == before
    assert not left(profile)


async def test_what_a_configuration_means_is_said_and_nobody_is_asked(provider, api, profile, tmp_path):
    host, env = provider.lab.client, register(tmp_path / "plugin")
    config = write(tmp_path, profile, GAME)
    done = await host.run((sys.executable, "-m", "vpnpf", "check-config", "--config", str(config)), env=env)
    assert done.status == 0, done.stderr
    assert "counter over wireguard (configuration by Counter)" in done.stdout
    assert not api.asked


async def test_the_lock_by_hand_needs_no_login(provider, api, profile, tmp_path):
    host = provider.lab.client
    config, before = write(tmp_path, profile, GAME, LOCKDOWN.format(profile=profile)), await traces(host)
    env = register(tmp_path / "plugin")
    env |= {f"{name}_DIRECTORY": str(tmp_path / name.lower()) for name in ("STATE", "RUNTIME")}

    async def vpnpf(*arguments):
        done = await host.run((sys.executable, "-m", "vpnpf", *arguments, "--config", str(config)), env=env)
        assert done.status == 0, done.stderr

    async with provider.lab.capture(leak(endpoint="nobody")) as left:
        await vpnpf("lock", profile)
        assert str(API) not in await host.must(("nft", "list", "table", "inet", "vpnpf"))
        assert not api.asked
        assert await source_seen(provider, deadline=SHORT) is None
        assert await left.count() == 0
        await vpnpf("unlock")
        assert await source_seen(provider) == CLIENT, "the control"
        assert await left.count() > 0
    assert await traces(host) == before
