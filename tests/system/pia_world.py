"""What the tests of `vpnpf run` with Private Internet Access have in common."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import socket

import pytest

from mock_provider.peer import Echo
from mock_provider.pia import MockPia
from mock_provider.pia_config import GAME, environment, write_config
from mock_provider.product import Product, unique_profile
from mock_provider.topology import INTERNET

GAME_PORT = 25565


class World:
    """A provider, a directory for the product's state, and runs of it."""

    def __init__(self, pia: MockPia, directory):
        self.pia = pia
        self.directory = directory
        self.profile = unique_profile()
        self.extra: dict[str, str] = {}
        """Further environment of the runs."""

    @property
    def client(self):
        return self.pia.lab.client

    def configure(self, *, forwards=GAME, more="", **options):
        config = write_config(self.directory, self.pia, self.profile, forwards=forwards, **options)
        config.write_text(config.read_text() + more.format(profile=self.profile))
        return config

    def run(self, wrap=()):
        """`vpnpf run`; its state stays from one run to the next."""
        env = {**environment(self.directory), **self.extra}
        config = self.directory / "config.toml"
        return Product(self.client, self.directory, config, self.profile, env=env, wrap=wrap)

    def patch(self, module, **values):
        """Give the runs other constants: shorter times."""
        assert all(hasattr(importlib.import_module(module), name) for name in values), "that would do nothing"
        place = self.directory / "patch"
        place.mkdir(exist_ok=True)
        lines = [f"{module}.{name} = {value!r}" for name, value in values.items()]
        with (place / "sitecustomize.py").open("a") as file:
            file.write("\n".join([f"import {module}", *lines, ""]))
        self.extra["PYTHONPATH"] = str(place)

    @contextlib.asynccontextmanager
    async def game(self):
        """A program that waits on its port, TCP and UDP, and sends back what it gets."""
        async with Echo(self.client, "0.0.0.0", GAME_PORT) as echo:
            yield echo

    async def reached(self, product, site=None, name="game"):
        """Whether a peer on the internet gets an answer by TCP and by UDP; the external port."""
        site = site or self.pia.servers[0]
        port = product.forward(name)["external_port"]
        tcp = await self.pia.peer.connect_tcp(site.exit_address, port, send=b"over tcp")
        udp = await self.pia.peer.send_udp(site.exit_address, port, b"over udp")
        assert (tcp.data, udp.data) == (b"over tcp", b"over udp"), (tcp, udp)
        return port

    def age_list(self, *, days, changed=("", "")):
        """Make the list that the product keeps so much older, and put something in another's place; returns its text."""
        (path,) = (self.directory / "state" / "secrets").glob("pia*-list*")
        value = json.loads(path.read_text())
        listed = value.get("value", value)
        listed["at"] -= days * 86400
        listed["text"] = listed["text"].replace(*changed) if changed[0] else listed["text"]
        path.write_text(json.dumps(value))
        return listed["text"]

    @property
    def logins(self):
        """The statuses of all logins, the oldest first."""
        return [attempt.status for attempt in self.pia.account.attempts]

    async def passes_by_the_cable(self, address, port):
        """Whether some program's connection beside the tunnel stands."""
        with self.client.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            with contextlib.suppress(OSError):  # a TimeoutError is one
                async with asyncio.timeout(0.4):
                    await asyncio.get_running_loop().sock_connect(sock, (address, port))
                return True
        return False

    def services(self, packet):
        """What the product itself may send beside the tunnel: to the services of the region's servers."""
        places = {(site.place.address, port) for site in self.pia.servers for port in (443, 1337)}
        to = (packet.destination, packet.destination_port)
        return packet.outbound and packet.protocol == socket.IPPROTO_TCP and to in places


@contextlib.asynccontextmanager
async def talking(host):
    """A program that sends something through the tunnel, as torrent clients do all the time."""

    async def talk():
        with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while True:
                with contextlib.suppress(OSError):
                    sock.sendto(b"hello", (INTERNET, 9))
                await asyncio.sleep(0.2)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()


def ready(state):
    return state["phase"] == "ready"


def failed(state):
    return state["phase"] == "failed" and bool(state["problems"])


async def device(host, interface):
    """Index and addresses of a device."""
    (found,) = json.loads(await host.must(("ip", "-j", "addr", "show", "dev", interface)))
    return found["ifindex"], [each["local"] for each in found["addr_info"] if each["scope"] == "global"]


@pytest.fixture
async def world(tmp_path):
    async with MockPia(servers=2, padding=150) as pia:
        made = World(pia, tmp_path)
        made.configure()
        yield made
