"""A provider, a container behind the client, and a profile that is started, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mock_provider.host import Host
from mock_provider.peer import Echo
from mock_provider.product import Product, traces, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import Lab
from vpnpf.io import process

Json = dict[str, Any]

LISTENS = 25565
CONFIG = """\
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = [{files}] }}
lock = {{ mode = "{lock}" }}
[profiles.{profile}.policy]
mode = "allow-list"
allow = ["forwarded", {allow}]
"""
GAME = f"""\
[profiles.{{profile}}.forwards.game]
internal_port = {LISTENS}
"""
TORRENT = """\
[profiles.{profile}.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "{url}"
username = "{username}"
password = {{ file = "qb.password" }}
"""
BEHIND = """
link add veth0 netns {client} type veth peer name eth0 netns {container}
"""
CLIENT_SIDE = """
addr add 172.17.0.1/16 dev veth0
addr add fd99::1/64 dev veth0 nodad
link set veth0 up
"""
CONTAINER_SIDE = """
link set lo up
link set eth0 up
addr add 172.17.0.2/16 dev eth0
addr add fd99::2/64 dev eth0 nodad
route add default via 172.17.0.1
route add default via fd99::1
"""
READY_IN = 40.0

_count = itertools.count(1)


class World:
    """All of it; an async context manager."""

    provider: MockProvider
    container: Host
    product: Product
    client: QBittorrent | None = None
    before: Json
    """What `traces` found before the first start."""

    def __init__(self, *, servers: int = 1, lifetime: int = 60, torrent: bool = False, lockdown: bool = False) -> None:
        self._servers = servers
        self._lifetime = lifetime
        self._torrent = torrent
        """Whether the port is for a torrent client; else for a game's server, which never moves."""
        self.lockdown = lockdown
        """Whether the lock stays also after a clean stop; write it with `configure`."""
        self._stack = contextlib.AsyncExitStack()
        self.profile = unique_profile()
        self.allow = ""
        """More entries of the allow-list; write it with `configure`."""

    @property
    def lab(self) -> Lab:
        return self.provider.lab

    @property
    def interface(self) -> str:
        """The tunnel's device, as long as there is one."""
        return f"vpf-{self.profile}"

    @property
    def config(self) -> Path:
        return self.directory / "config.toml"

    async def __aenter__(self) -> Self:
        try:
            directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vpnpf-faults-"))
            self.directory = Path(directory)
            enter = self._stack.enter_async_context
            self.provider = await enter(MockProvider(servers=self._servers, lifetime=self._lifetime))
            await self._behind()
            if self._torrent:
                self.client = await enter(QBittorrent(self.lab.client, self.directory / "qbittorrent"))
            await enter(Echo(self.lab.client, "0.0.0.0", LISTENS))
            for number, site in enumerate(self.provider.servers):
                site.client_config(self.directory / f"server-{number}.conf")
            self.configure()
            self.before = await traces(self.lab.client)
            self.product = self.make()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.product.started and self.product.status is None:
            await self.kill()
        await self._stack.aclose()

    def configure(self) -> None:
        """Write the configuration."""
        files = ", ".join(f'"server-{number}.conf"' for number in range(self._servers))
        text = CONFIG.format(
            profile=self.profile, files=files, lock="lockdown" if self.lockdown else "on", allow=self.allow
        )
        if self.client is None:
            text += GAME.format(profile=self.profile)
        else:
            secret = self.directory / "qb.password"
            secret.touch(mode=0o600)
            secret.write_text(self.client.password + "\n")
            text += TORRENT.format(profile=self.profile, url=self.client.url, username=self.client.username)
        self.config.write_text(text)

    def make(self, wrap: Sequence[str] = (), on_event: Callable[[Json], None] = lambda _event: None) -> Product:
        """The product, not started yet."""
        return Product(self.lab.client, self.directory, self.config, self.profile, wrap=wrap, on_event=on_event)

    async def start(self) -> None:
        """Start it; READY is for whoever waits for it."""
        self.product = self.make()
        await self.product.__aenter__()

    async def kill(self) -> None:
        """End it as a crash does."""
        self.product.signal(signal.SIGKILL)
        await self.product.ended()

    async def stop(self) -> int:
        """End it as a person does; returns its status."""
        return await self.product.stop()

    async def ready(self, deadline: float = READY_IN) -> Json:
        """Wait for READY."""
        return await self.product.until(lambda state: state["phase"] == "ready", deadline)

    @property
    def port(self) -> int:
        """The external port of the newest state; 0: none."""
        forwards = self.product.state.get("forwards") or [{}]
        return int(forwards[0].get("external_port") or 0)

    async def recovered(self, looked: datetime | None = None, deadline: float = READY_IN) -> None:
        """Wait until it is READY and a host on the internet gets in at the port.

        With `looked`, until the rules were looked at after that moment and are whole, too.
        """
        until = time.monotonic() + deadline
        product = self.product
        while True:
            left = until - time.monotonic()
            await product.until(lambda state: state["phase"] == "ready" and _intact(state, looked), left)
            outcome = await self.provider.peer.connect_tcp(self.provider.exit_address, self.port, deadline=0.3)
            if outcome.connected and product.state["phase"] == "ready":
                return

    def tunnel_pids(self) -> list[int]:
        """The wireguard-go of the client's tunnel."""
        found = []
        for pid in self.lab.client.processes:
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if argv[0].endswith(b"wireguard-go") and self.interface.encode() in argv:
                    found.append(pid)
        return found

    async def kill_tunnel(self) -> None:
        """kill -9 of wireguard-go, and wait until its device is gone."""
        pids = self.tunnel_pids()
        assert pids, "there is no wireguard-go to kill"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(self._until_gone)

    def _until_gone(self) -> None:
        with self.lab.client.inside():
            while self.interface in {name for _, name in socket.if_nameindex()}:
                time.sleep(0.001)

    async def _behind(self) -> None:
        lab = self.lab
        self.container = Host("container", f"{lab.client.name}-c{next(_count)}")
        lab.hosts.append(self.container)
        await _ip(("netns", "add", self.container.name))
        names = {"client": lab.client.name, "container": self.container.name}
        await _ip(("-batch", "-"), BEHIND.format(**names))
        for host, text in ((lab.client, CLIENT_SIDE), (self.container, CONTAINER_SIDE)):
            await _ip(("-n", host.name, "-batch", "-"), text)
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            lab.client.sysctl(name, 1)


async def _ip(arguments: tuple[str, ...], text: str = "") -> None:
    await process.must(("ip", *arguments), doing="putting a container behind the client", stdin=text)


def _intact(state: Json, since: datetime | None) -> bool:
    if since is None:
        return True
    proof = state["forwards"][0]["proofs"]["firewall"]
    return bool(proof["ok"]) and datetime.fromisoformat(proof["checked"]) > since
