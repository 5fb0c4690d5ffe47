"""`namespace = true` with OpenVPN: the program outside, its device inside."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from mock_provider.capture import leak
from mock_provider.openvpn import PASSWORD, USERNAME
from mock_provider.product import Product, traces, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.topology import EXIT
from tests.system.namespace_world import Inside, Machine, clean_up, left, program, ready, within
from tests.system.openvpn_world import openvpn
from vpnpf.tunnels.names import interface_name

pytestmark = pytest.mark.system

SERVER = """
import json, socket, sys
with socket.socket() as server:
    server.bind(("", 25565))
    server.listen()
    print(json.dumps("listening"))
    sys.stdin.readline()
"""


@pytest.fixture
def profile():
    name = unique_profile()
    yield name
    clean_up(name)


def write(directory, provider, profile):
    provider.client_config(directory / "server.ovpn")
    (directory / "password").touch(mode=0o600)
    (directory / "password").write_text(f"{PASSWORD}\n")
    config = directory / "config.toml"
    config.write_text(f"""
[profiles.{profile}]
provider = "protonvpn"
[profiles.{profile}.tunnel]
type = "openvpn"
config = "server.ovpn"
username = "{USERNAME}"
password = {{ file = "password" }}
namespace = true
[profiles.{profile}.forwards.game]
protocols = ["tcp"]
internal_port = 25565
""")
    return config


@pytest.mark.parametrize(
    ("tunnel", "transport"), [("openvpn", socket.IPPROTO_UDP), ("openvpn-tcp", socket.IPPROTO_TCP)]
)
async def test_a_port_inside_is_reached_and_a_dead_program_leaks_nothing(profile, tmp_path, tunnel, transport):
    async with MockProvider(tunnel=tunnel) as provider:
        machine, config = Machine(provider.lab.client), write(tmp_path, provider, profile)
        place, before = provider.servers[0].place, await traces(machine)

        def past_the_tunnel(packet):
            closed = (packet.destination, packet.protocol, packet.destination_port) == (
                place.address,
                socket.IPPROTO_ICMP,
                3,
            )
            return leak(place.address, place.port, transport=transport)(packet) and not closed

        async with (
            provider.lab.capture(past_the_tunnel) as leaked,
            Product(machine, tmp_path, config, profile) as product,
        ):
            await product.until(ready)
            async with program(Inside(profile), SERVER) as game:
                assert await game.says() == "listening"
                port = product.forward("game")["external_port"]
                assert (await provider.peer.connect_tcp(EXIT, port)).connected
                await product.until(lambda _: product.forward("game")["proofs"]["reachable"]["ok"])
                (pid,) = openvpn(machine, interface_name(profile))
                assert pid not in within(profile).processes
                os.kill(pid, signal.SIGKILL)
                await product.until(lambda state: state["phase"] == "blocked")
                await product.until(ready)
                port = product.forward("game")["external_port"]
                assert (await provider.peer.connect_tcp(EXIT, port)).connected
            assert await product.stop() == 0
            assert await leaked.count() == 0
        assert await traces(machine) == before
        assert not left(profile)


async def test_killed_itself_the_next_run_takes_over(profile, tmp_path):
    async with MockProvider(tunnel="openvpn") as provider:
        machine, config = Machine(provider.lab.client), write(tmp_path, provider, profile)
        before = await traces(machine)
        for _ in range(2):
            async with Product(machine, tmp_path, config, profile) as product:
                await product.until(ready)
                product.signal(signal.SIGKILL)
        async with Product(machine, tmp_path, config, profile) as product:
            await product.until(ready)
            assert await product.stop() == 0
        assert await traces(machine) == before
        assert not left(profile)
